//! Early data (0-RTT): the first bytes of the stream, as text in the upgrade request.

use data_encoding::BASE64URL_NOPAD;

/// Writes early data as V2Ray does: base64url without padding (RFC 4648 section 5).
pub fn encode(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(bytes)
}

/// Reads early data: both base64 alphabets, with or without padding, as Xray's clients need.
///
/// # Errors
/// When `text` is not base64 or holds more than `max_bytes`; the client's fault, answered 400.
pub fn decode(text: &[u8], max_bytes: usize) -> Result<Vec<u8>, EarlyDataError> {
    let digits = without_padding(text);
    let padding = text.len() - digits.len();
    if digits.len() % 4 == 1 || padding > (4 - digits.len() % 4) % 4 {
        return Err(EarlyDataError::Length { found: text.len() });
    }
    let len = digits.len() / 4 * 3 + (digits.len() % 4).saturating_sub(1);
    if len > max_bytes {
        return Err(EarlyDataError::TooLong { found: len, limit: max_bytes });
    }
    let mut bytes = Vec::with_capacity(len);
    for (index, group) in digits.chunks(4).enumerate() {
        let mut bits = 0_u32;
        for (place, &digit) in group.iter().enumerate() {
            let value = value(digit).ok_or(EarlyDataError::Character { at: index * 4 + place })?;
            bits |= u32::from(value) << (18 - 6 * place);
        }
        let [_, whole @ ..] = bits.to_be_bytes();
        bytes.extend_from_slice(&whole[..group.len() - 1]);
    }
    Ok(bytes)
}

/// Early data that is refused. Never holds the data itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EarlyDataError {
    /// A character of neither base64 alphabet.
    #[error("not base64: wrong character at position {at}")]
    Character {
        /// Its position, counted from 0.
        at: usize,
    },
    /// No base64 text is that long, or it is padded wrongly.
    #[error("not base64: {found} characters cannot be whole bytes, or the padding is wrong")]
    Length {
        /// How many characters came.
        found: usize,
    },
    /// More than this server takes.
    #[error("{found} bytes, but at most {limit} are taken")]
    TooLong {
        /// How many bytes it would have been.
        found: usize,
        /// The limit.
        limit: usize,
    },
}

/// `text` without the `=` at its end.
fn without_padding(text: &[u8]) -> &[u8] {
    let digits = text.iter().rposition(|&byte| byte != b'=').map_or(0, |last| last + 1);
    &text[..digits]
}

/// The six bits a character stands for.
fn value(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'-' | b'+' => Some(62),
        b'_' | b'/' => Some(63),
        _ => None,
    }
}
