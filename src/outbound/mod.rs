//! Ways out: each makes an endpoint for a session.

mod cone;
mod dns;
mod freedom;
mod hop;
pub mod proxy;
mod udp;
mod vmess;

use std::{io, sync::Arc};

use tokio::time::{Duration, sleep, timeout};
use wsray_config::{DomainStrategy, Otherwise};
use wsray_vmess::{Address, Target};

use crate::{
    browser::BrowserError,
    names::Names,
    relay::FirstPayload,
    session::{Mapping, Session},
    stream::{BoxEndpoint, Cut, Endpoint, Layout, Read},
    transport::ConnectError,
};

pub use dns::DnsOutbound;
pub use freedom::Freedom;
pub use hop::Hop;
pub use proxy::{ProxyKind, ProxyOutbound, ProxyServer};
pub use vmess::{Packets, VmessOutbound, VmessServer, VmessUser};

/// A configured way out.
#[derive(Debug)]
pub struct Outbound {
    /// Its name in rules and in the access log.
    pub tag: Option<Arc<str>>,
    /// How names become addresses before it gets them; `None`: not at all.
    pub target: Option<TargetLookup>,
    /// What it does.
    pub kind: OutboundKind,
}

/// How a session's target becomes an address: `targetStrategy`, or `domainStrategy` in V2Ray 5.
#[derive(Clone, Debug)]
pub struct TargetLookup {
    /// Who knows addresses.
    pub names: Arc<Names>,
    /// Which addresses are wanted.
    pub strategy: DomainStrategy,
}

impl TargetLookup {
    /// The session with an address as its target, if the name has one; `None`: as it is.
    async fn resolved(&self, session: &Session) -> Result<Option<Session>, ConnectError> {
        let (Address::Domain(name), DomainStrategy::Lookup { families, otherwise }) =
            (&session.target.address, self.strategy)
        else {
            return Ok(None);
        };
        let looked_up = timeout(LOOKUP_TIMEOUT, self.names.lookup(name.as_str(), families)).await;
        let looked_up = looked_up.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match looked_up {
            Ok(found) => {
                let mut session = session.clone();
                session.target.address = Address::Ip(found[0]);
                Ok(Some(session))
            }
            Err(_) if otherwise == Otherwise::AsIs => Ok(None),
            Err(source) => Err(ConnectError::Resolve { name: name.as_str().to_owned(), source }),
        }
    }
}

/// How long a target's name is looked up: four servers that do not answer (v2fly/v2ray-core `app/dns/nameserver.go`).
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(16);

/// What an outbound does with a session.
#[derive(Debug)]
pub enum OutboundKind {
    /// Sends it to a VMess server.
    Vmess(VmessOutbound),
    /// Sends it through a SOCKS or HTTP proxy.
    Proxy(ProxyOutbound),
    /// Connects to the target itself.
    Freedom(Freedom),
    /// Ends it.
    Blackhole {
        /// Answer `403 Forbidden` first.
        http_response: bool,
    },
    /// Answers what it asks.
    Dns(DnsOutbound),
    /// Has it routed once more, which the dispatcher does.
    Loopback {
        /// The tag of the inbound that it seems to come from then.
        inbound: Arc<str>,
    },
}

/// A session's other side.
pub struct Connected {
    /// The endpoint.
    pub endpoint: BoxEndpoint,
    /// What of the inbound's payload it has been given.
    pub first: FirstPayload,
    /// The way to a server.
    pub how: Option<How>,
}

/// How a server was reached.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Who connected.
    pub by: By,
    /// Whether there is WebSocket.
    pub ws: bool,
    /// How many bytes went as early data.
    pub early_data: usize,
    /// The connection had been made before the session asked for it.
    pub ready: bool,
}

/// Who connected to a server.
#[derive(Clone, Copy, Debug)]
pub enum By {
    /// We, with this version of TLS, if any.
    Wsray(Option<rustls::ProtocolVersion>),
    /// A browser.
    Browser,
}

impl std::fmt::Display for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.by {
            By::Wsray(Some(rustls::ProtocolVersion::TLSv1_3)) => f.write_str("TLS 1.3")?,
            By::Wsray(Some(_)) => f.write_str("TLS 1.2")?,
            By::Wsray(None) => f.write_str("no TLS")?,
            By::Browser => f.write_str("by a browser")?,
        }
        match (self.ws, self.early_data) {
            (false, _) => Ok(()),
            (true, _) if self.ready => f.write_str(", WebSocket, made before (preconnect)"),
            (true, 0) => f.write_str(", WebSocket, no early data"),
            (true, bytes) => write!(f, ", WebSocket, {bytes} bytes of early data"),
        }
    }
}

