//! Sealing chunks.

use super::framing::{Direction, Framing, Sizes};
use crate::{CryptoError, Request, aead::TAG_LEN};
use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use std::{fmt, ops::Range};

/// The most bytes of a stream that we put into one chunk: with everything around it, it fits one TLS record
/// of 16,384 bytes, and sing-box reads it (it refuses chunks above 16,384).
pub const MAX_PAYLOAD: usize = 15_872;

/// Seals one direction of a body, chunk by chunk, in the caller's buffer.
///
/// After an error the stream must be ended: its next chunk would not open.
pub struct ChunkSealer(Framing);

impl ChunkSealer {
    /// For this direction of the request's session.
    ///
    /// # Errors
    /// When the crypto library fails.
    pub fn new(request: &Request, direction: Direction) -> Result<Self, CryptoError> {
        Framing::new(request, direction).map(Self)
    }

    /// How many bytes a chunk has in front of its payload: 0, 2 or 18.
    pub const fn head_len(&self) -> usize {
        self.0.head_len()
    }

    /// How many bytes a chunk has behind its payload at most: 0 to 79.
    pub const fn tail_max(&self) -> usize {
        self.0.tail_max()
    }

    /// The most bytes that [`ChunkSealer::seal`] takes: [`MAX_PAYLOAD`] for a stream; for packets, which
    /// cannot be cut, what the size field can say, though peers may drop long ones.
    pub const fn max_payload(&self) -> usize {
        if self.0.packets && !matches!(self.0.sizes, Sizes::Raw) {
            u16::MAX as usize - self.0.tail_max()
        } else {
            MAX_PAYLOAD
        }
    }

    /// Whether this body is ended by [`ChunkSealer::end_mark`]; without it, it ends with its connection.
    pub const fn has_end_mark(&self) -> bool {
        self.0.end_mark
    }

    /// Makes a chunk of `buf[payload]`, in place, and returns where it lies. It takes `head_len` bytes in front
    /// and up to `tail_max` behind, and both must be there. Without chunks it returns `payload`.
    ///
    /// # Errors
    /// All but [`SealError::Crypto`] are the caller's mistake, and change nothing.
    pub fn seal(
        &mut self,
        buf: &mut [u8],
        payload: Range<usize>,
        padding_random: &[u8; 64],
    ) -> Result<Range<usize>, SealError> {
        let len = payload.len();
        if len == 0 {
            return Err(SealError::Empty);
        }
        if len > self.max_payload() {
            return Err(SealError::TooLong { found: len, limit: self.max_payload() });
        }
        self.seal_any(buf, payload, padding_random)
    }

    /// Appends the end mark, where the body has one. Nothing may be sealed after it.
    ///
    /// # Errors
    /// When the crypto library fails.
    pub fn end_mark(&mut self, out: &mut Vec<u8>, padding_random: &[u8; 64]) -> Result<(), SealError> {
        if !self.has_end_mark() {
            return Ok(());
        }
        let start = out.len();
        let at = start + self.head_len();
        out.resize(at + self.tail_max(), 0);
        let chunk = self.seal_any(out, at..at, padding_random)?;
        out.truncate(chunk.end);
        Ok(())
    }

    fn seal_any(
        &mut self,
        buf: &mut [u8],
        payload: Range<usize>,
        padding_random: &[u8; 64],
    ) -> Result<Range<usize>, SealError> {
        let (head, tail) = (self.head_len(), self.tail_max());
        let (Some(start), Some(behind)) =
            (payload.start.checked_sub(head), buf.len().checked_sub(payload.end))
        else {
            return Err(SealError::Room { head, tail });
        };
        if behind < tail {
            return Err(SealError::Room { head, tail });
        }
        if matches!(self.0.sizes, Sizes::Raw) {
            return Ok(payload);
        }
        let padding = self.0.draw_padding();
        let mask = self.0.draw_mask();
        let tag = self.0.tag_len();
        let end = payload.end + tag + padding;
        let (size_field, rest) = buf[start..end].split_at_mut(head);
        let (text, rest) = rest.split_at_mut(payload.len());
        let (tag_field, padding_field) = rest.split_at_mut(tag);

        if let Some(cipher) = &mut self.0.cipher {
            seal(cipher.next(), text, tag_field)?;
        }
        padding_field.copy_from_slice(&padding_random[..padding]);
        // `max_payload` leaves room for tag and padding in 16 bits.
        let size = |len: usize| u16::try_from(len).unwrap_or(u16::MAX);
        let len = payload.len() + tag + padding;
        if let Sizes::Sealed(cipher) = &mut self.0.sizes {
            let (size_text, size_tag) = size_field.split_at_mut(2);
            size_text.copy_from_slice(&size(len - TAG_LEN).to_be_bytes());
            seal(cipher.next(), size_text, size_tag)?;
        } else {
            size_field.copy_from_slice(&(size(len) ^ mask).to_be_bytes());
        }
        Ok(start..end)
    }
}

impl fmt::Debug for ChunkSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChunkSealer(…)")
    }
}

fn seal(
    (key, nonce): (&LessSafeKey, Nonce),
    text: &mut [u8],
    tag_field: &mut [u8],
) -> Result<(), CryptoError> {
    let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), text)?;
    tag_field.copy_from_slice(tag.as_ref());
    Ok(())
}

/// A chunk cannot be made. Never a peer's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The caller has no payload; an empty chunk would be an end mark.
    #[error("an empty payload cannot be sent")]
    Empty,
    /// The caller must cut its payload, or drop its packet.
    #[error("a payload of {found} bytes, at most {limit} are allowed")]
    TooLong {
        /// Its length.
        found: usize,
        /// [`ChunkSealer::max_payload`].
        limit: usize,
    },
    /// The caller's buffer is too small.
    #[error("the payload needs {head} bytes in front and {tail} behind")]
    Room {
        /// [`ChunkSealer::head_len`].
        head: usize,
        /// [`ChunkSealer::tail_max`].
        tail: usize,
    },
    /// Out of memory.
    #[error("cannot seal")]
    Crypto(#[from] CryptoError),
}
