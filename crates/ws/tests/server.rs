//! Which requests the server takes, and its answers byte for byte as V2Ray 4.45.2 was seen to give them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::num::NonZeroU32;

use wsray_ws::{
    Accepted, EarlyData, EarlyDataError, EarlyDataPlace, HeadLimits, Path, Refusal, RefusalReason, Request,
    RequestError, ServerOptions, Step,
    server::{MAX_EARLY_DATA_LIMIT, MIN_EARLY_DATA_LIMIT, request},
};

const DATE: &str = "Sun, 22 Nov 2026 17:05:35 GMT";

/// What every upgrade request has.
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

fn options(path: &str, place: Option<&str>) -> ServerOptions {
    let place = place.map(|place| match place {
        "" => EarlyDataPlace::Path,
        name => EarlyDataPlace::Header(name.parse().unwrap()),
    });
    let max_bytes = NonZeroU32::new(2048).unwrap();
    let early_data = place.map(|place| EarlyData { max_bytes, place });
    ServerOptions { path: Path::new(path).unwrap(), early_data }
}

/// `/ray` without early data.
fn none() -> ServerOptions {
    options("/ray", None)
}

/// `/ray` with early data in the path.
fn path_mode() -> ServerOptions {
    options("/ray", Some(""))
}

/// `/ray` with early data in the usual header.
fn header_mode() -> ServerOptions {
    options("/ray", Some("Sec-WebSocket-Protocol"))
}

fn head(line: &str, headers: &str) -> String {
    format!("{line}\r\nHost: h\r\n{headers}\r\n")
}

fn parse(head: &str) -> Request {
    match request(head.as_bytes(), HeadLimits { max_bytes: 100_000 }) {
        Ok(Step::Done { used, value }) if used == head.len() => value,
        other => panic!("{other:?} for {head}"),
    }
}

fn get(options: &ServerOptions, target: &str, more: &str) -> Result<Accepted, Refusal> {
    options.accept(&parse(&head(&format!("GET {target} HTTP/1.1"), &format!("{UPGRADE}{more}"))), DATE)
}

fn early(options: &ServerOptions, target: &str, more: &str) -> Vec<u8> {
    get(options, target, more).unwrap().early_data
}

fn status(options: &ServerOptions, target: &str, more: &str) -> u16 {
    get(options, target, more).map_or_else(|refusal| refusal.reason.status(), |_| 101)
}

fn answer(line: &str, headers: &str) -> String {
    let response = match none().accept(&parse(&head(line, headers)), DATE) {
        Ok(accepted) => accepted.response,
        Err(refusal) => refusal.response,
    };
    String::from_utf8(response).unwrap()
}

fn reason(options: &ServerOptions, target: &str, more: &str) -> String {
    get(options, target, more).unwrap_err().reason.to_string()
}

#[test]
fn upgrade_is_answered_as_v2ray_does() {
    let accepted = get(&none(), "/ray", "").unwrap();
    assert_eq!(String::from_utf8(accepted.response).unwrap(), format!("{SWITCHING}\r\n"));
    assert!(accepted.early_data.is_empty());
}

#[test]
fn unknown_path_is_answered_404_before_anything_else() {
    let expected = format!("HTTP/1.1 404 Not Found\r\nDate: {DATE}\r\nContent-Length: 0\r\n\r\n");
    for line in ["GET /x HTTP/1.1", "POST /x HTTP/1.1", "GET * HTTP/1.1", "GET http://x HTTP/1.1"] {
        assert_eq!(answer(line, UPGRADE), expected, "{line}");
        assert_eq!(answer(line, ""), expected, "{line}");
    }
    assert_eq!(answer("GET /x HTTP/1.0", ""), expected.replace("1.1", "1.0"));
    assert_eq!(answer("HEAD /x HTTP/1.1", ""), expected.replace("Content-Length: 0\r\n", ""));
    let close = expected.replace(": 0\r\n", ": 0\r\nConnection: close\r\n");
    assert_eq!(answer("GET /x HTTP/1.1", "Connection: close\r\n"), close);
}

#[test]
fn bad_upgrades_are_answered_as_v2ray_does() {
    let bad = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nSec-Websocket-Version: 13\r\n\
         X-Content-Type-Options: nosniff\r\nDate: {DATE}\r\nContent-Length: 12\r\n\r\nBad Request\n"
    );
    let version = UPGRADE.replace("13", "12");
    let key = UPGRADE.replace("dGhlIHNhbXBsZSBub25jZQ==", "");
    for headers in ["", &version, &key, "Upgrade: websocket\r\n", "Connection: Upgrade\r\n"] {
        assert_eq!(answer("GET /ray HTTP/1.1", headers), bad, "{headers}");
    }
    assert_eq!(answer("POST /ray HTTP/1.1", ""), bad);
    assert_eq!(answer("GET /ray HTTP/1.0", ""), bad.replace("/1.1", "/1.0"));
    let method = bad
        .replace("400 Bad Request", "405 Method Not Allowed")
        .replace(": 12", ": 19")
        .replace("\nBad Request\n", "\nMethod Not Allowed\n");
    assert_eq!(answer("POST /ray HTTP/1.1", UPGRADE), method);
    assert_eq!(answer("get /ray HTTP/1.1", UPGRADE), method);
    assert_eq!(answer("HEAD /ray HTTP/1.1", UPGRADE), method.trim_end_matches("Method Not Allowed\n"));
}

