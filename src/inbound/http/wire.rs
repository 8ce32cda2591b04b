//! An HTTP proxy's requests as bytes: `CONNECT` and plain requests with a whole URL. Pure; nothing is
//! taken before the whole head is there.
//!
//! A plain request is forwarded alone on its connection (`Connection: close` goes to the origin), so that
//! what follows it can never be taken for a request to the wrong origin. What two readers could
//! understand differently is refused.
//!
//! Sources: RFC 9110, RFC 9112.

use wsray_vmess::Target;
use wsray_ws::Step;

use crate::inbound::accounts::Credentials;

mod answer;
mod body;
mod forward;
#[cfg(test)]
mod tests;

pub use answer::{CONNECTION_ESTABLISHED, Status, answer};
pub use body::{BodyLimit, BodyState};

/// The longest request head, the empty line included.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;

/// The most header lines of a request.
pub const MAX_HEADERS: usize = 100;

/// A client's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where to.
    pub target: Target,
    /// What `Proxy-Authorization: Basic` says; `None` also where it is there and cannot be read.
    pub credentials: Option<Credentials>,
    /// What is wanted of the target.
    pub kind: Kind,
}

/// What is wanted of the target.
#[derive(Clone, PartialEq, Eq)]
pub enum Kind {
    /// A tunnel: answer [`CONNECTION_ESTABLISHED`]; every byte behind the head is the tunnel's.
    Connect,
    /// A plain request.
    Forward {
        /// The head to send to the target, its empty line included.
        head: Vec<u8>,
        /// Which of the bytes behind the client's head belong to this request.
        body: BodyLimit,
    },
}

impl std::fmt::Debug for Kind {
    /// The head holds cookies, passwords and queries: it is not shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect => f.write_str("Connect"),
            Self::Forward { head, body } => write!(f, "Forward({} bytes, {body:?})", head.len()),
        }
    }
}

/// The client's fault: send [`answer`] of [`HttpError::status`] and close. The client's text is not repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// No HTTP at all.
    #[error("expected an HTTP request, found {}", if *found == 0x16 { "a TLS handshake" } else { "something else" })]
    NotHttp {
        /// The first byte.
        found: u8,
    },
    /// A head without an end.
    #[error("a request head has at most {MAX_HEAD_BYTES} bytes")]
    HeadTooLong,
    /// Too many lines.
    #[error("a request has at most {MAX_HEADERS} headers")]
    TooManyHeaders,
    /// A head that is not as RFC 9112 wants it: a bare CR or LF, a folded line, a bad character.
    #[error("bad request head: {reason}")]
    Head {
        /// What is wrong.
        reason: &'static str,
    },
    /// A request for a path, as to a web server.
    #[error("this is a proxy: expected CONNECT or a whole URL, found a path")]
    NotForProxy,
    /// A URL that is not `http://`.
    #[error("only http:// URLs can be forwarded; https needs CONNECT")]
    Scheme,
    /// A host or port that cannot be dialled.
    #[error("bad host or port in the request")]
    Authority,
    /// Two ways of telling where the body ends, or one that contradicts itself.
    #[error("bad message framing: {reason}")]
    Framing {
        /// What is wrong.
        reason: &'static str,
    },
    /// A transfer coding other than `chunked`.
    #[error("unknown transfer coding, only chunked is supported")]
    TransferCoding,
}

impl HttpError {
    /// What to answer.
    pub fn status(&self) -> Status {
        match self {
            Self::HeadTooLong | Self::TooManyHeaders => Status::HeadTooLarge,
            Self::TransferCoding => Status::NotImplemented,
            _ => Status::BadRequest,
        }
    }
}

/// Reads the head of one request. It remembers how far it has looked, so that a head that comes byte by
/// byte costs no more than one that comes at once.
#[derive(Clone, Debug, Default)]
pub struct HeadReader {
    scanned: usize,
}

impl HeadReader {
    /// A reader for the next request.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the head at the beginning of `input`, which must be what the last call saw and more.
    ///
    /// # Errors
    /// The client's fault; see [`HttpError::status`].
    pub fn read(&mut self, input: &[u8]) -> Result<Step<Request>, HttpError> {
        check_start(input)?;
        let window = input.get(..MAX_HEAD_BYTES).unwrap_or(input);
        let Some(used) = self.find_end(window) else {
            let is_full = window.len() == MAX_HEAD_BYTES;
            return if is_full { Err(HttpError::HeadTooLong) } else { Ok(Step::NeedMore) };
        };
        let head = window.get(..used).unwrap_or_default();
        check_line_ends(head)?;
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(head) {
            Ok(httparse::Status::Complete(len)) if len == used => {}
            Err(httparse::Error::TooManyHeaders) => return Err(HttpError::TooManyHeaders),
            Ok(_) => return Err(HttpError::Head { reason: "it ends early" }),
            Err(error) => return Err(HttpError::Head { reason: reason_of(error) }),
        }
        Ok(Step::Done { used, value: forward::read_request(&parsed)? })
    }

