use proptest::prelude::*;

use super::{
    BodyLimit, BodyState, HeadReader, HttpError, Kind, MAX_HEAD_BYTES, MAX_HEADERS, Request, Status, Step,
    answer, invariants,
};

fn read(head: &str) -> Result<Request, HttpError> {
    match HeadReader::new().read(head.as_bytes())? {
        Step::Done { used, value } => {
            assert_eq!(used, head.len());
            Ok(value)
        }
        Step::NeedMore => panic!("needs more: {head:?}"),
    }
}

fn forwarded(head: &str) -> (String, BodyLimit) {
    match read(head).unwrap().kind {
        Kind::Forward { head, body } => (String::from_utf8(head).unwrap(), body),
        Kind::Connect => panic!("a CONNECT"),
    }
}

#[test]
fn connect_names_host_and_port() {
    for (authority, target) in [
        ("example.com:443", "example.com:443"),
        ("203.0.113.5:8443", "203.0.113.5:8443"),
        ("[2001:db8::1]:443", "[2001:db8::1]:443"),
    ] {
        let request = read(&format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")).unwrap();
        assert_eq!((request.target.to_string().as_str(), request.kind), (target, Kind::Connect));
    }
}

#[test]
fn bytes_behind_a_connect_are_left() {
    let input = b"CONNECT a.example:443 HTTP/1.1\r\n\r\n\x16\x03\x01";
    let Ok(Step::Done { used, .. }) = HeadReader::new().read(input) else { panic!() };
    assert_eq!(&input[used..], b"\x16\x03\x01");
}

#[test]
fn bad_authorities_are_refused() {
    for authority in [
        "example.com",
        "example.com:",
        "example.com:0",
        "example.com:65536",
        "example.com:+80",
        ":443",
        "a b:443",
        "user@example.com:443",
        "[::1:443",
        "[::1]443",
        "::1:443",
        "ex\u{e4}mple.com:443",
    ] {
        let result = read(&format!("CONNECT {authority} HTTP/1.1\r\n\r\n"));
        assert!(
            matches!(result, Err(HttpError::Authority | HttpError::Head { .. })),
            "{authority}: {result:?}"
        );
    }
}

#[test]
fn plain_request_goes_to_the_origin_with_its_path() {
    let (head, body) = forwarded(
        "GET http://example.com/a?b=c#d HTTP/1.1\r\nHost: example.com\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\
         Proxy-Connection: Keep-Alive\r\n\r\n",
    );
    assert_eq!(
        head,
        "GET /a?b=c HTTP/1.1\r\nHost: example.com\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(body.state(), BodyState::Complete);
}

#[test]
fn every_url_shape_gives_target_and_path() {
    for (method, url, target, line) in [
        ("GET", "http://example.com", "example.com:80", "GET / HTTP/1.1"),
        ("GET", "HTTP://example.com:8080/x", "example.com:8080", "GET /x HTTP/1.1"),
        ("GET", "http://example.com?q", "example.com:80", "GET /?q HTTP/1.1"),
        ("GET", "http://[::1]:81/", "[::1]:81", "GET / HTTP/1.1"),
        ("OPTIONS", "http://example.com", "example.com:80", "OPTIONS * HTTP/1.1"),
        ("OPTIONS", "http://example.com/", "example.com:80", "OPTIONS / HTTP/1.1"),
    ] {
        let request = format!("{method} {url} HTTP/1.1\r\nHost: other.example\r\n\r\n");
        assert_eq!(read(&request).unwrap().target.to_string(), target);
        let (head, _) = forwarded(&request);
        let authority = url.get(7..).unwrap().split(['/', '?']).next().unwrap();
        assert!(head.starts_with(&format!("{line}\r\nHost: {authority}\r\n")), "{head}");
        assert!(!head.contains("other.example"), "{head}");
    }
}

#[test]
fn requests_that_are_not_for_a_proxy_are_refused() {
    assert_eq!(read("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Err(HttpError::NotForProxy));
    assert_eq!(read("GET https://a.example/ HTTP/1.1\r\n\r\n"), Err(HttpError::Scheme));
    assert_eq!(read("GET ftp://a.example/ HTTP/1.1\r\n\r\n"), Err(HttpError::Scheme));
    assert_eq!(read("GET a.example/ HTTP/1.1\r\n\r\n"), Err(HttpError::Scheme));
    assert_eq!(read("GET http:///x HTTP/1.1\r\n\r\n"), Err(HttpError::Authority));
    assert_eq!(read("GET http://u:p@a.example/ HTTP/1.1\r\n\r\n"), Err(HttpError::Authority));
}

#[test]
fn hop_by_hop_headers_stay_here() {
    let (head, _) = forwarded(
        "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nKeep-Alive: 5\r\nTE: trailers\r\nTrailer: X\r\n\
         Proxy-Authorization: Basic YTpi\r\nPROXY-Foo: 1\r\nX-Private: 1\r\nX-Kept: 1\r\nCookie: a=b\r\n\
         Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: upgrade, X-Private,http2-settings\r\n\r\n",
    );
    assert_eq!(
        head,
        "GET / HTTP/1.1\r\nHost: a.example\r\nX-Kept: 1\r\nCookie: a=b\r\nConnection: close\r\n\r\n"
    );
}

#[test]
fn connection_header_cannot_take_host_or_framing_away() {
    let (head, body) = forwarded(
        "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\
         Connection: close, Host, Content-Length\r\n\r\n",
    );
    assert_eq!(head, "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\nConnection: close\r\n\r\n");
    assert_eq!(body, BodyLimit::length(5));
}

#[test]
fn websocket_upgrade_is_forwarded() {
    let (head, body) = forwarded(
        "GET http://a.example/chat HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive, Upgrade\r\n\
         Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert!(
        head.ends_with("Sec-WebSocket-Version: 13\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        "{head}"
    );
    assert_eq!(body, BodyLimit::unlimited());
}

#[test]
fn basic_credentials_are_read_and_not_shown() {
    let head = |value: &str| format!("CONNECT a.example:1 HTTP/1.1\r\nProxy-Authorization: {value}\r\n\r\n");
    // The example of RFC 7617, section 2.
    let request = read(&head("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")).unwrap();
    let credentials = request.credentials.clone().unwrap();
    assert_eq!((&credentials.user[..], &credentials.password[..]), (&b"Aladdin"[..], &b"open sesame"[..]));
    assert!(!format!("{request:?}").contains("sesame"));
    assert!(read(&head("basic  YTpiOmM=")).unwrap().credentials.is_some_and(|c| c.password == b"b:c"));
    for value in ["Basic", "Basic !", "Basic YQ==", "Bearer YTpi", ""] {
        assert_eq!(read(&head(value)).unwrap().credentials, None, "{value}");
    }
}

#[test]
fn smuggling_shapes_are_refused() {
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length:",
        "Content-Length: 18446744073709551616",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding : chunked",
        "Content-Length : 5",
        "X: a\r\n b",
        "X: a\r\n\tb",
        " X: a",
        "X: a\rContent-Length: 5",
        "X: a\nContent-Length: 5",
        "X: a\0b",
        "X\0: a",
        ": a",
        "no colon",
        "Host: a.example\r\nHost: b.example",
    ] {
        let result = read(&format!("POST http://a.example/ HTTP/1.1\r\n{lines}\r\n\r\n"));
        assert!(
            matches!(
                result,
                Err(HttpError::Framing { .. } | HttpError::TransferCoding | HttpError::Head { .. })
            ),
            "{lines:?}: {result:?}"
        );
    }
    let old = read("POST http://a.example/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert!(matches!(old, Err(HttpError::Framing { .. })));
    let tunnel = read("CONNECT a.example:1 HTTP/1.1\r\nContent-Length: 5\r\n\r\n");
    assert!(matches!(tunnel, Err(HttpError::Framing { .. })));
}

#[test]
fn content_length_said_twice_alike_is_sent_once() {
    let (head, body) =
        forwarded("POST http://a.example/ HTTP/1.0\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(head, "POST / HTTP/1.0\r\nHost: a.example\r\nContent-Length: 5\r\nConnection: close\r\n\r\n");
    assert_eq!(body, BodyLimit::length(5));
}

#[test]
fn other_protocols_are_told_at_the_first_bytes() {
    assert_eq!(HeadReader::new().read(b"\x16\x03"), Err(HttpError::NotHttp { found: 0x16 }));
    assert_eq!(HeadReader::new().read(b"\x05\x01\x00"), Err(HttpError::NotHttp { found: 5 }));
    assert_eq!(HeadReader::new().read(&[b'A'; 25]), Err(HttpError::NotHttp { found: b'A' }));
    assert_eq!(HeadReader::new().read(&[b'A'; 24]), Ok(Step::NeedMore));
    assert_eq!(HeadReader::new().read(b""), Ok(Step::NeedMore));
}

#[test]
fn head_and_its_lines_are_limited() {
    let endless = [b"GET http://a.example/ HTTP/1.1\r\nX: ".as_slice(), &vec![b'x'; MAX_HEAD_BYTES]].concat();
    assert_eq!(HeadReader::new().read(&endless[..MAX_HEAD_BYTES - 1]), Ok(Step::NeedMore));
    let error = HeadReader::new().read(&endless).unwrap_err();
    assert_eq!((error.status(), error.status().code()), (Status::HeadTooLarge, 431));
    let lines = |count| format!("GET http://a.example/ HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(count));
    assert!(read(&lines(MAX_HEADERS)).is_ok());
    assert_eq!(read(&lines(MAX_HEADERS + 1)), Err(HttpError::TooManyHeaders));
}

#[test]
fn head_split_at_every_byte_reads_the_same() {
    let input = b"POST http://a.example/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: u\r\n\r\nnext";
    for piece in 1..input.len() {
        invariants::check(input, piece);
    }
}

#[test]
fn body_of_known_length_ends_there() {
    let mut body = BodyLimit::length(5);
    assert_eq!((body.take(b"hel"), body.state()), (3, BodyState::More));
    assert_eq!((body.take(b"lo, next"), body.state()), (2, BodyState::Complete));
    assert_eq!(body.take(b"next"), 0);
    assert_eq!(BodyLimit::length(u64::MAX).take(b"abc"), 3);
}

#[test]
fn chunked_body_ends_behind_its_trailers() {
    for (body, state) in [
        ("0\r\n\r\n", BodyState::Complete),
        ("5\r\nhello\r\n0\r\n\r\n", BodyState::Complete),
        ("A;name=\"v\"\r\n0123456789\r\n00\r\nX: y\r\nZ:\r\n\r\n", BodyState::Complete),
        ("5 \r\nhello\r\n0\r\n\r\n", BodyState::Complete),
        ("5\r\nhello\r\n", BodyState::More),
        ("0\r\nX: y\r\n", BodyState::More),
        ("ffffffffffffffff\r\nx", BodyState::More),
    ] {
        let mut limit = BodyLimit::chunked();
        let bytes = format!("{body}{}", if state == BodyState::Complete { "next" } else { "" });
        assert_eq!((limit.take(bytes.as_bytes()), limit.state()), (body.len(), state), "{body:?}");
        for piece in 1..bytes.len() {
            invariants::check_body(BodyLimit::chunked(), bytes.as_bytes(), piece);
        }
    }
}

#[test]
fn bad_chunks_break_the_body() {
    let many = format!("1;{}", "x".repeat(20_000));
    let trailers = format!("0\r\n{}", "X: y\r\n".repeat(5000));
    for body in [
        "\r\n",
        ";x\r\n",
        "g\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        " 5\r\n",
        "5\nhello",
        "5\rhello",
        "5;a\nhello",
        "5\r\nhello!\r\n",
        "5\r\nhello\n0",
        "10000000000000000\r\n",
        "00000000000000001\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\n\n",
        &many,
        &trailers,
    ] {
        let mut limit = BodyLimit::chunked();
        limit.take(body.as_bytes());
        assert_eq!(limit.state(), BodyState::Broken, "{:?}", &body[..body.len().min(40)]);
        assert_eq!(limit.take(b"more"), 0);
    }
}

#[test]
fn refusals_are_whole_answers() {
    assert_eq!(
        String::from_utf8(answer(Status::ProxyAuthenticationRequired, "no account")).unwrap(),
        "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"proxy\"\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: 11\r\nConnection: close\r\n\r\nno account\n"
    );
    assert!(answer(Status::BadGateway, "").starts_with(b"HTTP/1.1 502 Bad Gateway\r\n"));
    assert!(answer(Status::ServiceUnavailable, "").starts_with(b"HTTP/1.1 503 Service Unavailable\r\n"));
}

proptest! {
    #[test]
    fn any_bytes_hold_the_invariants(
        start in prop::sample::select(vec![&b""[..], b"GET http://a/ HTTP/1.1\r\n", b"POST http://a/ HTTP/1.1\r\nContent-Length: 3\r\n"]),
        lines in prop::collection::vec("(Connection|Upgrade|Host|X|TE|Transfer-Encoding|Content-Length):? ?[a-z0-9, ]{0,9}", 0..5),
        rest in prop::collection::vec(any::<u8>(), 0..60), piece in 1_usize..20,
    ) {
        let mut lines = lines.join("\r\n");
        if !lines.is_empty() {
            lines.push_str("\r\n");
        }
        invariants::check(&[start, lines.as_bytes(), b"\r\n", &rest].concat(), piece);
        invariants::check(&rest, piece);
    }

    #[test]
    fn any_chunks_are_counted_the_same_in_pieces(text in "([0-9a-f]{0,2}(;x)?\r\n?[a-z]{0,4}\r?\n){0,6}(0\r\n\r\n)?", piece in 1_usize..9) {
        invariants::check_body(BodyLimit::chunked(), text.as_bytes(), piece);
    }
}
