//! What a client's first bytes say: the protocol and the name it asks for.
//!
//! The answer does not depend on how the bytes were cut: while they do not decide it is [`Sniffed::NeedMore`], and
//! what comes behind the bytes that decide changes nothing. A first byte that no client of these protocols sends is
//! enough for [`Sniffed::Nothing`].
//!
//! Whoever calls this limits the time: a server that speaks first is answered by a client that waits for it, so
//! nothing may be held back for long. V2Ray waits 200 ms in all (`app/dispatcher/default.go`).

mod http;
mod tls;

use crate::Attributes;
use std::net::IpAddr;

/// How much of the beginning is looked at, in bytes; a request's head or a hello larger than that counts as far as it
/// goes. nginx takes 8 KiB of head by default, ordinary hellos have 0.5 to 2 KiB.
pub const MAX_SNIFF_BYTES: usize = 16 * 1024;

/// What the bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// They do not decide yet: call again with the same bytes and more behind them.
    NeedMore,
    /// None of these.
    Nothing,
    /// An HTTP/1 request.
    Http {
        /// What its `Host` names, in lower case, without the port: a domain or an IP address. `None` if it has none,
        /// several that differ, or one that is no name.
        host: Option<String>,
        /// `:method`, `:path` and its headers.
        attributes: Attributes,
    },
    /// A TLS handshake.
    Tls {
        /// The server name (SNI) in lower case; `None` if there is none, or one that is no name.
        server_name: Option<String>,
    },
    /// A `BitTorrent` handshake over TCP.
    BitTorrent,
}

impl Sniffed {
    /// The name that a rule's `protocol` is compared with, as V2Ray has it (`common/protocol/*/sniff.go`).
    pub fn protocol(&self) -> Option<&'static str> {
        match self {
            Self::NeedMore | Self::Nothing => None,
            Self::Http { .. } => Some("http1"),
            Self::Tls { .. } => Some("tls"),
            Self::BitTorrent => Some("bittorrent"),
        }
    }

    /// The name that the client asks for.
    pub fn domain(&self) -> Option<&str> {
        match self {
            Self::Http { host: name, .. } | Self::Tls { server_name: name } => name.as_deref(),
            Self::NeedMore | Self::Nothing | Self::BitTorrent => None,
        }
    }
}

/// Whether more bytes can come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// They may.
    MayCome,
    /// The client has ended, or the time is over: the answer is what the bytes say as they are, and not
    /// [`Sniffed::NeedMore`].
    Over,
}

/// What a TCP client's first bytes are.
pub fn sniff(input: &[u8], rest: Rest) -> Sniffed {
    let (input, rest) = match input.get(..MAX_SNIFF_BYTES) {
        Some(head) => (head, Rest::Over),
        None => (input, rest),
    };
    let found = match input.first() {
        None => Sniffed::NeedMore,
        Some(&tls::HANDSHAKE) => tls::sniff(input, rest),
        Some(&BITTORRENT_LEN) => bittorrent(input),
        Some(_) => http::sniff(input, rest),
    };
    match found {
        Sniffed::NeedMore if rest == Rest::Over => Sniffed::Nothing,
        found => found,
    }
}

/// How long the protocol's name is, which comes first (BEP 3, "peer protocol").
const BITTORRENT_LEN: u8 = 19;
const BITTORRENT: &[u8] = b"\x13BitTorrent protocol";

fn bittorrent(input: &[u8]) -> Sniffed {
    if input.starts_with(BITTORRENT) {
        Sniffed::BitTorrent
    } else if BITTORRENT.starts_with(input) {
        Sniffed::NeedMore
    } else {
        Sniffed::Nothing
    }
}

/// The name in lower case, if it is a domain: letters, digits, `-`, `_` and dots, none of them in front or behind.
fn domain(name: &[u8]) -> Option<String> {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    let edges = [name.first()?, name.last()?];
    if name.len() > 255 || !name.iter().all(allowed) || edges.contains(&&b'.') {
        return None;
    }
    let name = str::from_utf8(name).ok()?.to_ascii_lowercase();
    name.parse::<IpAddr>().is_err().then_some(name)
}
