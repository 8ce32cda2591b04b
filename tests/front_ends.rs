//! Behind front ends: those of `examples/`, whichever end does the TLS, and the PROXY protocol by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use serde_json::json;
use support::{
    apps::{self, Target},
    config::{Early, Link, Tls},
    front::{self, Example, Running},
    node::{Client, Kind, Pair, Server, missing},
    origin::{Origin, hash_of, pattern},
    pair, raw, skip, within,
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

macro_rules! examples {
    ($test:ident: $($name:ident: $example:ident),+ $(,)?) => {
        mod $test {
            $(
                #[test]
                fn $name() {
                    super::$test(super::Example::$example);
                }
            )+
        }
    };
}

examples! {
    carries_early_data_and_many_tunnels:
    nginx: Nginx,
    nginx_stream: NginxStream,
    caddy: Caddy,
    apache: Apache,
    apache_wstunnel: ApacheWstunnel,
    haproxy_http: HaproxyHttp,
    haproxy_sni: HaproxySni,
    haproxy_tcp: HaproxyTcp,
    haproxy_tcp_version_1: HaproxyTcpV1,
}

examples! {
    leaves_tunnels_whole_or_reset:
    nginx: Nginx,
    nginx_stream: NginxStream,
    caddy: Caddy,
    apache: Apache,
    haproxy_http: HaproxyHttp,
    haproxy_sni: HaproxySni,
}

/// The links on both sides of a front end.
fn links(example: Example, id: &str, early: Early) -> (Link, Link) {
    let link = Link { id: id.to_owned(), early, ..Link::default() };
    let tls = |is_on| if is_on { Tls::On } else { Tls::Off };
    let server = Link { tls: tls(example.passes_tls_through()), ..link.clone() };
    let client = Link { tls: tls(!example.is_plain()), headers: vec![("Host", "localhost")], ..link };
    (server, client)
}

/// A server on a port that outlives it.
fn server_at(example: Example, link: &Link, port: u16) -> Server {
    Server::start_with(Kind::Wsray, link, |config| {
        let inbound = &mut config["inbounds"][0];
        let own = json!(port);
        let first = std::mem::replace(&mut inbound["port"], own);
        // What the helper waits for; nobody else uses it.
        let mut twin = inbound.clone();
        twin["port"] = first;
        twin["tag"] = json!("twin");
        if example.sends_proxy_protocol() {
            let ws = &mut inbound["streamSettings"]["wsSettings"];
            ws["acceptProxyProtocol"] = json!(true);
            ws["acceptProxyProtocolFrom"] = json!(["127.0.0.1"]);
        }
        config["inbounds"].as_array_mut().unwrap().push(twin);
    })
}

fn carries_early_data_and_many_tunnels(example: Example) {
    if let Some(reason) = example.missing().or_else(|| missing("v2ray-4.45")) {
        skip!(reason);
    }
    let (origin, backend, id) = (Origin::start(), support::free_port(), support::random_id());
    let front = example.start(backend);
    for early in
        [Early::Path(2048), Early::Header("X-Ed", 2048), Early::Header("Sec-WebSocket-Protocol", 2048)]
    {
        let (server_link, link) = links(example, &id, early);
        let _server = server_at(example, &server_link, backend);
        let client = Client::start(Kind::Wsray, &link, front.port);
        check(&client, &origin).unwrap_or_else(|error| panic!("{early:?}: {error}"));
    }
    // Xray's way to say the last one; this server serves what follows.
    let (server_link, link) = links(example, &id, Early::Header("Sec-WebSocket-Protocol", 2048));
    let server = server_at(example, &server_link, backend);
    let xray = Link { path: "/ray?ed=2048".to_owned(), early: Early::None, ..link };
    let client = Client::start(Kind::Wsray, &xray, front.port);
    check(&client, &origin).unwrap();
    moves_8_mib_both_ways(&client, &origin);
    carries_60_tunnels(&client, &origin);
    let link = Link { path: "/ray".to_owned(), ..xray };
    let v2ray = Client::start_with(Kind::V2Ray445, &link, front.port, |config| {
        config["outbounds"][0]["sendThrough"] = json!("127.0.0.77");
    });
    check(&v2ray, &origin).unwrap();
    server.node.log_line(&[" 127.0.0.77:", "accepted", &origin.address.to_string()]);
}

/// As its operators do without a master: a new process tells the old one to finish.
#[test]
fn haproxy_that_another_takes_over_from_leaves_tunnels_whole() {
    if let Some(reason) = Example::HaproxyHttp.missing() {
        skip!(reason);
    }
    let (origin, backend) = (Origin::start(), support::free_port());
    let mut front = Example::HaproxyHttp.start_alone(backend);
    let (server_link, link) = links(Example::HaproxyHttp, &support::random_id(), Early::None);
    let _server = server_at(Example::HaproxyHttp, &server_link, backend);
    let client = Client::start(Kind::Wsray, &link, front.port);
    let running = Traffic::start(&client, &origin);
    let mut old = front.take_over();
    within(Duration::from_secs(5), || check(&client, &origin).ok()).expect("new tunnels");
    assert_eq!(running.fates(), [Fate::Whole, Fate::Whole]);
    assert!(old.wait(Duration::from_secs(10)).is_some(), "the old process stays without tunnels");
}

fn check(client: &Client, origin: &Origin) -> std::io::Result<()> {
    apps::check_echo(&apps::socks5(client.socks, origin.address.into(), None)?)
}

fn moves_8_mib_both_ways(client: &Client, origin: &Origin) {
    const LENGTH: u64 = 8 << 20;
    let bytes = pattern(LENGTH, 9);
    let hash = hash_of(&mut &bytes[..]).unwrap();
    let mut down = apps::socks5(client.socks, origin.address.into(), None).unwrap();
    down.write_all(format!("send {LENGTH} 9\n").as_bytes()).unwrap();
    assert_eq!(hash_of(&mut Read::take(&down, LENGTH)).unwrap(), hash);
    let mut up = apps::socks5(client.socks, origin.address.into(), None).unwrap();
    up.write_all(format!("take {LENGTH}\n").as_bytes()).unwrap();
    up.write_all(&bytes).unwrap();
    let mut answer = vec![0; hash.len()];
    up.read_exact(&mut answer).unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), hash);
}

