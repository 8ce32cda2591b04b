//! TLS handshakes: the server name in a client's hello (RFC 8446 section 4.1.2, RFC 6066 section 3).
//!
//! A hello may come in any number of records (RFC 8446 section 5.1). It is read from its beginning as far as it is
//! there, so that the name is found before the last of a hello of several packets has come.

use super::{Rest, Sniffed, domain};

/// The content type of a record, RFC 8446 section 5.1.
pub(super) const HANDSHAKE: u8 = 22;

/// RFC 8446 section 5.1: the most that a record may have.
const MAX_RECORD_BYTES: usize = 1 << 14;

/// The type of a handshake message, RFC 8446 section 4.
const CLIENT_HELLO: u8 = 1;

/// The type of an extension and of a name in it, RFC 6066 section 3.
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// Why reading stops.
enum Stop {
    /// What is there ends before this.
    NeedMore,
    /// It is no hello.
    NoHello,
}

/// The name, as soon as it is there; when no more can come, a hello that is cut short is a hello without a name.
pub(super) fn sniff(input: &[u8], rest: Rest) -> Sniffed {
    let (hello, records) = records(input);
    let mut reader = Reader { bytes: &hello, records };
    match server_name(&mut reader) {
        Ok(name) => Sniffed::Tls { server_name: name.and_then(domain) },
        Err(Stop::NoHello) => Sniffed::Nothing,
        Err(Stop::NeedMore) if rest == Rest::Over && hello.len() >= HELLO_START_BYTES => {
            Sniffed::Tls { server_name: None }
        }
        Err(Stop::NeedMore) => Sniffed::NeedMore,
    }
}

/// Type, length and version: enough to know a hello by.
const HELLO_START_BYTES: usize = 6;

/// What comes behind the handshake bytes that are there.
#[derive(Clone, Copy)]
enum Records {
    /// More of them, perhaps.
    Unfinished,
    /// Something else.
    Broken,
}

/// The handshake bytes of all records together, as far as they are there.
fn records(mut input: &[u8]) -> (Vec<u8>, Records) {
    let mut handshake = Vec::new();
    while let Some(&kind) = input.first() {
        // The version that the record layer says is 3.x and means nothing more, RFC 8446 section 5.1.
        if kind != HANDSHAKE || input.get(1).is_some_and(|&major| major != 3) {
            return (handshake, Records::Broken);
        }
        let [_, _, _, high, low, body @ ..] = input else { break };
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        if len == 0 || len > MAX_RECORD_BYTES {
            return (handshake, Records::Broken);
        }
        let (body, rest) = body.split_at(len.min(body.len()));
        handshake.extend_from_slice(body);
        input = rest;
    }
    (handshake, Records::Unfinished)
}

fn server_name<'h>(reader: &mut Reader<'h>) -> Result<Option<&'h [u8]>, Stop> {
    if reader.number(1)? != usize::from(CLIENT_HELLO) {
        return Err(Stop::NoHello);
    }
    let len = reader.number(3)?;
    let mut hello = Limited { reader, left: len };
    if hello.number(1)? != 3 {
        return Err(Stop::NoHello);
    }
    // The minor version and 32 random bytes.
    hello.skip(1 + 32)?;
    let session_id = hello.number(1)?;
    hello.skip(session_id)?;
    let cipher_suites = hello.number(2)?;
    hello.skip(cipher_suites)?;
    let compression_methods = hello.number(1)?;
    hello.skip(compression_methods)?;
    if hello.left == 0 {
        // TLS 1.2 without extensions.
        return Ok(None);
    }
    if hello.number(2)? != hello.left {
        return Err(Stop::NoHello);
    }
    while hello.left > 0 {
        let kind = hello.number(2)?;
        let len = hello.number(2)?;
        if kind == usize::from(SERVER_NAME) {
            return name_in_list(hello.take(len)?);
        }
        hello.skip(len)?;
    }
    Ok(None)
}

/// The first name of the extension, which is there whole.
fn name_in_list(list: &[u8]) -> Result<Option<&[u8]>, Stop> {
    let whole = |stop| match stop {
        Stop::NeedMore | Stop::NoHello => Stop::NoHello,
    };
    let mut reader = Reader { bytes: list, records: Records::Broken };
    let len = reader.number(2).map_err(whole)?;
    if len != reader.bytes.len() {
        return Err(Stop::NoHello);
    }
    while !reader.bytes.is_empty() {
        let kind = reader.number(1).map_err(whole)?;
        let len = reader.number(2).map_err(whole)?;
        let name = reader.take(len).map_err(whole)?;
        if kind == usize::from(HOST_NAME) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Bytes that are taken from the front.
struct Reader<'h> {
    bytes: &'h [u8],
    records: Records,
}

impl<'h> Reader<'h> {
    fn take(&mut self, len: usize) -> Result<&'h [u8], Stop> {
        let Some((taken, rest)) = self.bytes.split_at_checked(len) else {
            return Err(match self.records {
                Records::Unfinished => Stop::NeedMore,
                Records::Broken => Stop::NoHello,
            });
        };
        self.bytes = rest;
        Ok(taken)
    }

    /// A number of this many bytes, the highest first.
    fn number(&mut self, len: usize) -> Result<usize, Stop> {
        Ok(self.take(len)?.iter().fold(0, |number, &byte| number << 8 | usize::from(byte)))
    }
}

/// A reader that must not read beyond the hello.
struct Limited<'r, 'h> {
    reader: &'r mut Reader<'h>,
    left: usize,
}

impl<'h> Limited<'_, 'h> {
    fn take(&mut self, len: usize) -> Result<&'h [u8], Stop> {
        self.left = self.left.checked_sub(len).ok_or(Stop::NoHello)?;
        self.reader.take(len)
    }

    fn skip(&mut self, len: usize) -> Result<(), Stop> {
        self.take(len).map(drop)
    }

    fn number(&mut self, len: usize) -> Result<usize, Stop> {
        self.left = self.left.checked_sub(len).ok_or(Stop::NoHello)?;
        self.reader.number(len)
    }
}
