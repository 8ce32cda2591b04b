//! What first bytes are. The hellos are recorded: OpenSSL 3.0.19's (TLS 1.3 asked for `Www.Example.com`, TLS 1.2 for
//! `tls12.example.org`, and one without a name), and the one of rustls 0.23 with a post-quantum key for
//! `pq.example.net`, which is larger than a packet.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use wsray_route::{MAX_SNIFF_BYTES, Rest, Sniffed, invariants::sniffing_ignores_splits, sniff};

const TLS13: &[u8] = include_bytes!("../vectors/client_hello_openssl_tls13.bin");
const TLS12: &[u8] = include_bytes!("../vectors/client_hello_openssl_tls12.bin");
const NO_NAME: &[u8] = include_bytes!("../vectors/client_hello_openssl_no_name.bin");
const POST_QUANTUM: &[u8] = include_bytes!("../vectors/client_hello_rustls_post_quantum.bin");

const REQUEST: &[u8] = b"GET http://Ignored.example/a%20b/c?secret=1 HTTP/1.1\r\n\
    Accept: text/html\r\nHOST: Www.Example.com:8080\r\nCookie: a=b\r\n\r\nbody";

fn now(input: &[u8]) -> Sniffed {
    sniff(input, Rest::MayCome)
}

fn tls(name: &str) -> Sniffed {
    Sniffed::Tls { server_name: Some(name.to_owned()) }
}

/// The same handshake bytes in records of `len`.
fn in_records_of(len: usize, hello: &[u8]) -> Vec<u8> {
    let mut to = Vec::new();
    for piece in hello[5..].chunks(len) {
        to.extend([22, 3, 1]);
        to.extend(u16::try_from(piece.len()).unwrap().to_be_bytes());
        to.extend(piece);
    }
    to
}

#[test]
fn the_name_in_a_hello_is_found() {
    assert_eq!(now(TLS13), tls("www.example.com"));
    assert_eq!(now(TLS12), tls("tls12.example.org"));
    assert_eq!(now(POST_QUANTUM), tls("pq.example.net"));
    assert_eq!(now(NO_NAME), Sniffed::Tls { server_name: None });
    assert_eq!(now(TLS13).protocol(), Some("tls"));
    assert_eq!(now(TLS13).domain(), Some("www.example.com"));
}

#[test]
fn a_hello_in_many_records_is_the_same_hello() {
    for len in [1, 2, 3, 5, 50, 511] {
        assert_eq!(now(&in_records_of(len, TLS13)), tls("www.example.com"), "records of {len}");
        assert_eq!(now(&in_records_of(len, POST_QUANTUM)), tls("pq.example.net"), "records of {len}");
    }
}

#[test]
fn a_hello_cut_anywhere_waits_or_is_decided() {
    for hello in [TLS13, TLS12, NO_NAME, POST_QUANTUM, &in_records_of(7, TLS12)] {
        for cut in 0..=hello.len() {
            sniffing_ignores_splits(hello, cut);
        }
        assert_eq!(now(&hello[..40]), Sniffed::NeedMore);
    }
    // In OpenSSL's hello the name comes early: a whole packet before the end.
    assert_eq!(now(&TLS13[..300]), tls("www.example.com"));
}

#[test]
fn a_hello_that_ends_early_is_tls_without_a_name() {
    assert_eq!(sniff(&TLS13[..40], Rest::Over), Sniffed::Tls { server_name: None });
    assert_eq!(sniff(&TLS13[..10], Rest::Over), Sniffed::Nothing);
}

#[test]
fn broken_hellos_are_nothing() {
    let patched = |at: usize, byte: u8| {
        let mut bytes = TLS12.to_vec();
        bytes[at] = byte;
        bytes
    };
    for (at, byte, what) in [
        (1, 2, "record version"),
        (5, 2, "server hello"),
        (9, 2, "version 2.3"),
        (43, 255, "session id longer than the hello"),
        (8, 10, "hello shorter than its fields"),
    ] {
        assert_eq!(now(&patched(at, byte)), Sniffed::Nothing, "{what}");
    }
    // Behind session id, cipher suites and compression methods: the extensions' length.
    let ciphers = 44 + usize::from(TLS12[43]);
    let ciphers_len = usize::from(u16::from_be_bytes([TLS12[ciphers], TLS12[ciphers + 1]]));
    let compression = ciphers + 2 + ciphers_len;
    let extensions = compression + 1 + usize::from(TLS12[compression]);
    for change in [-1, 1] {
        let hello = patched(extensions + 1, TLS12[extensions + 1].wrapping_add_signed(change));
        assert_eq!(now(&hello), Sniffed::Nothing, "extensions {change} byte longer than the hello");
    }
    let interrupted = [&in_records_of(10, TLS12)[..45], &[23, 3, 3, 0, 1, 0]].concat();
    assert_eq!(now(&interrupted), Sniffed::Nothing);
    let empty_record = [&in_records_of(10, TLS12)[..45], &[22, 3, 1, 0, 0]].concat();
    assert_eq!(now(&empty_record), Sniffed::Nothing);
}

