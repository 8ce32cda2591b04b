//! Answers of real front ends and servers, as they were seen on the wire, and what they mean.

use wsray_ws::{ResponseError, client::response};

use super::{Cause, Front, Seen, Where, of_response};

/// The cause of an answer to a request for `/ray`.
fn cause_of(answer: &str, over_tls: bool) -> Option<Cause> {
    let error: ResponseError = response(answer.as_bytes(), [0; 16]).unwrap_err();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    of_response(&Seen { error: &error, body, over_tls, path: "/ray?a=b" })
}

fn code(answer: &str) -> &'static str {
    cause_of(answer, false).map_or("none", |cause| cause.code())
}

#[test]
fn statuses_name_their_cause() {
    for (status, expected) in [
        (200, "web-page"),
        (400, "upgrade-not-forwarded"),
        (403, "forbidden"),
        (404, "path-unknown-to-server"),
        (414, "head-too-long"),
        (421, "host-unknown"),
        (426, "version-refused"),
        (431, "head-too-long"),
        (502, "server-behind-down"),
        (503, "server-behind-down"),
        (504, "server-behind-down"),
        (500, "front-end-fails"),
        (501, "front-end-fails"),
        (401, "password-wanted"),
        (407, "password-wanted"),
        (410, "path-unknown-to-front-end"),
        (418, "web-page"),
        (429, "too-many-requests"),
        (451, "forbidden"),
        (511, "login-first"),
        (505, "http-version"),
        (520, "cdn-origin"),
        (530, "cdn-origin"),
    ] {
        assert_eq!(code(&format!("HTTP/1.1 {status} x\r\n\r\n")), expected, "{status}");
    }
}

#[test]
fn every_refusal_has_a_cause_and_a_cure() {
    for status in 200..=599 {
        for server in ["", "Server: nginx\r\n", "Server: cloudflare\r\n", "Server: Apache/2.4\r\n"] {
            let answer = format!("HTTP/1.1 {status} x\r\n{server}\r\n");
            let cause = cause_of(&answer, true).unwrap_or_else(|| panic!("{answer}"));
            let front = Front::of(server.strip_prefix("Server: "));
            assert!(!cause.cures(front).is_empty(), "{answer}");
        }
    }
}

/// The pages' texts are those of nginx, Apache, Go and Cloudflare.
#[test]
fn pages_tell_causes_of_one_status_apart() {
    for (head, body, expected) in [
        (
            "400 Bad Request\r\nServer: nginx",
            "<center>The plain HTTP request was sent to HTTPS port</center>",
            "plain-to-tls-port",
        ),
        ("400 Bad Request", "Client sent an HTTP request to an HTTPS server.\n", "plain-to-tls-port"),
        ("400 Bad Request\r\nServer: nginx", "Request Header Or Cookie Too Large", "head-too-long"),
        ("400 Bad Request", "400 Bad Request", "request-garbled"),
        (
            "400 Bad Request\r\nServer: nginx",
            "<center><h1>400 Bad Request</h1></center>\r\n<hr><center>nginx</center>",
            "request-garbled",
        ),
        ("409 Conflict\r\nServer: cloudflare", "error code: 1001", "cdn-host-unknown"),
        ("409 Conflict\r\nServer: nginx", "error code: 1001", "web-page"),
        ("400 Bad Request\r\nSec-Websocket-Version: 13", "Bad Request\n", "upgrade-not-forwarded"),
        ("400 Bad Request\r\nServer: cloudflare", "Bad Request\n", "cdn-websocket-off"),
        ("403 Forbidden\r\nServer: cloudflare", "error code: 1020", "cdn-forbidden"),
        ("404 Not Found\r\nServer: nginx", "<center>nginx</center>", "path-unknown-to-front-end"),
        ("404 Not Found\r\nServer: nginx", "", "path-unknown-to-server"),
        ("200 OK\r\nServer: Caddy", "", "host-unknown"),
        ("200 OK\r\nServer: Caddy", "<html>", "web-page"),
    ] {
        assert_eq!(code(&format!("HTTP/1.1 {head}\r\n\r\n{body}")), expected, "{head}: {body}");
    }
}

