//! What those get who are no users: probers, scanners, replayers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use std::{
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

use support::{
    apps,
    config::{Link, Tls},
    for_kind, for_wsray,
    node::{Client, Kind, Server},
    origin::Origin,
    raw::{self, End, How},
    skip,
    tap::Tap,
};

for_wsray![
    another_path_gets_an_empty_404,
    a_request_without_upgrade_gets_400_and_another_method_405,
    what_is_no_vmess_is_drained_until_the_handshake_time_is_over,
    a_captured_opening_is_refused_the_second_time,
];

for_kind!(only_wsray: Wsray, #[cfg(test)], [
    no_number_of_bytes_closes_the_connection_early,
    a_connection_that_says_nothing_is_closed,
    frames_against_the_rules_are_refused,
    a_hundred_silent_connections_do_not_keep_a_user_out,
    a_captured_opening_is_refused_after_a_restart,
    a_frame_costs_what_has_come_of_it_and_not_what_it_declares,
]);

fn server(kind: Kind) -> Server {
    Server::start(kind, &Link::default())
}

fn another_path_gets_an_empty_404(kind: Kind) {
    let server = server(kind);
    for target in ["/", "/other", "/ray/", "/RAY", "/rayA", "//ray", "/ra"] {
        let head = raw::ask(server.port, raw::upgrade(target, "").as_bytes()).unwrap();
        assert!(head.starts_with("HTTP/1.1 404 "), "{target}: {head}");
        assert!(head.contains("Content-Length: 0\r\n"), "{target}: {head}");
        assert!(!head.to_lowercase().contains("wsray"), "{target}: {head}");
    }
    for target in ["/ray", "/ray?x=1", "/%72ay"] {
        let head = raw::ask(server.port, raw::upgrade(target, "").as_bytes()).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{target}: {head}");
    }
}

fn a_request_without_upgrade_gets_400_and_another_method_405(kind: Kind) {
    let server = server(kind);
    let cases = [
        ("GET /ray HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "400"),
        (raw::upgrade("/ray", "").replace("Upgrade: websocket\r\n", ""), "400"),
        (raw::upgrade("/ray", "").replace("Connection: Upgrade\r\n", "Connection: close\r\n"), "400"),
        (raw::upgrade("/ray", "").replace("Version: 13", "Version: 12"), "400"),
        (raw::upgrade("/ray", "").replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""), "400"),
        (raw::upgrade("/ray", "").replace("GET", "POST"), "405"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
    ];
    for (request, status) in cases {
        let head = raw::ask(server.port, request.as_bytes()).unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request}\ngot {head}");
    }
}

/// How the connection ends after the upgrade and `bytes` in one message.
fn after_upgrade(server: &Server, bytes: &[u8], limit: Duration) -> End {
    let mut stream = raw::send(server.port, raw::upgrade("/ray", "").as_bytes()).unwrap();
    assert!(apps::read_head(&mut stream).unwrap().starts_with("HTTP/1.1 101 "));
    if !bytes.is_empty() {
        stream.write_all(&raw::masked_frame(bytes)).unwrap();
    }
    raw::read_to_end(&mut stream, limit)
}

/// The handshake time of the tests is 2 s.
fn check_drained(end: &End, what: &str) {
    assert_ne!(end.how, How::StillOpen, "{what}");
    assert!(end.after > Duration::from_millis(1500), "{what}: closed after {:?}", end.after);
    assert!(end.bytes.is_empty() || end.bytes == [0x88, 2, 0x03, 0xe8], "{what}: {:?}", end.bytes);
}

