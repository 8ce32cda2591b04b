//! SOCKS 4, 4a and 5 as bytes: what a client says and what it is answered, for either end. Pure; nothing is taken before
//! the whole message is there, and every message is bounded by its own length bytes.
//!
//! Sources: RFC 1928 (SOCKS 5), RFC 1929 (user and password), the SOCKS4 and SOCKS4A notes of
//! Ying-Da Lee and David Koblas.

use std::net::{IpAddr, Ipv4Addr};

use wsray_vmess::{Address, Target};
use wsray_ws::Step;

use crate::session::Credentials;

pub mod client;
mod reply;
#[cfg(test)]
mod tests;

pub use reply::{
    AuthOutcome, Reply, SOCKS4_GRANTED, SOCKS4_REJECTED, SOCKS5_CONNECT_ACCEPTED, auth_reply, method_reply,
    reply,
};

/// The longest user id or name in a SOCKS 4 request; the notes set none.
pub const MAX_SOCKS4_TEXT_BYTES: usize = 255;

const VERSION_4: u8 = 4;
const VERSION_5: u8 = 5;
/// The version of the user and password exchange. Source: RFC 1929, section 2.
const AUTH_VERSION: u8 = 1;
const ADDRESS_IPV4: u8 = 1;
const ADDRESS_DOMAIN: u8 = 3;
const ADDRESS_IPV6: u8 = 4;

/// The first message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// SOCKS 4 or 4a: the request at once.
    Socks4(Request),
    /// SOCKS 5: how the client can say who it is.
    Socks5(Methods),
}

/// The ways of authentication that a SOCKS 5 client offers, among those we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Methods {
    no_auth: bool,
    password: bool,
}

/// A way of authentication. Source: RFC 1928, section 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// None: the request follows.
    NoAuth,
    /// User and password (RFC 1929) come before the request.
    Password,
}

impl Methods {
    /// Whether the client offers this one. Who has accounts must insist on [`Method::Password`]; who
    /// has none must not, since most clients offer both.
    pub fn offer(self, method: Method) -> bool {
        match method {
            Method::NoAuth => self.no_auth,
            Method::Password => self.password,
        }
    }
}

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is to be done.
    pub command: Command,
    /// Where to; for [`Command::UdpAssociate`] where the client says it will send from, often zeros.
    pub target: Target,
}

/// What is to be done with the target. Source: RFC 1928, section 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// A TCP connection to the target.
    Connect,
    /// Waiting for a TCP connection from it; nobody serves this, answer [`Reply::CommandNotSupported`].
    Bind,
    /// Datagrams.
    UdpAssociate,
}

/// One datagram of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Where to.
    pub target: Target,
    /// What.
    pub payload: &'a [u8],
}

/// The client's fault: close the connection, after [`SocksError::answer`] if there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SocksError {
    /// No SOCKS at all.
    #[error("expected SOCKS version 4 or 5, found {found:#04x}{}", hint_of(*found))]
    Version {
        /// The first byte.
        found: u8,
    },
    /// Another version in a request after a SOCKS 5 greeting.
    #[error("expected version 5 in a SOCKS request, found {found}")]
    RequestVersion {
        /// The version found.
        found: u8,
    },
    /// Another version of the password exchange.
    #[error("expected version 1 of the password exchange, found {found}")]
    AuthVersion {
        /// The version found.
        found: u8,
    },
    /// A command outside the RFC.
    #[error("unknown SOCKS {version} command {found}")]
    Command {
        /// 4 or 5.
        version: u8,
        /// The command found.
        found: u8,
    },
    /// An address type outside the RFC.
    #[error("unknown SOCKS address type {found}")]
    AddressType {
        /// The type found.
        found: u8,
    },
    /// A domain that cannot be one. Its text is not repeated.
    #[error("bad domain in a SOCKS {version} message")]
    Domain {
        /// 4 or 5.
        version: u8,
    },
    /// A user id or domain in a SOCKS 4 request without an end.
    #[error("a text in a SOCKS 4 request has at most {MAX_SOCKS4_TEXT_BYTES} bytes")]
    TextTooLong,
    /// A datagram in pieces, which the RFC lets us refuse: drop it.
    #[error("fragment {found} of a SOCKS datagram: fragments are not supported")]
    Fragment {
        /// The fragment number.
        found: u8,
    },
    /// A datagram that ends inside its header: drop it.
    #[error("a SOCKS datagram of {found} bytes ends inside its header")]
    ShortDatagram {
        /// Its length in bytes.
        found: usize,
    },
}

