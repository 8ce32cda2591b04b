//! IP conditions, and a compiled set of them.
//!
//! An IPv4 address inside IPv6 (`::ffff:1.2.3.4`) is that IPv4 address, in conditions and in questions. So `::/0` is
//! every other IPv6 address.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A network: an address and how many of its first bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The network that the address is in.
    ///
    /// # Errors
    /// More bits than an address of this family has.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, CidrError> {
        let max = if address.is_ipv4() { 32 } else { 128 };
        if prefix > max {
            return Err(CidrError::Prefix { found: prefix.to_string(), max });
        }
        match address.to_canonical() {
            IpAddr::V4(inner) if address.is_ipv6() => match prefix.checked_sub(96) {
                Some(prefix) => Ok(Self { address: inner.into(), prefix }),
                None => Ok(Self { address, prefix }),
            },
            same => Ok(Self { address: same, prefix }),
        }
    }

    /// One address.
    pub fn host(address: IpAddr) -> Self {
        match address.to_canonical() {
            address @ IpAddr::V4(_) => Self { address, prefix: 32 },
            address @ IpAddr::V6(_) => Self { address, prefix: 128 },
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    /// `10.0.0.0/8`, `10.1.2.3`, `2001:db8::/32`, `[::1]`; bits behind the prefix are ignored, as V2Ray does.
    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix).filter(|prefix| !prefix.is_empty())),
            None => (text.trim(), None),
        };
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        let address: IpAddr = bare.parse().map_err(|_| CidrError::Address { found: address.to_owned() })?;
        let Some(prefix) = prefix else { return Ok(Self::host(address)) };
        let max = if address.is_ipv4() { 32 } else { 128 };
        let digits = prefix.bytes().all(|b| b.is_ascii_digit());
        let bits = prefix.parse().ok().filter(|_| digits);
        Self::new(address, bits.ok_or_else(|| CidrError::Prefix { found: prefix.to_owned(), max })?)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Why a text is no network: its writer's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CidrError {
    /// Neither IPv4 nor IPv6; a domain, perhaps.
    #[error("expected an IP address, found {found:?}")]
    Address {
        /// As written.
        found: String,
    },
    /// Not a number of bits.
    #[error("expected a number of bits from 0 to {max} behind the slash, found {found:?}")]
    Prefix {
        /// As written.
        found: String,
        /// As many bits as such an address has.
        max: u8,
    },
}

/// Addresses, as ranges in order: a question is one binary search. A range costs 8 bytes (IPv4) or 32 (IPv6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpSet {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl IpSet {
    /// The addresses that one address or more of these networks has.
    pub fn new(networks: impl IntoIterator<Item = Cidr>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for Cidr { address, prefix } in networks {
            match address {
                IpAddr::V4(address) => {
                    let host = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
                    let first = address.to_bits() & !host;
                    v4.push((first, first | host));
                }
                IpAddr::V6(address) => {
                    let host = u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
                    let first = address.to_bits() & !host;
                    v6.push((first, first | host));
                }
            }
        }
        Self { v4: Ranges::merged(v4), v6: Ranges::merged(v6) }
    }

    /// What is never on the public Internet: V2Ray's `geoip:private`, which needs no file here.
    pub fn private() -> Self {
        Self::new(PRIVATE.iter().map(|&(address, prefix)| Cidr { address, prefix }))
    }

    /// Whether the address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.contains(address.to_bits()),
            IpAddr::V6(address) => self.v6.contains(address.to_bits()),
        }
    }

    /// Every address that is not in it, of both families: what `!` means.
    #[must_use]
    pub fn complement(&self) -> Self {
        Self { v4: self.v4.complement(u32::MAX), v6: self.v6.complement(u128::MAX) }
    }

    /// The addresses of one or more of the sets.
    pub fn union<'a>(sets: impl IntoIterator<Item = &'a Self>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for set in sets {
            v4.extend(&set.v4.0);
            v6.extend(&set.v6.0);
        }
        Self { v4: Ranges::merged(v4), v6: Ranges::merged(v6) }
    }

    /// How many ranges there are, once neighbours are joined.
    pub fn range_count(&self) -> usize {
        self.v4.0.len() + self.v6.0.len()
    }

    /// Whether no address is in it.
    pub fn is_empty(&self) -> bool {
        self.range_count() == 0
    }
}

/// First and last address of each range, in order, with a gap of one address or more between two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges<T>(Box<[(T, T)]>);

/// An address as a number.
trait Number: Copy + Ord {
    const ZERO: Self;
    fn next(self) -> Option<Self>;
    fn previous(self) -> Option<Self>;
}

impl Number for u32 {
    const ZERO: Self = 0;

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn previous(self) -> Option<Self> {
        self.checked_sub(1)
    }
}

impl Number for u128 {
    const ZERO: Self = 0;

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn previous(self) -> Option<Self> {
        self.checked_sub(1)
    }
}

impl<T: Number> Ranges<T> {
    fn merged(mut ranges: Vec<(T, T)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if end.next().is_none_or(|next| first <= next) => *end = (*end).max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged.into())
    }

    fn contains(&self, number: T) -> bool {
        let behind = self.0.partition_point(|&(first, _)| first <= number);
        behind.checked_sub(1).is_some_and(|at| number <= self.0[at].1)
    }

    fn complement(&self, max: T) -> Self {
        let mut gaps = Vec::with_capacity(self.0.len() + 1);
        let mut from = Some(T::ZERO);
        for &(first, last) in &self.0 {
            if let (Some(from), Some(to)) = (from, first.previous())
                && from <= to
            {
                gaps.push((from, to));
            }
            from = last.next();
        }
        gaps.extend(from.map(|from| (from, max)));
        Self(gaps.into())
    }
}

