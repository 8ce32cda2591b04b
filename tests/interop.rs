//! Carrying TCP between wsray and real peers, in both roles.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use std::io::{Read, Write};

use support::{
    apps::{self, Target},
    config::{Link, Tls, Transport},
    node::{Kind, Pair},
    origin::{Origin, hash_of, pattern},
    pairs,
};

pairs![
    every_security_carries_data_over_ws,
    every_security_carries_data_over_wss,
    tcp_without_websocket_carries_data,
    bulk_arrives_whole_both_ways,
    twenty_parallel_downloads_arrive_whole,
    ipv6_and_domain_targets_are_reached,
    every_kind_of_proxy_request_is_served,
    configured_headers_and_host_are_sent,
];

/// The `security` values both ends know. V2Ray 4.34 takes `zero` for `auto`: it came with 4.35. Xray 26.7 knows neither
/// `none` nor `zero` any more.
fn securities(pair: Pair) -> Vec<&'static str> {
    let mut all = vec!["aes-128-gcm", "chacha20-poly1305", "auto"];
    if !pair.has(Kind::Xray) {
        all.push("none");
        if !pair.has(Kind::V2Ray434) {
            all.push("zero");
        }
    }
    all
}

fn every_security_carries_data_over_ws(pair: Pair) {
    every_security(pair, &Link::default());
}

fn every_security_carries_data_over_wss(pair: Pair) {
    every_security(pair, &Link { tls: Tls::On, ..Link::default() });
}

fn tcp_without_websocket_carries_data(pair: Pair) {
    every_security(pair, &Link { transport: Transport::Tcp, ..Link::default() });
}

fn every_security(pair: Pair, link: &Link) {
    let origin = Origin::start();
    for security in securities(pair) {
        let (_server, client) = pair.start(&Link { security, ..link.clone() });
        let echoed =
            apps::socks5(client.socks, origin.address.into(), None).and_then(|s| apps::check_echo(&s));
        assert!(echoed.is_ok(), "{security}: echo: {echoed:?}");
        let page = apps::http_get(client.http, origin.address.into(), None);
        assert!(page.as_ref().is_ok_and(|page| page.contains("GET /page?q=1")), "{security}: {page:?}");
    }
}

fn bulk_arrives_whole_both_ways(pair: Pair) {
    const LENGTH: u64 = 8 << 20;
    let origin = Origin::start();
    let (_server, client) = pair.start(&Link { tls: Tls::On, ..Link::default() });

    let mut upload = apps::socks5(client.socks, origin.address.into(), None).unwrap();
    let bytes = pattern(LENGTH, 7);
    upload.write_all(format!("take {LENGTH}\n").as_bytes()).unwrap();
    upload.write_all(&bytes).unwrap();
    let mut hash = [0; 64];
    upload.read_exact(&mut hash).unwrap();
    assert_eq!(String::from_utf8_lossy(&hash), hash_of(&mut &bytes[..]).unwrap(), "upload");

    assert_eq!(download(client.socks, &origin, LENGTH, 8), hash_of(&mut &pattern(LENGTH, 8)[..]).unwrap());
}

/// The hash of `length` bytes got through the proxy; the origin keeps the connection open until we have them.
fn download(socks: u16, origin: &Origin, length: u64, seed: u64) -> String {
    let mut stream = apps::socks5(socks, origin.address.into(), None).unwrap();
    stream.write_all(format!("send {length} {seed}\n").as_bytes()).unwrap();
    hash_of(&mut (&stream).take(length)).unwrap_or_else(|error| format!("cut: {error}"))
}

fn twenty_parallel_downloads_arrive_whole(pair: Pair) {
    const LENGTH: u64 = 2_000_000;
    if (pair.client, pair.server) == (Kind::V2Ray445, Kind::SingBox) {
        return; // V2Ray drops what it has not delivered when sing-box closes without the end mark.
    }
    let origin = Origin::start();
    let (_server, client) = pair.start(&Link::default());
    let results: Vec<(u64, u64, String)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..20)
            .map(|seed| {
                let (origin, socks) = (&origin, client.socks);
                scope.spawn(move || {
                    let mut stream = apps::socks5(socks, origin.address.into(), None).unwrap();
                    stream.write_all(format!("give {LENGTH} {seed}\n").as_bytes()).unwrap();
                    let mut bytes = Vec::new();
                    let end = stream.read_to_end(&mut bytes).err();
                    let hash = hash_of(&mut &bytes[..]).unwrap();
                    (seed, bytes.len() as u64, end.map_or(hash, |error| format!("cut: {error}")))
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let broken: Vec<_> = results
        .iter()
        .filter(|(seed, _, hash)| *hash != hash_of(&mut &pattern(LENGTH, *seed)[..]).unwrap())
        .collect();
    assert!(
        broken.is_empty(),
        "{} of 20 downloads of {LENGTH} bytes are not whole: {broken:?}",
        broken.len()
    );
}

fn ipv6_and_domain_targets_are_reached(pair: Pair) {
    let (v4, v6) = (Origin::start(), Origin::start_v6());
    let (_server, client) = pair.start(&Link::default());
    for target in [Target::Address(v6.address), Target::Name("localhost", v4.port())] {
        let echoed = apps::socks5(client.socks, target, None).and_then(|stream| apps::check_echo(&stream));
        assert!(echoed.is_ok(), "{target}: {echoed:?}");
        let echoed =
            apps::http_connect(client.http, target, None).and_then(|stream| apps::check_echo(&stream));
        assert!(echoed.is_ok(), "CONNECT {target}: {echoed:?}");
    }
}

fn every_kind_of_proxy_request_is_served(pair: Pair) {
    let origin = Origin::start();
    let (_server, client) = pair.start(&Link::default());
    let check = |what: &str, stream: std::io::Result<std::net::TcpStream>| {
        let echoed = stream.and_then(|stream| apps::check_echo(&stream));
        assert!(echoed.is_ok(), "{what}: {echoed:?}");
    };
    check("SOCKS 5", apps::socks5(client.socks, origin.address.into(), None));
    check("SOCKS 4", apps::socks4(client.socks, origin.address));
    check("SOCKS 4a", apps::socks4a(client.socks, "localhost", origin.port()));
    check("CONNECT", apps::http_connect(client.http, origin.address.into(), None));
    let page = apps::http_get(client.http, Target::Name("localhost", origin.port()), None).unwrap();
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(
        page.contains("GET /page?q=1 HTTP/1.1"),
        "the origin gets a path, not an absolute address: {page}"
    );
    let seen = page.split_once("\r\n\r\n").unwrap().1.to_lowercase();
    assert!(!seen.contains("proxy-connection"), "a header for the proxy alone went on: {page}");
}

fn configured_headers_and_host_are_sent(pair: Pair) {
    let link = Link {
        headers: vec![("Host", "www.example.test"), ("User-Agent", "Mozilla/5.0")],
        ..Link::default()
    };
    let server = support::node::Server::start(pair.server, &link);
    let tap = support::tap::Tap::before(server.port);
    let client = support::node::Client::start(pair.client, &link, tap.port);
    let origin = Origin::start();
    apps::check_echo(&apps::socks5(client.socks, origin.address.into(), None).unwrap()).unwrap();
    let head = tap.request_head(0);
    assert!(head.starts_with("GET /ray HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nHost: www.example.test"), "{head}");
    assert!(head.contains("\r\nUser-Agent: Mozilla/5.0"), "{head}");
    assert_eq!(head.matches("Host:").count(), 1, "{head}");
}
