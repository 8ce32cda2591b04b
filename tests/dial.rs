//! How outbounds connect: names and name servers, addresses to send from, options of sockets, and chains of outbounds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{
    apps::{self, Target},
    certificate,
    config::Link,
    dns::{A, AAAA, NameServer, Reply},
    for_wsray, free_port, geo,
    node::{Client, Kind, Node, Server},
    origin::{self, Origin},
    temporary_directory, within,
};

for_wsray![
    hosts_are_known_without_asking,
    answers_are_kept_as_long_as_they_say,
    only_the_wanted_addresses_are_asked_for,
    each_server_is_asked_for_its_domains_first,
    without_fallback_nobody_else_is_asked,
    the_clients_network_goes_with_the_question,
    lists_of_names_say_what_is_known_and_who_is_asked,
    an_answer_that_is_not_expected_leads_to_the_next_server,
    a_server_that_is_silent_leads_to_the_next,
    there_is_none_is_an_answer,
    a_server_is_asked_over_tcp,
    rules_on_addresses_use_the_name_servers,
    questions_go_where_rules_send_their_tag,
    a_chain_of_two_servers_carries_everything,
    sessions_are_sent_from_an_address,
];

/// A proxy that goes directly, with `UseIP` and these name servers.
struct Resolver {
    node: Node,
    socks: u16,
}

impl Resolver {
    fn start(kind: Kind, dns: &Value) -> Self {
        Self::start_with(kind, dns, |_| {})
    }

    fn start_with(kind: Kind, dns: &Value, change: impl FnOnce(&mut Value)) -> Self {
        let socks = free_port();
        let config = Self::config(socks, dns, change);
        Self { node: Node::start(kind, "resolver", &config.to_string(), &[socks]), socks }
    }

    fn config(socks: u16, dns: &Value, change: impl FnOnce(&mut Value)) -> Value {
        let mut config = json!({
            "log": { "loglevel": "debug" },
            "dns": dns,
            "inbounds": [{ "tag": "socks-in", "port": socks, "listen": "127.0.0.1", "protocol": "socks" }],
            "outbounds": [
                { "tag": "direct", "protocol": "freedom", "settings": { "domainStrategy": "UseIP" } },
                { "tag": "block", "protocol": "blackhole" },
            ],
        });
        change(&mut config);
        config
    }

    /// Whether the origin is found under a name.
    fn finds(&self, name: &str, port: u16) -> bool {
        let stream = apps::socks5(self.socks, Target::Name(name, port), None);
        stream.is_ok_and(|stream| apps::check_echo(&stream).is_ok())
    }
}

fn udp(server: &NameServer) -> Value {
    json!({ "address": "127.0.0.1", "port": server.port })
}

fn nobody() -> NameServer {
    NameServer::start(|_, _| Reply { code: 3, ..Reply::default() })
}

fn hosts_are_known_without_asking(kind: Kind) {
    let (origin, server) = (Origin::start(), nobody());
    let resolver = Resolver::start(
        kind,
        &json!({ "servers": [udp(&server)], "hosts": {
            "plain.test": "127.0.0.1",
            "domain:below.test": "127.0.0.1",
            "full:full.test": "127.0.0.1",
            "regexp:^r[0-9]+\\.test$": "127.0.0.1",
            "keyword:magic": "127.0.0.1",
            "other.test": "plain.test",
        } }),
    );
    for name in ["plain.test", "a.below.test", "full.test", "r27.test", "the.magic.word", "other.test"] {
        assert!(resolver.finds(name, origin.port()), "{name}");
    }
    assert_eq!(server.questions(), []);
    assert!(!resolver.finds("a.plain.test", origin.port()));
    assert!(server.questions().iter().any(|(name, _)| name == "a.plain.test"));
}

fn answers_are_kept_as_long_as_they_say(kind: Kind) {
    let origin = Origin::start();
    let server = NameServer::start(|name, _| Reply {
        ttl: if name == "short.test" { 1 } else { 600 },
        ..Reply::of("127.0.0.1")
    });
    let resolver = Resolver::start(kind, &json!({ "servers": [udp(&server)], "queryStrategy": "UseIPv4" }));
    let asked = |name: &str| server.questions().iter().filter(|(asked, _)| asked == name).count();
    for _ in 0..3 {
        assert!(resolver.finds("long.test", origin.port()) && resolver.finds("short.test", origin.port()));
    }
    assert_eq!(asked("long.test"), 1);
    // V2Ray keeps every answer for ten minutes at least.
    if kind == Kind::Wsray {
        thread::sleep(Duration::from_millis(1100));
        assert!(resolver.finds("short.test", origin.port()));
        assert_eq!(asked("short.test"), 2);
    }
}

