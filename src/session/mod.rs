//! One proxied connection: who, from where, to where.

mod quota;

pub use quota::{Quota, Seat};

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use wsray_route::{DomainSet, Facts, Sniffed};
use wsray_vmess::{Address, Network, Target};
use zeroize::Zeroize as _;

/// A session as its inbound understood it.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its number in the log.
    pub id: u64,
    /// The inbound's tag.
    pub inbound: Option<Arc<str>>,
    /// Who wants it.
    pub origin: Origin,
    /// Who the client is: by trusted headers, else by the PROXY protocol header, else the peer.
    pub source: Source,
    /// The email or account name.
    pub user: Option<Arc<str>>,
    /// The user's level in the policy.
    pub level: u32,
    /// The inbound's own limit on idle sessions, before the policy's.
    pub idle_timeout: Option<Duration>,
    /// Stream or packets.
    pub network: Network,
    /// Where to.
    pub target: Target,
    /// Where its packets go, if it carries packets.
    pub reach: Reach,
    /// What the sessions that its packets need are counted in.
    pub quota: Option<Quota>,
    /// Whether the application's first words are listened to.
    pub sniffing: Option<Arc<Sniffing>>,
    /// The name that was overheard, where only rules may use it.
    pub overheard: Option<Box<str>>,
    /// The application's first words, where the inbound itself understood them.
    pub said: Option<Box<Sniffed>>,
}

/// Who wants a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Somebody out there.
    Client,
    /// This program, which asks a name server.
    Names,
}

/// Where the packets of a UDP session go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All to the session's target.
    Target,
    /// Each to its own peer; the session's target is the first one's, and answers tell who gave them.
    Any(Mapping),
}

/// Which source the targets of one application see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// Each a source of its own, as in V2Ray 4, where the way out does not join them of itself.
    PerTarget,
    /// All the same one (full-cone), where the way out can do so.
    Shared,
    /// The same, and a VMess server is asked for it by packetaddr.
    PacketAddr,
}

/// Who opened a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Somebody with an address. The port is 0 where a header names none.
    Address(SocketAddr),
    /// A program on this machine, over a unix socket.
    Unix,
}

impl Source {
    /// The address, for rules; `None`: it has none.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Address(address) => Some(address),
            Self::Unix => None,
        }
    }

    /// Whose word it is when it says something about others: this machine's, over a unix socket.
    pub fn speaker(self) -> IpAddr {
        match self {
            Self::Address(address) => address.ip(),
            Self::Unix => IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }
}

/// As in V2Ray's access log: Go shows a unix socket without a name as `@` (golang/go `src/net/sockaddr_posix.go`).
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Unix => f.write_str("@"),
        }
    }
}

/// Who somebody says he is: a client to us, or we to a proxy. Its `Debug` shows nothing, and dropping it wipes the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name, as sent.
    pub user: Vec<u8>,
    /// The password, as sent: secret.
    pub password: Vec<u8>,
}

impl Drop for Credentials {
    fn drop(&mut self) {
        self.password.zeroize();
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// What is done with a name that an application's first words hold.
#[derive(Debug)]
pub struct Sniffing {
    /// HTTP's takes the target's place.
    pub http: bool,
    /// TLS's does.
    pub tls: bool,
    /// Neither does: rules alone use them.
    pub route_only: bool,
    /// Names that count for nothing.
    pub excluded: DomainSet,
}

impl Session {
    /// What rules ask about.
    pub fn facts(&self) -> Facts<'_> {
        let network = match self.network {
            Network::Tcp => wsray_route::Network::Tcp,
            Network::Udp => wsray_route::Network::Udp,
        };
        let mut facts = Facts::new(network, self.target.port);
        match &self.target.address {
            Address::Domain(domain) => facts.domain = Some(domain.as_str()),
            Address::Ip(ip) => facts.ip = Some(*ip),
        }
        if let Some(name) = &self.overheard {
            facts.domain = Some(name);
        }
        facts.source = self.source.address();
        facts.user = self.user.as_deref();
        facts.inbound = self.inbound.as_deref();
        facts
    }

    /// Takes the name that was overheard as target, if that is wanted.
    pub fn learn(&mut self, sniffed: &Sniffed, sniffing: &Sniffing) {
        let wanted = match sniffed {
            Sniffed::Http { .. } => sniffing.http,
            Sniffed::Tls { .. } => sniffing.tls,
            _ => false,
        };
        let counts = |name: &&str| wanted && !sniffing.excluded.is_match(name);
        let Some(name) = sniffed.domain().filter(counts) else { return };
        if sniffing.route_only {
            self.overheard = Some(name.into());
        } else if let Ok(address) = name.parse() {
            self.target.address = address;
        }
    }
}
