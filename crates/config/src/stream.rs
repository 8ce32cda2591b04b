//! What carries VMess, as the program uses it: TCP, TLS, WebSocket.

use std::{
    num::{NonZeroU8, NonZeroU32},
    time::Duration,
};

use wsray_route::Cidr;
use wsray_vmess::{Address, Target};
use wsray_ws::{EarlyData, Headers, Path};
use zeroize::Zeroize as _;

use crate::Place;

/// The `streamSettings` of an inbound.
#[derive(Clone, Debug, Default)]
pub struct ServerStream {
    /// TLS; `None`: plaintext.
    pub tls: Option<ServerTls>,
    /// WebSocket; `None`: raw TCP (or raw TLS).
    pub ws: Option<Box<ServerWs>>,
    /// Whether every connection must begin with a PROXY protocol header, before TLS.
    pub accept_proxy_protocol: ProxyProtocol,
}

/// Who sends PROXY protocol headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Nobody: none is expected.
    #[default]
    Off,
    /// Whoever connects.
    FromAnybody,
    /// These networks, and programs on this machine over a unix socket; others are refused.
    From(Vec<Cidr>),
}

/// TLS of an inbound.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// Where `tlsSettings` stands.
    pub place: Place,
    /// What to present, chosen by SNI, the first by default; at least one.
    pub certificates: Vec<CertificatePair>,
    /// Refuse clients that ask for a name that no certificate has, or for none.
    pub reject_unknown_sni: bool,
    /// What to agree to, in order; `http/1.1` by default, and never `h2` on WebSocket.
    pub alpn: Vec<String>,
    /// Let clients resume sessions.
    pub resumption: Resumption,
}

/// Whether TLS sessions are resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// Every handshake is a full one.
    Off,
    /// They are.
    On,
    /// They are, and the upgrade request that carries early data goes along with the first flight (RFC 8446
    /// section 2.3).
    WithEarlyData,
}

/// A certificate chain and its key. The files have not been looked at.
#[derive(Clone, Debug)]
pub struct CertificatePair {
    /// Where the pair stands.
    pub place: Place,
    /// The chain, leaf first.
    pub certificate: Pem,
    /// The leaf's key.
    pub key: Pem,
}

/// PEM text or the file that holds it.
#[derive(Clone)]
pub struct Pem {
    /// Where it is written, for a complaint about the file or the text.
    pub place: Place,
    /// The text or the file.
    pub source: PemSource,
}

/// Text in the configuration may be a key.
impl Drop for Pem {
    fn drop(&mut self) {
        if let PemSource::Inline(text) = &mut self.source {
            text.zeroize();
        }
    }
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.source {
            PemSource::File(path) => f.debug_tuple("File").field(path).finish(),
            PemSource::Inline(text) => write!(f, "Inline({} bytes)", text.len()),
        }
    }
}

/// Where PEM text comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum PemSource {
    /// A file, its path as written in the configuration.
    File(String),
    /// The text itself, its lines joined; possibly a secret.
    Inline(String),
}

/// WebSocket of an inbound.
#[derive(Clone, Debug)]
pub struct ServerWs {
    /// Where `wsSettings` stands, or `streamSettings` without one.
    pub place: Place,
    /// The only path served.
    pub path: Path,
    /// Early data is understood in this place; the size limits nothing here. `None`: V2Ray's plain mode.
    pub early_data: Option<EarlyData>,
    /// Who may say who the client is.
    pub forwarded: ForwardedTrust,
    /// When clients are pinged; [`Heartbeat::Off`] by default, as clients see to it.
    pub heartbeat: Heartbeat,
    /// What answers requests that are no tunnel's; `None`: 404 and 400, as V2Ray.
    pub fallback: Option<Fallback>,
}

/// `fallback`: the web site of those who want no tunnel.
#[derive(Clone, Debug)]
pub struct Fallback {
    /// Where it stands, for a complaint about the folder.
    pub place: Place,
    /// What it is.
    pub site: FallbackSite,
}

/// What answers requests that are no tunnel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FallbackSite {
    /// The files of this folder, its path as written.
    Folder(String),
    /// A web server that speaks plain HTTP.
    Server(Target),
    /// A web server that listens on this unix socket.
    Unix(String),
}