fn only_the_wanted_addresses_are_asked_for(kind: Kind) {
    let origin = Origin::start();
    for (strategy, expected) in [("UseIPv4", vec![A]), ("UseIPv6", vec![AAAA]), ("UseIP", vec![A, AAAA])] {
        let server = NameServer::start(|_, _| Reply::of("127.0.0.1"));
        let resolver =
            Resolver::start(kind, &json!({ "servers": [udp(&server)], "queryStrategy": strategy }));
        assert_eq!(resolver.finds("name.test", origin.port()), strategy != "UseIPv6", "{strategy}");
        let mut asked: Vec<u16> = server.questions().into_iter().map(|(_, kind)| kind).collect();
        asked.sort_unstable();
        asked.dedup();
        assert_eq!(asked, expected, "{strategy}");
    }
}

fn each_server_is_asked_for_its_domains_first(kind: Kind) {
    let origin = Origin::start();
    let (first, second) = (nobody(), NameServer::start(|_, _| Reply::of("127.0.0.1")));
    let dns = json!({ "servers": [
        udp(&first),
        { "address": "127.0.0.1", "port": second.port, "domains": ["domain:inside.test"], "skipFallback": true },
    ] });
    let resolver = Resolver::start(kind, &dns);
    assert!(resolver.finds("a.inside.test", origin.port()));
    assert_eq!(first.questions(), []);
    assert!(!resolver.finds("outside.test", origin.port()));
    assert!(first.questions().iter().all(|(name, _)| name == "outside.test"));
    assert!(second.questions().iter().all(|(name, _)| name == "a.inside.test"));
}

fn without_fallback_nobody_else_is_asked(kind: Kind) {
    let origin = Origin::start();
    for (setting, other_is_asked, outside_is_found) in [
        ("disableCache", true, true),
        ("disableFallbackIfMatch", false, true),
        ("disableFallback", false, false),
    ] {
        let (liar, other) = (
            NameServer::start(|_, _| Reply::of("127.9.9.9")),
            NameServer::start(|_, _| Reply::of("127.0.0.1")),
        );
        let mut dns = json!({ "queryStrategy": "UseIPv4", "servers": [
            { "address": "127.0.0.1", "port": liar.port, "domains": ["domain:inside.test"], "expectIPs": ["127.0.0.0/16"] },
            udp(&other),
        ] });
        dns[setting] = json!(true);
        let resolver = Resolver::start(kind, &dns);
        assert_eq!(resolver.finds("a.inside.test", origin.port()), other_is_asked, "{setting}");
        assert_eq!(!other.questions().is_empty(), other_is_asked, "{setting}");
        assert!(!liar.questions().is_empty());
        assert_eq!(resolver.finds("outside.test", origin.port()), outside_is_found, "{setting}");
    }
}

/// RFC 7871 section 6: option 8, family 1, 24 bits of the address.
fn the_clients_network_goes_with_the_question(kind: Kind) {
    let origin = Origin::start();
    for (own, expected) in [(json!(null), [203, 0, 113]), (json!("198.51.100.9"), [198, 51, 100])] {
        let server = NameServer::start(|_, _| Reply::of("127.0.0.1"));
        let mut asked = udp(&server);
        asked["clientIp"] = own;
        let dns = json!({ "clientIp": "203.0.113.77", "queryStrategy": "UseIPv4", "servers": [asked] });
        let resolver = Resolver::start(kind, &dns);
        assert!(resolver.finds("name.test", origin.port()));
        let option = [&[0, 8, 0, 7, 0, 1, 24, 0][..], &expected].concat();
        let messages = server.messages();
        let has_it = |message: &Vec<u8>| message.windows(option.len()).any(|part| part == option);
        assert!(!messages.is_empty() && messages.iter().all(has_it), "{messages:?}");
    }
}

