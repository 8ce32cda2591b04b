//! What the decoder takes, what it refuses, and where it leaves the data.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod support;

use proptest::prelude::*;
use support::{frame, raw};
use wsray_ws::{Decoder, End, Limits, MAX_WAITING_PINGS, PingQueue, Role, Violation};

/// Data, pings and end of a stream that comes in these reads.
fn decode(role: Role, reads: &[&[u8]]) -> (Vec<u8>, Vec<Vec<u8>>, Option<End>) {
    let mut decoder = Decoder::new(role, Limits::default());
    let (mut data, mut pongs, mut end) = (Vec::new(), Vec::new(), None);
    for read in reads {
        let (mut buf, mut pings) = (read.to_vec(), PingQueue::new());
        let decoded = decoder.decode(&mut buf, &mut pings);
        data.extend_from_slice(&buf[decoded.payload]);
        pongs.extend(std::iter::from_fn(|| pings.pop()).map(|ping| ping.as_bytes().to_vec()));
        end = end.or(decoded.end);
    }
    (data, pongs, end)
}

fn data(role: Role, bytes: &[u8]) -> Vec<u8> {
    let (data, _, end) = decode(role, &[bytes]);
    assert_eq!(end, None);
    data
}

fn violation(role: Role, bytes: &[u8]) -> Violation {
    match decode(role, &[bytes]).2 {
        Some(End::Violation(violation)) => violation,
        other => panic!("no violation but {other:?}"),
    }
}

/// The same by the letter of RFC 6455, frame by frame, from a stream that is all there. For servers.
fn oracle(mut bytes: &[u8]) -> (Vec<u8>, Option<End>) {
    let (mut out, mut open) = (Vec::new(), false);
    let end = |violation| Some(End::Violation(violation));
    while bytes.len() >= 2 {
        let (fin, rsv, opcode) = (bytes[0] >> 7 == 1, bytes[0] & 0x70, bytes[0] & 15);
        let is_control = opcode >= 8;
        let found = match () {
            () if rsv != 0 => end(Violation::ReservedBits { bits: rsv }),
            () if !matches!(opcode, 0 | 1 | 2 | 8 | 9 | 10) => end(Violation::ReservedOpcode { opcode }),
            () if opcode == 0 && !open => end(Violation::LoneContinuation),
            () if !is_control && opcode != 0 && open => end(Violation::InterruptedMessage),
            () if is_control && !fin => end(Violation::FragmentedControl),
            () if bytes[1] < 128 => end(Violation::Unmasked),
            () if is_control && bytes[1] & 127 > 125 => end(Violation::LongControl),
            () => None,
        };
        if found.is_some() {
            return (out, found);
        }
        let (len, at) = match bytes[1] & 127 {
            126 if bytes.len() < 4 => break,
            126 => (usize::from(bytes[2]) * 256 + usize::from(bytes[3]), 4),
            len => (usize::from(len), 2),
        };
        if bytes.len() < at + 4 {
            break;
        }
        let (key, body) = (bytes[at..at + 4].to_vec(), &bytes[at + 4..]);
        let there = body.len().min(len);
        let plain: Vec<u8> = (0..there).map(|at| body[at] ^ key[at % 4]).collect();
        bytes = &body[there..];
        if !is_control {
            open = !fin;
            out.extend(plain);
        } else if there == len && opcode == 8 {
            let end = match plain.as_slice() {
                [] => End::Close(None),
                [_] => End::Violation(Violation::ShortClose),
                [high, low, reason @ ..] => {
                    let code = u16::from(*high) * 256 + u16::from(*low);
                    let valid = (1000..1004).contains(&code)
                        || (1007..1015).contains(&code)
                        || (3000..5000).contains(&code);
                    match (valid, String::from_utf8(reason.to_vec())) {
                        (false, _) => End::Violation(Violation::CloseCode { code }),
                        (true, Err(_)) => End::Violation(Violation::CloseReason),
                        (true, Ok(_)) => End::Close(Some(code)),
                    }
                }
            };
            return (out, Some(end));
        }
    }
    (out, None)
}

proptest! {
    #[test]
    fn decoder_agrees_with_a_plain_reading_of_the_rfc(frames in prop::collection::vec(frame(), 1..20)) {
        let (data, _, end) = decode(Role::Server, &[&frames.concat()]);
        prop_assert_eq!((data, end), oracle(&frames.concat()));
    }
}

