//! Behind front ends: nginx that does the TLS, `HAProxy` that sends the PROXY protocol.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use std::io::Write;

use serde_json::json;
use support::{
    apps::{self, Target},
    config::{Early, Link, Tls},
    front,
    node::{Client, Kind, Pair, Server, missing},
    origin::{Origin, hash_of, pattern},
    pair, raw, skip,
};

macro_rules! front_end_pairs {
    ($($test:ident),+ $(,)?) => {
        pair!(wsray_to_wsray: Wsray => Wsray, #[cfg(test)], [$($test),+]);
        pair!(v2ray_4_45_to_wsray: V2Ray445 => Wsray, #[cfg(test)], [$($test),+]);
        pair!(sing_box_to_wsray: SingBox => Wsray, #[cfg(test)], [$($test),+]);
        pair!(wsray_to_v2ray_4_45: Wsray => V2Ray445, #[cfg(test)], [$($test),+]);
        pair!(v2ray_4_45_to_v2ray_4_45: V2Ray445 => V2Ray445, #[cfg(feature = "peers-only")], [$($test),+]);
    };
}

front_end_pairs![nginx_with_the_block_of_the_documents_passes_data, nginx_passes_every_kind_of_early_data];

fn nginx_with_the_block_of_the_documents_passes_data(pair: Pair) {
    if let Some(reason) = missing("nginx") {
        skip!(reason);
    }
    behind_nginx(pair, Early::None);
}

/// A `location` without `=` matches as a prefix, so data behind the path gets through.
fn nginx_passes_every_kind_of_early_data(pair: Pair) {
    if let Some(reason) = missing("nginx") {
        skip!(reason);
    }
    for early in
        [Early::Path(2048), Early::Header("Sec-WebSocket-Protocol", 2048), Early::Header("X-Ed", 2048)]
    {
        behind_nginx(pair, early);
    }
}

fn behind_nginx(pair: Pair, early: Early) {
    const LENGTH: u64 = 2 << 20;
    let origin = Origin::start();
    let link = Link { early, ..Link::default() };
    let server = Server::start(pair.server, &link);
    let nginx = front::nginx(server.port);
    let client = Client::start(
        pair.client,
        &Link { tls: Tls::On, headers: vec![("Host", "example.test")], ..link },
        nginx.port,
    );
    let target = Target::Address(origin.address);
    let echoed = apps::socks5(client.socks, target, None).and_then(|stream| apps::check_echo(&stream));
    assert!(echoed.is_ok(), "{early:?}: {echoed:?}");
    let mut stream = apps::socks5(client.socks, target, None).unwrap();
    stream.write_all(format!("send {LENGTH} 9\n").as_bytes()).unwrap();
    let hash = hash_of(&mut std::io::Read::take(&stream, LENGTH)).unwrap();
    assert_eq!(hash, hash_of(&mut &pattern(LENGTH, 9)[..]).unwrap(), "{early:?}");
}

support::for_wsray![haproxy_tells_the_real_address_in_version_1, haproxy_tells_the_real_address_in_version_2];

fn haproxy_tells_the_real_address_in_version_1(kind: Kind) {
    behind_haproxy(kind, "send-proxy");
}

fn haproxy_tells_the_real_address_in_version_2(kind: Kind) {
    behind_haproxy(kind, "send-proxy-v2");
}

fn accepting_proxy_protocol(kind: Kind, link: &Link) -> Server {
    Server::start_with(kind, link, |config| {
        config["inbounds"][0]["streamSettings"]["wsSettings"]["acceptProxyProtocol"] = json!(true);
    })
}

fn behind_haproxy(server: Kind, send: &str) {
    if let Some(reason) = missing("haproxy").or_else(|| missing("v2ray-4.45")) {
        skip!(reason);
    }
    let origin = Origin::start();
    for tls in [Tls::Off, Tls::On] {
        let link = Link { tls, ..Link::default() };
        let server = accepting_proxy_protocol(server, &link);
        let haproxy = front::haproxy(server.port, send);
        let client = Client::start_with(Kind::V2Ray445, &link, haproxy.port, |config| {
            config["outbounds"][0]["sendThrough"] = json!("127.0.0.77");
        });
        apps::check_echo(&apps::socks5(client.socks, origin.address.into(), None).unwrap()).unwrap();
        let line = server.node.log_line(&["accepted", &origin.address.to_string()]);
        assert!(line.contains(" 127.0.0.77:"), "{send}, {tls:?}: {line}");
    }
}

support::for_kind!(required: Wsray, #[cfg(test)], [
    a_missing_proxy_header_closes_the_connection,
    the_header_that_crashes_v2ray_is_refused,
    a_header_split_at_every_byte_is_read,
]);

const V1: &[u8] = b"PROXY TCP4 203.0.113.9 198.51.100.1 40001 443\r\n";

fn a_missing_proxy_header_closes_the_connection(kind: Kind) {
    let server = accepting_proxy_protocol(kind, &Link::default());
    let mut stream = raw::send(server.port, raw::upgrade("/ray", "").as_bytes()).unwrap();
    let end = raw::read_to_end(&mut stream, std::time::Duration::from_secs(7));
    assert_ne!(end.how, raw::How::StillOpen);
    assert!(!String::from_utf8_lossy(&end.bytes).contains(" 101 "), "served without the header");
    let line = server.node.log_line(&["PROXY"]);
    assert!(line.contains("127.0.0.1:"), "the line tells who: {line}");
    let good = [V1, raw::upgrade("/ray", "").as_bytes()].concat();
    assert!(raw::ask(server.port, &good).unwrap().starts_with("HTTP/1.1 101 "));
}

fn the_header_that_crashes_v2ray_is_refused(kind: Kind) {
    let mut server = accepting_proxy_protocol(kind, &Link::default());
    for family in [0x10, 0x13, 0x20, 0x23] {
        let signature = b"\r\n\r\n\0\r\nQUIT\n";
        let body = [127, 0, 0, 1, 127, 0, 0, 1, 0x9c, 0x41, 1, 0xbb];
        let header = [&signature[..], &[0x21, family, 0, 12], &body].concat();
        let mut stream =
            raw::send(server.port, &[&header[..], raw::upgrade("/ray", "").as_bytes()].concat()).unwrap();
        let end = raw::read_to_end(&mut stream, std::time::Duration::from_secs(7));
        assert!(!String::from_utf8_lossy(&end.bytes).contains(" 101 "), "family {family:#04x} served");
        assert!(server.node.is_running(), "family {family:#04x}");
    }
    let good = [V1, raw::upgrade("/ray", "").as_bytes()].concat();
    assert!(raw::ask(server.port, &good).unwrap().starts_with("HTTP/1.1 101 "));
}

fn a_header_split_at_every_byte_is_read(kind: Kind) {
    let server = accepting_proxy_protocol(kind, &Link::default());
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    v2.extend([203, 0, 113, 9, 198, 51, 100, 1, 0x9c, 0x41, 1, 0xbb]);
    for header in [V1, &v2] {
        let mut stream = apps::connect(server.port).unwrap();
        for byte in header {
            stream.write_all(&[*byte]).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        stream.write_all(raw::upgrade("/ray", "").as_bytes()).unwrap();
        assert!(apps::read_head(&mut stream).unwrap().starts_with("HTTP/1.1 101 "));
    }
}
