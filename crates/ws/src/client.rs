//! The client's half of the handshake: the request in V2Ray's own order and spelling, and the answer to it.

use std::num::NonZeroU32;

use data_encoding::BASE64;

use crate::{
    EarlyData, EarlyDataPlace, HeaderName, Headers, Path, RESERVED_HEADERS, early_data,
    http::{accept_key, percent_decode, percent_encode},
};

pub use crate::response::{ResponseError, Upgraded, response};

/// What Go sends unless told otherwise (golang/go `net/http/request.go`); V2Ray never tells it.
const DEFAULT_USER_AGENT: &str = "Go-http-client/1.1";

/// The header Xray's clients put early data into.
const XRAY_EARLY_DATA_HEADER: &str = "Sec-WebSocket-Protocol";

/// The most early data a request of ours carries, in bytes, whatever `maxEarlyData`: as base64 it still fits the 8 KiB
/// that nginx and Apache allow a request line or header. V2Ray never gets beyond 2048, the size of its buffers.
pub const MAX_CARRIED_EARLY_DATA: usize = 4096;

/// Headers Go writes from other sources, so that a configured value is not sent (golang/go
/// `net/http/request.go`); Host and User-Agent have their own lines.
const NOT_COPIED: [&str; 5] = ["Host", "User-Agent", "Content-Length", "Transfer-Encoding", "Trailer"];

/// Whether the WebSocket runs over TLS; it decides which port goes without saying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain, port 80.
    Ws,
    /// Over TLS, port 443.
    Wss,
}

/// The Host header of a client: `headers.Host` unless empty, else the address it dials, with the port unless that
/// is the scheme's own. `address` is a domain name or an IP address without brackets.
pub fn host_header(headers: &Headers, address: &str, port: u16, scheme: Scheme) -> String {
    if let Some(host) = headers.find("Host").filter(|host| !host.is_empty()) {
        return host.to_owned();
    }
    let (open, close) = if address.contains(':') { ("[", "]") } else { ("", "") };
    match (scheme, port) {
        (Scheme::Ws, 80) | (Scheme::Wss, 443) => format!("{open}{address}{close}"),
        _ => format!("{open}{address}{close}:{port}"),
    }
}

/// A client's options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// The path asked for, with its query if it has one. A fragment is not sent.
    pub path: Path,
    /// The value of the Host header, from [`host_header`].
    pub host: String,
    /// The configured headers; Host and an empty User-Agent have their special meanings here too.
    pub headers: Headers,
    /// Whether and how early data is sent; `None` sends none.
    pub early_data: Option<EarlyData>,
}

impl ClientOptions {
    /// Splits Xray's `?ed=N` off a path: the path without it, and what it means (header mode with
    /// `Sec-WebSocket-Protocol`). An `ed` that is 0 or no number is removed and means nothing.
    pub fn split_xray_early_data(path: &str) -> (String, Option<EarlyData>) {
        let (path, fragment) = path.split_once('#').map_or((path, None), |(path, rest)| (path, Some(rest)));
        let Some((bare, query)) = path.split_once('?') else { return (rejoin(path, "", fragment), None) };
        let value =
            query.split('&').find_map(|pair| pair.strip_prefix("ed=")).filter(|value| !value.is_empty());
        let Some(value) = value else { return (rejoin(path, "", fragment), None) };
        let kept: Vec<_> =
            query.split('&').filter(|pair| *pair != "ed" && !pair.starts_with("ed=")).collect();
        let early_data = value
            .parse::<NonZeroU32>()
            .ok()
            .zip(XRAY_EARLY_DATA_HEADER.parse::<HeaderName>().ok())
            .map(|(max_bytes, name)| EarlyData { max_bytes, place: EarlyDataPlace::Header(name) });
        (rejoin(bare, &kept.join("&"), fragment), early_data)
    }

    /// The bytes of the request head, and how many bytes of `early` it carries: the first
    /// `early_data.max_bytes` at most, and never more than [`MAX_CARRIED_EARLY_DATA`]. The rest belongs into the
    /// first message.
    ///
    /// `key` is random, new for each request.
    pub fn request(&self, key: [u8; 16], early: &[u8]) -> (Vec<u8>, usize) {
        let Asked { target, early_header, carried } = self.asked(early);
        let early_as =
            |name: &str| early_header.as_ref().filter(|(own, _)| own.is(name)).map(|(_, text)| text.as_str());
        let host = early_as("Host").unwrap_or(&self.host);
        let user_agent = early_as("User-Agent").or_else(|| self.headers.find("User-Agent"));

        let mut lines = vec![
            ("Connection".to_owned(), "Upgrade".to_owned()),
            ("Sec-WebSocket-Key".to_owned(), BASE64.encode(&key)),
            ("Sec-WebSocket-Version".to_owned(), "13".to_owned()),
            ("Upgrade".to_owned(), "websocket".to_owned()),
        ];
        for (name, value) in self.headers.iter().filter(|(name, _)| early_as(name.as_str()).is_none()) {
            push_line(&mut lines, name, value.as_str());
        }
        if let Some((name, text)) = &early_header {
            push_line(&mut lines, name, text);
        }
        lines.sort();

        let mut head = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n", without_blanks(host));
        let mut line = |name: &str, value: &str| {
            head.extend([name, ": ", value, "\r\n"]);
        };
        match user_agent.unwrap_or(DEFAULT_USER_AGENT) {
            "" => {}
            agent => line("User-Agent", agent),
        }
        for (name, value) in &lines {
            line(name, value);
        }
        head.push_str("\r\n");
        (head.into_bytes(), carried)
    }

