//! A program's life: reloads, changed files, stops, and listeners that outlive it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::OwnedFd,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{
    apps, certificate,
    config::{self, Link, Tls},
    free_port,
    node::{Client, Kind, Node, Server, wsray},
    origin::{Origin, pattern},
    random_id, raw, temporary_directory, within,
};

fn user(id: &str) -> Value {
    json!({ "id": id })
}

/// The configuration of a server with these users.
fn with_users(link: &Link, port: u16, ids: &[&str]) -> Value {
    let mut config = config::server(Kind::Wsray, link, port);
    config["inbounds"][0]["settings"]["clients"] = ids.iter().map(|id| user(id)).collect();
    config
}

fn start(link: &Link, ids: &[&str]) -> Server {
    Server::start_with(Kind::Wsray, link, |config| {
        config["inbounds"][0]["settings"]["clients"] = ids.iter().map(|id| user(id)).collect();
    })
}

fn reload(server: &Server, config: &Value) {
    server.node.rewrite(config);
    server.node.signal("HUP");
    server.node.log_line(&["reloaded"]);
}

fn tunnel(client: &Client, origin: &Origin) -> TcpStream {
    let stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
    apps::check_echo(&stream).unwrap();
    stream
}

/// More of what [`apps::check_echo`] has begun.
fn echoes(mut stream: &TcpStream) -> bool {
    let mut answer = [0; 4];
    stream.write_all(b"more").and_then(|()| stream.read_exact(&mut answer)).is_ok() && &answer == b"more"
}

