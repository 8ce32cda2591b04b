//! The configuration as the program uses it: every value is checked, every default filled in.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    num::{NonZeroU16, NonZeroU64},
    time::Duration,
};

use wsray_vmess::{Address, SecurityChoice, UserId};
use zeroize::Zeroize as _;

use crate::{
    ClientStream, Dial, Dns, DnsOutbound, PemSource, Place, Routing, ServerStream, Sniffing, SocketOptions,
};

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where logs go.
    pub log: Log,
    /// What to listen on, in the order written. Tags are unique, and no two listen on the same address and
    /// port.
    pub inbounds: Vec<Inbound>,
    /// Where sessions go, in the order written; the first is the default. Tags are unique.
    ///
    /// Empty only if `inbounds` is empty too.
    pub outbounds: Vec<Outbound>,
    /// Which sessions leave the default.
    pub routing: Routing,
    /// Who knows the addresses of names; `None`: the system.
    pub dns: Option<Dns>,
    /// Timeouts by user level.
    pub policy: Policy,
    /// Where browsers that make connections find their page; `None`: nowhere, and no outbound uses one.
    pub browser: Option<BrowserService>,
    /// The file had no outbounds and only vmess inbounds: `outbounds` is one [`Freedom`] that it does not
    /// name.
    pub implicit_freedom: bool,
}

impl Config {
    /// The files of certificates and keys that it names, as written.
    pub fn certificate_files(&self) -> impl Iterator<Item = &str> {
        let inbounds = self.inbounds.iter().filter_map(|inbound| match &inbound.protocol {
            InboundProtocol::Vmess(vmess) => vmess.stream.tls.as_ref(),
            _ => None,
        });
        let own = inbounds.flat_map(|tls| &tls.certificates).flat_map(|pair| [&pair.certificate, &pair.key]);
        let outbounds = self.outbounds.iter().filter_map(|outbound| match &outbound.protocol {
            OutboundProtocol::Vmess(vmess) => vmess.stream.tls.as_ref(),
            _ => None,
        });
        own.chain(outbounds.flat_map(|tls| &tls.extra_roots)).filter_map(|pem| match &pem.source {
            PemSource::File(path) => Some(path.as_str()),
            PemSource::Inline(_) => None,
        })
    }
}

/// `browserForwarder`: the page that makes a browser's tab connect to servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrowserService {
    /// Where the port is written, for a complaint about binding.
    pub place: Place,
    /// The address; a warning was given if it is not this machine's alone.
    pub address: IpAddr,
    /// The port; 54321 by default.
    pub port: NonZeroU16,
}

/// The `log` object. Without one, V2Ray writes errors from `warning` on to standard output and no access log
/// (v2fly/v2ray-core `app/log/log.go`); with one, both logs go to standard output unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// One line a session.
    pub access: LogTarget,
    /// Everything else.
    pub error: LogTarget,
    /// The least important line that `error` gets. [`Level::None`] comes with both targets off.
    pub level: Level,
}

impl Default for Log {
    fn default() -> Self {
        Self { access: LogTarget::Off, error: LogTarget::Stdout, level: Level::Warning }
    }
}

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Appended to a file.
    File {
        /// As written in the configuration.
        path: String,
        /// Where it is written, for a complaint about the file.
        place: Place,
    },
}

/// How important a log line must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    Debug,
    /// Each session.
    Info,
    /// What somebody should act on.
    #[default]
    Warning,
    /// The program cannot do its work.
    Error,
    /// Nothing.
    None,
}

/// Something that listens.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// Where the object stands.
    pub place: Place,
    /// Its name in rules.
    pub tag: Option<String>,
    /// Where it listens.
    pub listen: Listen,
    /// What is overheard of its sessions; `None`: nothing.
    pub sniffing: Option<Sniffing>,
    /// What is set on its sockets.
    pub socket: SocketOptions,
    /// What it speaks.
    pub protocol: InboundProtocol,
}

/// Where an inbound listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// On what.
    pub at: ListenAt,
    /// Where the port or the path is written, for a complaint about binding.
    pub place: Place,
}

impl Listen {
    /// The IP address; `None` for a unix socket.
    pub fn address(&self) -> Option<IpAddr> {
        match self.at {
            ListenAt::Ports { address, .. } => Some(address),
            ListenAt::Unix(_) => None,
        }
    }

    /// The ports; `None` for a unix socket.
    pub fn ports(&self) -> Option<Ports> {
        match self.at {
            ListenAt::Ports { ports, .. } => Some(ports),
            ListenAt::Unix(_) => None,
        }
    }
}

