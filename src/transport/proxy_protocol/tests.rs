use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::{
    Header, MAX_V1_BYTES, MAX_V2_BYTES, Opening, ProxyProtocolError, Step, V2_SIGNATURE, invariants, parse,
};

/// What a header must come to.
#[derive(Clone, Copy, Debug)]
enum Expected {
    Source(&'static str),
    Unix(&'static str),
    Local,
    Refused,
    /// Not whole: refused when the connection ends or the time is up.
    NeedMore,
}
use Expected::{Local, NeedMore, Refused, Source, Unix};

fn outcome(bytes: &[u8]) -> String {
    match parse(bytes) {
        Ok(Step::NeedMore) => "need more".into(),
        Ok(Step::Done { value: Header::Proxied { source, .. }, .. }) => source.to_string(),
        Ok(Step::Done { value: Header::Unix { source }, .. }) => format!("unix {source}"),
        Ok(Step::Done { value: Header::Local, .. }) => "peer".into(),
        Err(_) => "refused".into(),
    }
}

fn expected_outcome(expected: Expected) -> String {
    match expected {
        Source(source) => source.into(),
        Unix(path) => format!("unix {path}"),
        Local => "peer".into(),
        Refused => "refused".into(),
        NeedMore => "need more".into(),
    }
}

/// Version 1 lines, judged by the document.
const V1: &[(&[u8], Expected)] = &[
    (b"PROXY TCP4 203.0.113.1 127.0.0.1 1111 443\r\n", Source("203.0.113.1:1111")),
    (b"PROXY TCP6 2001:db8::1 ::1 1112 443\r\n", Source("[2001:db8::1]:1112")),
    (b"PROXY TCP6 ::ffff:203.0.113.1 ::1 1112 443\r\n", Source("[::ffff:203.0.113.1]:1112")),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Source("255.255.255.255:65535")),
    (
        b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
        Source("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
    ),
    (b"PROXY TCP4 203.0.113.1 127.0.0.1 0 0\r\n", Source("203.0.113.1:0")),
    (b"PROXY UNKNOWN\r\n", Local),
    (b"PROXY UNKNOWN \r\n", Local),
    (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", Local),
    (b"PROXY UNKNOWN some words that mean nothing\r\n", Local),
    (b"PROXY TCP4 203.0.113.1 127.0.0.1 1111 443\r\nGET / HTTP/1.1\r\n", Source("203.0.113.1:1111")),
    (b"PROXY TCP4 203.0.113.1 127.0.0.1 1111 443", NeedMore),
    (b"PROXY TCP4 203.0.113.1 127.0.0.1 1111 443\r", NeedMore),
    (b"PROX", NeedMore),
    (b"PROXY TCP4 203.0.113.1 127.0.0.1 1111 443\n", Refused),
    (b"PROXY TCP4 203.0.113.1 127.0.0.1 1111 443\r\r\n", Refused),
    (b"PROXY UNKNOWN\n", Refused),
    (b"PROXY UNKNOWNS\r\n", Refused),
    (b"PROXY\r\n", Refused),
    (b"PROXY \r\n", Refused),
    (b"PROXY  TCP4 203.0.113.1 127.0.0.1 1111 443\r\n", Refused),
    (b"PROXY TCP4  203.0.113.1 127.0.0.1 1111 443\r\n", Refused),
    (b"PROXY\tTCP4 203.0.113.1 127.0.0.1 1111 443\r\n", Refused),
    (b"PROXY TCP4\t203.0.113.1 127.0.0.1 1111 443\r\n", Refused),
    (b"PROXY TCP4 203.0.113.1 127.0.0.1 1111 443 \r\n", Refused),
    (b"PROXY TCP4 203.0.113.1 127.0.0.1 1111 443 x\r\n", Refused),
    (b"PROXY TCP4 203.0.113.1 127.0.0.1 1111\r\n", Refused),
    (b"PROXY TCP4 203.0.113.1\r\n", Refused),
    (b"PROXY TCP4\r\n", Refused),
    (b"proxy TCP4 203.0.113.1 127.0.0.1 1111 443\r\n", Refused),
    (b"PROXY tcp4 203.0.113.1 127.0.0.1 1111 443\r\n", Refused),
    (b"PROXY UDP4 203.0.113.1 127.0.0.1 1111 443\r\n", Refused),
    (b"PROXY TCP5 203.0.113.1 127.0.0.1 1111 443\r\n", Refused),
    (b" PROXY TCP4 203.0.113.1 127.0.0.1 1111 443\r\n", Refused),
    (b"\r\nPROXY TCP4 203.0.113.1 127.0.0.1 1111 443\r\n", Refused),
    (b"PROXY TCP4 2001:db8::1 ::1 1111 443\r\n", Refused),
    (b"PROXY TCP6 203.0.113.1 127.0.0.1 1111 443\r\n", Refused),
    (b"PROXY TCP6 fe80::1%1 ::1 1111 443\r\n", Refused),
    (b"PROXY TCP6 [2001:db8::1] ::1 1111 443\r\n", Refused),
    (b"PROXY TCP4 999.0.113.1 127.0.0.1 1111 443\r\n", Refused),
    (b"PROXY TCP4 203.0.113 127.0.0.1 1111 443\r\n", Refused),
    (b"PROXY TCP4 203.0.113.01 127.0.0.1 1111 443\r\n", Refused),
    (b"PROXY TCP4 203.0.113.1 127.0.0.1 01111 443\r\n", Refused),
    (b"PROXY TCP4 203.0.113.1 127.0.0.1 1111 00\r\n", Refused),
    (b"PROXY TCP4 203.0.113.1 127.0.0.1 +1 443\r\n", Refused),
    (b"PROXY TCP4 203.0.113.1 127.0.0.1 -1 443\r\n", Refused),
    (b"PROXY TCP4 203.0.113.1 127.0.0.1 65536 443\r\n", Refused),
    (b"PROXY TCP4 203.0.113.1 127.0.0.1 1111 70000\r\n", Refused),
    (b"PROXY TCP4 203.0.113.1 127.0.0.1 0x10 443\r\n", Refused),
    (b"PROXY TCP4 203.0.113.1 127.0.0.1  443\r\n", Refused),
    (b"PROXY TCP4 \xff\xfe 127.0.0.1 1111 443\r\n", Refused),
    (b"GET / HTTP/1.1\r\n\r\n", Refused),
    (b"\x16\x03\x01\x02\x00\x01", Refused),
    (b"", NeedMore),
];

/// A version 2 header of these bytes behind the signature, the length put in between.
fn v2(version_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).unwrap();
    [V2_SIGNATURE, &[version_command, family], &len.to_be_bytes(), body].concat()
}

const IPV4: &[u8] = &[203, 0, 113, 5, 127, 0, 0, 1, 0x15, 0xb3, 0x01, 0xbb];

fn ipv6() -> Vec<u8> {
    let source = "2001:db8::5".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let destination = std::net::Ipv6Addr::LOCALHOST.octets();
    [&source[..], &destination, &[0x15, 0xb4, 0x01, 0xbb]].concat()
}

fn unix(path: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 216];
    body[..path.len()].copy_from_slice(path);
    body
}

/// `body` and a TLV.
fn with_tlv(body: &[u8], kind: u8, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len()).unwrap();
    [body, &[kind], &len.to_be_bytes(), value].concat()
}

