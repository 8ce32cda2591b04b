//! From an accepted connection to a stream: PROXY protocol, then TLS, then the WebSocket upgrade.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::ServerConfig;
use tokio::time::{Instant, timeout, timeout_at};
use wsray_route::IpSet;
use wsray_ws::{Refusal, RefusalReason, Request, RequestError, Role, ServerOptions, Step};

use super::{
    Channel, HandshakeError, Socket, Told, Trust,
    proxy_protocol::{self, Header, ProxyProtocolError},
    tls::Tls,
};
use crate::{session::Source, stream::Pool};

/// How an inbound makes streams of connections.
#[derive(Clone, Debug)]
pub struct Acceptor {
    /// Whether a PROXY protocol header must come first, and from whom.
    pub proxy_protocol: Senders,
    /// TLS, if configured.
    pub tls: Option<Arc<ServerConfig>>,
    /// WebSocket, if configured.
    pub ws: Option<ServerOptions>,
    /// Who may say who the client is, in a request's headers.
    pub trust: Trust,
    /// When clients are pinged over WebSocket.
    pub heartbeat: wsray_config::Heartbeat,
    /// What becomes of requests that are no tunnel's.
    pub visitors: Visitors,
    /// Where buffers come from.
    pub pool: Arc<Pool>,
}

/// Who sends PROXY protocol headers.
#[derive(Clone, Debug)]
pub enum Senders {
    /// Nobody.
    Nobody,
    /// Everybody.
    Anybody,
    /// These, and this machine's programs over a unix socket.
    Only(IpSet),
}

/// What becomes of requests that are no tunnel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visitors {
    /// They get V2Ray's answers, and are closed.
    Refused,
    /// They are handed over as a [`Visitor`].
    Welcome,
}

/// Who is on the other end, as far as it is known yet.
#[derive(Clone, Copy, Debug)]
pub struct Who {
    /// Who the client is: by a trusted peer's headers, else by the PROXY protocol header, else the peer.
    pub source: Source,
    /// Who sends the request: whom the PROXY protocol names, or the peer.
    pub speaker: IpAddr,
    /// What the request's headers said about the client.
    pub told: Told,
}

/// What a connection turned out to be.
pub enum Arrived {
    /// A stream.
    Stream(Accepted),
    /// Somebody who wants no tunnel; nothing has been answered.
    Visitor(Visitor),
}

/// A stream and where it comes from.
pub struct Accepted {
    /// The stream.
    pub channel: Channel,
    /// Who opened it.
    pub who: Who,
    /// The request held what looks like early data where this inbound takes none, so the stream's start is missing.
    pub misses_early_data: bool,
}

/// Somebody who wants no tunnel.
pub struct Visitor {
    /// The connection, inside TLS.
    pub channel: Channel,
    /// What was read from it: a request head that is no tunnel's, or what is no HTTP at all, and what came behind.
    pub request: Vec<u8>,
    /// Who it is.
    pub who: Who,
    /// Why there is no tunnel.
    pub why: AcceptError,
    /// It asks for a WebSocket: a client with a mistake, or the site's own page.
    pub wants_a_tunnel: bool,
}

/// What bytes from a client begin with.
pub enum Judged {
    /// A request head that is not there as a whole.
    Incomplete,
    /// A request for a tunnel.
    Tunnel(Box<Upgrade>),
    /// Any other request.
    Other {
        /// How long its head is.
        used: usize,
        /// The request.
        request: Box<Request>,
        /// V2Ray's answer, and why there is no tunnel.
        refusal: Refusal,
    },
    /// No request.
    Garbage(RequestError),
}

/// A request for a tunnel.
pub struct Upgrade {
    /// How long its head is.
    pub used: usize,
    request: Request,
    accepted: wsray_ws::Accepted,
}

/// A connection that did not become a stream; its peer has been answered.
#[derive(Debug)]
pub struct Rejected {
    /// Who it was.
    pub who: Who,
    /// Why.
    pub error: AcceptError,
}

