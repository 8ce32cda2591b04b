//! What goes through a tab arrives whole.

use std::{
    io::{Read, Write},
    thread,
};

use crate::{
    forwarding::{Forwarding, MANY, WITHOUT_STREAMS, exchange},
    support::{
        apps,
        chromium::Chromium,
        config::{Early, Link},
        node::{Kind, Server},
        origin::{Origin, pattern},
    },
};

#[test]
fn many_bytes_arrive_whole_both_ways() {
    need_chromium!();
    let origin = Origin::start();
    let browser = Chromium::start();
    for (script, length) in [("", MANY), (WITHOUT_STREAMS, MANY / 4)] {
        let (_server, forwarding) = Forwarding::with_server();
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
        let (_server, forwarding) = Forwarding::with_server();
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
