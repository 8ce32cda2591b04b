//! Sends sessions to a VMess server: header and first payload in the first flight, as early data where configured.

mod made_before;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rand::{Rng, RngExt};
use tokio::time::Instant;
use wsray_config::Udp443;
use wsray_vmess::{
    Address, AesHardware, ChunkSealer, CmdKey, Command, Direction, HeaderEntropy, MAX_PACKET_ADDR, Network,
    Options, Request, Secrets, Security, SecurityChoice, Target, encode_packet_addr, outbound_options,
    seal_request,
};

use super::{ATTEMPTS, By, Connected, How, OutboundError, first_payload, wait};
use crate::{
    browser::BrowserDialer,
    mux::{self, Ends, MuxStream, Place, Sharing, Wanted},
    relay::FirstPayload,
    session::{Mapping, Reach, Session, Source},
    stream::{Endpoint, Layout, PacketAddr, Read},
    transport::{Channel, Connector, HANDSHAKE_TIMEOUT, Ready},
    vmess::{EndMark, MuxServer, ServerHabits, VmessStream, unix_seconds},
};

/// A VMess client.
#[derive(Debug)]
pub struct VmessOutbound {
    /// Taken in turn; at least one.
    pub servers: Vec<VmessServer>,
    /// Which is next.
    pub next: AtomicUsize,
}

/// A server and who we are to it.
#[derive(Debug)]
pub struct VmessServer {
    /// The way to it.
    pub connector: Connector,
    /// The browser that makes connections in place of `connector`, if one does.
    pub browser: Option<BrowserDialer>,
    /// Taken in turn; at least one.
    pub users: Vec<VmessUser>,
    /// Connections to it that are made before they are needed.
    pub ready: Option<Ready>,
    /// What we have learnt about it.
    pub habits: Arc<ServerHabits>,
}

/// Who we are to a server.
#[derive(Debug)]
pub struct VmessUser {
    /// The user's key.
    pub cmd_key: CmdKey,
    /// Which cipher protects the body.
    pub security: SecurityChoice,
    /// Chunk lengths are encrypted.
    pub authenticated_length: bool,
    /// Whether the end of the request is marked.
    pub end_mark: EndMark,
    /// Sessions share connections.
    pub mux: Option<mux::Client>,
    /// What is different for packets.
    pub packets: Packets,
    /// What becomes of QUIC.
    pub udp_443: Udp443,
}

/// How packets get to a server.
#[derive(Debug)]
pub enum Packets {
    /// As streams do.
    AsStreams,
    /// Each target's on a connection of its own.
    Separate,
    /// Those of an application in one session of XUDP, several of which share a connection.
    Xudp(mux::Client),
}

/// The port of QUIC (RFC 9114 section 3.1).
const QUIC: u16 = 443;

impl VmessOutbound {
    /// Asks the server for a session. The connection is made while the application is given the time to speak;
    /// what it says goes along with the header.
    ///
    /// # Errors
    /// [`OutboundError`].
    pub async fn connect(
        &self,
        session: &Session,
        inbound: &mut dyn Endpoint,
    ) -> Result<Connected, OutboundError> {
        let (mut attempts, mut first) = (ATTEMPTS.into_iter(), None);
        loop {
            wait(attempts.next().unwrap_or_default()).await;
            let (server, user) = self.next_server();
            if let Some(mux) = user.shared_by(session)? {
                return server.join(mux, session, user, inbound).await;
            }
            match server.attempt(session, user, inbound, &mut first).await {
                Err(OutboundError::Connect(error)) if error.is_transient() && attempts.len() > 0 => {}
                result => return result,
            }
        }
    }

    /// Whose turn it is. Every attempt takes another server, so that one that is down does not keep a session waiting.
    fn next_server(&self) -> (&VmessServer, &VmessUser) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let server = &self.servers[turn % self.servers.len()];
        (server, &server.users[turn / self.servers.len() % server.users.len()])
    }

    /// Whether packets to `target` go into one session with others of their application.
    pub fn gathers(&self, mapping: Mapping, target: &Target) -> bool {
        let users = || self.servers.iter().flat_map(|server| &server.users);
        if users().all(|user| user.uses_xudp(target)) {
            return true;
        }
        if users().any(|user| target.port == QUIC && user.udp_443 != Udp443::Allow) {
            return false;
        }
        // packetaddr has no form for names.
        mapping == Mapping::PacketAddr && matches!(target.address, Address::Ip(_))
    }
}

