//! Saying no to a request: the answers V2Ray gives, and what the operator is told.

use crate::{
    EarlyDataError,
    http::{names_token, printable},
    request::{Request, until_query},
};

/// A request that gets no WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The whole answer, byte for byte as V2Ray 4 gives it.
    pub response: Vec<u8>,
    /// Why, for the log.
    pub reason: RefusalReason,
}

/// Why a request was refused. Its texts are escaped and cut, hold no query and no early data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefusalReason {
    /// Not our path; answered 404.
    #[error("path \"{found}\" is not \"{wanted}\"")]
    Path {
        /// The path asked for; long parts, which may be early data, are cut.
        found: String,
        /// Ours.
        wanted: String,
    },
    /// Our path with early data behind it, but this server is not set to take any there; answered 404.
    #[error(
        "path \"{wanted}\" is followed by {extra} characters, as if it were early data: the client sends early data \
         in the path, this server does not take it there (maxEarlyData, earlyDataHeaderName)"
    )]
    UnexpectedEarlyData {
        /// Our path.
        wanted: String,
        /// How many characters follow it.
        extra: usize,
    },
    /// Our own path holds a `?`, which no request can match; answered 404.
    #[error(
        "the configured path \"{wanted}\" holds a \"?\": no request can match it; write the path without the query"
    )]
    Unmatchable {
        /// Our path.
        wanted: String,
    },
    /// `Upgrade: websocket` is not there; answered 400.
    #[error(
        "header Upgrade is {}: {}",
        shown_header(found.as_deref()),
        "the front end does not forward it (nginx: proxy_http_version 1.1, proxy_set_header Upgrade $http_upgrade), \
         or this is no WebSocket client"
    )]
    Upgrade {
        /// What it says instead.
        found: Option<String>,
    },
    /// `Connection: Upgrade` is not there; answered 400.
    #[error(
        "header Connection is {} and does not name upgrade: {}",
        shown_header(found.as_deref()),
        "the front end does not forward it (nginx: proxy_set_header Connection \"upgrade\"), or this is no \
         WebSocket client"
    )]
    Connection {
        /// What it says instead.
        found: Option<String>,
    },
    /// Not GET; answered 405.
    #[error("method {found} instead of GET")]
    Method {
        /// The method.
        found: String,
    },
    /// A `Sec-WebSocket-Version` other than 13; answered 400.
    #[error("header Sec-WebSocket-Version is {} instead of 13", shown_header(found.as_deref()))]
    Version {
        /// What it says instead.
        found: Option<String>,
    },
    /// No `Sec-WebSocket-Key`; answered 400.
    #[error("header Sec-WebSocket-Key is missing")]
    Key,
    /// Early data that cannot be used; answered 400.
    #[error("early data in {place}: {problem}")]
    EarlyData {
        /// `the path`, or the header's name.
        place: String,
        /// What is wrong.
        problem: EarlyDataError,
    },
}

impl RefusalReason {
    /// The status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::Path { .. } | Self::UnexpectedEarlyData { .. } | Self::Unmatchable { .. } => 404,
            Self::Method { .. } => 405,
            _ => 400,
        }
    }

    /// Whether a web server would have a page for this: it is no attempt at a tunnel that went wrong in its early
    /// data.
    pub fn is_a_visit(&self) -> bool {
        !matches!(self, Self::EarlyData { .. })
    }

    /// The refusal with its answer; `date` is the value of the Date header.
    pub(crate) fn answer(self, request: &Request, date: &str) -> Refusal {
        let minor = request.minor_version;
        let is_head = request.method() == "HEAD";
        let asks_to_close = names_token(request.values("Connection"), "close");
        let close = if minor >= 1 && asks_to_close { "Connection: close\r\n" } else { "" };
        let (status, body) = match self.status() {
            404 => {
                let length = if is_head { "" } else { "Content-Length: 0\r\n" };
                let response = format!("HTTP/1.{minor} 404 Not Found\r\nDate: {date}\r\n{length}{close}\r\n");
                return Refusal { response: response.into_bytes(), reason: self };
            }
            405 => ("405", "Method Not Allowed\n"),
            _ => ("400", "Bad Request\n"),
        };
        // gorilla/websocket `server.go` returnError, golang/go `net/http` Error.
        let mut response = format!(
            "HTTP/1.{minor} {status} {}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Sec-Websocket-Version: 13\r\nX-Content-Type-Options: nosniff\r\nDate: {date}\r\n\
             Content-Length: {}\r\n{close}\r\n",
            body.trim_end(),
            body.len(),
        );
        if !is_head {
            response.push_str(body);
        }
        Refusal { response: response.into_bytes(), reason: self }
    }
}

/// How Go's server answers what it cannot read (golang/go `net/http/server.go`).
pub(crate) fn plain_error(status: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n{status}"
    )
    .into_bytes()
}

/// A header as a message shows it.
fn shown_header(found: Option<&str>) -> String {
    found.map_or_else(|| "missing".to_owned(), |found| format!("\"{found}\""))
}

/// A target as a message shows it: without its query, long segments (which may be early data) cut after a few
/// characters, escaped.
pub(crate) fn shown_path(target: &str) -> String {
    const MAX_SEGMENT_CHARS: usize = 24;
    const KEPT_CHARS: usize = 8;
    const MAX_SHOWN_CHARS: usize = 120;
    let segments = until_query(target).split('/').map(|segment| match segment.chars().count() {
        0..=MAX_SEGMENT_CHARS => segment.to_owned(),
        count => {
            let kept: String = segment.chars().take(KEPT_CHARS).collect();
            format!("{kept}…({} more)", count - KEPT_CHARS)
        }
    });
    // The marks of our own are not to be escaped: cut first, then make each part printable.
    let parts: Vec<_> = segments.collect();
    shown(&parts.join("/"), MAX_SHOWN_CHARS)
}

/// [`printable`], but our own `…` stays.
fn shown(text: &str, max_chars: usize) -> String {
    let parts: Vec<_> = text.split('…').map(|part| printable(part.as_bytes(), max_chars)).collect();
    parts.join("…").chars().take(2 * max_chars).collect()
}
