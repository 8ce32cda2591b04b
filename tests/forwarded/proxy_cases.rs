//! The openings that `all_openings_of_the_proxy_protocol_come_to_what_its_document_says` of `tests/forwarded.rs` sends: what the PROXY protocol's document
//! (haproxy/haproxy `doc/proxy-protocol.txt`) says of them.

/// What an opening must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comes {
    /// The request behind it is from this client.
    From(&'static str),
    /// The request behind it is from who holds the connection.
    Peer,
    /// Closed at once, without a byte.
    Refused,
    /// Closed without a byte when the time for handshakes is over, and not before.
    Waits,
}
use Comes::{From, Peer, Refused, Waits};

/// A name, the pieces it is sent in, and what comes of it.
pub(crate) type Case = (&'static str, Vec<Vec<u8>>, Comes);

const V4: &str = "203.0.113.1:1111";
const V6: &str = "[2001:db8::1]:1112";
const TCP4: &[u8] = b"PROXY TCP4 203.0.113.1 127.0.0.1 1111 443\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const IPV4: &[u8] = &[203, 0, 113, 1, 127, 0, 0, 1, 0x04, 0x57, 0x01, 0xbb];

pub(crate) fn all() -> Vec<Case> {
    [v1(), v1_refused(), v2(), v2_more(), v2_refused(), incomplete()].concat()
}

fn whole(name: &'static str, bytes: &[u8], comes: Comes) -> Case {
    (name, vec![bytes.to_vec()], comes)
}

fn v1() -> Vec<Case> {
    let split = |at: usize| vec![TCP4[..at].to_vec(), TCP4[at..].to_vec()];
    let longest = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 107 - 16], b"\r\n"].concat();
    vec![
        whole("v1 TCP4", TCP4, From(V4)),
        whole("v1 TCP6", b"PROXY TCP6 2001:db8::1 ::1 1112 443\r\n", From(V6)),
        whole(
            "v1 highest ports",
            b"PROXY TCP4 203.0.113.1 127.0.0.1 65535 65535\r\n",
            From("203.0.113.1:65535"),
        ),
        whole("v1 port 0", b"PROXY TCP4 203.0.113.1 127.0.0.1 0 443\r\n", From("203.0.113.1:0")),
        whole("v1 UNKNOWN", b"PROXY UNKNOWN\r\n", Peer),
        whole("v1 UNKNOWN with addresses", b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", Peer),
        whole("v1 UNKNOWN with words", b"PROXY UNKNOWN some words\r\n", Peer),
        whole("v1 UNKNOWN of 107 bytes", &longest, Peer),
        ("v1 split in the keyword", split(3), From(V4)),
        ("v1 split in an address", split(20), From(V4)),
        ("v1 split before LF", split(TCP4.len() - 1), From(V4)),
        ("v1 byte by byte", TCP4.iter().map(|byte| vec![*byte]).collect(), From(V4)),
    ]
}

fn v1_refused() -> Vec<Case> {
    let too_long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 108 - 16], b"\r\n"].concat();
    let refused = |name, bytes: &[u8]| whole(name, bytes, Refused);
    vec![
        refused("v1 of 108 bytes", &too_long),
        refused("v1 LF alone", b"PROXY TCP4 203.0.113.1 127.0.0.1 1111 443\n"),
        refused("v1 trailing space", b"PROXY TCP4 203.0.113.1 127.0.0.1 1111 443 \r\n"),
        refused("v1 fifth field", b"PROXY TCP4 203.0.113.1 127.0.0.1 1111 443 x\r\n"),
        refused("v1 field missing", b"PROXY TCP4 203.0.113.1 127.0.0.1 1111\r\n"),
        refused("v1 nothing but the keyword", b"PROXY\r\n"),
        refused("v1 two spaces", b"PROXY TCP4  203.0.113.1 127.0.0.1 1111 443\r\n"),
        refused("v1 tab", b"PROXY\tTCP4 203.0.113.1 127.0.0.1 1111 443\r\n"),
        refused("v1 lower case", b"proxy TCP4 203.0.113.1 127.0.0.1 1111 443\r\n"),
        refused("v1 UDP4", b"PROXY UDP4 203.0.113.1 127.0.0.1 1111 443\r\n"),
        refused("v1 TCP4 with IPv6", b"PROXY TCP4 2001:db8::1 ::1 1111 443\r\n"),
        refused("v1 TCP6 with IPv4", b"PROXY TCP6 203.0.113.1 127.0.0.1 1111 443\r\n"),
        refused("v1 zone", b"PROXY TCP6 fe80::1%1 ::1 1111 443\r\n"),
        refused("v1 number above 255", b"PROXY TCP4 999.0.113.1 127.0.0.1 1111 443\r\n"),
        refused("v1 leading zero in an address", b"PROXY TCP4 203.0.113.01 127.0.0.1 1111 443\r\n"),
        refused("v1 leading zero in a port", b"PROXY TCP4 203.0.113.1 127.0.0.1 01 443\r\n"),
        refused("v1 port with a sign", b"PROXY TCP4 203.0.113.1 127.0.0.1 +1 443\r\n"),
        refused("v1 port above 65535", b"PROXY TCP4 203.0.113.1 127.0.0.1 65536 443\r\n"),
    ]
}

