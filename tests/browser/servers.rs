//! What a server sees of a browser, and what a browser holds against a server.

use std::{
    io::{Read, Write},
    net::TcpListener,
};

use serde_json::json;
use sha2::Digest;

use crate::{
    forwarding::Forwarding,
    support::{
        apps, certificate,
        chromium::Chromium,
        config::{Early, Link, Tls},
        node::{Kind, Server},
        origin::Origin,
    },
};

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

/// An application sees a reset, and the log says why.
fn check_refused(forwarding: &Forwarding, why: &[&str]) {
    let mut stream = forwarding.connect(&Origin::start());
    stream.write_all(b"echo\nhello").unwrap();
    assert!(stream.read(&mut [0; 1]).is_err(), "a reset");
    forwarding.client.node.log_line(why);
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
    check_refused(
        &forwarding,
        &["did not connect to ws://127.0.0.1", "whether the server sends Sec-WebSocket"],
    );
    assert!(tab.eval("seen.problem").as_str().unwrap().contains("127.0.0.1"));
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
    check_refused(&forwarding, &["the browser sends its connection to ws://server.example.test", "proxy"]);
}
