//! Opening chunks.

use super::framing::{Direction, Framing, Sizes};
use crate::{CryptoError, Request, aead::TAG_LEN};
use aws_lc_rs::aead::Aad;
use std::{fmt, ops::Range};

/// Opens one direction of a body, chunk by chunk, in the caller's buffer.
pub struct ChunkOpener {
    framing: Framing,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    /// A chunk's size comes next.
    Size,
    /// The size is read; so many bytes come next, the last of them padding.
    Chunk {
        size: usize,
        padding: usize,
    },
    End,
    Damaged(BodyError),
}

/// What [`ChunkOpener::open`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Where in the buffer the next call must go on. What lies before it is done with, apart from the
    /// payloads found there.
    pub used: usize,
    /// Why it stopped.
    pub outcome: Progress,
}

/// Why opening stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    NeedMore {
        /// How many at least, before anything more can be opened.
        missing: usize,
    },
    /// The end mark: the sender has ended the body, and all of it has been opened.
    End,
    /// The body was changed on the way. What was opened before stands; nothing more ever opens.
    Damaged(BodyError),
}

impl ChunkOpener {
    /// For this direction of the request's session.
    ///
    /// # Errors
    /// When the crypto library fails.
    pub fn new(request: &Request, direction: Direction) -> Result<Self, CryptoError> {
        Ok(Self { framing: Framing::new(request, direction)?, state: State::Size })
    }

    /// Whether the body says where it ends; without, it ends with its connection.
    pub const fn has_end_mark(&self) -> bool {
        self.framing.end_mark
    }

    /// Whether no part of a chunk has been taken: here, and nowhere else, a body without an end mark may end.
    pub const fn is_between_chunks(&self) -> bool {
        !matches!(self.state, State::Chunk { .. })
    }

    /// Opens all chunks that are whole in `buf[at..]`, in place, and appends to `out` where their payloads
    /// lie, in order, none of them empty. Over UDP each is a packet. A size that is read is remembered: the
    /// next call must go on at [`Opened::used`], with the same bytes from there on and more behind them.
    ///
    /// Unlike V2Ray, it opens the end mark too, so that nobody can make one up.
    pub fn open(&mut self, buf: &mut [u8], at: usize, out: &mut Vec<Range<usize>>) -> Opened {
        let mut at = at.min(buf.len());
        if matches!(self.framing.sizes, Sizes::Raw) {
            if at < buf.len() {
                out.push(at..buf.len());
            }
            return Opened { used: buf.len(), outcome: Progress::NeedMore { missing: 1 } };
        }
        loop {
            let have = buf.len() - at;
            let step = match self.state {
                State::Size => self.open_size(&buf[at..]),
                State::Chunk { size, .. } if have < size => Err(Progress::NeedMore { missing: size - have }),
                State::Chunk { size, padding } => {
                    self.open_chunk(&mut buf[at..at + size - padding]).map(|payload_len| {
                        if payload_len == 0 {
                            self.state = State::End;
                        } else {
                            out.push(at..at + payload_len);
                            self.state = State::Size;
                        }
                        size
                    })
                }
                State::End => Err(Progress::End),
                State::Damaged(error) => Err(Progress::Damaged(error)),
            };
            match step {
                Ok(used) => at += used,
                Err(outcome) => {
                    if let Progress::Damaged(error) = outcome {
                        self.state = State::Damaged(error);
                    }
                    return Opened { used: at, outcome };
                }
            }
        }
    }

    /// Reads the size that `input` starts with; how many bytes that took.
    fn open_size(&mut self, input: &[u8]) -> Result<usize, Progress> {
        let head = self.framing.head_len();
        let Some(field) = input.get(..head) else {
            return Err(Progress::NeedMore { missing: head - input.len() });
        };
        let padding = self.framing.draw_padding();
        let mask = self.framing.draw_mask();
        let size = if let Sizes::Sealed(cipher) = &mut self.framing.sizes {
            let mut sealed = [0; 2 + TAG_LEN];
            sealed.copy_from_slice(field);
            let (key, nonce) = cipher.next();
            match key.open_in_place(nonce, Aad::empty(), &mut sealed) {
                Ok([high, low]) => usize::from(u16::from_be_bytes([*high, *low])) + TAG_LEN,
                _ => return Err(Progress::Damaged(BodyError::Size)),
            }
        } else {
            usize::from(field.iter().fold(0, |size, &byte| size << 8 | u16::from(byte)) ^ mask)
        };
        let least = self.framing.tag_len() + padding;
        if size < least || size > usize::from(u16::MAX) {
            return Err(Progress::Damaged(BodyError::Length { found: size, least }));
        }
        self.state = State::Chunk { size, padding };
        Ok(head)
    }

    /// Opens a payload and its tag; how long the payload is.
    fn open_chunk(&mut self, sealed: &mut [u8]) -> Result<usize, Progress> {
        match &mut self.framing.cipher {
            None => Ok(sealed.len()),
            Some(cipher) => {
                let (key, nonce) = cipher.next();
                match key.open_in_place(nonce, Aad::empty(), sealed) {
                    Ok(payload) => Ok(payload.len()),
                    Err(_) => Err(Progress::Damaged(BodyError::Payload)),
                }
            }
        }
    }
}

impl fmt::Debug for ChunkOpener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChunkOpener(…)")
    }
}

/// The body is not what its sender sent: damaged on the way, or forged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// A sealed size does not open.
    #[error("the size of a chunk does not open")]
    Size,
    /// A size that no chunk can have.
    #[error("a chunk of {found} bytes, expected {least} to 65535")]
    Length {
        /// The size found.
        found: usize,
        /// Tag and padding of this chunk.
        least: usize,
    },
    /// A payload does not open.
    #[error("a chunk does not open")]
    Payload,
}