/// A version 2 header of these bytes behind the signature, the length put in between.
fn header(version_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap();
    [SIGNATURE, &[version_command, family], &length.to_be_bytes(), body].concat()
}

fn ipv6() -> Vec<u8> {
    let source = "2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    [&source[..], &std::net::Ipv6Addr::LOCALHOST.octets(), &[0x04, 0x58, 0x01, 0xbb]].concat()
}

fn unix() -> Vec<u8> {
    let mut body = vec![0; 216];
    body[..2].copy_from_slice(b"/a");
    body
}

/// `body` and a TLV.
fn with(body: &[u8], kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap();
    [body, &[kind], &length.to_be_bytes(), value].concat()
}

/// With the checksum of the document's section 2.2.4, bit by bit.
fn checked(damage: u8) -> Vec<u8> {
    let mut header = header(0x21, 0x11, &with(IPV4, 0x03, &[0; 4]));
    let mut crc = u32::MAX;
    for &byte in &header {
        for bit in 0..8 {
            crc = (crc >> 1) ^ (((crc ^ (u32::from(byte) >> bit)) & 1) * 0x82f6_3b78);
        }
    }
    let at = header.len() - 4;
    header[at..].copy_from_slice(&(!crc).to_be_bytes());
    header[at] ^= damage;
    header
}

fn v2() -> Vec<Case> {
    let tcp4 = header(0x21, 0x11, IPV4);
    let split = |at: usize| vec![tcp4[..at].to_vec(), tcp4[at..].to_vec()];
    vec![
        whole("v2 TCP over IPv4", &tcp4, From(V4)),
        whole("v2 TCP over IPv6", &header(0x21, 0x21, &ipv6()), From(V6)),
        whole("v2 UDP over IPv4", &header(0x21, 0x12, IPV4), From(V4)),
        // Its path is no address; rules and logs have the real one.
        whole("v2 UNIX stream", &header(0x21, 0x31, &unix()), Peer),
        whole("v2 unspecified", &header(0x21, 0x00, b""), Peer),
        ("v2 split in the signature", split(5), From(V4)),
        ("v2 split before the length", split(14), From(V4)),
        ("v2 split in an address", split(20), From(V4)),
        ("v2 byte by byte", tcp4.iter().map(|byte| vec![*byte]).collect(), From(V4)),
        whole("v2 TLV", &header(0x21, 0x11, &with(IPV4, 0x04, b"abc")), From(V4)),
        whole("v2 two TLVs", &header(0x21, 0x11, &with(&with(IPV4, 0x01, b"h2"), 0x02, b"a.test")), From(V4)),
    ]
}

fn v2_more() -> Vec<Case> {
    vec![
        whole("v2 4 KiB of TLVs", &header(0x21, 0x11, &with(IPV4, 0x04, &[0; 4096])), From(V4)),
        whole("v2 longest", &header(0x21, 0x11, &with(IPV4, 0x04, &vec![0; 65535 - 15])), From(V4)),
        whole("v2 CRC32C", &checked(0), From(V4)),
        whole("v2 LOCAL", &header(0x20, 0x00, b""), Peer),
        whole("v2 LOCAL with addresses", &header(0x20, 0x11, IPV4), Peer),
        whole("v2 LOCAL with an odd family", &header(0x20, 0x47, b"anything"), Peer),
        whole("v2 LOCAL with bytes to skip", &header(0x20, 0x00, &[b'z'; 12]), Peer),
    ]
}

fn v2_refused() -> Vec<Case> {
    let refused = |name, bytes: &[u8]| whole(name, bytes, Refused);
    vec![
        refused("v2 wrong CRC32C", &checked(1)),
        refused("v2 too short for its family", &header(0x21, 0x11, &IPV4[..8])),
        refused("v2 version 1", &header(0x11, 0x11, IPV4)),
        refused("v2 command 2", &header(0x22, 0x11, IPV4)),
        refused("v2 family 4", &header(0x21, 0x41, IPV4)),
        refused("v2 protocol 3, which kills V2Ray", &header(0x21, 0x13, IPV4)),
        refused("v2 IPv4 without a protocol", &header(0x21, 0x10, IPV4)),
        refused("v2 wrong signature", b"\r\n\r\n\0\r\nQUIX\n!\x11\0\0"),
        refused("no header: HTTP", b"GET /ray HTTP/1.1\r\n"),
        refused("no header: TLS", b"\x16\x03\x01\x02\x00\x01"),
    ]
}

fn incomplete() -> Vec<Case> {
    let tcp4 = header(0x21, 0x11, IPV4);
    vec![
        ("silence", vec![], Waits),
        whole("v1 without an end", &TCP4[..30], Waits),
        whole("v2 half a header", &tcp4[..14], Waits),
        whole("v2 length 65535 and no more", &[SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat(), Waits),
        ("v2 half the addresses", vec![tcp4[..20].to_vec()], Waits),
    ]
}