fn lists_of_names_say_what_is_known_and_who_is_asked(kind: Kind) {
    let assets = temporary_directory("assets");
    let sites = [
        geo::sites("HERE", &[(2, "here.test"), (3, "alone.test")]),
        geo::sites("INSIDE", &[(2, "inside.test")]),
    ];
    std::fs::write(assets.join("geosite.dat"), sites.concat()).unwrap();
    let (first, second) = (nobody(), NameServer::start(|_, _| Reply::of("127.0.0.1")));
    let dns = json!({ "hosts": { "geosite:here": "127.0.0.1" }, "servers": [
        udp(&first),
        { "address": "127.0.0.1", "port": second.port, "domains": ["geosite:inside"], "skipFallback": true },
    ] });
    let (origin, socks) = (Origin::start(), free_port());
    let directory = temporary_directory("lists");
    let path = directory.join("config.json");
    std::fs::write(&path, Resolver::config(socks, &dns, |_| {}).to_string()).unwrap();
    let mut command = kind.command(&path);
    command.env("V2RAY_LOCATION_ASSET", &assets);
    let resolver = Resolver { node: Node::start_program("lists", command, directory, &[socks]), socks };
    for name in ["a.here.test", "alone.test", "b.inside.test"] {
        assert!(resolver.finds(name, origin.port()), "{name}");
    }
    assert_eq!(first.questions(), []);
    assert!(second.questions().iter().all(|(name, _)| name == "b.inside.test"));
    assert!(!resolver.finds("a.alone.test", origin.port()));
}

fn an_answer_that_is_not_expected_leads_to_the_next_server(kind: Kind) {
    let origin = Origin::start();
    let liar = NameServer::start(|_, _| Reply::of("127.9.9.9"));
    let honest = NameServer::start(|_, _| Reply::of("127.0.0.1"));
    let dns = json!({ "queryStrategy": "UseIPv4", "servers": [
        { "address": "127.0.0.1", "port": liar.port, "expectIPs": ["127.0.0.0/16"] },
        udp(&honest),
    ] });
    let resolver = Resolver::start(kind, &dns);
    assert!(resolver.finds("name.test", origin.port()));
    assert_eq!((liar.questions().len(), honest.questions().len()), (1, 1));
}

fn a_server_that_is_silent_leads_to_the_next(kind: Kind) {
    let origin = Origin::start();
    let silent = NameServer::start(|_, _| Reply::silent());
    let honest = NameServer::start(|_, _| Reply::of("127.0.0.1"));
    let resolver = Resolver::start(kind, &json!({ "servers": [udp(&silent), udp(&honest)] }));
    let start = Instant::now();
    assert!(resolver.finds("name.test", origin.port()));
    let took = start.elapsed();
    assert!(took > Duration::from_millis(3900) && took < Duration::from_secs(7), "{took:?}");
    assert!(!silent.questions().is_empty());
}

fn there_is_none_is_an_answer(kind: Kind) {
    let origin = Origin::start();
    let (none, other) = (nobody(), NameServer::start(|_, _| Reply::of("127.0.0.1")));
    let resolver = Resolver::start(kind, &json!({ "servers": [udp(&none), udp(&other)] }));
    for _ in 0..2 {
        assert!(!resolver.finds("name.test", origin.port()));
    }
    assert_eq!(other.questions(), []);
    // "There is none" is kept, too.
    assert_eq!(none.questions().len(), 2, "{:?}", none.questions());
}

fn a_server_is_asked_over_tcp(kind: Kind) {
    let origin = Origin::start();
    for scheme in ["tcp", "tcp+local"] {
        let server = NameServer::start(|_, _| Reply::of("127.0.0.1"));
        let resolver =
            Resolver::start(kind, &json!({ "servers": [format!("{scheme}://127.0.0.1:{}", server.port)] }));
        assert!(resolver.finds("name.test", origin.port()), "{scheme}");
        assert!(!server.questions().is_empty());
    }
}

