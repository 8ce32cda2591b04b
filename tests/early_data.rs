//! Early data: the first bytes of a session inside the upgrade request.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use support::{
    apps::{self, Target},
    config::{Early, Link, Tls},
    delay,
    node::{Client, Kind, Pair, Server},
    origin::{Origin, pattern},
    pair,
    raw::{self, How},
    skip,
    tap::{Changes, Cut, Tap},
};

const SWP: Early = Early::Header("Sec-WebSocket-Protocol", 2048);

macro_rules! early_data_pairs {
    ($($test:ident),+ $(,)?) => {
        pair!(wsray_to_wsray: Wsray => Wsray, #[cfg(test)], [$($test),+]);
        pair!(wsray_to_v2ray_4_45: Wsray => V2Ray445, #[cfg(test)], [$($test),+]);
        pair!(wsray_to_sing_box: Wsray => SingBox, #[cfg(test)], [$($test),+]);
        pair!(v2ray_4_45_to_wsray: V2Ray445 => Wsray, #[cfg(test)], [$($test),+]);
        pair!(sing_box_to_wsray: SingBox => Wsray, #[cfg(test)], [$($test),+]);
        pair!(wsray_to_v2ray_5: Wsray => V2Ray5, #[cfg(feature = "local-peers")], [$($test),+]);
        pair!(v2ray_5_to_wsray: V2Ray5 => Wsray, #[cfg(feature = "local-peers")], [$($test),+]);
        pair!(wsray_to_xray: Wsray => Xray, #[cfg(feature = "local-peers")], [$($test),+]);
        pair!(xray_to_wsray: Xray => Wsray, #[cfg(feature = "local-peers")], [$($test),+]);
        pair!(v2ray_4_45_to_v2ray_4_45: V2Ray445 => V2Ray445, #[cfg(feature = "peers-only")], [$($test),+]);
        pair!(sing_box_to_v2ray_4_45: SingBox => V2Ray445, #[cfg(feature = "peers-only")], [$($test),+]);
    };
}

early_data_pairs![
    early_data_in_the_path_carries_data,
    early_data_in_sec_websocket_protocol_carries_data,
    early_data_in_a_header_of_another_name_carries_data,
    what_early_data_cannot_hold_follows,
    a_banner_comes_at_once_without_early_data,
    a_banner_comes_at_once_with_early_data_in_the_path,
    a_banner_comes_at_once_with_early_data_in_a_header,
];

/// Server, a recording middle box, client.
fn start(pair: Pair, link: &Link) -> (Server, Tap, Client) {
    let server = Server::start(pair.server, link);
    let tap = Tap::before(server.port);
    let client = Client::start(pair.client, link, tap.port);
    (server, tap, client)
}

fn early_data_in_the_path_carries_data(pair: Pair) {
    let head = request_with(pair, Early::Path(2048), "/ray");
    let target = head.split(' ').nth(1).unwrap();
    check_amount(pair, target.strip_prefix("/ray").unwrap());
}

fn early_data_in_sec_websocket_protocol_carries_data(pair: Pair) {
    let head = request_with(pair, SWP, "/ray");
    assert!(head.starts_with("GET /ray HTTP/1.1\r\n"), "{head}");
    check_amount(pair, header(&head, "sec-websocket-protocol").unwrap());
}

fn early_data_in_a_header_of_another_name_carries_data(pair: Pair) {
    let head = request_with(pair, Early::Header("X-Ed", 2048), "/ray");
    check_amount(pair, header(&head, "x-ed").unwrap());
}

const FIRST_PAYLOAD: usize = 300;

/// The head of a request whose session echoed well.
fn request_with(pair: Pair, early: Early, path: &str) -> String {
    let origin = Origin::start();
    let (_server, tap, client) = start(pair, &Link { early, path: path.to_owned(), ..Link::default() });
    let stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
    check_echo_of(&stream, FIRST_PAYLOAD);
    tap.request_head(0)
}

fn check_echo_of(mut stream: &TcpStream, length: usize) {
    let text = pattern(length as u64, 3);
    stream.write_all(&[b"echo\n", &text[..]].concat()).unwrap();
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).unwrap();
    assert!(answer == text, "the echo differs");
}

/// A VMess header is 107 to 122 bytes for an IPv4 target; V2Ray and wsray put the first payload behind it.
fn check_amount(pair: Pair, encoded: &str) {
    let decoded = data_encoding::BASE64URL_NOPAD.decode(encoded.as_bytes());
    let length = decoded.unwrap_or_else(|error| panic!("{error}: {encoded}")).len();
    let payload = if pair.client == Kind::SingBox { 0 } else { FIRST_PAYLOAD };
    assert!(length >= 100 + payload, "{length} bytes of early data");
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .find_map(|line| line.split_once(": ").filter(|(own, _)| own.eq_ignore_ascii_case(name)))
        .map(|x| x.1)
}

fn what_early_data_cannot_hold_follows(pair: Pair) {
    let origin = Origin::start();
    for early in [Early::Path(100), Early::Header("Sec-WebSocket-Protocol", 100), Early::Header("X-Ed", 1)] {
        let (_server, _tap, client) = start(pair, &Link { early, ..Link::default() });
        let stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
        check_echo_of(&stream, 5000);
    }
}

fn a_banner_comes_at_once_without_early_data(pair: Pair) {
    check_banner(pair, Early::None);
}

fn a_banner_comes_at_once_with_early_data_in_the_path(pair: Pair) {
    check_banner(pair, Early::Path(2048));
}

fn a_banner_comes_at_once_with_early_data_in_a_header(pair: Pair) {
    check_banner(pair, SWP);
}

fn check_banner(pair: Pair, early: Early) {
    const BANNER: &str = "220 ready\r\n";
    let origin = Origin::with_banner(BANNER);
    let (_server, client) = pair.start(&Link { early, ..Link::default() });
    let start = Instant::now();
    let mut stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
    let mut banner = [0; BANNER.len()];
    stream.read_exact(&mut banner).unwrap();
    let took = start.elapsed();
    assert_eq!(banner, BANNER.as_bytes());
    assert!(took < Duration::from_millis(500), "the banner took {took:?}");
    stream.write_all(b"after").unwrap();
    assert_eq!(apps::read_array::<5>(&mut stream).unwrap(), *b"after");
}

#[test]
fn the_client_connects_at_once_and_asks_when_the_application_spoke_or_after_a_tenth_of_a_second() {
    let origin = Origin::start();
    let (_server, tap, client) =
        start(Pair { client: Kind::Wsray, server: Kind::Wsray }, &Link { early: SWP, ..Link::default() });
    let asked = Instant::now();
    let stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
    let connected = support::within(Duration::from_millis(400), || (tap.count() == 1).then_some(()));
    assert!(connected.is_some(), "a silent application is not connected for");
    let requested_at_once = !tap.to_server(0).is_empty();
    let looked = asked.elapsed();
    assert!(!requested_at_once || looked > Duration::from_millis(50), "the request did not wait");
    let requested =
        support::within(Duration::from_millis(400), || (!tap.to_server(0).is_empty()).then_some(()));
    assert!(requested.is_some(), "a silent application is not asked for");
    apps::check_echo(&stream).unwrap();
}

#[test]
fn xrays_ed_in_a_client_path_means_early_data_in_sec_websocket_protocol() {
    for server in [Kind::Wsray, Kind::V2Ray445] {
        let pair = Pair { client: Kind::Wsray, server };
        if let Some(reason) = pair.missing() {
            skip!(reason);
        }
        let origin = Origin::start();
        let link = Link { early: SWP, ..Link::default() };
        let server = Server::start(server, &link);
        let tap = Tap::before(server.port);
        let xray = Link { early: Early::None, path: "/ray?ed=2048".to_owned(), ..link };
        let client = Client::start(Kind::Wsray, &xray, tap.port);
        check_echo_of(&apps::socks5(client.socks, origin.address.into(), None).unwrap(), FIRST_PAYLOAD);
        let head = tap.request_head(0);
        assert!(head.starts_with("GET /ray HTTP/1.1\r\n"), "{head}");
        check_amount(pair, header(&head, "Sec-WebSocket-Protocol").unwrap());
    }
}

#[test]
fn a_server_with_early_data_serves_clients_without_it() {
    for kind in [Kind::V2Ray434, Kind::V2Ray445, Kind::SingBox, Kind::Wsray] {
        let pair = Pair { client: kind, server: Kind::Wsray };
        if let Some(reason) = pair.missing() {
            skip!(reason);
        }
        for early in [Early::Path(2048), SWP, Early::Header("X-Ed", 2048)] {
            let link = Link { early, ..Link::default() };
            let server = Server::start(Kind::Wsray, &link);
            let client = Client::start(kind, &Link { early: Early::None, ..link }, server.port);
            let origin = Origin::start();
            let stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
            assert!(apps::check_echo(&stream).is_ok(), "{kind:?} without early data, server {early:?}");
        }
    }
}

#[test]
fn a_server_in_path_mode_takes_early_data_in_sec_websocket_protocol_too() {
    mixed_modes(Early::Path(2048), SWP, "/ray");
}

/// What a V2Ray client sends that was given a path meant for Xray.
#[test]
fn a_query_with_ed_is_served_in_every_mode() {
    for early in [Early::None, SWP, Early::Header("X-Ed", 1), Early::Path(2048)] {
        mixed_modes(early, Early::None, "/ray?ed=2048");
    }
}

fn mixed_modes(of_server: Early, of_client: Early, client_path: &str) {
    let pair = Pair { client: Kind::V2Ray445, server: Kind::Wsray };
    if let Some(reason) = pair.missing() {
        skip!(reason);
    }
    let link = Link { early: of_server, ..Link::default() };
    let server = Server::start(pair.server, &link);
    let client = Client::start(
        pair.client,
        &Link { early: of_client, path: client_path.to_owned(), ..link },
        server.port,
    );
    let origin = Origin::start();
    let stream = apps::socks5(client.socks, Target::Name("localhost", origin.port()), None).unwrap();
    assert!(apps::check_echo(&stream).is_ok(), "server {of_server:?}, client {of_client:?} {client_path}");
}

#[test]
fn both_base64_alphabets_and_padding_are_read() {
    let pair = Pair { client: Kind::V2Ray445, server: Kind::Wsray };
    if let Some(reason) = pair.missing() {
        skip!(reason);
    }
    let to_standard =
        |head: String| rewrite_early_data(&head, |value| value.replace('-', "+").replace('_', "/"));
    let padded = |head: String| rewrite_early_data(&head, pad);
    let both =
        |head: String| rewrite_early_data(&head, |value| pad(value).replace('-', "+").replace('_', "/"));
    let changes: [fn(String) -> String; 3] = [to_standard, padded, both];
    let link = Link { early: SWP, ..Link::default() };
    let server = Server::start(Kind::Wsray, &link);
    let origin = Origin::start();
    for (index, change) in changes.into_iter().enumerate() {
        let tap = Tap::changing(server.port, Changes { request: change, ..Changes::default() });
        let client = Client::start(Kind::V2Ray445, &link, tap.port);
        // Every length of padding.
        for length in 1..=3 {
            let stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
            check_echo_of(&stream, 50 + length);
        }
        assert!(tap.count() >= 3, "change {index}");
    }
}

fn rewrite_early_data(head: &str, change: impl Fn(&str) -> String) -> String {
    let value = header(head, "Sec-WebSocket-Protocol").unwrap();
    head.replace(value, &change(value))
}

fn pad(value: &str) -> String {
    format!("{value}{}", "=".repeat((4 - value.len() % 4) % 4))
}

/// A browser fails a connection whose subprotocol does not come back.
#[test]
fn sec_websocket_protocol_comes_back_when_it_carried_early_data_and_only_then() {
    let request = raw::upgrade("/ray", "Sec-WebSocket-Protocol: AAAA\r\n");
    for (early, echoed) in [(SWP, true), (Early::None, false), (Early::Header("X-Ed", 2048), false)] {
        let server = Server::start(Kind::Wsray, &Link { early, ..Link::default() });
        let head = raw::ask(server.port, request.as_bytes()).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{early:?}: {head}");
        assert!(head.contains(&format!("Sec-WebSocket-Accept: {}", raw::ACCEPT)), "{early:?}: {head}");
        assert_eq!(header(&head, "Sec-WebSocket-Protocol") == Some("AAAA"), echoed, "{early:?}: {head}");
    }
}

#[test]
fn early_data_above_the_limit_is_refused() {
    let server = Server::start(Kind::Wsray, &Link { early: Early::Header("X-Ed", 64), ..Link::default() });
    let request = raw::upgrade("/ray", &format!("X-Ed: {}\r\n", "A".repeat(600 * 1024)));
    let Ok(mut stream) = raw::send(server.port, request.as_bytes()) else { return };
    let end = raw::read_to_end(&mut stream, Duration::from_secs(5));
    assert_ne!(end.how, How::StillOpen);
    let answer = String::from_utf8_lossy(&end.bytes).into_owned();
    assert!(!answer.contains(" 101 "), "600 KiB of early data: {answer}");
}

/// What a round trip takes in the tests below.
const ROUND_TRIP: Duration = Duration::from_millis(200);

/// How many round trips an application waits for its first byte: the least of some sessions, as a busy machine adds to
/// it.
fn round_trips(client: &Client, origin: &Origin, hoped: u32) -> u32 {
    let session = || {
        let started = Instant::now();
        let stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
        check_echo_of(&stream, FIRST_PAYLOAD);
        u32::try_from(started.elapsed().as_millis() / ROUND_TRIP.as_millis()).unwrap()
    };
    let mut least = session();
    for _ in 0..5 {
        if least <= hoped {
            break;
        }
        least = least.min(session());
    }
    least
}

fn far_away(link: &Link, change: impl FnOnce(&mut serde_json::Value)) -> (Server, Client) {
    let server = Server::start(Kind::Wsray, link);
    let client = Client::start_with(Kind::Wsray, link, delay::before(server.port, ROUND_TRIP), change);
    (server, client)
}

#[test]
fn first_byte_comes_after_so_many_round_trips() {
    let origin = Origin::start();
    for (tls, early, expected) in
        [(Tls::Off, Early::None, 3), (Tls::Off, SWP, 2), (Tls::On, Early::None, 4), (Tls::On, SWP, 3)]
    {
        let link = Link { tls, early, ..Link::default() };
        let (_server, client) = far_away(&link, |_| {});
        assert_eq!(round_trips(&client, &origin, expected), expected, "{tls:?} {early:?}");
    }
}

fn preconnect(config: &mut serde_json::Value, settings: &serde_json::Value) {
    let ws = &mut config["outbounds"][0]["streamSettings"]["wsSettings"];
    ws.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
}

#[test]
fn first_byte_comes_after_one_round_trip_on_a_connection_made_before() {
    let origin = Origin::start();
    for (tls, early) in [(Tls::Off, Early::None), (Tls::On, SWP)] {
        let link = Link { tls, early, handshake: 60, ..Link::default() };
        let (_server, client) = far_away(&link, |config| preconnect(config, &json!({ "preconnect": 6 })));
        // Nothing is dialled before the first session.
        assert!(round_trips(&client, &origin, 9) > 1);
        thread::sleep(ROUND_TRIP * 6);
        assert_eq!(round_trips(&client, &origin, 1), 1, "{tls:?} {early:?}");
    }
}

/// The server closes it, and the way back is long: the session is on its way when the news arrives.
#[test]
fn session_on_a_dead_connection_made_before_loses_nothing() {
    let origin = Origin::start();
    let link = Link { handshake: 60, ..Link::default() };
    let server = Server::start(Kind::Wsray, &link);
    let tap = Tap::before(server.port);
    let way = delay::before(tap.port, ROUND_TRIP);
    let client = Client::start_with(Kind::Wsray, &link, way, |config| {
        preconnect(config, &json!({ "preconnect": 1 }));
    });
    for cut in [Cut::Fin, Cut::Reset] {
        let before = origin.connections();
        round_trips(&client, &origin, 9);
        thread::sleep(ROUND_TRIP * 5);
        tap.cut_all(cut);
        let stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
        check_echo_of(&stream, FIRST_PAYLOAD);
        assert_eq!(origin.connections(), before + 2, "{cut:?}: the origin is asked once a session");
    }
}

#[test]
fn connection_made_before_is_replaced_when_it_is_too_old() {
    let origin = Origin::start();
    let link = Link { handshake: 60, ..Link::default() };
    let server = Server::start(Kind::Wsray, &link);
    let tap = Tap::before(server.port);
    let client = Client::start_with(Kind::Wsray, &link, tap.port, |config| {
        preconnect(config, &json!({ "preconnect": 1, "preconnectMaxAge": 1 }));
    });
    let stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
    check_echo_of(&stream, FIRST_PAYLOAD);
    // The session's own, the first one made for later, and at least one in its place.
    support::eventually(|| (tap.count() >= 3).then_some(())).expect("it is replaced");
    // It was closed as WebSocket connections are, by a masked close frame, rather than dropped.
    support::eventually(|| {
        let sent = tap.to_server(1);
        let end = sent.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        (sent.get(end) == Some(&0x88)).then_some(())
    })
    .expect("a close frame");
}

fn resume(config: &mut serde_json::Value, side: &str, early_data: bool) {
    let tls = &mut config[side][0]["streamSettings"]["tlsSettings"];
    tls["enableSessionResumption"] = json!(true);
    tls["enableEarlyData"] = json!(early_data);
}

#[test]
fn first_byte_comes_after_two_round_trips_where_tls_takes_early_data() {
    let origin = Origin::start();
    let link = Link { tls: Tls::On, early: SWP, ..Link::default() };
    for (asked, expected) in [([true, true], 2), ([true, false], 3), ([false, true], 3)] {
        let [of_server, of_client] = asked;
        let server = Server::start_with(Kind::Wsray, &link, |config| resume(config, "inbounds", of_server));
        let way = delay::before(server.port, ROUND_TRIP);
        let client = Client::start_with(Kind::Wsray, &link, way, |config| {
            resume(config, "outbounds", of_client);
        });
        // There is nothing to resume yet.
        round_trips(&client, &origin, u32::MAX);
        assert_eq!(round_trips(&client, &origin, expected), expected, "server, client: {asked:?}");
    }
}

/// A server that has forgotten the session refuses the early data: the request is sent again behind the handshake.
#[test]
fn session_goes_on_when_the_server_refuses_tls_early_data() {
    let origin = Origin::start();
    let link = Link { tls: Tls::On, early: SWP, ..Link::default() };
    let early_data = |config: &mut serde_json::Value| resume(config, "inbounds", true);
    let first = Server::start_with(Kind::Wsray, &link, early_data);
    let way = delay::switching(first.port);
    let client = Client::start_with(Kind::Wsray, &link, way.port, |config| resume(config, "outbounds", true));
    for _ in 0..2 {
        let stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
        check_echo_of(&stream, FIRST_PAYLOAD);
    }
    let second = Server::start_with(Kind::Wsray, &link, early_data);
    way.switch(second.port);
    for _ in 0..2 {
        let stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
        check_echo_of(&stream, 5000);
    }
    assert_eq!(origin.connections(), 4);
}

#[test]
fn tls_early_data_that_is_sent_again_opens_no_session() {
    let origin = Origin::start();
    let link = Link { tls: Tls::On, early: SWP, ..Link::default() };
    let server = Server::start_with(Kind::Wsray, &link, |config| resume(config, "inbounds", true));
    let (way, sent) = delay::recording(server.port, Duration::from_millis(20));
    let client = Client::start_with(Kind::Wsray, &link, way, |config| resume(config, "outbounds", true));
    for _ in 0..3 {
        let stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
        check_echo_of(&stream, FIRST_PAYLOAD);
    }
    assert_eq!(origin.connections(), 3);
    let flights: Vec<_> = sent.lock().unwrap().iter().map(|sent| sent.lock().unwrap().clone()).collect();
    for flight in flights {
        let mut stream = raw::send(server.port, &flight).unwrap();
        let end = raw::read_to_end(&mut stream, Duration::from_secs(1));
        assert!(!String::from_utf8_lossy(&end.bytes).contains("101"), "{} bytes", end.bytes.len());
    }
    assert_eq!(origin.connections(), 3, "a recorded opening was taken again");
}

/// A server whose TLS takes a flight again (each of these has a ticket of its own) still has VMess, which does not.
#[test]
fn opening_in_fresh_tls_early_data_is_refused_when_vmess_has_seen_it() {
    let origin = Origin::start();
    let link = Link { tls: Tls::On, early: SWP, ..Link::default() };
    let server = Server::start_with(Kind::Wsray, &link, |config| resume(config, "inbounds", true));
    let request = request_of_a_client(&Link { tls: Tls::Off, ..link }, &origin);
    let mut client = Resuming::new(server.port);

    let (accepted, answer) = client.send(b"GET /ray HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(!accepted && !answer.starts_with("HTTP/1.1 101"), "there is nothing to resume: {answer}");

    let (accepted, answer) = client.send(&request);
    assert!(accepted && answer.starts_with("HTTP/1.1 101"), "the first time: {answer}");
    support::eventually(|| (origin.connections() == 1).then_some(())).expect("a session");

    let (accepted, answer) = client.send(&request);
    assert!(accepted, "TLS takes it, so that it is VMess that has to refuse it: {answer}");
    thread::sleep(Duration::from_millis(500));
    assert_eq!(origin.connections(), 1, "an opening was taken again");
}

/// The upgrade request of a client without TLS, with the opening of a session to `origin` in it.
fn request_of_a_client(link: &Link, origin: &Origin) -> Vec<u8> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::start(Kind::Wsray, link, listener.local_addr().unwrap().port());
    let mut application = apps::socks5(client.socks, origin.address.into(), None).unwrap();
    application.write_all(&pattern(0, 64)).unwrap();
    let mut stream = listener.accept().unwrap().0;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut block = [0; 4096];
        let read = stream.read(&mut block).unwrap();
        assert!(read > 0, "the client left");
        request.extend(&block[..read]);
    }
    request
}

/// A TLS client that resumes its sessions, and sends early data wherever it may.
struct Resuming {
    config: std::sync::Arc<rustls::ClientConfig>,
    port: u16,
}

impl Resuming {
    fn new(port: u16) -> Self {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let mut roots = rustls::RootCertStore::empty();
        let authority = &support::certificate::files().authority;
        roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let mut config = rustls::ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.enable_early_data = true;
        Self { config: config.into(), port }
    }

    /// Whether early data was accepted, and the first of the answer.
    fn send(&mut self, request: &[u8]) -> (bool, String) {
        let name = support::certificate::NAME.try_into().unwrap();
        let mut tls = rustls::ClientConnection::new(std::sync::Arc::clone(&self.config), name).unwrap();
        let early = tls.early_data().map_or(0, |mut early| early.write(request).unwrap());
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).unwrap();
        }
        let accepted = tls.is_early_data_accepted();
        let mut stream = rustls::Stream::new(&mut tls, &mut socket);
        stream.write_all(&request[if accepted { early } else { 0 }..]).unwrap();
        let mut answer = [0; 1024];
        let read = stream.read(&mut answer).unwrap_or(0);
        (accepted, String::from_utf8_lossy(&answer[..read]).into_owned())
    }
}
