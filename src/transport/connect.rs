//! From an address to a stream: TCP, then TLS, then the WebSocket upgrade.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rand::RngExt;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::time::{Instant, timeout, timeout_at};
use wsray_vmess::Target;
use wsray_ws::{ClientOptions, ResponseError, Role, Step, printable};

use super::{Channel, Dialer, HandshakeError, options::OptionError, tls::Tls};
use crate::{
    cause::{self, Cause, Front},
    stream::Pool,
};

/// How an outbound makes a stream.
#[derive(Clone, Debug)]
pub struct Connector {
    /// The server.
    pub server: Target,
    /// The way to it.
    pub dialer: Dialer,
    /// TLS, if configured.
    pub tls: Option<TlsDial>,
    /// WebSocket, if configured.
    pub ws: Option<ClientOptions>,
    /// When the server is pinged over WebSocket.
    pub heartbeat: wsray_config::Heartbeat,
    /// Where buffers come from.
    pub pool: Arc<Pool>,
}

/// TLS of an outbound.
#[derive(Clone, Debug)]
pub struct TlsDial {
    /// What to trust and to offer.
    pub config: Arc<ClientConfig>,
    /// An upgrade request that carries early data goes along with the first flight where the server allows it.
    pub early_data: bool,
    /// Who the server must be.
    pub name: ServerName<'static>,
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name has no address.
    #[error("cannot resolve {name}: {source}")]
    Resolve {
        /// The name.
        name: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// No address took the connection.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// The last address tried.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The outbound's rules refuse the address.
    #[error("{address} is closed to targets (settings.finalRules)")]
    NotPermitted {
        /// The address.
        address: IpAddr,
    },
    /// What this program serves to its own user is there.
    #[error("{address} is this program's own page for browsers, which nobody reaches through it")]
    OwnService {
        /// The address.
        address: SocketAddr,
    },
    /// An option that decides the way of packets was refused.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// There is no way to the outbound that the connection goes through.
    #[error("cannot go through another outbound: {0}")]
    Through(#[source] io::Error),
    /// `sendThrough` cannot be sent from.
    #[error("cannot send from {from}: {error}{hint}", hint = source_hint(error))]
    Source {
        /// The address in `sendThrough`.
        from: IpAddr,
        /// Why not.
        error: io::Error,
    },
    /// `sendThrough` and the address to connect to are of different families.
    #[error("cannot connect to {address} from {from}: sendThrough is IPv{0}, the address is not (write \
        an IPv{1} address in sendThrough, or let domainStrategy choose IPv{0})", version(*from), version(*address))]
    Family {
        /// The address in `sendThrough`.
        from: IpAddr,
        /// The address to connect to.
        address: IpAddr,
    },
    /// All of it took too long.
    #[error("{stage} took longer than {seconds} s", seconds = limit.as_secs())]
    Timeout {
        /// What was being done.
        stage: &'static str,
        /// For how long.
        limit: Duration,
    },
    /// TLS failed.
    #[error("TLS: {0}{hint}", hint = tls_hint(.0))]
    Tls(HandshakeError),
    /// The request could not be sent, or the answer not read.
    #[error("WebSocket: {0}")]
    Io(HandshakeError),
    /// The answer was not an upgrade.
    #[error("WebSocket: {error}{body}{hint}", body = shown(body), hint = hint(cause.as_ref(), Front::of(error.server())))]
    Response {
        /// What was wrong.
        error: ResponseError,
        /// The start of the body, fit to print; empty when there is none.
        body: String,
        /// What that tells.
        cause: Option<Cause>,
    },
}

impl ConnectError {
    /// Whether trying again may help: the network failed, rather than the server refused, or took the connection and
    /// did not answer for all the time there is. Who waits for a file holds one that others wait for.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { source, .. } if is_out_of_files(source) => false,
            Self::Resolve { .. } | Self::Connect { .. } => true,
            Self::Timeout { stage, .. } => *stage != UPGRADE,
            _ => false,
        }
    }
}

impl ConnectError {
    /// What it tells of its cause.
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::Tls(error) => of_tls(error),
            Self::Response { cause, .. } => cause.clone(),
            _ => None,
        }
    }
}

/// Whether the process or the system has no file left.
pub fn is_out_of_files(error: &io::Error) -> bool {
    /// "Too many open files in system" and "Too many open files" (Linux).
    const CODES: [i32; 2] = [23, 24];
    error.raw_os_error().is_some_and(|code| CODES.contains(&code))
}

fn version(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 4 } else { 6 }
}

fn source_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => " (sendThrough must be an address of this machine)",
        _ => "",
    }
}

fn hint(cause: Option<&Cause>, front: Option<Front>) -> String {
    cause.map_or_else(String::new, |cause| format!(" ({})", cause.hint(front)))
}

fn tls_hint(error: &HandshakeError) -> String {
    hint(of_tls(error).as_ref(), None)
}

fn of_tls(error: &HandshakeError) -> Option<Cause> {
    match error {
        HandshakeError::Tls(error) => cause::of_tls(error),
        HandshakeError::Eof => Some(Cause::TlsCut),
        _ => None,
    }
}