#[test]
fn tolerated_requests_are_upgraded() {
    let listed = UPGRADE.replace("n: Upgrade", "n: keep-alive, upgrade").replace("websocket", "WebSocket");
    let split = UPGRADE.replace("n: Upgrade", "n: keep-alive\r\nConnection: upgrade");
    let short_key = UPGRADE.replace("dGhlIHNhbXBsZSBub25jZQ==", "abc");
    let browser = format!("{UPGRADE}Origin: null\r\nSec-WebSocket-Extensions: permessage-deflate\r\n");
    let protocols = format!("{UPGRADE}Sec-WebSocket-Protocol: chat, superchat\r\n");
    for headers in [&listed, &split, &short_key, &browser, &protocols] {
        assert!(answer("GET /ray HTTP/1.1", headers).starts_with("HTTP/1.1 101 "), "{headers}");
        assert!(!answer("GET /ray HTTP/1.1", headers).contains("Sec-WebSocket-Protocol"), "{headers}");
    }
    let http_1_0 = format!("GET /ray HTTP/1.0\r\n{UPGRADE}\r\n");
    assert!(none().accept(&parse(&http_1_0), DATE).is_ok());
}

#[test]
fn path_matches_by_the_rules_without_early_data_and_with_a_header() {
    for options in [none(), header_mode()] {
        for target in ["/ray", "/ray?x=1", "/ray?ed=2048", "/%72ay", "http://x/ray", "HTTP://x/ray?x"] {
            assert_eq!(status(&options, target, ""), 101, "{target}");
        }
        for target in
            ["/ray/", "/RAY", "//ray", "/rayA", "/rayAAAA", "/ra", "/", "/ray%3Fed=2048", "/ray#x", "*"]
        {
            assert_eq!(status(&options, target, ""), 404, "{target}");
        }
    }
}

#[test]
fn path_matches_by_its_raw_start_in_path_mode() {
    for target in ["/ray", "/rayAAAA", "/ray?x=1", "/ray?ed=2048", "/rayAAAA?x=1", "http://x/ray"] {
        assert_eq!(status(&path_mode(), target, ""), 101, "{target}");
    }
    for target in ["/%72ay", "/ra", "/RAY", "*"] {
        assert_eq!(status(&path_mode(), target, ""), 404, "{target}");
    }
    for target in ["/ray%41", "/ray.html", "/rayA", "/ray=="] {
        assert_eq!(status(&path_mode(), target, ""), 400, "{target}");
    }
}

#[test]
fn configured_path_with_a_query_matches_only_in_path_mode() {
    assert_eq!(status(&options("/ray?ed=2048", None), "/ray?ed=2048", ""), 404);
    assert!(reason(&options("/ray?ed=2048", None), "/ray?ed=2048", "").contains("holds a \"?\""));
    assert_eq!(early(&options("/ray?a=", Some("")), "/ray?a=AAAA", ""), [0; 3]);
}

#[test]
fn early_data_comes_from_the_path_in_both_alphabets() {
    assert_eq!(early(&path_mode(), "/ray", ""), b"");
    assert_eq!(early(&path_mode(), "/ray?ed=2048", ""), b"");
    assert_eq!(early(&path_mode(), "/ray-_-_", ""), b"\xFB\xFF\xBF");
    assert_eq!(early(&path_mode(), "/ray+/+/", ""), b"\xFB\xFF\xBF");
    assert_eq!(early(&path_mode(), "/rayAA==", ""), b"\0");
    assert_eq!(early(&path_mode(), "/rayAAAA?ed=2048", ""), b"\0\0\0");
}

#[test]
fn early_data_comes_from_the_header_and_is_echoed() {
    for value in ["-_-_", "+/+/", "AA==", "AA"] {
        for options in [header_mode(), path_mode()] {
            let accepted = get(&options, "/ray", &format!("sec-websocket-protocol: {value}\r\n")).unwrap();
            assert!(!accepted.early_data.is_empty());
            let expected = format!("{SWITCHING}Sec-WebSocket-Protocol: {value}\r\n\r\n");
            assert_eq!(String::from_utf8(accepted.response).unwrap(), expected);
        }
    }
    let accepted = get(&options("/ray", Some("X-Ed")), "/ray", "x-ed: AAAA\r\n").unwrap();
    assert_eq!(accepted.early_data, [0; 3]);
    assert_eq!(String::from_utf8(accepted.response).unwrap(), format!("{SWITCHING}\r\n"));
}

