//! What the logs say when a handshake fails, on both ends, and what they never say.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use std::io::{Read, Write};

use serde_json::json;

use support::{
    apps,
    config::{Early, Link, Tls},
    node::{Client, Kind, Node, Server, missing},
    origin::Origin,
    raw, skip,
    tap::Tap,
};

/// Lets one application try, whatever comes of it.
fn try_once(client: &Client) {
    let origin = Origin::start();
    if let Ok(stream) = apps::socks5(client.socks, origin.address.into(), None) {
        drop(apps::check_echo(&stream));
    }
}

#[test]
fn a_wrong_path_is_told_on_both_ends() {
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let client = Client::start(Kind::Wsray, &Link { path: "/wrong".to_owned(), ..link }, server.port);
    try_once(&client);
    server.node.log_line(&["/wrong", "/ray"]);
    client.node.log_line(&["404"]);
}

#[test]
fn the_client_tells_status_server_location_and_the_start_of_the_body() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            drop(apps::read_head(&mut stream));
            let answer = "HTTP/1.1 301 Moved Permanently\r\nServer: edge/1.2\r\nLocation: https://example.test/ray\r\n\
                          Content-Length: 15\r\n\r\nlook over there";
            drop(stream.write_all(answer.as_bytes()));
        }
    });
    let client = Client::start(Kind::Wsray, &Link::default(), port);
    try_once(&client);
    client.node.log_line(&["301"]);
    let log = client.node.log();
    for part in ["edge/1.2", "https://example.test/ray", "look over there"] {
        assert!(log.contains(part), "{part} is missing");
    }
}

#[test]
fn a_request_that_lost_its_upgrade_header_names_the_proxy_setting() {
    let server = Server::start(Kind::Wsray, &Link::default());
    let request = raw::upgrade("/ray", "").replace("Upgrade: websocket\r\n", "");
    raw::ask(server.port, request.as_bytes()).unwrap();
    server.node.log_line(&["Upgrade", "proxy_set_header"]);
}

#[test]
fn early_data_that_cannot_be_read_is_told() {
    let early = Early::Header("X-Ed", 2048);
    let server = Server::start(Kind::Wsray, &Link { early, ..Link::default() });
    let mut stream = raw::send(server.port, raw::upgrade("/ray", "X-Ed: !!!!\r\n").as_bytes()).unwrap();
    drop(raw::read_to_end(&mut stream, std::time::Duration::from_secs(4)));
    server.node.log_line(&["early data"]);
}

#[test]
fn early_data_in_a_header_that_the_server_does_not_take_is_guessed() {
    let server = Server::start(Kind::Wsray, &Link::default());
    let early = Early::Header("Sec-WebSocket-Protocol", 2048);
    let client = Client::start(Kind::Wsray, &Link { early, ..Link::default() }, server.port);
    try_once(&client);
    server.node.log_line(&["early data", "maxEarlyData"]);
}

#[test]
fn an_unknown_user_is_told() {
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let client = Client::start(Kind::Wsray, &Link { id: support::random_id(), ..link }, server.port);
    try_once(&client);
    server.node.log_line(&["127.0.0.1:", "user"]);
}

#[test]
fn a_tls_client_on_a_plain_port_and_the_other_way_round_are_told() {
    for (of_server, of_client) in [(Tls::Off, Tls::On), (Tls::On, Tls::Off)] {
        let link = Link { tls: of_server, ..Link::default() };
        let server = Server::start(Kind::Wsray, &link);
        let client = Client::start(Kind::Wsray, &Link { tls: of_client, ..link }, server.port);
        try_once(&client);
        server.node.log_line(&["TLS"]);
        let told = support::within(std::time::Duration::from_secs(4), || {
            let log = client.node.log();
            log.lines().any(|line| line.contains("TLS") || line.contains("closed")).then_some(())
        });
        assert!(told.is_some(), "the client says nothing; server with TLS {of_server:?}");
    }
}

