//! Several inbounds and outbounds, rules between them, and policy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use std::{
    io::Read,
    time::{Duration, Instant},
};

use serde_json::json;
use support::{
    apps,
    config::{self, AppPorts, Link},
    for_wsray, free_port,
    node::{Client, Kind, Node, Server},
    origin::Origin,
};

for_wsray![rules_lead_from_inbound_to_outbound, a_blackhole_serves_nobody, two_users_share_an_inbound];

/// socks-in goes through the first server, http-in through the second.
fn rules_lead_from_inbound_to_outbound(kind: Kind) {
    let origin = Origin::start();
    let (first, second) = (Link::default(), Link { path: "/second".to_owned(), ..Link::default() });
    let (one, two) = (Server::start(kind, &first), Server::start(kind, &second));
    let client = Client::start_with(kind, &first, one.port, |config| {
        let ports = AppPorts { socks: 1, http: 2 };
        let mut other = config::client(kind, &second, ports, two.port)["outbounds"][0].take();
        other["tag"] = json!("second");
        config["outbounds"].as_array_mut().unwrap().push(other);
        config["routing"] =
            json!({ "rules": [{ "type": "field", "inboundTag": ["http-in"], "outboundTag": "second" }] });
    });
    apps::check_echo(&apps::socks5(client.socks, origin.address.into(), None).unwrap()).unwrap();
    one.node.log_line(&[&format!("accepted tcp:{}", origin.address)]);
    assert!(!two.node.log().contains(&format!("accepted tcp:{}", origin.address)));
    apps::check_echo(&apps::http_connect(client.http, origin.address.into(), None).unwrap()).unwrap();
    two.node.log_line(&["accepted", &origin.address.to_string()]);
    client.node.log_line(&["accepted", &origin.address.to_string(), "[second]"]);
}

fn a_blackhole_serves_nobody(kind: Kind) {
    let origin = Origin::start();
    let link = Link::default();
    let server = Server::start(kind, &link);
    let client = Client::start_with(kind, &link, server.port, |config| {
        config["outbounds"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "tag": "nowhere", "protocol": "blackhole" }));
        config["routing"] =
            json!({ "rules": [{ "type": "field", "inboundTag": ["http-in"], "outboundTag": "nowhere" }] });
    });
    apps::check_echo(&apps::socks5(client.socks, origin.address.into(), None).unwrap()).unwrap();
    let before = origin.connections();
    let served =
        apps::http_connect(client.http, origin.address.into(), None).and_then(|s| apps::check_echo(&s));
    assert!(served.is_err());
    assert_eq!(origin.connections(), before);
}

fn two_users_share_an_inbound(kind: Kind) {
    let origin = Origin::start();
    let (first, second) = (Link::default(), Link::default());
    let server = Server::start_with(kind, &first, |config| {
        let user = json!({ "id": second.id, "email": "second@example.test" });
        config["inbounds"][0]["settings"]["clients"].as_array_mut().unwrap().push(user);
    });
    for (link, email) in [(first, "user@example.test"), (second, "second@example.test")] {
        let client = Client::start(kind, &link, server.port);
        apps::check_echo(&apps::socks5(client.socks, origin.address.into(), None).unwrap()).unwrap();
        server.node.log_line(&["accepted", email]);
    }
}

#[test]
fn one_process_is_client_and_server() {
    let link = Link::default();
    let ports = AppPorts { socks: free_port(), http: free_port() };
    let port = free_port();
    let mut config = config::client(Kind::Wsray, &link, ports, port);
    let server = config::server(Kind::Wsray, &link, port);
    config["inbounds"].as_array_mut().unwrap().push(server["inbounds"][0].clone());
    config["outbounds"].as_array_mut().unwrap().push(server["outbounds"][0].clone());
    config["routing"] =
        json!({ "rules": [{ "type": "field", "inboundTag": ["vmess-in"], "outboundTag": "direct" }] });
    let _node = Node::start(Kind::Wsray, "both", &config.to_string(), &[ports.socks, ports.http, port]);
    let origin = Origin::start();
    apps::check_echo(&apps::socks5(ports.socks, origin.address.into(), None).unwrap()).unwrap();
}

#[test]
fn an_idle_session_ends_after_the_time_of_the_policy() {
    let link = Link::default();
    let server = Server::start_with(Kind::Wsray, &link, |config| {
        config["policy"]["levels"]["0"]["connIdle"] = json!(1);
    });
    let client = Client::start(Kind::Wsray, &link, server.port);
    let origin = Origin::start();
    let mut stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
    apps::check_echo(&stream).unwrap();
    let start = Instant::now();
    let end = stream.read(&mut [0]);
    let took = start.elapsed();
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(4), "took {took:?}");
}