/// What an inbound listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAt {
    /// An address of this machine.
    Ports {
        /// The address. An unspecified one (`0.0.0.0`, the default, or `::`) means every address of both
        /// families, as Go's `net.Listen` takes it.
        address: IpAddr,
        /// The ports; one listener each.
        ports: Ports,
    },
    /// A unix socket, for streams of programs on this machine.
    Unix(UnixAddress),
}

/// The name of a unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UnixAddress {
    /// A file.
    File {
        /// Its absolute path, of at most [`UnixAddress::MAX_BYTES`] bytes.
        path: String,
        /// Its permissions; `None`: what the umask leaves.
        mode: Option<u32>,
    },
    /// A name without a file (unix(7), "abstract").
    Abstract {
        /// Of at most [`UnixAddress::MAX_BYTES`] bytes.
        name: String,
        /// Followed by zeros up to the longest name, as `HAProxy` wants it.
        padding: Padding,
    },
}

/// Whether zeros follow an abstract name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Padding {
    /// None do.
    None,
    /// Up to the longest name.
    Full,
}

impl UnixAddress {
    /// The longest path or name, in bytes: `sun_path` has 108 (unix(7)), one of which is a zero.
    pub const MAX_BYTES: usize = 107;
}

/// As it is written in V2Ray's configuration.
impl fmt::Display for UnixAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, .. } => f.write_str(path),
            Self::Abstract { name, padding: Padding::None } => write!(f, "@{name}"),
            Self::Abstract { name, padding: Padding::Full } => write!(f, "@@{name}"),
        }
    }
}

/// A range of ports, each from 1 to 65535, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    first: NonZeroU16,
    last: NonZeroU16,
}

impl Ports {
    /// The ports from `first` to `last`, both included; `None` when `last` is the smaller one.
    pub fn new(first: NonZeroU16, last: NonZeroU16) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// The lowest one.
    pub fn first(self) -> u16 {
        self.first.get()
    }

    /// The highest one.
    pub fn last(self) -> u16 {
        self.last.get()
    }

    /// All of them, in order.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        self.first()..=self.last()
    }
}

/// What an inbound speaks.
#[derive(Clone, Debug)]
pub enum InboundProtocol {
    /// VMess from a client on another machine.
    Vmess(VmessInbound),
    /// SOCKS 4, 4a and 5 from programs.
    Socks(SocksInbound),
    /// HTTP proxy requests from programs.
    Http(HttpInbound),
    /// Whatever comes, for one target or for where it was going.
    Dokodemo(DokodemoInbound),
    /// SOCKS and HTTP on one port, told apart by the first byte, as in Xray and sing-box.
    Mixed(SocksInbound),
}

/// A VMess server.
#[derive(Clone, Debug)]
pub struct VmessInbound {
    /// Who may use it; may be empty, as in V2Ray. Ids and emails are unique.
    pub users: Vec<VmessUser>,
    /// `disableInsecureEncryption`: refuse clients whose security is `none` or `zero`.
    pub require_encryption: bool,
    /// What carries it.
    pub stream: ServerStream,
}

/// A user of a VMess inbound.
#[derive(Clone, Debug)]
pub struct VmessUser {
    /// Where the user is written.
    pub place: Place,
    /// The secret.
    pub id: UserId,
    /// The name in the access log.
    pub email: Option<String>,
    /// The level in [`Policy`].
    pub level: u32,
}

/// A SOCKS server, on plain TCP.
#[derive(Clone, Debug)]
pub struct SocksInbound {
    /// Who may use it; empty: everybody (`auth` is `noauth`).
    pub accounts: Vec<Account>,
    /// `UDP ASSOCIATE`; `None`: refused.
    pub udp: Option<SocksUdp>,
    /// The level in [`Policy`].
    pub level: u32,
}

/// How a SOCKS inbound relays UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocksUdp {
    /// `ip`: the address that clients are told to send UDP to. `None`: the one their TCP connection came in
    /// on.
    pub reply_address: Option<IpAddr>,
    /// `packetEncoding`: whether all targets of an application see one source.
    pub packet_encoding: PacketEncoding,
}

/// How packets to many targets travel (V2Ray 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PacketEncoding {
    /// Those to each target in a session of their own, so that each sees another source.
    #[default]
    None,
    /// All in one session, each with its address (packetaddr), so that all targets see the same source.
    Packet,
}

