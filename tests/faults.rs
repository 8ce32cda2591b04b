//! What strangers and faults cost: openings that never end, probes, silent connections, slow readers.
//!
//! `bench/faults` does the same with thousands, and to the peers as well.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use support::{
    apps,
    config::{self, AppPorts, Link},
    free_port,
    node::{Client, Kind, Node, Pair, Server},
    origin::{Origin, pattern},
    raw::{self, End, How},
    temporary_directory, within,
};
use wsray_vmess::{
    Address, CmdKey, Command as Asked, HeaderEntropy, Options, Request, Secrets, Security, Target, UserId,
    seal_request,
};

fn server() -> (Server, Link) {
    let link = Link::default();
    (Server::start(Kind::Wsray, &link), link)
}

#[test]
fn final_rules_close_private_targets_by_address_and_by_name() {
    let origin = Origin::start();
    let link = Link::default();
    let server = Server::start_with(Kind::Wsray, &link, |config| {
        config["outbounds"][0]["settings"] =
            serde_json::json!({ "finalRules": [{ "action": "block", "ip": ["geoip:private"] }] });
    });
    let client = Client::start(Kind::Wsray, &link, server.port);
    for host in ["127.0.0.1", "localhost", "0.0.0.0", "::ffff:127.0.0.1", "::1"] {
        let target = match host.parse::<std::net::IpAddr>() {
            Ok(ip) => apps::Target::Address((ip, origin.port()).into()),
            Err(_) => apps::Target::Name(host, origin.port()),
        };
        let reached = apps::socks5(client.socks, target, None).and_then(|stream| apps::check_echo(&stream));
        assert!(reached.is_err(), "{host} was reached");
    }
    assert_eq!(origin.connections(), 0);
    server.node.log_line(&["is closed to targets", "finalRules"]);
}

fn upgraded(port: u16) -> TcpStream {
    let mut stream = raw::send(port, raw::upgrade("/ray", "").as_bytes()).unwrap();
    assert!(apps::read_head(&mut stream).unwrap().starts_with("HTTP/1.1 101 "));
    stream
}

/// Reads to the end of each at the same time.
fn ends(streams: Vec<TcpStream>, limit: Duration) -> Vec<End> {
    std::thread::scope(|scope| {
        let reads: Vec<_> = streams
            .into_iter()
            .map(|mut stream| scope.spawn(move || raw::read_to_end(&mut stream, limit)))
            .collect();
        reads.into_iter().map(|read| read.join().unwrap()).collect()
    })
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn opening(id: &str, at: u64) -> Vec<u8> {
    let random = || support::random().to_be_bytes();
    let target = Target { address: Address::Ip(Ipv4Addr::LOCALHOST.into()), port: 9 };
    let (a, b, c, d) = (random(), random(), random(), random());
    let mut body_key = [0; 16];
    body_key[..8].copy_from_slice(&a);
    body_key[8..].copy_from_slice(&b);
    let mut entropy = [0; 28];
    entropy[..8].copy_from_slice(&c);
    entropy[8..16].copy_from_slice(&d);
    entropy[16..24].copy_from_slice(&random());
    let request = Request {
        secrets: Secrets { body_key, body_iv: body_key, response_auth: 7 },
        options: Options::CHUNK_STREAM,
        security: Security::None,
        command: Asked::Tcp(target),
    };
    let id: UserId = id.parse().unwrap();
    seal_request(&CmdKey::new(&id), &request, &HeaderEntropy::from_random(entropy), at).unwrap()
}

fn flipped(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 1;
    bytes
}

/// The length of an opening varies with its padding.
fn flipped_last(bytes: Vec<u8>) -> Vec<u8> {
    let last = bytes.len() - 1;
    flipped(bytes, last)
}

/// The handshake time of the tests is 2 s.
#[test]
fn openings_are_cut_at_one_deadline_wherever_they_stop() {
    let (server, link) = server();
    let auth_id = opening(&link.id, now())[..16].to_vec();
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(raw::send(server.port, b"").unwrap());
        streams.push(raw::send(server.port, b"GET /ray HT").unwrap());
        streams.push(raw::send(server.port, b"GET /ray HTTP/1.1\r\nHost: x\r\n").unwrap());
        streams.push(upgraded(server.port));
        for half in [&[0x82, 0xfe][..], &raw::masked_frame(&auth_id)] {
            let mut stream = upgraded(server.port);
            stream.write_all(half).unwrap();
            streams.push(stream);
        }
    }
    for (number, end) in ends(streams, Duration::from_secs(8)).iter().enumerate() {
        assert_ne!(end.how, How::StillOpen, "stage {}", number % 6);
        assert!(end.after < Duration::from_secs(4), "stage {}: {:?}", number % 6, end.after);
    }
}