impl SocksError {
    /// What the client is told before the connection is closed; `None` where no answer fits.
    pub fn answer(&self) -> Option<Vec<u8>> {
        match self {
            Self::Command { version: VERSION_5, .. } => Some(reply(Reply::CommandNotSupported, None)),
            Self::AddressType { .. } => Some(reply(Reply::AddressTypeNotSupported, None)),
            Self::Domain { version: VERSION_5 } => Some(reply(Reply::GeneralFailure, None)),
            Self::AuthVersion { .. } => Some(auth_reply(AuthOutcome::Refused).to_vec()),
            Self::Command { .. } | Self::Domain { .. } | Self::TextTooLong => Some(SOCKS4_REJECTED.to_vec()),
            _ => None,
        }
    }
}

fn hint_of(found: u8) -> &'static str {
    match found {
        0x16 => ", a TLS handshake",
        b'A'..=b'Z' => ", perhaps an HTTP request for an http inbound",
        _ => "",
    }
}

/// Reads what a client says first.
///
/// # Errors
/// The client speaks something else, or a SOCKS 4 request is bad.
pub fn read_greeting(input: &[u8]) -> Result<Step<Greeting>, SocksError> {
    read(input, |cursor| match cursor.byte()? {
        VERSION_4 => Ok(Greeting::Socks4(read_socks4(cursor)?)),
        VERSION_5 => {
            let offered = cursor.counted_bytes()?;
            let (no_auth, password) = (offered.contains(&0), offered.contains(&2));
            Ok(Greeting::Socks5(Methods { no_auth, password }))
        }
        found => Err(SocksError::Version { found }.into()),
    })
}

/// Reads user and password of a SOCKS 5 client that was told [`Method::Password`].
///
/// # Errors
/// The client speaks another version of the exchange.
pub fn read_auth(input: &[u8]) -> Result<Step<Credentials>, SocksError> {
    read(input, |cursor| match cursor.byte()? {
        AUTH_VERSION => {
            let user = cursor.counted_bytes()?.to_vec();
            let password = cursor.counted_bytes()?.to_vec();
            Ok(Credentials { user, password })
        }
        found => Err(SocksError::AuthVersion { found }.into()),
    })
}

/// Reads the request of a SOCKS 5 client.
///
/// # Errors
/// An unknown version, command or address type, or a domain that cannot be one.
pub fn read_request(input: &[u8]) -> Result<Step<Request>, SocksError> {
    read(input, |cursor| {
        let version = cursor.byte()?;
        if version != VERSION_5 {
            return Err(SocksError::RequestVersion { found: version }.into());
        }
        let command = match cursor.byte()? {
            1 => Command::Connect,
            2 => Command::Bind,
            3 => Command::UdpAssociate,
            found => return Err(SocksError::Command { version, found }.into()),
        };
        let _reserved = cursor.byte()?;
        Ok(Request { command, target: read_target(cursor)? })
    })
}

/// Reads one datagram that a client sent to its UDP association. Source: RFC 1928, section 7.
///
/// # Errors
/// A fragment, a datagram that is too short, or a bad address: drop the datagram.
pub fn read_datagram(input: &[u8]) -> Result<Datagram<'_>, SocksError> {
    let header = read(input, |cursor| {
        let [_, _, fragment] = cursor.array()?;
        match fragment {
            0 => read_target(cursor),
            found => Err(SocksError::Fragment { found }.into()),
        }
    })?;
    match header {
        Step::NeedMore => Err(SocksError::ShortDatagram { found: input.len() }),
        Step::Done { used, value } => {
            Ok(Datagram { target: value, payload: input.get(used..).unwrap_or_default() })
        }
    }
}

fn read_socks4(cursor: &mut Cursor<'_>) -> Result<Request, Stop> {
    let command = match cursor.byte()? {
        1 => Command::Connect,
        2 => Command::Bind,
        found => return Err(SocksError::Command { version: VERSION_4, found }.into()),
    };
    let port = u16::from_be_bytes(cursor.array()?);
    let ip: [u8; 4] = cursor.array()?;
    let _user_id = cursor.text()?;
    // SOCKS4A: an address 0.0.0.x that is not all zeros announces a domain.
    let address = match ip {
        [0, 0, 0, 1..=255] => parse_domain(cursor.text()?, VERSION_4)?,
        ip => Address::Ip(Ipv4Addr::from(ip).into()),
    };
    Ok(Request { command, target: Target { address, port } })
}

