//! What a SOCKS client is answered.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use wsray_vmess::{Address, Target};

use super::{ADDRESS_DOMAIN, ADDRESS_IPV4, ADDRESS_IPV6, AUTH_VERSION, Method, VERSION_5};

/// "Go on", sent to a SOCKS 4 client before the target is dialled.
pub const SOCKS4_GRANTED: [u8; 8] = [0, 0x5a, 0, 0, 0, 0, 0, 0];

/// "No", for a SOCKS 4 client.
pub const SOCKS4_REJECTED: [u8; 8] = [0, 0x5b, 0, 0, 0, 0, 0, 0];

/// "Go on" with address 0.0.0.0:0, sent to a SOCKS 5 client before the target is dialled, so that its
/// first bytes travel with ours; V2Ray does the same (v2fly/v2ray-core `proxy/socks/protocol.go`).
pub const SOCKS5_CONNECT_ACCEPTED: [u8; 10] = [VERSION_5, 0, 0, ADDRESS_IPV4, 0, 0, 0, 0, 0, 0];

/// The answer to a SOCKS 5 request. Source: RFC 1928, section 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reply {
    /// Done.
    Succeeded = 0,
    /// Anything that fits no other.
    GeneralFailure = 1,
    /// The rules do not allow it.
    NotAllowed = 2,
    /// No way to that network.
    NetworkUnreachable = 3,
    /// No way to that host.
    HostUnreachable = 4,
    /// The target refused.
    ConnectionRefused = 5,
    /// A time limit.
    TtlExpired = 6,
    /// BIND, or a UDP association where UDP is off.
    CommandNotSupported = 7,
    /// Neither IPv4, IPv6 nor a domain.
    AddressTypeNotSupported = 8,
}

/// The answer to user and password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthOutcome {
    /// The request may follow.
    Accepted,
    /// The connection must be closed. Source: RFC 1929, section 2.
    Refused,
}

/// Tells a SOCKS 5 client which method to use; `None`: none of those it offers, and the connection is
/// then closed by the client. Source: RFC 1928, section 3.
pub const fn method_reply(method: Option<Method>) -> [u8; 2] {
    let method = match method {
        Some(Method::NoAuth) => 0,
        Some(Method::Password) => 2,
        None => 0xff,
    };
    [VERSION_5, method]
}

/// Answers user and password. Source: RFC 1929, section 2.
pub const fn auth_reply(outcome: AuthOutcome) -> [u8; 2] {
    match outcome {
        AuthOutcome::Accepted => [AUTH_VERSION, 0],
        AuthOutcome::Refused => [AUTH_VERSION, 1],
    }
}

/// Answers a SOCKS 5 request. `bound` is where the client's datagrams go, for a UDP association;
/// without it 0.0.0.0:0 is sent.
pub fn reply(reply: Reply, bound: Option<SocketAddr>) -> Vec<u8> {
    let bound = bound.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    let mut out = vec![VERSION_5, reply as u8, 0];
    write_target(&bound.into(), &mut out);
    out
}

/// Appends type, address and port.
pub(super) fn write_target(target: &Target, out: &mut Vec<u8>) {
    match &target.address {
        Address::Ip(IpAddr::V4(ip)) => {
            out.push(ADDRESS_IPV4);
            out.extend_from_slice(&ip.octets());
        }
        Address::Ip(IpAddr::V6(ip)) => {
            out.push(ADDRESS_IPV6);
            out.extend_from_slice(&ip.octets());
        }
        Address::Domain(domain) => {
            let name = domain.as_str().as_bytes();
            // A `Domain` has 255 bytes at most.
            let count = u8::try_from(name.len()).unwrap_or(u8::MAX);
            out.extend_from_slice(&[ADDRESS_DOMAIN, count]);
            out.extend(name.iter().take(count.into()));
        }
    }
    out.extend_from_slice(&target.port.to_be_bytes());
}
