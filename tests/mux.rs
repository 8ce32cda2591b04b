//! Mux.Cool: many sessions in one connection, from real clients.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use std::{
    io::{Read, Write},
    thread,
    time::Duration,
};

use serde_json::json;
use support::{
    apps::{self, Association},
    config::Link,
    node::{Client, Kind, Pair, Server},
    origin::{Origin, UdpEcho, hash_of, pattern},
    tap::Tap,
    within,
};

/// A module for each pair that speaks Mux.Cool. The one without wsray tests the tests themselves.
macro_rules! all {
    ($($test:ident),+ $(,)?) => {
        pairs!(v2ray_4_34_to_wsray: V2Ray434 => Wsray, #[cfg(test)], [$($test),+]);
        pairs!(v2ray_4_45_to_wsray: V2Ray445 => Wsray, #[cfg(test)], [$($test),+]);
        pairs!(wsray_to_wsray: Wsray => Wsray, #[cfg(test)], [$($test),+]);
        pairs!(wsray_to_v2ray_4_34: Wsray => V2Ray434, #[cfg(test)], [$($test),+]);
        pairs!(wsray_to_v2ray_4_45: Wsray => V2Ray445, #[cfg(test)], [$($test),+]);
        pairs!(wsray_to_sing_box: Wsray => SingBox, #[cfg(test)], [$($test),+]);
        pairs!(wsray_to_v2ray_5: Wsray => V2Ray5, #[cfg(feature = "local-peers")], [$($test),+]);
        pairs!(v2ray_5_to_wsray: V2Ray5 => Wsray, #[cfg(feature = "local-peers")], [$($test),+]);
        pairs!(wsray_to_xray: Wsray => Xray, #[cfg(feature = "local-peers")], [$($test),+]);
        pairs!(xray_to_wsray: Xray => Wsray, #[cfg(feature = "local-peers")], [$($test),+]);
        pairs!(
            v2ray_4_45_to_v2ray_4_45: V2Ray445 => V2Ray445, #[cfg(feature = "peers-only")], [$($test),+]);
    };
}

macro_rules! pairs {
    ($name:ident: $client:ident => $server:ident, #[$attribute:meta], [$($test:ident),+]) => {
        #[$attribute]
        mod $name {
            use crate::support::node::{Kind, Pair};
            $(
                #[test]
                fn $test() {
                    let pair = Pair { client: Kind::$client, server: Kind::$server };
                    if let Some(reason) = pair.missing() {
                        crate::support::skip!(reason);
                    }
                    super::$test(&super::Shared::start(pair));
                }
            )+
        }
    };
}

all![
    sessions_share_one_connection,
    bulk_arrives_whole_both_ways,
    an_origin_that_speaks_first_is_heard,
    packets_come_back,
    a_session_that_is_cut_leaves_the_others,
    sessions_end_with_their_connection,
];

/// What not every pair can do.
mod many {
    use super::{Shared, sixty_sessions_at_a_time_arrive_whole};

    pairs!(v2ray_4_34_to_wsray: V2Ray434 => Wsray, #[cfg(test)], [sixty_sessions_at_a_time_arrive_whole]);
    pairs!(v2ray_4_45_to_wsray: V2Ray445 => Wsray, #[cfg(test)], [sixty_sessions_at_a_time_arrive_whole]);
    pairs!(wsray_to_wsray: Wsray => Wsray, #[cfg(test)], [sixty_sessions_at_a_time_arrive_whole]);
    pairs!(wsray_to_sing_box: Wsray => SingBox, #[cfg(test)], [sixty_sessions_at_a_time_arrive_whole]);
    pairs!(wsray_to_v2ray_4_34: Wsray => V2Ray434, #[cfg(test)], [sixty_sessions_at_a_time_arrive_whole]);
    pairs!(wsray_to_v2ray_4_45: Wsray => V2Ray445, #[cfg(test)], [sixty_sessions_at_a_time_arrive_whole]);
    pairs!(
        wsray_to_v2ray_5: Wsray => V2Ray5, #[cfg(feature = "local-peers")], [sixty_sessions_at_a_time_arrive_whole]);
    pairs!(
        v2ray_5_to_wsray: V2Ray5 => Wsray, #[cfg(feature = "local-peers")], [sixty_sessions_at_a_time_arrive_whole]);
    pairs!(
        wsray_to_xray: Wsray => Xray, #[cfg(feature = "local-peers")], [sixty_sessions_at_a_time_arrive_whole]);
    pairs!(
        xray_to_wsray: Xray => Wsray, #[cfg(feature = "local-peers")], [sixty_sessions_at_a_time_arrive_whole]);
}

mod deaf_origin {
    use super::{Shared, a_session_whose_origin_reads_nothing_does_not_stop_the_others};

    // Our own servers only: the others let all sessions wait.
    pairs!(
        v2ray_4_34_to_wsray: V2Ray434 => Wsray, #[cfg(test)],
        [a_session_whose_origin_reads_nothing_does_not_stop_the_others]);
    pairs!(
        v2ray_4_45_to_wsray: V2Ray445 => Wsray, #[cfg(test)],
        [a_session_whose_origin_reads_nothing_does_not_stop_the_others]);
    pairs!(
        wsray_to_wsray: Wsray => Wsray, #[cfg(test)],
        [a_session_whose_origin_reads_nothing_does_not_stop_the_others]);
}

mod half_close {
    use super::{Shared, a_half_closed_session_gets_its_answer, an_answer_comes_behind_half_a_close};

    // V2Ray passes no half of a close on, so that its targets are never told.
    pairs!(
        wsray_to_wsray: Wsray => Wsray, #[cfg(test)],
        [a_half_closed_session_gets_its_answer, an_answer_comes_behind_half_a_close]);
    // Its clients listen no more.
    pairs!(wsray_to_v2ray_4_34: Wsray => V2Ray434, #[cfg(test)], [an_answer_comes_behind_half_a_close]);
    pairs!(wsray_to_v2ray_4_45: Wsray => V2Ray445, #[cfg(test)], [an_answer_comes_behind_half_a_close]);
    pairs!(wsray_to_sing_box: Wsray => SingBox, #[cfg(test)], [an_answer_comes_behind_half_a_close]);
    pairs!(
        wsray_to_v2ray_5: Wsray => V2Ray5, #[cfg(feature = "local-peers")],
        [an_answer_comes_behind_half_a_close]);
    pairs!(
        wsray_to_xray: Wsray => Xray, #[cfg(feature = "local-peers")], [an_answer_comes_behind_half_a_close]);
}

mod abandoned {
    use super::{Shared, a_download_that_nobody_wants_ends};

    // Between V2Ray and V2Ray it goes on.
    pairs!(v2ray_4_34_to_wsray: V2Ray434 => Wsray, #[cfg(test)], [a_download_that_nobody_wants_ends]);
    pairs!(v2ray_4_45_to_wsray: V2Ray445 => Wsray, #[cfg(test)], [a_download_that_nobody_wants_ends]);
    pairs!(wsray_to_wsray: Wsray => Wsray, #[cfg(test)], [a_download_that_nobody_wants_ends]);
    pairs!(wsray_to_v2ray_4_34: Wsray => V2Ray434, #[cfg(test)], [a_download_that_nobody_wants_ends]);
    pairs!(wsray_to_v2ray_4_45: Wsray => V2Ray445, #[cfg(test)], [a_download_that_nobody_wants_ends]);
    pairs!(wsray_to_sing_box: Wsray => SingBox, #[cfg(test)], [a_download_that_nobody_wants_ends]);
    pairs!(
        wsray_to_v2ray_5: Wsray => V2Ray5, #[cfg(feature = "local-peers")], [a_download_that_nobody_wants_ends]);
    pairs!(
        v2ray_5_to_wsray: V2Ray5 => Wsray, #[cfg(feature = "local-peers")], [a_download_that_nobody_wants_ends]);
    pairs!(wsray_to_xray: Wsray => Xray, #[cfg(feature = "local-peers")], [a_download_that_nobody_wants_ends]);
    pairs!(xray_to_wsray: Xray => Wsray, #[cfg(feature = "local-peers")], [a_download_that_nobody_wants_ends]);
}

/// A client with mux, and a wiretap before the server.
struct Shared {
    _server: Server,
    tap: Tap,
    client: Client,
    /// sing-box damages the answers of sessions that share a connection, which wsray then no longer does.
    shares: bool,
}

impl Shared {
    fn start(pair: Pair) -> Self {
        let link = Link::default();
        let server = Server::start(pair.server, &link);
        let tap = Tap::before(server.port);
        let client = Client::start_with(pair.client, &link, tap.port, |config| {
            config["outbounds"][0]["mux"] = json!({ "enabled": true, "concurrency": 128 });
        });
        Self { _server: server, tap, client, shares: pair.server != Kind::SingBox }
    }

    /// All sessions so far went over one connection, or may have needed more.
    fn check_shared(&self) {
        assert!(!self.shares || self.tap.count() == 1, "{} connections", self.tap.count());
    }

    fn connect(&self, origin: &Origin) -> std::net::TcpStream {
        apps::socks5(self.client.socks, origin.address.into(), None).unwrap()
    }
}

fn sessions_share_one_connection(shared: &Shared) {
    let origin = Origin::start();
    let streams: Vec<_> = (0..5).map(|_| shared.connect(&origin)).collect();
    for stream in &streams {
        apps::check_echo(stream).unwrap();
    }
    assert_eq!(shared.tap.count(), 1);
    assert_eq!(origin.connections(), 5);
}

fn sixty_sessions_at_a_time_arrive_whole(shared: &Shared) {
    const LENGTH: u64 = 300_000;
    let origin = Origin::start();
    // The first answer tells what server it is.
    apps::check_echo(&shared.connect(&origin)).unwrap();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..60)
            .map(|seed| {
                let origin = &origin;
                scope.spawn(move || {
                    let mut stream = shared.connect(origin);
                    stream.write_all(format!("give {LENGTH} {seed}\n").as_bytes()).unwrap();
                    let mut bytes = Vec::new();
                    stream.read_to_end(&mut bytes).map(|_| bytes == pattern(LENGTH, seed))
                })
            })
            .collect();
        for thread in threads {
            let whole = thread.join().unwrap();
            assert!(matches!(whole, Ok(true)), "{whole:?}");
        }
    });
}

fn bulk_arrives_whole_both_ways(shared: &Shared) {
    const LENGTH: u64 = 8 << 20;
    let origin = Origin::start();
    thread::scope(|scope| {
        let up = scope.spawn(|| {
            let mut stream = shared.connect(&origin);
            let bytes = pattern(LENGTH, 7);
            stream.write_all(format!("take {LENGTH}\n").as_bytes()).unwrap();
            stream.write_all(&bytes).unwrap();
            let mut hash = [0; 64];
            stream.read_exact(&mut hash).unwrap();
            assert_eq!(String::from_utf8_lossy(&hash), hash_of(&mut &bytes[..]).unwrap(), "upload");
        });
        let mut stream = shared.connect(&origin);
        stream.write_all(format!("send {LENGTH} 8\n").as_bytes()).unwrap();
        let hash = hash_of(&mut (&stream).take(LENGTH)).unwrap();
        assert_eq!(hash, hash_of(&mut &pattern(LENGTH, 8)[..]).unwrap(), "download");
        up.join().unwrap();
    });
    shared.check_shared();
}

fn an_origin_that_speaks_first_is_heard(shared: &Shared) {
    let origin = Origin::with_banner("220 ready\r\n");
    let mut stream = shared.connect(&origin);
    let mut banner = [0; 11];
    stream.read_exact(&mut banner).unwrap();
    assert_eq!(&banner, b"220 ready\r\n");
}

fn packets_come_back(shared: &Shared) {
    let origins = [UdpEcho::start(), UdpEcho::start()];
    let association = Association::open(shared.client.socks).unwrap();
    for round in 0..3 {
        for (seed, origin) in (1..).zip(&origins) {
            let payload = pattern(1000 + round, seed);
            let answer = association.round_trip(origin.address.into(), &payload).unwrap();
            assert_eq!(answer, payload);
        }
    }
}

fn a_half_closed_session_gets_its_answer(shared: &Shared) {
    let origin = Origin::start();
    let mut stream = shared.connect(&origin);
    stream.write_all(b"late 300 100000\nthe question").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.len(), 64 + 100_000);
}

/// V2Ray as a server gives up an answer that is silent for a second, and Xray every one, once they hear of an end.
fn an_answer_comes_behind_half_a_close(shared: &Shared) {
    let origin = Origin::start();
    // The first answer tells what server it is.
    apps::check_echo(&shared.connect(&origin)).unwrap();
    // sing-box passes the end on, which it gets after a second, but none back.
    let waits: &[u32] = if shared.shares { &[50, 2500] } else { &[50] };
    for wait in waits {
        let mut stream = shared.connect(&origin);
        stream.write_all(format!("later {wait} 100000 3\n").as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer == pattern(100_000, 3), "after {wait} ms {} bytes", answer.len());
    }
}

fn a_download_that_nobody_wants_ends(shared: &Shared) {
    let origin = Watched::start(Watched::write_all);
    let mut stream = apps::socks5(shared.client.socks, origin.address.into(), None).unwrap();
    stream.write_all(b"go").unwrap();
    stream.read_exact(&mut vec![0; 1 << 20]).unwrap();
    assert_eq!(origin.open(), 1);
    drop(stream);
    let ended = within(Duration::from_secs(8), || (origin.open() == 0).then_some(()));
    assert!(ended.is_some(), "the origin still sends");
    let kept = Origin::start();
    apps::check_echo(&shared.connect(&kept)).unwrap();
}

fn a_session_that_is_cut_leaves_the_others(shared: &Shared) {
    let origin = Origin::start();
    let kept = shared.connect(&origin);
    apps::check_echo(&kept).unwrap();
    let mut cut = shared.connect(&origin);
    cut.write_all(b"reset 10\n").unwrap();
    let mut bytes = Vec::new();
    // V2Ray passes a reset on as an end.
    drop(cut.read_to_end(&mut bytes));
    let mut left = &kept;
    left.write_all(b"still here").unwrap();
    let mut answer = [0; 10];
    left.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"still here");
    shared.check_shared();
}

fn a_session_whose_origin_reads_nothing_does_not_stop_the_others(shared: &Shared) {
    let deaf = Watched::start(Watched::wait);
    let origin = Origin::start();
    let other = shared.connect(&origin);
    apps::check_echo(&other).unwrap();
    other.set_read_timeout(Some(Duration::from_secs(25))).unwrap();
    let mut upload = apps::socks5(shared.client.socks, deaf.address.into(), None).unwrap();
    let stop = upload.try_clone().unwrap();
    let uploading = thread::spawn(move || (0..1024).try_for_each(|_| upload.write_all(&vec![0; 64 * 1024])));
    // More than every buffer on the way holds.
    thread::sleep(Duration::from_secs(2));
    let mut echo = &other;
    echo.write_all(b"still here").unwrap();
    let mut answer = [0; 10];
    echo.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"still here");
    drop(stop.shutdown(std::net::Shutdown::Both));
    drop(uploading.join());
}

fn sessions_end_with_their_connection(shared: &Shared) {
    let origin = Watched::start(Watched::read_all);
    let streams: Vec<_> =
        (0..20).map(|_| apps::socks5(shared.client.socks, origin.address.into(), None).unwrap()).collect();
    for mut stream in &streams {
        stream.write_all(b"hello").unwrap();
    }
    assert!(within(Duration::from_secs(5), || (origin.open() == 20).then_some(())).is_some());
    shared.tap.cut_all(support::tap::Cut::Reset);
    let ended = within(Duration::from_secs(1), || (origin.open() == 0).then_some(()));
    assert!(ended.is_some(), "{} are open a second later", origin.open());
}

/// A connection of Mux.Cool, written by hand, with this many sessions that each send a packet to `target`.
fn connection_with(sessions: u16, link: &Link, server: u16, target: u16) -> std::net::TcpStream {
    use wsray_vmess::{
        AesHardware, ChunkSealer, CmdKey, Command, Direction, HeaderEntropy, Network, Request, Secrets,
        SecurityChoice, outbound_options, seal_request,
    };
    let (security, options) = outbound_options(SecurityChoice::Aes128Gcm, Network::Tcp, AesHardware::Present);
    let mut body_key = [9; 16];
    body_key[..8].copy_from_slice(&support::random().to_be_bytes());
    let secrets = Secrets { body_key, body_iv: [8; 16], response_auth: 7 };
    let request = Request { secrets, options, security, command: Command::Mux };
    let mut entropy = [0; 28];
    entropy[..8].copy_from_slice(&support::random().to_be_bytes());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let key = CmdKey::new(&link.id.parse().unwrap());
    let mut wire = seal_request(&key, &request, &HeaderEntropy::from_random(entropy), now).unwrap();
    let mut sealer = ChunkSealer::new(&request, Direction::Request).unwrap();
    for id in 1..=sessions {
        let mut frame = vec![0, 12];
        frame.extend(id.to_be_bytes());
        frame.extend([1, 1, 2]);
        frame.extend(target.to_be_bytes());
        frame.extend([1, 127, 0, 0, 1, 0, 1, b'x']);
        let mut chunk = vec![0; 256];
        let start = sealer.head_len();
        chunk[start..start + frame.len()].copy_from_slice(&frame);
        let sealed = sealer.seal(&mut chunk, start..start + frame.len(), &[0; 64]).unwrap();
        wire.extend_from_slice(&chunk[sealed]);
    }
    let mut stream = apps::connect(server).unwrap();
    stream.write_all(&wire).unwrap();
    stream
}

#[test]
fn one_session_more_than_a_connection_or_a_user_may_have_is_refused_by_name() {
    let link = Link { transport: support::config::Transport::Tcp, ..Link::default() };
    let server = Server::start(Kind::Wsray, &link);
    let target = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    target.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let port = target.local_addr().unwrap().port();
    let mut sources = std::collections::HashSet::new();
    let mut seen_after = |wanted: usize| {
        while sources.len() < wanted
            && let Ok((_, source)) = target.recv_from(&mut [0])
        {
            sources.insert(source);
        }
        sources.len()
    };
    let mut held = vec![connection_with(257, &link, server.port, port)];
    server.node.log_line(&["[Warning]", "a connection has at most 256 multiplexed sessions at a time"]);
    assert_eq!(seen_after(256), 256);
    for count in 2..=8 {
        held.push(connection_with(256, &link, server.port, port));
        assert_eq!(seen_after(count * 256), count * 256);
    }
    held.push(connection_with(1, &link, server.port, port));
    server.node.log_line(&["[Warning]", "a user has at most 2048 multiplexed sessions at a time"]);
    assert_eq!(seen_after(2048), 2048);
    // Who ends some has room again.
    drop(held.remove(0));
    let room = within(Duration::from_secs(5), || {
        held.push(connection_with(1, &link, server.port, port));
        target.recv_from(&mut [0]).ok()
    });
    assert!(room.is_some());
}

/// One XUDP session of sing-box carries the packets to all targets, and each answer tells who gave it.
#[test]
fn xudp_reaches_several_targets() {
    let pair = Pair { client: Kind::SingBox, server: Kind::Wsray };
    if let Some(reason) = pair.missing() {
        support::skip!(reason);
    }
    let link = Link::default();
    let server = Server::start(pair.server, &link);
    let tap = Tap::before(server.port);
    let client = Client::start_with(pair.client, &link, tap.port, |config| {
        config["outbounds"][0]["packet_encoding"] = json!("xudp");
    });
    let origins = [UdpEcho::start(), UdpEcho::start(), UdpEcho::start()];
    let association = Association::open(client.socks).unwrap();
    for round in 0..3 {
        for (seed, origin) in (1..).zip(&origins) {
            let payload = pattern(1000 + round, seed);
            association.send(origin.address.into(), &payload).unwrap();
            assert_eq!(association.receive().unwrap(), (payload, origin.address.to_string()));
        }
    }
    assert_eq!(tap.count(), 1);
}

/// An origin that counts its open connections.
struct Watched {
    address: std::net::SocketAddr,
    open: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Watched {
    fn start(serve: fn(std::net::TcpStream)) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let open = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = std::sync::Arc::clone(&open);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let count = std::sync::Arc::clone(&count);
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                thread::spawn(move || {
                    serve(stream);
                    count.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                });
            }
        });
        Self { address, open }
    }

    fn open(&self) -> usize {
        self.open.load(std::sync::atomic::Ordering::SeqCst)
    }

    fn read_all(mut stream: std::net::TcpStream) {
        drop(std::io::copy(&mut stream, &mut std::io::sink()));
    }

    fn write_all(mut stream: std::net::TcpStream) {
        while stream.write_all(&[0; 16 * 1024]).is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn wait(stream: std::net::TcpStream) {
        thread::sleep(Duration::from_secs(40));
        drop(stream);
    }
}
