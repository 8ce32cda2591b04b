//! The client's request byte for byte, and which answers it takes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::num::NonZeroU32;

use serde_json::Value;
use wsray_ws::{
    ClientOptions, EarlyData, EarlyDataPlace, Headers, Path, ResponseError, Step, Upgraded, accept_key,
    client::{Scheme, host_header, response},
};

/// "the sample nonce" of RFC 6455 section 1.3.
const KEY: [u8; 16] = *b"the sample nonce";

const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn headers(pairs: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::default();
    for (name, value) in pairs {
        headers.insert(name.parse().unwrap(), value.parse().unwrap()).unwrap();
    }
    headers
}

fn options(path: &str, pairs: &[(&str, &str)]) -> ClientOptions {
    let headers = headers(pairs);
    let host = host_header(&headers, "example.com", 443, Scheme::Wss);
    ClientOptions { path: Path::new(path).unwrap(), host, headers, early_data: None }
}

fn with_early_data(path: &str, max_bytes: u32, header: Option<&str>) -> ClientOptions {
    let place = header.map_or(EarlyDataPlace::Path, |name| EarlyDataPlace::Header(name.parse().unwrap()));
    let early_data = Some(EarlyData { max_bytes: NonZeroU32::new(max_bytes).unwrap(), place });
    ClientOptions { early_data, ..options(path, &[]) }
}

fn head(options: &ClientOptions, early: &[u8]) -> String {
    String::from_utf8(options.request(KEY, early).0).unwrap()
}

fn target(path: &str) -> String {
    let head = head(&options(path, &[]), &[]);
    head.strip_prefix("GET ").unwrap().split_once(" HTTP/1.1\r\n").unwrap().0.to_owned()
}

#[test]
fn request_is_v2rays_byte_for_byte() {
    assert_eq!(
        head(&options("/ray", &[]), &[]),
        "GET /ray HTTP/1.1\r\nHost: example.com\r\nUser-Agent: Go-http-client/1.1\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n\r\n"
    );
}

#[test]
fn configured_headers_are_spelled_and_sorted_as_go_does() {
    let pairs = [
        ("x-test", "1"),
        ("accept-language", "en"),
        ("user-agent", "Mozilla/5.0"),
        ("HOST", "cdn.example"),
        ("Sec-Fetch-Mode", "websocket"),
        ("sec-websocket-protocol", "chat"),
        ("Cookie", "a=b"),
    ];
    assert_eq!(
        head(&options("/", &pairs), &[]),
        "GET / HTTP/1.1\r\nHost: cdn.example\r\nUser-Agent: Mozilla/5.0\r\nAccept-Language: en\r\n\
         Connection: Upgrade\r\nCookie: a=b\r\nSec-Fetch-Mode: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chat\r\n\
         Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nX-Test: 1\r\n\r\n"
    );
}

#[test]
fn empty_user_agent_removes_the_header() {
    assert!(!head(&options("/", &[("User-Agent", "")]), &[]).contains("User-Agent"));
}

#[test]
fn headers_that_would_frame_a_body_are_not_sent() {
    let pairs = [("Content-Length", "5"), ("transfer-encoding", "chunked"), ("Trailer", "x")];
    assert_eq!(head(&options("/", &pairs), &[]), head(&options("/", &[]), &[]));
}

#[test]
fn host_is_the_configured_one_else_the_address_dialled() {
    let none = Headers::default();
    assert_eq!(host_header(&none, "a.example", 80, Scheme::Ws), "a.example");
    assert_eq!(host_header(&none, "a.example", 443, Scheme::Ws), "a.example:443");
    assert_eq!(host_header(&none, "a.example", 443, Scheme::Wss), "a.example");
    assert_eq!(host_header(&none, "a.example", 80, Scheme::Wss), "a.example:80");
    assert_eq!(host_header(&none, "2001:db8::1", 8080, Scheme::Ws), "[2001:db8::1]:8080");
    assert_eq!(host_header(&none, "2001:db8::1", 80, Scheme::Ws), "[2001:db8::1]");
    assert_eq!(host_header(&headers(&[("hOST", "b.example")]), "a", 1, Scheme::Ws), "b.example");
    assert_eq!(host_header(&headers(&[("Host", "")]), "a", 1, Scheme::Ws), "a:1");
}

#[test]
fn target_is_what_v2ray_sends() {
    // All but the last two were seen on the wire from V2Ray 4.45.2.
    for (path, expected) in [
        ("", "/"),
        ("ray", "/ray"),
        ("/ray?ed=2048", "/ray?ed=2048"),
        ("/ray#part", "/ray"),
        ("/ray?a=b#part", "/ray?a=b"),
        ("/a b", "/a%20b"),
        ("/\u{fc}", "/%C3%BC"),
        ("/%72ay", "/%72ay"),
        ("/a%2Fb", "/a%2Fb"),
        ("/!'()*[]", "/!'()*[]"),
        ("//ray", "//ray"),
        ("/ray?", "/ray?"),
        ("/?x", "/?x"),
        ("/a\"b", "/a%22b"),
        ("/a|b^c`{}", "/a%7Cb%5Ec%60%7B%7D"),
        // Re-encoded as a whole because of the blank.
        ("/a%2fb c", "/a/b%20c"),
        ("/a b%2Fc!", "/a%20b/c%21"),
        // V2Ray never dials the first and sends a broken request line for the second; we encode what is wrong.
        ("/100%", "/100%25"),
        ("/a?b c", "/a?b%20c"),
    ] {
        assert_eq!(target(path), expected, "{path:?}");
    }
}