#[test]
fn an_untrusted_certificate_is_told_with_its_reason() {
    let link = Link { tls: Tls::On, ..Link::default() };
    let server = Server::start(Kind::Wsray, &link);
    let client = Client::start_with(Kind::Wsray, &link, server.port, |config| {
        config["outbounds"][0]["streamSettings"]["tlsSettings"]["serverName"] =
            serde_json::json!("other.test");
    });
    try_once(&client);
    client.node.log_line(&["TLS", "other.test"]);
}

#[test]
fn a_refused_target_is_told_by_the_server() {
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let client = Client::start(Kind::Wsray, &link, server.port);
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], support::free_port()));
    if let Ok(mut stream) = apps::socks5(client.socks, nobody.into(), None) {
        drop(stream.write_all(b"hello"));
        drop(stream.read(&mut [0]));
    }
    server.node.log_line(&[&nobody.to_string(), "refused"]);
}

#[test]
fn a_flood_of_bad_requests_does_not_flood_the_log() {
    let server = Server::start(Kind::Wsray, &Link::default());
    for _ in 0..300 {
        drop(raw::ask(server.port, raw::upgrade("/wrong", "").as_bytes()));
    }
    let lines = server.node.log_with(1, "/wrong").lines().filter(|line| line.contains("/wrong")).count();
    assert!((1..100).contains(&lines), "{lines} lines for 300 requests");
}

/// Ids are checked after every test, see [`Node`].
#[test]
fn early_data_queries_and_header_values_are_never_logged() {
    const SECRET: &str = "c2VjcmV0c2VjcmV0c2VjcmV0";
    let check = |node: &Node, secret: &str| {
        assert!(!node.log().contains(secret), "logged: {secret}");
    };
    for early in [Early::None, Early::Path(2048), Early::Header("Sec-WebSocket-Protocol", 2048)] {
        let link = Link { early, path: "/ray?key=queryqueryquery".to_owned(), ..Link::default() };
        let server = Server::start(Kind::Wsray, &Link { path: "/ray".to_owned(), ..link.clone() });
        let tap = Tap::before(server.port);
        let client = Client::start(Kind::Wsray, &link, tap.port);
        try_once(&client);
        for target in ["/ray", "/ray?x=", "/other?x=", "/ray%3Fx="] {
            for value in [SECRET, "*c2VjcmV0c2VjcmV0c2VjcmV0"] {
                let more = format!("Sec-WebSocket-Protocol: {value}\r\nCookie: {SECRET}\r\n");
                for request in [
                    raw::upgrade(&format!("{target}{value}"), ""),
                    raw::upgrade(target, &more),
                    raw::upgrade(target, &more).replace("Upgrade: websocket\r\n", ""),
                ] {
                    drop(raw::ask(server.port, request.as_bytes()));
                }
            }
        }
        check(&server.node, SECRET);
        check(&server.node, "queryqueryquery");
        check(&client.node, "queryqueryquery");
        let head = tap.request_head(0);
        let longest = head.split([' ', '\r', '?', '=', '/']).max_by_key(|part| part.len()).unwrap();
        if early != Early::None {
            assert!(longest.len() > 100, "early data was sent: {head}");
            check(&server.node, &longest[..40]);
            check(&client.node, &longest[..40]);
        }
    }
}

#[test]
fn loglevel_none_logs_nothing_and_no_log_block_logs_warnings() {
    let quiet = Server::start_with(Kind::Wsray, &Link::default(), |config| {
        config["log"] = serde_json::json!({ "loglevel": "none", "access": "none" });
    });
    drop(raw::ask(quiet.port, raw::upgrade("/wrong", "").as_bytes()));
    let usual = Server::start_with(Kind::Wsray, &Link::default(), |config| {
        config.as_object_mut().unwrap().remove("log");
    });
    drop(raw::ask(usual.port, raw::upgrade("/wrong", "").as_bytes()));
    usual.node.log_line(&["/wrong"]);
    let log = quiet.node.log();
    let rest: Vec<&str> = log.lines().filter(|line| !line.starts_with("wsray ")).collect();
    assert!(rest.is_empty(), "besides the line that tells the version: {rest:?}");
}

