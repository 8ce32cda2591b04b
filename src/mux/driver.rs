//! Reads and writes the stream that sessions share.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep, timeout};
use wsray_vmess::{FrameReader, MuxEnd, MuxEvent, MuxHead, MuxId, MuxKind, Network, Step, Target};

use super::{
    CLIENT_IDLE, Ends, MAX_SESSIONS, SERVER_IDLE, STALL_LIMIT,
    hub::{Hub, MuxSession, Packet, Serial},
    queue::Outgoing,
    stream::{Addressing, HALF_OPEN, MuxStream},
};
use crate::stream::{Batch, BoxEndpoint, Cut, Layout, Pool, Read};

/// Whoever reads and writes a connection.
pub struct Driver {
    below: BoxEndpoint,
    layout: Layout,
    hub: Arc<Hub>,
    pool: Arc<Pool>,
    reader: FrameReader,
    /// The begin of a head.
    carry: Vec<u8>,
    /// Whose data come next.
    current: Current,
    role: Role,
    idle: Duration,
    idle_since: Instant,
    /// When something was last read or written.
    moved: Instant,
    /// Who keeps the others waiting, what it had taken then, and since when.
    stalled: Option<(Serial, u64, Instant)>,
    timer: Pin<Box<Sleep>>,
}

/// A session that the peer has opened.
pub struct Opened {
    /// Stream or packets.
    pub network: Network,
    /// Where to; of XUDP, where the first packet goes to.
    pub target: Target,
    /// Its packets go to many targets.
    pub is_xudp: bool,
    /// The session; dropping it refuses it.
    pub stream: MuxStream,
}

/// A session was refused: its connection has as many as one may have.
#[derive(Debug, thiserror::Error)]
#[error("a connection has at most {MAX_SESSIONS} multiplexed sessions at a time")]
pub struct Full;

/// How a connection ended.
#[derive(Debug)]
pub enum MuxEnding {
    /// The peer closed it.
    Complete,
    /// It was cut, or the peer broke the protocol.
    Cut(Cut),
    /// It had no sessions for too long.
    Idle,
}

impl fmt::Display for MuxEnding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => f.write_str("complete"),
            Self::Cut(cut) => write!(f, "cut: {cut}"),
            Self::Idle => f.write_str("no sessions for too long"),
        }
    }
}

/// Which end of a connection it is: only a client opens sessions.
pub(super) enum Role {
    Client,
    /// Sessions that were opened are given to this.
    Server(Box<dyn FnMut(Result<Opened, Full>) + Send>),
}

/// Where data of the current frame go.
enum Current {
    Nowhere,
    Stream(Serial),
    /// A packet is collected until it is whole.
    Packet(Serial, Packet),
}

/// So many batches are read or written before other tasks have their turn.
const TURN: u32 = 8;

/// How long a goodbye may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Frames without data that are sent together, in bytes.
const HEADS_TOGETHER: usize = 4096;

impl Driver {
    /// Serves the sessions in `below`, each of which is given to `open`, if it was not refused.
    pub fn server(
        below: BoxEndpoint,
        pool: Arc<Pool>,
        open: impl FnMut(Result<Opened, Full>) + Send + 'static,
    ) -> Self {
        Self::new(below, pool, Hub::new(|| Ends::PassedOn), Role::Server(Box::new(open)))
    }

    pub(super) fn new(below: BoxEndpoint, pool: Arc<Pool>, hub: Arc<Hub>, role: Role) -> Self {
        let idle = if matches!(role, Role::Client) { CLIENT_IDLE } else { SERVER_IDLE };
        Self {
            layout: below.layout(),
            below,
            hub,
            pool,
            reader: FrameReader::new(),
            carry: Vec::new(),
            current: Current::Nowhere,
            role,
            idle,
            idle_since: Instant::now(),
            moved: Instant::now(),
            stalled: None,
            timer: Box::pin(sleep(idle)),
        }
    }