fn rules_on_addresses_use_the_name_servers(kind: Kind) {
    let origin = Origin::start();
    let server = NameServer::start(|name, _| {
        Reply::of(if name == "blocked.test" { "127.0.0.66" } else { "127.0.0.1" })
    });
    let resolver = Resolver::start_with(kind, &json!({ "servers": [udp(&server)] }), |config| {
        config["routing"] = json!({ "domainStrategy": "IPIfNonMatch", "rules": [
            { "type": "field", "ip": ["127.0.0.66"], "port": origin.port().to_string(), "outboundTag": "block" },
        ] });
    });
    assert!(resolver.finds("free.test", origin.port()));
    assert!(!resolver.finds("blocked.test", origin.port()));
    resolver.node.log_line(&["accepted", "blocked.test", "block"]);
}

fn questions_go_where_rules_send_their_tag(kind: Kind) {
    let origin = Origin::start();
    let (meant, there) = (nobody(), NameServer::start(|_, _| Reply::of("127.0.0.1")));
    let dns = json!({ "tag": "questions", "servers": [udp(&meant)] });
    let resolver = Resolver::start_with(kind, &dns, |config| {
        let redirect = json!({ "redirect": format!("127.0.0.1:{}", there.port) });
        let elsewhere = json!({ "tag": "elsewhere", "protocol": "freedom", "settings": redirect });
        config["outbounds"].as_array_mut().unwrap().push(elsewhere);
        config["routing"] = json!({ "rules": [
            { "type": "field", "inboundTag": ["questions"], "outboundTag": "elsewhere" },
        ] });
    });
    assert!(resolver.finds("name.test", origin.port()));
    assert_eq!(meant.questions(), []);
    assert!(!there.questions().is_empty());
}

#[test]
fn an_answer_that_does_not_fit_is_asked_for_over_tcp() {
    let origin = Origin::start();
    let server = NameServer::start(|_, _| Reply { cut_off: true, ..Reply::of("127.0.0.1") });
    let dns = json!({ "servers": [udp(&server)], "queryStrategy": "UseIPv4" });
    let resolver = Resolver::start(Kind::Wsray, &dns);
    assert!(resolver.finds("name.test", origin.port()));
    assert_eq!(server.questions().len(), 2);
}

#[test]
fn forged_answers_are_passed_over() {
    let origin = Origin::start();
    let server = NameServer::start(|_, _| Reply {
        forged: vec![Ipv4Addr::new(127, 0, 0, 66).into()],
        ..Reply::of("127.0.0.1")
    });
    let dns = json!({ "servers": [udp(&server)], "queryStrategy": "UseIPv4" });
    let resolver = Resolver::start(Kind::Wsray, &dns);
    assert!(resolver.finds("name.test", origin.port()));
    resolver.node.log_line(&["accepted", "name.test"]);
}

#[test]
fn many_who_want_the_same_name_ask_once() {
    let origin = Origin::start();
    let server = NameServer::start(|_, _| {
        thread::sleep(Duration::from_millis(300));
        Reply::of("127.0.0.1")
    });
    let dns = json!({ "servers": [udp(&server)], "queryStrategy": "UseIPv4", "disableCache": true });
    let resolver = Resolver::start(Kind::Wsray, &dns);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(resolver.finds("name.test", origin.port())));
        }
    });
    assert!(server.questions().len() <= 2, "{:?}", server.questions());
}

#[test]
fn a_server_is_asked_over_https() {
    let origin = Origin::start();
    for scheme in ["https", "https+local"] {
        let server = NameServer::start_https(|_, _| Reply::of("127.0.0.1"));
        let url = format!("{scheme}://{}:{}/dns-query", certificate::NAME, server.port);
        let socks = free_port();
        // The server's own name is no question for itself.
        let dns = json!({ "servers": [url], "hosts": { certificate::NAME: "127.0.0.1" } });
        let config = Resolver::config(socks, &dns, |_| {});
        let directory = temporary_directory("doh");
        let path = directory.join("config.json");
        std::fs::write(&path, config.to_string()).unwrap();
        let mut command = Kind::Wsray.command(&path);
        command.env("SSL_CERT_FILE", &certificate::files().authority);
        let node = Node::start_program("doh", command, directory, &[socks]);
        let resolver = Resolver { node, socks };
        for _ in 0..2 {
            assert!(resolver.finds("name.test", origin.port()), "{scheme}");
        }
        assert_eq!(server.questions().len(), 2, "{:?}", server.questions());
    }
}

