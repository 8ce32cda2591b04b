//! Reading frames one event at a time, with message boundaries: for echo servers, conformance runs and tests.

use std::ops::Range;

use crate::{
    Role,
    frames::{ControlPayload, Frames, Kind, Limits, Piece},
    mask::mask,
    violation::Violation,
};

/// What to do with text messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextPolicy {
    /// Bytes like any other, as V2Ray reads them.
    Bytes,
    /// Text that is not UTF-8 is [`Violation::Text`] (RFC 6455 section 8.1), at the first byte that cannot be.
    Validate,
}

/// What came next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Payload of a message, possibly only a part of it, possibly empty.
    Data {
        /// Where it stands in the buffer, unmasked.
        range: Range<usize>,
        /// Text or binary.
        kind: Kind,
        /// Whether the message ends behind it.
        ends_message: bool,
    },
    /// To be answered by a pong with the same payload.
    Ping(ControlPayload),
    /// To be ignored.
    Pong(ControlPayload),
    /// To be answered by a close frame with the same code; the last event.
    Close(Option<u16>),
    /// To be answered by a close frame with [`Violation::close_code`]; the last event.
    Violation(Violation),
}

/// Reads frames from one buffer after another.
#[derive(Debug)]
pub struct FrameReader {
    frames: Frames,
    text: TextPolicy,
    utf8: Utf8,
}

impl FrameReader {
    /// A reader at the start of a stream. `role` is ours: a server demands masked frames, a client unmasked ones.
    pub fn new(role: Role, text: TextPolicy, limits: Limits) -> Self {
        Self { frames: Frames::new(role, limits), text, utf8: Utf8::default() }
    }

    /// Takes bytes of `buf` from `*at` on until there is an event; `None` means all of `buf` is taken.
    ///
    /// Call it until `None`, then with the next buffer and `*at` at its start. After the last event the rest is
    /// taken and dropped.
    pub fn next(&mut self, buf: &mut [u8], at: &mut usize) -> Option<Event> {
        Some(match self.frames.next(buf, at)? {
            Piece::Data { range, key, kind, ends_message } => {
                let bytes = &mut buf[range.clone()];
                if let Some(key) = key {
                    mask(bytes, key, 0);
                }
                if kind == Kind::Text && self.text == TextPolicy::Validate {
                    let whole = self.utf8.accepts(bytes) && !(ends_message && self.utf8.is_open());
                    if !whole {
                        self.frames.end();
                        return Some(Event::Violation(Violation::Text));
                    }
                }
                Event::Data { range, kind, ends_message }
            }
            Piece::Ping(payload) => Event::Ping(payload),
            Piece::Pong(payload) => Event::Pong(payload),
            Piece::Close(code) => Event::Close(code),
            Piece::Violation(violation) => Event::Violation(violation),
        })
    }

    /// Starts counting control and empty frames anew; see [`Limits`].
    pub fn tick(&mut self) {
        self.frames.tick();
    }
}

/// UTF-8 checked piece by piece: at most three bytes of an unfinished character are kept.
#[derive(Debug, Default)]
struct Utf8 {
    open: [u8; 4],
    len: usize,
}

impl Utf8 {
    /// Whether the text so far, with `bytes` behind it, is or can still become UTF-8.
    fn accepts(&mut self, mut bytes: &[u8]) -> bool {
        while self.len > 0 {
            let Some((&byte, rest)) = bytes.split_first() else { return true };
            bytes = rest;
            self.open[self.len] = byte;
            self.len += 1;
            match std::str::from_utf8(&self.open[..self.len]) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_some() => return false,
                Err(_) => {}
            }
        }
        let Err(error) = std::str::from_utf8(bytes) else { return true };
        let tail = &bytes[error.valid_up_to()..];
        if error.error_len().is_some() || tail.len() > 3 {
            return false;
        }
        self.open[..tail.len()].copy_from_slice(tail);
        self.len = tail.len();
        true
    }

    /// Whether a character has begun and not ended.
    fn is_open(&self) -> bool {
        self.len > 0
    }
}
