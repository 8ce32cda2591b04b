//! What both ends of the handshake need of HTTP/1.1: the accept key, percent-encoding, token lists, and foreign
//! text made fit for a terminal.

use std::fmt::Write as _;

use data_encoding::BASE64;
use sha1::{Digest as _, Sha1};

/// The longest head, before anything is added for early data.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The most headers of one head.
pub const MAX_HEADERS: usize = 100;

/// RFC 6455 section 1.3.
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The value of `Sec-WebSocket-Accept` that answers this `Sec-WebSocket-Key` (RFC 6455 section 4.2.2).
pub fn accept_key(key: &str) -> String {
    BASE64.encode(&Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize())
}

/// Whether one of the comma-separated `lists` names `token`, letter case aside.
pub(crate) fn names_token<'a>(lists: impl Iterator<Item = &'a [u8]>, token: &str) -> bool {
    lists
        .flat_map(|list| list.split(|&b| b == b','))
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// `%XX` undone; `None` when a `%` is not followed by two hex digits.
pub(crate) fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%' {
            let ([high, low], tail) = tail.split_first_chunk()?;
            out.push(hex(*high)? << 4 | hex(*low)?);
            rest = tail;
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

/// Appends `byte` as `%XX`.
pub(crate) fn percent_encode(byte: u8, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = write!(out, "%{byte:02X}");
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Text of a peer's, safe to print: anything but letters, digits and plain ASCII is escaped, and what comes out longer
/// than `max_chars` is cut with `…`.
pub fn printable(text: &[u8], max_chars: usize) -> String {
    let text = String::from_utf8_lossy(text);
    let mut out = String::new();
    let mut shown = 0;
    for c in text.chars() {
        let plain = if c.is_ascii() { !c.is_ascii_control() } else { c.is_alphanumeric() };
        shown += if plain { 1 } else { c.escape_default().len() };
        if shown > max_chars {
            out.push('…');
            break;
        }
        if plain {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
    }
    out
}
