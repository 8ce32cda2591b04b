//! The frame parser both readers stand on. It keeps what spans two reads (a header of at most 14 bytes, a control
//! payload of at most 125) and streams data payload, whatever length a frame declares.

use std::{fmt, ops::Range};

use crate::{
    Role,
    frame::{Control, MAX_CONTROL_BYTES, MAX_HEADER_BYTES},
    mask::{mask, turn},
    violation::Violation,
};

/// What a peer may do that costs us work and carries no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many control and empty frames may come between two calls of `tick`; a frame with data gives one back.
    ///
    /// Default 1000. The next one is [`Violation::Flood`].
    pub max_idle_frames: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_idle_frames: 1000 }
    }
}

/// Whether a message was sent as text or as binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Opcode 1.
    Text,
    /// Opcode 2.
    Binary,
}

/// The payload of a control frame, at most 125 bytes, unmasked.
#[derive(Clone, PartialEq, Eq)]
pub struct ControlPayload {
    len: u8,
    bytes: [u8; MAX_CONTROL_BYTES],
}

impl ControlPayload {
    /// The payload.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Appends what fits of `bytes`.
    fn extend(&mut self, bytes: &[u8]) {
        let start = usize::from(self.len);
        let taken = bytes.len().min(MAX_CONTROL_BYTES - start);
        self.bytes[start..start + taken].copy_from_slice(&bytes[..taken]);
        self.len = u8::try_from(start + taken).unwrap_or(self.len);
    }
}

impl Default for ControlPayload {
    fn default() -> Self {
        Self { len: 0, bytes: [0; MAX_CONTROL_BYTES] }
    }
}

impl fmt::Debug for ControlPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ControlPayload({} bytes)", self.len)
    }
}

/// What comes next in a buffer.
pub(crate) enum Piece {
    /// Payload, still masked if there is a key (already turned to the first byte of `range`).
    Data { range: Range<usize>, key: Option<[u8; 4]>, kind: Kind, ends_message: bool },
    /// A whole ping.
    Ping(ControlPayload),
    /// A whole pong.
    Pong(ControlPayload),
    /// A whole close frame with its code; nothing comes after it.
    Close(Option<u16>),
    /// Nothing comes after it either.
    Violation(Violation),
}

/// The parser's state between two reads.
#[derive(Debug)]
pub(crate) struct Frames {
    role: Role,
    phase: Phase,
    /// The kind of the message that has started and not ended.
    message: Option<Kind>,
    /// Whether the frame being read has FIN.
    is_final: bool,
    head_len: u8,
    head: [u8; MAX_HEADER_BYTES],
    /// The key as it is due at the next payload byte.
    key: [u8; 4],
    /// How many payload bytes of the frame are still to come.
    remaining: u64,
    /// The part of a control payload that came in an earlier read.
    control: Option<Box<ControlPayload>>,
    idle: u32,
    limits: Limits,
}

/// Where in a frame the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Head,
    Data,
    Control(Control),
    Ended,
}

/// A frame's header.
struct Head {
    first: Opening,
    is_final: bool,
    length: u64,
    key: [u8; 4],
    /// How many bytes the header itself took.
    bytes: usize,
}

/// What the opcode says.
#[derive(Clone, Copy)]
enum Opening {
    Data(Kind),
    Control(Control),
}

impl Frames {
    pub(crate) fn new(role: Role, limits: Limits) -> Self {
        Self {
            role,
            phase: Phase::Head,
            message: None,
            is_final: true,
            head_len: 0,
            head: [0; MAX_HEADER_BYTES],
            key: [0; 4],
            remaining: 0,
            control: None,
            idle: 0,
            limits,
        }
    }