/// All open at once; each echoes what only it was told.
fn carries_60_tunnels(client: &Client, origin: &Origin) {
    let tunnels: Vec<_> = (0..60)
        .map(|_| {
            let (port, target) = (client.socks, origin.address);
            thread::spawn(move || {
                apps::socks5(port, target.into(), None).inspect(|s| apps::check_echo(s).unwrap())
            })
        })
        .collect();
    let tunnels: Vec<_> = tunnels.into_iter().map(|tunnel| tunnel.join().unwrap().unwrap()).collect();
    for (n, tunnel) in tunnels.iter().enumerate() {
        check_own(tunnel, n).unwrap();
    }
}

fn check_own(mut tunnel: &TcpStream, n: usize) -> std::io::Result<()> {
    let text = format!("tunnel {n} of them\n");
    tunnel.write_all(text.as_bytes())?;
    let mut answer = vec![0; text.len()];
    tunnel.read_exact(&mut answer)?;
    assert_eq!(answer, text.as_bytes(), "another's words");
    Ok(())
}

/// What became of a tunnel.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Whole,
    Reset,
}

/// A download and an echo that run while something happens to the front end.
struct Traffic {
    /// What came, and how it ended.
    download: thread::JoinHandle<(Vec<u8>, std::io::Result<()>)>,
    echo: TcpStream,
}

impl Traffic {
    const LENGTH: u64 = 32 << 20;

    fn start(client: &Client, origin: &Origin) -> Self {
        let mut download = apps::socks5(client.socks, origin.address.into(), None).unwrap();
        download.write_all(format!("give {} 3\n", Self::LENGTH).as_bytes()).unwrap();
        download.read_exact(&mut [0; 8]).unwrap();
        let echo = apps::socks5(client.socks, origin.address.into(), None).unwrap();
        apps::check_echo(&echo).unwrap();
        Self { download: thread::spawn(move || read_slowly(download)), echo }
    }

    /// An end that looks like one, before everything came, is neither.
    fn fates(self) -> [Fate; 2] {
        let (bytes, end) = self.download.join().unwrap();
        let download = match end {
            Ok(()) => {
                assert_eq!(bytes.len() as u64 + 8, Self::LENGTH, "a cut download looks complete");
                assert!(bytes[..] == pattern(Self::LENGTH, 3)[8..], "the download is damaged");
                Fate::Whole
            }
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
                Fate::Reset
            }
        };
        let echo = match check_own(&self.echo, 7) {
            Ok(()) => Fate::Whole,
            Err(error) => {
                let cut = [std::io::ErrorKind::ConnectionReset, std::io::ErrorKind::BrokenPipe];
                assert!(cut.contains(&error.kind()), "{error}");
                Fate::Reset
            }
        };
        [download, echo]
    }
}

/// Some 16 MiB a second, so that the download lasts. It must not stand still: Caddy writes its close frame into the
/// connection before `caddy reload` returns, however long that takes, and an idle origin ends its echo after a minute.
fn read_slowly(mut stream: TcpStream) -> (Vec<u8>, std::io::Result<()>) {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 128 << 10]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (bytes, Ok(())),
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(error) => return (bytes, Err(error)),
        }
        thread::sleep(Duration::from_millis(8));
    }
}

/// Reloaded, then restarted, in the middle of a download and of an idle tunnel.
fn leaves_tunnels_whole_or_reset(example: Example) {
    if let Some(reason) = example.missing() {
        skip!(reason);
    }
    let (origin, backend) = (Origin::start(), support::free_port());
    let mut front: Running = example.start(backend);
    let (server_link, link) = links(example, &support::random_id(), Early::None);
    let _server = server_at(example, &server_link, backend);
    let client = Client::start(Kind::Wsray, &link, front.port);
    let works = || within(Duration::from_secs(5), || check(&client, &origin).ok());

    let running = Traffic::start(&client, &origin);
    front.reload();
    works().expect("new tunnels after the reload");
    thread::sleep(Duration::from_millis(300));
    let fates = running.fates();
    // Caddy 2.6 closes WebSocket connections when its file is read again.
    if example != Example::Caddy {
        assert_eq!(fates, [Fate::Whole, Fate::Whole], "after the reload");
    }

    let running = Traffic::start(&client, &origin);
    front.restart();
    works().expect("new tunnels after the restart");
    // What the kernel held of the download may have been all that was left of it.
    assert_eq!(running.fates()[1], Fate::Reset, "after the restart");
}
