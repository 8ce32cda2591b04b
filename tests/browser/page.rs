//! The page: who gets it, who may speak to it, and what a person sees.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde_json::json;

use crate::{
    forwarding::{Forwarding, download},
    support::{
        apps,
        chromium::Chromium,
        config::Link,
        free_port,
        node::{Client, Kind, Server},
        origin::Origin,
        raw,
    },
};

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
        [&b"hello 99 browser browser\n"[..], b"opened 1\n", &[b'a'; 1000], b"hello 2 x browser\nwhat\n"]
    {
        let mut stream = open();
        stream.write_all(&raw::masked_frame(nonsense)).unwrap();
        let end = raw::read_to_end(&mut stream, Duration::from_secs(5));
        assert_ne!(end.how, raw::How::StillOpen, "{nonsense:?}");
    }
    // A page that answers for others' tunnels, or acknowledges what it never got, changes nothing.
    let mut stream = open();
    stream
        .write_all(&raw::masked_frame(b"hello 2 x credit\nopened 1\npassed 1 18446744073709551615\n"))
        .unwrap();
    let end = raw::read_to_end(&mut stream, Duration::from_millis(300));
    assert_eq!(end.how, raw::How::StillOpen);
}

/// What a person sees. With `WSRAY_SCREENSHOTS` it is written there, for the documents.
#[test]
fn page_speaks_the_browsers_language() {
    need_chromium!();
    let origin = Origin::start();
    let (_server, forwarding) = Forwarding::with_server();
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