impl VmessServer {
    async fn attempt(
        &self,
        session: &Session,
        user: &VmessUser,
        inbound: &mut dyn Endpoint,
        first: &mut Option<Said>,
    ) -> Result<Connected, OutboundError> {
        let target = session.target.clone();
        if let Some(browser) = &self.browser {
            browser.refuse_loop(&target)?;
        }
        let ready = self.ready.as_ref().filter(|_| session.network == Network::Tcp);
        if let Some(channel) = ready.and_then(Ready::take) {
            let request = user.request(Command::Tcp(target.clone()));
            if let Some(connected) = self.carry_on(channel, &request, user, inbound, first).await? {
                return Ok(connected);
            }
        }
        let request = user.request(match (session.network, session.reach) {
            (Network::Tcp, _) => Command::Tcp(target),
            (Network::Udp, Reach::Target) => Command::Udp(target),
            (Network::Udp, Reach::Any(_)) => Command::Udp(Target::packet_addr()),
        });
        let connected = self.carry(request, user, Some(inbound), first).await?;
        Ok(if matches!(session.reach, Reach::Any(_)) { in_packet_addr(connected) } else { connected })
    }

    /// A stream for `request`, with the first payload in its first flight.
    async fn carry(
        &self,
        request: Request,
        user: &VmessUser,
        inbound: Option<&mut dyn Endpoint>,
        first: &mut Option<Said>,
    ) -> Result<Connected, OutboundError> {
        let mut sealer = ChunkSealer::new(&request, Direction::Request).map_err(crypto)?;
        let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
        let said = async {
            if let (None, Some(inbound)) = (&first, inbound) {
                let read = first_payload(inbound, first_layout(&sealer)).await;
                *first = Some(Said::new(read.map_err(OutboundError::Inbound)?, &request.command));
            }
            Ok(())
        };
        let (dialled, ()) = tokio::try_join!(self.dial(deadline), said)?;
        let said = first.get_or_insert(Said::NOTHING);
        let mut opening = user.open(&request, unix_seconds()).map_err(crypto)?;
        said.seal_onto(&mut sealer, &mut opening)?;
        let (mut channel, early) = match dialled {
            Dialled::Whole(channel) => (channel, 0),
            Dialled::BeforeUpgrade(mut channel) => {
                let early = self.connector.upgrade(&mut channel, &opening, deadline).await?;
                (channel, early)
            }
            Dialled::Tab(browser) => Box::pin(browser.dial(&opening)).await?,
        };
        if request.command == Command::Mux {
            channel.socket().share();
        }
        let by = if self.browser.is_some() { By::Browser } else { By::Wsray(channel.tls_version()) };
        let how = How { by, ws: channel.is_ws(), early_data: early, ready: false };
        channel.queue(&opening[early..]).map_err(OutboundError::Inbound)?;
        let stream = VmessStream::client(channel, &request, sealer, user.end_mark, Arc::clone(&self.habits))
            .map_err(crypto)?;
        let first = FirstPayload { bytes: said.len() as u64, ended: said.ended };
        Ok(Connected { endpoint: Box::new(stream), first, how: Some(how) })
    }

    /// Opens the session on a connection that others share, if need be on a new one.
    async fn join(
        &self,
        mux: &mux::Client,
        session: &Session,
        user: &VmessUser,
        inbound: &mut dyn Endpoint,
    ) -> Result<Connected, OutboundError> {
        let (mut stream, how) = self.place(mux, session, user).await?;
        let said = first_payload(inbound, stream.layout()).await.map_err(OutboundError::Inbound)?;
        let mut first = FirstPayload::default();
        match said {
            Some(Read::Data(batch)) => {
                first.bytes = batch.len() as u64;
                let endpoint: &mut dyn Endpoint = &mut stream;
                endpoint.flush().await.map_err(OutboundError::Inbound)?;
                endpoint.send(batch).map_err(OutboundError::Inbound)?;
            }
            Some(Read::End) => {
                first.ended = true;
                stream.open_silently();
            }
            None => stream.open_silently(),
        }
        Ok(Connected { endpoint: Box::new(stream), first, how })
    }