#[test]
fn early_data_server_serves_clients_without_it() {
    for more in ["", "Sec-WebSocket-Protocol:\r\n"] {
        let accepted = get(&header_mode(), "/ray", more).unwrap();
        assert_eq!(String::from_utf8(accepted.response).unwrap(), format!("{SWITCHING}\r\n"));
        assert!(accepted.early_data.is_empty());
    }
}

#[test]
fn real_subprotocol_is_no_early_data_in_path_mode() {
    let accepted = get(&path_mode(), "/ray", "Sec-WebSocket-Protocol: chat, mqtt\r\n").unwrap();
    assert!(accepted.early_data.is_empty());
    assert_eq!(String::from_utf8(accepted.response).unwrap(), format!("{SWITCHING}\r\n"));
}

#[test]
fn undecodable_early_data_is_answered_like_any_bad_request() {
    let bad = answer("GET /ray HTTP/1.1", "");
    for value in ["A", "AA A", "!!!!", "AAAA, BBBB", "%41%41"] {
        let more = format!("Sec-WebSocket-Protocol: {value}\r\n");
        let refusal = get(&header_mode(), "/ray", &more).unwrap_err();
        assert_eq!(String::from_utf8(refusal.response).unwrap(), bad, "{value}");
    }
}

#[test]
fn early_data_limit_is_the_configured_one_within_bounds() {
    let limit = |max: u32| {
        let max_bytes = NonZeroU32::new(max).unwrap();
        let early_data = Some(EarlyData { max_bytes, place: EarlyDataPlace::Path });
        ServerOptions { early_data, ..ServerOptions::default() }.early_data_limit()
    };
    assert_eq!([limit(1), limit(2048), limit(8192)], [MIN_EARLY_DATA_LIMIT; 3]);
    assert_eq!(limit(20_000), 20_000);
    assert_eq!(limit(u32::MAX), MAX_EARLY_DATA_LIMIT);
    assert_eq!(none().head_limits().max_bytes, 16 * 1024);
    assert!(header_mode().head_limits().max_bytes >= 16 * 1024 + 8192 / 3 * 4);
}

#[test]
fn early_data_above_the_limit_is_refused() {
    let value = |len: usize| format!("Sec-WebSocket-Protocol: {}\r\n", "A".repeat(len.div_ceil(3) * 4));
    assert_eq!(early(&header_mode(), "/ray", &value(8190)).len(), 8190);
    let refusal = get(&header_mode(), "/ray", &value(8193)).unwrap_err();
    let problem = EarlyDataError::TooLong { found: 8193, limit: 8192 };
    let place = "Sec-WebSocket-Protocol".to_owned();
    assert_eq!(refusal.reason, RefusalReason::EarlyData { place, problem });
    let target = format!("/ray{}", "A".repeat(8193 / 3 * 4));
    assert_eq!(status(&path_mode(), &target, ""), 400);
}

#[test]
fn head_cut_anywhere_waits_and_leaves_the_first_frame() {
    let head = head("GET /ray HTTP/1.1", UPGRADE);
    let bytes = [head.as_bytes(), b"\x82\x82\0\0\0\0hi"].concat();
    let whole = parse(&head);
    for cut in 0..=bytes.len() {
        let found = request(&bytes[..cut], HeadLimits::default());
        let expected = if cut < head.len() {
            Step::NeedMore
        } else {
            Step::Done { used: head.len(), value: whole.clone() }
        };
        assert_eq!(found, Ok(expected), "{cut}");
    }
}

#[test]
fn head_with_bare_line_feeds_is_read() {
    let head = head("GET /ray HTTP/1.1", UPGRADE).replace("\r\n", "\n");
    assert!(none().accept(&parse(&head), DATE).is_ok());
}

