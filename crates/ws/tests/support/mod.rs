//! Frames for tests, made without the crate's own code.

#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part")]

use proptest::prelude::*;

/// The masking key of RFC 6455 section 5.7.
pub(crate) const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A frame: first byte as given, masked with [`KEY`] or not, shortest length.
pub(crate) fn raw(first: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
    raw_keyed(first, masked.then_some(KEY), payload)
}

/// The same with any key.
pub(crate) fn raw_keyed(first: u8, key: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let bit = if key.is_some() { 0x80 } else { 0 };
    let mut out = vec![first];
    match payload.len() {
        len @ 0..=125 => out.push(u8::try_from(len).unwrap() | bit),
        len @ 126..=65_535 => {
            out.push(0x7E | bit);
            out.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            out.push(0x7F | bit);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(key.iter().flatten());
    let mask = |at: usize| key.map_or(0, |key| key[at % 4]);
    out.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask(at)));
    out
}

/// Frames of all kinds, mostly right, for a server.
pub(crate) fn frame() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![6 => 0u8..=2, 2 => 8u8..=10, 1 => 0u8..=15];
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..6),
        prop::collection::vec(any::<u8>(), 0..300),
        Just(vec![0x03, 0xE8]),
    ];
    (opcode, prop::bool::weighted(0.7), prop::bool::weighted(0.97), any::<[u8; 4]>(), payload).prop_map(
        |(opcode, is_final, masked, key, payload)| {
            let first = opcode | if is_final || opcode >= 8 { 0x80 } else { 0 };
            raw_keyed(first, masked.then_some(key), &payload)
        },
    )
}
