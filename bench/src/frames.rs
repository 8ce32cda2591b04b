//! WebSocket: masking, framing, deframing.

use std::hint::black_box;

use wsray_ws::{Decoder, Limits, MAX_HEADER_BYTES, PingQueue, Role, mask, seal};

use crate::{Case, payload, refill};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// V2Ray's frame, and a TLS record.
const SIZES: [usize; 2] = [2 * 1024, 16 * 1024];

/// Frames in one read of 256 KiB from a V2Ray peer.
const BATCH: usize = 128;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for size in SIZES {
        cases.push(Case::new(format!("mask_{size}"), size, move || {
            let mut bytes = payload(size);
            Box::new(move || mask(black_box(&mut bytes), KEY, 0))
        }));
        for (what, key) in [("plain", None), ("masked", Some(KEY))] {
            cases.push(Case::new(format!("frame_seal_{what}_{size}"), size, move || sealing(size, key)));
            cases.push(Case::new(format!("frame_decode_{what}_{size}"), size, move || decoding(size, key)));
        }
    }
    for (what, key) in [("plain", None), ("masked", Some(KEY))] {
        let size = SIZES[0];
        cases.push(Case::new(format!("frames_decode_{what}_{BATCH}x{size}"), BATCH * size, move || {
            decoding_many(size, key)
        }));
    }
    cases
}

fn sealing(size: usize, key: Option<[u8; 4]>) -> crate::Turn {
    let mut buf = vec![0; MAX_HEADER_BYTES];
    buf.extend(payload(size));
    Box::new(move || {
        black_box(seal(black_box(&mut buf), MAX_HEADER_BYTES..MAX_HEADER_BYTES + size, key));
    })
}

fn frame(size: usize, key: Option<[u8; 4]>) -> Vec<u8> {
    let mut buf = vec![0; MAX_HEADER_BYTES];
    buf.extend(payload(size));
    let frame = seal(&mut buf, MAX_HEADER_BYTES..MAX_HEADER_BYTES + size, key);
    buf[frame].to_vec()
}

fn decoder(key: Option<[u8; 4]>) -> Decoder {
    Decoder::new(if key.is_some() { Role::Server } else { Role::Client }, Limits::default())
}

/// One frame leaves its header where it is, so it can be read again and again.
fn decoding(size: usize, key: Option<[u8; 4]>) -> crate::Turn {
    let (mut wire, mut decoder, mut pings) = (frame(size, key), decoder(key), PingQueue::new());
    Box::new(move || {
        let decoded = decoder.decode(black_box(&mut wire), &mut pings);
        assert_eq!(decoded.payload.len(), size, "a frame was not read whole");
    })
}

/// Later frames move over the headers between, so each turn starts with a copy.
fn decoding_many(size: usize, key: Option<[u8; 4]>) -> crate::Turn {
    let wire = frame(size, key).repeat(BATCH);
    let (mut buf, mut decoder, mut pings) = (wire.clone(), decoder(key), PingQueue::new());
    Box::new(move || {
        refill(&mut buf, &wire);
        let decoded = decoder.decode(black_box(&mut buf), &mut pings);
        assert_eq!(decoded.payload.len(), BATCH * size, "a frame was not read whole");
    })
}
