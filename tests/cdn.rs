//! Behind a CDN: its habits are survived, or explained.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use support::{
    apps,
    cdn::{Answer, Cdn, Frames, Habits, Heads, Side},
    config::{Early, Link},
    node::{Client, Kind, Pair, Server},
    origin::{Origin, hash_of, pattern},
    pair, raw, within,
};

pair!(wsray_to_wsray: Wsray => Wsray, #[cfg(test)], [stream_survives_what_is_done_to_heads_and_frames]);
pair!(v2ray_4_45_to_wsray: V2Ray445 => Wsray, #[cfg(test)], [stream_survives_what_is_done_to_heads_and_frames]);
pair!(wsray_to_v2ray_4_45: Wsray => V2Ray445, #[cfg(test)], [stream_survives_what_is_done_to_heads_and_frames]);

fn open(client: &Client, origin: &Origin) -> TcpStream {
    apps::socks5(client.socks, origin.address.into(), None).unwrap()
}

fn check(client: &Client, origin: &Origin) -> std::io::Result<()> {
    apps::check_echo(&apps::socks5(client.socks, origin.address.into(), None)?)
}

fn stream_survives_what_is_done_to_heads_and_frames(pair: Pair) {
    const LENGTH: u64 = 1 << 20;
    let origin = Origin::start();
    for frames in [Frames::AsTheyAre, Frames::Rechunked, Frames::Merged, Frames::FragmentedWithPings] {
        let link = Link { early: Early::Header("Sec-WebSocket-Protocol", 2048), ..Link::default() };
        let server = Server::start(pair.server, &link);
        let cdn = Cdn::before(server.port, Habits { heads: Heads::Rewritten, frames, ..Habits::default() });
        let client = Client::start(pair.client, &link, cdn.port);
        let mut up = open(&client, &origin);
        let bytes = pattern(LENGTH, 4);
        let hash = hash_of(&mut &bytes[..]).unwrap();
        up.write_all(&[format!("take {LENGTH}\n").as_bytes(), &bytes].concat()).unwrap();
        let mut answer = [0; 64];
        up.read_exact(&mut answer).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), hash, "{frames:?}: up");
        let mut down = open(&client, &origin);
        down.write_all(format!("send {LENGTH} 4\n").as_bytes()).unwrap();
        assert_eq!(hash_of(&mut Read::take(&down, LENGTH)).unwrap(), hash, "{frames:?}: down");
        if pair.server == Kind::Wsray {
            // The CDN is on this machine, and believed about its last hop, whatever stands left of that.
            server.node.log_line(&["accepted", " 203.0.113.7:0 "]);
            assert!(!server.node.log().contains("198.51.100.66"));
        }
    }
}

/// A client with this heartbeat behind a CDN that cuts what is idle for two seconds.
fn impatient(heartbeat: u32) -> (Server, Client) {
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let habits = Habits { idle: Some(Duration::from_secs(2)), ..Habits::default() };
    let cdn = Cdn::before(server.port, habits);
    let client = Client::start_with(Kind::Wsray, &link, cdn.port, |config| {
        config["outbounds"][0]["streamSettings"]["wsSettings"]["heartbeatPeriod"] = json!(heartbeat);
    });
    (server, client)
}

#[test]
fn idle_tunnel_outlives_the_cdns_patience_by_pings() {
    let (_server, client) = impatient(1);
    let origin = Origin::start();
    let mut stream = open(&client, &origin);
    apps::check_echo(&stream).unwrap();
    thread::sleep(Duration::from_secs(5));
    stream.write_all(b"still here").unwrap();
    assert_eq!(apps::read_array(&mut stream).unwrap(), *b"still here");
}

#[test]
fn idle_tunnel_without_pings_is_cut_and_the_log_says_so() {
    let (_server, client) = impatient(0);
    let mut stream = open(&client, &Origin::start());
    apps::check_echo(&stream).unwrap();
    let end = raw::read_to_end(&mut stream, Duration::from_secs(8));
    assert_eq!(end.how, raw::How::Reset, "{end:?}");
    client.node.log_line(&["ended after", "cut on the outbound's side", "in the middle of the stream"]);
}

/// What a client says of a CDN that answers this; its application has been refused.
fn said_of(answer: Answer, parts: &[&str]) -> String {
    let cdn = Cdn::before(1, Habits { answer, ..Habits::default() });
    let client = Client::start(Kind::Wsray, &Link::default(), cdn.port);
    let asked = check(&client, &Origin::start());
    assert!(asked.is_err(), "{answer:?}");
    client.node.log_line(parts)
}

#[test]
fn pages_are_explained() {
    let page = |head: &'static str, parts: &[&str]| {
        let line = said_of(Answer::Page(head.as_bytes()), parts);
        assert!(line.contains("[Warning]"), "{line}");
        line
    };
    page(
        "HTTP/1.1 403 Forbidden\r\nServer: cloudflare\r\nContent-Type: text/html\r\n\r\n<title>Attention Required!</title>",
        &["answered 403 Forbidden", "Server: cloudflare", "Attention Required!", "firewall"],
    );
    for (status, what) in [
        ("502 Bad Gateway", "behind"),
        ("520 Web Server Returned an Unknown Error", "CDN"),
        ("521 Web Server Is Down", "CDN"),
        ("522 Connection Timed Out", "CDN"),
        ("525 SSL Handshake Failed", "CDN"),
        ("526 Invalid SSL Certificate", "CDN"),
        ("530 Origin DNS Error", "CDN"),
    ] {
        let text = format!("HTTP/1.1 {status}\r\nServer: cloudflare\r\nContent-Length: 9\r\n\r\nfrom edge");
        page(text.leak(), &[&format!("answered {status}"), "Server: cloudflare", "from edge", what]);
    }
    page(
        "HTTP/1.1 200 OK\r\nServer: cloudflare\r\n\r\n<!DOCTYPE html><title>Just a moment...</title>",
        &["answered 200 OK", "Just a moment...", "("],
    );
    page(
        "HTTP/1.1 301 Moved Permanently\r\nLocation: https://www.example.net/ray\r\nContent-Length: 0\r\n\r\n",
        &["answered 301", "Location: https://www.example.net/ray", "TLS"],
    );
    page(
        "HTTP/1.1 302 Found\r\nLocation: http://login.example.net/portal\r\nContent-Length: 0\r\n\r\n",
        &["answered 302", "http://login.example.net/portal", "("],
    );
    page(
        "HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nhello from 1.0",
        &["answered 200 OK", "hello from 1.0", "("],
    );
}