    /// Forgets the control and empty frames counted so far.
    pub(crate) fn tick(&mut self) {
        self.idle = 0;
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// The next piece of `buf` from `*at` on; `None` once all of `buf` is taken.
    pub(crate) fn next(&mut self, buf: &[u8], at: &mut usize) -> Option<Piece> {
        loop {
            match self.phase {
                Phase::Ended => {
                    *at = buf.len();
                    return None;
                }
                Phase::Data => return self.data(buf, at),
                Phase::Control(opcode) => return self.control(opcode, buf, at),
                Phase::Head => match self.read_head(buf, at).and_then(|head| self.begin(head)) {
                    Ok(Begun::NeedMore) => return None,
                    Ok(Begun::Payload) => {}
                    Ok(Begun::Empty(kind)) => {
                        let (range, ends_message) = (*at..*at, self.end_data_frame());
                        return Some(Piece::Data { range, key: None, kind, ends_message });
                    }
                    Err(violation) => return Some(self.violate(violation)),
                },
            }
        }
    }

    /// A header, once it is whole.
    fn read_head(&mut self, buf: &[u8], at: &mut usize) -> Result<Option<Head>, Violation> {
        if self.head_len == 0
            && let Some(head) = self.parse_head(&buf[*at..])?
        {
            *at += head.bytes;
            return Ok(Some(head));
        }
        while let Some(&byte) = buf.get(*at) {
            self.head[usize::from(self.head_len)] = byte;
            self.head_len += 1;
            *at += 1;
            if let Some(head) = self.parse_head(&self.head[..usize::from(self.head_len)])? {
                self.head_len = 0;
                return Ok(Some(head));
            }
        }
        Ok(None)
    }

    /// Reads a header from the front of `bytes`, refusing at the first byte that is wrong.
    fn parse_head(&self, bytes: &[u8]) -> Result<Option<Head>, Violation> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        let (opening, is_final) = self.parse_first(first)?;
        let Some((&second, rest)) = rest.split_first() else { return Ok(None) };
        let masked = second & 0x80 != 0;
        match (self.role, masked) {
            (Role::Server, false) => return Err(Violation::Unmasked),
            (Role::Client, true) => return Err(Violation::Masked),
            _ => {}
        }
        let code = second & 0x7F;
        if matches!(opening, Opening::Control(_)) && code > 125 {
            return Err(Violation::LongControl);
        }
        let (length, rest) = match code {
            126 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest),
                None => return Ok(None),
            },
            code => (u64::from(code), rest),
        };
        if length >> 63 != 0 {
            return Err(Violation::LengthOverflow);
        }
        let (key, rest) = match (masked, rest.split_first_chunk()) {
            (false, _) => ([0; 4], rest),
            (true, Some((key, rest))) => (*key, rest),
            (true, None) => return Ok(None),
        };
        let bytes = bytes.len() - rest.len();
        Ok(Some(Head { first: opening, is_final, length, key, bytes }))
    }

    /// What the first byte of a header says and whether it may stand here.
    fn parse_first(&self, first: u8) -> Result<(Opening, bool), Violation> {
        let (is_final, bits, opcode) = (first & 0x80 != 0, first & 0x70, first & 0x0F);
        if bits != 0 {
            return Err(Violation::ReservedBits { bits });
        }
        let opening = match (opcode, self.message) {
            (0x0, Some(kind)) => Opening::Data(kind),
            (0x0, None) => return Err(Violation::LoneContinuation),
            (0x1 | 0x2, Some(_)) => return Err(Violation::InterruptedMessage),
            (0x1, None) => Opening::Data(Kind::Text),
            (0x2, None) => Opening::Data(Kind::Binary),
            (0x8, _) => Opening::Control(Control::Close),
            (0x9, _) => Opening::Control(Control::Ping),
            (0xA, _) => Opening::Control(Control::Pong),
            _ => return Err(Violation::ReservedOpcode { opcode }),
        };
        if matches!(opening, Opening::Control(_)) && !is_final {
            return Err(Violation::FragmentedControl);
        }
        Ok((opening, is_final))
    }

    /// Enters the payload of a frame.
    fn begin(&mut self, head: Option<Head>) -> Result<Begun, Violation> {
        let Some(head) = head else { return Ok(Begun::NeedMore) };
        self.key = head.key;
        self.remaining = head.length;
        match head.first {
            Opening::Data(kind) => {
                self.message = Some(kind);
                self.is_final = head.is_final;
                if head.length == 0 {
                    self.count_idle_frame()?;
                    return Ok(Begun::Empty(kind));
                }
                self.idle = self.idle.saturating_sub(1);
                self.phase = Phase::Data;
            }
            Opening::Control(opcode) => {
                self.count_idle_frame()?;
                self.phase = Phase::Control(opcode);
            }
        }
        Ok(Begun::Payload)
    }

    fn count_idle_frame(&mut self) -> Result<(), Violation> {
        let limit = self.limits.max_idle_frames;
        if self.idle >= limit {
            return Err(Violation::Flood { limit });
        }
        self.idle += 1;
        Ok(())
    }

    /// What is there of a data frame's payload.
    fn data(&mut self, buf: &[u8], at: &mut usize) -> Option<Piece> {
        let range = self.take(buf, at);
        if range.is_empty() {
            return None;
        }
        let key = self.payload_key();
        self.key = turn(self.key, range.len() as u64);
        let kind = self.message.unwrap_or(Kind::Binary);
        let ends_message = self.remaining == 0 && self.end_data_frame();
        Some(Piece::Data { range, key, kind, ends_message })
    }

    /// Leaves a data frame; true when its message ends too.
    fn end_data_frame(&mut self) -> bool {
        self.phase = Phase::Head;
        if self.is_final {
            self.message = None;
        }
        self.is_final
    }

    /// A control frame, once its payload is whole.
    fn control(&mut self, opcode: Control, buf: &[u8], at: &mut usize) -> Option<Piece> {
        let range = self.take(buf, at);
        if self.remaining > 0 {
            if !range.is_empty() {
                self.control.get_or_insert_default().extend(&buf[range]);
            }
            return None;
        }
        let mut payload = self.control.take().map_or_else(ControlPayload::default, |boxed| *boxed);
        payload.extend(&buf[range]);
        if let Some(key) = self.payload_key() {
            mask(&mut payload.bytes[..usize::from(payload.len)], key, 0);
        }
        self.phase = Phase::Head;
        Some(match opcode {
            Control::Ping => Piece::Ping(payload),
            Control::Pong => Piece::Pong(payload),
            Control::Close => match close_code(payload.as_bytes()) {
                Ok(code) => {
                    self.phase = Phase::Ended;
                    Piece::Close(code)
                }
                Err(violation) => self.violate(violation),
            },
        })
    }

    /// Takes as much of the frame's payload as `buf` holds.
    fn take(&mut self, buf: &[u8], at: &mut usize) -> Range<usize> {
        let start = *at;
        let taken = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buf.len() - start);
        self.remaining -= taken as u64;
        *at += taken;
        start..*at
    }

    /// The key that the peer's payload is masked with.
    fn payload_key(&self) -> Option<[u8; 4]> {
        (self.role == Role::Server).then_some(self.key)
    }

    fn violate(&mut self, violation: Violation) -> Piece {
        self.end();
        Piece::Violation(violation)
    }

    /// Takes nothing more.
    pub(crate) fn end(&mut self) {
        self.phase = Phase::Ended;
        self.control = None;
    }
}

/// How a frame begins.
enum Begun {
    /// Its header is not whole yet.
    NeedMore,
    /// With payload, or it is a control frame.
    Payload,
    /// A data frame without payload.
    Empty(Kind),
}

/// The code in a close frame's payload (RFC 6455 sections 5.5.1 and 7.4).
fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(Violation::ShortClose) };
    };
    let code = u16::from_be_bytes(*code);
    // 1012 to 1014 were registered later (IANA "WebSocket Close Code Number" registry).
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::CloseCode { code });
    }
    match std::str::from_utf8(reason) {
        Ok(_) => Ok(Some(code)),
        Err(_) => Err(Violation::CloseReason),
    }
}
