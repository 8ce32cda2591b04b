//! SOCKS and HTTP inbounds with accounts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use serde_json::json;
use support::{
    apps::{self, Association},
    config::Link,
    for_wsray,
    node::{Client, Kind, Server},
    origin::{Origin, UdpEcho},
};

for_wsray![
    the_right_account_is_served,
    a_wrong_or_missing_account_is_refused,
    without_accounts_an_application_that_offers_one_is_served,
];

const ACCOUNT: apps::Account = Some(("somebody", "correct horse"));

fn start(kind: Kind) -> (Server, Client) {
    let link = Link::default();
    let server = Server::start(kind, &link);
    let client = Client::start_with(kind, &link, server.port, |config| {
        let accounts =
            json!([{ "user": "somebody", "pass": "correct horse" }, { "user": "other", "pass": "x" }]);
        config["inbounds"][0]["settings"]["auth"] = json!("password");
        config["inbounds"][0]["settings"]["accounts"] = accounts.clone();
        config["inbounds"][1]["settings"]["accounts"] = accounts;
    });
    (server, client)
}

fn the_right_account_is_served(kind: Kind) {
    let origin = Origin::start();
    let (_server, client) = start(kind);
    for account in [ACCOUNT, Some(("other", "x"))] {
        apps::check_echo(&apps::socks5(client.socks, origin.address.into(), account).unwrap()).unwrap();
        apps::check_echo(&apps::http_connect(client.http, origin.address.into(), account).unwrap()).unwrap();
        let page = apps::http_get(client.http, origin.address.into(), account).unwrap();
        assert!(page.starts_with("HTTP/1.1 200"), "{page}");
        assert!(!page.contains("Authorization"), "the account went on to the origin: {page}");
    }
    let udp = UdpEcho::start();
    let association = Association::open_as(client.socks, ACCOUNT).unwrap();
    assert_eq!(association.round_trip(udp.address.into(), b"udp").unwrap(), b"udp");
}

fn a_wrong_or_missing_account_is_refused(kind: Kind) {
    let origin = Origin::start();
    let (_server, client) = start(kind);
    for account in
        [None, Some(("somebody", "wrong")), Some(("nobody", "correct horse")), Some(("somebody", ""))]
    {
        let stream = apps::socks5(client.socks, origin.address.into(), account);
        assert!(stream.is_err(), "SOCKS 5 served {account:?}");
        let refused =
            apps::http_connect(client.http, origin.address.into(), account).unwrap_err().to_string();
        assert!(refused.starts_with("HTTP/1.1 407"), "CONNECT with {account:?}: {refused}");
        assert!(refused.contains("Proxy-Authenticate: Basic"), "{refused}");
        let page = apps::http_get(client.http, origin.address.into(), account).unwrap();
        assert!(page.starts_with("HTTP/1.1 407"), "GET with {account:?}: {page}");
    }
    // SOCKS 4 has no password.
    assert!(apps::socks4(client.socks, origin.address).is_err());
    assert!(apps::socks4a(client.socks, "localhost", origin.port()).is_err());
    assert_eq!(origin.connections(), 0);
}

fn without_accounts_an_application_that_offers_one_is_served(kind: Kind) {
    let origin = Origin::start();
    let link = Link::default();
    let server = Server::start(kind, &link);
    let client = Client::start(kind, &link, server.port);
    apps::check_echo(&apps::http_connect(client.http, origin.address.into(), ACCOUNT).unwrap()).unwrap();
    let page = apps::http_get(client.http, origin.address.into(), ACCOUNT).unwrap();
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
}
