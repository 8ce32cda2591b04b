//! VMess from clients on other machines.

use std::{
    collections::HashSet,
    future::poll_fn,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Duration, Instant, timeout, timeout_at},
};
use wsray_vmess::{
    Command, HeaderError, Network, Replay, Request, RequestOpener, Security, Step, Target, UserId, UserIndex,
    Users,
};

use super::{Common, Seat, Served};
use crate::{
    mux::{Driver, Full, Opened},
    observe::Level,
    session::{Mapping, Quota, Reach, Source},
    site::{Site, Visit, VisitError},
    stream::SMALL_BYTES,
    transport::{AcceptError, Accepted, Acceptor, Arrived, Channel, Rejected, Socket, Told, Visitor, Who},
    vmess::{NORMAL_CLOSE, VmessStream, unix_seconds},
};

/// A VMess server.
#[derive(Debug)]
pub struct VmessInbound {
    /// What every inbound has.
    pub common: Common,
    /// How connections become streams.
    pub acceptor: Acceptor,
    /// What answers those who want no tunnel.
    pub site: Option<Site>,
    /// Connections whose peers named a client and were not believed.
    pub disbelieved: AtomicU64,
    /// Their keys, in the order of `names`.
    pub users: Users,
    /// Email and level of each user.
    pub names: Vec<UserName>,
    /// Openings seen.
    pub replay: Arc<Mutex<Replay>>,
    /// Refuse `none` and `zero`.
    pub require_encryption: bool,
}

/// A user, for logs and timeouts.
#[derive(Clone, Debug)]
pub struct UserName {
    /// Who it is when users change.
    pub id: UserId,
    /// The email, if any.
    pub email: Option<Arc<str>>,
    /// The level in the policy.
    pub level: u32,
    /// How many sessions share connections.
    pub muxed: Quota,
    /// Set to true when this is no user any more.
    pub dismissed: watch::Sender<bool>,
}

/// A user has as many multiplexed sessions as one may have.
#[derive(Debug, thiserror::Error)]
#[error("a user has at most {} multiplexed sessions at a time", Quota::MOST)]
struct TooMany;

/// Why a stream did not become a session. To its peer all look alike.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Header(#[from] HeaderError),
    #[error("no whole VMess header came before the connection or the handshake's time ended")]
    Incomplete,
    /// A guess: see [`crate::transport::Accepted::misses_early_data`].
    #[error(
        "the client seems to send early data in Sec-WebSocket-Protocol, which this inbound does not take: set maxEarlyData and \
         earlyDataHeaderName: \"Sec-WebSocket-Protocol\" here, or remove them (or ?ed= in the path) from the client"
    )]
    EarlyData,
    #[error("this inbound refuses bodies without encryption (disableInsecureEncryption)")]
    Insecure,
}