    /// A session on a connection with room for it, which is made if there is none.
    async fn place(
        &self,
        mux: &mux::Client,
        session: &Session,
        user: &VmessUser,
    ) -> Result<(MuxStream, Option<How>), OutboundError> {
        let wanted = Wanted {
            network: session.network,
            target: session.target.clone(),
            // Packets of each family are a session of their own, and a server takes equal ids for the same session.
            global_id: matches!(session.reach, Reach::Any(_)).then(|| {
                let is_v6 = matches!(session.target.address, Address::Ip(IpAddr::V6(_)));
                match session.source {
                    Source::Address(address) => mux.global_id(&(address, is_v6)),
                    Source::Unix => mux.global_id(&(session.id, is_v6)),
                }
            }),
        };
        for _ in ATTEMPTS {
            let sharing =
                if self.habits.mixes_up_sessions() { Sharing::OneAtATime } else { Sharing::Allowed };
            match mux.place(&wanted, sharing) {
                Place::Here(stream) => return Ok((stream, None)),
                Place::Wait(waiting) => waiting.wait().await.map_err(OutboundError::NotShared)?,
                Place::Make(making) => match self.connect_shared(user).await {
                    Err(error) => {
                        making.failed(&error);
                        return Err(error);
                    }
                    Ok(Connected { endpoint, how, .. }) => {
                        let pool = Arc::clone(&self.connector.pool);
                        let habits = Arc::clone(&self.habits);
                        let ends = move || ends(&habits);
                        let (driver, connection) = mux::Connection::new(endpoint, pool, ends);
                        let stream = mux.made(&making, connection, &wanted);
                        tokio::spawn(driver.run());
                        return Ok((stream.ok_or(OutboundError::Shared)?, how));
                    }
                },
            }
        }
        Err(OutboundError::Shared)
    }

    async fn connect_shared(&self, user: &VmessUser) -> Result<Connected, OutboundError> {
        let mut attempts = ATTEMPTS.into_iter();
        loop {
            wait(attempts.next().unwrap_or_default()).await;
            let nothing = &mut Some(Said::NOTHING);
            match self.carry(user.request(Command::Mux), user, None, nothing).await {
                Err(OutboundError::Connect(error)) if error.is_transient() && attempts.len() > 0 => {}
                result => return result,
            }
        }
    }

    /// Connects as far as is possible without knowing what will be sent.
    async fn dial(&self, deadline: Instant) -> Result<Dialled<'_>, OutboundError> {
        if let Some(browser) = &self.browser {
            if browser.sends_early_data() {
                Box::pin(browser.wait_for_tab()).await?;
                return Ok(Dialled::Tab(browser));
            }
            let (channel, _) = Box::pin(browser.dial(&[])).await?;
            return Ok(Dialled::Whole(channel));
        }
        let mut channel = self.connector.open(deadline).await?;
        if self.connector.sends_early_data() {
            return Ok(Dialled::BeforeUpgrade(channel));
        }
        self.connector.upgrade(&mut channel, &[], deadline).await?;
        Ok(Dialled::Whole(channel))
    }
}

/// What the server makes of it that a session among others sends nothing more.
fn ends(habits: &ServerHabits) -> Ends {
    match habits.mux_server() {
        MuxServer::Unknown => Ends::Unknown,
        MuxServer::Wsray => Ends::PassedOn,
        MuxServer::SingBox => Ends::PassedOnSilently,
        MuxServer::Other => Ends::GivenUp,
    }
}

/// Packets in the session have addresses in front of them.
fn in_packet_addr(connected: Connected) -> Connected {
    Connected { endpoint: Box::new(PacketAddr::new(connected.endpoint)), ..connected }
}

/// How far a dial gets before it is known what will be sent.
enum Dialled<'a> {
    /// To its end: there is no early data.
    Whole(Channel),
    /// The request of the upgrade will hold early data.
    BeforeUpgrade(Channel),
    /// So will the browser's, which makes TCP, TLS and the upgrade in one.
    Tab(&'a BrowserDialer),
}

impl VmessUser {
    /// The connections that a session joins, if it does not get one of its own.
    fn shared_by(&self, session: &Session) -> Result<Option<&mux::Client>, OutboundError> {
        if session.network == Network::Tcp {
            return Ok(self.mux.as_ref());
        }
        match (&self.packets, session.reach, self.udp_443) {
            (_, _, Udp443::Reject) if session.target.port == QUIC => Err(OutboundError::Quic),
            (_, _, Udp443::Skip) if session.target.port == QUIC => Ok(None),
            (Packets::Xudp(xudp), ..) => Ok(Some(xudp)),
            (_, Reach::Any(_), _) | (Packets::Separate, ..) => Ok(None),
            (Packets::AsStreams, ..) => Ok(self.mux.as_ref()),
        }
    }

    fn uses_xudp(&self, target: &Target) -> bool {
        let excepted = target.port == QUIC && self.udp_443 != Udp443::Allow;
        matches!(self.packets, Packets::Xudp(_)) && !excepted
    }