    /// What of a request a browser lets a page choose; the rest of the head is the browser's own.
    ///
    /// In the URL a query is part of the target. Early data of another header than `Sec-WebSocket-Protocol` is not
    /// sent: there is no way to.
    pub fn in_browser(&self, early: &[u8]) -> BrowserRequest {
        let Asked { target, early_header, carried } = self.asked(early);
        match early_header {
            None => BrowserRequest { target, protocol: None, carried },
            Some((name, text)) if name.is(XRAY_EARLY_DATA_HEADER) => {
                BrowserRequest { target, protocol: Some(text), carried }
            }
            Some(_) => BrowserRequest { target, protocol: None, carried: 0 },
        }
    }

    fn asked(&self, early: &[u8]) -> Asked<'_> {
        let (early, carried) = self.encode_early(early);
        let mut target = request_target(self.path.as_str());
        let mut early_header = None;
        match (&self.early_data, early) {
            (Some(EarlyData { place: EarlyDataPlace::Path, .. }), Some(text)) => target.push_str(&text),
            (Some(EarlyData { place: EarlyDataPlace::Header(name), .. }), Some(text)) => {
                early_header = Some((name, text));
            }
            _ => {}
        }
        Asked { target, early_header, carried }
    }

    /// The early data as text, if there is any to send, and how many bytes it stands for.
    fn encode_early(&self, early: &[u8]) -> (Option<String>, usize) {
        let Some(EarlyData { max_bytes, place }) = &self.early_data else { return (None, 0) };
        let owned_by_handshake = match place {
            EarlyDataPlace::Path => false,
            EarlyDataPlace::Header(name) => RESERVED_HEADERS.iter().any(|reserved| name.is(reserved)),
        };
        let max_bytes = usize::try_from(max_bytes.get()).unwrap_or(usize::MAX);
        let carried = early.len().min(max_bytes).min(MAX_CARRIED_EARLY_DATA);
        if carried == 0 || owned_by_handshake {
            return (None, 0);
        }
        (Some(early_data::encode(&early[..carried])), carried)
    }
}

/// A request in which early data has its place.
struct Asked<'a> {
    target: String,
    early_header: Option<(&'a HeaderName, String)>,
    carried: usize,
}

/// What of a request a browser lets a page choose.
#[derive(Clone, PartialEq, Eq)]
pub struct BrowserRequest {
    /// Path and query, early data included: what follows the host in the URL.
    pub target: String,
    /// The one subprotocol to ask for, which is early data.
    pub protocol: Option<String>,
    /// How many bytes of early data the request carries.
    pub carried: usize,
}

impl std::fmt::Debug for BrowserRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BrowserRequest({} bytes of early data)", self.carried)
    }
}

/// Adds a configured header as Go spells it; gorilla/websocket `client.go` restores the one it cares about.
fn push_line(lines: &mut Vec<(String, String)>, name: &HeaderName, value: &str) {
    if NOT_COPIED.iter().any(|other| name.is(other)) {
        return;
    }
    let name = if name.is("Sec-WebSocket-Protocol") {
        "Sec-WebSocket-Protocol".to_owned()
    } else {
        name.canonical()
    };
    lines.push((name, value.to_owned()));
}

/// A host that cannot break its line.
fn without_blanks(host: &str) -> String {
    host.chars().filter(|c| !c.is_control() && !c.is_whitespace()).collect()
}

/// Puts a path together again.
fn rejoin(path: &str, query: &str, fragment: Option<&str>) -> String {
    let mut out = path.to_owned();
    for (mark, part) in [('?', Some(query).filter(|query| !query.is_empty())), ('#', fragment)] {
        if let Some(part) = part {
            out.push(mark);
            out.push_str(part);
        }
    }
    out
}

/// What stands in the request line for a configured path, as Go's URL parser and printer make it (golang/go
/// `net/url/url.go`): the fragment is dropped, the query stays, and a path that is no valid URL path is decoded and
/// encoded anew. Where Go would send a broken head or refuse to dial, the character is percent-encoded.
fn request_target(path: &str) -> String {
    let path = path.split_once('#').map_or(path, |(path, _)| path);
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let mut target = encode_path(path.as_bytes());
    if let Some(query) = query {
        target.push('?');
        for byte in query.bytes() {
            push_encoded(byte, byte.is_ascii_graphic(), &mut target);
        }
    }
    target
}

fn encode_path(path: &[u8]) -> String {
    let decoded = percent_decode(path);
    let as_is = |byte: u8| is_path_byte(byte) || b"!'()*[]%".contains(&byte);
    let mut out = String::new();
    if decoded.is_some() && path.iter().all(|&byte| as_is(byte)) {
        out.extend(path.iter().map(|&byte| char::from(byte)));
        return out;
    }
    for byte in decoded.unwrap_or_else(|| path.to_vec()) {
        push_encoded(byte, is_path_byte(byte), &mut out);
    }
    out
}

/// What Go never escapes in a path.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte)
}

fn push_encoded(byte: u8, plain: bool, out: &mut String) {
    if plain {
        out.push(char::from(byte));
    } else {
        percent_encode(byte, out);
    }
}

/// The accept value a server must answer `key` with.
pub(crate) fn expected_accept(key: [u8; 16]) -> String {
    accept_key(&BASE64.encode(&key))
}
