//! TLS: whom the client trusts, what name it asks for, which certificates a server takes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::{
    apps, certificate,
    config::{AppPorts, Link, Tls},
    free_port,
    node::{self, Client, Kind, Node, Server},
    origin::Origin,
    raw, temporary_directory,
};

fn link() -> Link {
    Link { tls: Tls::On, ..Link::default() }
}

/// Whether a client with changed `tlsSettings` reaches the server; its log.
fn try_with(server: &Server, link: &Link, change: impl FnOnce(&mut Value)) -> (bool, String) {
    let origin = Origin::start();
    let client = Client::start_with(Kind::Wsray, link, server.port, |config| {
        change(&mut config["outbounds"][0]["streamSettings"]["tlsSettings"]);
    });
    let echoed = apps::socks5(client.socks, origin.address.into(), None).and_then(|s| apps::check_echo(&s));
    (echoed.is_ok(), client.node.log())
}

#[test]
fn a_certificate_is_checked_against_trust_and_name() {
    let link = link();
    let server = Server::start(Kind::Wsray, &link);
    let trusted = json!([{ "usage": "verify", "certificateFile": certificate::files().authority }]);
    let cases = [
        (json!({ "serverName": "localhost", "certificates": trusted }), true),
        (json!({ "serverName": "example.test", "certificates": trusted }), true),
        (json!({ "serverName": "127.0.0.1", "certificates": trusted }), true),
        (json!({ "certificates": trusted }), true), // the address, which is on the certificate
        (json!({ "serverName": "localhost", "certificates": trusted, "disableSystemRoot": true }), true),
        (json!({ "serverName": "other.test", "certificates": trusted }), false),
        (json!({ "serverName": "localhost" }), false),
        (json!({ "serverName": "other.test", "allowInsecure": true }), true),
    ];
    for (settings, good) in cases {
        let (reached, log) = try_with(&server, &link, |tls| *tls = settings.clone());
        assert_eq!(reached, good, "{settings}: {log}");
        if settings["allowInsecure"] == json!(true) {
            assert!(log.contains("allowInsecure"), "it warns: {log}");
        }
    }
}

/// V2Ray's chain hash: SHA-256 of the only certificate's DER, in base64
/// (v2fly/v2ray-core `transport/internet/tls/pin.go`).
#[test]
fn a_pinned_certificate_is_required() {
    let hash = Sha256::digest(der(&certificate::files().certificate));
    let link = link();
    let server = Server::start(Kind::Wsray, &link);
    for (pin, good) in
        [(data_encoding::BASE64.encode(&hash), true), (data_encoding::BASE64.encode(&[7; 32]), false)]
    {
        let (reached, log) =
            try_with(&server, &link, |tls| tls["pinnedPeerCertificateChainSha256"] = json!([pin]));
        assert_eq!(reached, good, "{pin}: {log}");
    }
}

/// The DER of the one certificate in a file.
fn der(path: &std::path::Path) -> Vec<u8> {
    let pem = fs::read_to_string(path).unwrap();
    let code: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    data_encoding::BASE64.decode(code.as_bytes()).unwrap()
}

/// Xray's `verifyChain` (XTLS/Xray-core `transport/internet/tls/config.go`): the server's own certificate is enough, and an
/// authority that the server sends stands in for all others.
#[test]
fn the_hash_of_a_certificate_stands_in_for_authorities() {
    let files = certificate::files();
    let hash = |path| data_encoding::HEXUPPER.encode(&Sha256::digest(der(path)));
    let (own, authority) = (hash(&files.certificate), hash(&files.authority));
    let colons: Vec<_> = own.as_bytes().chunks(2).map(|two| std::str::from_utf8(two).unwrap()).collect();
    let other = "07".repeat(32);
    let chain = temporary_directory("chain").join("chain.pem");
    let both = [&files.certificate, &files.authority].map(|path| fs::read_to_string(path).unwrap());
    fs::write(&chain, both.concat()).unwrap();
    let link = link();
    let alone = Server::start(Kind::Wsray, &link);
    let chained = Server::start_with(Kind::Wsray, &link, |config| {
        let tls = &mut config["inbounds"][0]["streamSettings"]["tlsSettings"];
        tls["certificates"][0]["certificateFile"] = json!(chain);
    });
    for (server, pin, name, good) in [
        (&alone, own.to_lowercase(), "other.test", true),
        (&alone, format!("{other},{}", colons.join(":")), "localhost", true),
        (&alone, other.clone(), "localhost", false),
        (&alone, authority.clone(), "localhost", false), // it is not sent
        (&chained, authority.clone(), "localhost", true),
        (&chained, authority, "other.test", false),
    ] {
        let settings = json!({ "serverName": name, "pinnedPeerCertSha256": pin });
        let (reached, log) = try_with(server, &link, |tls| *tls = settings.clone());
        assert_eq!(reached, good, "{settings}: {log}");
    }
}

