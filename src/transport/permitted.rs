//! Which addresses an outbound may connect to, in whatever form they are written.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
};

use wsray_config::{FinalAction, FinalRule};

/// Freedom's `finalRules`; by default everything may be connected to, as in V2Ray. What this program serves to its
/// own user never may.
#[derive(Clone, Debug, Default)]
pub struct Permitted {
    rules: Arc<[FinalRule]>,
    /// Where this program listens for its user only.
    own: Option<SocketAddr>,
}

impl Permitted {
    /// What these rules permit, but for what listens at `own`.
    pub fn by(rules: &[FinalRule], own: Option<SocketAddr>) -> Self {
        Self { rules: rules.into(), own }
    }

    /// Whether a stream to `address` would come to what this program serves to its own user.
    pub fn is_own(&self, address: SocketAddr) -> bool {
        self.own.is_some_and(|own| {
            own.port() == address.port()
                && meanings(address.ip())
                    .into_iter()
                    .flatten()
                    .any(|ip| leads_to(ip, own.ip().to_canonical()))
        })
    }

    /// Whether `address` may be connected to. The first rule that holds decides.
    pub fn allows(&self, address: IpAddr) -> bool {
        let rule = self.rules.iter().find(|rule| holds(rule, address));
        rule.is_none_or(|rule| rule.action == FinalAction::Allow)
    }
}

/// Whether a connection to `address` comes to who listens on `own`.
fn leads_to(address: IpAddr, own: IpAddr) -> bool {
    match address {
        address if address == own => true,
        // The system connects to itself.
        address if address.is_unspecified() => own.is_loopback() || own.is_unspecified(),
        // Only what is an address of this machine can be bound to.
        address => own.is_unspecified() && UdpSocket::bind((address, 0)).is_ok(),
    }
}

/// An address is as closed as the most closed, and as open as the least open, of what it may mean.
fn holds(rule: &FinalRule, address: IpAddr) -> bool {
    let Some(addresses) = &rule.addresses else { return true };
    let mut meanings = meanings(address).into_iter().flatten();
    match rule.action {
        FinalAction::Block => meanings.any(|address| addresses.contains(address)),
        FinalAction::Allow => meanings.all(|address| addresses.contains(address)),
    }
}

/// The address, and the one inside it to which a gateway or the system may bring a connection.
fn meanings(address: IpAddr) -> [Option<IpAddr>; 2] {
    let address = address.to_canonical();
    let inside = match address {
        IpAddr::V4(_) => None,
        // The system connects to itself.
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        IpAddr::V6(address) => embedded(address).map(IpAddr::V4),
    };
    [Some(address), inside]
}

/// The IPv4 address that an IPv6 one stands for.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let last = |segments: [u16; 2]| Ipv4Addr::from(u32::from(segments[0]) << 16 | u32::from(segments[1]));
    match address.segments() {
        // NAT64 (RFC 6052 section 2.1, RFC 8215), and 6to4 (RFC 3056 section 2).
        [0x64, 0xff9b, 0, 0, 0, 0, a, b] | [0x64, 0xff9b, 1, .., a, b] | [0x2002, a, b, ..] => {
            Some(last([a, b]))
        }
        // IPv4-compatible: RFC 4291 section 2.5.5.1; `::1` is none.
        [0, 0, 0, 0, 0, 0, a, b] if a != 0 => Some(last([a, b])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use wsray_route::IpSet;

    use super::*;

    fn rule(action: FinalAction, addresses: Option<IpSet>) -> FinalRule {
        FinalRule { action, addresses }
    }

    #[test]
    fn private_addresses_are_closed_in_every_form_and_public_ones_are_not() {
        let permitted = Permitted::by(&[rule(FinalAction::Block, Some(IpSet::private()))], None);
        for closed in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::10.0.0.1",
            "2002:7f00:1::",
            "2002:c0a8:101::5",
            "fe80::1",
            "fd00:ec2::254",
        ] {
            assert!(!permitted.allows(closed.parse().unwrap()), "{closed}");
        }
        for open in ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "64:ff9b::1.1.1.1", "2002:808:808::1"] {
            assert!(permitted.allows(open.parse().unwrap()), "{open}");
        }
    }

    #[test]
    fn first_rule_that_holds_decides_and_without_one_all_is_open() {
        let ten = IpSet::new(["10.0.0.0/8".parse().unwrap()]);
        let permitted = Permitted::by(
            &[rule(FinalAction::Allow, Some(ten)), rule(FinalAction::Block, Some(IpSet::private()))],
            None,
        );
        for (address, allowed) in [("10.0.0.1", true), ("192.168.0.1", false), ("64:ff9b::10.0.0.1", false)] {
            assert_eq!(permitted.allows(address.parse().unwrap()), allowed, "{address}");
        }
        assert!(!Permitted::by(&[rule(FinalAction::Block, None)], None).allows([1, 1, 1, 1].into()));
        assert!(Permitted::default().allows([127, 0, 0, 1].into()));
    }

    #[test]
    fn own_service_is_closed_in_every_form_and_its_neighbours_are_not() {
        let refuses = |own: &str, address: &str| {
            let own = own.parse().unwrap();
            Permitted::by(&[], Some(own)).is_own(address.parse().unwrap())
        };
        for address in [
            "127.0.0.1:8080",
            "0.0.0.0:8080",
            "[::]:8080",
            "[::ffff:127.0.0.1]:8080",
            "[::127.0.0.1]:8080",
            "[64:ff9b::127.0.0.1]:8080",
            "[2002:7f00:1::]:8080",
        ] {
            assert!(refuses("127.0.0.1:8080", address), "{address}");
            assert!(refuses("0.0.0.0:8080", address), "{address}");
        }
        assert!(refuses("[::1]:8080", "[::1]:8080") && refuses("[::1]:8080", "[::]:8080"));
        assert!(refuses("0.0.0.0:8080", "127.9.9.9:8080"), "all addresses of this machine");
        for address in ["127.0.0.1:8081", "127.9.9.9:8080", "192.0.2.1:8080", "[::1]:8080"] {
            assert!(!refuses("127.0.0.1:8080", address), "{address}");
        }
        assert!(!refuses("0.0.0.0:8080", "192.0.2.1:8080"), "no address of this machine");
        assert!(!Permitted::default().is_own("127.0.0.1:8080".parse().unwrap()));
    }
}
