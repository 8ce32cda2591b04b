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

/// How an address is marked on the wire (v2fly/v2ray-core `proxy/vmess/encoding/encoding.go`).
const IPV4: u8 = 1;
const DOMAIN: u8 = 2;
const IPV6: u8 = 3;

impl Target {
    /// Appends the wire form: port, kind, address.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.port.to_be_bytes());
        match &self.address {
            Address::Ip(IpAddr::V4(ip)) => {
                out.push(IPV4);
                out.extend_from_slice(&ip.octets());
            }
            Address::Ip(IpAddr::V6(ip)) => {
                out.push(IPV6);
                out.extend_from_slice(&ip.octets());
            }
            Address::Domain(domain) => {
                // A `Domain` has at most 255 bytes.
                let name = domain.as_str().as_bytes();
                out.extend([DOMAIN, name.len().try_into().unwrap_or(u8::MAX)]);
                out.extend_from_slice(name);
            }
        }
    }

    /// Reads the wire form from the start of `input`; also how many bytes it took. An IPv4 address written
    /// as IPv6 becomes IPv4, and a domain that is an IP address becomes that, as in V2Ray.
    pub(crate) fn decode(input: &[u8]) -> Result<(Self, usize), TargetError> {
        let (&[high, low, kind], rest) = input.split_first_chunk().ok_or(TargetError::Short)?;
        let port = u16::from_be_bytes([high, low]);
        let (address, used) = match kind {
            IPV4 => {
                let octets: &[u8; 4] = rest.first_chunk().ok_or(TargetError::Short)?;
                (Address::Ip(IpAddr::from(*octets)), 4)
            }
            IPV6 => {
                let octets: &[u8; 16] = rest.first_chunk().ok_or(TargetError::Short)?;
                (Address::Ip(IpAddr::from(*octets).to_canonical()), 16)
            }
            DOMAIN => {
                let (&len, rest) = rest.split_first().ok_or(TargetError::Short)?;
                let name = rest.get(..usize::from(len)).ok_or(TargetError::Short)?;
                let name = std::str::from_utf8(name).map_err(|_| AddressError::Domain)?;
                (name.parse()?, 1 + usize::from(len))
            }
            found => return Err(TargetError::Kind { found }),
        };
        Ok((Self { address, port }, 3 + used))
    }
}

/// The bytes are no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// They end before the target does.
    #[error("the target is cut off")]
    Short,
    /// Neither IPv4, IPv6 nor a domain.
    #[error("address kind {found} is none of 1 (IPv4), 2 (domain) and 3 (IPv6)")]
    Kind {
        /// The byte found.
        found: u8,
    },
    /// The domain is none.
    #[error(transparent)]
    Address(#[from] AddressError),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{bytes, number, text, vectors};

    fn decode(wire: &[u8]) -> Result<String, TargetError> {
        Target::decode(wire).map(|(target, used)| {
            assert_eq!(used, wire.len());
            target.to_string()
        })
    }

    #[test]
    fn targets_are_the_vectors() {
        for case in vectors("headers")["address"].as_array().unwrap() {
            let target =
                Target { address: text(&case["host"]).parse().unwrap(), port: number(&case["port"]) };
            let wire = bytes(&case["bytes"]);
            let mut out = Vec::new();
            target.encode(&mut out);
            assert_eq!(out, wire);
            assert_eq!(Target::decode(&wire), Ok((target, wire.len())));
            for cut in 0..wire.len() {
                assert_eq!(Target::decode(&wire[..cut]), Err(TargetError::Short), "{case} {cut}");
            }
        }
    }

    #[test]
    fn what_is_an_ip_address_is_read_as_one() {
        assert_eq!(decode(b"\0\x50\x02\x09127.0.0.1").unwrap(), "127.0.0.1:80");
        assert_eq!(decode(b"\0\x50\x02\x05[::1]").unwrap(), "[::1]:80");
        assert_eq!(decode(b"\0\x50\x03\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\x01").unwrap(), "10.0.0.1:80");
    }

    #[test]
    fn what_is_no_target_is_refused() {
        assert_eq!(decode(b"\0\x50\x02\0"), Err(TargetError::Address(AddressError::Empty)));
        assert_eq!(decode(b"\0\x50\x02\x03a b"), Err(TargetError::Address(AddressError::Domain)));
        assert_eq!(decode(b"\0\x50\x02\x02\xff\xfe"), Err(TargetError::Address(AddressError::Domain)));
        for found in [0, 4, 255] {
            assert_eq!(decode(&[0, 80, found, 1]), Err(TargetError::Kind { found }));
        }
    }
}
