//! A client whose connections a browser makes, and what is asked of it.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    apps,
    chromium::{Chromium, Tab},
    config::Link,
    free_port,
    node::{Client, Kind, Server},
    origin::{Origin, hash_of, pattern},
};

/// Ends the test if there is no browser.
macro_rules! need_chromium {
    () => {
        if let Some(reason) = $crate::support::chromium::missing() {
            $crate::support::skip!(reason);
        }
    };
}

/// A client whose connections a browser makes.
pub(super) struct Forwarding {
    pub(super) client: Client,
    /// The page's address.
    pub(super) page: String,
    pub(super) port: u16,
}

impl Forwarding {
    /// With a server of its own.
    pub(super) fn with_server() -> (Server, Self) {
        let link = Link::default();
        let server = Server::start(Kind::Wsray, &link);
        let forwarding = Self::start(&link, server.port);
        (server, forwarding)
    }

    pub(super) fn start(link: &Link, server: u16) -> Self {
        Self::start_with(link, server, |_| {})
    }

    pub(super) fn start_with(link: &Link, server: u16, change: impl FnOnce(&mut Value)) -> Self {
        let port = free_port();
        let client = Client::start_with(Kind::Wsray, link, server, |config| {
            use_browser(config, port);
            change(config);
        });
        Self { client, page: format!("http://127.0.0.1:{port}/"), port }
    }

    /// A tab that is connected.
    pub(super) fn tab(&self, browser: &Chromium) -> Tab {
        self.tab_with(browser, "")
    }

    pub(super) fn tab_with(&self, browser: &Chromium, script: &str) -> Tab {
        let tab = browser.open_with(&self.page, script);
        tab.wait_until("seen.connected");
        tab
    }

    pub(super) fn connect(&self, origin: &Origin) -> TcpStream {
        let stream = apps::socks5(self.client.socks, origin.address.into(), None).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }
}

pub(super) fn use_browser(config: &mut Value, port: u16) {
    config["browserForwarder"] = json!({ "listenAddr": "127.0.0.1", "listenPort": port });
    config["outbounds"][0]["streamSettings"]["wsSettings"]["useBrowserForwarding"] = json!(true);
}

/// What makes Chromium a browser like Firefox and Safari.
pub(super) const WITHOUT_STREAMS: &str = "delete self.WebSocketStream";

/// How many bytes of a test with many go in each direction.
pub(super) const MANY: u64 = 64 << 20;

/// 64 MiB down, then up, with hashes.
pub(super) fn exchange(forwarding: &Forwarding, origin: &Origin, length: u64) {
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

/// In the middle of a long download.
pub(super) fn download(forwarding: &Forwarding, origin: &Origin) -> TcpStream {
    let stream = forwarding.connect(origin);
    apps::ask(&stream, &format!("send {} 1", 1_u64 << 30), 200_000).unwrap();
    stream
}

pub(super) fn check_reset(mut stream: TcpStream, what: &str) {
    let started = Instant::now();
    let end = std::io::copy(&mut stream, &mut std::io::sink());
    let kind = end.as_ref().err().map(std::io::Error::kind);
    assert_eq!(kind, Some(ErrorKind::ConnectionReset), "{what}: {end:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "{what}: {:?}", started.elapsed());
}
