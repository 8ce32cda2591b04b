//! The server's answer to a client's upgrade request.

use crate::{
    Step,
    client::expected_accept,
    http::{MAX_HEAD_BYTES, MAX_HEADERS, names_token, printable},
};

/// The most interim answers (100 Continue, 103 Early Hints) before the real one.
const MAX_INTERIM: usize = 8;

/// How much of a peer's header an error repeats, in characters.
const SHOWN_CHARS: usize = 120;

/// An accepted upgrade. Frames begin right behind the head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgraded {
    /// The server's `Sec-WebSocket-Protocol`, asked for or not: V2Ray tolerates both, and so do we.
    pub protocol: Option<String>,
}

/// Reads the answer to the request made with `key`.
///
/// Interim answers are skipped, and count in `used`. Bytes behind `used` are the server's first frames.
///
/// # Errors
/// Whenever the answer is not an upgrade by the rules of RFC 6455 section 4.1; the server's or the front end's fault.
pub fn response(input: &[u8], key: [u8; 16]) -> Result<Step<Upgraded>, ResponseError> {
    let mut at = 0;
    for _ in 0..=MAX_INTERIM {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        let rest = &input[at..];
        let used = match head.parse(rest) {
            Ok(httparse::Status::Complete(used)) if used <= MAX_HEAD_BYTES => used,
            Ok(httparse::Status::Partial) if rest.len() < MAX_HEAD_BYTES => return Ok(Step::NeedMore),
            Ok(_) => return Err(ResponseError::HeadTooLarge { limit: MAX_HEAD_BYTES }),
            Err(httparse::Error::TooManyHeaders) => {
                return Err(ResponseError::TooManyHeaders { limit: MAX_HEADERS });
            }
            Err(_) => return Err(ResponseError::NotHttp { start: printable(rest, 40) }),
        };
        at += used;
        match head.code.unwrap_or(0) {
            101 => return upgraded(head.headers, key).map(|value| Step::Done { used: at, value }),
            100..=199 => {}
            status => return Err(refused(status, &head, at)),
        }
    }
    Err(ResponseError::TooManyInterim { limit: MAX_INTERIM })
}

/// Checks the headers of a 101.
fn upgraded(headers: &[httparse::Header<'_>], key: [u8; 16]) -> Result<Upgraded, ResponseError> {
    let shown = |name: &str| {
        let found: Vec<_> = values(headers, name).collect();
        printable(&found.join(&b", "[..]), SHOWN_CHARS)
    };
    if !names_token(values(headers, "Upgrade"), "websocket") {
        return Err(ResponseError::Upgrade { found: shown("Upgrade") });
    }
    if !names_token(values(headers, "Connection"), "upgrade") {
        return Err(ResponseError::Connection { found: shown("Connection") });
    }
    let mut accepts = values(headers, "Sec-WebSocket-Accept");
    let expected = expected_accept(key);
    if accepts.next().map(<[u8]>::trim_ascii) != Some(expected.as_bytes()) || accepts.next().is_some() {
        return Err(ResponseError::Accept);
    }
    if values(headers, "Sec-WebSocket-Extensions").next().is_some() {
        return Err(ResponseError::Extension { found: shown("Sec-WebSocket-Extensions") });
    }
    let protocol = values(headers, "Sec-WebSocket-Protocol").next();
    Ok(Upgraded { protocol: protocol.map(|value| String::from_utf8_lossy(value).into_owned()) })
}

fn values<'a>(headers: &'a [httparse::Header<'_>], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

fn refused(status: u16, head: &httparse::Response<'_, '_>, body_start_at: usize) -> ResponseError {
    let shown = |name| values(head.headers, name).next().map(|value| printable(value, SHOWN_CHARS));
    ResponseError::Refused(Box::new(RefusedResponse {
        status,
        reason: printable(head.reason.unwrap_or("").as_bytes(), SHOWN_CHARS),
        server: shown("Server"),
        location: shown("Location"),
        body_start_at,
    }))
}

/// An answer that is not 101. Its texts are escaped and cut, fit for a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedResponse {
    /// The status code.
    pub status: u16,
    /// The reason behind it; may be empty.
    pub reason: String,
    /// The `Server` header: who answered.
    pub server: Option<String>,
    /// The `Location` header of a redirect.
    pub location: Option<String>,
    /// Where in the input the body starts; [`printable`](crate::printable) makes it fit to print.
    pub body_start_at: usize,
}

/// Why there is no WebSocket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// A whole HTTP answer that says no.
    #[error("the server answered {}", describe(.0))]
    Refused(Box<RefusedResponse>),
    /// Not an HTTP answer at all: the wrong port, or TLS where none was expected.
    #[error("the answer is not HTTP; it starts with \"{start}\"")]
    NotHttp {
        /// Its first bytes, escaped.
        start: String,
    },
    /// A head without an end.
    #[error("the answer's head is longer than {limit} bytes")]
    HeadTooLarge {
        /// The limit.
        limit: usize,
    },
    /// A head of endless headers.
    #[error("the answer has more than {limit} headers")]
    TooManyHeaders {
        /// The limit.
        limit: usize,
    },
    /// Interim answers without end.
    #[error("more than {limit} interim answers")]
    TooManyInterim {
        /// The limit.
        limit: usize,
    },
    /// 101, but to another protocol.
    #[error("the answer upgrades to \"{found}\" instead of websocket")]
    Upgrade {
        /// The Upgrade header, escaped.
        found: String,
    },
    /// 101 without `Connection: Upgrade`.
    #[error("the answer's Connection header is \"{found}\", without upgrade in it")]
    Connection {
        /// The Connection header, escaped.
        found: String,
    },
    /// The proof that the server read our key is wrong or missing: a cache, or no WebSocket server.
    #[error("the answer's Sec-WebSocket-Accept does not fit the key")]
    Accept,
    /// An extension nobody asked for; its frames could not be read.
    #[error("the answer switches on an extension that was not offered: \"{found}\"")]
    Extension {
        /// The header, escaped.
        found: String,
    },
}

impl ResponseError {
    /// The `Server` header of an answer that said no.
    pub fn server(&self) -> Option<&str> {
        match self {
            Self::Refused(answer) => answer.server.as_deref(),
            _ => None,
        }
    }
}

/// Status, reason, Server and Location in one line.
fn describe(answer: &RefusedResponse) -> String {
    let mut text = answer.status.to_string();
    if !answer.reason.is_empty() {
        text = format!("{text} {}", answer.reason);
    }
    for (name, value) in [("Server", &answer.server), ("Location", &answer.location)] {
        if let Some(value) = value {
            text = format!("{text}, {name}: {value}");
        }
    }
    text
}
