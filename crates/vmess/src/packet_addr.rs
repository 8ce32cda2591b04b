//! packetaddr: packets to and from many targets in one UDP session, each behind an address.
//!
//! The session's target is [`PACKET_ADDR_NAME`]; a packet is `kind(1) || ip || port(2) || payload`, either way. Kinds and
//! order are not those of a request's target (v2fly/v2ray-core 5 `common/net/packetaddr/packetaddr.go`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{Address, Target};

/// The target that stands for many.
pub const PACKET_ADDR_NAME: &str = "sp.packet-addr.v2fly.arpa";

/// The most bytes that an address takes.
pub const MAX_PACKET_ADDR: usize = 19;

const IPV4: u8 = 1;
const IPV6: u8 = 2;

impl Target {
    /// What a packetaddr session has as target.
    pub fn packet_addr() -> Self {
        let name = PACKET_ADDR_NAME.parse();
        Self { address: name.unwrap_or(Address::Ip(Ipv4Addr::UNSPECIFIED.into())), port: 0 }
    }

    /// Whether a UDP session to it is one of packetaddr. The port means nothing.
    pub fn is_packet_addr(&self) -> bool {
        matches!(&self.address, Address::Domain(name) if name.as_str() == PACKET_ADDR_NAME)
    }
}

/// The address in front of a packet, and where the payload begins; `None`: this is no such packet. An IPv4 address
/// written as IPv6 becomes IPv4.
pub fn split_packet_addr(packet: &[u8]) -> Option<(SocketAddr, usize)> {
    let (&kind, rest) = packet.split_first()?;
    let (ip, rest) = match kind {
        IPV4 => {
            let (octets, rest) = rest.split_first_chunk::<4>()?;
            (IpAddr::from(Ipv4Addr::from(*octets)), rest)
        }
        IPV6 => {
            let (octets, rest) = rest.split_first_chunk::<16>()?;
            (IpAddr::from(Ipv6Addr::from(*octets)).to_canonical(), rest)
        }
        _ => return None,
    };
    let (port, rest) = rest.split_first_chunk()?;
    Some((SocketAddr::new(ip, u16::from_be_bytes(*port)), packet.len() - rest.len()))
}

/// Appends what stands in front of a packet to or from `peer`.
pub fn encode_packet_addr(peer: SocketAddr, out: &mut Vec<u8>) {
    match peer.ip() {
        IpAddr::V4(ip) => {
            out.push(IPV4);
            out.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(IPV6);
            out.extend(ip.octets());
        }
    }
    out.extend(peer.port().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stand_in_front_of_packets() {
        // As V2Ray 5.52 writes them.
        for (peer, wire) in [
            ("127.0.0.1:53", &b"\x01\x7f\0\0\x01\0\x35"[..]),
            ("[::1]:443", b"\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\xbb"),
        ] {
            let peer: SocketAddr = peer.parse().unwrap();
            let mut out = Vec::new();
            encode_packet_addr(peer, &mut out);
            assert_eq!(out, wire);
            for cut in 0..wire.len() {
                assert_eq!(split_packet_addr(&wire[..cut]), None, "{peer} cut at {cut}");
            }
            out.extend(b"payload");
            assert_eq!(split_packet_addr(&out), Some((peer, wire.len())));
        }
        let mapped = b"\x02\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\x01\0\x50";
        assert_eq!(split_packet_addr(mapped), Some(("10.0.0.1:80".parse().unwrap(), 19)));
        assert_eq!(split_packet_addr(b"\x03\x7f\0\0\x01\0\x35"), None);
    }

    #[test]
    fn the_name_that_stands_for_many_is_known() {
        assert_eq!(Target::packet_addr().to_string(), "sp.packet-addr.v2fly.arpa:0");
        assert!(Target::packet_addr().is_packet_addr());
        let other = Target { address: "packet-addr.v2fly.arpa".parse().unwrap(), port: 0 };
        assert!(!other.is_packet_addr());
    }
}