#[test]
fn a_peer_sees_the_same_failures_as_with_v2ray() {
    if let Some(reason) = missing("v2ray-4.45") {
        skip!(reason);
    }
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let client = Client::start(Kind::V2Ray445, &Link { path: "/wrong".to_owned(), ..link }, server.port);
    try_once(&client);
    client.node.log_line(&["404 Not Found", "bad handshake"]);
}

/// What a hostile application, a hostile stranger and a careless administrator write into fields that are logged.
#[test]
fn nothing_that_peers_or_the_configuration_say_begins_a_line_or_acts_on_a_terminal() {
    const FORGED: &str = "2026/01/01 00:00:00 [Warning] app: forged";
    let nasty = format!("a\r\n{FORGED}\u{1b}[31m\u{9b}2J\u{202e}\u{2028}\u{8}\u{7f}");
    let link = Link::default();
    let server = Server::start_with(Kind::Wsray, &link, |config| {
        config["inbounds"][0]["settings"]["clients"][0]["email"] = json!(nasty);
        config["inbounds"][0]["tag"] = json!(format!("in {nasty}"));
        config["outbounds"][0]["tag"] = json!(format!("out {nasty}"));
    });
    let client = Client::start(Kind::Wsray, &link, server.port);
    try_once(&client);
    server.node.log_line(&[" accepted ", "email: a\\r\\n", "[out a\\r\\n"]);
    let encoded = "%0d%0a%1b%5b31m%e2%80%ae".to_owned();
    for name in [nasty.clone(), encoded, format!("{FORGED}.\n.test"), "\u{1b}]0;x\u{7}.test".to_owned()] {
        // Of each kind five lines a second are told.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        drop(apps::socks5(client.socks, apps::Target::Name(&name, 80), None).map(|mut s| s.read(&mut [0])));
        drop(apps::socks4a(client.socks, &name, 80).map(|mut s| s.read(&mut [0])));
        for request in [
            format!("CONNECT {name}:80 HTTP/1.1\r\nHost: {name}\r\n\r\n"),
            format!("GET http://{name}/ HTTP/1.1\r\nHost: {name}\r\n\r\n"),
        ] {
            let mut stream = raw::send(client.http, request.as_bytes()).unwrap();
            drop(raw::read_to_end(&mut stream, std::time::Duration::from_millis(200)));
        }
        for request in [
            raw::upgrade(&format!("/{name}"), ""),
            raw::upgrade("/ray", &format!("X-Forwarded-For: {name}\r\n")),
            raw::upgrade("/ray", "").replace("Upgrade: websocket", &format!("Upgrade: {name}")),
            raw::upgrade("/wrong", "").replace("example.test", &name),
            format!("{name} /ray HTTP/1.1\r\n\r\n"),
        ] {
            let mut stream = raw::send(server.port, request.as_bytes()).unwrap();
            drop(raw::read_to_end(&mut stream, std::time::Duration::from_millis(200)));
        }
    }
    std::thread::sleep(std::time::Duration::from_millis(1100));
    drop(raw::ask(server.port, raw::upgrade("/the-last", "").as_bytes()));
    server.node.log_line(&["/the-last"]);
    for node in [&server.node, &client.node] {
        let log = node.log();
        assert!(!log.lines().any(|line| line.starts_with(FORGED)), "a line was forged");
        let unsafe_ = |c: &char| (c.is_control() && *c != '\n') || matches!(c, '\u{202e}' | '\u{2028}');
        assert_eq!(log.chars().find(unsafe_), None, "something acts on the terminal");
    }
}

/// `text`, and its bytes as `Debug` shows them in a list.
fn shapes(text: &str) -> [String; 2] {
    [text.to_owned(), bytes_shown(text.as_bytes())]
}