/// Why a connection was refused before it became a stream; its peer has been answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The socket failed or the peer left.
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
    /// The stage took too long.
    #[error("no {what} within {} s", limit.as_secs())]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        limit: Duration,
    },
    /// The handshake's time is over (`policy.levels`, `handshake`).
    #[error("no whole request within the handshake's time (policy.levels, handshake)")]
    Slow,
    /// Somebody who may not send the PROXY protocol, and so may not connect.
    #[error("{peer} is none of those who may send the PROXY protocol (acceptProxyProtocolFrom)")]
    Sender {
        /// Who.
        peer: IpAddr,
    },
    /// No PROXY protocol header, or a wrong one.
    #[error("PROXY protocol: {0}")]
    ProxyProtocol(#[from] ProxyProtocolError),
    /// The TLS handshake failed.
    #[error("TLS: {0}{hint}", hint = tls_hint(.0))]
    Tls(HandshakeError),
    /// A TLS client on an inbound without TLS; answered as garbage.
    #[error("the client speaks TLS, this inbound does not (streamSettings.security)")]
    UnexpectedTls,
    /// Not an HTTP request.
    #[error("HTTP: {0}")]
    Request(#[from] RequestError),
    /// An HTTP request that is not our WebSocket.
    #[error("HTTP: {0}")]
    Refused(RefusalReason),
}

impl AcceptError {
    /// Whether a web site would answer this: a request, or what any web server gets from strangers.
    fn is_a_visit(&self) -> bool {
        match self {
            Self::Request(_) | Self::UnexpectedTls => true,
            Self::Refused(reason) => reason.is_a_visit(),
            _ => false,
        }
    }

    /// Whether the peer just went away, as health checks and port scanners do.
    pub fn is_departure(&self) -> bool {
        matches!(self, Self::Handshake(HandshakeError::Eof | HandshakeError::Io(_)))
    }
}

fn tls_hint(error: &HandshakeError) -> &'static str {
    match error {
        HandshakeError::Tls(rustls::Error::InvalidMessage(_)) => " (the client does not speak TLS)",
        HandshakeError::Tls(rustls::Error::AlertReceived(_)) => {
            " (the client does not trust our certificate, or its serverName is not in it)"
        }
        _ => "",
    }
}

impl From<io::Error> for AcceptError {
    fn from(error: io::Error) -> Self {
        Self::Handshake(HandshakeError::Io(error))
    }
}

/// The first byte of a TLS client (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// How long the PROXY protocol header may take.
const PROXY_HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long TLS and the request head may take together: what V2Ray's clients wait for the answer
/// (v2fly/v2ray-core `transport/internet/websocket/dialer.go`).
const HEAD_TIMEOUT: Duration = Duration::from_secs(8);

impl Acceptor {
    /// Makes a stream of an accepted connection, until `deadline`.
    ///
    /// # Errors
    /// [`Rejected`]; the peer has got its answer and the connection can be dropped.
    pub async fn accept(&self, socket: Socket, peer: Source, deadline: Instant) -> Result<Arrived, Rejected> {
        let mut who = Who { source: peer, speaker: peer.speaker(), told: Told::Nothing };
        let arrived = timeout_at(deadline, self.arrive(socket, &mut who)).await;
        arrived.unwrap_or(Err(AcceptError::Slow)).map_err(|error| Rejected { who, error })
    }

    async fn arrive(&self, socket: Socket, who: &mut Who) -> Result<Arrived, AcceptError> {
        // In a box, as every future that it moves through would hold room for it.
        let mut channel = Box::new(Channel::new(socket, Arc::clone(&self.pool)));
        self.introduce(&mut channel, who).await?;
        let opened = timeout(HEAD_TIMEOUT, self.secure_and_read(channel, who)).await;
        opened.map_err(|_| AcceptError::Timeout { what: "whole request", limit: HEAD_TIMEOUT })?
    }

    /// Whom the PROXY protocol names is the peer of all that follows.
    async fn introduce(&self, channel: &mut Channel, who: &mut Who) -> Result<(), AcceptError> {
        match (&self.proxy_protocol, who.source) {
            (Senders::Nobody, _) => return Ok(()),
            (Senders::Only(networks), Source::Address(peer)) if !networks.contains(peer.ip()) => {
                return Err(AcceptError::Sender { peer: peer.ip() });
            }
            (Senders::Anybody | Senders::Only(_), _) => {}
        }
        let header = timeout(PROXY_HEADER_TIMEOUT, read_proxy_header(channel)).await;
        let limit = PROXY_HEADER_TIMEOUT;
        let header = header.map_err(|_| AcceptError::Timeout { what: "PROXY protocol header", limit })??;
        if let Some(source) = header.source() {
            (who.source, who.speaker) = (Source::Address(source), source.ip());
        } else if let Header::Unix { .. } = header {
            who.speaker = IpAddr::V4(Ipv4Addr::LOCALHOST);
        }
        Ok(())
    }

