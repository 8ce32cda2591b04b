//! Who the client is, by the words of a front end: `X-Forwarded-For`, `X-Real-IP`, `CF-Connecting-IP`. Pure.
//!
//! Anybody can send such headers, so they count only from a peer that is trusted. `X-Forwarded-For` is a list to
//! which every front end adds whom it got the request from, so it is read from the right: what stands left of the
//! first address that is not trusted was written by a stranger. The two others hold one address; they are asked only
//! where there is no `X-Forwarded-For`, which most front ends set and which a client cannot shorten.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use wsray_route::{Cidr, IpSet};

/// Whose word is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Nobody's: the headers are not looked at.
    Nobody,
    /// Of peers with these addresses.
    Peers(IpSet),
}

/// What a request says about its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing, or nobody is trusted.
    Nothing,
    /// A trusted peer names this client; the port is 0 where it names none.
    Client(SocketAddr),
    /// A peer that is not trusted names somebody in this header: not believed.
    Stranger(&'static str),
    /// A trusted peer says something in this header that is no address.
    Malformed(&'static str),
}

/// The list that every front end extends.
const LIST: &str = "X-Forwarded-For";

/// Headers with one address, the more usual first.
const SINGLE: [&str; 2] = ["X-Real-IP", "CF-Connecting-IP"];

/// More elements than this are no chain of front ends.
const MAX_HOPS: usize = 32;

/// The longest way to write an address: `[`, IPv6 with IPv4 inside (RFC 4291 section 2.2), `]:65535`.
const MAX_ADDRESS_BYTES: usize = 45 + 8;

impl Trust {
    /// This machine and `networks`.
    pub fn this_machine_and(networks: impl IntoIterator<Item = Cidr>) -> Self {
        let loopback = [(IpAddr::from([127, 0, 0, 0]), 8), (IpAddr::from(Ipv6Addr::LOCALHOST), 128)];
        let loopback = loopback.into_iter().filter_map(|(address, prefix)| Cidr::new(address, prefix).ok());
        Self::Peers(IpSet::new(loopback.chain(networks)))
    }

    /// What a request from `peer` says; `values` gives the values of all headers of a name, in order.
    pub fn told<'a>(&self, peer: IpAddr, values: impl Fn(&'static str) -> Vec<&'a [u8]>) -> Told {
        let Self::Peers(trusted) = self else { return Told::Nothing };
        let said = |name: &'static str| {
            Some((name, values(name)))
                .filter(|(_, lines)| lines.iter().any(|line| !line.trim_ascii().is_empty()))
        };
        let Some((name, lines)) = [LIST, SINGLE[0], SINGLE[1]].into_iter().find_map(said) else {
            return Told::Nothing;
        };
        if !trusted.contains(peer) {
            return Told::Stranger(name);
        }
        let client = match (name, &lines[..]) {
            (LIST, lines) => last_stranger(trusted, lines),
            (_, [line]) => address(line),
            _ => None,
        };
        client.map_or(Told::Malformed(name), Told::Client)
    }
}

/// The right-most address that is not trusted; if all are, or what stands left of them is no address, the left-most
/// of those that are.
fn last_stranger(trusted: &IpSet, lines: &[&[u8]]) -> Option<SocketAddr> {
    let mut client = None;
    let elements = lines.iter().rev().flat_map(|line| line.rsplit(|&byte| byte == b','));
    for (hop, element) in elements.enumerate() {
        if hop == MAX_HOPS {
            return None;
        }
        // A list may have empty elements (RFC 9110 section 5.6.1.2).
        if element.trim_ascii().is_empty() {
            continue;
        }
        let Some(address) = address(element) else { break };
        client = Some(address);
        if !trusted.contains(address.ip()) {
            break;
        }
    }
    client
}

/// `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:443`.
fn address(element: &[u8]) -> Option<SocketAddr> {
    let element = element.trim_ascii();
    let text = std::str::from_utf8(element).ok().filter(|text| text.len() <= MAX_ADDRESS_BYTES)?;
    let bare = || text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let (ip, port) = if let Ok(ip) = text.parse::<IpAddr>() {
        (ip, 0)
    } else if let Some(ip) = bare().and_then(|inner| inner.parse::<Ipv6Addr>().ok()) {
        (ip.into(), 0)
    } else {
        match text.parse::<SocketAddr>().ok()? {
            // A zone means something on the front end's machine only.
            SocketAddr::V6(v6)
                if v6 != SocketAddrV6::new(*v6.ip(), v6.port(), 0, 0) || text.contains('%') =>
            {
                return None;
            }
            socket => (socket.ip(), socket.port()),
        }
    };
    let ip = ip.to_canonical();
    let is_somebody = !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST);
    is_somebody.then(|| SocketAddr::new(ip, port))
}

/// What must hold for any headers; tests and the fuzz targets call it.
pub mod invariants {
    use super::{LIST, SINGLE, Told, Trust};
    use std::net::IpAddr;

    /// Each line is a header's value, and its first byte says which header and which peer it is: a stranger is never believed,
    /// and nobody is taken for a client who cannot be one.
    ///
    /// # Panics
    /// Where this does not hold.
    pub fn only_somebody_is_told(input: &[u8]) {
        const NAMES: [&str; 3] = [LIST, SINGLE[0], SINGLE[1]];
        let lines: Vec<(u8, &[u8])> = input
            .split(|&byte| byte == b'\n')
            .filter_map(<[u8]>::split_first)
            .map(|(n, v)| (*n, v))
            .collect();
        let values = |name: &str| -> Vec<&[u8]> {
            lines.iter().filter(|(n, _)| NAMES[usize::from(*n) % 3] == name).map(|(_, v)| *v).collect()
        };
        let near = ["10.0.0.0/8".parse(), "fd00::/8".parse()].into_iter().flatten();
        let trust = Trust::this_machine_and(near);
        let stranger = trust.told(IpAddr::from([203, 0, 113, 1]), values);
        assert!(matches!(stranger, Told::Nothing | Told::Stranger(_)), "{stranger:?}");
        assert_eq!(Trust::Nobody.told(IpAddr::from([127, 0, 0, 1]), values), Told::Nothing);
        if let Told::Client(client) = trust.told(IpAddr::from([127, 0, 0, 1]), values) {
            let ip = client.ip();
            assert!(!ip.is_unspecified() && !ip.is_multicast(), "{ip}");
            assert_eq!(ip, ip.to_canonical());
            assert_eq!(client.to_string().parse(), Ok(client), "a zone");
        }
    }
}

#[cfg(test)]
mod tests;
