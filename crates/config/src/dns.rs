//! Who knows the addresses of names: the `dns` block. Lists in files are named only.

use std::{net::IpAddr, num::NonZeroU16};

use wsray_route::DomainSource;
use wsray_vmess::{Address, Domain, Network, Target};

use crate::{Families, IpGroup, Place, Placed};

/// The `dns` block.
#[derive(Clone, Debug)]
pub struct Dns {
    /// Where it stands.
    pub place: Place,
    /// `hosts`: what is known without asking; all that match count.
    pub hosts: Vec<Host>,
    /// Who is asked, in the order written; at least one.
    pub servers: Vec<NameServer>,
}

/// An entry of `hosts`.
#[derive(Clone, Debug)]
pub struct Host {
    /// For which names.
    pub names: Placed<DomainSource>,
    /// What they stand for.
    pub to: HostTarget,
}

/// What a name of `hosts` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostTarget {
    /// These addresses; at least one.
    Addresses(Vec<IpAddr>),
    /// Another name, which is looked up instead.
    Name(Domain),
}

/// One of `servers`.
#[derive(Clone, Debug)]
pub struct NameServer {
    /// Where it is written.
    pub place: Place,
    /// Who it is.
    pub address: NameServerAddress,
    /// `domains`: names for which it is asked first.
    pub domains: Vec<Placed<DomainSource>>,
    /// `expectIPs`: only these addresses count; empty: all.
    pub expected: Vec<IpGroup>,
    /// `clientIp`: the network that the answer is for.
    pub client: Option<IpAddr>,
    /// `queryStrategy`: which addresses it is asked for; never a preference.
    pub families: Families,
    /// Whether its answers are kept.
    pub cache: Cache,
    /// Whether it is asked when others are.
    pub fallback: NameServerFallback,
    /// The inbound's tag of queries that go through routing.
    pub tag: Option<String>,
}

/// How a name server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameServerAddress {
    /// `localhost`: the system's resolver.
    System,
    /// An address: UDP, and TCP for what does not fit.
    Udp(Target),
    /// `tcp://`
    Tcp(Target, Way),
    /// `https://`
    Https {
        /// Where to connect to.
        target: Target,
        /// The path with its query.
        path: String,
        /// How.
        way: Way,
    },
}

/// Whether queries go through routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// They do.
    Routed,
    /// `+local`: they go directly.
    Direct,
}

/// Whether answers are kept for as long as they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// They are.
    On,
    /// `disableCache`: each lookup asks.
    Off,
}

/// Whether a server is asked for names that its `domains` does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameServerFallback {
    /// In its turn.
    Always,
    /// `disableFallbackIfMatch`: unless another server's `domains` has the name.
    UnlessMatched,
    /// `skipFallback`, `disableFallback`: never.
    Never,
}

/// An outbound that answers questions for addresses itself, as the `dns` block says, and passes on all others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsOutbound {
    /// What others are passed on over; `None`: what they came over.
    pub network: Option<Network>,
    /// Who they are passed on to; `None`: whom they were for.
    pub address: Option<Address>,
    /// At which port; `None`: at theirs.
    pub port: Option<NonZeroU16>,
}
