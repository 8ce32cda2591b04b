//! TLS and its certificates.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::json;

use crate::{
    examine::{at_once, caddy, client, examine, haproxy, nginx, settings},
    support::{
        certificate,
        config::{Link, Tls, Transport},
        front,
        node::{Kind, Server},
        temporary_directory,
    },
};

/// A certificate for `localhost` between two days, its key, and itself as what to trust.
pub(super) fn issue(from: (i32, u8, u8), until: (i32, u8, u8), names: &[&str]) -> (PathBuf, PathBuf) {
    let key = KeyPair::generate().unwrap();
    let mut params =
        CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
    params.not_before = date_time_ymd(from.0, from.1, from.2);
    params.not_after = date_time_ymd(until.0, until.1, until.2);
    let directory = temporary_directory("issued");
    let (certificate_path, key_path) = (directory.join("cert.pem"), directory.join("key.pem"));
    std::fs::write(&certificate_path, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&key_path, key.serialize_pem()).unwrap();
    (certificate_path, key_path)
}

/// nginx with this certificate in front of nothing.
fn tls_front((certificate, key): &(PathBuf, PathBuf)) -> front::Front {
    let (certificate, key) = (certificate.display(), key.display());
    nginx(&format!("listen PORT ssl; ssl_certificate {certificate}; ssl_certificate_key {key}; return 404;"))
}

#[test]
fn certificates_are_told() {
    needs!("nginx");
    let link = Link { tls: Tls::On, ..Link::default() };
    let trusting = |files: &(PathBuf, PathBuf), port: u16| {
        let mut config = client(&link, port);
        settings(&mut config)["tlsSettings"]["certificates"] =
            json!([{ "usage": "verify", "certificateFile": files.0 }]);
        examine(&config)
    };
    let expired = issue((2020, 1, 1), (2021, 1, 1), &["localhost"]);
    let front = tls_front(&expired);
    trusting(&expired, front.port).names("tls", "certificate-expired").writes("server-machine", "renew");
    let early = issue((2090, 1, 1), (2091, 1, 1), &["localhost"]);
    let front = tls_front(&early);
    trusting(&early, front.port).names("tls", "certificate-not-yet-valid").writes("client-machine", "clock");
    let other = issue((2020, 1, 1), (2090, 1, 1), &["default.test", "*.default.test"]);
    let front = tls_front(&other);
    let report = trusting(&other, front.port);
    report.names("tls", "certificate-name").writes("client", "serverName");
    assert!(report.text.contains("default.test, *.default.test"), "{}", report.text);
    let report = examine(&client(&link, front.port));
    report.names("tls", "certificate-self-signed").writes("client", "verify");
    // Not to be trusted: it is somebody else's.
    assert_eq!(report.causes()[1].1, "certificate-name", "{}", report.text);
    let mut config = client(&link, front::nginx(1).port);
    let stranger = issue((2020, 1, 1), (2090, 1, 1), &["stranger.test"]);
    settings(&mut config)["tlsSettings"]["certificates"] =
        json!([{ "usage": "verify", "certificateFile": stranger.0 }]);
    let front = front::nginx(1);
    config["outbounds"][0]["settings"]["vnext"][0]["port"] = json!(front.port);
    let report = examine(&config);
    report.names("tls", "certificate-issuer");
    assert_eq!(report.causes()[1].1, "certificate-chain", "{}", report.text);
    settings(&mut config)["tlsSettings"] = json!({ "serverName": "localhost", "pinnedPeerCertificateChainSha256": ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="] });
    examine(&config).names("tls", "certificate-pin");
}

#[test]
fn tls_to_a_plain_port_is_told() {
    needs!("nginx", "v2ray-4.45");
    let link = Link::default();
    let secure = Link { tls: Tls::On, ..link.clone() };
    at_once([Kind::Wsray, Kind::V2Ray445], |kind| {
        let server = Server::start(kind, &link);
        examine(&client(&secure, server.port)).names("tls", "tls-to-plain-port").writes("client", "none");
    });
    let front = nginx("listen PORT; return 404;");
    examine(&client(&secure, front.port))
        .names("tls", "tls-to-plain-port")
        .writes("nginx", "listen 443 ssl;");
}

#[test]
fn names_that_the_front_end_has_no_certificate_for_are_told() {
    needs!("nginx", "caddy", "haproxy");
    let files = certificate::files();
    let (certificate, key) = (files.certificate.display(), files.key.display());
    let link = Link { tls: Tls::On, ..Link::default() };
    let refused = |port: u16| {
        let mut config = client(&link, port);
        settings(&mut config)["tlsSettings"]["serverName"] = json!("stranger.test");
        let report = examine(&config);
        report.names("tls", "tls-no-certificate").writes("client", "serverName");
        report
    };
    let front = nginx("listen PORT ssl; ssl_reject_handshake on;");
    refused(front.port).writes("nginx", "ssl_reject_handshake");
    let front = caddy(&format!("https://localhost:PORT {{\n    tls {certificate} {key}\n}}"));
    refused(front.port).writes("caddy", "site block");
    let server = Server::start_with(Kind::Wsray, &link, |config| {
        config["inbounds"][0]["streamSettings"]["tlsSettings"]["rejectUnknownSni"] = json!(true);
    });
    refused(server.port).writes("server", "rejectUnknownSni");
    let front = haproxy(&format!(
        "frontend in\n    mode http\n    bind 127.0.0.1:PORT ssl crt {} strict-sni\n    http-request return status 200",
        files.both.display()
    ));
    let mut config = client(&link, front.port);
    settings(&mut config)["tlsSettings"]["serverName"] = json!("stranger.test");
    let report = examine(&config);
    assert_eq!(report.causes()[0].0, "tls", "{}", report.text);
}

/// Passes on what does not hold this name; what does is cut, or swallowed.
fn blocking(name: &'static [u8], backend: u16, swallows: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for near in listener.incoming().take(16).flatten() {
            std::thread::spawn(move || {
                let (mut near, mut block) = (near, [0; 4096]);
                let read = near.read(&mut block).unwrap_or(0);
                if block[..read].windows(name.len()).any(|window| window == name) {
                    while swallows && near.read(&mut block).is_ok_and(|read| read > 0) {}
                    return;
                }
                let mut far = TcpStream::connect(("127.0.0.1", backend)).unwrap();
                far.write_all(&block[..read]).unwrap();
                let (mut back_from, mut back_to) = (far.try_clone().unwrap(), near.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut back_from, &mut back_to));
                let _ = std::io::copy(&mut near, &mut far);
            });
        }
    });
    port
}