/// Made by gzip of "<html><h1>Forbidden by policy</h1></html>".
const GZIPPED: &[u8] = b"HTTP/1.1 403 Forbidden\r\nServer: cloudflare\r\nContent-Encoding: gzip\r\n\r\n\
    \x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xb3\xc9\x28\xc9\xcd\xb1\xb3\xc9\x30\xb4\x73\xcb\x2f\x4a\xca\x4c\x49\x49\xcd";

#[test]
fn compressed_page_is_named_as_such() {
    let line = said_of(Answer::Page(GZIPPED), &["answered 403 Forbidden", "Server: cloudflare"]);
    assert!(line.contains("compressed") && !line.contains("\\u{1f}"), "{line}");
}

#[test]
fn answer_that_closes_is_explained() {
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let cdn = Cdn::before(server.port, Habits { answer: Answer::Closing, ..Habits::default() });
    let client = Client::start(Kind::Wsray, &link, cdn.port);
    check(&client, &Origin::start()).unwrap_err();
    client.node.log_line(&["Connection header is \"close\"", "rewrites"]);
}

#[test]
fn cdn_that_asks_in_http_1_0_is_explained_on_both_ends() {
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let cdn = Cdn::before(server.port, Habits { heads: Heads::Old, ..Habits::default() });
    let client = Client::start(Kind::Wsray, &link, cdn.port);
    check(&client, &Origin::start()).unwrap_err();
    server.node.log_line(&["header Upgrade is missing", "proxy_http_version 1.1"]);
    client.node.log_line(&["answered 400 Bad Request", "("]);
}

/// As long as the server's own patience with a client that says nothing yet.
#[test]
fn late_101_is_waited_for() {
    let link = Link { handshake: 8, early: Early::Header("Sec-WebSocket-Protocol", 2048), ..Link::default() };
    let server = Server::start(Kind::Wsray, &link);
    let late = Answer::Late(Duration::from_secs(5));
    let cdn = Cdn::before(server.port, Habits { answer: late, ..Habits::default() });
    let client = Client::start(Kind::Wsray, &link, cdn.port);
    let start = Instant::now();
    check(&client, &Origin::start()).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(5));
}

#[test]
fn answer_that_never_comes_is_given_up_and_told() {
    let line = said_of(Answer::Never, &["the upgrade took longer than 8 s"]);
    assert!(line.contains("[Warning]"), "{line}");
}

/// Wherever the bit is, in a frame's head, in a chunk's, or in its content.
#[test]
fn flipped_bit_never_reaches_an_application() {
    let (origin, link) = (Origin::start(), Link::default());
    let server = Server::start(Kind::Wsray, &link);
    thread::scope(|scope| {
        for at in [0, 1, 2, 5, 42, 100, 5_000, 18_433, 200_000] {
            for side in [Side::Client, Side::Server] {
                let (origin, link, server) = (&origin, &link, server.port);
                scope.spawn(move || {
                    let cdn = Cdn::before(server, Habits { flip: Some((side, at)), ..Habits::default() });
                    let client = Client::start(Kind::Wsray, link, cdn.port);
                    check_damaged(open(&client, origin), side, at);
                });
            }
        }
    });
}