/// An HTTP proxy, on plain TCP.
#[derive(Clone, Debug)]
pub struct HttpInbound {
    /// Who may use it; empty: everybody.
    pub accounts: Vec<Account>,
    /// `timeout`: overrides the level's [`Timeouts::connection_idle`].
    pub idle_timeout: Option<Duration>,
    /// The level in [`Policy`].
    pub level: u32,
}

/// A door: whatever comes goes to one target, or to where it was going.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DokodemoInbound {
    /// Where it leads.
    pub target: DoorTarget,
    /// What it takes.
    pub networks: Networks,
    /// `timeout`: overrides the level's [`Timeouts::connection_idle`].
    pub idle_timeout: Option<Duration>,
    /// The level in [`Policy`].
    pub level: u32,
}

/// Where a door leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DoorTarget {
    /// To `address` and `port`.
    Fixed(Address, NonZeroU16),
    /// `followRedirect`: to where it was going, by what [`Inbound::socket`] says of `tproxy`.
    Original {
        /// `address` and `port`: where those go that no firewall sent here.
        otherwise: Option<(Address, NonZeroU16)>,
    },
}

/// Which networks an inbound takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Networks {
    /// Streams.
    #[default]
    Tcp,
    /// Packets.
    Udp,
    /// Both.
    Both,
}

impl Networks {
    /// Whether streams are among them.
    pub fn has_tcp(self) -> bool {
        self != Self::Udp
    }

    /// Whether packets are among them.
    pub fn has_udp(self) -> bool {
        self != Self::Tcp
    }

    /// Whether there is one that both have.
    pub fn overlaps(self, other: Self) -> bool {
        (self.has_tcp() && other.has_tcp()) || (self.has_udp() && other.has_udp())
    }
}

impl Inbound {
    /// What it takes on its ports.
    pub fn networks(&self) -> Networks {
        match &self.protocol {
            InboundProtocol::Dokodemo(door) => door.networks,
            _ => Networks::Tcp,
        }
    }
}

/// A user and password of a local inbound or of a proxy. `Debug` shows no password, and dropping it wipes that.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl Drop for Account {
    fn drop(&mut self) {
        self.password.zeroize();
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A way out.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// Where the object stands; for an implicit freedom, the document's start.
    pub place: Place,
    /// Its name in rules.
    pub tag: Option<String>,
    /// How it connects.
    pub dial: Dial,
    /// What it does.
    pub protocol: OutboundProtocol,
}

/// What an outbound does with a session.
#[derive(Clone, Debug)]
pub enum OutboundProtocol {
    /// Sends it to a VMess server.
    Vmess(VmessOutbound),
    /// Sends it through a SOCKS or HTTP proxy.
    Proxy(ProxyOutbound),
    /// Connects to the target itself.
    Freedom(Freedom),
    /// Ends it.
    Blackhole(Blackhole),
    /// Routes it once more.
    Loopback(Loopback),
    /// Answers what it asks.
    Dns(DnsOutbound),
}

/// A VMess client.
#[derive(Clone, Debug)]
pub struct VmessOutbound {
    /// Taken in turn; at least one.
    pub servers: Vec<VmessServer>,
    /// What carries it.
    pub stream: ClientStream,
    /// Which sessions share connections (Mux.Cool).
    pub mux: Mux,
}

/// Which sessions share connections; by default none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mux {
    /// How many sessions share a connection; `None`: each has its own.
    pub sessions: Option<u16>,
    /// `xudpConcurrency`: what is different for UDP.
    pub packets: MuxPackets,
    /// `xudpProxyUDP443`: what becomes of UDP to port 443.
    pub udp_443: Udp443,
}

/// How a VMess outbound carries UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MuxPackets {
    /// As [`Mux::sessions`] says: packets to each target are a session.
    #[default]
    AsStreams,
    /// The packets to each target have a connection of their own.
    Separate,
    /// The packets of an application are one session of XUDP, and so many of these share a connection.
    Xudp(NonZeroU16),
}

/// What becomes of UDP to port 443, which is QUIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Udp443 {
    /// Carried like other packets.
    #[default]
    Allow,
    /// Refused, so that browsers fall back to TCP.
    Reject,
    /// Carried without mux.
    Skip,
}

/// A server that a VMess outbound uses.
#[derive(Clone, Debug)]
pub struct VmessServer {
    /// Where the server is written.
    pub place: Place,
    /// Where it is.
    pub address: Address,
    /// Its port.
    pub port: NonZeroU16,
    /// Taken in turn; at least one.
    pub users: Vec<VmessOutUser>,
}