/// Anybody can send somebody else's authority along.
#[test]
fn an_authority_whose_hash_is_known_has_to_have_signed_even_if_the_rest_is_not_checked() {
    let directory = temporary_directory("impostor");
    let (chain, key) = (directory.join("chain.pem"), directory.join("key.pem"));
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let authority = &certificate::files().authority;
    fs::write(&chain, [made.cert.pem(), fs::read_to_string(authority).unwrap()].concat()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let link = link();
    let server = Server::start_with(Kind::Wsray, &link, |config| {
        let tls = &mut config["inbounds"][0]["streamSettings"]["tlsSettings"];
        tls["certificates"] = json!([{ "certificateFile": chain, "keyFile": key }]);
    });
    let hash = |der: &[u8]| data_encoding::HEXLOWER.encode(&Sha256::digest(der));
    for (pin, good) in [(hash(made.cert.der()), true), (hash(&der(authority)), false)] {
        let settings =
            json!({ "serverName": "localhost", "pinnedPeerCertSha256": pin, "allowInsecure": true });
        let (reached, log) = try_with(&server, &link, |tls| *tls = settings.clone());
        assert_eq!(reached, good, "{settings}: {log}");
    }
}

#[test]
fn a_server_may_be_known_by_other_names_than_the_one_it_is_asked_for() {
    let link = link();
    let server = Server::start(Kind::Wsray, &link);
    let trusted = json!([{ "usage": "verify", "certificateFile": certificate::files().authority }]);
    for (names, good) in [("example.test", true), ("a.test, localhost", true), ("a.test", false)] {
        let settings =
            json!({ "serverName": "front.test", "verifyPeerCertByName": names, "certificates": trusted });
        let (reached, log) = try_with(&server, &link, |tls| *tls = settings.clone());
        assert_eq!(reached, good, "{settings}: {log}");
    }
}

#[test]
fn a_server_may_refuse_names_that_it_has_no_certificate_for() {
    let link = link();
    let server = Server::start_with(Kind::Wsray, &link, |config| {
        config["inbounds"][0]["streamSettings"]["tlsSettings"]["rejectUnknownSni"] = json!(true);
    });
    // Of an address no name is sent.
    for (name, good) in [("localhost", true), ("other.test", false), ("127.0.0.1", false)] {
        let settings = json!({ "serverName": name, "allowInsecure": true });
        let (reached, log) = try_with(&server, &link, |tls| *tls = settings.clone());
        assert_eq!(reached, good, "{settings}: {log}");
    }
}

#[test]
fn ssl_cert_file_stands_in_for_the_system_store() {
    let link = link();
    let server = Server::start(Kind::Wsray, &link);
    let ports = AppPorts { socks: free_port(), http: free_port() };
    let mut config = support::config::client(Kind::Wsray, &link, ports, server.port);
    config["outbounds"][0]["streamSettings"]["tlsSettings"] = json!({ "serverName": "localhost" });
    let directory = temporary_directory("store");
    fs::write(directory.join("config.json"), config.to_string()).unwrap();
    let mut command = Command::new(node::wsray());
    command.args(["run", "-c", "config.json"]).current_dir(&directory);
    command.env("SSL_CERT_FILE", &certificate::files().authority);
    let _client = Node::start_program("client", command, directory, &[ports.socks]);
    let origin = Origin::start();
    apps::check_echo(&apps::socks5(ports.socks, origin.address.into(), None).unwrap()).unwrap();
}

/// The name asked for is `serverName`, else the address; never the Host header.
#[test]
fn the_host_header_is_not_the_name_that_is_checked() {
    let link = Link { headers: vec![("Host", "elsewhere.test")], ..link() };
    let server = Server::start(Kind::Wsray, &link);
    let (reached, log) = try_with(&server, &link, |_| {});
    assert!(reached, "{log}");
}

#[test]
fn a_certificate_may_stand_in_the_configuration() {
    let lines = |path: &std::path::Path| {
        fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let link = link();
    let files = certificate::files();
    let server = Server::start_with(Kind::Wsray, &link, |config| {
        config["inbounds"][0]["streamSettings"]["tlsSettings"]["certificates"] =
            json!([{ "certificate": lines(&files.certificate), "key": lines(&files.key) }]);
    });
    let (reached, log) = try_with(&server, &link, |tls| {
        tls["certificates"] = json!([{ "usage": "verify", "certificate": lines(&files.authority) }]);
    });
    assert!(reached, "{log}");
}

/// Keys as openssl writes them: PKCS#8, SEC 1 and PKCS#1.
#[test]
fn keys_of_every_form_are_taken() {
    let directory = temporary_directory("keys");
    let script = "set -e
openssl ecparam -name prime256v1 -genkey -noout -out sec1.key
openssl pkcs8 -topk8 -nocrypt -in sec1.key -out pkcs8.key
openssl genrsa -traditional -out pkcs1.key 2048 || openssl genrsa -out pkcs1.key 2048
for kind in sec1 pkcs8 pkcs1; do
  openssl req -x509 -new -key $kind.key -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
    -addext basicConstraints=critical,CA:FALSE -out $kind.crt
done";
    let made = Command::new("sh").args(["-c", script]).current_dir(&directory).output().unwrap();
    if !made.status.success() {
        support::skip!(format!("openssl: {}", String::from_utf8_lossy(&made.stderr)));
    }
    for kind in ["sec1", "pkcs8", "pkcs1"] {
        let (certificate, key) =
            (directory.join(kind).with_extension("crt"), directory.join(kind).with_extension("key"));
        let link = link();
        let server = Server::start_with(Kind::Wsray, &link, |config| {
            config["inbounds"][0]["streamSettings"]["tlsSettings"]["certificates"] =
                json!([{ "certificateFile": certificate, "keyFile": key }]);
        });
        let (reached, log) = try_with(&server, &link, |tls| {
            tls["certificates"] = json!([{ "usage": "verify", "certificateFile": certificate }]);
        });
        assert!(reached, "{kind}: {log}");
    }
}

#[test]
fn a_key_of_another_certificate_is_refused_by_test() {
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let directory = temporary_directory("mismatch");
    let key = directory.join("other.key");
    fs::write(&key, other.signing_key.serialize_pem()).unwrap();
    let mut config = support::config::server(Kind::Wsray, &link(), 1);
    config["inbounds"][0]["streamSettings"]["tlsSettings"]["certificates"][0]["keyFile"] = json!(key);
    let path = directory.join("config.json");
    fs::write(&path, config.to_string()).unwrap();
    let output = Command::new(node::wsray()).args(["test", "-c"]).arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(23), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Only HTTP/1.1 can be upgraded here, so a browser must not be offered HTTP/2.
#[test]
fn a_server_does_not_agree_to_http_2() {
    let server = Server::start(Kind::Wsray, &link());
    let address = format!("127.0.0.1:{}", server.port);
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address, "-alpn", "h2,http/1.1", "-servername", "localhost"]);
    let Ok(output) = command.stdin(std::process::Stdio::null()).output() else {
        support::skip!("openssl is not here");
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("ALPN protocol: http/1.1"), "{text}");
}

/// A TLS 1.1 hello with cipher suites of then (RFC 4346 section 7.4.1.2, RFC 3268).
fn hello_of_tls_1_1() -> Vec<u8> {
    let mut body = vec![3, 2];
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, 6, 0xc0, 0x13, 0x00, 0x2f, 0x00, 0x35, 1, 0]);
    let mut message = vec![1, 0, 0, u8::try_from(body.len()).unwrap()];
    message.extend(body);
    let mut record = vec![0x16, 3, 1, 0, u8::try_from(message.len()).unwrap()];
    record.extend(message);
    record
}