fn check_damaged(mut stream: TcpStream, side: Side, at: usize) {
    const LENGTH: u64 = 400_000;
    let bytes = pattern(LENGTH, 6);
    let mut got = Vec::new();
    let outcome = if side == Side::Server {
        stream.write_all(format!("give {LENGTH} 6\n").as_bytes()).and_then(|()| stream.read_to_end(&mut got))
    } else {
        let sent = stream.write_all(&[format!("take {LENGTH}\n").as_bytes(), &bytes].concat());
        sent.and_then(|()| stream.read_to_end(&mut got))
    };
    assert!(side == Side::Server || got.is_empty(), "byte {at} of the client: the origin took it for whole");
    assert!(bytes.starts_with(&got), "byte {at} of the server: damage was delivered");
    let kind = outcome.map_err(|error| error.kind());
    let cut = [Err(ErrorKind::ConnectionReset), Err(ErrorKind::BrokenPipe)];
    assert!(cut.contains(&kind), "byte {at}, {side:?}: {kind:?} after {} bytes", got.len());
}

#[test]
fn storm_of_cuts_resets_every_application_and_leaves_nothing_behind() {
    let (origin, link) = (Origin::start(), Link::default());
    let server = Server::start(Kind::Wsray, &link);
    let cdn = Cdn::before(server.port, Habits::default());
    let client = Client::start(Kind::Wsray, &link, cdn.port);
    check(&client, &origin).unwrap();
    let settled = |files: usize| files <= 24;
    let before = [client.node.open_files(), server.node.open_files()];
    assert!(before.into_iter().all(settled), "{before:?}");
    for _ in 0..3 {
        let tunnels: Vec<_> = (0..60).map(|_| open(&client, &origin)).collect();
        for tunnel in &tunnels {
            apps::check_echo(tunnel).unwrap();
        }
        assert!(client.node.open_files() > 120, "two sockets a tunnel");
        assert!(cdn.cut_all() >= 120);
        let cut = Instant::now();
        for mut tunnel in tunnels {
            let end = raw::read_to_end(&mut tunnel, Duration::from_secs(5));
            assert_eq!(end.how, raw::How::Reset);
        }
        check(&client, &origin).unwrap();
        assert!(cut.elapsed() < Duration::from_secs(3), "{:?}", cut.elapsed());
    }
    for node in [&client.node, &server.node] {
        let left = within(Duration::from_secs(5), || settled(node.open_files()).then_some(()));
        assert!(left.is_some(), "{} files are open", node.open_files());
    }
}

/// Round trips of 64 bytes, for so long; sorted.
fn round_trips(mut tunnel: &TcpStream, during: Duration) -> Vec<Duration> {
    let start = Instant::now();
    let mut times = Vec::new();
    while start.elapsed() < during {
        let asked = Instant::now();
        tunnel.write_all(&[b'x'; 64]).unwrap();
        tunnel.read_exact(&mut [0; 64]).unwrap();
        times.push(asked.elapsed());
        thread::sleep(Duration::from_millis(20));
    }
    times.sort();
    times
}

/// Half and nearly all of the round trips beside four downloads over a link of 2 MB/s.
fn beside_bulk(mux: bool) -> [Duration; 2] {
    let (origin, link) = (Origin::start(), Link::default());
    let server = Server::start(Kind::Wsray, &link);
    let cdn = Cdn::before(server.port, Habits { rate: Some(2_000_000), ..Habits::default() });
    let client = Client::start_with(Kind::Wsray, &link, cdn.port, |config| {
        config["outbounds"][0]["mux"] = json!({ "enabled": mux, "concurrency": 16 });
    });
    let quiet = open(&client, &origin);
    apps::check_echo(&quiet).unwrap();
    for _ in 0..4 {
        let mut bulk = open(&client, &origin);
        bulk.write_all(b"send 40000000 1\n").unwrap();
        thread::spawn(move || drop(hash_of(&mut bulk)));
    }
    thread::sleep(Duration::from_millis(700));
    let times = round_trips(&quiet, Duration::from_secs(3));
    [times[times.len() / 2], times[times.len() * 95 / 100]]
}

#[test]
fn separate_tunnels_answer_beside_bulk_on_a_slow_link() {
    let [half, most] = beside_bulk(false);
    assert!(half < Duration::from_millis(250) && most < Duration::from_millis(500), "{half:?} {most:?}");
}

#[test]
fn shared_tunnel_answers_beside_bulk_on_a_slow_link() {
    let [half, most] = beside_bulk(true);
    // Without the limit on what waits in the kernel it takes three seconds and more; without overtaking, twice as long.
    assert!(half < Duration::from_millis(600) && most < Duration::from_millis(1200), "{half:?} {most:?}");
}