fn read_target(cursor: &mut Cursor<'_>) -> Result<Target, Stop> {
    let address = match cursor.byte()? {
        ADDRESS_IPV4 => Address::Ip(IpAddr::from(cursor.array::<4>()?)),
        ADDRESS_IPV6 => Address::Ip(IpAddr::from(cursor.array::<16>()?)),
        ADDRESS_DOMAIN => parse_domain(cursor.counted_bytes()?, VERSION_5)?,
        found => return Err(SocksError::AddressType { found }.into()),
    };
    Ok(Target { address, port: u16::from_be_bytes(cursor.array()?) })
}

/// An IP address sent as text is taken as one, which V2Ray does too.
fn parse_domain(text: &[u8], version: u8) -> Result<Address, SocksError> {
    let text = str::from_utf8(text).ok();
    text.and_then(|text| text.parse().ok()).ok_or(SocksError::Domain { version })
}

/// Puts the header of a datagram from `source` in front: `out` is emptied and gets the header; the
/// payload goes behind. Source: RFC 1928, section 7.
pub fn write_datagram_header(source: &Target, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&[0, 0, 0]);
    reply::write_target(source, out);
}

/// Why reading a message stopped.
enum Stop {
    NeedMore,
    Failed(SocksError),
}

impl From<SocksError> for Stop {
    fn from(error: SocksError) -> Self {
        Self::Failed(error)
    }
}

fn read<'a, T>(
    input: &'a [u8],
    body: impl FnOnce(&mut Cursor<'a>) -> Result<T, Stop>,
) -> Result<Step<T>, SocksError> {
    let mut cursor = Cursor { rest: input };
    match body(&mut cursor) {
        Ok(value) => Ok(Step::Done { used: input.len() - cursor.rest.len(), value }),
        Err(Stop::NeedMore) => Ok(Step::NeedMore),
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// What is left of the input.
#[derive(Clone)]
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Stop::NeedMore)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        self.array().map(|[byte]| byte)
    }

    /// The bytes behind a byte that counts them.
    fn counted_bytes(&mut self) -> Result<&'a [u8], Stop> {
        let count = self.byte()?;
        let (taken, rest) = self.rest.split_at_checked(count.into()).ok_or(Stop::NeedMore)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The bytes up to a zero byte.
    fn text(&mut self) -> Result<&'a [u8], Stop> {
        let window = self.rest.get(..=MAX_SOCKS4_TEXT_BYTES).unwrap_or(self.rest);
        let Some(end) = window.iter().position(|&byte| byte == 0) else {
            let is_full = window.len() > MAX_SOCKS4_TEXT_BYTES;
            return Err(if is_full { SocksError::TextTooLong.into() } else { Stop::NeedMore });
        };
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest.get(1..).unwrap_or_default();
        Ok(taken)
    }
}

/// What holds for any input; called by unit tests and by the fuzz target.
#[doc(hidden)]
pub mod invariants {
    use std::fmt::Debug;

    use super::{Step, client, read_auth, read_datagram, read_greeting, read_request, write_datagram_header};
    use crate::session::Credentials;

    /// Reads `input` as each of the messages, whole and cut anywhere: no panic, `used` within bounds, and
    /// a prefix gives either "need more" or what the whole gives. A datagram's header written again reads
    /// the same.
    ///
    /// # Panics
    /// Where one of these does not hold.
    pub fn check(input: &[u8]) {
        check_splits(input, read_greeting);
        check_splits(input, read_auth);
        check_splits(input, read_request);
        if let Ok(datagram) = read_datagram(input) {
            let mut again = Vec::new();
            write_datagram_header(&datagram.target, &mut again);
            again.extend_from_slice(datagram.payload);
            assert_eq!(read_datagram(&again), Ok(datagram));
        }
    }

    /// The same for what a proxy answers.
    ///
    /// # Panics
    /// Where it does not hold.
    pub fn check_answers(input: &[u8]) {
        let ann = Credentials { user: b"Aladdin".to_vec(), password: b"open sesame".to_vec() };
        check_splits(input, |input| client::read_method(input, None));
        check_splits(input, |input| client::read_method(input, Some(&ann)));
        check_splits(input, client::read_password_answer);
        check_splits(input, client::read_answer);
        check_splits(input, client::read_answer4);
    }

    fn check_splits<T, E>(input: &[u8], read: impl Fn(&[u8]) -> Result<Step<T>, E>)
    where
        T: PartialEq + Debug,
        E: PartialEq + Debug,
    {
        let whole = read(input);
        if let Ok(Step::Done { used, .. }) = whole {
            assert!(used <= input.len(), "takes more than there is");
        }
        for cut in 0..input.len().min(1024) {
            let part = read(&input[..cut]);
            assert!(part == Ok(Step::NeedMore) || part == whole, "a prefix of {cut} bytes reads differently");
        }
    }
}
