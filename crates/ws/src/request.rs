//! Reading a client's request head.

use std::fmt;

use crate::{
    Step,
    http::{MAX_HEAD_BYTES, MAX_HEADERS, names_token, percent_decode},
    refusal::plain_error,
};

/// The first byte of a TLS client's first record (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// How large a request head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// The most bytes, blank line included. Default [`MAX_HEAD_BYTES`]; early data needs more
    /// ([`ServerOptions::head_limits`](crate::ServerOptions::head_limits)).
    pub max_bytes: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { max_bytes: MAX_HEAD_BYTES }
    }
}

/// A whole request head. Its `Debug` shows no target and no header value.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub(crate) minor_version: u8,
    headers: Vec<(String, Vec<u8>)>,
}

impl Request {
    /// The method, as sent.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The query that is asked for, without its question mark; empty when there is none.
    pub fn query(&self) -> &str {
        self.origin_form().split_once('?').map_or("", |(_, query)| query)
    }

    /// The value of the first header of this name, letter case aside; `None` when it is no UTF-8 either.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.values(name).next().and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The values of all headers of this name, in order, without blanks at their ends.
    pub fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let named = self.headers.iter().filter(move |(own, _)| own.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.trim_ascii())
    }

    /// The path with its percent-encoding undone, without its query; of an absolute target only that part.
    pub fn path(&self) -> Vec<u8> {
        percent_decode(until_query(self.origin_form()).as_bytes()).unwrap_or_default()
    }

    /// Whether the client keeps the connection open behind the answer (RFC 9112 section 9.3).
    pub fn keeps_alive(&self) -> bool {
        self.minor_version >= 1 && !names_token(self.values("Connection"), "close")
    }

    /// How many bytes of body follow the head (RFC 9112 section 6.3).
    pub fn body(&self) -> BodyLength {
        if self.values("Transfer-Encoding").next().is_some() {
            return BodyLength::Unknown;
        }
        let lengths: Vec<_> = self.values("Content-Length").collect();
        let Some(first) = lengths.first() else { return BodyLength::Bytes(0) };
        let is_number = !first.is_empty() && first.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(first).ok().filter(|_| is_number).and_then(|text| text.parse().ok());
        let agree = lengths.iter().all(|other| other == first);
        number.filter(|_| agree).map_or(BodyLength::Unknown, BodyLength::Bytes)
    }

    /// The target from its path on: of an absolute target (`http://host/path`) only that part counts.
    pub(crate) fn origin_form(&self) -> &str {
        let authority = ["http://", "https://"].into_iter().find_map(|scheme| {
            let start = self.target.get(..scheme.len())?;
            start.eq_ignore_ascii_case(scheme).then(|| &self.target[scheme.len()..])
        });
        authority.map_or(self.target.as_str(), |rest| rest.find(['/', '?']).map_or("", |at| &rest[at..]))
    }
}

/// How long the body of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// So many bytes.
    Bytes(u64),
    /// It says so itself, or the head contradicts itself.
    Unknown,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} with {} headers)", self.method, self.headers.len())
    }
}

/// Reads a request head. Bytes behind `used` are the client's first frames, which some send at once.
///
/// # Errors
/// When it is not a request Go's server would take, or too large; the client's fault.
/// [`RequestError::response`] is the answer, then close.
pub fn request(input: &[u8], limits: HeadLimits) -> Result<Step<Request>, RequestError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let used = match head.parse(input) {
        Ok(httparse::Status::Complete(used)) if used <= limits.max_bytes => used,
        Ok(httparse::Status::Partial) if input.len() < limits.max_bytes => return Ok(Step::NeedMore),
        Ok(_) => return Err(RequestError::HeadTooLarge { limit: limits.max_bytes }),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(RequestError::TooManyHeaders { limit: MAX_HEADERS });
        }
        Err(httparse::Error::Version) => return Err(RequestError::Version),
        Err(_) if input.first() == Some(&TLS_HANDSHAKE) => {
            let problem =
                "it starts like TLS, which this inbound does not have (security: \"tls\")".to_owned();
            return Err(RequestError::Malformed { problem });
        }
        Err(error) => return Err(RequestError::Malformed { problem: error.to_string() }),
    };
    let headers = head.headers.iter().map(|header| (header.name.to_owned(), header.value.to_vec())).collect();
    let request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        target: head.path.unwrap_or_default().to_owned(),
        minor_version: head.version.unwrap_or_default(),
        headers,
    };
    check(&request)?;
    Ok(Step::Done { used, value: request })
}

/// What Go's server refuses before anybody sees the request (golang/go `net/http/server.go`).
fn check(request: &Request) -> Result<(), RequestError> {
    let hosts = request.values("Host").count();
    if hosts == 0 && request.minor_version >= 1 {
        return Err(RequestError::NoHost);
    }
    if hosts > 1 {
        return Err(RequestError::ManyHosts);
    }
    let target = request.origin_form();
    let absolute = target.len() != request.target.len();
    if !absolute && !target.starts_with('/') && target != "*" {
        return Err(RequestError::Malformed { problem: "target is no path".to_owned() });
    }
    if percent_decode(until_query(target).as_bytes()).is_none() {
        return Err(RequestError::Malformed {
            problem: "target has a % without two hex digits behind it".to_owned(),
        });
    }
    Ok(())
}

/// A target without its query.
pub(crate) fn until_query(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

/// A head that is no acceptable HTTP request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No HTTP/1 request at all: a scanner, or TLS on a plain port.
    #[error("not an HTTP/1.1 request: {problem}")]
    Malformed {
        /// What the parser says; holds nothing of the input.
        problem: String,
    },
    /// Some other version of HTTP in the request line; answered 505.
    #[error("the request is not of HTTP/1.0 or HTTP/1.1")]
    Version,
    /// HTTP/1.1 demands a Host header.
    #[error("the request has no Host header")]
    NoHost,
    /// More than one Host header.
    #[error("the request has more than one Host header")]
    ManyHosts,
    /// A head without an end; also more early data than the server takes.
    #[error("the request head is longer than {limit} bytes")]
    HeadTooLarge {
        /// The limit.
        limit: usize,
    },
    /// A head of endless headers.
    #[error("the request has more than {limit} headers")]
    TooManyHeaders {
        /// The limit.
        limit: usize,
    },
}

impl RequestError {
    /// The answer, as Go's server words it; the connection is closed behind it.
    pub fn response(&self) -> Vec<u8> {
        match self {
            Self::Malformed { .. } | Self::ManyHosts => plain_error("400 Bad Request"),
            Self::Version => plain_error("505 HTTP Version Not Supported: unsupported protocol version"),
            Self::NoHost => plain_error("400 Bad Request: missing required Host header"),
            Self::HeadTooLarge { .. } | Self::TooManyHeaders { .. } => {
                plain_error("431 Request Header Fields Too Large")
            }
        }
    }
}