#[test]
fn names_that_are_none_are_not_given_out() {
    let place = TLS12.windows(5).position(|window| window == b"tls12").unwrap();
    for bytes in [b"tls\n2", b"tls 2", b"tls\xc32"] {
        let mut hello = TLS12.to_vec();
        hello[place..place + 5].copy_from_slice(bytes);
        assert_eq!(now(&hello), Sniffed::Tls { server_name: None }, "{bytes:?}");
    }
    // RFC 6066 section 3: no dot at the end.
    let mut hello = TLS12.to_vec();
    hello[place + "tls12.example.org".len() - 1] = b'.';
    assert_eq!(now(&hello), Sniffed::Tls { server_name: None });
}

#[test]
fn a_request_tells_its_host_and_attributes() {
    let Sniffed::Http { host, attributes } = now(REQUEST) else { panic!("{:?}", now(REQUEST)) };
    assert_eq!(host.as_deref(), Some("www.example.com"));
    for (name, value) in [
        (":method", Some("GET")),
        (":path", Some("/a b/c")),
        ("accept", Some("text/html")),
        ("cookie", Some("a=b")),
        ("Accept", None),
    ] {
        assert_eq!(attributes.find(name), value, "{name}");
    }
    let shown = format!("{attributes:?}");
    assert!(shown.contains("cookie") && !shown.contains("a=b"), "{shown}");
}

#[test]
fn a_request_cut_anywhere_waits_for_its_head() {
    let head = REQUEST.len() - "body".len();
    for cut in 0..=REQUEST.len() {
        sniffing_ignores_splits(REQUEST, cut);
        assert_eq!(now(&REQUEST[..cut]) == Sniffed::NeedMore, cut < head, "{cut}");
    }
}

#[test]
fn a_request_that_ends_early_tells_its_whole_lines() {
    let host = |input: &[u8]| match sniff(input, Rest::Over) {
        Sniffed::Http { host, .. } => host,
        other => panic!("{other:?}"),
    };
    let text = b"POST / HTTP/1.1\r\nHost: example.com\r\nContent-";
    assert_eq!(host(text).as_deref(), Some("example.com"));
    // Half a host is no host.
    assert_eq!(host(&text[..30]), None);
    assert_eq!(sniff(&text[..10], Rest::Over), Sniffed::Nothing);
}

#[test]
fn hosts_are_names_or_addresses() {
    for (value, expected) in [
        ("example.com", Some("example.com")),
        ("EXAMPLE.com.:443", Some("example.com")),
        ("1.2.3.4:80", Some("1.2.3.4")),
        ("[2001:DB8::1]:80", Some("2001:db8::1")),
        ("[::1]", Some("::1")),
        ("a_b.example", Some("a_b.example")),
        ("", None),
        ("a b", None),
        ("a:b", None),
        ("a:99999", None),
        ("[::1]x", None),
        ("evil\u{1}.com", None),
        ("bücher.example", None),
        ("example.com\r\nHost: example.com", Some("example.com")),
        ("example.com\r\nHost: other.com", None),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n");
        assert_eq!(now(request.as_bytes()).domain(), expected, "{value:?}");
    }
}

#[test]
fn other_protocols_are_nothing_as_soon_as_they_show() {
    for input in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        b"\x00",
        b"\x05\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GETTY",
        b"GET / RTSP/1.0\r\n",
        b"GET  HTTP/1.1\r\n",
        b"EHLO",
        b"USER me\r\n",
        b"\x13BitTorrent protocoX",
        b"\x17\x03\x03",
    ] {
        assert_eq!(now(input), Sniffed::Nothing, "{input:?}");
        for cut in 0..=input.len() {
            sniffing_ignores_splits(input, cut);
        }
    }
    for input in [&b""[..], b"G", b"get", b"DELETE", b"GET /", b"\x16", b"\x16\x03", b"\x13Bit"] {
        assert_eq!(now(input), Sniffed::NeedMore, "{input:?}");
    }
    assert_eq!(now(b"\x13BitTorrent protocol\0\0"), Sniffed::BitTorrent);
    assert_eq!(now(b"\x13BitTorrent protocol").protocol(), Some("bittorrent"));
}

#[test]
fn endless_beginnings_are_decided_at_the_limit() {
    let line = [&b"GET /"[..], &vec![b'a'; MAX_SNIFF_BYTES]].concat();
    assert_eq!(now(&line[..MAX_SNIFF_BYTES - 1]), Sniffed::NeedMore);
    assert_eq!(now(&line[..MAX_SNIFF_BYTES]), Sniffed::Nothing);
    let cookies =
        [&b"GET / HTTP/1.1\r\nHost: a.example\r\nCookie: "[..], &vec![b'a'; MAX_SNIFF_BYTES]].concat();
    assert_eq!(now(&cookies).domain(), Some("a.example"));
    let mut hello = vec![22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff, 3, 3];
    hello.resize(40 * 1024, 0);
    // Zeros are no extensions.
    assert_eq!(now(&hello), Sniffed::Nothing);
}
