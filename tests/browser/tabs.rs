//! Tabs come, go, sleep and take over from one another.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    forwarding::{Forwarding, MANY, check_reset, download, exchange, use_browser},
    support::{
        apps,
        chromium::Chromium,
        config::Link,
        free_port,
        node::{Client, Kind, Server},
        origin::Origin,
    },
};

#[test]
fn tab_that_is_reloaded_or_killed_resets_its_streams_and_the_next_one_takes_over() {
    need_chromium!();
    let origin = Origin::start();
    let (_server, forwarding) = Forwarding::with_server();
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
    let (_server, forwarding) = Forwarding::with_server();
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

#[test]
fn dial_without_a_tab_names_the_page_and_fails_in_time() {
    let (_server, forwarding) = Forwarding::with_server();
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
    let (_server, forwarding) = Forwarding::with_server();
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