/// Version 2 headers, judged by the document.
fn v2_cases() -> Vec<(Vec<u8>, Expected)> {
    let v4 = Source("203.0.113.5:5555");
    let odd_length = [IPV4, &[0]].concat();
    let mut cut_length = v2(0x21, 0x11, IPV4);
    cut_length.pop();
    vec![
        (v2(0x21, 0x11, IPV4), v4),
        (v2(0x21, 0x12, IPV4), v4),
        (v2(0x21, 0x21, &ipv6()), Source("[2001:db8::5]:5556")),
        (v2(0x21, 0x22, &ipv6()), Source("[2001:db8::5]:5556")),
        (v2(0x21, 0x31, &unix(b"/a")), Unix("/a")),
        (v2(0x21, 0x32, &unix(&[b'x'; 108])), Unix(Box::leak("x".repeat(108).into_boxed_str()))),
        (v2(0x21, 0x31, &unix(b"")), Unix("")),
        (v2(0x20, 0x00, b""), Local),
        (v2(0x20, 0x11, IPV4), Local),
        (v2(0x20, 0x10, IPV4), Local),
        (v2(0x20, 0x47, b"anything"), Local),
        (v2(0x20, 0x21, b"short"), Local),
        (v2(0x21, 0x00, b""), Local),
        (v2(0x21, 0x00, b"anything"), Local),
        (v2(0x21, 0x11, &with_tlv(IPV4, 0x04, b"abc")), v4),
        (v2(0x21, 0x11, &with_tlv(IPV4, 0xee, b"")), v4),
        (v2(0x21, 0x11, &with_tlv(&with_tlv(IPV4, 0x01, b"h2"), 0x02, b"example.com")), v4),
        (v2(0x21, 0x11, &with_tlv(IPV4, 0x04, &[0; 5000])), v4),
        (v2(0x21, 0x11, &with_tlv(IPV4, 0x04, &vec![0; 65535 - 15])), v4),
        (v2(0x21, 0x11, &odd_length), v4),
        (v2(0x21, 0x11, &IPV4[..11]), Refused),
        (v2(0x21, 0x11, b""), Refused),
        (v2(0x21, 0x21, &ipv6()[..35]), Refused),
        (v2(0x21, 0x31, &unix(b"/a")[..215]), Refused),
        (v2(0x11, 0x11, IPV4), Refused),
        (v2(0x31, 0x11, IPV4), Refused),
        (v2(0x01, 0x11, IPV4), Refused),
        (v2(0x22, 0x11, IPV4), Refused),
        (v2(0x2f, 0x11, IPV4), Refused),
        (v2(0x21, 0x41, IPV4), Refused),
        (v2(0x21, 0xf1, IPV4), Refused),
        (v2(0x21, 0x13, IPV4), Refused),
        (v2(0x21, 0x01, IPV4), Refused),
        (v2(0x21, 0x02, IPV4), Refused),
        (v2(0x21, 0x10, IPV4), Refused),
        (v2(0x21, 0x20, &ipv6()), Refused),
        (v2(0x21, 0x30, &unix(b"/a")), Refused),
        (cut_length, NeedMore),
        (V2_SIGNATURE.to_vec(), NeedMore),
        (V2_SIGNATURE[..11].to_vec(), NeedMore),
        (b"\r\n\r\n\0\r\nQUIX\n".to_vec(), Refused),
    ]
}

