//! Sends sessions through a SOCKS or HTTP proxy.
//!
//! The proxy's answer is waited for before the application's first bytes go out: until then they would be part of the
//! handshake (RFC 1928 section 6, RFC 9110 section 9.3.6).

pub mod http;
mod udp;

use std::{
    future::poll_fn,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::time::{Instant, timeout};
use wsray_vmess::{Address, Network, Target};
use wsray_ws::{Headers, Step};

use self::udp::Association;
use super::{ATTEMPTS, By, Connected, How, OutboundError, wait};
use crate::{
    relay::FirstPayload,
    session::{Credentials, Session},
    socks::{Command, Method, client as socks},
    stream::{Packets, SMALL_BYTES},
    transport::{Channel, ChannelEnd, ConnectError, Connector, HANDSHAKE_TIMEOUT, HandshakeError, Tunnel},
};

/// A client of proxies.
#[derive(Debug)]
pub struct ProxyOutbound {
    /// What they speak.
    pub protocol: ProxyKind,
    /// Taken in turn; at least one.
    pub servers: Vec<ProxyServer>,
    /// Which is next.
    pub next: AtomicUsize,
}

/// What a proxy speaks.
#[derive(Clone, Debug)]
pub enum ProxyKind {
    /// SOCKS 5.
    Socks5,
    /// SOCKS 4: IPv4 alone, and names are looked up here.
    Socks4,
    /// SOCKS 4 with names.
    Socks4a,
    /// HTTP CONNECT, with these headers beside its own.
    Http(Headers),
}

/// A proxy and who we are to it.
#[derive(Debug)]
pub struct ProxyServer {
    /// The way to it.
    pub connector: Connector,
    /// Taken in turn; empty: we do not say.
    pub accounts: Vec<Credentials>,
}

/// Why a proxy gave no way to the target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// It answered in SOCKS.
    #[error("{0}")]
    Socks(#[from] socks::Refused),
    /// It answered in HTTP.
    #[error("{0}")]
    Http(#[from] http::Refused),
    /// The connection ended.
    #[error("closes the connection without an answer: {0}")]
    Closed(HandshakeError),
    /// No answer in time.
    #[error("does not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Silent,
    /// SOCKS 4 cannot name the target.
    #[error("is asked in SOCKS 4, which knows no IPv6: write \"version\": \"5\"")]
    NoIpv6,
    /// Only SOCKS 5 has UDP.
    #[error("cannot carry UDP in {0}: send UDP to another outbound by a rule")]
    NoUdp(&'static str),
    /// Packets would take another way than the connection.
    #[error(
        "is reached through another outbound, which carries no packets to it: send UDP to another outbound by a rule"
    )]
    Chained,
    /// The address for UDP cannot be used.
    #[error("names no usable address for UDP: {0}")]
    Relay(String),
}

/// How long a proxy may take to reach the target: as long as V2Ray lets a handshake take
/// (v2fly/v2ray-core `proxy/socks/client.go`, `features/policy/policy.go`).
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

impl ProxyOutbound {
    /// Asks the next proxy for the session's target.
    ///
    /// # Errors
    /// [`OutboundError`].
    pub async fn connect(&self, session: &Session) -> Result<Connected, OutboundError> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let server = &self.servers[turn % self.servers.len()];
        let account = turn.checked_div(self.servers.len()).unwrap_or_default();
        let credentials = server.accounts.get(account.checked_rem(server.accounts.len()).unwrap_or_default());
        let refused = |source| OutboundError::Proxy {
            protocol: self.protocol.name(),
            server: server.connector.server.clone(),
            source,
        };
        if session.network == Network::Udp && !matches!(self.protocol, ProxyKind::Socks5) {
            return Err(refused(ProxyError::NoUdp(self.protocol.name())));
        }
        if session.network == Network::Udp && server.connector.dialer.through.is_some() {
            return Err(refused(ProxyError::Chained));
        }
        let target = self.nameable(server, &session.target).await?;
        let mut way = server.open(self.opening(credentials).as_deref()).await?;
        let how = way.how;
        let asked = match session.network {
            Network::Tcp => timeout(ANSWER_TIMEOUT, self.ask(&mut way, credentials, &target)).await,
            Network::Udp => {
                let relay = timeout(ANSWER_TIMEOUT, associate(&mut way, credentials)).await;
                let relay = relay.unwrap_or(Err(ProxyError::Silent)).map_err(refused)?;
                let endpoint = Association::new(server, way, relay, &session.target).await;
                let endpoint = Box::new(Packets::new(endpoint.map_err(|error| match error {
                    udp::RelayError::Connect(error) => error.into(),
                    udp::RelayError::Address(what) => refused(ProxyError::Relay(what)),
                })?));
                return Ok(Connected { endpoint, first: FirstPayload::default(), how: Some(how) });
            }
        };
        asked.unwrap_or(Err(ProxyError::Silent)).map_err(refused)?;
        let endpoint = Tunnel::endpoint(way.channel, way.ahead);
        Ok(Connected { endpoint, first: FirstPayload::default(), how: Some(how) })
    }

    /// The target as the protocol can name it.
    async fn nameable(&self, server: &ProxyServer, target: &Target) -> Result<Target, ConnectError> {
        let (ProxyKind::Socks4, Address::Domain(domain)) = (&self.protocol, &target.address) else {
            return Ok(target.clone());
        };
        let found = server.connector.dialer.resolve(target).await?;
        let ipv4 = found.into_iter().find(SocketAddr::is_ipv4).map(Target::from);
        ipv4.ok_or_else(|| ConnectError::Resolve {
            name: domain.as_str().to_owned(),
            source: std::io::Error::other("it has no IPv4 address, and SOCKS 4 knows no other"),
        })
    }

    /// What is said before anything is known of the proxy; with WebSocket it may go as early data.
    fn opening(&self, credentials: Option<&Credentials>) -> Option<Vec<u8>> {
        matches!(self.protocol, ProxyKind::Socks5).then(|| socks::greeting(credentials))
    }

    async fn ask(
        &self,
        way: &mut Way,
        credentials: Option<&Credentials>,
        target: &Target,
    ) -> Result<(), ProxyError> {
        match &self.protocol {
            ProxyKind::Socks5 => {
                authenticate(way, credentials).await?;
                way.say(&socks::request(Command::Connect, target)).await?;
                way.hear(socks::read_answer).await.map(drop)
            }
            ProxyKind::Socks4 | ProxyKind::Socks4a => {
                let user = credentials.map_or(&[][..], |credentials| &credentials.user);
                let request = socks::request4(target, user).ok_or(ProxyError::NoIpv6)?;
                way.say(&request).await?;
                way.hear(socks::read_answer4).await
            }
            ProxyKind::Http(headers) => {
                way.say(&http::connect(target, credentials, headers)).await?;
                way.hear(|input| http::read_answer(input, credentials.is_some())).await
            }
        }
    }
}