#[test]
fn no_failure_before_authentication_can_be_told_from_another() {
    let (server, link) = server();
    // What was recorded before the server's start is another kind of failure.
    std::thread::sleep(Duration::from_millis(1500));
    let old = opening(&link.id, now());
    let mut first = upgraded(server.port);
    first.write_all(&raw::masked_frame(&old)).unwrap();
    let good = || opening(&link.id, now());
    let kinds: Vec<(&str, Vec<u8>)> = vec![
        ("noise", vec![0x5a; 100]),
        ("much noise", vec![0x5a; 4000]),
        ("a wrong id", opening(&support::random_id(), now())),
        ("too early", opening(&link.id, now() + 130)),
        ("too late", opening(&link.id, now() - 130)),
        ("the tag of the length", flipped(good(), 20)),
        ("the nonce", flipped(good(), 36)),
        ("the tag of the header", flipped_last(good())),
        ("a replay", old),
    ];
    let (mut streams, mut opened) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        for (_, bytes) in &kinds {
            opened.push(Instant::now());
            let mut stream = upgraded(server.port);
            stream.write_all(&raw::masked_frame(bytes)).unwrap();
            streams.push(stream);
        }
    }
    let reading = Instant::now();
    for (number, end) in ends(streams, Duration::from_secs(8)).iter().enumerate() {
        let what = kinds[number % kinds.len()].0;
        assert_eq!((end.how, &end.bytes[..]), (How::Fin, &[0x88, 2, 0x03, 0xe8][..]), "{what}");
        let lived = reading + end.after - opened[number];
        assert!(lived > Duration::from_millis(1500), "{what}: {lived:?}");
    }
}

/// The memory of `count` connections that `open` makes, in KiB each.
fn each_kib(server: &Server, count: u64, open: impl Fn() -> TcpStream) -> f64 {
    // What the first ones cost once, for the process as a whole, is not theirs: threads, tables, log lines.
    drop((0..50).map(|_| open()).collect::<Vec<_>>());
    std::thread::sleep(Duration::from_millis(200));
    let before = server.node.resident_kib();
    let _held: Vec<TcpStream> = (0..count).map(|_| open()).collect();
    std::thread::sleep(Duration::from_millis(300));
    let grown = u32::try_from(server.node.resident_kib().saturating_sub(before)).unwrap();
    f64::from(grown) / f64::from(u32::try_from(count).unwrap())
}

#[test]
fn strangers_cost_at_most_six_kib_before_the_upgrade_and_eight_after() {
    let link = Link { handshake: 20, ..Link::default() };
    for (limit, upgrade) in [(6.0, false), (8.0, true)] {
        let server = Server::start(Kind::Wsray, &link);
        let each = each_kib(&server, 800, || {
            if upgrade { upgraded(server.port) } else { raw::send(server.port, b"").unwrap() }
        });
        assert!(each <= limit, "{each:.1} KiB a connection, upgraded: {upgrade}");
    }
}

#[test]
fn a_stalled_reader_costs_at_most_96_kib_and_loses_nothing() {
    const STREAMS: usize = 40;
    const LENGTH: u64 = 12 << 20;
    let origin = Origin::start();
    let (server, client) = Pair { client: Kind::Wsray, server: Kind::Wsray }.start(&Link::default());
    let opened = || apps::socks5(client.socks, origin.address.into(), None).unwrap();
    apps::check_echo(&opened()).unwrap();
    let before = [server.node.resident_kib(), client.node.resident_kib()];
    let streams: Vec<TcpStream> = (0..STREAMS).map(|_| opened()).collect();
    for mut stream in &streams {
        writeln!(stream, "give {LENGTH} 3").unwrap();
    }
    std::thread::sleep(Duration::from_secs(2));
    for (node, before) in [&server.node, &client.node].into_iter().zip(before) {
        let each = node.resident_kib().saturating_sub(before) / STREAMS as u64;
        assert!(each <= 96, "{each} KiB a stream");
    }
    let beside = Instant::now();
    apps::check_echo(&opened()).unwrap();
    assert!(beside.elapsed() < Duration::from_secs(2), "another waited {:?}", beside.elapsed());
    let expected = pattern(LENGTH, 3);
    for mut stream in streams.into_iter().take(4) {
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        assert!(got == expected, "{} of {LENGTH} bytes", got.len());
    }
}

#[test]
fn above_the_memory_budget_newcomers_are_refused_and_old_streams_go_on() {
    let origin = Origin::start();
    let link = Link::default();
    let server = Server::start_with(Kind::Wsray, &link, |config| {
        config["policy"] = serde_json::json!({ "system": { "memoryBudget": 8 } });
    });
    let client = Client::start(Kind::Wsray, &link, server.port);
    let opened = || apps::socks5(client.socks, origin.address.into(), None);
    let echoes = || opened().and_then(|stream| apps::check_echo(&stream));
    let mut old = opened().unwrap();
    apps::check_echo(&old).unwrap();
    let is_full = || server.node.log().contains("policy.system.memoryBudget");
    let mut stalled = Vec::new();
    while !is_full() && stalled.len() < 1000 {
        let mut stream = opened().unwrap();
        stream.write_all(b"give 4000000 3\n").unwrap();
        stalled.push(stream);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(is_full(), "{} stalled streams of {} KiB", stalled.len(), server.node.resident_kib());
    assert!(stalled.len() > 64, "refused although only {} streams run", stalled.len());
    assert!(echoes().is_err(), "a newcomer is served");
    old.write_all(b"again").unwrap();
    let mut answer = [0; 5];
    old.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"again");
    drop(stalled);
    let served = within(Duration::from_secs(10), || echoes().ok());
    assert!(served.is_some(), "nobody is served although all have ended");
}

