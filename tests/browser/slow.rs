//! Slow readers, which must fill nobody's memory.

use std::{
    io::Write,
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use serde_json::json;

use crate::{
    forwarding::{Forwarding, WITHOUT_STREAMS, check_reset, download},
    support::{
        apps,
        chromium::{Chromium, private_memory},
        origin::Origin,
    },
};

/// Far less than what is offered, in bytes.
const MOST: u64 = 64 << 20;

/// Sends to somebody who reads nothing until nothing more is taken, or a gigabyte was; how many bytes that is.
fn fill(forwarding: &Forwarding, deaf: &TcpListener) -> (TcpStream, u64) {
    let target = deaf.local_addr().unwrap();
    let mut writer = apps::socks5(forwarding.client.socks, target.into(), None).unwrap();
    writer.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let (block, mut written) = (vec![0; 64 * 1024], 0_u64);
    while written < (1 << 30) && writer.write_all(&block).is_ok() {
        written += 64 * 1024;
    }
    (writer, written)
}

/// Chromium buffers the bytes of slow readers nowhere: neither here nor there does memory grow.
#[test]
fn slow_reader_fills_no_memory() {
    need_chromium!();
    let origin = Origin::start();
    let (_server, forwarding) = Forwarding::with_server();
    let browser = Chromium::start();
    let tab = forwarding.tab(&browser);
    apps::check_echo(&forwarding.connect(&origin)).unwrap();
    let core = || private_memory(forwarding.client.node.id().into());
    let before = (core(), browser.memory());

    // Down: the application reads nothing of a gigabyte.
    let idle = download(&forwarding, &origin);
    // Up: the origin reads nothing of as much as it gets.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_writer, written) = fill(&forwarding, &deaf);
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
    let (_server, forwarding) = Forwarding::with_server();
    let browser = Chromium::start();
    let tab = forwarding.tab_with(&browser, WITHOUT_STREAMS);
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_writer, written) = fill(&forwarding, &deaf);
    assert!(written < 24 << 20, "{written} bytes were taken that nobody reads");
    let idle = download(&forwarding, &origin);
    tab.wait_until("seen.problem !== ''");
    check_reset(idle, "too slow");
    assert!(tab.eval("seen.down").as_u64().unwrap() < 64 << 20);
    assert_eq!(tab.eval("seen.tunnels"), 1, "the other one lives");
}