impl ProxyKind {
    fn name(&self) -> &'static str {
        match self {
            Self::Socks5 => "SOCKS 5",
            Self::Socks4 => "SOCKS 4",
            Self::Socks4a => "SOCKS 4a",
            Self::Http(_) => "HTTP",
        }
    }
}

async fn authenticate(way: &mut Way, credentials: Option<&Credentials>) -> Result<(), ProxyError> {
    let method = way.hear(|input| socks::read_method(input, credentials)).await?;
    if let (Method::Password, Some(credentials)) = (method, credentials) {
        way.say(&socks::password(credentials)).await?;
        way.hear(socks::read_password_answer).await?;
    }
    Ok(())
}

/// Asks for a place to send packets to (RFC 1928 section 7).
async fn associate(way: &mut Way, credentials: Option<&Credentials>) -> Result<Target, ProxyError> {
    authenticate(way, credentials).await?;
    // We do not know yet from where we shall send.
    let anywhere = Target { address: Address::Ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), port: 0 };
    way.say(&socks::request(Command::UdpAssociate, &anywhere)).await?;
    way.hear(socks::read_answer).await
}

impl ProxyServer {
    /// A connection to the proxy on which `opening` has been said.
    async fn open(&self, opening: Option<&[u8]>) -> Result<Way, OutboundError> {
        let mut attempts = ATTEMPTS.into_iter();
        loop {
            wait(attempts.next().unwrap_or_default()).await;
            match self.attempt(opening.unwrap_or_default()).await {
                Err(OutboundError::Connect(error)) if error.is_transient() && attempts.len() > 0 => {}
                result => return result,
            }
        }
    }

    async fn attempt(&self, opening: &[u8]) -> Result<Way, OutboundError> {
        let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
        let mut channel = self.connector.open(deadline).await?;
        let early = self.connector.upgrade(&mut channel, opening, deadline).await?;
        channel.queue(&opening[early..]).map_err(OutboundError::Inbound)?;
        let (tls, ws) = (channel.tls_version(), channel.is_ws());
        let how = How { by: By::Wsray(tls), ws, early_data: early, ready: false };
        Ok(Way { channel, ahead: Vec::new(), how })
    }
}

/// A connection to a proxy, during the handshake.
struct Way {
    channel: Channel,
    /// What came and has not been used.
    ahead: Vec<u8>,
    how: How,
}

impl Way {
    async fn say(&mut self, message: &[u8]) -> Result<(), ProxyError> {
        let closed = |error: String| ProxyError::Closed(HandshakeError::Seal(error));
        self.channel.queue(message).map_err(|cut| closed(cut.to_string()))?;
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), ProxyError> {
        let flushed = poll_fn(|cx| self.channel.poll_flush(cx)).await;
        flushed.map_err(|error| ProxyError::Closed(error.into()))
    }

    /// Reads one message; what came behind it stays.
    async fn hear<T, E: Into<ProxyError>>(
        &mut self,
        parse: impl Fn(&[u8]) -> Result<Step<T>, E>,
    ) -> Result<T, ProxyError> {
        self.flush().await?;
        loop {
            if let Step::Done { used, value } = parse(&self.ahead).map_err(Into::into)? {
                self.ahead.drain(..used);
                return Ok(value);
            }
            let read = poll_fn(|cx| {
                let read = self.channel.poll_read(cx, SMALL_BYTES);
                // Pings are answered meanwhile.
                let _ = self.channel.poll_flush(cx);
                read
            });
            match read.await.map_err(|error| ProxyError::Closed(error.into()))? {
                Some(mut incoming) => {
                    self.ahead.extend_from_slice(&incoming.batch.bytes()[incoming.stream.clone()]);
                }
                None => return Err(ProxyError::Closed(self.ending())),
            }
        }
    }

    fn ending(&self) -> HandshakeError {
        match self.channel.end() {
            Some(ChannelEnd::Broken { reason, .. }) => HandshakeError::Seal(reason.clone()),
            _ => HandshakeError::Eof,
        }
    }
}
