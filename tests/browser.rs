//! Browser forwarding in a real browser: what goes through its tabs arrives, a lost tab is noticed, and no other web
//! page gets in.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sha2::Digest;
use support::{
    apps, certificate,
    chromium::{self, Chromium, Tab, private_memory},
    config::{Early, Link, Tls},
    free_port,
    node::{Client, Kind, Server},
    origin::{Origin, hash_of, pattern},
    raw, skip,
};

/// A client whose connections a browser makes.
struct Forwarding {
    client: Client,
    /// The page's address.
    page: String,
    port: u16,
}

impl Forwarding {
    fn start(link: &Link, server: u16) -> Self {
        Self::start_with(link, server, |_| {})
    }

    fn start_with(link: &Link, server: u16, change: impl FnOnce(&mut Value)) -> Self {
        let port = free_port();
        let client = Client::start_with(Kind::Wsray, link, server, |config| {
            use_browser(config, port);
            change(config);
        });
        Self { client, page: format!("http://127.0.0.1:{port}/"), port }
    }

    /// A tab that is connected.
    fn tab(&self, browser: &Chromium) -> Tab {
        self.tab_with(browser, "")
    }

    fn tab_with(&self, browser: &Chromium, script: &str) -> Tab {
        let tab = browser.open_with(&self.page, script);
        tab.wait_until("seen.connected");
        tab
    }

    fn connect(&self, origin: &Origin) -> TcpStream {
        let stream = apps::socks5(self.client.socks, origin.address.into(), None).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }
}

fn use_browser(config: &mut Value, port: u16) {
    config["browserForwarder"] = json!({ "listenAddr": "127.0.0.1", "listenPort": port });
    config["outbounds"][0]["streamSettings"]["wsSettings"]["useBrowserForwarding"] = json!(true);
}

/// What makes Chromium a browser like Firefox and Safari.
const WITHOUT_STREAMS: &str = "delete self.WebSocketStream";

/// Ends the test if there is no browser.
macro_rules! need_chromium {
    () => {
        if let Some(reason) = chromium::missing() {
            skip!(reason);
        }
    };
}

/// How many bytes of a test with many go in each direction.
const MANY: u64 = 64 << 20;

/// 64 MiB down, then up, with hashes.
fn exchange(forwarding: &Forwarding, origin: &Origin, length: u64) {
    let mut stream = forwarding.connect(origin);
    stream.write_all(format!("give {length} 1\n").as_bytes()).unwrap();
    let received = hash_of(&mut stream).unwrap();
    assert_eq!(received, hash_of(&mut &pattern(length, 1)[..]).unwrap(), "down");
    let sent = pattern(length, 2);
    let mut stream = forwarding.connect(origin);
    stream.write_all(format!("take {length}\n").as_bytes()).unwrap();
    stream.write_all(&sent).unwrap();
    let mut answer = [0; 64];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), hash_of(&mut &sent[..]).unwrap(), "up");
}

#[test]
fn many_bytes_arrive_whole_both_ways() {
    need_chromium!();
    let origin = Origin::start();
    let browser = Chromium::start();
    for (script, length) in [("", MANY), (WITHOUT_STREAMS, MANY / 4)] {
        let link = Link::default();
        let server = Server::start(Kind::Wsray, &link);
        let forwarding = Forwarding::start(&link, server.port);
        let tab = forwarding.tab_with(&browser, script);
        exchange(&forwarding, &origin, length);
        let counted = tab.eval("[seen.up, seen.down, HAS_STREAMS]");
        assert!(counted[0].as_u64().unwrap() > length && counted[1].as_u64().unwrap() > length, "{counted}");
        assert_eq!(counted[2], script.is_empty(), "{counted}");
        tab.wait_until("seen.tunnels === 0");
        tab.close();
    }
}

const TUNNELS: usize = 100;