#[test]
fn name_that_is_blocked_on_the_way_is_told() {
    needs!("nginx");
    let front = front::nginx(1);
    at_once([false, true], |swallows| {
        let port = blocking(b"localhost", front.port, swallows);
        examine(&client(&Link { tls: Tls::On, ..Link::default() }, port))
            .names("tls", "tls-name-blocked")
            .writes("client", "another domain");
    });
}

#[test]
fn plain_to_a_tls_port_is_told() {
    needs!("nginx", "v2ray-4.45", "sing-box");
    let secure = Link { tls: Tls::On, ..Link::default() };
    let front = front::nginx(1);
    let plain = Link { tls: Tls::Off, ..secure.clone() };
    examine(&client(&plain, front.port)).names("upgrade", "plain-to-tls-port").writes("client", "tls");
    at_once([Kind::Wsray, Kind::V2Ray445, Kind::SingBox], |kind| {
        let server = Server::start(kind, &secure);
        let report = examine(&client(&plain, server.port));
        let code = &report.causes()[0].1;
        assert!(["plain-to-tls-port", "tls-works"].contains(&code.as_str()), "{kind:?}: {}", report.text);
    });
}

#[test]
fn ports_for_http_2_only_are_told() {
    needs!("haproxy", "nginx");
    let files = certificate::files();
    let link = Link { tls: Tls::On, ..Link::default() };
    let raw = Link { transport: Transport::Tcp, ..link.clone() };
    let strict = Server::start_with(Kind::Wsray, &raw, |config| {
        config["inbounds"][0]["streamSettings"]["tlsSettings"]["alpn"] = json!(["h2"]);
    });
    examine(&client(&link, strict.port)).names("tls", "alpn").writes("server", "http/1.1");
    let both = files.both.display();
    let front = haproxy(&format!(
        "frontend in\n    mode http\n    bind 127.0.0.1:PORT ssl crt {both} alpn h2 proto h2\n    http-request return status 200"
    ));
    let report = examine(&client(&link, front.port));
    let causes: Vec<_> = report.causes().into_iter().map(|(_, code)| code).collect();
    assert_eq!(causes, ["closed-unanswered", "http2-only"], "{}", report.text);
    let front = nginx("listen PORT http2; return 404;");
    let plain = Link { tls: Tls::Off, ..link };
    examine(&client(&plain, front.port)).names("upgrade", "http2-only").writes("nginx", "listen 443 ssl;");
}
