//! The proxy's side of receiving: messages are one stream of bytes, so a whole read is unmasked in place and its
//! payload pushed together, with nothing copied that does not have to move.

use std::{collections::VecDeque, ops::Range};

use crate::{
    Role,
    frames::{ControlPayload, Frames, Limits, Piece},
    mask::{mask, mask_copy},
    violation::Violation,
};

/// The most pings that wait for their pong; a peer that sends more at once gets pongs for the latest only,
/// which RFC 6455 section 5.5.3 allows.
pub const MAX_WAITING_PINGS: usize = 16;

/// Pings to be answered, oldest first. Owns no memory while there are none.
#[derive(Debug, Default)]
pub struct PingQueue(VecDeque<ControlPayload>);

impl PingQueue {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one; the oldest is dropped when there are [`MAX_WAITING_PINGS`] already.
    pub fn push(&mut self, payload: ControlPayload) {
        if self.0.len() == MAX_WAITING_PINGS {
            self.0.pop_front();
        }
        self.0.push_back(payload);
    }

    /// Takes the oldest: its payload is the pong's.
    pub fn pop(&mut self) -> Option<ControlPayload> {
        let payload = self.0.pop_front();
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        }
        payload
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// What one read held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Where in the buffer the data stands, in order and without gaps; `0..0` when there is none.
    pub payload: Range<usize>,
    /// Whether a pong was among the frames.
    pub ponged: bool,
    /// Set when the stream has ended behind that data.
    pub end: Option<End>,
}

/// How the peer ended the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By a close frame with this code; answer it with the same code (RFC 6455 section 5.5.1).
    Close(Option<u16>),
    /// By breaking the protocol; answer it with [`Violation::close_code`].
    Violation(Violation),
}

/// Turns what was read from the socket into the peer's bytes. Message boundaries and kinds carry no meaning.
#[derive(Debug)]
pub struct Decoder {
    frames: Frames,
}

impl Decoder {
    /// A decoder at the start of a stream. `role` is ours: a server demands masked frames, a client unmasked ones.
    pub fn new(role: Role, limits: Limits) -> Self {
        Self { frames: Frames::new(role, limits) }
    }

    /// Takes all of `buf` and leaves the data of all its frames, unmasked, in `buf[decoded.payload]`.
    ///
    /// The first payload stays where it is; later ones move down over the headers between. What is only begun
    /// (a header, a control frame) is kept inside, so the buffer may be given back. The end is reported once;
    /// after it everything is dropped.
    pub fn decode(&mut self, buf: &mut [u8], pings: &mut PingQueue) -> Decoded {
        let mut at = 0;
        let mut decoded = Decoded { payload: 0..0, ponged: false, end: None };
        while let Some(piece) = self.frames.next(buf, &mut at) {
            match piece {
                Piece::Data { range, key, .. } => append(buf, &mut decoded.payload, range, key),
                Piece::Ping(payload) => pings.push(payload),
                Piece::Pong(_) => decoded.ponged = true,
                Piece::Close(code) => decoded.end = Some(End::Close(code)),
                Piece::Violation(violation) => decoded.end = Some(End::Violation(violation)),
            }
        }
        decoded
    }

    /// Starts counting control and empty frames anew; see [`Limits`]. Call it when a second or more has passed
    /// since the last call, before decoding; a connection that is idle needs no timer for it.
    pub fn tick(&mut self) {
        self.frames.tick();
    }

    /// Whether an end has been reported.
    pub fn has_ended(&self) -> bool {
        self.frames.has_ended()
    }
}

/// Unmasks `range` and puts it behind `payload`.
fn append(buf: &mut [u8], payload: &mut Range<usize>, range: Range<usize>, key: Option<[u8; 4]>) {
    if range.is_empty() {
        return;
    }
    if payload.start == payload.end {
        if let Some(key) = key {
            mask(&mut buf[range.clone()], key, 0);
        }
        *payload = range;
        return;
    }
    let (to, len) = (payload.end, range.len());
    match key {
        Some(key) => mask_copy(buf, range.start, to, len, key, 0),
        None if to == range.start => {}
        None => buf.copy_within(range, to),
    }
    payload.end += len;
}