#[test]
fn frames_of_rfc_6455_section_5_7_are_read() {
    assert_eq!(data(Role::Client, b"\x81\x05Hello"), b"Hello");
    assert_eq!(data(Role::Server, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), b"Hello");
    assert_eq!(data(Role::Client, b"\x01\x03Hel\x80\x02lo"), b"Hello");
    let pinged = decode(Role::Client, &[b"\x89\x05Hello"]);
    assert_eq!(pinged, (Vec::new(), vec![b"Hello".to_vec()], None));
    let ponged = decode(Role::Server, &[b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"]);
    assert_eq!(ponged, (Vec::new(), Vec::new(), None));
    for (header, len) in [(&b"\x82\x7e\x01\x00"[..], 256), (b"\x82\x7f\0\0\0\0\0\x01\0\0", 65_536)] {
        assert_eq!(data(Role::Client, &[header, &vec![9; len]].concat()), vec![9; len]);
    }
}

#[test]
fn text_fragments_empty_messages_and_controls_are_one_stream() {
    let wire = [
        raw(0x82, true, b""),
        raw(0x81, true, b"te\xFF"),
        raw(0x01, true, b""),
        raw(0x89, true, b"one"),
        raw(0x00, true, b"xt"),
        raw(0x8A, true, b"unasked"),
        raw(0x80, true, b""),
        raw(0x82, true, b"!"),
        raw(0x89, true, b""),
    ]
    .concat();
    let expected = (b"te\xFFxt!".to_vec(), vec![b"one".to_vec(), Vec::new()], None);
    assert_eq!(decode(Role::Server, &[&wire]), expected);
    let bytes: Vec<&[u8]> = wire.chunks(1).collect();
    assert_eq!(decode(Role::Server, &bytes), expected);
}

#[test]
fn lengths_longer_than_need_be_are_read() {
    assert_eq!(data(Role::Client, b"\x82\x7e\x00\x02ab\x82\x7f\0\0\0\0\0\0\0\x02cd"), b"abcd");
}

#[test]
fn frame_of_a_tebibyte_is_streamed() {
    let mut decoder = Decoder::new(Role::Client, Limits::default());
    let mut pings = PingQueue::new();
    decoder.decode(&mut b"\x82\x7f\0\0\x01\0\0\0\0\0".to_vec(), &mut pings);
    for _ in 0..100 {
        let decoded = decoder.decode(&mut [3; 4096], &mut pings);
        assert_eq!((decoded.payload, decoded.end), (0..4096, None));
    }
}

#[test]
fn first_payload_stays_and_later_ones_close_the_gaps() {
    for (role, masked, header) in [(Role::Client, false, 2), (Role::Server, true, 6)] {
        let mut wire = [b"first", &b"second"[..], b"third"].map(|text| raw(0x82, masked, text)).concat();
        let decoded = Decoder::new(role, Limits::default()).decode(&mut wire, &mut PingQueue::new());
        assert_eq!(decoded.payload, header..header + 16);
        assert_eq!(&wire[decoded.payload], b"firstsecondthird");
    }
}

#[test]
fn everything_before_an_end_is_delivered_and_nothing_after() {
    let close =
        [raw(0x82, true, b"last"), raw(0x88, true, b"\x03\xE9bye"), raw(0x82, true, b"late")].concat();
    assert_eq!(decode(Role::Server, &[&close]), (b"last".to_vec(), Vec::new(), Some(End::Close(Some(1001)))));
    let broken = [raw(0x82, true, b"last"), raw(0xC2, true, b"bad"), raw(0x82, true, b"late")].concat();
    let end = Some(End::Violation(Violation::ReservedBits { bits: 0x40 }));
    assert_eq!(decode(Role::Server, &[&broken, &broken]), (b"last".to_vec(), Vec::new(), end));
}

#[test]
fn every_violation_is_told_apart() {
    let server = |bytes: &[u8]| violation(Role::Server, bytes);
    assert_eq!(server(&raw(0x82, false, b"x")), Violation::Unmasked);
    assert_eq!(violation(Role::Client, &raw(0x82, true, b"x")), Violation::Masked);
    for bits in [0x10, 0x20, 0x40, 0x70] {
        assert_eq!(server(&raw(0x82 | bits, true, b"x")), Violation::ReservedBits { bits });
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        assert_eq!(server(&raw(0x80 | opcode, true, b"x")), Violation::ReservedOpcode { opcode });
    }
    assert_eq!(server(&raw(0x80, true, b"x")), Violation::LoneContinuation);
    let interrupted = [raw(0x02, true, b"x"), raw(0x82, true, b"y")].concat();
    assert_eq!(server(&interrupted), Violation::InterruptedMessage);
    let ended = [raw(0x02, true, b"x"), raw(0x80, true, b"y"), raw(0x80, true, b"z")].concat();
    assert_eq!(server(&ended), Violation::LoneContinuation);
    for opcode in [0x8, 0x9, 0xA] {
        assert_eq!(server(&raw(opcode, true, b"")), Violation::FragmentedControl);
        assert_eq!(server(&raw(0x80 | opcode, true, &[b'a'; 126])), Violation::LongControl);
    }
    assert_eq!(server(b"\x82\xff\x80\0\0\0\0\0\0\x01"), Violation::LengthOverflow);
}

#[test]
fn close_frames_are_judged_by_code_and_reason() {
    let end = |payload: &[u8]| decode(Role::Client, &[&raw(0x88, false, payload)]).2;
    assert_eq!(end(b""), Some(End::Close(None)));
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999_u16] {
        assert_eq!(end(&code.to_be_bytes()), Some(End::Close(Some(code))));
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535_u16] {
        assert_eq!(end(&code.to_be_bytes()), Some(End::Violation(Violation::CloseCode { code })));
    }
    assert_eq!(end(b"\x03"), Some(End::Violation(Violation::ShortClose)));
    assert_eq!(end(b"\x03\xE8\xFF"), Some(End::Violation(Violation::CloseReason)));
    assert_eq!(end(&[&b"\x03\xE8"[..], &[b'a'; 123]].concat()), Some(End::Close(Some(1000))));
}

#[test]
fn violations_have_the_close_codes_of_the_rfc() {
    assert_eq!(Violation::Unmasked.close_code(), 1002);
    assert_eq!(Violation::CloseCode { code: 5 }.close_code(), 1002);
    assert_eq!(Violation::CloseReason.close_code(), 1007);
    assert_eq!(Violation::Text.close_code(), 1007);
    assert_eq!(Violation::Flood { limit: 1 }.close_code(), 1008);
}

#[test]
fn control_and_empty_frames_without_data_are_a_flood() {
    let limits = Limits { max_idle_frames: 10 };
    for frame in [raw(0x89, true, b"x"), raw(0x8A, true, b""), raw(0x82, true, b"")] {
        let mut decoder = Decoder::new(Role::Server, limits);
        let mut pings = PingQueue::new();
        assert_eq!(decoder.decode(&mut frame.repeat(10), &mut pings).end, None);
        decoder.tick();
        assert_eq!(decoder.decode(&mut frame.repeat(10), &mut pings).end, None);
        let end = decoder.decode(&mut frame.clone(), &mut pings).end;
        assert_eq!(end, Some(End::Violation(Violation::Flood { limit: 10 })));
    }
}

#[test]
fn empty_frame_beside_each_data_frame_is_no_flood() {
    let mut decoder = Decoder::new(Role::Server, Limits { max_idle_frames: 10 });
    let mut wire = [raw(0x82, true, b""), raw(0x82, true, b"x")].concat().repeat(1000);
    let decoded = decoder.decode(&mut wire, &mut PingQueue::new());
    assert_eq!((decoded.payload.len(), decoded.end), (1000, None));
}

#[test]
fn only_the_latest_pings_wait() {
    let wire: Vec<u8> = (0..40_u8).flat_map(|number| raw(0x89, true, &[number])).collect();
    let (_, pongs, _) = decode(Role::Server, &[&wire]);
    assert_eq!(pongs.len(), MAX_WAITING_PINGS);
    assert_eq!((pongs[0][0], pongs[15][0]), (24, 39));
}

#[test]
fn idle_decoder_is_small() {
    assert!(size_of::<Decoder>() <= 80, "{}", size_of::<Decoder>());
    assert!(size_of::<PingQueue>() <= 32);
}
