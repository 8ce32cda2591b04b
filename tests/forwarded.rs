//! Who the client is: the words of front ends that are believed, and those of strangers that are not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

#[path = "forwarded/proxy_cases.rs"]
mod proxy_cases;
mod support;

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use proxy_cases::{Case, Comes};
use serde_json::{Value, json};
use support::{
    apps,
    config::{Link, Tls},
    front,
    node::{Client, Kind, Pair, Server, missing},
    origin::Origin,
    pair, raw, skip,
    tap::{Changes, Tap},
};

/// A server with these keys in `streamSettings`, beside those it has.
fn server(link: &Link, more: &Value) -> Server {
    Server::start_with(Kind::Wsray, link, |config| {
        let stream = &mut config["inbounds"][0]["streamSettings"];
        for (part, keys) in more.as_object().unwrap() {
            for (key, value) in keys.as_object().unwrap() {
                stream[part][key] = value.clone();
            }
        }
    })
}

/// Sends something through a server by a client that sends `header`, and gives the source that the server tells.
fn source(
    kind: Kind,
    link: &Link,
    server: &Server,
    port: u16,
    header: &[(&'static str, &'static str)],
) -> String {
    let origin = Origin::start();
    let link = Link { headers: [&[("Host", "example.test")], header].concat(), ..link.clone() };
    let client = Client::start(kind, &link, port);
    apps::check_echo(&apps::socks5(client.socks, origin.address.into(), None).unwrap()).unwrap();
    let line = server.node.log_line(&[" accepted ", &format!("{} ", origin.address)]);
    let before = line.split(" accepted ").next().unwrap().to_owned();
    before.rsplit(' ').next().unwrap().to_owned()
}