    fn request(&self, command: Command) -> Request {
        let network = if matches!(command, Command::Udp(_)) { Network::Udp } else { Network::Tcp };
        let (security, mut options) = outbound_options(self.security, network, aes_hardware());
        if self.authenticated_length && security != Security::None {
            options = options | Options::AUTHENTICATED_LENGTH;
        }
        let mut secrets = Secrets { body_key: [0; 16], body_iv: [0; 16], response_auth: 0 };
        let mut random = rand::rng();
        random.fill_bytes(&mut secrets.body_key);
        random.fill_bytes(&mut secrets.body_iv);
        secrets.response_auth = random.random();
        Request { secrets, options, security, command }
    }

    /// The sealed header.
    fn open(&self, request: &Request, unix_seconds: u64) -> Result<Vec<u8>, wsray_vmess::CryptoError> {
        let mut random = [0; 28];
        rand::rng().fill_bytes(&mut random);
        seal_request(&self.cmd_key, request, &HeaderEntropy::from_random(random), unix_seconds)
    }

    /// What a session for `target` begins with when the clock says `unix_seconds` and the application `payload`, and
    /// what opens the answer.
    ///
    /// # Errors
    /// When the crypto library fails.
    pub fn opening(
        &self,
        target: Target,
        payload: &[u8],
        unix_seconds: u64,
    ) -> Result<(Vec<u8>, Request), OutboundError> {
        let crypto = |error: wsray_vmess::CryptoError| OutboundError::Crypto(error.to_string());
        let request = self.request(Command::Tcp(target));
        let mut sealer = ChunkSealer::new(&request, Direction::Request).map_err(crypto)?;
        let mut opening = self.open(&request, unix_seconds).map_err(crypto)?;
        let said = Said { pieces: vec![payload.to_vec()], ended: false };
        said.seal_onto(&mut sealer, &mut opening)?;
        Ok((opening, request))
    }
}

fn crypto(error: wsray_vmess::CryptoError) -> OutboundError {
    OutboundError::Crypto(error.to_string())
}

/// What the application said before the header went out; kept as it is, since every attempt seals it anew.
struct Said {
    pieces: Vec<Vec<u8>>,
    ended: bool,
}

impl Said {
    const NOTHING: Self = Self { pieces: Vec::new(), ended: false };

    fn new(read: Option<Read>, command: &Command) -> Self {
        match read {
            Some(Read::Data(batch)) => {
                let addressed = matches!(command, Command::Udp(target) if target.is_packet_addr());
                let piece = |(payload, peer): (&[u8], Option<&Target>)| match peer {
                    Some(Target { address: Address::Ip(ip), port }) if addressed => {
                        let mut packet = Vec::new();
                        encode_packet_addr(SocketAddr::new(*ip, *port), &mut packet);
                        packet.extend_from_slice(payload);
                        packet
                    }
                    _ => payload.to_vec(),
                };
                Self { pieces: batch.packets().map(piece).collect(), ended: false }
            }
            Some(Read::End) => Self { pieces: Vec::new(), ended: true },
            None => Self::NOTHING,
        }
    }

    fn len(&self) -> usize {
        self.pieces.iter().map(Vec::len).sum()
    }

    fn seal_onto(&self, sealer: &mut ChunkSealer, out: &mut Vec<u8>) -> Result<(), OutboundError> {
        let mut padding = [0; 64];
        for piece in &self.pieces {
            rand::rng().fill_bytes(&mut padding);
            let mut chunk = vec![0; sealer.head_len() + piece.len() + sealer.tail_max()];
            let payload = sealer.head_len()..sealer.head_len() + piece.len();
            chunk[payload.clone()].copy_from_slice(piece);
            let sealed = sealer.seal(&mut chunk, payload, &padding);
            out.extend_from_slice(&chunk[sealed.map_err(|error| OutboundError::Crypto(error.to_string()))?]);
        }
        Ok(())
    }
}

/// One slot's worth: the first payload is cut as the sealer wants it, with room for an address before it.
fn first_layout(sealer: &ChunkSealer) -> Layout {
    let payload = sealer.max_payload() - MAX_PACKET_ADDR;
    Layout { head: sealer.head_len(), payload, tail: sealer.tail_max() }
}

/// Whether the CPU computes AES, as V2Ray asks it for `auto` (v2fly/v2ray-core `common/protocol/headers.go`).
fn aes_hardware() -> AesHardware {
    #[cfg(target_arch = "x86_64")]
    let present =
        std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let present = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let present = false;
    if present { AesHardware::Present } else { AesHardware::Absent }
}