/// Why a session has no other side.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboundError {
    /// No stream to the server or target.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The inbound's stream was cut before anything could be sent.
    #[error("the inbound was cut first: {0}")]
    Inbound(Cut),
    /// A proxy gives no way to the target.
    #[error("the {protocol} proxy {server} {source}")]
    Proxy {
        /// What it is asked in.
        protocol: &'static str,
        /// Where it is.
        server: Target,
        /// Why.
        source: proxy::ProxyError,
    },
    /// The crypto library failed.
    #[error("{0}")]
    Crypto(String),
    /// The connection that sessions were to share ended as soon as it was made.
    #[error("the connection for many sessions (mux) is gone as soon as it was made")]
    Shared,
    /// The connection that sessions were to share, which another session made, could not be made.
    #[error("{0}")]
    NotShared(Arc<str>),
    /// The outbound takes no QUIC.
    #[error(
        "UDP to port 443 (QUIC) is refused here: write \"xudpProxyUDP443\": \"allow\" (or \"skip\") in mux to carry it"
    )]
    Quic,
    /// No browser made the connection.
    #[error(transparent)]
    Browser(#[from] BrowserError),
    /// The outbound is a blackhole.
    #[error("blackhole")]
    Blackhole,
    /// Rules lead from loopback to loopback.
    #[error("the rules for the inbound {inbound:?} lead back to a loopback outbound again and again")]
    Loopback {
        /// As the outbound names it.
        inbound: Arc<str>,
    },
}

impl Outbound {
    /// Whether packets to `target` go into one session with others of their application, and not each target's into
    /// one of its own.
    pub fn gathers(&self, mapping: Mapping, target: &Target) -> bool {
        let is_looked_up = self.target.is_some() && matches!(target.address, Address::Domain(_));
        match &self.kind {
            _ if is_looked_up => false,
            OutboundKind::Vmess(vmess) => vmess.gathers(mapping, target),
            // Each asks the proxy for an association of its own; answers of names come from whom was asked.
            OutboundKind::Proxy(_) | OutboundKind::Dns(_) => false,
            OutboundKind::Freedom(freedom) => freedom.gathers(mapping, target),
            OutboundKind::Blackhole { .. } | OutboundKind::Loopback { .. } => true,
        }
    }

    /// Connects a session. `inbound` is read for the first payload where that saves a round trip.
    ///
    /// # Errors
    /// [`OutboundError`].
    pub async fn connect(
        &self,
        session: &Session,
        inbound: &mut dyn Endpoint,
    ) -> Result<Connected, OutboundError> {
        let resolved = match &self.target {
            Some(lookup) => lookup.resolved(session).await?,
            None => None,
        };
        let session = resolved.as_ref().unwrap_or(session);
        match &self.kind {
            OutboundKind::Vmess(vmess) => vmess.connect(session, inbound).await,
            OutboundKind::Proxy(proxy) => proxy.connect(session).await,
            OutboundKind::Freedom(freedom) => freedom.connect(session, inbound).await,
            OutboundKind::Dns(dns) => Ok(dns.connect(session)),
            OutboundKind::Blackhole { .. } => Err(OutboundError::Blackhole),
            OutboundKind::Loopback { inbound } => {
                Err(OutboundError::Loopback { inbound: Arc::clone(inbound) })
            }
        }
    }
}

/// What an application says first, waited for so long as to let it speak but not to delay one that listens.
/// `None`: it is silent.
async fn first_payload(inbound: &mut dyn Endpoint, layout: Layout) -> Result<Option<Read>, Cut> {
    match timeout(FIRST_PAYLOAD_WAIT, inbound.read(layout)).await {
        Ok(read) => read.map(Some),
        Err(_) => Ok(None),
    }
}

/// How long an application that says nothing is waited for
/// (v2fly/v2ray-core `proxy/vmess/outbound/outbound.go`).
const FIRST_PAYLOAD_WAIT: Duration = Duration::from_millis(100);

/// The pauses before each attempt to reach a server (v2fly/v2ray-core `proxy/vmess/outbound/outbound.go`).
const ATTEMPTS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(600),
    Duration::from_millis(800),
];

/// Waits, if there is anything to wait for: even a sleep of nothing lasts until the timer's next millisecond.
async fn wait(pause: Duration) {
    if !pause.is_zero() {
        sleep(pause).await;
    }
}