#[test]
fn early_data_requests_are_those_of_the_vectors() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/handshake.json")).unwrap();
    for vector in vectors["early_data_requests"].as_array().unwrap() {
        let text = |key: &str| vector[key].as_str().unwrap();
        let first_write = data_encoding::HEXLOWER.decode(text("first_write").as_bytes()).unwrap();
        let max = u32::try_from(vector["maxEarlyData"].as_u64().unwrap()).unwrap();
        let header = vector["header"].as_object().and_then(|header| header.iter().next());
        let options = with_early_data(text("path"), max, header.map(|(name, _)| name.as_str()));
        let (request, carried) = options.request(KEY, &first_write);
        let head = String::from_utf8(request).unwrap();
        assert!(head.starts_with(&format!("GET {} HTTP/1.1\r\n", text("request_target"))));
        if let Some((name, value)) = header {
            assert!(head.contains(&format!("\r\n{name}: {}\r\n", value.as_str().unwrap())));
        }
        let rest = vector["first_ws_message"].as_str().map_or(0, |hex| hex.len() / 2);
        assert_eq!(first_write.len() - carried, rest);
    }
}

#[test]
fn early_data_overwrites_a_configured_header() {
    let mut options = with_early_data("/", 100, Some("Sec-WebSocket-Protocol"));
    options.headers = headers(&[("sec-websocket-protocol", "chat")]);
    assert!(head(&options, b"\0\0\0").contains("\r\nSec-WebSocket-Protocol: AAAA\r\n"));
    assert!(!head(&options, b"\0\0\0").contains("chat"));
    assert!(head(&options, b"").contains("\r\nSec-WebSocket-Protocol: chat\r\n"));
}

#[test]
fn early_data_in_a_header_of_another_name_is_spelled_canonically() {
    assert!(head(&with_early_data("/", 100, Some("x-ED")), b"\0").contains("\r\nX-Ed: AA\r\n"));
}

#[test]
fn early_data_never_replaces_a_header_of_the_handshake() {
    let (request, carried) = with_early_data("/", 100, Some("Sec-WebSocket-Key")).request(KEY, b"abc");
    assert_eq!(carried, 0);
    assert_eq!(request, options("/", &[]).request(KEY, &[]).0);
}

#[test]
fn request_carries_no_more_early_data_than_front_ends_take() {
    for header in [None, Some("Sec-WebSocket-Protocol")] {
        let (request, carried) = with_early_data("/ray", u32::MAX, header).request(KEY, &vec![7; 100_000]);
        assert_eq!(carried, 4096);
        let text = String::from_utf8(request).unwrap();
        assert!(text.lines().all(|line| line.len() < 8000));
    }
}

#[test]
fn xrays_ed_is_split_off_the_path() {
    let split = ClientOptions::split_xray_early_data;
    let ed = |path: &str| split(path).1.map(|early_data| (early_data.max_bytes.get(), early_data.place));
    let header = || EarlyDataPlace::Header("Sec-WebSocket-Protocol".parse().unwrap());
    assert_eq!(split("/ray?ed=2048").0, "/ray");
    assert_eq!(ed("/ray?ed=2048"), Some((2048, header())));
    assert_eq!(split("/ray?a=1&ed=2560&b=2").0, "/ray?a=1&b=2");
    assert_eq!(ed("/ray?a=1&ed=2560&b=2"), Some((2560, header())));
    for path in ["/ray", "/ray?red=1", "/ed=5", "/ray?a=1#ed=5", "/ray?ed="] {
        assert_eq!(split(path), (path.to_owned(), None));
    }
    for path in ["/ray?ed=0", "/ray?ed=x", "/ray?ed=-1"] {
        assert_eq!(split(path), ("/ray".to_owned(), None));
    }
}

/// A good 101 with other lines in it.
fn answer(lines: &str) -> Vec<u8> {
    format!("HTTP/1.1 101 Switching Protocols\r\n{lines}Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n").into_bytes()
}

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n";

fn read(input: &[u8]) -> Result<Step<Upgraded>, ResponseError> {
    response(input, KEY)
}

#[test]
fn answers_of_all_servers_are_taken() {
    for lines in [
        UPGRADE,
        "upgrade: WebSocket\r\nconnection: keep-alive, Upgrade\r\n",
        "Upgrade: websocket\r\nConnection: keep-alive\r\nConnection: upgrade\r\nServer: x\r\n",
    ] {
        let head = answer(lines);
        let value = Upgraded { protocol: None };
        assert_eq!(read(&head), Ok(Step::Done { used: head.len(), value }), "{lines}");
    }
}