    /// Runs until the connection ends, and its sessions with it.
    pub async fn run(mut self) -> MuxEnding {
        let ending = poll_fn(|cx| self.poll(cx)).await;
        self.hub.lock().end();
        let goodbye = async {
            match &ending {
                MuxEnding::Complete | MuxEnding::Idle => {
                    if self.below.flush().await.is_ok() {
                        self.below.finish();
                        let _ = self.below.flush().await;
                        poll_fn(|cx| self.below.poll_close(cx)).await;
                    }
                }
                MuxEnding::Cut(_) => {
                    self.below.abort();
                    let _ = self.below.flush().await;
                }
            }
        };
        // A peer that does not take it in time goes without.
        let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
        ending
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<MuxEnding> {
        self.hub.lock().driver = Some(cx.waker().clone());
        for _ in 0..TURN {
            let written = self.poll_write(cx);
            let read = self.poll_read(cx);
            match (written, read) {
                (Poll::Ready(Err(cut)), _) => return Poll::Ready(MuxEnding::Cut(cut)),
                (_, Poll::Ready(Err(ending))) => return Poll::Ready(ending),
                (Poll::Pending, Poll::Pending) => return self.poll_timer(cx),
                _ => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready when something was sent.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        ready!(self.below.poll_flush(cx))?;
        let Some(batch) = self.next_batch() else { return Poll::Pending };
        self.below.send(batch)?;
        self.moved = Instant::now();
        // What does not go at once goes when the socket is writable.
        let _ = self.below.poll_flush(cx)?;
        Poll::Ready(Ok(()))
    }

    fn next_batch(&self) -> Option<Batch> {
        let mut state = self.hub.lock();
        let mut heads = match state.next_outgoing()? {
            Outgoing::Frames(_, batch) => return Some(batch),
            Outgoing::Head(_, head) => head,
        };
        while heads.len() < HEADS_TOGETHER && state.next_is_head() {
            if let Some(Outgoing::Head(_, head)) = state.next_outgoing() {
                heads.extend_from_slice(&head);
            }
        }
        drop(state);
        let mut batch = self.pool.batch(heads.len());
        batch.bytes()[..heads.len()].copy_from_slice(&heads);
        batch.push(0..heads.len());
        Some(batch.laid_out(self.layout))
    }

    /// Ready when something was read.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), MuxEnding>> {
        if self.hub.lock().paused_by().is_some() {
            return Poll::Pending;
        }
        let read = ready!(self.below.poll_read(cx, Layout::FLAT)).map_err(MuxEnding::Cut)?;
        match read {
            Read::End if self.carry.is_empty() && self.reader.is_between_frames() => {
                Poll::Ready(Err(MuxEnding::Complete))
            }
            Read::End => {
                Poll::Ready(Err(MuxEnding::Cut(Cut::Unfinished("it ended in the middle of a frame"))))
            }
            Read::Data(batch) => {
                self.moved = Instant::now();
                self.idle_since = self.moved;
                for piece in batch.pieces() {
                    self.feed(piece).map_err(MuxEnding::Cut)?;
                }
                Poll::Ready(Ok(()))
            }
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        let joined;
        let mut rest = bytes;
        if !self.carry.is_empty() {
            let mut carry = std::mem::take(&mut self.carry);
            carry.extend_from_slice(bytes);
            joined = carry;
            rest = &joined;
        }
        loop {
            match self.reader.next(rest).map_err(|error| Cut::protocol("Mux.Cool", error))? {
                Step::NeedMore => break,
                Step::Done { used, value } => {
                    match value {
                        MuxEvent::Head(head) => self.current = self.begin(head),
                        MuxEvent::Data { left } => self.data(&rest[..used], left),
                    }
                    rest = &rest[used..];
                }
            }
        }
        self.carry = rest.to_vec();
        Ok(())
    }

    fn begin(&mut self, head: MuxHead) -> Current {
        let MuxHead { id, kind, data } = head;
        let (to, peer) = match kind {
            MuxKind::New { .. } if matches!(self.role, Role::Client) => (None, None),
            MuxKind::New { network, target, global_id } => {
                let is_xudp = network == Network::Udp && (id == XUDP || global_id.is_some());
                self.hub.lock().supersede(id);
                (self.open(id, network, target, is_xudp), None)
            }
            MuxKind::Keep { peer } => (self.known(id), peer),
            MuxKind::End(end) => {
                self.hub.lock().end_session(id, end);
                (None, None)
            }
            MuxKind::KeepAlive => (None, None),
        };
        match to {
            Some(MuxSession { serial, network: Network::Tcp }) => Current::Stream(serial),
            // A packet of the length told, which the peer has to send before it costs anything.
            Some(MuxSession { serial, network: Network::Udp }) if data.is_some() => {
                Current::Packet(serial, (peer, Vec::new()))
            }
            _ => Current::Nowhere,
        }
    }

    /// Opens a flow, unless there are too many.
    fn open(&mut self, id: MuxId, network: Network, target: Target, is_xudp: bool) -> Option<MuxSession> {
        let Role::Server(give) = &mut self.role else { return None };
        let mut state = self.hub.lock();
        if state.flows.len() >= MAX_SESSIONS {
            state.answer_unknown(id, MuxEnd::Cut);
            drop(state);
            give(Err(Full));
            return None;
        }
        let serial = state.add(id, network);
        drop(state);
        let addressing = if is_xudp { Addressing::Each(target.clone()) } else { Addressing::None };
        let stream = MuxStream::new(&self.hub, (id, serial), network, addressing, &self.pool, self.layout);
        give(Ok(Opened { network, target, is_xudp, stream: stream.half_open(HALF_OPEN) }));
        Some(MuxSession { network, serial })
    }

    /// The session that a frame goes to.
    fn known(&self, id: MuxId) -> Option<MuxSession> {
        let mut state = self.hub.lock();
        let session = state.sessions.get(&id).copied();
        if session.is_none() {
            state.answer_unknown(id, MuxEnd::Complete);
        }
        session
    }

    fn data(&mut self, data: &[u8], left: usize) {
        match &mut self.current {
            Current::Nowhere => {}
            Current::Stream(serial) => self.hub.lock().deliver(*serial, data),
            Current::Packet(serial, packet) => {
                packet.1.extend_from_slice(data);
                if left == 0 {
                    self.hub.lock().deliver_packet(*serial, std::mem::take(packet));
                }
            }
        }
    }

    /// Cuts who keeps others waiting, and ends what nobody uses.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<MuxEnding> {
        loop {
            let now = Instant::now();
            let mut state = self.hub.lock();
            let (paused_by, sessions) = (state.paused_by(), state.flows.len());
            let deadline = match (paused_by, self.stalled) {
                (Some((serial, taken)), Some((whose, before, since)))
                    if (serial, taken) == (whose, before) =>
                {
                    since + STALL_LIMIT
                }
                (Some((serial, taken)), _) => {
                    self.stalled = Some((serial, taken, now));
                    now + STALL_LIMIT
                }
                (None, _) => {
                    self.stalled = None;
                    if sessions > 0 {
                        self.idle_since = now;
                    }
                    if state.is_used_up() { now } else { self.idle_since + self.idle }
                }
            };
            if now >= deadline {
                match paused_by {
                    // With the lock held, so that no session is opened meanwhile.
                    None => {
                        state.end();
                        return Poll::Ready(MuxEnding::Idle);
                    }
                    Some((serial, _)) if sessions > 1 => state.cut(serial),
                    Some(_) => {}
                }
                self.stalled = None;
                state.wake_driver();
                return Poll::Pending;
            }
            drop(state);
            if let Err(cut) = self.beat(cx, now) {
                return Poll::Ready(MuxEnding::Cut(cut));
            }
            let wake = self.below.next_beat(self.moved).map_or(deadline, |beat| beat.min(deadline));
            if self.timer.deadline() != wake {
                self.timer.as_mut().reset(wake);
            }
            ready!(self.timer.as_mut().poll(cx));
        }
    }
}

impl Driver {
    /// Keeps the way to the peer open if nothing has moved for long.
    fn beat(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Cut> {
        if self.below.next_beat(self.moved).is_some_and(|beat| beat <= now) {
            self.below.beat()?;
            // That it failed is seen by who reads or sends.
            let _ = self.below.poll_flush(cx);
        }
        Ok(())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.hub.lock().end();
    }
}

/// The id of XUDP's session (XTLS/Xray-core `common/xudp/xudp.go`).
const XUDP: MuxId = 0;