pair!(wsray: Wsray => Wsray, #[cfg(test)], [nginx_of_this_machine_is_believed_about_the_last_hop]);
pair!(v2ray_4_45: V2Ray445 => Wsray, #[cfg(test)], [nginx_of_this_machine_is_believed_about_the_last_hop]);

/// nginx appends 127.0.0.1, which is trusted; the client's own words stand left of it.
fn nginx_of_this_machine_is_believed_about_the_last_hop(pair: Pair) {
    if let Some(reason) = missing("nginx") {
        skip!(reason);
    }
    let link = Link::default();
    let trusting = json!({ "sockopt": { "trustedXForwardedFor": ["198.51.100.0/24"] } });
    for (more, said, expected) in [
        (json!({}), "203.0.113.66, 198.51.100.9", "198.51.100.9:0"),
        (json!({}), "203.0.113.66, [2001:db8::7]:4711", "[2001:db8::7]:4711"),
        (json!({}), "203.0.113.66, unknown", "127.0.0.1:0"),
        (trusting, "203.0.113.66, 203.0.113.7, 198.51.100.9", "203.0.113.7:0"),
    ] {
        let server = server(&link, &more);
        let nginx = front::nginx(server.port);
        let link = Link { tls: Tls::On, ..link.clone() };
        let found = source(pair.client, &link, &server, nginx.port, &[("X-Forwarded-For", said)]);
        assert_eq!(found, expected, "{said}");
    }
}

#[test]
fn address_that_nginx_saw_is_told() {
    if let Some(reason) = missing("nginx") {
        skip!(reason);
    }
    let link = Link::default();
    let server = server(&link, &json!({}));
    let nginx = front::nginx(server.port);
    let found = source(Kind::Wsray, &Link { tls: Tls::On, ..link }, &server, nginx.port, &[]);
    assert_eq!(found, "127.0.0.1:0", "port 0: nginx names none");
}

#[test]
fn headers_with_one_address_are_understood() {
    for name in ["X-Real-IP", "CF-Connecting-IP"] {
        let link = Link::default();
        let server = server(&link, &json!({}));
        assert_eq!(
            source(Kind::Wsray, &link, &server, server.port, &[(name, "203.0.113.7")]),
            "203.0.113.7:0"
        );
    }
}

#[test]
fn nobody_is_believed_when_it_is_switched_off() {
    let link = Link::default();
    let server = server(&link, &json!({ "wsSettings": { "parseXForwardedFor": false } }));
    let found = source(Kind::Wsray, &link, &server, server.port, &[("X-Forwarded-For", "203.0.113.66")]);
    assert!(found.starts_with("127.0.0.1:") && !found.ends_with(":0"), "{found}");
}

/// A middle box that says whom the connection is from, as `HAProxy` does.
fn from_203_0_113_9(server: &Server) -> Tap {
    let request = |head| format!("PROXY TCP4 203.0.113.9 198.51.100.1 40001 443\r\n{head}");
    Tap::changing(server.port, Changes { request, ..Changes::default() })
}

#[test]
fn stranger_is_not_believed_and_told_of_in_few_lines() {
    let link = Link { headers: vec![("X-Forwarded-For", "203.0.113.66")], ..Link::default() };
    let server = server(&link, &json!({ "wsSettings": { "acceptProxyProtocol": true } }));
    let tap = from_203_0_113_9(&server);
    let origin = Origin::start();
    let client = Client::start(Kind::Wsray, &link, tap.port);
    for _ in 0..25 {
        apps::check_echo(&apps::socks5(client.socks, origin.address.into(), None).unwrap()).unwrap();
    }
    let line = server.node.log_line(&["X-Forwarded-For of 203.0.113.9 is ignored (10 so far)"]);
    assert!(line.contains("[Warning]") && line.contains("sockopt.trustedXForwardedFor"), "{line}");
    let log = server.node.log_with(25, "203.0.113.9:40001 accepted");
    assert!(!log.contains("203.0.113.66"), "the forged address is told");
    assert_eq!(log.matches("203.0.113.9:40001 accepted").count(), 25);
    assert_eq!(log.matches("is ignored").count(), 2, "the first and the tenth");
}

#[test]
fn proxy_of_the_networks_is_believed_wherever_the_proxy_protocol_says_it_is() {
    let link = Link::default();
    let more = json!({
        "wsSettings": { "acceptProxyProtocol": true },
        "sockopt": { "trustedXForwardedFor": ["203.0.113.0/28"] },
    });
    let server = server(&link, &more);
    let tap = from_203_0_113_9(&server);
    let said = [("X-Forwarded-For", "203.0.113.66, 198.51.100.9")];
    assert_eq!(source(Kind::Wsray, &link, &server, tap.port, &said), "198.51.100.9:0");
}

#[test]
fn rules_see_the_client() {
    let link = Link::default();
    let server = Server::start_with(Kind::Wsray, &link, |config| {
        let blackhole = json!({ "tag": "blocked", "protocol": "blackhole" });
        config["outbounds"].as_array_mut().unwrap().push(blackhole);
        let rule = json!({ "type": "field", "source": ["203.0.113.0/24"], "outboundTag": "blocked" });
        config["routing"] = json!({ "rules": [rule] });
    });
    let origin = Origin::start();
    for (said, is_served) in [("203.0.113.7", false), ("198.51.100.9", true)] {
        let link = Link { headers: vec![("X-Forwarded-For", said)], ..link.clone() };
        let client = Client::start(Kind::Wsray, &link, server.port);
        let echoed = apps::socks5(client.socks, origin.address.into(), None)
            .and_then(|stream| apps::check_echo(&stream));
        assert_eq!(echoed.is_ok(), is_served, "{said}");
    }
}

/// The line of the access log and the warning name the same client.
fn check_refused(server: &Server, client: &str, reason: &str) {
    let access = server.node.log_line(&["rejected", reason]);
    assert!(access.contains(&format!(" {client} rejected")), "{access}");
    let warning = server.node.log_line(&["[Warning]", "refused", reason]);
    assert!(warning.contains(&format!("{client} refused")), "{warning}");
}

#[test]
fn refused_requests_name_the_client_that_a_trusted_proxy_names() {
    let server = server(&Link::default(), &json!({}));
    let header = "X-Forwarded-For: 203.0.113.66, 198.51.100.9\r\n";
    for (target, change, reason) in
        [("/wrong", None, "path \"/wrong\""), ("/ray", Some("Upgrade: websocket"), "header Upgrade is")]
    {
        let request = raw::upgrade(target, header).replace(change.unwrap_or("?"), "X-Upgrade: none");
        let answer = raw::ask(server.port, request.as_bytes()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 40"), "{answer}");
        check_refused(&server, "198.51.100.9:0", reason);
    }
    assert!(!server.node.log().contains("203.0.113.66"), "words of strangers are not told");
}

#[test]
fn refused_requests_name_the_client_of_the_proxy_protocol() {
    let link = Link { tls: Tls::On, ..Link::default() };
    let more = json!({ "wsSettings": { "acceptProxyProtocol": true } });
    let [plain, secured] = [server(&Link::default(), &more), server(&link, &more)];
    let header = "PROXY TCP4 203.0.113.9 198.51.100.1 40001 443\r\n";
    drop(raw::ask(plain.port, format!("{header}{}", raw::upgrade("/wrong", "")).as_bytes()));
    check_refused(&plain, "203.0.113.9:40001", "path \"/wrong\"");
    drop(raw::ask(secured.port, format!("{header}{}", raw::upgrade("/ray", "")).as_bytes()));
    check_refused(&secured, "203.0.113.9:40001", "TLS");
}

#[test]
fn strangers_words_are_counted_on_refused_requests_too() {
    let more = json!({ "wsSettings": { "acceptProxyProtocol": true } });
    let server = server(&Link::default(), &more);
    let header = "PROXY TCP4 203.0.113.9 198.51.100.1 40001 443\r\n";
    let request = raw::upgrade("/wrong", "X-Forwarded-For: 203.0.113.66\r\n");
    for _ in 0..10 {
        drop(raw::ask(server.port, format!("{header}{request}").as_bytes()));
    }
    server.node.log_line(&["[Warning]", "X-Forwarded-For of 203.0.113.9 is ignored (10 so far)"]);
    check_refused(&server, "203.0.113.9:40001", "path \"/wrong\"");
}

#[test]
fn proxy_protocol_is_taken_from_its_senders_only() {
    let with = |senders: Value| {
        let ws = json!({ "acceptProxyProtocol": true, "acceptProxyProtocolFrom": senders });
        server(&Link::default(), &json!({ "wsSettings": ws }))
    };
    let request = format!(
        "PROXY TCP4 203.0.113.9 198.51.100.1 40001 443\r\n{}",
        raw::upgrade("/ray", "X-Forwarded-For: 198.51.100.9\r\n")
    );
    let listed = with(json!(["192.0.2.0/24", "127.0.0.1"]));
    assert!(raw::ask(listed.port, request.as_bytes()).unwrap().starts_with("HTTP/1.1 101 "));
    let other = with(json!(["192.0.2.0/24", "203.0.113.0/24", "::/0"]));
    for _ in 0..30 {
        // Closed before anything is read, so that the request itself may fail.
        let mut stream = apps::connect(other.port).unwrap();
        drop(stream.write_all(request.as_bytes()));
        let end = raw::read_to_end(&mut stream, Duration::from_secs(2));
        assert_ne!(end.how, raw::How::StillOpen);
        assert_eq!(end.bytes, b"");
    }
    let line = other.node.log_line(&["[Warning]", "127.0.0.1 is none of those who may send"]);
    assert!(line.contains("acceptProxyProtocolFrom") && !line.contains("203.0.113.9"), "{line}");
    other.node.log_line(&["refused senders of the PROXY protocol: ", " more "]);
}

/// Sends the pieces, then a request, and compares what comes of it.
fn check_opening(server: &Server, (name, pieces, comes): &Case, number: usize) {
    let mut stream = apps::connect(server.port).unwrap();
    stream.set_nodelay(true).unwrap();
    let peer = stream.local_addr().unwrap().to_string();
    let start = Instant::now();
    for piece in pieces {
        // Where it is refused in the middle, the rest does not arrive.
        drop(stream.write_all(piece));
        if pieces.len() > 1 {
            std::thread::sleep(Duration::from_millis(3));
        }
    }
    let path = format!("/case-{number}");
    if *comes != Comes::Waits {
        drop(stream.write_all(raw::upgrade(&path, "").as_bytes()));
    }
    let source = match comes {
        Comes::From(source) => source,
        Comes::Peer => &*peer,
        Comes::Refused | Comes::Waits => {
            let end = raw::read_to_end(&mut stream, Duration::from_secs(9));
            assert_ne!(end.how, raw::How::StillOpen, "{name}");
            assert_eq!(end.bytes, b"", "{name}");
            let waited = start.elapsed() > Duration::from_millis(2500);
            assert_eq!(waited, *comes == Comes::Waits, "{name}: closed after {:?}", start.elapsed());
            return;
        }
    };
    let answer = apps::read_head(&mut stream).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(answer.starts_with("HTTP/1.1 404 "), "{name}: {answer}");
    let line = server.node.log_line(&["rejected", &format!("{path}\"")]);
    assert!(line.contains(&format!(" {source} rejected")), "{name}: {line}");
}

/// With a few cases for each server, whose log counts what comes too often.
#[test]
fn all_openings_of_the_proxy_protocol_come_to_what_its_document_says() {
    let cases = proxy_cases::all();
    assert_eq!(cases.len(), 63);
    let link = Link { handshake: 3, ..Link::default() };
    std::thread::scope(|scope| {
        for some in cases.chunks(4) {
            let link = &link;
            scope.spawn(move || {
                let mut server = server(link, &json!({ "wsSettings": { "acceptProxyProtocol": true } }));
                std::thread::scope(|scope| {
                    for (number, case) in some.iter().enumerate() {
                        let server = &server;
                        scope.spawn(move || check_opening(server, case, number));
                    }
                });
                assert!(server.node.is_running(), "the server has died");
            });
        }
    });
}
