//! Sockets and how outbounds connect: `sockopt`, `sendThrough`, `domainStrategy`, `proxySettings`.

use std::{net::IpAddr, num::NonZeroU32, time::Duration};

use crate::{Place, Placed};

/// `sockopt`: what is set on a socket before it listens or connects. `Default` sets nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// Where `sockopt` stands, if it does.
    pub place: Option<Place>,
    /// `mark`: routing rules of the system see it.
    pub mark: Option<NonZeroU32>,
    /// `bindToDevice` or `interface`: packets leave and come by this network device only.
    pub device: Option<String>,
    /// `tcpFastOpen`; `None`: as the system has it.
    pub fast_open: Option<FastOpen>,
    /// `tcpFastOpenQueueLength`, or the number in `tcpFastOpen`: how many connections a listener lets begin so at a time.
    pub fast_open_queue: Option<NonZeroU32>,
    /// `mptcp` or `tcpMptcp`: several ways to the peer at once, where it knows how.
    pub multipath: bool,
    /// `tcpKeepAliveIdle` and `tcpKeepAliveInterval`.
    pub keep_alive: KeepAlive,
    /// `tcpCongestion`: the name of a congestion control.
    pub congestion: Option<String>,
    /// `tcpUserTimeout`: how long sent bytes may stay unacknowledged.
    pub user_timeout: Option<Duration>,
    /// `tcpMaxSeg`: the largest segment, in bytes.
    pub max_segment: Option<u16>,
    /// `rxBufSize` and `txBufSize`.
    pub buffers: BufferSizes,
    /// `V6Only`: an IPv6 listener takes no IPv4.
    pub only_v6: bool,
    /// `tproxy`.
    pub transparent: Transparent,
}

/// `tcpFastOpen`: data in the first packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastOpen {
    /// Not even where the system would.
    Off,
    /// Wherever the peer takes it.
    On,
}

/// Probes on a connection that is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// None.
    Off,
    /// After so much silence, and then so often; `None`: wsray's own value, the system's.
    On {
        /// Before the first probe.
        idle: Option<Duration>,
        /// Between probes.
        interval: Option<Duration>,
    },
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self::On { idle: None, interval: None }
    }
}

/// The kernel's buffers of a socket, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BufferSizes {
    /// What was received and not read.
    pub receive: Option<u32>,
    /// What was written and not acknowledged.
    pub send: Option<u32>,
    /// `forceBufSize`: beyond the system's limit, for who is allowed to.
    pub beyond_limit: bool,
}

/// `tproxy`: how connections that the system sends here tell where they were going.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transparent {
    /// Not at all.
    #[default]
    Off,
    /// The firewall's `REDIRECT`.
    Redirect,
    /// The firewall's `TPROXY`.
    Tproxy,
}

/// How an outbound connects. `Default`: by the system's own choices.
#[derive(Clone, Debug, Default)]
pub struct Dial {
    /// What is set on its sockets.
    pub socket: SocketOptions,
    /// `sendThrough`: the address to send from.
    pub send_through: Option<IpAddr>,
    /// How the name of what it connects to becomes an address: of its server, or with freedom of the target.
    pub domain_strategy: DomainStrategy,
    /// How a session's target becomes an address before the session is sent to the server. Not for freedom.
    pub target_strategy: DomainStrategy,
    /// How several addresses are tried.
    pub happy_eyeballs: HappyEyeballs,
    /// The outbound that connections go through.
    pub through: Option<Through>,
}

/// The next outbound of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Through {
    /// Where its tag is written.
    pub tag: Placed<String>,
    /// Its index in [`Config::outbounds`](crate::Config::outbounds); always valid, and never leads back.
    pub outbound: usize,
}

/// How a domain becomes an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DomainStrategy {
    /// By the system.
    #[default]
    AsIs,
    /// By `dns`, or the system without one.
    Lookup {
        /// Which addresses are wanted.
        families: Families,
        /// What follows if there is none.
        otherwise: Otherwise,
    },
}

/// Which of a name's addresses are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// All.
    Any,
    /// IPv4 only.
    OnlyV4,
    /// IPv6 only.
    OnlyV6,
    /// IPv4, and IPv6 if there is none.
    PreferV4,
    /// IPv6, and IPv4 if there is none.
    PreferV6,
}

/// What follows if a name has no wanted address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// [`DomainStrategy::AsIs`], as `UseIP` has it.
    AsIs,
    /// An error, as `ForceIP` has it.
    Fail,
}

/// How several addresses of one name are tried (RFC 8305).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HappyEyeballs {
    /// The pause before the next address is tried as well.
    pub delay: Duration,
    /// Which family is tried first; `None`: as the resolver has it.
    pub first: Option<Family>,
    /// So many of one family in a row before the other has its turn.
    pub interleave: NonZeroU32,
    /// So many attempts at once.
    pub at_once: NonZeroU32,
}

impl Default for HappyEyeballs {
    /// The delay is that of RFC 8305 section 8.
    fn default() -> Self {
        let one = NonZeroU32::MIN;
        Self {
            delay: Duration::from_millis(250),
            first: None,
            interleave: one,
            at_once: one.saturating_add(7),
        }
    }
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}
