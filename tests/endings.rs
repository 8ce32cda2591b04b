//! How streams end: half-closed, whole, cut or reset, and that an application can tell them apart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

use support::{
    apps,
    config::Link,
    node::{Client, Kind, Pair, Server},
    origin::{Origin, hash_of, pattern},
    pair, skip,
    tap::{Changes, Cut, Tap},
};

const WSRAY: Pair = Pair { client: Kind::Wsray, server: Kind::Wsray };

#[test]
fn an_answer_after_half_close_and_silence_arrives_whole() {
    let origin = Origin::start();
    for security in ["aes-128-gcm", "chacha20-poly1305", "none"] {
        let (_server, client) = WSRAY.start(&Link { security, ..Link::default() });
        std::thread::scope(|scope| {
            for silence in [0, 500, 2000, 4000] {
                let (origin, socks) = (&origin, client.socks);
                scope.spawn(move || late_answer(socks, origin, security, silence));
            }
        });
    }
}

fn late_answer(socks: u16, origin: &Origin, security: &str, silence: u64) {
    const LENGTH: u64 = 100_000;
    let question = pattern(50_000, silence);
    let mut stream = apps::socks5(socks, origin.address.into(), None).unwrap();
    stream.write_all(format!("late {silence} {LENGTH}\n").as_bytes()).unwrap();
    stream.write_all(&question).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    let end = stream.read_to_end(&mut answer);
    assert!(end.is_ok(), "{security}, {silence} ms: {end:?} after {} bytes", answer.len());
    assert_eq!(answer.len() as u64, 64 + LENGTH, "{security}, {silence} ms");
    assert_eq!(
        String::from_utf8_lossy(&answer[..64]),
        hash_of(&mut &question[..]).unwrap(),
        "the question is whole"
    );
    assert!(answer[64..] == pattern(LENGTH, 0), "{security}, {silence} ms: the answer differs");
}

