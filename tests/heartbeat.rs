//! Pings keep an idle tunnel alive behind a front end that cuts what is idle, and harm nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use std::{
    io::{Read, Write},
    thread::sleep,
    time::Duration,
};

use serde_json::{Value, json};
use support::{
    apps::{self, Association},
    config::{Link, Tls},
    front,
    node::{Client, Kind, Pair, Server, missing},
    origin::{Origin, UdpEcho, pattern},
    pair, raw, skip,
};

/// nginx cuts a connection on which the server says nothing for three seconds.
const IMPATIENT: &str = "proxy_read_timeout 3s;";

/// Longer than that, twice.
const IDLE: Duration = Duration::from_secs(8);

pair!(wsray_to_wsray: Wsray => Wsray, #[cfg(test)], [
    idle_tunnel_outlives_nginxs_patience_by_the_clients_pings,
    idle_tunnel_outlives_nginxs_patience_by_the_servers_pings,
    bytes_between_pings_arrive_whole,
    udp_session_outlives_nginxs_patience,
    tunnel_without_pings_is_cut_and_the_application_sees_a_reset,
]);
pair!(wsray_to_v2ray_4_45: Wsray => V2Ray445, #[cfg(test)], [
    idle_tunnel_outlives_nginxs_patience_by_the_clients_pings,
    bytes_between_pings_arrive_whole,
    udp_session_outlives_nginxs_patience,
]);
pair!(wsray_to_sing_box: Wsray => SingBox, #[cfg(test)], [
    idle_tunnel_outlives_nginxs_patience_by_the_clients_pings,
    bytes_between_pings_arrive_whole,
    udp_session_outlives_nginxs_patience,
]);
pair!(v2ray_4_45_to_wsray: V2Ray445 => Wsray, #[cfg(test)], [
    idle_tunnel_outlives_nginxs_patience_by_the_servers_pings,
]);
pair!(sing_box_to_wsray: SingBox => Wsray, #[cfg(test)], [
    idle_tunnel_outlives_nginxs_patience_by_the_servers_pings,
]);

fn pinging(place: &str, period: i64) -> impl FnOnce(&mut Value) {
    move |config| config[place][0]["streamSettings"]["wsSettings"]["heartbeatPeriod"] = json!(period)
}

/// Client and server with an impatient nginx between them; a period of 0 is none.
fn behind_nginx(pair: Pair, client: i64, server: i64) -> (Server, front::Front, Client) {
    let link = Link::default();
    let started = Server::start_with(pair.server, &link, |config| {
        if server > 0 {
            pinging("inbounds", server)(config);
        }
    });
    let nginx = front::nginx_with(started.port, IMPATIENT);
    let link = Link { tls: Tls::On, headers: vec![("Host", "example.test")], ..link };
    let client = Client::start_with(pair.client, &link, nginx.port, |config| {
        if pair.client == Kind::Wsray {
            pinging("outbounds", client)(config);
        }
    });
    (started, nginx, client)
}

/// Says something, waits, and says something again.
fn check_idle_tunnel(client: &Client) {
    let origin = Origin::start();
    let mut stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
    apps::check_echo(&stream).unwrap();
    sleep(IDLE);
    stream.write_all(b"still here").unwrap();
    assert_eq!(apps::read_array(&mut stream).unwrap(), *b"still here");
    assert_eq!(origin.connections(), 1);
}

fn idle_tunnel_outlives_nginxs_patience_by_the_clients_pings(pair: Pair) {
    if let Some(reason) = missing("nginx") {
        skip!(reason);
    }
    let (_server, _nginx, client) = behind_nginx(pair, 1, 0);
    check_idle_tunnel(&client);
}

fn idle_tunnel_outlives_nginxs_patience_by_the_servers_pings(pair: Pair) {
    if let Some(reason) = missing("nginx") {
        skip!(reason);
    }
    let (_server, _nginx, client) = behind_nginx(pair, 0, 1);
    check_idle_tunnel(&client);
}

fn tunnel_without_pings_is_cut_and_the_application_sees_a_reset(pair: Pair) {
    if let Some(reason) = missing("nginx") {
        skip!(reason);
    }
    let (_server, _nginx, client) = behind_nginx(pair, 0, 0);
    let origin = Origin::start();
    let mut stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
    apps::check_echo(&stream).unwrap();
    let end = raw::read_to_end(&mut stream, IDLE);
    assert_eq!(end.how, raw::How::Reset, "{end:?}");
    assert!((2..6).contains(&end.after.as_secs()), "{end:?}");
}

fn bytes_between_pings_arrive_whole(pair: Pair) {
    let link = Link::default();
    let server = Server::start(pair.server, &link);
    let client = Client::start_with(pair.client, &link, server.port, pinging("outbounds", 1));
    let origin = Origin::start();
    let mut stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
    stream.write_all(b"echo\n").unwrap();
    for round in 0..60 {
        let said = pattern(50_000, round);
        stream.write_all(&said).unwrap();
        let mut echoed = vec![0; said.len()];
        stream.read_exact(&mut echoed).unwrap();
        assert!(echoed == said, "round {round}");
        sleep(Duration::from_millis(60));
    }
}

fn udp_session_outlives_nginxs_patience(pair: Pair) {
    if let Some(reason) = missing("nginx") {
        skip!(reason);
    }
    let (_server, _nginx, client) = behind_nginx(pair, 1, 0);
    let origin = UdpEcho::start();
    let association = Association::open(client.socks).unwrap();
    assert_eq!(association.round_trip(origin.address.into(), b"before").unwrap(), b"before");
    sleep(IDLE);
    assert_eq!(association.round_trip(origin.address.into(), b"after").unwrap(), b"after");
    let opened = client.node.log().matches("outbound: connected after").count();
    assert_eq!(opened, 1, "a second session was opened");
}