#[test]
fn redirects_tell_where_they_lead() {
    let of = |location: &str, over_tls| {
        cause_of(&format!("HTTP/1.1 301 Moved\r\nLocation: {location}\r\n\r\n"), over_tls).unwrap()
    };
    assert_eq!(of("https://e.example/ray", false), Cause::RedirectToTls);
    assert_eq!(of("https://e.example/ray?a=b", true), Cause::RedirectLoop);
    assert_eq!(of("http://e.example/ray/?a=b", false), Cause::RedirectToSlash);
    assert_eq!(of("/ray/", true), Cause::RedirectToSlash);
    let elsewhere = Cause::Redirect { location: "https://other.example/login".to_owned() };
    assert_eq!(of("https://other.example/login?token=1", true), elsewhere);
}

#[test]
fn bytes_that_are_no_http_tell_who_spoke() {
    assert_eq!(code("\x15\x03\x01\x00\x02\x02\x46"), "plain-to-tls-port");
    assert_eq!(cause_of("\x15\x03\x01\x00\x02\x02\x46", true), Some(Cause::TlsBehind));
    assert_eq!(code("\x00\x00\x12\x04\x00\x00\x00\x00\x00"), "http2-only");
    assert_eq!(code("SSH-2.0-OpenSSH_9.2\r\n"), "not-http");
}

#[test]
fn front_end_that_answered_gets_its_own_lines_only() {
    let places = |front| {
        let cures = Cause::UpgradeNotForwarded.cures(front);
        cures.into_iter().map(|cure| cure.place).collect::<Vec<_>>()
    };
    assert_eq!(places(Some(Front::Nginx)), [Where::Nginx]);
    assert_eq!(places(Some(Front::Caddy)), [Where::Caddy]);
    assert_eq!(places(Front::of(Some("Apache/2.4"))), [Where::Apache]);
    assert_eq!(places(Front::of(Some("openresty/1.25"))), [Where::Nginx]);
    assert!(places(None).len() > 3);
    // Who has no line of its own gets none of those that would have named themselves.
    let alpn = Cause::Alpn.cures(Some(Front::Nginx));
    assert!(!alpn.iter().any(|cure| cure.place == Where::Caddy), "{alpn:?}");
    let garbled = Cause::RequestGarbled.cures(Some(Front::Nginx));
    assert!(garbled.iter().any(|cure| cure.place == Where::Haproxy), "it never names itself");
    assert_eq!(Front::of_page("<html><body><h1>503 Service Unavailable</h1>\n"), Some(Front::Haproxy));
    // A CDN has no say in a path; who stands behind it does.
    let behind_cdn = Cause::PathUnknownToServer.cures(Some(Front::Cdn));
    assert!(behind_cdn.iter().any(|cure| cure.place == Where::Nginx));
}

#[test]
fn hint_holds_cause_and_cure() {
    let hint = Cause::UpgradeNotForwarded.hint(Some(Front::Nginx));
    assert!(
        hint.contains("does not forward") && hint.contains("proxy_set_header Upgrade $http_upgrade"),
        "{hint}"
    );
    let hint = Cause::Clock { ahead: -300 }.hint(None);
    assert!(hint.contains("5 min behind"), "{hint}");
}

#[test]
fn certificate_names_read_as_people_write_them() {
    use rustls::{CertificateError, Error, pki_types::ServerName};
    let names = ["DnsName(\"example.test\")".to_owned(), "IpAddress(127.0.0.1)".to_owned()];
    let error = Error::InvalidCertificate(CertificateError::NotValidForNameContext {
        expected: ServerName::try_from("other.test").unwrap(),
        presented: names.to_vec(),
    });
    let cause = super::of_tls(&error).unwrap();
    assert_eq!(cause, Cause::CertificateName { names: "example.test, 127.0.0.1".to_owned() });
}