impl VmessInbound {
    /// Serves one connection: one deadline from here to a known user, who keeps it for as long as he is one.
    pub fn connection(
        &self,
        socket: Socket,
        peer: Source,
        seat: Seat,
    ) -> impl Future<Output = ()> + Send + '_ {
        let deadline = Instant::now() + self.common.handshake;
        // One box after the other: a stranger never holds the room of a session, nor a session a stranger's.
        let accepting = Box::pin(self.accept(socket, peer, deadline));
        async move {
            let Some(accepted) = accepting.await else { return };
            let Some((source, user, served)) = Box::pin(self.open(accepted)).await else { return };
            drop(seat);
            let name = &self.names[user.0];
            let mut dismissed = name.dismissed.subscribe();
            tokio::select! {
                () = served => {}
                _ = dismissed.wait_for(|dismissed| *dismissed) => {
                    let log = &self.common.dispatcher.log;
                    log.debug(None, "vmess", format_args!("{source} cut: its user was removed from the configuration"));
                }
            }
        }
    }

    /// What a known user asked for.
    fn serve(
        &self,
        source: Source,
        channel: Channel,
        user: UserIndex,
        request: &Request,
    ) -> Option<Served<'_>> {
        if request.command == Command::Mux {
            channel.socket().share();
        }
        let stream = VmessStream::server(channel, request).ok()?;
        let name = &self.names[user.0];
        Some(match request.command.clone() {
            Command::Tcp(target) => self.session(source, name, Network::Tcp, target, stream),
            Command::Udp(target) => self.session(source, name, Network::Udp, target, stream),
            Command::Mux => Box::pin(self.multiplexed(source, name, stream)),
        })
    }

    fn session<'a>(
        &'a self,
        source: Source,
        name: &UserName,
        network: Network,
        target: Target,
        stream: VmessStream,
    ) -> Served<'a> {
        let mut session = self.common.session(source, name.email.clone(), network, target);
        session.level = name.level;
        Box::pin(self.common.dispatcher.run(session, Box::new(stream)))
    }

    /// Cuts the sessions of all users but these; returns who is none any more.
    pub fn dismiss_all_but(&self, users: &HashSet<UserId>) -> Vec<UserId> {
        let gone =
            self.names.iter().filter(|name| !users.contains(&name.id) && !name.dismissed.send_replace(true));
        gone.map(|name| name.id).collect()
    }

    /// Many sessions: each is dispatched like one that has a connection of its own, and none outlives the connection.
    async fn multiplexed(&self, source: Source, name: &UserName, stream: VmessStream) {
        let (common, user) = (self.common.clone(), name.clone());
        let sessions = Arc::new(Mutex::new(JoinSet::new()));
        let running = Arc::clone(&sessions);
        let open = move |opened: Result<Opened, Full>| {
            let opened = match opened {
                Ok(opened) => opened,
                Err(full) => return common.tell_refused("refused sessions", "mux", source, &full),
            };
            let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
            while running.try_join_next().is_some() {}
            let Some(seat) = user.muxed.take() else {
                return common.tell_refused("refused sessions", "mux", source, &TooMany);
            };
            let mut session = common.session(source, user.email.clone(), opened.network, opened.target);
            session.level = user.level;
            session.quota = Some(user.muxed.clone());
            if opened.is_xudp {
                session.reach = Reach::Any(Mapping::Shared);
            }
            let dispatcher = Arc::clone(&common.dispatcher);
            running.spawn(async move {
                dispatcher.run(session, Box::new(opened.stream)).await;
                drop(seat);
            });
        };
        let pool = Arc::clone(&self.common.dispatcher.pool);
        let ending = Driver::server(Box::new(stream), pool, open).run().await;
        let log = &self.common.dispatcher.log;
        log.debug(None, "mux", format_args!("{source}: the shared connection ended: {ending}"));
        let mut last = std::mem::take(&mut *sessions.lock().unwrap_or_else(PoisonError::into_inner));
        // They have been told; who is still connecting somewhere is stopped.
        let _ = timeout(GOODBYE, async { while last.join_next().await.is_some() {} }).await;
    }

    /// From a connection to a stream, and until when its client must be known; or to its refusal.
    async fn accept(
        &self,
        socket: Socket,
        peer: Source,
        deadline: Instant,
    ) -> Option<Box<(Accepted, Instant)>> {
        match self.acceptor.accept(socket, peer, deadline).await {
            Ok(Arrived::Stream(accepted)) => Some(Box::new((accepted, deadline))),
            Ok(Arrived::Visitor(visitor)) => {
                let accepted = Box::pin(self.receive(visitor)).await?;
                Some(Box::new((accepted, Instant::now() + self.common.handshake)))
            }
            Err(rejected) => {
                self.tell_rejected(&rejected);
                None
            }
        }
    }

    /// From a stream to what its user asked for, or to its refusal.
    async fn open(&self, accepted: Box<(Accepted, Instant)>) -> Option<(Source, UserIndex, Served<'_>)> {
        let (accepted, deadline) = *accepted;
        let (mut channel, source) = (accepted.channel, accepted.who.source);
        self.tell_disbelieved(&accepted.who);
        let read = timeout_at(deadline, self.read_request(&mut channel)).await;
        let refusal = match read.unwrap_or(Err(Refusal::Incomplete)) {
            Ok((user, request)) => {
                return Some((source, user, self.serve(source, channel, user, &request)?));
            }
            Err(_) if accepted.misses_early_data => Refusal::EarlyData,
            Err(refusal) => refusal,
        };
        self.common.tell_refused("refused VMess clients", "vmess", source, &refusal);
        drain(channel, deadline).await;
        None
    }

    fn tell_rejected(&self, rejected: &Rejected) {
        let Rejected { who, error } = rejected;
        self.tell_disbelieved(who);
        if error.is_departure() {
            let log = &self.common.dispatcher.log;
            return log.debug(None, "transport", format_args!("{} left: {error}", who.source));
        }
        let kind = match error {
            AcceptError::Sender { .. } => "refused senders of the PROXY protocol",
            _ => "refused handshakes",
        };
        self.common.tell_refused(kind, "transport", who.source, error);
    }

    /// Lets the site answer a visitor; the stream if it wants one after all.
    async fn receive(&self, visitor: Visitor) -> Option<Accepted> {
        let (source, log) = (visitor.who.source, &self.common.dispatcher.log);
        self.tell_disbelieved(&visitor.who);
        // Clients with a wrong path must be found in the log, and are not when everybody's visits are.
        let level = if visitor.wants_a_tunnel { Level::Warning } else { Level::Info };
        let why = visitor.why.to_string();
        log.limited(level, "visits", None, "transport", format_args!("{source} gets the fallback: {why}"));
        match self.site.as_ref()?.visit(&self.acceptor, visitor).await {
            Ok(Visit::Over) => None,
            Ok(Visit::Tunnel(accepted)) => Some(*accepted),
            Err(error) => {
                let is_ours = matches!(error, VisitError::Unreachable { .. } | VisitError::Crowded);
                let level = if is_ours { Level::Warning } else { Level::Debug };
                log.limited(level, "failed visits", None, "transport", format_args!("{source}: {error}"));
                None
            }
        }
    }

    /// Tells of the first peer that was not believed, of the tenth, the hundredth, and so on.
    fn tell_disbelieved(&self, who: &Who) {
        let (header, why) = match who.told {
            Told::Nothing | Told::Client(_) => return,
            Told::Stranger(header) => (
                header,
                "only this machine and the networks in sockopt.trustedXForwardedFor may say who the client is: if this \
                 is your own proxy, write its address there",
            ),
            Told::Malformed(header) => {
                (header, "it holds no address: check what the proxy in front writes there")
            }
        };
        let count = self.disbelieved.fetch_add(1, Ordering::Relaxed) + 1;
        if count == 10_u64.pow(count.ilog10()) {
            let peer = who.source.address().map_or("@".to_owned(), |address| address.ip().to_string());
            let log = &self.common.dispatcher.log;
            log.warning(
                None,
                "transport",
                format_args!("{header} of {peer} is ignored ({count} so far): {why}"),
            );
        }
    }

    async fn read_request(&self, channel: &mut Channel) -> Result<(UserIndex, Request), Refusal> {
        let mut opener = RequestOpener::new();
        loop {
            let incoming = poll_fn(|cx| {
                let read = channel.poll_read(cx, SMALL_BYTES);
                // Pings are answered from the first moment on.
                let _ = channel.poll_flush(cx);
                read
            });
            let incoming = incoming.await;
            let Ok(Some(mut incoming)) = incoming else { return Err(Refusal::Incomplete) };
            let bytes = &incoming.batch.bytes()[incoming.stream.clone()];
            match self.open_header(&mut opener, bytes)? {
                Step::NeedMore => channel.put_back(bytes),
                Step::Done { used, value: (user, request) } => {
                    channel.unread_stream(bytes[used..].to_vec());
                    self.allowed(&request)?;
                    return Ok((user, request));
                }
            }
        }
    }

    fn open_header(
        &self,
        opener: &mut RequestOpener,
        bytes: &[u8],
    ) -> Result<Step<(UserIndex, Request)>, HeaderError> {
        let now = unix_seconds();
        // The search among the users, the dear part, is done without the lock.
        if opener.identify(bytes, &self.users, now)?.is_none() {
            return Ok(Step::NeedMore);
        }
        let mut replay = self.replay.lock().unwrap_or_else(PoisonError::into_inner);
        opener.open(bytes, &self.users, &mut replay, now)
    }

    fn allowed(&self, request: &Request) -> Result<(), Refusal> {
        if self.require_encryption && request.security == Security::None {
            return Err(Refusal::Insecure);
        }
        Ok(())
    }
}

/// Reads on until the deadline and says goodbye then, whatever was wrong: neither the time nor the number of bytes
/// nor the ending tells a stranger what.
async fn drain(mut channel: Channel, deadline: Instant) {
    // It ends earlier only if the peer goes, or breaks a rule of WebSocket, which is answered as such.
    let _ = timeout_at(deadline, poll_fn(|cx| channel.poll_drain(cx))).await;
    channel.queue_goodbye(Some(NORMAL_CLOSE));
    let flushed = poll_fn(|cx| channel.poll_flush(cx));
    let _ = timeout(GOODBYE, flushed).await;
}

/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