fn is_reset(mut stream: &TcpStream) -> bool {
    let end = std::io::copy(&mut stream, &mut std::io::sink());
    end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn a_reload_keeps_running_sessions_and_lets_new_users_in() {
    let origin = Origin::start();
    let link = Link::default();
    let second = Link { id: random_id(), ..link.clone() };
    let server = start(&link, &[&link.id]);
    let client = Client::start(Kind::Wsray, &link, server.port);
    let running = tunnel(&client, &origin);
    reload(&server, &with_users(&link, server.port, &[&second.id, &link.id]));
    assert!(echoes(&running), "the running session ended");
    tunnel(&client, &origin);
    tunnel(&Client::start(Kind::Wsray, &second, server.port), &origin);
}

#[test]
fn reloads_refuse_no_newcomer() {
    let link = Link::default();
    let server = start(&link, &[&link.id]);
    let over = AtomicBool::new(false);
    let newcomers = || {
        let (mut served, started) = (0, Instant::now());
        while !over.load(Relaxed) && started.elapsed() < Duration::from_secs(20) {
            let mut stream = raw::send(server.port, raw::upgrade("/ray", "").as_bytes()).unwrap();
            assert!(apps::read_head(&mut stream).unwrap().starts_with("HTTP/1.1 101 "));
            served += 1;
            // There are only so many ports to come from.
            std::thread::sleep(Duration::from_millis(2));
        }
        served
    };
    std::thread::scope(|scope| {
        let coming = [(); 2].map(|()| scope.spawn(newcomers));
        for count in 1..=3 {
            let more: Vec<String> = (0..count).map(|_| random_id()).collect();
            let ids: Vec<&str> = more.iter().map(String::as_str).chain([&*link.id]).collect();
            server.node.rewrite(&with_users(&link, server.port, &ids));
            server.node.signal("HUP");
            server.node.log_with(count, "reloaded");
            std::thread::sleep(Duration::from_millis(100));
        }
        over.store(true, Relaxed);
        for one in coming {
            assert!(one.join().expect("a newcomer was refused") > 10);
        }
    });
}

#[test]
fn a_removed_user_loses_his_sessions_and_others_keep_theirs() {
    let origin = Origin::start();
    let stays = Link::default();
    let goes = Link { id: random_id(), ..stays.clone() };
    let server = start(&stays, &[&goes.id, &stays.id]);
    let (stayer, goer) =
        (Client::start(Kind::Wsray, &stays, server.port), Client::start(Kind::Wsray, &goes, server.port));
    let (of_stayer, of_goer) = (tunnel(&stayer, &origin), tunnel(&goer, &origin));
    // A reload in between must not lose sight of older sessions.
    reload(&server, &with_users(&stays, server.port, &[&stays.id, &goes.id]));
    assert!(echoes(&of_goer));
    server.node.rewrite(&with_users(&stays, server.port, &[&stays.id]));
    server.node.signal("HUP");
    server.node.log_line(&["1 removed user"]);
    assert!(is_reset(&of_goer), "the removed user's session is no clean end, and ends at once");
    assert!(echoes(&of_stayer));
    tunnel(&stayer, &origin);
    let refused = apps::socks5(goer.socks, origin.address.into(), None);
    assert!(refused.is_err() || apps::check_echo(&refused.unwrap()).is_err());
}

#[test]
fn a_bad_configuration_is_refused_with_its_place_and_the_old_one_goes_on() {
    let origin = Origin::start();
    let link = Link::default();
    let server = start(&link, &[&link.id]);
    let client = Client::start(Kind::Wsray, &link, server.port);
    let running = tunnel(&client, &origin);
    let mut bad = with_users(&link, server.port, &[&link.id]);
    bad["inbounds"][0]["streamSettings"]["wsSettings"]["maxEarlyData"] = json!("many");
    server.node.rewrite(&bad);
    server.node.signal("HUP");
    server.node.log_line(&["config.json:", "maxEarlyData"]);
    server.node.log_line(&["not reloaded (SIGHUP)"]);
    assert!(echoes(&running));
    tunnel(&client, &origin);
    // A port that cannot be had changes nothing either.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    server.node.rewrite(&with_users(&link, taken.local_addr().unwrap().port(), &[&link.id]));
    server.node.signal("HUP");
    server.node.log_line(&["cannot listen on", &taken.local_addr().unwrap().port().to_string()]);
    tunnel(&client, &origin);
}

#[test]
fn a_reload_opens_and_closes_ports() {
    let origin = Origin::start();
    let link = Link::default();
    let server = start(&link, &[&link.id]);
    let client = Client::start(Kind::Wsray, &link, server.port);
    let running = tunnel(&client, &origin);
    let port = free_port();
    reload(&server, &with_users(&link, port, &[&link.id]));
    tunnel(&Client::start(Kind::Wsray, &link, port), &origin);
    let closed = within(Duration::from_secs(2), || TcpStream::connect(("127.0.0.1", server.port)).err());
    assert!(closed.is_some(), "the old port still takes connections");
    assert!(echoes(&running), "a session that came by the old port goes on");
}

#[test]
fn a_changed_file_is_noticed() {
    let origin = Origin::start();
    let link = Link::default();
    let added = Link { id: random_id(), ..link.clone() };
    let server = start(&link, &[&link.id]);
    server.node.rewrite(&with_users(&link, server.port, &[&link.id, &added.id]));
    let seen = within(Duration::from_secs(8), || server.node.log().contains("reloaded").then_some(()));
    assert!(seen.is_some(), "nothing was reloaded");
    tunnel(&Client::start(Kind::Wsray, &added, server.port), &origin);
}

#[test]
fn a_new_certificate_is_noticed_and_running_sessions_go_on() {
    let origin = Origin::start();
    let link = Link { tls: Tls::On, ..Link::default() };
    let folder = temporary_directory("renewed");
    let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(&chain, other.cert.pem()).unwrap();
    fs::write(&key, other.signing_key.serialize_pem()).unwrap();
    let server = Server::start_with(Kind::Wsray, &link, |config| {
        config["inbounds"][0]["streamSettings"]["tlsSettings"]["certificates"] =
            json!([{ "certificateFile": chain, "keyFile": key }]);
    });
    let trusts_old = Client::start_with(Kind::Wsray, &link, server.port, |config| {
        let lines: Vec<_> = other.cert.pem().lines().map(str::to_owned).collect();
        config["outbounds"][0]["streamSettings"]["tlsSettings"]["certificates"] =
            json!([{ "usage": "verify", "certificate": lines }]);
    });
    let running = tunnel(&trusts_old, &origin);
    let files = certificate::files();
    fs::copy(&files.certificate, &chain).unwrap();
    fs::copy(&files.key, &key).unwrap();
    let seen = within(Duration::from_secs(8), || server.node.log().contains("reloaded").then_some(()));
    assert!(seen.is_some(), "nothing was reloaded");
    assert!(echoes(&running));
    tunnel(&Client::start(Kind::Wsray, &link, server.port), &origin);
}

#[test]
fn a_replay_is_refused_after_a_reload() {
    let origin = Origin::start();
    let link = Link::default();
    let server = start(&link, &[&link.id]);
    let tap = support::tap::Tap::before(server.port);
    let client = Client::start(Kind::Wsray, &link, tap.port);
    tunnel(&client, &origin);
    let captured = tap.to_server(0);
    reload(&server, &with_users(&link, server.port, &[&random_id(), &link.id]));
    let seen = origin.connections();
    let mut again = support::raw::send(server.port, &captured).unwrap();
    support::raw::read_to_end(&mut again, Duration::from_secs(4));
    assert_eq!(origin.connections(), seen, "the replay reached the origin");
}

#[test]
fn a_stop_lets_a_transfer_finish_and_takes_no_new_ones() {
    let origin = Origin::start();
    let link = Link::default();
    let mut server = start(&link, &[&link.id]);
    let client = Client::start(Kind::Wsray, &link, server.port);
    let mut running = tunnel(&client, &origin);
    server.node.signal("TERM");
    let refused = within(Duration::from_secs(1), || TcpStream::connect(("127.0.0.1", server.port)).err());
    assert!(refused.is_some(), "new connections are still taken");
    // Something every 0.4 s, for longer than a quiet second.
    let text = pattern(8, 1);
    for piece in text.chunks(1) {
        std::thread::sleep(Duration::from_millis(400));
        running.write_all(piece).unwrap();
        let mut back = [0];
        running.read_exact(&mut back).unwrap();
        assert_eq!(&back, piece);
    }
    drop(running);
    let status = server.node.wait(Duration::from_secs(3)).expect("it ends when its last session has");
    assert!(status.success());
}

#[test]
fn a_stop_cuts_what_does_not_end_in_time_and_that_is_no_clean_end() {
    let origin = Origin::start();
    let link = Link::default();
    let mut server = start(&link, &[&link.id]);
    let client = Client::start(Kind::Wsray, &link, server.port);
    let idle = tunnel(&client, &origin);
    let start = Instant::now();
    server.node.signal("TERM");
    assert!(is_reset(&idle));
    let waited = start.elapsed();
    assert!(
        waited > Duration::from_millis(800) && waited < Duration::from_secs(4),
        "a quiet second: {waited:?}"
    );
    assert!(server.node.wait(Duration::from_secs(2)).is_some());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let origin = Origin::start();
    let link = Link::default();
    let mut server = start(&link, &[&link.id]);
    let client = Client::start(Kind::Wsray, &link, server.port);
    let idle = tunnel(&client, &origin);
    server.node.signal("INT");
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    server.node.signal("INT");
    assert!(server.node.wait(Duration::from_millis(700)).is_some(), "it still runs");
    assert!(start.elapsed() < Duration::from_millis(700));
    assert!(is_reset(&idle));
}

#[test]
fn the_log_is_opened_again_on_demand() {
    let folder = temporary_directory("rotated");
    let (log, old) = (folder.join("error.log"), folder.join("error.log.1"));
    let server = Server::start_with(Kind::Wsray, &Link::default(), |config| {
        config["log"] = json!({ "error": log, "loglevel": "debug" });
    });
    assert!(
        within(Duration::from_secs(2), || fs::read_to_string(&log).ok().filter(|text| !text.is_empty()))
            .is_some()
    );
    fs::rename(&log, &old).unwrap();
    server.node.signal("USR1");
    let reopened = within(Duration::from_secs(2), || log.exists().then_some(()));
    assert!(reopened.is_some(), "no new log file");
    drop(TcpStream::connect(("127.0.0.1", server.port)).unwrap());
    assert!(
        within(Duration::from_secs(2), || fs::read_to_string(&log).ok().filter(|text| !text.is_empty()))
            .is_some()
    );
}

/// Starts wsray with a listening socket as systemd hands it over (`sd_listen_fds(3)`): as descriptor 3.
fn activated(name: &str, listener: &TcpListener, config: &Value) -> Node {
    let folder = temporary_directory(name);
    let path = folder.join("config.json");
    fs::write(&path, config.to_string()).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"", "sh"]);
    command.arg(wsray()).args(["run", "-c"]).arg(&path);
    Node::start_with_input(name, command, folder, Stdio::from(OwnedFd::from(listener.try_clone().unwrap())))
}

#[test]
fn a_handed_over_listener_refuses_no_connection_across_a_restart() {
    let origin = Origin::start();
    let link = Link::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut config = config::server(Kind::Wsray, &link, port);
    config["inbounds"][0]["listen"] = json!("127.0.0.1");
    let client = Client::start(Kind::Wsray, &link, port);
    let mut first = activated("first", &listener, &config);
    tunnel(&client, &origin);
    first.signal("TERM");
    assert!(first.wait(Duration::from_secs(4)).is_some());
    // Nobody serves now; the connection waits in the listener.
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| tunnel(&client, &origin));
        std::thread::sleep(Duration::from_millis(500));
        let second = activated("second", &listener, &config);
        waiting.join().expect("a connection was refused");
        second.log_line(&["listening on"]);
    });
}
