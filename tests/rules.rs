//! V2Ray's rules, balancers and sniffing through the real program: which outbound the access log names.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{
    apps::{self, Target},
    config::Link,
    for_wsray, free_port, geo,
    node::{Client, Kind, Node, Server, wsray},
    origin::{Origin, UdpEcho},
    temporary_directory, within,
};

for_wsray![
    rules_on_names_hold_for_names,
    rules_on_addresses_and_ports_hold_for_targets,
    the_first_rule_that_holds_decides,
    names_are_looked_up_for_rules_on_demand,
    a_rule_is_for_one_network,
    names_of_applications_words_decide,
    words_that_are_not_asked_for_tell_the_protocol_alone,
    attributes_of_requests_decide,
    a_balancer_uses_all_that_its_selector_names,
    users_of_a_server_go_their_own_ways,
    lists_in_files_are_read_from_the_asset_folder,
    loopback_routes_sessions_as_another_inbounds,
];

/// A node whose ways out all end at one origin: `direct` (the default), `other` and `third`; and `block`.
struct Crossing {
    kind: Kind,
    node: Node,
    socks: u16,
    http: u16,
    origin: Origin,
}

impl Crossing {
    fn start(kind: Kind, routing: &Value) -> Self {
        Self::start_with(kind, routing, |_| {})
    }

    fn start_with(kind: Kind, routing: &Value, change: impl FnOnce(&mut Value)) -> Self {
        Self::start_at(Origin::start(), kind, routing, change)
    }

    fn start_at(origin: Origin, kind: Kind, routing: &Value, change: impl FnOnce(&mut Value)) -> Self {
        let (socks, http) = (free_port(), free_port());
        let mut config = crossing(socks, http, origin.address, routing);
        change(&mut config);
        let node = Node::start(kind, "crossing", &config.to_string(), &[socks, http]);
        Self { kind, node, socks, http, origin }
    }

    /// The tag of the outbound that a session takes.
    fn way(&self, target: Target) -> String {
        let _stream = apps::socks5(self.socks, target, None);
        self.way_of(&format!("tcp:{target}"))
    }

    /// The same after the application said something; the target in the log is what the program made of it.
    fn way_of_words(&self, target: Target, words: &[u8], seen_as: &str) -> String {
        let mut stream = apps::socks5(self.socks, target, None).unwrap();
        stream.write_all(words).unwrap();
        // V2Ray logs what was asked for.
        let target = if self.kind == Kind::Wsray { seen_as.to_owned() } else { target.to_string() };
        self.way_of(&format!("tcp:{target}"))
    }

    fn way_of(&self, target: &str) -> String {
        let line = self.node.log_line(&["accepted", &format!("{target} ")]);
        line.rsplit_once('[').unwrap().1.split(']').next().unwrap().to_owned()
    }
}

fn crossing(socks: u16, http: u16, origin: SocketAddr, routing: &Value) -> Value {
    let freedom = |tag: &str| json!({ "tag": tag, "protocol": "freedom", "settings": { "redirect": origin.to_string() } });
    json!({
        "log": { "loglevel": "debug" },
        "inbounds": [
            { "tag": "socks-in", "port": socks, "listen": "127.0.0.1", "protocol": "socks", "settings": { "udp": true } },
            { "tag": "http-in", "port": http, "listen": "127.0.0.1", "protocol": "http" },
        ],
        "outbounds": [freedom("direct"), freedom("other"), freedom("third"), { "tag": "block", "protocol": "blackhole" }],
        "routing": routing,
    })
}

fn rule(condition: Value, to: &str) -> Value {
    let mut rule = condition;
    rule["type"] = json!("field");
    rule["outboundTag"] = json!(to);
    rule
}