fn shown(body: &str) -> String {
    if body.is_empty() { String::new() } else { format!(", body: \"{body}\"") }
}

/// How long TCP, TLS and the upgrade may take together
/// (v2fly/v2ray-core `transport/internet/websocket/dialer.go`).
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(8);

/// The last stage of a handshake.
const UPGRADE: &str = "the upgrade";

/// How long and how much of a refusal's body is read.
const BODY_WAIT: Duration = Duration::from_millis(300);
const BODY_SHOWN: usize = 120;

impl Connector {
    /// Connects, and shakes hands if there is TLS.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn open(&self, deadline: Instant) -> Result<Channel, ConnectError> {
        let late = |_| ConnectError::Timeout { stage: "connecting", limit: HANDSHAKE_TIMEOUT };
        let socket = timeout_at(deadline, self.dialer.tcp(&self.server)).await.map_err(late)??;
        let mut channel = Channel::new(socket, Arc::clone(&self.pool));
        self.secure(&mut channel, deadline).await?;
        Ok(channel)
    }

    /// Shakes hands on a fresh connection, if there is TLS.
    ///
    /// # Errors
    /// [`ConnectError::Tls`] and [`ConnectError::Timeout`].
    pub async fn secure(&self, channel: &mut Channel, deadline: Instant) -> Result<(), ConnectError> {
        let Some(dial) = &self.tls else { return Ok(()) };
        let tls = Tls::client(Arc::clone(&dial.config), dial.name.clone());
        let tls = tls.map_err(|error| ConnectError::Tls(error.into()))?;
        let late = |_| ConnectError::Timeout { stage: "the TLS handshake", limit: HANDSHAKE_TIMEOUT };
        let shaken = async {
            // What goes along is the upgrade request: with VMess's opening in it, which is good for once only, or (preconnect)
            // with nothing that means something when somebody sends it again.
            if dial.early_data && self.sends_early_data() {
                channel.begin_handshake(tls).await
            } else {
                channel.handshake(tls).await
            }
        };
        timeout_at(deadline, shaken).await.map_err(late)?.map_err(ConnectError::Tls)
    }

    /// Upgrades to WebSocket, if configured, with the start of `first` as early data; returns how many bytes of it
    /// went along. The rest has to be sent.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn upgrade(
        &self,
        channel: &mut Channel,
        first: &[u8],
        deadline: Instant,
    ) -> Result<usize, ConnectError> {
        let Some(options) = &self.ws else { return Ok(0) };
        let upgraded = timeout_at(deadline, upgrade(channel, options, first)).await;
        let late = |_| ConnectError::Timeout { stage: UPGRADE, limit: HANDSHAKE_TIMEOUT };
        let early = upgraded.map_err(late)??;
        channel.keep_alive(self.heartbeat);
        Ok(early)
    }

    /// Whether the upgrade request should wait for the first payload.
    pub fn sends_early_data(&self) -> bool {
        self.ws.as_ref().is_some_and(|ws| ws.early_data.is_some())
    }
}

async fn upgrade(
    channel: &mut Channel,
    options: &ClientOptions,
    first: &[u8],
) -> Result<usize, ConnectError> {
    let key = rand::rng().random();
    let (request, early) = options.request(key, first);
    let taken = channel.handshake_with(&request).await.map_err(ConnectError::Tls)?;
    if taken < request.len() {
        channel.write_all(&request[taken..]).await.map_err(ConnectError::Io)?;
    }
    let mut head = Vec::new();
    loop {
        if channel.read_some(&mut head).await.map_err(ConnectError::Io)? == 0 {
            return Err(ConnectError::Io(HandshakeError::Eof));
        }
        match wsray_ws::client::response(&head, key) {
            Ok(Step::NeedMore) => {}
            Ok(Step::Done { used, .. }) => {
                head.drain(..used);
                channel.upgrade(Role::Client, head, Vec::new());
                return Ok(early);
            }
            Err(error) => {
                let body = read_body(channel, &error, head).await;
                let over_tls = channel.tls_version().is_some();
                let path = options.path.as_str();
                let seen = cause::Seen { error: &error, body: &body, over_tls, path };
                let cause = cause::of_response(&seen);
                return Err(ConnectError::Response { error, body, cause });
            }
        }
    }
}

/// The start of the page that refused us, as it often names who did.
async fn read_body(channel: &mut Channel, error: &ResponseError, mut head: Vec<u8>) -> String {
    let ResponseError::Refused(refused) = error else { return String::new() };
    let start = refused.body_start_at;
    let more = async {
        while head.len() < start + BODY_SHOWN && channel.read_some(&mut head).await.is_ok_and(|read| read > 0)
        {
        }
    };
    // Whatever came in time is shown.
    let _ = timeout(BODY_WAIT, more).await;
    match head.get(start..) {
        Some(body) if is_compressed(body) => "(compressed)".to_owned(),
        body => body.map_or_else(String::new, |body| printable(body, BODY_SHOWN)),
    }
}

/// By how gzip (RFC 1952 section 2.3.1) and zstd (RFC 8878 section 3.1.1) begin; brotli has no mark.
fn is_compressed(body: &[u8]) -> bool {
    body.starts_with(&[0x1f, 0x8b]) || body.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
}