/// Source: v2fly/geoip `plugin/special/private.go`, whose list is that of IANA's special-purpose address registries.
const PRIVATE: &[(IpAddr, u8)] = &[
    (v4(0, 0, 0, 0), 8),                     // "This network", RFC 791.
    (v4(10, 0, 0, 0), 8),                    // Private use, RFC 1918.
    (v4(100, 64, 0, 0), 10),                 // Carrier-grade NAT, RFC 6598.
    (v4(127, 0, 0, 0), 8),                   // Loopback, RFC 1122.
    (v4(169, 254, 0, 0), 16),                // Link-local, RFC 3927.
    (v4(172, 16, 0, 0), 12),                 // Private use, RFC 1918.
    (v4(192, 0, 0, 0), 24),                  // Protocol assignments, RFC 6890.
    (v4(192, 0, 2, 0), 24),                  // Documentation, RFC 5737.
    (v4(192, 88, 99, 0), 24),                // Once 6to4 relays, RFC 7526.
    (v4(192, 168, 0, 0), 16),                // Private use, RFC 1918.
    (v4(198, 18, 0, 0), 15),                 // Benchmarks, RFC 2544.
    (v4(198, 51, 100, 0), 24),               // Documentation, RFC 5737.
    (v4(203, 0, 113, 0), 24),                // Documentation, RFC 5737.
    (v4(224, 0, 0, 0), 4),                   // Multicast, RFC 5771.
    (v4(240, 0, 0, 0), 4),                   // Reserved and broadcast, RFC 1112 and 919.
    (v6([0, 0, 0, 0, 0, 0, 0, 1]), 128),     // Loopback, RFC 4291.
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0]), 7),  // Unique local, RFC 4193.
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0]), 10), // Link-local, RFC 4291.
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0]), 8),  // Multicast, RFC 4291.
];

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(s: [u16; 8]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(networks: &[&str]) -> IpSet {
        IpSet::new(networks.iter().map(|text| text.parse().unwrap()))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_hold_their_first_and_last_address_and_no_more() {
        for (network, inside, outside) in [
            ("10.1.0.0/16", ["10.1.0.0", "10.1.255.255"], ["10.0.255.255", "10.2.0.0"]),
            ("10.1.2.3/16", ["10.1.0.0", "10.1.255.255"], ["10.0.255.255", "10.2.0.0"]),
            ("1.2.3.4", ["1.2.3.4", "::ffff:1.2.3.4"], ["1.2.3.3", "1.2.3.5"]),
            ("255.255.255.255/32", ["255.255.255.255", "255.255.255.255"], ["255.255.255.254", "0.0.0.0"]),
            ("2001:db8::/32", ["2001:db8::", "2001:db8:ffff::1"], ["2001:db7:ffff::", "2001:db9::"]),
            ("[::1]", ["::1", "::1"], ["::", "::2"]),
            ("::/0", ["::", "ffff::"], ["::ffff:1.2.3.4", "1.2.3.4"]),
            ("::ffff:10.0.0.0/104", ["10.0.0.0", "::ffff:10.255.255.255"], ["11.0.0.0", "::a00:0"]),
            ("0.0.0.0/0", ["0.0.0.0", "255.255.255.255"], ["::", "::1"]),
        ] {
            let set = set(&[network]);
            for address in inside {
                assert!(set.contains(ip(address)), "{network} {address}");
                assert!(!set.complement().contains(ip(address)), "not {network} {address}");
            }
            for address in outside {
                assert!(!set.contains(ip(address)), "{network} {address}");
                assert!(set.complement().contains(ip(address)), "not {network} {address}");
            }
        }
    }

    #[test]
    fn neighbours_and_overlaps_are_one_range() {
        let joined = set(&["10.0.0.0/9", "10.128.0.0/9", "10.1.2.3", "fe80::/10", "fec0::/10"]);
        assert_eq!(joined.range_count(), 2);
        assert_eq!(set(&["10.0.0.0/9", "10.128.0.1"]).range_count(), 2);
    }

    #[test]
    fn nothing_and_everything_are_each_others_complement() {
        let everything = set(&["0.0.0.0/0", "::/0"]);
        assert_eq!(everything.complement(), IpSet::default());
        assert_eq!(IpSet::default().complement(), everything);
        assert!(IpSet::default().is_empty());
    }

    #[test]
    fn private_networks_are_known_without_a_file() {
        let private = IpSet::private();
        for inside in
            ["10.255.0.1", "127.0.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "169.254.0.1"]
        {
            assert!(private.contains(ip(inside)), "{inside}");
        }
        for inside in ["::1", "fe80::1", "fd00::1", "ff02::fb", "255.255.255.255", "::ffff:192.168.0.1"] {
            assert!(private.contains(ip(inside)), "{inside}");
        }
        for outside in ["8.8.8.8", "172.32.0.0", "192.169.0.0", "100.128.0.0", "2606:4700::1111", "::2", "::"]
        {
            assert!(!private.contains(ip(outside)), "{outside}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for (text, message) in [
            ("10.0.0.0/33", r#"expected a number of bits from 0 to 32 behind the slash, found "33""#),
            ("::/129", r#"expected a number of bits from 0 to 128 behind the slash, found "129""#),
            ("10.0.0.0/+8", r#"expected a number of bits from 0 to 32 behind the slash, found "+8""#),
            (
                "10.0.0.0/255.0.0.0",
                r#"expected a number of bits from 0 to 32 behind the slash, found "255.0.0.0""#,
            ),
            ("example.com", r#"expected an IP address, found "example.com""#),
            ("10.0.0", r#"expected an IP address, found "10.0.0""#),
            ("", r#"expected an IP address, found """#),
        ] {
            assert_eq!(text.parse::<Cidr>().unwrap_err().to_string(), message);
        }
    }
}