#[test]
fn answer_cut_anywhere_waits_and_leaves_the_first_frame() {
    let head = answer(UPGRADE);
    let bytes = [&head[..], b"\x82\x02hi"].concat();
    for cut in 0..head.len() {
        assert_eq!(read(&bytes[..cut]), Ok(Step::NeedMore), "{cut}");
    }
    for cut in head.len()..=bytes.len() {
        assert!(matches!(read(&bytes[..cut]), Ok(Step::Done { used, .. }) if used == head.len()), "{cut}");
    }
}

#[test]
fn interim_answers_are_skipped_but_not_for_ever() {
    let hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let bytes = [&b"HTTP/1.1 100 Continue\r\n\r\n"[..], hints, &answer(UPGRADE)].concat();
    assert!(matches!(read(&bytes), Ok(Step::Done { used, .. }) if used == bytes.len()));
    assert_eq!(read(&bytes[..bytes.len() - 1]), Ok(Step::NeedMore));
    assert!(matches!(read(&hints.repeat(9)), Err(ResponseError::TooManyInterim { .. })));
}

#[test]
fn unasked_subprotocol_is_tolerated() {
    let head = answer(&format!("{UPGRADE}Sec-WebSocket-Protocol: chat\r\n"));
    let value = Upgraded { protocol: Some("chat".to_owned()) };
    assert_eq!(read(&head), Ok(Step::Done { used: head.len(), value }));
}

#[test]
fn extension_that_was_not_offered_fails_the_handshake() {
    let head = answer(&format!("{UPGRADE}Sec-WebSocket-Extensions: permessage-deflate\r\n"));
    assert_eq!(read(&head), Err(ResponseError::Extension { found: "permessage-deflate".to_owned() }));
}

#[test]
fn incomplete_upgrades_are_refused() {
    let upgrade = ResponseError::Upgrade { found: String::new() };
    assert_eq!(read(&answer("Connection: Upgrade\r\n")), Err(upgrade));
    let connection = ResponseError::Connection { found: "close".to_owned() };
    assert_eq!(read(&answer("Upgrade: websocket\r\nConnection: close\r\n")), Err(connection));
    let twice = answer(&format!("{UPGRADE}Sec-WebSocket-Accept: {ACCEPT}\r\n"));
    assert_eq!(read(&twice), Err(ResponseError::Accept));
    let wrong = accept_key("another");
    let head = format!("HTTP/1.1 101 x\r\n{UPGRADE}Sec-WebSocket-Accept: {wrong}\r\n\r\n");
    assert_eq!(read(head.as_bytes()), Err(ResponseError::Accept));
    let head = format!("HTTP/1.1 101 x\r\n{UPGRADE}\r\n");
    assert_eq!(read(head.as_bytes()), Err(ResponseError::Accept));
}

#[test]
fn refusal_tells_status_server_location_and_body() {
    let head = b"HTTP/1.1 301 Moved\r\nServer: nginx\r\nLocation: https://e.example/ray\r\n\r\n";
    let error = read(&[&head[..], b"<html>"].concat()).unwrap_err();
    let text = "the server answered 301 Moved, Server: nginx, Location: https://e.example/ray";
    assert_eq!(error.to_string(), text);
    let ResponseError::Refused(refused) = error else { panic!("{error:?}") };
    assert_eq!((refused.status, refused.body_start_at), (301, head.len()));
}

#[test]
fn what_is_printed_cannot_command_a_terminal() {
    let head = b"HTTP/1.1 404 a\x9b2Jb\r\nServer: \xe2\x80\xaeevil\x9b\r\n\r\n";
    let text = read(head).unwrap_err().to_string();
    assert!(text.is_ascii() || text.chars().all(|c| c.is_alphanumeric() || c.is_ascii()), "{text}");
    let long = format!("HTTP/1.1 404 x\r\nServer: {}\r\n\r\n", "s".repeat(9000));
    assert!(read(long.as_bytes()).unwrap_err().to_string().len() < 300);
    let text = read(b"\x15\x03\x01\x00\x02").unwrap_err().to_string();
    assert_eq!(text, r#"the answer is not HTTP; it starts with "\u{15}\u{3}\u{1}\u{0}\u{2}""#);
}

#[test]
fn endless_answers_are_refused() {
    let start = b"HTTP/1.1 101 x\r\nA: ";
    let long = [&start[..], &vec![b'a'; 16 * 1024 - start.len() - 1]].concat();
    assert_eq!(read(&long), Ok(Step::NeedMore));
    let long = [&long[..], b"a"].concat();
    assert_eq!(read(&long), Err(ResponseError::HeadTooLarge { limit: 16 * 1024 }));
    let many = format!("HTTP/1.1 101 x\r\n{}", "A: b\r\n".repeat(101));
    assert_eq!(read(many.as_bytes()), Err(ResponseError::TooManyHeaders { limit: 100 }));
}
