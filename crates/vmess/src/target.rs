//! Where a session goes.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

/// A domain name of 1 to 255 bytes: letters, digits, `-`, `.` and `_`, as V2Ray allows
/// (v2fly/v2ray-core `common/protocol/address.go`). A text that is an IP address is not a domain.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Domain(Box<str>);

impl Domain {
    /// The name as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// An IP address or a domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// IPv4 or IPv6.
    Ip(IpAddr),
    /// A name that the far end resolves.
    Domain(Domain),
}

impl FromStr for Address {
    type Err = AddressError;

    /// An IP address (IPv6 with or without brackets) or a domain.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse() {
            return Ok(Self::Ip(ip));
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        match text.len() {
            0 => Err(AddressError::Empty),
            1..=255 if text.bytes().all(allowed) => Ok(Self::Domain(Domain(text.into()))),
            1..=255 => Err(AddressError::Domain),
            long => Err(AddressError::TooLong { found: long }),
        }
    }
}

impl fmt::Display for Address {
    /// IPv6 stands in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Domain(domain) => f.write_str(domain.as_str()),
        }
    }
}

/// An address and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The host.
    pub address: Address,
    /// The port; 0 is possible on the wire and cannot be dialled.
    pub port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.address, self.port)
    }
}

impl From<SocketAddr> for Target {
    fn from(at: SocketAddr) -> Self {
        Self { address: Address::Ip(at.ip()), port: at.port() }
    }
}

/// The text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Nothing there.
    #[error("the address is empty")]
    Empty,
    /// Longer than VMess can carry.
    #[error("a domain has at most 255 bytes, found {found}")]
    TooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// A character that no domain has.
    #[error("a domain holds letters, digits, '-', '.' and '_' only")]
    Domain,
}