/// Who a VMess outbound is to its server.
#[derive(Clone, Debug)]
pub struct VmessOutUser {
    /// Where the user is written.
    pub place: Place,
    /// The secret.
    pub id: UserId,
    /// Which cipher protects the body.
    pub security: SecurityChoice,
    /// `experiments` names `AuthenticatedLength`: chunk lengths are encrypted, not masked.
    pub authenticated_length: bool,
    /// `experiments` names `NoTerminationSignal`: V2Ray then sends no end mark.
    pub no_end_mark: bool,
    /// The level in [`Policy`].
    pub level: u32,
}

/// A client of SOCKS or HTTP proxies.
#[derive(Clone, Debug)]
pub struct ProxyOutbound {
    /// What they speak.
    pub protocol: ProxyKind,
    /// Taken in turn; at least one.
    pub servers: Vec<ProxyServer>,
    /// What carries it.
    pub stream: ClientStream,
}

/// What a proxy speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// SOCKS 5, the default.
    Socks5,
    /// `version` is `4`: IPv4 alone, and names are looked up here.
    Socks4,
    /// `version` is `4a`: SOCKS 4 with names.
    Socks4a,
    /// HTTP CONNECT, with these `headers` beside its own.
    Http(wsray_ws::Headers),
}

/// A proxy that an outbound uses.
#[derive(Clone, Debug)]
pub struct ProxyServer {
    /// Where the server is written.
    pub place: Place,
    /// Where it is.
    pub address: Address,
    /// Its port.
    pub port: NonZeroU16,
    /// Who we are to it, taken in turn; may be empty. With SOCKS 4 passwords are empty.
    pub accounts: Vec<Account>,
}

/// Connects to the target itself.
#[derive(Clone, Debug, Default)]
pub struct Freedom {
    /// Where every session goes instead of its own target.
    pub redirect: Option<Redirect>,
    /// `finalRules`: which addresses may be connected to; the first that holds decides, and without one they may.
    pub final_rules: Vec<FinalRule>,
    /// `userLevel`: the level in [`Policy`].
    pub level: u32,
}

/// An element of freedom's `finalRules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalRule {
    /// What becomes of a connection.
    pub action: FinalAction,
    /// For which addresses, in every form; `None`: for all.
    pub addresses: Option<wsray_route::IpSet>,
}

/// What a [`FinalRule`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalAction {
    /// It is made.
    Allow,
    /// It is refused.
    Block,
}

/// The `redirect` of freedom, `host:port` in which either half may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The host; `None`: the target's own.
    pub address: Option<Address>,
    /// The port; `None`: the target's own.
    pub port: Option<NonZeroU16>,
}

/// Ends every session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blackhole {
    /// Answer `403 Forbidden` in HTTP before closing (`response.type` is `http`).
    pub http_response: bool,
}

/// An outbound whose sessions are routed as those of another inbound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loopback {
    /// `inboundTag`: that inbound's name in rules; there need not be one.
    pub inbound: String,
}

/// Timeouts by user level, and what the process may take.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// What `policy.levels` sets.
    pub levels: BTreeMap<u32, Timeouts>,
    /// `policy.system.memoryBudget`.
    pub memory_budget: MemoryBudget,
}

/// How much memory may be taken before new sessions are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryBudget {
    /// Three quarters of what the machine has or the cgroup allows, whichever is less.
    #[default]
    ThreeQuarters,
    /// So many bytes.
    Bytes(NonZeroU64),
    /// There is no budget (0).
    Unlimited,
}

impl Policy {
    /// The timeouts of `level`: the defaults where nothing is set.
    pub fn timeouts(&self, level: u32) -> Timeouts {
        self.levels.get(&level).copied().unwrap_or_default()
    }
}

/// How long to wait. V2Ray's defaults are those of its code, not of its documents
/// (v2fly/v2ray-core `features/policy/policy.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a whole handshake; 60 s by default. Level 0's applies, as the user is not known yet.
    pub handshake: Duration,
    /// For a byte in either direction; 300 s by default.
    pub connection_idle: Duration,
    /// For a byte upwards after the downlink has ended, if set; 1 s in V2Ray.
    pub uplink_only: Option<Duration>,
    /// For a byte downwards after the uplink has ended, if set; 1 s in V2Ray.
    pub downlink_only: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_mins(1),
            connection_idle: Duration::from_mins(5),
            uplink_only: None,
            downlink_only: None,
        }
    }
}