/// From whom `X-Forwarded-For` and its like are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardedTrust {
    /// From nobody: `parseXForwardedFor` is false.
    Nobody,
    /// From this machine, and from these networks.
    ThisMachineAnd(Vec<Cidr>),
}

/// When the other end of a WebSocket is pinged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// Never.
    Off,
    /// When nothing has moved for a while.
    WhenIdle,
    /// Every so many seconds.
    Every(NonZeroU32),
}

/// Connections to a server that are kept ready for sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preconnect {
    /// How many.
    pub connections: NonZeroU8,
    /// An older one is replaced; below the time that servers give a client that says nothing.
    pub max_age: Duration,
}

/// The `streamSettings` of an outbound.
#[derive(Clone, Debug, Default)]
pub struct ClientStream {
    /// TLS; `None`: plaintext.
    pub tls: Option<ClientTls>,
    /// WebSocket; `None`: raw TCP (or raw TLS).
    pub ws: Option<ClientWs>,
}

/// TLS of an outbound.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// Where `tlsSettings` stands, or `security` without one.
    pub place: Place,
    /// Who the server must be; `None`: the address it is dialled at. An IP address is checked, but no SNI is
    /// sent.
    pub server_name: Option<Address>,
    /// What to offer, in order; `http/1.1` by default on WebSocket, and never `h2` there.
    pub alpn: Vec<String>,
    /// Do not check the certificate at all. A warning was given.
    pub allow_insecure: bool,
    /// Trust `extra_roots` only.
    pub disable_system_root: bool,
    /// Trusted beside the system's: certificates with usage `verify`.
    pub extra_roots: Vec<Pem>,
    /// If not empty, the server's chain must have one of these SHA-256 hashes (V2Ray's chain hash).
    pub pinned_chain_sha256: Vec<[u8; 32]>,
    /// If not empty, the SHA-256 hashes of what is trusted instead of the authorities: the server's own certificate, for
    /// which nothing else is checked, or an authority's in its chain.
    pub pinned_sha256: Vec<[u8; 32]>,
    /// If not empty, the certificate must be good for one of these names instead of `server_name`'s.
    pub verified_names: Vec<Address>,
    /// Resume sessions.
    pub resumption: Resumption,
}

impl ClientTls {
    /// Whether hashes say which certificates are good.
    pub fn is_pinned(&self) -> bool {
        !self.pinned_chain_sha256.is_empty() || !self.pinned_sha256.is_empty()
    }
}

/// WebSocket of an outbound.
#[derive(Clone, Debug)]
pub struct ClientWs {
    /// Where `wsSettings` stands, or `streamSettings` without one.
    pub place: Place,
    /// The path asked for, which may hold a query.
    pub path: Path,
    /// They override the defaults, Host and User-Agent included.
    pub headers: Headers,
    /// How early data is sent; `None`: not at all.
    pub early_data: Option<EarlyData>,
    /// When the server is pinged; [`Heartbeat::WhenIdle`] by default.
    pub heartbeat: Heartbeat,
    /// Connections made before they are needed; `None` by default.
    pub preconnect: Option<Preconnect>,
    /// Dial through a browser tab: where that is written.
    pub browser_forwarding: Option<Place>,
}

/// `headers.Host` cannot stand in a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHost;

impl ClientStream {
    /// The host in the URL that a browser is given: `headers.Host` without its port, else `serverName`, else the
    /// address, as in Xray (XTLS/Xray-core `transport/internet/websocket/dialer.go`).
    ///
    /// # Errors
    /// When `headers.Host` is no name and no address.
    pub fn browser_host(&self, server: &Address) -> Result<Address, NoHost> {
        if let Some(host) = self.ws.as_ref().and_then(|ws| ws.headers.find("Host")) {
            let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            let name = match host.rsplit_once(':') {
                Some((name, port)) if is_port(port) && (!name.contains(':') || name.ends_with(']')) => name,
                _ => host,
            };
            let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
            return name.parse().map_err(|_| NoHost);
        }
        let name = self.tls.as_ref().and_then(|tls| tls.server_name.as_ref());
        Ok(name.unwrap_or(server).clone())
    }
}