#[test]
fn server_refuses_tls_1_1() {
    let server = Server::start(Kind::Wsray, &link());
    let mut stream = raw::send(server.port, &hello_of_tls_1_1()).unwrap();
    let end = raw::read_to_end(&mut stream, Duration::from_secs(4));
    assert_ne!(end.how, raw::How::StillOpen);
    // A fatal alert, and no hello: protocol_version or handshake_failure (RFC 8446 section 6).
    assert!(matches!(end.bytes[..], [0x15, 3, _, 0, 2, 2, 70 | 40]), "{:02x?}", end.bytes);
    server.node.log_line(&["TLS"]);
}

#[test]
fn client_refuses_a_server_that_chooses_tls_1_1() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answered = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut record = [0; 5];
        stream.read_exact(&mut record).unwrap();
        let mut hello = vec![0; usize::from(u16::from_be_bytes([record[3], record[4]]))];
        stream.read_exact(&mut hello).unwrap();
        // A server hello of TLS 1.1 with TLS_RSA_WITH_AES_128_CBC_SHA and the client's session id.
        let id = &hello[38..39 + usize::from(hello[38])];
        let body = [&[3, 2][..], &[9; 32], id, &[0, 0x2f, 0]].concat();
        let length = u8::try_from(body.len()).unwrap();
        let message = [&[2, 0, 0, length][..], &body].concat();
        stream.write_all(&[&[0x16, 3, 2, 0, length + 4][..], &message].concat()).unwrap();
        let end = raw::read_to_end(&mut stream, Duration::from_secs(4));
        (end.how, end.bytes)
    });
    let origin = Origin::start();
    let client = Client::start(Kind::Wsray, &link(), port);
    let echoed = apps::socks5(client.socks, origin.address.into(), None).and_then(|s| apps::check_echo(&s));
    assert!(echoed.is_err());
    let (how, bytes) = answered.join().unwrap();
    assert_ne!(how, raw::How::StillOpen);
    assert!(matches!(bytes[..], [] | [0x15, 3, _, 0, 2, 2, ..]), "{bytes:02x?}");
    client.node.log_line(&["TLS"]);
}