/// wsray that may have so many files open.
fn poor(role: &str, files: u32, config: &serde_json::Value, ports: &[u16]) -> Node {
    let directory = temporary_directory(role);
    let path = directory.join("config.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let wsray = Kind::Wsray.command(&path);
    let mut command = Command::new("sh");
    let limited = format!("ulimit -n {files} && exec \"$@\"");
    command.args(["-c", &limited, "sh"]).arg(wsray.get_program()).args(wsray.get_args());
    Node::start_program(role, command, directory, ports)
}

fn poor_server(link: &Link, files: u32) -> (Node, u16) {
    let port = free_port();
    (poor("poor-server", files, &config::server(Kind::Wsray, link, port), &[port]), port)
}

fn poor_client(link: &Link, files: u32, server: u16) -> (Node, u16) {
    let ports = AppPorts { socks: free_port(), http: free_port() };
    let config = config::client(Kind::Wsray, link, ports, server);
    (poor("poor-client", files, &config, &[ports.socks, ports.http]), ports.socks)
}

/// A session needs two, so that the last one to come finds one or none.
const EVEN_AND_ODD: [u32; 2] = [96, 97];

/// Nobody waits at the listener who could be cut instead.
fn newcomers_are_refused_while_users_have_all_files(socks: u16) {
    let origin = Origin::start();
    let tunnel = || {
        let stream = apps::socks5(socks, origin.address.into(), None)?;
        apps::check_echo(&stream).map(|()| stream)
    };
    let mut users = Vec::new();
    let mut refused = 0;
    while refused < 20 {
        let started = Instant::now();
        match tunnel() {
            Ok(stream) => users.push(stream),
            Err(_) => refused += 1,
        }
        let took = started.elapsed();
        assert!(took < Duration::from_secs(2), "newcomer {refused} waited {took:?}");
    }
    assert!(users.len() > 30, "{} users", users.len());
    for mut user in &users {
        user.write_all(b"still").unwrap();
        assert_eq!(&apps::read_array::<5>(&mut user).unwrap(), b"still");
    }
    users.truncate(20);
    assert!(within(Duration::from_secs(3), || tunnel().ok()).is_some(), "no recovery");
}

#[test]
fn a_client_whose_users_have_all_files_refuses_newcomers_at_once() {
    let (server, link) = server();
    for files in EVEN_AND_ODD {
        let (_client, socks) = poor_client(&link, files, server.port);
        newcomers_are_refused_while_users_have_all_files(socks);
    }
}

#[test]
fn a_server_whose_users_have_all_files_refuses_newcomers_at_once() {
    let link = Link::default();
    for files in EVEN_AND_ODD {
        let (_server, port) = poor_server(&link, files);
        let client = Client::start(Kind::Wsray, &link, port);
        newcomers_are_refused_while_users_have_all_files(client.socks);
    }
}

#[test]
fn strangers_cannot_take_all_files_and_users_without_one_are_refused_at_once() {
    let origin = Origin::start();
    let link = Link { handshake: 60, ..Link::default() };
    let (_node, port) = poor_server(&link, 96);
    let client = Client::start(Kind::Wsray, &link, port);
    let tunnel = || {
        let stream = apps::socks5(client.socks, origin.address.into(), None)?;
        apps::check_echo(&stream).map(|()| stream)
    };
    let _strangers: Vec<_> = (0..200).map(|_| raw::send(port, b"GET /ray HT")).collect();
    let mut users = vec![tunnel().expect("strangers have taken all files")];
    let refused = loop {
        let started = Instant::now();
        match tunnel() {
            Ok(stream) => users.push(stream),
            Err(_) => break started.elapsed(),
        }
        assert!(users.len() < 96, "more sessions than files");
    };
    assert!(refused < Duration::from_secs(2), "refused after {refused:?}");
    assert!(users.len() > 5, "{} users", users.len());
    // Those who are in are served on, and places that become free are given away.
    let mut first = &users[0];
    first.write_all(b"still").unwrap();
    assert_eq!(&apps::read_array::<5>(&mut first).unwrap(), b"still");
    users.truncate(1);
    assert!(within(Duration::from_secs(3), || tunnel().ok()).is_some(), "no recovery");
}