#[test]
fn bad_heads_are_answered_as_gos_server_does() {
    let text = |head: &str| {
        let error = request(head.as_bytes(), HeadLimits::default()).unwrap_err();
        let response = String::from_utf8(error.response()).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        let line = head.lines().next().unwrap();
        assert_eq!(head, format!("{line}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close"));
        assert_eq!(line, format!("HTTP/1.1 {body}"));
        body.to_owned()
    };
    for garbage in
        ["hello\r\n\r\n", "GET ray HTTP/1.1\r\nHost: h\r\n\r\n", "GET /ray\r\n\r\n", "\x16\x03\x01\0"]
    {
        assert_eq!(text(garbage), "400 Bad Request", "{garbage:?}");
    }
    assert_eq!(text("GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n"), "400 Bad Request");
    assert_eq!(text("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), "400 Bad Request");
    assert_eq!(text("GET / HTTP/1.1\r\n\r\n"), "400 Bad Request: missing required Host header");
    let version = "505 HTTP Version Not Supported: unsupported protocol version";
    assert_eq!(text("GET / HTTP/2.0\r\nHost: h\r\n\r\n"), version);
    let many = format!("GET / HTTP/1.1\r\n{}", "A: b\r\n".repeat(101));
    assert_eq!(text(&many), "431 Request Header Fields Too Large");
    let long = format!("GET /{}", "a".repeat(16 * 1024));
    assert_eq!(text(&long), "431 Request Header Fields Too Large");
}

#[test]
fn head_may_have_exactly_its_limit() {
    let fill = |len: usize| format!("GET / HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n", "a".repeat(len));
    let most = 16 * 1024 - fill(0).len();
    assert!(matches!(request(fill(most).as_bytes(), HeadLimits::default()), Ok(Step::Done { .. })));
    let limit = 16 * 1024;
    let found = request(fill(most + 1).as_bytes(), HeadLimits::default());
    assert_eq!(found, Err(RequestError::HeadTooLarge { limit }));
}

#[test]
fn reasons_say_what_the_operator_must_know() {
    let bare = |headers: &str| {
        none().accept(&parse(&head("GET /ray HTTP/1.1", headers)), DATE).unwrap_err().reason.to_string()
    };
    assert!(bare("").starts_with("header Upgrade is missing: the front end does not forward it (nginx: "));
    assert!(bare("").contains("proxy_set_header Upgrade $http_upgrade"));
    assert!(
        bare("Upgrade: websocket\r\nConnection: close\r\n").starts_with("header Connection is \"close\"")
    );
    assert!(bare(&UPGRADE.replace("13", "8")).contains("Sec-WebSocket-Version is \"8\" instead of 13"));
    assert_eq!(reason(&none(), "/x?secret=1", ""), "path \"/x\" is not \"/ray\"");
    let value = "Sec-WebSocket-Protocol: AAAA!AAA\r\n";
    let text = "early data in Sec-WebSocket-Protocol: not base64: wrong character at position 4";
    assert_eq!(reason(&header_mode(), "/ray", value), text);
    assert!(reason(&path_mode(), "/ray%41", "").starts_with("early data in the path: not base64"));
}

#[test]
fn reasons_never_show_query_or_early_data() {
    let secret = "SeCrEtSeCrEtSeCrEtSeCrEtSeCrEtSeCrEtSeCrEtSeCrEt";
    for options in [none(), header_mode(), path_mode()] {
        for target in [format!("/ray{secret}!"), format!("/x?{secret}"), format!("/other{secret}")] {
            if let Err(refusal) = get(&options, &target, "") {
                let text = refusal.reason.to_string();
                assert!(!text.contains("SeCrEtSe"), "{text}");
            }
        }
    }
    let text = reason(&none(), &format!("/ray{secret}"), "");
    assert!(text.contains("followed by 48 characters, as if it were early data"), "{text}");
    let request = parse(&head(&format!("GET /x?{secret} HTTP/1.1"), &format!("A: {secret}\r\n")));
    assert!(!format!("{request:?}").contains("SeCrEt"));
    let accepted = get(&header_mode(), "/ray", "Sec-WebSocket-Protocol: AAAA\r\n").unwrap();
    assert_eq!(format!("{accepted:?}"), "Accepted(3 bytes of early data)");
}

#[test]
fn early_data_nobody_reads_is_noticed() {
    let value = "Sec-WebSocket-Protocol: eZfTMUlS3DfgsoQzG2uy58nn30-cGTwRrfq63vCz2sfc\r\n";
    let unread = |options: &ServerOptions, more: &str| {
        get(options, "/ray", more).unwrap().looks_like_unread_early_data
    };
    assert!(unread(&none(), value));
    assert!(unread(&options("/ray", Some("X-Ed")), value));
    assert!(!unread(&header_mode(), value));
    assert!(!unread(&none(), ""));
    assert!(!unread(&none(), "Sec-WebSocket-Protocol: chat\r\n"));
}

#[test]
fn tls_on_a_plain_port_is_named() {
    let error = request(b"\x16\x03\x01\x02\0\x01", HeadLimits::default()).unwrap_err();
    assert!(error.to_string().contains("starts like TLS"), "{error}");
}

#[test]
fn header_gives_the_first_of_its_name() {
    let request =
        parse(&head("GET / HTTP/1.1", "X-Forwarded-For:  1.2.3.4, 5.6.7.8 \r\nx-forwarded-for: 9.9.9.9\r\n"));
    assert_eq!(request.header("x-forwarded-for"), Some("1.2.3.4, 5.6.7.8"));
    assert_eq!(request.header("X-Real-IP"), None);
}