    async fn secure_and_read(
        &self,
        mut channel: Box<Channel>,
        who: &mut Who,
    ) -> Result<Arrived, AcceptError> {
        if let Some(config) = &self.tls {
            // Whoever says nothing costs no TLS connection.
            let mut first = Vec::new();
            if channel.read_some(&mut first).await? == 0 {
                return Err(HandshakeError::Eof.into());
            }
            channel.unread(first);
            let tls = Tls::server(Arc::clone(config)).map_err(|error| AcceptError::Tls(error.into()))?;
            channel.handshake(tls).await.map_err(AcceptError::Tls)?;
        }
        if self.ws.is_none() {
            return Ok(Arrived::Stream(Accepted { channel: *channel, who: *who, misses_early_data: false }));
        }
        let mut head = Vec::new();
        loop {
            if channel.read_some(&mut head).await? == 0 {
                return Err(HandshakeError::Eof.into());
            }
            let mut wants_a_tunnel = false;
            let (response, why) = match self.judge(&head) {
                Judged::Incomplete => continue,
                Judged::Tunnel(upgrade) => {
                    head.drain(..upgrade.used);
                    return Ok(Arrived::Stream(self.upgrade(channel, upgrade, head, *who).await?));
                }
                Judged::Other { request, refusal: Refusal { response, reason }, .. } => {
                    self.learn(who, &request);
                    wants_a_tunnel = request.header("Upgrade").is_some();
                    (response, AcceptError::Refused(reason))
                }
                Judged::Garbage(_) if head.first() == Some(&TLS_HANDSHAKE) => (
                    RequestError::Malformed { problem: String::new() }.response(),
                    AcceptError::UnexpectedTls,
                ),
                Judged::Garbage(error) => (error.response(), error.into()),
            };
            if self.visitors == Visitors::Welcome && why.is_a_visit() {
                let visitor = Visitor { channel: *channel, request: head, who: *who, why, wants_a_tunnel };
                return Ok(Arrived::Visitor(visitor));
            }
            channel.write_all(&response).await?;
            return Err(why);
        }
    }

    /// What `bytes` begin with.
    pub fn judge(&self, bytes: &[u8]) -> Judged {
        let fallback = ServerOptions::default();
        let options = self.ws.as_ref().unwrap_or(&fallback);
        match wsray_ws::server::request(bytes, options.head_limits()) {
            Ok(Step::NeedMore) => Judged::Incomplete,
            Ok(Step::Done { used, value: request }) => {
                let date = httpdate::fmt_http_date(SystemTime::now());
                match options.accept(&request, &date) {
                    Ok(accepted) => Judged::Tunnel(Box::new(Upgrade { used, request, accepted })),
                    Err(refusal) => Judged::Other { used, request: Box::new(request), refusal },
                }
            }
            Err(error) => Judged::Garbage(error),
        }
    }

    /// Answers a request for a tunnel; `ahead` came behind its head.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn upgrade(
        &self,
        mut channel: Box<Channel>,
        upgrade: Box<Upgrade>,
        ahead: Vec<u8>,
        mut who: Who,
    ) -> Result<Accepted, AcceptError> {
        self.learn(&mut who, &upgrade.request);
        channel.write_all(&upgrade.accepted.response).await?;
        let misses_early_data = upgrade.accepted.looks_like_unread_early_data;
        channel.upgrade(Role::Server, ahead, upgrade.accepted.early_data);
        channel.keep_alive(self.heartbeat);
        Ok(Accepted { channel: *channel, who, misses_early_data })
    }

    /// What a request's headers say about the client.
    fn learn(&self, who: &mut Who, request: &Request) {
        who.told = self.trust.told(who.speaker, |name| request.values(name).collect());
        if let Told::Client(client) = who.told {
            who.source = Source::Address(client);
        }
    }
}

/// Reads the header; what came behind it stays in the channel.
async fn read_proxy_header(channel: &mut Channel) -> Result<proxy_protocol::Header, AcceptError> {
    let mut head = Vec::new();
    loop {
        if channel.read_some(&mut head).await? == 0 {
            return Err(HandshakeError::Eof.into());
        }
        if let Step::Done { used, value } = proxy_protocol::parse(&head)? {
            head.drain(..used);
            channel.unread(head);
            return Ok(value);
        }
    }
}