    /// The length of the head with its empty line.
    fn find_end(&mut self, window: &[u8]) -> Option<usize> {
        // The empty line may have been cut: look again at its first three bytes.
        let mut from = self.scanned.saturating_sub(3);
        while let Some(at) = window.get(from..)?.iter().position(|&byte| byte == b'\n') {
            let end = from + at + 1;
            match window.get(end..)? {
                [b'\n', ..] => return Some(end + 1),
                [b'\r', b'\n', ..] => return Some(end + 2),
                _ => from = end,
            }
        }
        self.scanned = window.len();
        None
    }
}

fn reason_of(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "bad header name",
        httparse::Error::HeaderValue => "bad header value",
        httparse::Error::Version => "expected HTTP/1.0 or HTTP/1.1",
        httparse::Error::NewLine => "bad line end",
        _ => "bad request line",
    }
}

/// Whether the input can become a request: who speaks something else is told at once.
fn check_start(input: &[u8]) -> Result<(), HttpError> {
    /// Longer than any registered method.
    const MAX_METHOD_BYTES: usize = 24;
    let start = input.get(..=MAX_METHOD_BYTES).unwrap_or(input);
    let method = start.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-');
    match (method, start.first()) {
        (Some(1..), _) if method.and_then(|end| start.get(end)) == Some(&b' ') => Ok(()),
        (None, _) if start.len() <= MAX_METHOD_BYTES => Ok(()),
        (_, found) => Err(HttpError::NotHttp { found: found.copied().unwrap_or_default() }),
    }
}

/// Refuses CR without LF and LF without CR, which other readers may take for a line end or not.
fn check_line_ends(head: &[u8]) -> Result<(), HttpError> {
    let mut previous = 0;
    for &byte in head {
        if (previous == b'\r') != (byte == b'\n') {
            return Err(HttpError::Head { reason: "CR or LF alone" });
        }
        previous = byte;
    }
    Ok(())
}

/// What holds for any input; called by unit tests and by the fuzz target.
#[doc(hidden)]
pub mod invariants {
    use super::{BodyLimit, BodyState, HeadReader, Kind, MAX_HEAD_BYTES, Step};

    /// Reads `input` whole and in pieces of `piece` bytes: no panic, `used` within bounds, the same result;
    /// a forwarded head is one head whose body is as long as the client's.
    ///
    /// # Panics
    /// Where one of these does not hold.
    pub fn check(input: &[u8], piece: usize) {
        let whole = HeadReader::new().read(input);
        let mut reader = HeadReader::new();
        for end in (0..input.len()).step_by(piece.max(1)) {
            let part = reader.read(&input[..end]);
            assert!(part == Ok(Step::NeedMore) || part == whole, "a prefix of {end} bytes reads differently");
            if part != Ok(Step::NeedMore) {
                reader = HeadReader::new();
                break;
            }
        }
        assert_eq!(reader.read(input), whole, "the last piece reads differently");
        let Ok(Step::Done { used, value }) = whole else { return };
        assert!(used <= input.len().min(MAX_HEAD_BYTES), "takes more than there is");
        if let Kind::Forward { head, body } = value.kind {
            let ends = head.windows(4).filter(|window| window == b"\r\n\r\n").count();
            assert!(ends == 1 && head.ends_with(b"\r\n\r\n"), "not one head");
            check_body(body, &input[used..], piece);
        }
    }

    /// Takes `bytes` at once and in pieces of `piece` bytes: the same count and the same end.
    ///
    /// # Panics
    /// Where this does not hold.
    pub fn check_body(limit: BodyLimit, bytes: &[u8], piece: usize) {
        let (mut whole, mut parts) = (limit.clone(), limit);
        let taken = whole.take(bytes);
        assert!(
            taken <= bytes.len() && (taken == bytes.len() || whole.state() != BodyState::More),
            "stops in the middle"
        );
        let mut sum = 0;
        for part in bytes.chunks(piece.max(1)) {
            let taken = parts.take(part);
            sum += taken;
            if taken < part.len() {
                break;
            }
        }
        assert_eq!((sum, parts.state()), (taken, whole.state()), "pieces are taken differently");
    }
}
