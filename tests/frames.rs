//! Message boundaries carry no meaning: however the frames are cut, the stream is the same.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use std::{
    io::{Read, Write},
    time::Duration,
};

use support::{
    apps,
    config::{Link, Tls},
    node::{Client, Kind, Pair, Server},
    origin::{Origin, hash_of, pattern},
    pair, raw,
    reframe::{self, SHAPES},
};

pair!(wsray_to_wsray: Wsray => Wsray, #[cfg(test)], [frames_of_every_shape_carry_the_same_stream]);
pair!(v2ray_4_45_to_wsray: V2Ray445 => Wsray, #[cfg(test)], [frames_of_every_shape_carry_the_same_stream]);
pair!(wsray_to_v2ray_4_45: Wsray => V2Ray445, #[cfg(test)], [frames_of_every_shape_carry_the_same_stream]);
pair!(v2ray_4_45_to_v2ray_4_45: V2Ray445 => V2Ray445, #[cfg(feature = "peers-only")],
    [frames_of_every_shape_carry_the_same_stream]);

fn frames_of_every_shape_carry_the_same_stream(pair: Pair) {
    const LENGTH: u64 = 200_000;
    let origin = Origin::start();
    for shape in SHAPES {
        let link = Link::default();
        let server = Server::start(pair.server, &link);
        let client = Client::start(pair.client, &link, reframe::before(server.port, shape));
        let mut up = apps::socks5(client.socks, origin.address.into(), None).unwrap();
        let bytes = pattern(LENGTH, 1);
        up.write_all(&[format!("take {LENGTH}\n").as_bytes(), &bytes].concat()).unwrap();
        let mut hash = [0; 64];
        let read = up.read_exact(&mut hash);
        assert!(read.is_ok(), "{shape:?}: up: {read:?}");
        assert_eq!(String::from_utf8_lossy(&hash), hash_of(&mut &bytes[..]).unwrap(), "{shape:?}: up");

        let down = apps::socks5(client.socks, origin.address.into(), None).unwrap();
        let answer = apps::ask(&down, &format!("send {LENGTH} 2"), usize::try_from(LENGTH).unwrap());
        assert!(
            answer.as_ref().is_ok_and(|a| *a == pattern(LENGTH, 2)),
            "{shape:?}: down: {:?}",
            answer.err()
        );
    }
}

support::for_wsray![a_ping_is_answered_with_its_payload];

fn a_ping_is_answered_with_its_payload(kind: Kind) {
    let server = Server::start(kind, &Link::default());
    let mut stream = raw::send(server.port, raw::upgrade("/ray", "").as_bytes()).unwrap();
    assert!(apps::read_head(&mut stream).unwrap().starts_with("HTTP/1.1 101 "));
    for text in [&b""[..], b"hello", &[0xff; 125]] {
        let mut ping = raw::masked_frame(text);
        ping[0] = 0x89;
        stream.write_all(&ping).unwrap();
        let [opcode, length]: [u8; 2] = apps::read_array(&mut stream).unwrap();
        assert_eq!((opcode, usize::from(length)), (0x8a, text.len()));
        let mut payload = vec![0; text.len()];
        stream.read_exact(&mut payload).unwrap();
        assert_eq!(payload, text);
    }
}

/// Where V2Ray closes without an answer.
#[test]
fn a_frame_in_one_segment_with_the_request_head_is_read() {
    let server = Server::start(Kind::Wsray, &Link::default());
    let mut ping = raw::masked_frame(b"at once");
    ping[0] = 0x89;
    let together = [raw::upgrade("/ray", "").as_bytes(), &ping].concat();
    let mut stream = raw::send(server.port, &together).unwrap();
    assert!(apps::read_head(&mut stream).unwrap().starts_with("HTTP/1.1 101 "));
    assert_eq!(apps::read_array::<9>(&mut stream).unwrap(), *b"\x8a\x07at once");
}

#[test]
fn a_head_split_at_every_byte_is_read() {
    let server = Server::start(Kind::Wsray, &Link::default());
    let mut stream = apps::connect(server.port).unwrap();
    for byte in raw::upgrade("/ray", "").as_bytes() {
        stream.write_all(&[*byte]).unwrap();
        std::thread::sleep(Duration::from_micros(200));
    }
    assert!(apps::read_head(&mut stream).unwrap().starts_with("HTTP/1.1 101 "));
}

/// What a sender may do is less than what a receiver takes: whole binary messages, no extension.
#[test]
fn wsray_sends_whole_binary_messages_alone() {
    let origin = Origin::start();
    let link = Link { tls: Tls::Off, ..Link::default() };
    let server = Server::start(Kind::Wsray, &link);
    let tap = support::tap::Tap::before(server.port);
    let client = Client::start(Kind::Wsray, &link, tap.port);
    let stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
    apps::ask(&stream, "send 300000 1", 300_000).unwrap();
    for (bytes, masked) in [(tap.to_server(0), 0x80), (tap.to_client(0), 0)] {
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        assert!(!String::from_utf8_lossy(&bytes[..head]).contains("Extensions"));
        let mut rest = &bytes[head..];
        let mut frames = 0;
        while rest.len() >= 14 {
            assert_eq!(rest[0], 0x82, "a whole binary message");
            assert_eq!(rest[1] & 0x80, masked, "clients mask, servers do not");
            let (start, length) = match rest[1] & 0x7f {
                126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
                127 => (10, usize::try_from(u64::from_be_bytes(rest[2..10].try_into().unwrap())).unwrap()),
                short => (2, short.into()),
            };
            let whole = start + length + if masked == 0 { 0 } else { 4 };
            rest = rest.get(whole..).unwrap_or_default();
            frames += 1;
        }
        assert!(frames > 0);
    }
}