#[test]
fn hundred_tunnels_at_once_go_through_one_tab() {
    need_chromium!();
    let origin = Origin::start();
    let browser = Chromium::start();
    for script in ["", WITHOUT_STREAMS] {
        let link = Link::default();
        let server = Server::start(Kind::Wsray, &link);
        let forwarding = Forwarding::start(&link, server.port);
        let tab = forwarding.tab_with(&browser, script);
        let streams: Vec<_> = thread::scope(|scope| {
            let start = |number: usize| {
                let (forwarding, origin) = (&forwarding, &origin);
                scope.spawn(move || {
                    let stream = forwarding.connect(origin);
                    let answer = apps::ask(&stream, &format!("send 50000 {number}"), 50_000);
                    assert!(answer.unwrap() == pattern(50_000, number as u64), "{number}");
                    stream
                })
            };
            let threads: Vec<_> = (0..TUNNELS).map(start).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(tab.eval("seen.tunnels"), TUNNELS);
        drop(streams);
        tab.wait_until("seen.tunnels === 0");
        tab.close();
    }
}

#[test]
fn first_words_arrive_whole_in_every_mode_of_early_data() {
    need_chromium!();
    let origin = Origin::start();
    let browser = Chromium::start();
    let header = |most| Early::Header("Sec-WebSocket-Protocol", most);
    let all = [Early::None, Early::Path(2048), Early::Path(100), header(2048), header(100)];
    for (kind, modes) in [
        (Kind::Wsray, &all[..]),
        (Kind::V2Ray445, &all[..3]),
        (Kind::SingBox, &[Early::None, Early::Path(2048), Early::Path(100)]),
    ] {
        for &early in modes {
            let link = Link { early, ..Link::default() };
            let server = Server::start(kind, &link);
            let forwarding = Forwarding::start(&link, server.port);
            let tab = forwarding.tab(&browser);
            let text = pattern(5000, 7);
            let mut stream = forwarding.connect(&origin);
            stream.write_all(&[b"echo\n", &text[..]].concat()).unwrap();
            let mut answer = vec![0; text.len()];
            stream.read_exact(&mut answer).unwrap();
            assert!(answer == text, "{kind:?}, {early:?}");
            if let Early::Path(most) | Early::Header(_, most) = early {
                let carried = format!("by a browser, WebSocket, {most} bytes of early data");
                forwarding.client.node.log_line(&[&carried]);
            }
            tab.close();
        }
    }
}

/// V2Ray 4 does not send `Sec-WebSocket-Protocol` back, and browsers refuse that.
#[test]
fn server_that_does_not_echo_the_early_data_header_is_named_in_the_log() {
    need_chromium!();
    let link = Link { early: Early::Header("Sec-WebSocket-Protocol", 2048), ..Link::default() };
    let server = Server::start(Kind::V2Ray445, &link);
    let forwarding = Forwarding::start(&link, server.port);
    let browser = Chromium::start();
    let tab = forwarding.tab(&browser);
    let mut stream = forwarding.connect(&Origin::start());
    stream.write_all(b"echo\nhello").unwrap();
    assert!(stream.read(&mut [0; 1]).is_err(), "a reset");
    forwarding
        .client
        .node
        .log_line(&["did not connect to ws://127.0.0.1", "whether the server sends Sec-WebSocket"]);
    assert!(tab.eval("seen.problem").as_str().unwrap().contains("127.0.0.1"));
}

#[test]
fn server_that_speaks_first_is_heard() {
    need_chromium!();
    let origin = Origin::with_banner("220 hello\r\n");
    let browser = Chromium::start();
    for early in [Early::None, Early::Path(2048)] {
        for script in ["", WITHOUT_STREAMS] {
            let link = Link { early, ..Link::default() };
            let server = Server::start(Kind::Wsray, &link);
            let forwarding = Forwarding::start(&link, server.port);
            let tab = forwarding.tab_with(&browser, script);
            let mut stream = forwarding.connect(&origin);
            let mut banner = [0; 11];
            stream.read_exact(&mut banner).unwrap();
            assert_eq!(&banner, b"220 hello\r\n");
            tab.close();
        }
    }
}

/// As on a direct connection (`tests/endings.rs`).
#[test]
fn ends_and_cuts_are_told_apart_behind_a_tab() {
    need_chromium!();
    let origin = Origin::start();
    let browser = Chromium::start();
    for kind in [Kind::Wsray, Kind::V2Ray445, Kind::SingBox] {
        for script in ["", WITHOUT_STREAMS] {
            let link = Link::default();
            let mut server = Server::start(kind, &link);
            let forwarding = Forwarding::start(&link, server.port);
            let tab = forwarding.tab_with(&browser, script);
            // sing-box sends no end mark and leaves with its close frame. `WebSocketStream` shows that one has come. Without
            // it Chromium tells its page nothing but 1006 at times, as of a cut: then a reset is right.
            let may_be_reset = kind == Kind::SingBox && !script.is_empty();
            for length in [0, 1, 300_000].repeat(if kind == Kind::SingBox { 20 } else { 1 }) {
                let mut stream = forwarding.connect(&origin);
                stream.write_all(format!("give {length} 5\n").as_bytes()).unwrap();
                let mut answer = Vec::new();
                match stream.read_to_end(&mut answer) {
                    Err(error) if may_be_reset => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
                    end => assert!(
                        end.is_ok() && answer == pattern(length, 5),
                        "{kind:?}, {script:?}, {length}: {end:?} after {} bytes",
                        answer.len()
                    ),
                }
            }
            if kind == Kind::Wsray {
                let mut stream = forwarding.connect(&origin);
                stream.write_all(b"late 500 1000\nquestion").unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).unwrap();
                assert_eq!(answer.len(), 1064, "{kind:?}, {script:?}: an answer after half-close");
            }
            let stream = download(&forwarding, &origin);
            server.node.kill();
            check_reset(stream, &format!("{kind:?}, {script:?}: the server is killed"));
            tab.close();
        }
    }
}

/// A browser forgets what its page has not read yet when a close frame comes.
#[test]
fn upload_that_is_still_under_way_when_the_application_has_ended_arrives_whole() {
    need_chromium!();
    let browser = Chromium::start();
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let forwarding = Forwarding::start(&link, server.port);
    let _tab = forwarding.tab(&browser);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // What the kernel holds would not be in the browser any more.
    socket2::SockRef::from(&listener).set_recv_buffer_size(64 * 1024).unwrap();
    let target = listener.local_addr().unwrap();
    let mut stream = apps::socks5(forwarding.client.socks, target.into(), None).unwrap();
    let sent = pattern(16_000_000, 3);
    thread::scope(|scope| {
        // Says nothing, and reads late and slowly.
        let reader = scope.spawn(|| {
            let mut target = listener.accept().unwrap().0;
            target.shutdown(Shutdown::Write).unwrap();
            let (mut received, mut block) = (Vec::new(), vec![0; 200_000]);
            loop {
                match target.read(&mut block) {
                    Ok(0) => return Ok(received),
                    Ok(read) => received.extend_from_slice(&block[..read]),
                    Err(error) => return Err((error, received.len())),
                }
                thread::sleep(Duration::from_millis(8));
            }
        });
        stream.write_all(&sent[..1]).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "the target says nothing");
        stream.write_all(&sent[1..]).unwrap();
        drop(stream);
        let received = reader.join().unwrap();
        assert!(
            received.as_ref().is_ok_and(|bytes| *bytes == sent),
            "{:?}",
            received.map(|bytes| bytes.len())
        );
    });
}