fn rules_on_names_hold_for_names(kind: Kind) {
    let crossing = Crossing::start(
        kind,
        &json!({ "rules": [
            rule(json!({ "domain": ["domain:blocked.test", "full:one.test"] }), "block"),
            rule(json!({ "domain": ["keyword", "regexp:^[a-c]+\\.x[0-9]\\.test$"] }), "other"),
            rule(json!({ "domains": ["domain:second.test"] }), "third"),
        ] }),
    );
    for (name, expected) in [
        ("blocked.test", "block"),
        ("a.b.blocked.test", "block"),
        ("unblocked.test", "direct"),
        ("one.test", "block"),
        ("a.one.test", "direct"),
        ("has-a-keyword-in-it.test", "other"),
        ("abc.x7.test", "other"),
        ("abd.x7.test", "direct"),
        ("www.second.test", "third"),
    ] {
        assert_eq!(crossing.way(Target::Name(name, 80)), expected, "{name}");
    }
    let blocked = apps::http_get(crossing.http, Target::Name("www.blocked.test", 80), None);
    assert!(blocked.as_ref().map_or(true, |answer| !answer.contains("GET ")), "{blocked:?}");
}

/// As v2fly/v2ray-examples keeps clients of a server out of its own network.
fn rules_on_addresses_and_ports_hold_for_targets(kind: Kind) {
    let crossing = Crossing::start(
        kind,
        &json!({ "domainStrategy": "AsIs", "rules": [
            rule(json!({ "ip": ["203.0.113.0/24", "2001:db8::/32"], "port": "80,1000-2000" }), "other"),
            rule(json!({ "port": 25, "inboundTag": ["socks-in"] }), "block"),
            rule(json!({ "ip": ["10.0.0.0/8", "127.0.0.0/8", "192.168.0.0/16", "fc00::/7"] }), "third"),
        ] }),
    );
    for (address, expected) in [
        ("203.0.113.9:80", "other"),
        ("203.0.113.9:2000", "other"),
        ("203.0.113.9:2001", "direct"),
        ("203.0.114.9:80", "direct"),
        ("[2001:db8::1]:1000", "other"),
        ("198.51.100.1:25", "block"),
        ("10.1.2.3:443", "third"),
        ("127.0.0.1:443", "third"),
        ("[fd00::1]:443", "third"),
    ] {
        assert_eq!(crossing.way(address.parse::<SocketAddr>().unwrap().into()), expected, "{address}");
    }
    // Without a look-up a rule on addresses is not for names.
    assert_eq!(crossing.way(Target::Name("localhost", 443)), "direct");
    drop(apps::http_connect(crossing.http, Target::Name("mail.test", 25), None));
    assert_eq!(crossing.way_of("mail.test:25"), "direct", "another inbound");
}

fn the_first_rule_that_holds_decides(kind: Kind) {
    let crossing = Crossing::start(
        kind,
        &json!({ "rules": [
            rule(json!({ "domain": ["full:a.test"] }), "other"),
            rule(json!({ "domain": ["domain:test"], "source": ["127.0.0.1"] }), "third"),
            rule(json!({ "network": "tcp,udp" }), "block"),
        ] }),
    );
    for (name, expected) in [("a.test", "other"), ("b.test", "third"), ("a.example", "block")] {
        assert_eq!(crossing.way(Target::Name(name, 80)), expected, "{name}");
    }
}

fn names_are_looked_up_for_rules_on_demand(kind: Kind) {
    for (strategy, expected) in
        [("AsIs", "third"), ("IPOnDemand", "other"), ("IPIfNonMatch", "third"), ("iPondemand", "other")]
    {
        let rules = json!([
            rule(json!({ "ip": ["127.0.0.1", "::1"] }), "other"),
            rule(json!({ "domain": ["full:localhost"], "port": 81 }), "third"),
        ]);
        let crossing = Crossing::start(kind, &json!({ "domainStrategy": strategy, "rules": rules }));
        assert_eq!(crossing.way(Target::Name("localhost", 81)), expected, "{strategy}");
        let unmatched = if strategy == "AsIs" { "direct" } else { "other" };
        assert_eq!(crossing.way(Target::Name("localhost", 82)), unmatched, "{strategy}");
    }
}