macro_rules! v2ray_pairs {
    ($($test:ident),+ $(,)?) => {
        pair!(wsray_to_wsray: Wsray => Wsray, #[cfg(test)], [$($test),+]);
        pair!(wsray_to_v2ray_4_34: Wsray => V2Ray434, #[cfg(test)], [$($test),+]);
        pair!(wsray_to_v2ray_4_45: Wsray => V2Ray445, #[cfg(test)], [$($test),+]);
        pair!(v2ray_4_34_to_wsray: V2Ray434 => Wsray, #[cfg(test)], [$($test),+]);
        pair!(v2ray_4_45_to_wsray: V2Ray445 => Wsray, #[cfg(test)], [$($test),+]);
        pair!(wsray_to_v2ray_5: Wsray => V2Ray5, #[cfg(feature = "local-peers")], [$($test),+]);
        pair!(v2ray_5_to_wsray: V2Ray5 => Wsray, #[cfg(feature = "local-peers")], [$($test),+]);
        pair!(wsray_to_xray: Wsray => Xray, #[cfg(feature = "local-peers")], [$($test),+]);
        pair!(xray_to_wsray: Xray => Wsray, #[cfg(feature = "local-peers")], [$($test),+]);
        pair!(v2ray_4_45_to_v2ray_4_45: V2Ray445 => V2Ray445, #[cfg(feature = "peers-only")], [$($test),+]);
    };
}

v2ray_pairs![an_echo_after_half_close_arrives_whole];

/// As much as V2Ray can do; sing-box gives up the whole connection.
fn an_echo_after_half_close_arrives_whole(pair: Pair) {
    let origin = Origin::start();
    let (_server, client) = pair.start(&Link::default());
    let text = pattern(1000, 1);
    let mut stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
    stream.write_all(&[b"echo\n", &text[..]].concat()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer == text, "{} of {} bytes", answer.len(), text.len());
}

pair!(from_wsray: Wsray => Wsray, #[cfg(test)], [
    a_stream_cut_by_a_middle_box_is_no_clean_end, a_killed_server_is_no_clean_end, an_end_of_the_origin_is_a_clean_end]);
pair!(from_v2ray_4_45: Wsray => V2Ray445, #[cfg(test)], [
    a_stream_cut_by_a_middle_box_is_no_clean_end, a_killed_server_is_no_clean_end, an_end_of_the_origin_is_a_clean_end]);
pair!(from_sing_box: Wsray => SingBox, #[cfg(test)], [
    a_stream_cut_by_a_middle_box_is_no_clean_end, a_killed_server_is_no_clean_end, an_end_of_the_origin_is_a_clean_end]);

fn an_end_of_the_origin_is_a_clean_end(pair: Pair) {
    let origin = Origin::start();
    let (_server, client) = pair.start(&Link::default());
    for length in [0, 1, 20_000, 300_000] {
        let mut stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
        stream.write_all(format!("give {length} 5\n").as_bytes()).unwrap();
        let mut answer = Vec::new();
        let end = stream.read_to_end(&mut answer);
        assert!(end.is_ok(), "{length} bytes: {end:?}");
        assert!(answer == pattern(length, 5), "{} of {length} bytes", answer.len());
    }
}

const ENDLESS: u64 = 256 << 20;
const STREAMS: usize = 5;

/// Streams in the middle of a long download.
fn running_downloads(client: &Client, origin: &Origin) -> Vec<TcpStream> {
    let start = |_| {
        let stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
        apps::ask(&stream, &format!("send {ENDLESS} 1"), 200_000).unwrap();
        stream
    };
    (0..STREAMS).map(start).collect()
}

fn check_not_clean(streams: Vec<TcpStream>, what: &str) {
    let start = Instant::now();
    for (index, mut stream) in streams.into_iter().enumerate() {
        let end = std::io::copy(&mut stream, &mut std::io::sink());
        let kind = end.as_ref().err().map(std::io::Error::kind);
        assert_eq!(kind, Some(ErrorKind::ConnectionReset), "{what}: stream {index} ended with {end:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{what}: took {:?}", start.elapsed());
}

fn a_stream_cut_by_a_middle_box_is_no_clean_end(pair: Pair) {
    let origin = Origin::start();
    for cut in [Cut::Fin, Cut::Reset] {
        let link = Link::default();
        let server = Server::start(pair.server, &link);
        let tap = Tap::before(server.port);
        let client = Client::start(pair.client, &link, tap.port);
        let streams = running_downloads(&client, &origin);
        tap.cut_all(cut);
        check_not_clean(streams, &format!("{cut:?}"));
    }
}

fn a_killed_server_is_no_clean_end(pair: Pair) {
    let origin = Origin::start();
    let (mut server, client) = pair.start(&Link::default());
    let streams = running_downloads(&client, &origin);
    server.node.kill();
    check_not_clean(streams, "killed");
}

/// V2Ray skips the chunk that does not open, and the application gets a stream with a hole.
#[test]
fn a_damaged_byte_ends_the_stream_as_cut_and_nothing_behind_it_is_delivered() {
    const LENGTH: u64 = 2 << 20;
    for server in [Kind::Wsray, Kind::V2Ray445, Kind::SingBox] {
        let pair = Pair { client: Kind::Wsray, server };
        if let Some(reason) = pair.missing() {
            skip!(reason);
        }
        let origin = Origin::start();
        let link = Link::default();
        let server = Server::start(server, &link);
        let tap = Tap::changing(server.port, Changes { damage: Some(300_000), ..Changes::default() });
        let client = Client::start(Kind::Wsray, &link, tap.port);
        let mut stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
        stream.write_all(format!("give {LENGTH} 1\n").as_bytes()).unwrap();
        let mut answer = Vec::new();
        let end = stream.read_to_end(&mut answer);
        assert_eq!(end.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset), "{pair:?}");
        assert!(answer.len() < 300_000, "{pair:?}: {} bytes", answer.len());
        assert!(pattern(LENGTH, 1).starts_with(&answer), "{pair:?}: what came before the damage differs");
    }
}

#[test]
fn a_reset_of_the_origin_is_a_reset_for_the_application() {
    let origin = Origin::start();
    let (_server, client) = WSRAY.start(&Link::default());
    for length in [0, 1000, 1_000_000] {
        let start = Instant::now();
        let mut stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
        stream.write_all(format!("reset {length}\n").as_bytes()).unwrap();
        let end = stream.read_to_end(&mut Vec::new());
        let kind = end.as_ref().err().map(std::io::Error::kind);
        assert_eq!(kind, Some(ErrorKind::ConnectionReset), "{length} bytes: {end:?}");
        assert!(start.elapsed() < Duration::from_secs(2), "{length} bytes: took {:?}", start.elapsed());
    }
}

#[test]
fn a_refused_target_ends_the_stream_soon() {
    let (_server, client) = WSRAY.start(&Link::default());
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], support::free_port()));
    let start = Instant::now();
    if let Ok(mut stream) = apps::socks5(client.socks, nobody.into(), None) {
        drop(stream.write_all(b"hello"));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        assert!(answer.is_empty());
    }
    assert!(start.elapsed() < Duration::from_secs(3), "took {:?}", start.elapsed());
}

/// sing-box sends no end mark; what it sent before its close frame has to arrive all the same.
#[test]
fn small_answers_of_sing_box_arrive_whole() {
    let pair = Pair { client: Kind::Wsray, server: Kind::SingBox };
    if let Some(reason) = pair.missing() {
        skip!(reason);
    }
    let origin = Origin::start();
    for security in ["aes-128-gcm", "none", "zero"] {
        let (_server, client) = pair.start(&Link { security, ..Link::default() });
        for round in 0..20 {
            let mut stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
            stream.write_all(format!("give 20000 {round}\n").as_bytes()).unwrap();
            let mut answer = Vec::new();
            let end = stream.read_to_end(&mut answer);
            assert!(answer == pattern(20_000, round), "{security}, {round}: {} bytes, {end:?}", answer.len());
        }
    }
}