/// In the middle of a long download.
fn download(forwarding: &Forwarding, origin: &Origin) -> TcpStream {
    let stream = forwarding.connect(origin);
    apps::ask(&stream, &format!("send {} 1", 1_u64 << 30), 200_000).unwrap();
    stream
}

fn check_reset(mut stream: TcpStream, what: &str) {
    let started = Instant::now();
    let end = std::io::copy(&mut stream, &mut std::io::sink());
    let kind = end.as_ref().err().map(std::io::Error::kind);
    assert_eq!(kind, Some(ErrorKind::ConnectionReset), "{what}: {end:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "{what}: {:?}", started.elapsed());
}

#[test]
fn tab_that_is_reloaded_or_killed_resets_its_streams_and_the_next_one_takes_over() {
    need_chromium!();
    let origin = Origin::start();
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let forwarding = Forwarding::start(&link, server.port);
    let browser = Chromium::start();
    let tab = forwarding.tab(&browser);

    let stream = download(&forwarding, &origin);
    tab.reload();
    check_reset(stream, "reloaded");
    apps::check_echo(&forwarding.connect(&origin)).unwrap();

    let stream = download(&forwarding, &origin);
    browser.kill_renderers();
    check_reset(stream, "killed");
    // A dial waits for the next tab.
    let next = Chromium::start();
    thread::scope(|scope| {
        let dial = scope.spawn(|| apps::check_echo(&forwarding.connect(&origin)));
        thread::sleep(Duration::from_millis(200));
        let _tab = forwarding.tab(&next);
        dial.join().unwrap().unwrap();
    });
}

#[test]
fn tabs_share_the_load_and_a_frozen_or_closed_one_gets_none() {
    need_chromium!();
    let origin = Origin::start();
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let forwarding = Forwarding::start(&link, server.port);
    let browser = Chromium::start();
    let (one, other) = (forwarding.tab(&browser), forwarding.tab(&browser));
    let open = |count| -> Vec<_> {
        let connect = |_| {
            let stream = forwarding.connect(&origin);
            apps::check_echo(&stream).unwrap();
            stream
        };
        (0..count).map(connect).collect()
    };
    let streams = open(10);
    assert_eq!((one.eval("seen.tunnels"), other.eval("seen.tunnels")), (json!(5), json!(5)));
    drop(streams);
    one.wait_until("seen.tunnels === 0");
    other.wait_until("seen.tunnels === 0");

    one.freeze();
    let started = Instant::now();
    let streams = open(4);
    assert_eq!(other.eval("seen.tunnels"), 4, "all in the tab that is awake");
    assert!(started.elapsed() < Duration::from_secs(3), "took {:?}", started.elapsed());
    one.thaw();
    one.wait_until("seen.connected");
    drop(streams);
    other.wait_until("seen.tunnels === 0");

    other.close();
    let _streams = open(3);
    assert_eq!(one.eval("seen.tunnels"), 3, "all in the tab that is left");
}

/// Far less than what is offered, in bytes.
const MOST: u64 = 64 << 20;

/// Chromium buffers the bytes of slow readers nowhere: neither here nor there does memory grow.
#[test]
fn slow_reader_fills_no_memory() {
    need_chromium!();
    let origin = Origin::start();
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let forwarding = Forwarding::start(&link, server.port);
    let browser = Chromium::start();
    let tab = forwarding.tab(&browser);
    apps::check_echo(&forwarding.connect(&origin)).unwrap();
    let core = || private_memory(forwarding.client.node.id().into());
    let before = (core(), browser.memory());

    // Down: the application reads nothing of a gigabyte.
    let idle = download(&forwarding, &origin);
    // Up: the origin reads nothing of as much as it gets.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let deaf = listener.local_addr().unwrap();
    let mut writer = apps::socks5(forwarding.client.socks, deaf.into(), None).unwrap();
    writer.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let (block, mut written) = (vec![0; 64 * 1024], 0_u64);
    while written < (1 << 30) && writer.write_all(&block).is_ok() {
        written += 64 * 1024;
    }
    thread::sleep(Duration::from_secs(1));
    let passed = tab.eval("[seen.up, seen.down]");
    tab.call("HeapProfiler.collectGarbage", &json!({}));
    let after = (core(), browser.memory());
    let grown = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
    assert!(written < MOST, "{written} bytes were taken that nobody reads");
    assert!(passed[1].as_u64().unwrap() < MOST, "{passed} bytes were passed that nobody reads");
    assert!(grown.0 < MOST && grown.1 < 2 * MOST, "{grown:?} bytes more in core and browser");
    drop(idle);
}

/// Without `WebSocketStream` a page cannot make a server wait: the tunnel is cut, and the log of the page says so. It
/// can make us wait.
#[test]
fn slow_reader_fills_no_memory_of_other_browsers() {
    need_chromium!();
    let origin = Origin::start();
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let forwarding = Forwarding::start(&link, server.port);
    let browser = Chromium::start();
    let tab = forwarding.tab_with(&browser, WITHOUT_STREAMS);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let deaf = listener.local_addr().unwrap();
    let mut writer = apps::socks5(forwarding.client.socks, deaf.into(), None).unwrap();
    writer.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let (block, mut written) = (vec![0; 64 * 1024], 0_u64);
    while written < (1 << 30) && writer.write_all(&block).is_ok() {
        written += 64 * 1024;
    }
    assert!(written < 24 << 20, "{written} bytes were taken that nobody reads");
    let idle = download(&forwarding, &origin);
    tab.wait_until("seen.problem !== ''");
    check_reset(idle, "too slow");
    assert!(tab.eval("seen.down").as_u64().unwrap() < 64 << 20);
    assert_eq!(tab.eval("seen.tunnels"), 1, "the other one lives");
}

#[test]
fn dial_without_a_tab_names_the_page_and_fails_in_time() {
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let forwarding = Forwarding::start(&link, server.port);
    forwarding
        .client
        .node
        .log_line(&["[Warning] browser: ", &format!("open {} in a browser", forwarding.page)]);
    let started = Instant::now();
    let mut stream = forwarding.connect(&Origin::start());
    stream.write_all(b"echo\nhello").unwrap();
    assert!(stream.read(&mut [0; 1]).is_err(), "a reset");
    let took = started.elapsed();
    assert!(took > Duration::from_secs(6) && took < Duration::from_secs(12), "took {took:?}");
    forwarding.client.node.log_line(&["no browser tab is here", &format!("open {}", forwarding.page)]);
}

/// More of what [`apps::check_echo`] has begun.
fn echoes(mut stream: &TcpStream) -> bool {
    let mut answer = [0; 4];
    stream.write_all(b"more").and_then(|()| stream.read_exact(&mut answer)).is_ok() && &answer == b"more"
}

/// A tab that another one hides; browsers slow its timers down.
#[test]
fn tab_in_the_background_goes_on() {
    need_chromium!();
    let origin = Origin::start();
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let forwarding = Forwarding::start(&link, server.port);
    let browser = Chromium::start();
    let tab = forwarding.tab(&browser);
    let before = forwarding.connect(&origin);
    apps::check_echo(&before).unwrap();
    let front = browser.open("about:blank");
    front.call("Page.bringToFront", &json!({}));
    tab.wait_until("document.visibilityState === 'hidden'");
    thread::sleep(Duration::from_secs(2));
    let timers = tab.eval(
        "new Promise(done => { const begun = performance.now(); let left = 5; const tick = () => left-- ? \
         setTimeout(tick, 10) : done(performance.now() - begun); tick(); })",
    );
    assert!(timers.as_f64().unwrap() > 900.0, "it is not throttled: {timers}");
    assert!(echoes(&before), "the running stream");
    let started = Instant::now();
    for _ in 0..20 {
        apps::check_echo(&forwarding.connect(&origin)).unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(10), "took {:?}", started.elapsed());
    exchange(&forwarding, &origin, MANY / 8);
    assert_eq!(tab.eval("document.visibilityState"), "hidden");
}

#[test]
fn reload_keeps_tabs_and_their_streams_and_a_page_that_moves_is_named() {
    need_chromium!();
    let origin = Origin::start();
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let mut written = Value::Null;
    let forwarding = Forwarding::start_with(&link, server.port, |config| written = config.clone());
    let browser = Chromium::start();
    let tab = forwarding.tab(&browser);
    let stream = forwarding.connect(&origin);
    apps::check_echo(&stream).unwrap();
    let node = &forwarding.client.node;

    written["policy"] = json!({ "levels": { "0": { "connIdle": 200 } } });
    node.rewrite(&written);
    node.signal("HUP");
    node.log_line(&["reloaded: "]);
    assert!(echoes(&stream), "the running stream");
    apps::check_echo(&forwarding.connect(&origin)).unwrap();
    assert_eq!(tab.eval("seen.connected"), true, "the same tab");

    let moved = free_port();
    written["browserForwarder"]["listenPort"] = json!(moved);
    node.rewrite(&written);
    node.signal("HUP");
    let page = format!("http://127.0.0.1:{moved}/");
    node.log_line(&["reloaded: ", &format!("open {page} in a browser")]);
    assert!(echoes(&stream), "the running stream");
    let new = browser.open(&page);
    new.wait_until("seen.connected");
    apps::check_echo(&forwarding.connect(&origin)).unwrap();
    tab.wait_until("!seen.connected");
    assert!(echoes(&stream), "the running stream");
}

/// The token of the new process is another one, so the page has to load itself anew.
#[test]
fn page_finds_a_restarted_program_by_itself() {
    need_chromium!();
    let origin = Origin::start();
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let mut forwarding = Forwarding::start(&link, server.port);
    let browser = Chromium::start();
    let tab = forwarding.tab(&browser);
    forwarding.client.node.kill();
    tab.wait_until("!seen.connected");
    let port = forwarding.port;
    let again = Client::start_with(Kind::Wsray, &link, server.port, |config| use_browser(config, port));
    let stream = apps::socks5(again.socks, origin.address.into(), None).unwrap();
    apps::check_echo(&stream).unwrap();
}

#[test]
fn server_sees_the_request_of_a_browser() {
    need_chromium!();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let link = Link {
        path: "/ray?a=b".to_owned(),
        headers: vec![("Host", "www.example.test"), ("User-Agent", "curl/8")],
        ..Link::default()
    };
    let forwarding = Forwarding::start(&link, port);
    forwarding.client.node.log_line(&["a browser sends its own headers, and not \"User-Agent\""]);
    let browser = Chromium::start_with(&["--host-resolver-rules=MAP www.example.test 127.0.0.1"]);
    let _tab = forwarding.tab(&browser);
    let _stream = forwarding.connect(&Origin::start());
    let (mut stream, _) = listener.accept().unwrap();
    let head = apps::read_head(&mut stream).unwrap();
    assert!(head.starts_with("GET /ray?a=b HTTP/1.1\r\n"), "{head}");
    for line in [
        &format!("Host: www.example.test:{port}"),
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        &format!("Origin: {}", forwarding.page.trim_end_matches('/')),
    ] {
        assert!(head.lines().any(|own| own == line), "{line:?} is missing: {head}");
    }
    assert!(head.contains("User-Agent: Mozilla/5.0") && head.contains("Chrome/"), "{head}");
}

/// The hash by which Chromium can be told to trust a key (`--ignore-certificate-errors-spki-list`).
fn key_hash(pem: &std::path::Path) -> String {
    let text = std::fs::read_to_string(pem).unwrap();
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    let der = data_encoding::BASE64.decode(body.as_bytes()).unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    data_encoding::BASE64.encode(&sha2::Sha256::digest(parsed.public_key().raw))
}

#[test]
fn certificate_is_the_browsers_to_judge() {
    need_chromium!();
    let origin = Origin::start();
    let link = Link { tls: Tls::On, ..Link::default() };
    let server = Server::start(Kind::Wsray, &link);
    // The address is no name on the certificate; serverName is.
    let forwarding = Forwarding::start_with(&link, server.port, |config| {
        config["outbounds"][0]["settings"]["vnext"][0]["address"] = json!("127.0.0.2");
    });
    let trust =
        format!("--ignore-certificate-errors-spki-list={}", key_hash(&certificate::files().certificate));
    let browser = Chromium::start_with(&[&trust]);
    let tab = forwarding.tab(&browser);
    apps::check_echo(&forwarding.connect(&origin)).unwrap();
    tab.close();

    let browser = Chromium::start();
    let _tab = forwarding.tab(&browser);
    let mut stream = forwarding.connect(&origin);
    stream.write_all(b"echo\nhello").unwrap();
    assert!(stream.read(&mut [0; 1]).is_err(), "a reset");
    let url = format!("https://localhost:{}/", server.port);
    forwarding.client.node.log_line(&["or its certificate is not valid", &url]);
}

/// Many set the whole system's proxy to this program, and with it that browser's.
#[test]
fn browser_that_uses_us_as_its_proxy_makes_no_loop() {
    need_chromium!();
    let link = Link { headers: vec![("Host", "server.example.test")], ..Link::default() };
    let server = Server::start(Kind::Wsray, &link);
    let forwarding = Forwarding::start(&link, server.port);
    let browser =
        Chromium::start_with(&[&format!("--proxy-server=socks5://127.0.0.1:{}", forwarding.client.socks)]);
    let _tab = forwarding.tab(&browser);
    let mut stream = forwarding.connect(&Origin::start());
    stream.write_all(b"echo\nhello").unwrap();
    assert!(stream.read(&mut [0; 1]).is_err(), "a reset");
    forwarding
        .client
        .node
        .log_line(&["the browser sends its connection to ws://server.example.test", "proxy"]);
}

/// A request for `target` with these header lines; the status.
fn status(port: u16, target: &str, headers: &str) -> String {
    let request = format!(
        "GET {target} HTTP/1.1\r\n{headers}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let answer = raw::ask(port, request.as_bytes()).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn other_web_pages_are_refused() {
    let link = Link::default();
    let forwarding = Forwarding::start(&link, free_port());
    let port = forwarding.port;
    let page =
        raw::ask(port, format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n").as_bytes()).unwrap();
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    for header in [
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "frame-ancestors 'none'",
        "default-src 'none'; script-src 'nonce-",
    ] {
        assert!(page.contains(header), "{header} is missing: {page}");
    }
    assert!(!page.to_lowercase().contains("access-control"), "{page}");
    let token = token(port);
    let link = format!("/link?token={token}");
    let host = format!("Host: 127.0.0.1:{port}\r\n");
    let ours = format!("{host}Origin: http://127.0.0.1:{port}\r\n");
    assert_eq!(status(port, &link, &ours), "HTTP/1.1 101 Switching Protocols", "our own page");
    for (what, target, headers) in [
        ("no Origin", &*link, host.clone()),
        ("Origin null", &link, format!("{host}Origin: null\r\n")),
        ("a foreign Origin", &link, format!("{host}Origin: https://evil.example\r\n")),
        ("another port's Origin", &link, format!("{host}Origin: http://127.0.0.1:{}\r\n", port ^ 1)),
        (
            "DNS rebinding",
            &link,
            format!("Host: evil.example:{port}\r\nOrigin: http://evil.example:{port}\r\n"),
        ),
        ("DNS rebinding of the page", "/", format!("Host: evil.example:{port}\r\n")),
        ("no token", "/link", ours.clone()),
        ("a wrong token", &format!("/link?token={}", token.to_lowercase()), ours.clone()),
        ("a tunnel without a token", "/tunnel?id=1", ours.clone()),
    ] {
        assert_eq!(status(port, target, &headers), "HTTP/1.1 403 Forbidden", "{what}");
    }
    let nowhere = status(port, &format!("/tunnel?token={token}&id=1"), &ours);
    assert_eq!(nowhere, "HTTP/1.1 404 Not Found", "a tunnel that nobody waits for");
    assert_eq!(status(port, "/index.js", &ours), "HTTP/1.1 404 Not Found");
    forwarding.client.node.log_line(&["a WebSocket from https://evil.example is not our page's"]);
    let log = forwarding.client.node.log();
    assert!(!log.contains(&token), "the token is a secret");
}

/// The token in the page of a running program.
fn token(port: u16) -> String {
    let mut stream =
        raw::send(port, format!("GET / HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n").as_bytes()).unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    let (_, rest) = page.split_once("name=\"token\" content=\"").unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

/// Who may use a tunnel or an inbound is not who may use the page: of what is on this machine, it is the last to reach.
#[test]
fn page_cannot_be_reached_through_the_program_that_serves_it() {
    let (port, other_port) = (free_port(), free_port());
    let link = Link::default();
    // A server that has a page, too, and no client of its own.
    let mut names = json!({});
    let server = Server::start_with(Kind::Wsray, &link, |config| {
        config["browserForwarder"] = json!({ "listenAddr": "127.0.0.1", "listenPort": port });
        names = json!({ "hosts": { "page.example.test": "127.0.0.1" } });
        config["dns"] = names.clone();
        config["outbounds"][0]["settings"] = json!({ "domainStrategy": "UseIP" });
    });
    let client = Client::start(Kind::Wsray, &link, server.port);
    let direct = Client::start_with(Kind::Wsray, &link, server.port, |config| {
        config["browserForwarder"] = json!({ "listenAddr": "127.0.0.1", "listenPort": other_port });
        config["dns"] = names.clone();
        config["outbounds"] = json!([{ "protocol": "freedom", "settings": { "domainStrategy": "UseIP" } }]);
    });
    let request = |socks: u16, target: apps::Target, port: u16| {
        let mut stream = apps::socks5(socks, target, None)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    for (what, socks, port, log) in
        [("tunnel", client.socks, port, &server.node), ("direct", direct.socks, other_port, &direct.node)]
    {
        let page = raw::ask(port, format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n").as_bytes());
        assert!(page.unwrap().starts_with("HTTP/1.1 200 "), "{what}: the page is there");
        for host in ["127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1", "localhost", "page.example.test"] {
            let target = host.parse::<IpAddr>();
            let target = target.map_or(apps::Target::Name(host, port), |ip| SocketAddr::new(ip, port).into());
            let answer = request(socks, target, port);
            assert!(answer.as_ref().map_or(true, String::is_empty), "{what}, {host}: {answer:?}");
        }
        log.log_line(&[&format!(":{port} is this program's own page for browsers")]);
    }
}

#[test]
fn foreign_page_in_the_same_browser_gets_nothing() {
    need_chromium!();
    let forwarding = Forwarding::start(&Link::default(), free_port());
    let (port, token) = (forwarding.port, token(forwarding.port));
    let browser = Chromium::start_with(&["--host-resolver-rules=MAP evil.example 127.0.0.1"]);
    // Any page of another origin: that of the SOCKS port's HTTP neighbour will do.
    let foreign = Origin::start();
    let tab = browser.open(&format!("http://localhost:{}/", foreign.port()));
    let opens = |url: &str| {
        tab.eval(&format!(
            "new Promise(done => {{ const socket = new WebSocket('{url}'); socket.onopen = () => done('open'); \
             socket.onerror = () => done('refused'); }})"
        ))
    };
    assert_eq!(opens(&format!("ws://127.0.0.1:{port}/link?token={token}")), "refused", "even with the token");
    let read = |url: &str, mode: &str| {
        tab.eval(&format!(
            "fetch('{url}', {{ mode: '{mode}' }}).then(answer => answer.text(), () => 'refused')"
        ))
    };
    assert_eq!(read(&forwarding.page, "cors"), "refused", "the page cannot be read");
    assert_eq!(read(&forwarding.page, "no-cors"), "refused", "not even blindly");
    tab.go(&format!("http://evil.example:{port}/"));
    let shown = tab.eval("document.body.innerText");
    assert!(shown.as_str().unwrap().contains("HTTP ERROR 403"), "DNS rebinding: {shown}");
    // The real page, at another name of this machine, is the same page.
    tab.go(&format!("http://localhost:{port}/"));
    tab.wait_until("seen.connected");
}

#[test]
fn nonsense_of_a_page_ends_its_link_and_nothing_else() {
    let forwarding = Forwarding::start(&Link::default(), free_port());
    let (port, token) = (forwarding.port, token(forwarding.port));
    let open = || {
        let request = format!(
            "GET /link?token={token} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let mut stream = raw::send(port, request.as_bytes()).unwrap();
        assert!(apps::read_head(&mut stream).unwrap().contains(raw::ACCEPT));
        stream
    };
    for nonsense in
        [&b"hello 99 browser browser\n"[..], b"opened 1\n", &[b'a'; 1000], b"hello 1 x browser\nwhat\n"]
    {
        let mut stream = open();
        stream.write_all(&raw::masked_frame(nonsense)).unwrap();
        let end = raw::read_to_end(&mut stream, Duration::from_secs(5));
        assert_ne!(end.how, raw::How::StillOpen, "{nonsense:?}");
    }
    // A page that answers for others' tunnels, or acknowledges what it never got, changes nothing.
    let mut stream = open();
    stream
        .write_all(&raw::masked_frame(b"hello 1 x credit\nopened 1\npassed 1 18446744073709551615\n"))
        .unwrap();
    let end = raw::read_to_end(&mut stream, Duration::from_millis(300));
    assert_eq!(end.how, raw::How::StillOpen);
}

/// What a person sees. With `WSRAY_SCREENSHOTS` it is written there, for the documents.
#[test]
fn page_speaks_the_browsers_language() {
    need_chromium!();
    let origin = Origin::start();
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let forwarding = Forwarding::start(&link, server.port);
    for (language, good, tunnels) in [("en-US", "Connected", "Tunnels now"), ("zh-CN", "已连接", "当前隧道")]
    {
        let browser =
            Chromium::start_with(&[&format!("--accept-lang={language}"), &format!("--lang={language}")]);
        let tab = forwarding.tab(&browser);
        let streams: Vec<_> = (0..3).map(|_| download(&forwarding, &origin)).collect();
        tab.wait_until("document.getElementById('tunnels').textContent === '3'");
        let text = tab.eval("document.body.innerText");
        let text = text.as_str().unwrap();
        assert!(text.contains(good) && text.contains(tunnels), "{text}");
        assert_eq!(
            tab.eval("document.documentElement.lang"),
            if language == "en-US" { "en" } else { "zh-CN" }
        );
        if let Some(folder) = std::env::var_os("WSRAY_SCREENSHOTS") {
            for scheme in ["light", "dark"] {
                let feature = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
                tab.call("Emulation.setEmulatedMedia", &feature);
                let size = json!({ "width": 640, "height": 400, "deviceScaleFactor": 1.5, "mobile": false });
                tab.call("Emulation.setDeviceMetricsOverride", &size);
                let shot = tab.call("Page.captureScreenshot", &json!({ "format": "png" }));
                let bytes = data_encoding::BASE64.decode(shot["data"].as_str().unwrap().as_bytes()).unwrap();
                let name = format!("browser-{}-{scheme}.png", &language[..2]);
                std::fs::write(std::path::Path::new(&folder).join(name), bytes).unwrap();
            }
        }
        drop(streams);
    }
}

/// What a tab costs: `cargo test --test browser speed_ -- --ignored --nocapture`.
#[test]
#[ignore = "it measures"]
#[expect(clippy::print_stdout, reason = "a table to read")]
fn speed_through_a_tab_beside_that_without() {
    const BYTES: u64 = 1 << 30;
    need_chromium!();
    let origin = Origin::start();
    let browser = Chromium::start();
    println!(
        "| way | down MiB/s | up MiB/s | CPU ms a GiB down: wsray, browser | up: wsray, browser | echo p50 µs |"
    );
    for way in ["direct", "tab", "tab without WebSocketStream"] {
        let link = Link::default();
        let server = Server::start(Kind::Wsray, &link);
        let (client, tab) = if way == "direct" {
            (Client::start(Kind::Wsray, &link, server.port), None)
        } else {
            let forwarding = Forwarding::start(&link, server.port);
            let script = if way == "tab" { "" } else { WITHOUT_STREAMS };
            let tab = forwarding.tab_with(&browser, script);
            (forwarding.client, Some(tab))
        };
        let cpu = || {
            let wsray = cpu_ms(client.node.id()) + cpu_ms(server.node.id());
            let processes = browser.processes().into_iter();
            (wsray, processes.map(|(_, process)| cpu_ms(u32::try_from(process).unwrap())).sum::<u64>())
        };
        let measure = |transfer: &dyn Fn(&mut TcpStream)| {
            let mut stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
            let (before, started) = (cpu(), Instant::now());
            transfer(&mut stream);
            let (took, after) = (started.elapsed(), cpu());
            (1024.0 / took.as_secs_f64(), after.0 - before.0, after.1 - before.1)
        };
        let down = measure(&|stream| {
            stream.write_all(format!("send {BYTES} 1\n").as_bytes()).unwrap();
            std::io::copy(&mut stream.take(BYTES), &mut std::io::sink()).unwrap();
        });
        let up = measure(&|stream| {
            stream.write_all(format!("take {BYTES}\n").as_bytes()).unwrap();
            let block = vec![7; 1 << 20];
            (0..BYTES >> 20).for_each(|_| stream.write_all(&block).unwrap());
            stream.read_exact(&mut [0; 64]).unwrap();
        });
        let echo = median_echo(apps::socks5(client.socks, origin.address.into(), None).unwrap());
        println!(
            "| {way} | {:.0} | {:.0} | {}, {} | {}, {} | {} |",
            down.0, up.0, down.1, down.2, up.1, up.2, echo
        );
        if let Some(tab) = tab {
            tab.close();
        }
    }
}

/// How long an echo of 64 bytes takes, in microseconds.
fn median_echo(mut stream: TcpStream) -> u128 {
    const ECHOES: usize = 2000;
    apps::check_echo(&stream).unwrap();
    let echo = |_| {
        let started = Instant::now();
        stream.write_all(&[1; 64]).unwrap();
        stream.read_exact(&mut [0; 64]).unwrap();
        started.elapsed().as_micros()
    };
    let mut times: Vec<_> = (0..ECHOES).map(echo).collect();
    times.sort_unstable();
    times[ECHOES / 2]
}

/// The processor time that a process has taken, in milliseconds.
fn cpu_ms(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything; in ticks of 10 ms (proc(5)).
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10
}