fn a_rule_is_for_one_network(kind: Kind) {
    let udp = UdpEcho::start();
    let routing = json!({ "rules": [rule(json!({ "network": "udp" }), "packets"), rule(json!({ "network": "tcp" }), "other")] });
    let crossing = Crossing::start_with(kind, &routing, |config| {
        let outbounds = config["outbounds"].as_array_mut().unwrap();
        outbounds.push(json!({ "tag": "packets", "protocol": "freedom" }));
    });
    let association = apps::Association::open(crossing.socks).unwrap();
    assert_eq!(association.round_trip(udp.address.into(), b"hello").unwrap(), b"hello");
    assert_eq!(crossing.way_of(&format!("udp:{}", udp.address)), "packets");
    assert_eq!(crossing.way(Target::Name("a.test", 80)), "other");
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: www.http.test\r\nX-Kind: one\r\n\r\n";

/// What a TLS client says first to this name.
fn hello(name: &'static str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name.try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

fn overhearing(overrides: &[&str]) -> impl FnOnce(&mut Value) {
    let sniffing = json!({ "enabled": true, "destOverride": overrides });
    move |config| config["inbounds"][0]["sniffing"] = sniffing
}

fn address(port: u16) -> Target<'static> {
    Target::Address(SocketAddr::from((Ipv4Addr::new(203, 0, 113, 7), port)))
}

fn names_of_applications_words_decide(kind: Kind) {
    let routing = json!({ "rules": [
        rule(json!({ "domain": ["domain:http.test"] }), "other"),
        rule(json!({ "domain": ["domain:tls.test"] }), "third"),
    ] });
    let crossing = Crossing::start_with(kind, &routing, overhearing(&["http", "tls"]));
    assert_eq!(crossing.way_of_words(address(80), GET, "www.http.test:80"), "other");
    assert_eq!(crossing.way_of_words(address(443), &hello("www.tls.test"), "www.tls.test:443"), "third");
    assert_eq!(crossing.way_of_words(address(22), b"SSH-2.0-x\r\n", "203.0.113.7:22"), "direct");
    // What was heard still arrives.
    let mut stream = apps::socks5(crossing.socks, address(8080), None).unwrap();
    stream.write_all(GET).unwrap();
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

fn words_that_are_not_asked_for_tell_the_protocol_alone(kind: Kind) {
    let routing = json!({ "rules": [
        rule(json!({ "domain": ["domain:test"] }), "block"),
        rule(json!({ "protocol": ["http"] }), "other"),
        rule(json!({ "protocol": ["tls"] }), "third"),
    ] });
    let crossing = Crossing::start_with(kind, &routing, overhearing(&[]));
    assert_eq!(crossing.way_of_words(address(80), GET, "203.0.113.7:80"), "other");
    assert_eq!(crossing.way_of_words(address(443), &hello("www.tls.test"), "203.0.113.7:443"), "third");
    assert_eq!(crossing.way_of_words(address(81), b"hello", "203.0.113.7:81"), "direct");
}

/// Xray's `domainsExcluded`; V2Ray 4 ignores it.
#[test]
fn an_excluded_name_counts_for_nothing() {
    let routing = json!({ "rules": [
        rule(json!({ "domain": ["domain:test"] }), "other"),
        rule(json!({ "protocol": ["tls"] }), "third"),
    ] });
    let crossing = Crossing::start_with(Kind::Wsray, &routing, |config| {
        config["inbounds"][0]["sniffing"] = json!({ "enabled": true, "destOverride": ["http", "tls"],
            "domainsExcluded": ["domain:push.test", "Some Thing"] });
    });
    assert_eq!(crossing.way_of_words(address(443), &hello("www.tls.test"), "www.tls.test:443"), "other");
    assert_eq!(crossing.way_of_words(address(444), &hello("a.push.test"), "203.0.113.7:444"), "third");
}

/// V2Ray knows those of requests that its http inbound reads (`proxy/http/server.go`).
fn attributes_of_requests_decide(kind: Kind) {
    let routing = json!({ "rules": [
        rule(json!({ "attrs": "attrs[':method'] == 'GET' and attrs[':path'].startswith('/page')", "port": 80 }), "other"),
        rule(json!({ "protocol": ["http"], "attrs": "attrs[':method'] == 'PUT'" }), "block"),
        rule(json!({ "protocol": ["http"] }), "third"),
    ] });
    let crossing = Crossing::start(kind, &routing);
    for (port, expected) in [(80, "other"), (81, "third")] {
        let answer = apps::http_get(crossing.http, Target::Name("a.test", port), None).unwrap();
        assert!(answer.contains("GET /page?q=1"), "{answer}");
        let line = crossing.node.log_line(&["accepted", &format!("a.test:{port}")]);
        assert!(line.contains(&format!("[{expected}]")), "{line}");
    }
}

fn a_balancer_uses_all_that_its_selector_names(kind: Kind) {
    let mut rule = rule(json!({ "domain": ["domain:test"] }), "");
    rule["balancerTag"] = json!("any");
    let crossing = Crossing::start(
        kind,
        &json!({ "balancers": [{ "tag": "any", "selector": ["oth", "third"] }], "rules": [rule] }),
    );
    let ways: Vec<_> = (0..32).map(|n| crossing.way(Target::Name(&format!("host-{n}.test"), 80))).collect();
    let count = |tag: &str| ways.iter().filter(|way| *way == tag).count();
    assert_eq!(count("other") + count("third"), ways.len(), "{ways:?}");
    // Each by chance of one half: 32 of one kind is one in two thousand million.
    assert!(count("other") > 0 && count("third") > 0, "{ways:?}");
}

fn users_of_a_server_go_their_own_ways(kind: Kind) {
    let origin = Origin::start();
    let (first, second) = (Link::default(), Link::default());
    let server = Server::start_with(kind, &first, |config| {
        let user = json!({ "id": second.id, "email": "second@example.test" });
        config["inbounds"][0]["settings"]["clients"].as_array_mut().unwrap().push(user);
        let outbounds = config["outbounds"].as_array_mut().unwrap();
        outbounds.push(json!({ "tag": "other", "protocol": "freedom" }));
        config["routing"] = json!({ "rules": [rule(json!({ "user": ["second@example.test"] }), "other")] });
    });
    for (link, email, tag) in
        [(first, "user@example.test", "[direct]"), (second, "second@example.test", "[other]")]
    {
        let client = Client::start(kind, &link, server.port);
        apps::check_echo(&apps::socks5(client.socks, origin.address.into(), None).unwrap()).unwrap();
        server.node.log_line(&["accepted", email, tag]);
    }
}

fn lists_in_files_are_read_from_the_asset_folder(kind: Kind) {
    let assets = temporary_directory("assets");
    let sites = [
        geo::sites("ADS", &[(2, "ads.test")]),
        geo::sites("CN", &[(3, "full.test"), (0, "part"), (1, "^r[0-9]")]),
    ];
    std::fs::write(assets.join("geosite.dat"), sites.concat()).unwrap();
    let networks = [
        geo::networks("CN", &[([1, 2, 3, 0], 24)]),
        geo::networks("US", &[([8, 8, 8, 0], 24)]),
        geo::networks("PRIVATE", &[([172, 16, 0, 0], 12)]),
    ];
    std::fs::write(assets.join("geoip.dat"), networks.concat()).unwrap();
    std::fs::write(assets.join("own.dat"), geo::sites("mine", &[(2, "mine.test")])).unwrap();
    let routing = json!({ "rules": [
        rule(json!({ "domain": ["geosite:ads"] }), "block"),
        rule(json!({ "domain": ["geosite:cn", "ext:own.dat:MINE"] }), "other"),
        rule(json!({ "ip": ["geoip:cn", "geoip:private"] }), "third"),
    ] });
    let (origin, socks, http) = (Origin::start(), free_port(), free_port());
    let directory = temporary_directory("crossing");
    let path = directory.join("config.json");
    std::fs::write(&path, crossing(socks, http, origin.address, &routing).to_string()).unwrap();
    let mut command = kind.command(&path);
    command.env("V2RAY_LOCATION_ASSET", &assets);
    let node = Node::start_program("crossing", command, directory, &[socks, http]);
    let crossing = Crossing { kind, node, socks, http, origin };
    for (name, expected) in [
        ("www.ads.test", "block"),
        ("full.test", "other"),
        ("a.full.test", "direct"),
        ("has-part-in.it", "other"),
        ("r5.example", "other"),
        ("www.mine.test", "other"),
    ] {
        assert_eq!(crossing.way(Target::Name(name, 80)), expected, "{name}");
    }
    for (address, expected) in [("1.2.3.9:80", "third"), ("8.8.8.8:80", "direct"), ("172.16.0.1:80", "third")]
    {
        assert_eq!(crossing.way(address.parse::<SocketAddr>().unwrap().into()), expected, "{address}");
    }
}

#[test]
fn test_and_run_refuse_lists_that_are_not_there() {
    let assets = temporary_directory("assets");
    std::fs::write(assets.join("geosite.dat"), geo::sites("GOOGLE", &[(2, "google.com")])).unwrap();
    std::fs::write(assets.join("broken.dat"), b"\x0a\xff\x01").unwrap();
    let config = r#"{
  "inbounds": [{ "protocol": "socks", "listen": "127.0.0.1", "port": 1 }],
  "outbounds": [{ "tag": "direct", "protocol": "freedom" }],
  "routing": { "rules": [
    { "type": "field", "domain": ["geosite:gogle", "a.test"], "outboundTag": "direct" },
    { "type": "field", "ip": ["geoip:private", "geoip:cn"], "outboundTag": "direct" },
    { "type": "field", "source": ["ext:broken.dat:x"], "outboundTag": "direct" }
  ] }
}"#;
    let path = assets.join("config.json");
    std::fs::write(&path, config).unwrap();
    let said = ["test", "run"].map(|command| {
        let mut program = Command::new(wsray());
        program.arg(command).arg("-c").arg("config.json").current_dir(&assets);
        let output = program.env("V2RAY_LOCATION_ASSET", &assets).output().unwrap();
        assert_eq!(output.status.code(), Some(23));
        String::from_utf8(output.stderr).unwrap()
    });
    assert_eq!(said[0], said[1]);
    let folders = format!("{}, /usr/local/share/v2ray, /usr/share/v2ray, /opt/share/v2ray", assets.display());
    assert_eq!(
        said[0],
        format!(
            "error: config.json:5:35: routing.rules[0].domain[0]: geosite.dat: there is no list \"gogle\" in it\n  \
             help: did you mean \"google\"?\n\
             error: config.json:6:48: routing.rules[1].ip[1]: there is no file \"geoip.dat\" in {folders}\n  \
             help: put the file there, or name its folder in V2RAY_LOCATION_ASSET\n\
             error: config.json:7:35: routing.rules[2].source[0]: broken.dat: not a file of geo lists, or cut short or \
             damaged: byte 1\n  help: get the file again\n\
             wsray: the configuration is refused (3 errors)\n"
        )
    );
}

#[test]
fn private_addresses_need_no_file_and_can_be_blocked() {
    let routing = json!({ "domainStrategy": "IPIfNonMatch", "rules": [
        rule(json!({ "ip": ["geoip:private"] }), "block"),
        rule(json!({ "ip": ["geoip:!private"] }), "other"),
    ] });
    let crossing = Crossing::start(Kind::Wsray, &routing);
    for (target, expected) in [
        ("127.0.0.1:80", "block"),
        ("192.168.1.1:80", "block"),
        ("[fe80::1]:80", "block"),
        ("8.8.8.8:53", "other"),
    ] {
        assert_eq!(crossing.way(target.parse::<SocketAddr>().unwrap().into()), expected, "{target}");
    }
    assert_eq!(crossing.way(Target::Name("localhost", 80)), "block");
}

#[test]
fn names_for_rules_only_leave_the_target_as_it_is() {
    let routing = json!({ "rules": [
        rule(json!({ "domain": ["domain:http.test"], "ip": ["203.0.113.0/24"] }), "other"),
    ] });
    let crossing = Crossing::start_with(Kind::Wsray, &routing, |config| {
        config["inbounds"][0]["sniffing"] =
            json!({ "enabled": true, "destOverride": ["http"], "routeOnly": true });
    });
    assert_eq!(crossing.way_of_words(address(80), GET, "203.0.113.7:80"), "other");
    assert_eq!(
        crossing.way_of_words(address(81), b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "203.0.113.7:81"),
        "direct"
    );
}

#[test]
fn a_server_overhears_what_its_clients_say() {
    let link = Link::default();
    let server = Server::start_with(Kind::Wsray, &link, |config| {
        let outbounds = config["outbounds"].as_array_mut().unwrap();
        outbounds.push(json!({ "tag": "block", "protocol": "blackhole" }));
        config["inbounds"][0]["sniffing"] = json!({ "enabled": true, "destOverride": ["http", "tls"] });
        config["routing"] = json!({ "rules": [rule(json!({ "domain": ["domain:tls.test"] }), "block")] });
    });
    let client = Client::start(Kind::Wsray, &link, server.port);
    let mut stream = apps::socks5(client.socks, address(443), None).unwrap();
    stream.write_all(&hello("www.tls.test")).unwrap();
    server.node.log_line(&["accepted tcp:www.tls.test:443 ", "[block]"]);
}

/// V2Ray gives up listening after 200 ms (`app/dispatcher/default.go`).
#[test]
fn a_server_that_speaks_first_is_heard_in_time() {
    for (enabled, limit) in [(true, Duration::from_millis(600)), (false, Duration::from_millis(190))] {
        let origin = Origin::with_banner("220 hello\r\n");
        let crossing = Crossing::start_at(origin, Kind::Wsray, &json!({}), |config| {
            config["inbounds"][0]["sniffing"] =
                json!({ "enabled": enabled, "destOverride": ["http", "tls"] });
        });
        let times = (0..5).map(|n| {
            let mut stream = apps::socks5(crossing.socks, address(21 + n), None).unwrap();
            let started = Instant::now();
            let mut banner = [0; 11];
            stream.read_exact(&mut banner).unwrap();
            assert_eq!(&banner, b"220 hello\r\n");
            started.elapsed()
        });
        // The best of some: other tests run beside this one.
        let best = times.min().unwrap();
        assert!(best < limit, "{best:?} with sniffing {enabled}");
    }
}

#[test]
fn a_request_in_pieces_is_understood() {
    let routing = json!({ "rules": [rule(json!({ "domain": ["full:www.http.test"] }), "other")] });
    let crossing = Crossing::start_with(Kind::Wsray, &routing, overhearing(&["http"]));
    let mut stream = apps::socks5(crossing.socks, address(80), None).unwrap();
    for piece in GET.chunks(7) {
        stream.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(crossing.way_of("tcp:www.http.test:80"), "other");
    assert!(apps::read_head(&mut stream).unwrap().starts_with("HTTP/1.1 200"));
    assert!(within(Duration::from_secs(1), || (crossing.origin.connections() == 1).then_some(())).is_some());
}

/// The outbound `loop`, whose sessions seem to come from the inbound `again`.
fn add_loopback(config: &mut Value) {
    let outbound = json!({ "tag": "loop", "protocol": "loopback", "settings": { "inboundTag": "again" } });
    config["outbounds"].as_array_mut().unwrap().push(outbound);
}

fn loopback_routes_sessions_as_another_inbounds(kind: Kind) {
    let rules = json!({ "domainStrategy": "IPOnDemand", "rules": [
        rule(json!({ "inboundTag": ["socks-in"], "domain": ["full:a.test", "full:b.test"] }), "loop"),
        rule(json!({ "inboundTag": ["again"], "domain": ["full:a.test"] }), "other"),
        // Nobody looks the name up for it the second time.
        rule(json!({ "inboundTag": ["again"], "ip": ["10.0.0.1"] }), "block"),
    ] });
    let crossing = Crossing::start_with(kind, &rules, |config| {
        config["dns"] = json!({ "hosts": { "b.test": "10.0.0.1" } });
        add_loopback(config);
    });
    for (name, way) in [("a.test", "[other]"), ("b.test", "[direct]")] {
        let target = Target::Name(name, 80);
        apps::check_echo(&apps::socks5(crossing.socks, target, None).unwrap()).unwrap();
        crossing.node.log_line(&["accepted", &format!("tcp:{target} "), way]);
    }
    assert_eq!(crossing.way(Target::Name("c.test", 80)), "direct");
}

#[test]
fn rules_that_lead_from_loopback_to_loopback_refuse_the_session() {
    let rules = json!({ "rules": [rule(json!({ "network": "tcp" }), "loop")] });
    let crossing = Crossing::start_with(Kind::Wsray, &rules, add_loopback);
    let stream = apps::socks5(crossing.socks, Target::Name("a.test", 80), None).unwrap();
    assert!(apps::check_echo(&stream).is_err());
    crossing.node.log_line(&[
        "[Warning]",
        "[loop]",
        "the inbound \"again\" lead back to a loopback outbound",
    ]);
}