fn bytes_shown(bytes: &[u8]) -> String {
    let all: Vec<String> = bytes.iter().take(6).map(u8::to_string).collect();
    all.join(", ")
}

/// All that is made of a configuration, the configuration itself, and its text.
#[test]
fn debug_of_a_whole_program_shows_no_secret() {
    const IDS: [&str; 2] = ["6f1c9d52-83b7-4e0a-9c44-d1f0a27be963", "e20b7c18-5a9f-4d36-8b21-07c4f95d3ae6"];
    const PASSWORDS: [&str; 4] = ["socks-in-pass", "http-in-pass", "socks-out-pass", "http-out-pass"];
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let lines = |pem: &str| pem.lines().map(str::to_owned).collect::<Vec<_>>();
    let tls = json!({ "certificates": [{ "certificate": lines(&certificate), "key": lines(&key) }] });
    let config = json!({
        "inbounds": [
            { "protocol": "vmess", "port": 1, "settings": { "clients": [{ "id": IDS[0] }] },
              "streamSettings": { "network": "ws", "security": "tls", "tlsSettings": tls } },
            { "protocol": "socks", "port": 2, "settings": {
              "auth": "password", "accounts": [{ "user": "ann", "pass": PASSWORDS[0] }] } },
            { "protocol": "http", "port": 3, "settings": { "accounts": [{ "user": "ann", "pass": PASSWORDS[1] }] } },
        ],
        "outbounds": [
            { "protocol": "vmess", "settings": { "vnext": [
              { "address": "127.0.0.1", "port": 4, "users": [{ "id": IDS[1] }] }] },
              "streamSettings": { "network": "ws", "wsSettings": {
                "path": "/ray?key=query-secret", "headers": { "Cookie": "cookie-secret" } } } },
            { "protocol": "socks", "tag": "s", "settings": { "servers": [
              { "address": "127.0.0.1", "port": 5, "users": [{ "user": "ann", "pass": PASSWORDS[2] }] }] } },
            { "protocol": "http", "tag": "h", "settings": { "headers": { "X-Token": "token-secret" }, "servers": [
              { "address": "127.0.0.1", "port": 6, "users": [{ "user": "ann", "pass": PASSWORDS[3] }] }] } },
        ],
    });
    let text = config.to_string();
    let source = wsray_config::Source::new("config.json", &text);
    let loaded = wsray_config::load(&[source], &wsray_config::Options::default()).unwrap();
    let folders = wsray::app::AssetFolders::new(None, None);
    let lasting = wsray::app::Lasting::new();
    let app =
        wsray::app::App::build(&loaded.config, &folders, &wsray::observe::Log::off(), &lasting).unwrap();
    let file = wsray::cli::SourceText { name: "config.json".to_owned(), text: text.clone() };
    let shown = format!("{loaded:?} {loaded:#?} {app:?} {app:#?} {lasting:?} {file:?}").to_lowercase();
    let mut secrets: Vec<String> = PASSWORDS.into_iter().flat_map(shapes).collect();
    secrets.extend(["query-secret", "cookie-secret", "token-secret"].into_iter().flat_map(shapes));
    secrets.push(key.lines().nth(1).unwrap().to_lowercase());
    secrets.push(bytes_shown(&made.signing_key.serialize_der()[40..]));
    for id in IDS {
        let plain = id.replace('-', "");
        let bytes: Vec<u8> =
            (0..16).map(|at| u8::from_str_radix(&plain[at * 2..at * 2 + 2], 16).unwrap()).collect();
        secrets.extend([
            id.to_owned(),
            plain[4..12].to_owned(),
            bytes_shown(&bytes),
            bytes_shown(&bytes[2..]),
        ]);
    }
    assert!(shown.len() > 5_000 && shown.contains("127.0.0.1"), "it shows what it may");
    for secret in secrets {
        assert!(!shown.contains(&secret), "{secret} is shown");
    }
}