/// How much goes through a chain, in bytes.
const LENGTH: u64 = 8 << 20;

/// The application's server is behind another one.
fn a_chain_of_two_servers_carries_everything(kind: Kind) {
    let origin = Origin::start();
    let (inner, outer) = (Link::default(), Link { path: "/outer".to_owned(), ..Link::default() });
    let (one, two) = (Server::start(kind, &inner), Server::start(kind, &outer));
    let settings = json!({ "tag": "outer", "transportLayer": true });
    let client = Client::start_with(kind, &inner, one.port, |config| {
        let ports = support::config::AppPorts { socks: 1, http: 2 };
        let mut hop = support::config::client(kind, &outer, ports, two.port)["outbounds"][0].take();
        hop["tag"] = json!("outer");
        config["outbounds"].as_array_mut().unwrap().push(hop);
        config["outbounds"][0]["proxySettings"] = settings;
    });
    let mut stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
    stream.write_all(format!("send {LENGTH} 7\n").as_bytes()).unwrap();
    let mut received = vec![0; usize::try_from(LENGTH).unwrap()];
    stream.read_exact(&mut received).unwrap();
    assert!(received == origin::pattern(LENGTH, 7), "other bytes");
    let sent = origin::pattern(LENGTH, 9);
    let mut stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
    stream.write_all(format!("take {LENGTH}\n").as_bytes()).unwrap();
    stream.write_all(&sent).unwrap();
    let mut hash = [0; 64];
    stream.read_exact(&mut hash).unwrap();
    assert_eq!(hash.as_slice(), origin::hash_of(&mut sent.as_slice()).unwrap().as_bytes());
    two.node.log_line(&["accepted", &format!("tcp:127.0.0.1:{}", one.port)]);
}

/// wsray's client, whose server is reached through the outbound `hop`.
fn chained(link: &Link, server: u16, hop: &Value) -> Client {
    Client::start_with(Kind::Wsray, link, server, |config| {
        config["outbounds"].as_array_mut().unwrap().push(hop.clone());
        config["outbounds"][0]["streamSettings"]["sockopt"] = json!({ "dialerProxy": hop["tag"] });
    })
}

#[test]
fn a_cut_on_the_way_of_a_chain_is_seen_as_a_reset() {
    let origin = Origin::start();
    let (inner, outer) = (Link::default(), Link::default());
    let one = Server::start(Kind::Wsray, &inner);
    let mut two = Server::start(Kind::Wsray, &outer);
    let ports = support::config::AppPorts { socks: 1, http: 2 };
    let mut hop = support::config::client(Kind::Wsray, &outer, ports, two.port)["outbounds"][0].take();
    hop["tag"] = json!("outer");
    let client = chained(&inner, one.port, &hop);
    let mut stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
    apps::check_echo(&stream).unwrap();
    two.node.kill();
    let end = stream.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
}

#[test]
fn a_chain_through_freedom_goes_where_that_redirects() {
    let origin = Origin::start();
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let redirect = json!({ "redirect": format!("127.0.0.1:{}", server.port) });
    let hop = json!({ "tag": "hop", "protocol": "freedom", "settings": redirect });
    // Nothing listens on port 1.
    let client = chained(&link, 1, &hop);
    apps::check_echo(&apps::socks5(client.socks, origin.address.into(), None).unwrap()).unwrap();
    let gone = json!({ "tag": "hop", "protocol": "freedom", "settings": { "redirect": "127.0.0.1:1" } });
    let client = chained(&link, server.port, &gone);
    let refused = apps::socks5(client.socks, origin.address.into(), None).and_then(|s| apps::check_echo(&s));
    assert!(refused.is_err());
    client.node.log_line(&["[hop]", "on the way of another outbound", "refused"]);
}

/// An origin that tells whom it sees.
fn mirror() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let peer = stream.peer_addr().unwrap().ip();
            drop(stream.write_all(format!("{peer}\n").as_bytes()));
        }
    });
    port
}

fn sessions_are_sent_from_an_address(kind: Kind) {
    let port = mirror();
    let resolver = Resolver::start_with(kind, &json!({}), |config| {
        config["outbounds"][0]["sendThrough"] = json!("127.0.0.77");
    });
    let mut stream =
        apps::socks5(resolver.socks, Target::Address(([127, 0, 0, 1], port).into()), None).unwrap();
    let mut line = [0; 10];
    stream.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"127.0.0.77");
}