#[test]
fn version_1_lines_are_judged_as_the_document_says() {
    for &(line, expected) in V1 {
        assert_eq!(outcome(line), expected_outcome(expected), "{}", line.escape_ascii());
        invariants::check(line);
    }
}

#[test]
fn version_2_headers_are_judged_as_the_document_says() {
    for (header, expected) in v2_cases() {
        let shown = &header[..header.len().min(40)];
        assert_eq!(outcome(&header), expected_outcome(expected), "{}", shown.escape_ascii());
        invariants::check(&header);
    }
}

#[test]
fn headers_seen_by_v2ray_are_judged_as_the_document_says() {
    let vectors = include_str!("../../../tests/vectors/proxy_protocol.txt");
    let mut count = 0;
    for line in vectors.lines().filter(|line| !line.starts_with('#')) {
        let [_v2ray, expected, hex, name] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("bad line {line}")
        };
        let bytes = HEXLOWER.decode(hex.as_bytes()).unwrap();
        let expected = if expected.starts_with('/') { format!("unix {expected}") } else { expected.into() };
        assert_eq!(outcome(&bytes), expected, "{name}");
        count += 1;
    }
    assert_eq!(count, 29);
}

#[test]
fn line_of_107_bytes_is_the_longest() {
    let longest = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; MAX_V1_BYTES - 16], b"\r\n"].concat();
    assert_eq!(parse(&longest), Ok(Step::Done { used: MAX_V1_BYTES, value: Header::Local }));
    let longer = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; MAX_V1_BYTES - 15], b"\r\n"].concat();
    assert_eq!(parse(&longer), Err(ProxyProtocolError::LineTooLong));
    assert_eq!(parse(&longer[..MAX_V1_BYTES]), Err(ProxyProtocolError::LineTooLong));
}

