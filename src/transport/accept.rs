//! From an accepted connection to a stream: PROXY protocol, then TLS, then the WebSocket upgrade.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::ServerConfig;
use tokio::time::timeout;
use wsray_ws::{Refusal, RefusalReason, RequestError, Role, ServerOptions, Step};

use super::{
    Channel, HandshakeError, Socket, Told, Trust,
    proxy_protocol::{self, Header, ProxyProtocolError},
    tls::Tls,
};
use crate::{session::Source, stream::Pool};

/// How an inbound makes streams of connections.
#[derive(Clone, Debug)]
pub struct Acceptor {
    /// A PROXY protocol header must come first.
    pub proxy_protocol: bool,
    /// TLS, if configured.
    pub tls: Option<Arc<ServerConfig>>,
    /// WebSocket, if configured.
    pub ws: Option<ServerOptions>,
    /// Who may say who the client is, in a request's headers.
    pub trust: Trust,
    /// When clients are pinged over WebSocket.
    pub heartbeat: wsray_config::Heartbeat,
    /// Where buffers come from.
    pub pool: Arc<Pool>,
}

/// A stream and where it comes from.
pub struct Accepted {
    /// The stream.
    pub channel: Channel,
    /// Who the client is: by a trusted peer's headers, else by the PROXY protocol header, else the peer.
    pub source: Source,
    /// What the request's headers said about that.
    pub told: Told,
    /// The request held what looks like early data where this inbound takes none, so the stream's start is missing.
    pub misses_early_data: bool,
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
    /// Makes a stream of an accepted connection.
    ///
    /// # Errors
    /// [`AcceptError`]; the peer has got its answer and the connection can be dropped.
    pub async fn accept(&self, socket: Socket, peer: Source) -> Result<Accepted, AcceptError> {
        let mut channel = Channel::new(socket, Arc::clone(&self.pool));
        // Whom the PROXY protocol names is the peer of all that follows.
        let (mut peer, mut speaker) = (peer, peer.speaker());
        if self.proxy_protocol {
            let header = timeout(PROXY_HEADER_TIMEOUT, read_proxy_header(&mut channel)).await;
            let limit = PROXY_HEADER_TIMEOUT;
            let header =
                header.map_err(|_| AcceptError::Timeout { what: "PROXY protocol header", limit })??;
            if let Some(source) = header.source() {
                (peer, speaker) = (Source::Address(source), source.ip());
            } else if let Header::Unix { .. } = header {
                speaker = IpAddr::V4(Ipv4Addr::LOCALHOST);
            }
        }
        let upgraded = timeout(HEAD_TIMEOUT, self.secure_and_upgrade(&mut channel, speaker)).await;
        let Upgraded { told, misses_early_data } =
            upgraded.map_err(|_| AcceptError::Timeout { what: "whole request", limit: HEAD_TIMEOUT })??;
        let source = if let Told::Client(client) = told { Source::Address(client) } else { peer };
        Ok(Accepted { channel, source, told, misses_early_data })
    }

    /// `speaker` is who sends the request.
    async fn secure_and_upgrade(
        &self,
        channel: &mut Channel,
        speaker: IpAddr,
    ) -> Result<Upgraded, AcceptError> {
        if let Some(config) = &self.tls {
            let tls = Tls::server(Arc::clone(config)).map_err(|error| AcceptError::Tls(error.into()))?;
            channel.handshake(tls).await.map_err(AcceptError::Tls)?;
        }
        let Some(options) = &self.ws else {
            return Ok(Upgraded { told: Told::Nothing, misses_early_data: false });
        };
        let upgraded = upgrade(channel, options, &self.trust, speaker).await?;
        channel.keep_alive(self.heartbeat);
        Ok(upgraded)
    }
}

/// What a request held beside the stream.
struct Upgraded {
    told: Told,
    misses_early_data: bool,
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

/// Reads the request and answers it.
async fn upgrade(
    channel: &mut Channel,
    options: &ServerOptions,
    trust: &Trust,
    speaker: IpAddr,
) -> Result<Upgraded, AcceptError> {
    let mut head = Vec::new();
    loop {
        if channel.read_some(&mut head).await? == 0 {
            return Err(HandshakeError::Eof.into());
        }
        let request = match wsray_ws::server::request(&head, options.head_limits()) {
            Ok(Step::NeedMore) => continue,
            Ok(Step::Done { used, value }) => {
                head.drain(..used);
                value
            }
            Err(error) => {
                channel.write_all(&error.response()).await?;
                let is_tls = head.first() == Some(&TLS_HANDSHAKE);
                return Err(if is_tls { AcceptError::UnexpectedTls } else { error.into() });
            }
        };
        let date = httpdate::fmt_http_date(SystemTime::now());
        match options.accept(&request, &date) {
            Ok(accepted) => {
                channel.write_all(&accepted.response).await?;
                channel.upgrade(Role::Server, head, accepted.early_data);
                let told = trust.told(speaker, |name| request.values(name).collect());
                return Ok(Upgraded { told, misses_early_data: accepted.looks_like_unread_early_data });
            }
            Err(Refusal { response, reason }) => {
                channel.write_all(&response).await?;
                return Err(AcceptError::Refused(reason));
            }
        }
    }
}
