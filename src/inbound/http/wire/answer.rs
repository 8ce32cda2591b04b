//! What an HTTP client is answered.

use std::fmt::Write as _;

/// The answer to a `CONNECT` that is served, sent before the target is dialled.
pub const CONNECTION_ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// A refusal. Source: RFC 9110, section 15; RFC 6585 for 431.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 400.
    BadRequest,
    /// 403: the rules do not allow the target.
    Forbidden,
    /// 407: accounts are configured, and none of them was named.
    ProxyAuthenticationRequired,
    /// 431.
    HeadTooLarge,
    /// 501.
    NotImplemented,
    /// 502: the target could not be reached.
    BadGateway,
    /// 503: no outbound can serve this now.
    ServiceUnavailable,
    /// 504: the target did not answer in time.
    GatewayTimeout,
}

impl Status {
    /// The number.
    pub fn code(self) -> u16 {
        self.parts().0
    }

    fn parts(self) -> (u16, &'static str) {
        match self {
            Self::BadRequest => (400, "Bad Request"),
            Self::Forbidden => (403, "Forbidden"),
            Self::ProxyAuthenticationRequired => (407, "Proxy Authentication Required"),
            Self::HeadTooLarge => (431, "Request Header Fields Too Large"),
            Self::NotImplemented => (501, "Not Implemented"),
            Self::BadGateway => (502, "Bad Gateway"),
            Self::ServiceUnavailable => (503, "Service Unavailable"),
            Self::GatewayTimeout => (504, "Gateway Timeout"),
        }
    }
}

/// A whole refusal with `text` as its body, after which the connection is closed.
pub fn answer(status: Status, text: &str) -> Vec<u8> {
    let (code, phrase) = status.parts();
    let mut out = format!("HTTP/1.1 {code} {phrase}\r\n");
    if status == Status::ProxyAuthenticationRequired {
        out.push_str("Proxy-Authenticate: Basic realm=\"proxy\"\r\n");
    }
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}\n",
        text.len() + 1
    );
    out.into_bytes()
}
