//! Frames as they are written, and as the event reader tells them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod support;

use std::ops::Range;

use support::{KEY, raw};
use wsray_ws::{
    Control, Event, FrameReader, Kind, Limits, MAX_HEADER_BYTES, Role, TextPolicy, Violation, close_payload,
    control, header_len, mask, mask_copy, seal,
};

/// Data: what, whether it is text, whether it ends the message.
type Data = (Vec<u8>, bool, bool);

/// The events of one buffer.
fn read(text: TextPolicy, wire: &[u8]) -> (Vec<Data>, Vec<Event>) {
    let mut reader = FrameReader::new(Role::Server, text, Limits::default());
    let (mut buf, mut at, mut data, mut others) = (wire.to_vec(), 0, Vec::new(), Vec::new());
    while let Some(event) = reader.next(&mut buf, &mut at) {
        match event {
            Event::Data { range, kind, ends_message } => {
                data.push((buf[range].to_vec(), kind == Kind::Text, ends_message));
            }
            other => others.push(other),
        }
    }
    (data, others)
}

/// Seals `payload` behind all the room a header may need.
fn sealed(payload: &[u8], key: Option<[u8; 4]>) -> (Vec<u8>, Range<usize>) {
    let mut buf = [&[0xEE; MAX_HEADER_BYTES], payload, b"behind"].concat();
    let wire = seal(&mut buf, MAX_HEADER_BYTES..MAX_HEADER_BYTES + payload.len(), key);
    assert!(buf.ends_with(b"behind") && buf[..wire.start].iter().all(|&byte| byte == 0xEE));
    (buf, wire)
}

#[test]
fn binary_frame_is_written_in_its_shortest_form() {
    for (len, header) in [
        (0, &b"\x82\x00"[..]),
        (125, b"\x82\x7D"),
        (126, b"\x82\x7E\x00\x7E"),
        (65_535, b"\x82\x7E\xFF\xFF"),
        (65_536, b"\x82\x7F\0\0\0\0\0\x01\0\0"),
    ] {
        let payload = vec![b'p'; len];
        let (buf, wire) = sealed(&payload, None);
        assert_eq!(buf[wire], [header, &payload].concat());
        assert_eq!(header_len(len, false), header.len());
        assert_eq!(header_len(len, true), header.len() + 4);
        let (buf, wire) = sealed(&payload, Some(KEY));
        assert_eq!(buf[wire], raw(0x82, true, &payload));
    }
}

#[test]
fn masked_hello_is_that_of_rfc_6455() {
    let (buf, wire) = sealed(b"Hello", Some(KEY));
    assert_eq!(&buf[wire], b"\x82\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
}

#[test]
fn control_frames_are_written_as_the_rfc_shows() {
    let written = |opcode, payload: &[u8], mask| {
        let mut out = b"before".to_vec();
        control(opcode, payload, mask, &mut out);
        out.split_off(6)
    };
    assert_eq!(written(Control::Ping, b"Hello", None), b"\x89\x05Hello");
    assert_eq!(written(Control::Pong, b"Hello", Some(KEY)), b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    assert_eq!(written(Control::Close, &close_payload(Some(1000)), None), b"\x88\x02\x03\xe8");
    assert_eq!(written(Control::Close, &close_payload(None), None), b"\x88\x00");
    assert_eq!(written(Control::Ping, &[1; 200], None).len(), 2 + 125);
}

#[test]
fn mask_turns_with_the_offset() {
    for offset in 0..9_u8 {
        let mut bytes = [0; 5];
        mask(&mut bytes, KEY, u64::from(offset));
        let expected: Vec<u8> = (0..5).map(|at| KEY[(usize::from(offset) + at) % 4]).collect();
        assert_eq!(bytes, *expected);
    }
}

#[test]
fn moving_and_masking_is_right_for_every_length_and_gap() {
    for len in (0..300).chain([1000, 4097]) {
        for gap in [0, 1, 3, 6, 8, 63, 64, 65, 200] {
            let payload: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let mut buf = [&vec![0xEE; 2 + gap], &payload[..], b"x"].concat();
            mask_copy(&mut buf, 2 + gap, 2, len, KEY, 1);
            let expected: Vec<u8> = payload.iter().enumerate().map(|(at, b)| b ^ KEY[(at + 1) % 4]).collect();
            assert_eq!(buf[2..2 + len], expected, "{len} bytes by {gap}");
            assert_eq!(buf.last(), Some(&b'x'));
        }
    }
}

#[test]
fn reader_keeps_kinds_and_boundaries() {
    let wire = [
        raw(0x82, true, b"one"),
        raw(0x01, true, b"tw"),
        raw(0x89, true, b"p"),
        raw(0x80, true, b"o"),
        raw(0x81, true, b""),
        raw(0x8A, true, b""),
    ]
    .concat();
    let (data, others) = read(TextPolicy::Validate, &wire);
    let expected = [
        (b"one".to_vec(), false, true),
        (b"tw".to_vec(), true, false),
        (b"o".to_vec(), true, true),
        (b"".to_vec(), true, true),
    ];
    assert_eq!(data, expected);
    let [Event::Ping(ping), Event::Pong(pong)] = &others[..] else { panic!("{others:?}") };
    assert_eq!((ping.as_bytes(), pong.as_bytes()), (&b"p"[..], &b""[..]));
}

#[test]
fn text_is_refused_at_the_first_byte_that_cannot_be_utf8() {
    let violation = vec![Event::Violation(Violation::Text)];
    for wrong in [&b"\xFF"[..], b"a\x80", b"\xED\xA0\x80", b"\xF4\x90", b"\xC0\xAF", b"abc\xE2\x82"] {
        assert_eq!(read(TextPolicy::Validate, &raw(0x81, true, wrong)).1, violation, "{wrong:x?}");
        assert_eq!(read(TextPolicy::Bytes, &raw(0x81, true, wrong)).1, [], "{wrong:x?}");
        assert_eq!(read(TextPolicy::Validate, &raw(0x82, true, wrong)).1, [], "{wrong:x?}");
    }
    // Unfinished at the end of a fragment is fine, impossible is not, even before the message ends.
    assert_eq!(read(TextPolicy::Validate, &raw(0x01, true, b"\xE2\x82")).1, []);
    assert_eq!(read(TextPolicy::Validate, &raw(0x01, true, b"\xF4\x90")).1, violation);
}

#[test]
fn characters_cut_anywhere_are_still_characters() {
    let text = "κόσμε\u{10FFFF}\u{7FF}ab€";
    for cut in 0..=text.len() {
        let (one, two) = text.as_bytes().split_at(cut);
        let wire = [raw(0x01, true, one), raw(0x00, true, b""), raw(0x80, true, two)].concat();
        let (data, others) = read(TextPolicy::Validate, &wire);
        assert_eq!(others, [], "{cut}");
        assert_eq!(data.iter().flat_map(|(bytes, ..)| bytes.clone()).collect::<Vec<_>>(), text.as_bytes());
        let wire = [raw(0x01, true, one), raw(0x80, true, b"\xFF")].concat();
        assert_eq!(read(TextPolicy::Validate, &wire).1, [Event::Violation(Violation::Text)], "{cut}");
    }
}

#[test]
fn idle_reader_is_small() {
    assert!(size_of::<FrameReader>() <= 96, "{}", size_of::<FrameReader>());
}
