//! Writing frames (RFC 6455 section 5.2): one final binary frame around a payload that stays where it is, and
//! control frames.

use std::ops::Range;

use crate::mask::mask;

/// The longest frame header: 2 bytes, 8 of length, 4 of key (RFC 6455 section 5.2).
pub const MAX_HEADER_BYTES: usize = 14;

/// The longest payload of a control frame (RFC 6455 section 5.5).
pub const MAX_CONTROL_BYTES: usize = 125;

/// FIN and opcode 2: a whole binary message in one frame.
const FINAL_BINARY: u8 = 0x82;

/// The bit of the second byte that says a masking key follows.
const MASKED: u8 = 0x80;

/// The three kinds of control frame (RFC 6455 section 5.5); the values are their opcodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Ends the stream.
    Close = 0x8,
    /// Asks for a pong with the same payload.
    Ping = 0x9,
    /// Answers a ping.
    Pong = 0xA,
}

/// How many bytes the header of one frame takes, in the shortest form.
pub fn header_len(payload_len: usize, masked: bool) -> usize {
    let length = match payload_len {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    };
    if masked { length + 4 } else { length }
}

/// Turns `buf[payload]` into one final binary frame and returns where its bytes stand in `buf`.
///
/// The header goes directly in front of the payload; with a key (`mask`, for clients, unpredictable for each
/// frame) the payload is masked in place.
///
/// # Panics
/// When `payload` does not lie in `buf`, or has less than [`header_len`] bytes (at most [`MAX_HEADER_BYTES`]) in
/// front of it: the caller reserves that headroom, no byte of a peer's comes into it.
pub fn seal(buf: &mut [u8], payload: Range<usize>, mask: Option<[u8; 4]>) -> Range<usize> {
    let len = payload.len();
    let start = payload.start - header_len(len, mask.is_some());
    let (header, body) = buf[start..payload.end].split_at_mut(payload.start - start);
    let (length, key) = header.split_at_mut(header_len(len, false));
    length[0] = FINAL_BINARY;
    length[1] = length_code(len) | if mask.is_some() { MASKED } else { 0 };
    let extended = &mut length[2..];
    let big_endian = (len as u64).to_be_bytes();
    extended.copy_from_slice(&big_endian[8 - extended.len()..]);
    if let Some(bytes) = mask {
        key.copy_from_slice(&bytes);
        self::mask(body, bytes, 0);
    }
    start..payload.end
}

/// Appends one control frame to `out`; of a payload above [`MAX_CONTROL_BYTES`] only that many bytes are sent.
pub fn control(opcode: Control, payload: &[u8], mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let payload = &payload[..payload.len().min(MAX_CONTROL_BYTES)];
    out.push(0x80 | opcode as u8);
    out.push(length_code(payload.len()) | if mask.is_some() { MASKED } else { 0 });
    out.extend(mask.iter().flatten());
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = mask {
        self::mask(&mut out[start..], key, 0);
    }
}

/// The payload of a close frame: the code without a reason, or nothing.
pub fn close_payload(code: Option<u16>) -> Vec<u8> {
    code.map_or_else(Vec::new, |code| code.to_be_bytes().to_vec())
}

/// The seven length bits of the second byte.
fn length_code(len: usize) -> u8 {
    match len {
        0..=125 => u8::try_from(len).unwrap_or(125),
        126..=0xFFFF => 126,
        _ => 127,
    }
}