fn what_is_no_vmess_is_drained_until_the_handshake_time_is_over(kind: Kind) {
    let server = server(kind);
    let limit = Duration::from_secs(5);
    std::thread::scope(|scope| {
        for (what, bytes) in [
            ("nothing", vec![]),
            ("a byte", vec![7]),
            ("16 bytes", vec![7; 16]),
            ("42 bytes", vec![0x5a; 42]),
            ("a text", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ] {
            let server = &server;
            scope.spawn(move || check_drained(&after_upgrade(server, &bytes, limit), what));
        }
    });
}

fn no_number_of_bytes_closes_the_connection_early(kind: Kind) {
    let server = server(kind);
    std::thread::scope(|scope| {
        for length in [100, 1000, 4000, 40_000] {
            let server = &server;
            let what = format!("{length} bytes");
            scope.spawn(move || {
                check_drained(&after_upgrade(server, &vec![0x33; length], Duration::from_secs(5)), &what);
            });
        }
    });
}

/// What a client sends for a session with `origin`: its request, and its frames.
fn capture(kind: Kind, link: &Link, server: &Server, origin: &Origin) -> (Vec<u8>, Vec<u8>) {
    let tap = Tap::before(server.port);
    let client = Client::start(kind, link, tap.port);
    let stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
    apps::check_echo(&stream).unwrap();
    let mut captured = tap.to_server(0);
    let end_of_head = captured.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let frames = captured.split_off(end_of_head);
    (captured, frames)
}

fn check_replay_is_refused(port: u16, (request, frames): &(Vec<u8>, Vec<u8>), origin: &Origin) {
    let seen = origin.connections();
    let mut again = raw::send(port, request).unwrap();
    assert!(apps::read_head(&mut again).unwrap().starts_with("HTTP/1.1 101 "));
    again.write_all(frames).unwrap();
    check_drained(&raw::read_to_end(&mut again, Duration::from_secs(5)), "a replay");
    assert_eq!(origin.connections(), seen, "the replay reached the origin");
}

fn a_captured_opening_is_refused_the_second_time(kind: Kind) {
    let origin = Origin::start();
    let link = Link::default();
    let server = Server::start(kind, &link);
    let captured = capture(kind, &link, &server, &origin);
    check_replay_is_refused(server.port, &captured, &origin);
}

/// The memory of the first process is gone.
fn a_captured_opening_is_refused_after_a_restart(kind: Kind) {
    let origin = Origin::start();
    let link = Link::default();
    let server = Server::start(kind, &link);
    let captured = capture(kind, &link, &server, &origin);
    drop(server);
    // An opening of the second in which the server starts, and of the second before, passes.
    std::thread::sleep(Duration::from_millis(2100));
    let restarted = Server::start(kind, &link);
    check_replay_is_refused(restarted.port, &captured, &origin);
    let client = Client::start(kind, &link, restarted.port);
    apps::check_echo(&apps::socks5(client.socks, origin.address.into(), None).unwrap()).unwrap();
}

fn a_connection_that_says_nothing_is_closed(kind: Kind) {
    let plain = server(kind);
    let tls = Server::start(kind, &Link { tls: Tls::On, ..Link::default() });
    let proxied = Server::start_with(kind, &Link::default(), |config| {
        config["inbounds"][0]["streamSettings"]["wsSettings"]["acceptProxyProtocol"] =
            serde_json::json!(true);
    });
    std::thread::scope(|scope| {
        for (what, port, bytes) in [
            ("silent", plain.port, ""),
            ("half a request", plain.port, "GET /ray HT"),
            ("headers without end", plain.port, "GET /ray HTTP/1.1\r\nHost: x\r\n"),
            ("silent before TLS", tls.port, ""),
            ("half a PROXY header", proxied.port, "PROXY TCP4"),
        ] {
            scope.spawn(move || {
                let mut stream = raw::send(port, bytes.as_bytes()).unwrap();
                let end = raw::read_to_end(&mut stream, Duration::from_secs(9));
                assert_ne!(end.how, How::StillOpen, "{what}");
            });
        }
    });
}

/// RFC 6455 section 5: a server fails such a connection; the close code is 1002.
fn frames_against_the_rules_are_refused(kind: Kind) {
    let server = server(kind);
    for (what, frame) in [
        ("not masked", &[0x82, 1, 7][..]),
        ("a reserved bit", &[0xc2, 0x81, 0, 0, 0, 0, 7]),
        ("an unknown opcode", &[0x83, 0x81, 0, 0, 0, 0, 7]),
        ("a continuation of nothing", &[0x80, 0x81, 0, 0, 0, 0, 7]),
        ("a fragmented ping", &[0x09, 0x80, 0, 0, 0, 0]),
        ("a length with its highest bit", &[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ] {
        let mut stream = raw::send(server.port, raw::upgrade("/ray", "").as_bytes()).unwrap();
        assert!(apps::read_head(&mut stream).unwrap().starts_with("HTTP/1.1 101 "));
        stream.write_all(frame).unwrap();
        let end = raw::read_to_end(&mut stream, Duration::from_millis(1500));
        assert_ne!(end.how, How::StillOpen, "{what}");
        assert!(end.bytes.len() >= 4 && end.bytes[0] == 0x88, "{what}: {:?}", end.bytes);
        assert_eq!(end.bytes[2..4], 1002_u16.to_be_bytes(), "{what}");
    }
}

fn a_hundred_silent_connections_do_not_keep_a_user_out(kind: Kind) {
    let origin = Origin::start();
    let link = Link::default();
    let server = Server::start(kind, &link);
    let silent: Vec<TcpStream> =
        (0..100).map(|_| raw::send(server.port, raw::upgrade("/ray", "").as_bytes()).unwrap()).collect();
    let client = Client::start(kind, &link, server.port);
    let start = Instant::now();
    apps::check_echo(&apps::socks5(client.socks, origin.address.into(), None).unwrap()).unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "took {:?}", start.elapsed());
    drop(silent);
}

#[test]
fn a_client_with_a_wrong_id_gets_nothing() {
    if let Some(reason) = support::node::missing("v2ray-4.45") {
        skip!(reason);
    }
    let origin = Origin::start();
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let client = Client::start(Kind::V2Ray445, &Link { id: support::random_id(), ..link }, server.port);
    if let Ok(stream) = apps::socks5(client.socks, origin.address.into(), None) {
        assert!(apps::check_echo(&stream).is_err());
    }
    assert_eq!(origin.connections(), 0);
}

/// Sixteen connections, each with a frame that is said to have 2^62 bytes, of which 1 MiB comes.
fn a_frame_costs_what_has_come_of_it_and_not_what_it_declares(kind: Kind) {
    let server = Server::start_with(kind, &Link { handshake: 30, ..Link::default() }, |_| {});
    let upgraded = || {
        let mut stream = raw::send(server.port, raw::upgrade("/ray", "").as_bytes()).unwrap();
        assert!(apps::read_head(&mut stream).unwrap().starts_with("HTTP/1.1 101 "));
        stream
    };
    drop(upgraded());
    let before = server.node.resident_kib();
    let streams: Vec<TcpStream> = (0..16)
        .map(|_| {
            let mut stream = upgraded();
            stream.write_all(&[0x82, 0xff]).unwrap();
            stream.write_all(&(1_u64 << 62).to_be_bytes()).unwrap();
            stream.write_all(&[0; 4]).unwrap();
            for _ in 0..64 {
                stream.write_all(&[0x5a; 16 * 1024]).unwrap();
            }
            stream
        })
        .collect();
    let grown = server.node.resident_kib().saturating_sub(before);
    assert!(grown < 4096, "{grown} KiB for 16 MiB that came");
    // The frame's length is none that is refused: they are read on like any stranger's.
    for mut stream in streams {
        assert_eq!(raw::read_to_end(&mut stream, Duration::from_millis(10)).how, How::StillOpen);
    }
}
