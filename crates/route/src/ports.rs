//! Lists of ports and of networks, as rules write them.

use std::str::FromStr;

/// Ports, as ranges in order: `80,443,1000-2000`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet(Box<[(u16, u16)]>);

impl PortSet {
    /// The ports from the first to the last of each pair, both included.
    pub fn new(ranges: impl IntoIterator<Item = (u16, u16)>) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().filter(|(first, last)| first <= last).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged.into())
    }

    /// Whether the port is in it.
    pub fn contains(&self, port: u16) -> bool {
        let behind = self.0.partition_point(|&(first, _)| first <= port);
        behind.checked_sub(1).is_some_and(|at| port <= self.0[at].1)
    }
}

impl From<u16> for PortSet {
    fn from(port: u16) -> Self {
        Self::new([(port, port)])
    }
}

impl FromStr for PortSet {
    type Err = PortError;

    /// Ports and ranges between commas; spaces and empty parts do not matter, as in V2Ray
    /// (`infra/conf/cfgcommon/common.go`). V2Ray takes a range of which the end is before the beginning and then
    /// matches nothing with it; it is refused here, as is a list without any port.
    fn from_str(text: &str) -> Result<Self, PortError> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let ranges: Vec<(u16, u16)> = parts.map(range).collect::<Result<_, _>>()?;
        if ranges.is_empty() {
            return Err(PortError { found: text.to_owned() });
        }
        Ok(Self::new(ranges))
    }
}

fn range(part: &str) -> Result<(u16, u16), PortError> {
    let error = || PortError { found: part.to_owned() };
    let port = |text: &str| {
        let text = text.trim();
        text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit())).ok_or_else(error)
    };
    let (first, last) = match part.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(part)?, port(part)?),
    };
    if first <= last { Ok((first, last)) } else { Err(error()) }
}

/// Why a text is no list of ports: its writer's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected ports (0 to 65535) and ranges like \"80,443,1000-2000\", found {found:?}")]
pub struct PortError {
    /// The part that is not understood.
    pub found: String,
}

/// What a session runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Either network, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Networks {
    /// One only.
    Only(Network),
    /// No restriction, but a condition: V2Ray's `tcp,udp`, which rules for everything have.
    Both,
}

impl Networks {
    /// Whether it is one of them.
    pub fn contains(self, network: Network) -> bool {
        match self {
            Self::Only(only) => only == network,
            Self::Both => true,
        }
    }

    /// Those that are named; `None` if none is.
    pub fn of(networks: impl IntoIterator<Item = Network>) -> Option<Self> {
        networks.into_iter().fold(None, |so_far, network| match so_far {
            None => Some(Self::Only(network)),
            Some(Self::Only(same)) if same == network => so_far,
            Some(_) => Some(Self::Both),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_listed_singly_and_in_ranges() {
        let set: PortSet = "443, 80,,1000-2000,2001,1500-1600".parse().unwrap();
        for (port, expected) in
            [(80, true), (81, false), (443, true), (999, false), (1000, true), (2001, true), (2002, false)]
        {
            assert_eq!(set.contains(port), expected, "{port}");
        }
        assert_eq!(set, PortSet::new([(1000, 2001), (80, 80), (443, 443)]));
        let all: PortSet = "0-65535,65535".parse().unwrap();
        assert!(all.contains(0) && all.contains(65535));
        assert!(PortSet::from(7).contains(7) && !PortSet::from(7).contains(8));
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in ["", ",", "65536", "-1", "+1", "2-1", "1-", "http", "1-2-3", "1;2"] {
            assert!(text.parse::<PortSet>().is_err(), "{text}");
        }
    }

    #[test]
    fn networks_add_up() {
        use Network::{Tcp, Udp};
        assert_eq!(Networks::of([]), None);
        assert_eq!(Networks::of([Tcp, Tcp]), Some(Networks::Only(Tcp)));
        assert_eq!(Networks::of([Tcp, Udp]), Some(Networks::Both));
        assert!(!Networks::Only(Tcp).contains(Udp) && Networks::Both.contains(Udp));
    }
}