#[test]
fn destination_is_reported_too_and_what_follows_is_left() {
    let header = v2(0x21, 0x11, &with_tlv(IPV4, 0x04, b"abc"));
    let bytes = [&header[..], b"rest"].concat();
    let value = Header::Proxied {
        source: "203.0.113.5:5555".parse().unwrap(),
        destination: "127.0.0.1:443".parse().unwrap(),
    };
    assert_eq!(parse(&bytes), Ok(Step::Done { used: header.len(), value }));
}

/// CRC-32C computed bit by bit.
fn slow_crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        for bit in 0..8 {
            let feedback = (crc ^ (u32::from(byte) >> bit)) & 1;
            crc = (crc >> 1) ^ (feedback * 0x82f6_3b78);
        }
    }
    !crc
}

#[test]
fn checksum_is_verified_where_there_is_one() {
    let sum_at = 16 + 12 + 3;
    let mut header = v2(0x21, 0x11, &with_tlv(&with_tlv(IPV4, 0x03, &[0; 4]), 0x04, b"behind"));
    let sum = slow_crc32c(&header);
    header[sum_at..sum_at + 4].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(outcome(&header), "203.0.113.5:5555");
    for at in [17, sum_at, header.len() - 1] {
        let mut damaged = header.clone();
        damaged[at] ^= 1;
        assert!(parse(&damaged).is_err(), "byte {at} damaged");
    }
    let wrong_length = v2(0x21, 0x11, &with_tlv(IPV4, 0x03, &[0; 3]));
    assert_eq!(parse(&wrong_length), Err(ProxyProtocolError::Checksum));
}

#[test]
fn longest_header_is_not_judged_before_it_is_whole() {
    let header = v2(0x21, 0x11, &with_tlv(IPV4, 0x04, &vec![0; 65535 - 15]));
    assert_eq!(header.len(), MAX_V2_BYTES);
    assert_eq!(parse(&header[..MAX_V2_BYTES - 1]), Ok(Step::NeedMore));
}

#[test]
fn message_says_what_came_instead() {
    assert_eq!(parse(b"GET / HT"), Err(ProxyProtocolError::Missing { found: Opening::Http }));
    let error = parse(b"\x16\x03\x01").unwrap_err();
    assert_eq!(error.to_string(), "expected a PROXY protocol header, found a TLS handshake");
}

proptest! {
    #[test]
    fn any_bytes_hold_the_invariants(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        invariants::check(&bytes);
    }

    #[test]
    fn any_bytes_after_a_signature_hold_the_invariants(
        command in any::<u8>(), family in any::<u8>(), body in prop::collection::vec(any::<u8>(), 0..300),
        extra in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        invariants::check(&[v2(command, family, &body), extra].concat());
    }

    #[test]
    fn any_line_holds_the_invariants(text in "PROXY (TCP4|TCP6|UNKNOWN)( [0-9a-f.:]{1,12}){0,5}\r?\n?.{0,20}") {
        invariants::check(text.as_bytes());
    }
}