#[test]
fn an_address_to_send_from_that_cannot_be_is_told() {
    for (from, target, expected) in [
        ("192.0.2.1", "127.0.0.1:9", "must be an address of this machine"),
        ("::1", "127.0.0.1:9", "sendThrough is IPv6"),
    ] {
        let resolver = Resolver::start_with(Kind::Wsray, &json!({}), |config| {
            config["outbounds"][0]["sendThrough"] = json!(from);
        });
        drop(apps::socks5(resolver.socks, Target::Address(target.parse().unwrap()), None));
        resolver.node.log_line(&["[direct]", expected]);
    }
}

#[test]
fn options_that_the_system_refuses_are_told_once_and_a_device_is_never_left_out() {
    let origin = Origin::start();
    let resolver = Resolver::start_with(Kind::Wsray, &json!({}), |config| {
        config["outbounds"][0]["streamSettings"] =
            json!({ "sockopt": { "interface": "no-such-device", "tcpCongestion": "no-such-control" } });
    });
    resolver.node.log_line(&["outbounds[0].streamSettings.sockopt", "cannot set tcpCongestion"]);
    resolver
        .node
        .log_line(&["outbounds[0].streamSettings.sockopt", "cannot set interface \"no-such-device\""]);
    let stream = apps::socks5(resolver.socks, origin.address.into(), None).and_then(|s| apps::check_echo(&s));
    assert!(stream.is_err());
    resolver.node.log_line(&["[direct]", "cannot set interface"]);
    assert_eq!(origin.connections(), 0);
    let told = || resolver.node.log().matches("cannot set tcpCongestion").count();
    assert!(within(Duration::from_millis(300), || (told() > 1).then_some(())).is_none());
}

/// An address of this machine or of a private network in every form, and names that lead to one.
const PRIVATE: &[&str] = &[
    "localhost",
    "LOCALHOST",
    "localhost.",
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "017700000001",
    "0177.0.0.1",
    "0",
    "0.0.0.0",
    "::1",
    "::",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "fe80::1%lo",
    "fe80::1",
    "fd00::1",
    "10.0.0.1",
    "192.168.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "loopback.test",
    "private.test",
    "metadata.test",
    "mapped.test",
    "six.test",
    "alias.test",
    "both.test",
];

/// A name is looked up first, and what the system makes of numbers (`inet_aton(3)`) counts.
#[test]
fn final_rules_hold_for_every_form_of_an_address_and_for_what_names_lead_to() {
    let origin = Origin::start();
    let rules = |config: &mut Value| {
        config["outbounds"][0]["settings"]["finalRules"] =
            json!([{ "action": "block", "ip": ["geoip:private"] }]);
    };
    let known = json!({ "hosts": {
        "loopback.test": "127.0.0.1", "private.test": "10.0.0.1", "metadata.test": "169.254.169.254",
        "mapped.test": "::ffff:127.0.0.1", "six.test": "::1", "alias.test": "loopback.test",
        "both.test": ["10.0.0.1", "127.0.0.1"],
    } });
    let (closed, open) =
        (Resolver::start_with(Kind::Wsray, &known, rules), Resolver::start(Kind::Wsray, &known));
    for &name in PRIVATE {
        let targets = [
            Some(Target::Name(name, origin.port())),
            name.parse().ok().map(|ip: std::net::IpAddr| Target::Address((ip, origin.port()).into())),
        ];
        for target in targets.into_iter().flatten() {
            let reached =
                apps::socks5(closed.socks, target, None).and_then(|stream| apps::check_echo(&stream));
            assert!(reached.is_err(), "{name} was reached");
        }
    }
    assert_eq!(origin.connections(), 0);
    closed.node.log_line(&["127.0.0.1 is closed to targets", "finalRules"]);
    // Without rules the same ways lead there.
    for name in [
        "localhost",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "loopback.test",
        "mapped.test",
        "alias.test",
    ] {
        let stream = apps::socks5(open.socks, Target::Name(name, origin.port()), None).unwrap();
        apps::check_echo(&stream).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
