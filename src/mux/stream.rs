//! A session on a shared connection, as one side of a session of ours.

use std::{
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};
use wsray_vmess::{MuxEnd, MuxHead, MuxId, MuxKind, Network, Target};

use super::{
    ARRIVED, Ends, HELD_BACK, MAX_DATA,
    hub::{Flow, Hub, Serial},
};
use crate::stream::{Batch, Cut, Endpoint, LARGE_BYTES, Layout, Pool, Read};

/// One session of a connection. Dropped before it is finished, it is cut.
pub struct MuxStream {
    hub: Arc<Hub>,
    id: MuxId,
    serial: Serial,
    network: Network,
    pool: Arc<Pool>,
    /// How the connection wants what it is given.
    below: Layout,
    /// The head of the first frame of a session that we open.
    opening: Option<MuxHead>,
    /// The head of our frames, with a length of data that is filled in.
    head: Vec<u8>,
    addressing: Addressing,
    half_open: Option<Duration>,
    /// We have ended and the peer was not told: when its answer has been silent for long.
    held: Option<Pin<Box<Sleep>>>,
    /// When something was last sent.
    sent: Instant,
}

/// Whether each packet names its peer.
pub(super) enum Addressing {
    /// None does: all have the session's target.
    None,
    /// XUDP: those that name nobody have this one.
    Each(Target),
}

/// The longest head of a frame with a packet: a meta with a name of 255 bytes and a global id, between two lengths.
const LONGEST_HEAD: usize = 2 + 5 + 259 + 8 + 2;

/// The head of frames of `id` that carry data, from or to `peer` if that is told.
fn keep_head(id: MuxId, peer: Option<Target>) -> Vec<u8> {
    head_of(&MuxHead { id, kind: MuxKind::Keep { peer }, data: Some(0) })
}

fn head_of(head: &MuxHead) -> Vec<u8> {
    let mut bytes = Vec::new();
    head.encode(&mut bytes);
    bytes
}

/// An answer of a client after the end of what we send: a client that does not say that it has ended too is not
/// waited for longer, as its V2Ray gives such a session up at once.
pub(super) const HALF_OPEN: Duration = Duration::from_mins(1);

const GONE: Cut = Cut::Unfinished("the connection that it shared with others is gone");
const CUT: Cut = Cut::Unfinished("the peer cut it");

impl MuxStream {
    pub(super) fn new(
        hub: &Arc<Hub>,
        (id, serial): (MuxId, Serial),
        network: Network,
        addressing: Addressing,
        pool: &Arc<Pool>,
        below: Layout,
    ) -> Self {
        Self {
            hub: Arc::clone(hub),
            id,
            serial,
            network,
            pool: Arc::clone(pool),
            below,
            opening: None,
            head: keep_head(id, None),
            addressing,
            half_open: None,
            held: None,
            sent: Instant::now(),
        }
    }

    /// It is we who open it: this is its first frame.
    pub(super) fn opening(mut self, head: MuxHead) -> Self {
        self.opening = Some(head);
        self
    }

    /// Its peer may not understand that we have ended, and is waited for so long.
    pub(super) fn half_open(mut self, limit: Duration) -> Self {
        self.half_open = Some(limit);
        self
    }

    /// Opens the session at the peer, if it is not open yet, without anything to say.
    pub fn open_silently(&mut self) {
        if let Some(opening) = self.opening.take() {
            self.hub.lock().send_head(Some(self.serial), &opening);
        }
    }

    /// Tells the peer of our end when its answer has been silent for long, unless it would give the answer up.
    fn poll_held(&mut self, cx: &mut Context<'_>) {
        let Some(held) = &mut self.held else { return };
        if held.as_mut().poll(cx).is_ready() && self.hub.ends() != Ends::GivenUp {
            self.held = None;
            self.hub.lock().say_end(self.serial, MuxEnd::Complete);
        }
    }

    /// The peer is still answering, and would go on if it got an ordinary end.
    fn has_to_be_cut(&self) -> bool {
        let is_answering = |flow: &Flow| flow.ended.is_none() && !flow.is_gone();
        self.network == Network::Tcp
            && self.hub.ends() != Ends::PassedOn
            && self.hub.lock().flows.get(&self.serial).is_some_and(is_answering)
    }

    /// The head of a first frame with data, their length to be filled in.
    fn opening_head(&self) -> Option<Vec<u8>> {
        let opening = self.opening.clone()?;
        Some(head_of(&MuxHead { data: Some(0), ..opening }))
    }

    /// The head of a packet to or from `peer`: of the first one, that opens the session.
    fn head_for(&mut self, peer: Option<Target>) -> Vec<u8> {
        let Addressing::Each(target) = &self.addressing else {
            let opening = self.opening_head();
            self.opening = None;
            return opening.unwrap_or_else(|| self.head.clone());
        };
        let peer = peer.unwrap_or_else(|| target.clone());
        match self.opening.take() {
            Some(MuxHead { id, kind: MuxKind::New { network, global_id, .. }, .. }) => head_of(&MuxHead {
                id,
                kind: MuxKind::New { network, target: peer, global_id },
                data: Some(0),
            }),
            _ => keep_head(self.id, Some(peer)),
        }
    }

    /// Packets laid out for the other side; `None` when there are none.
    fn take_packets(&self, layout: Layout) -> Option<Batch> {
        let mut batch = self.pool.batch(LARGE_BYTES);
        let mut at = 0;
        let mut state = self.hub.lock();
        for _ in 0..PACKETS_AT_ONCE {
            let Some((peer, packet)) = state.take_packet(self.serial, PACKET_ROOM - at) else { break };
            let range = at..at + packet.len();
            at = range.end;
            batch.bytes()[range.clone()].copy_from_slice(&packet);
            match &self.addressing {
                Addressing::None => batch.push(range),
                Addressing::Each(target) => batch.push_packet(range, peer.unwrap_or_else(|| target.clone())),
            }
        }
        drop(state);
        Some(batch.packets_laid_out(layout)).filter(|batch| !batch.is_empty())
    }

    fn take_stream(&self, layout: Layout) -> Option<Batch> {
        let buffered = self.hub.lock().flows.get(&self.serial).map_or(0, |flow| flow.buffered);
        let most = buffered.min(layout.room()).min(LARGE_BYTES);
        if most == 0 {
            return None;
        }
        let mut batch = self.pool.batch(most);
        let taken = self.hub.lock().take_stream(self.serial, &mut batch.bytes()[..most]);
        batch.push(0..taken);
        Some(batch.laid_out(layout)).filter(|batch| !batch.is_empty())
    }
}

/// What a batch may hold in packets, so that their heads and tails fit as well.
const PACKET_ROOM: usize = 128 * 1024;
const PACKETS_AT_ONCE: usize = 256;

impl Endpoint for MuxStream {
    fn layout(&self) -> Layout {
        let head = match self.addressing {
            Addressing::None => self.opening_head().map_or(self.head.len(), |opening| opening.len()),
            Addressing::Each(_) => LONGEST_HEAD,
        };
        let payload = self.below.payload.saturating_sub(head);
        Layout {
            head: self.below.head + head,
            payload: match self.network {
                Network::Tcp => payload.min(MAX_DATA),
                Network::Udp => payload,
            },
            tail: self.below.tail,
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, layout: Layout) -> Poll<Result<Read, Cut>> {
        let is_over = {
            let mut state = self.hub.lock();
            let is_over = state.is_over();
            let Some(flow) = state.flows.get_mut(&self.serial) else { return Poll::Ready(Err(GONE)) };
            if !is_over && flow.buffered == 0 {
                flow.wait(cx);
                match flow.ended {
                    _ if flow.is_cut() => return Poll::Ready(Err(CUT)),
                    Some(_) => return Poll::Ready(Ok(Read::End)),
                    None => {}
                }
                drop(state);
                self.poll_held(cx);
                return Poll::Pending;
            }
            is_over
        };
        if is_over {
            return Poll::Ready(Err(GONE));
        }
        let batch = match self.network {
            Network::Tcp => self.take_stream(layout),
            Network::Udp => self.take_packets(layout),
        };
        if let Some(held) = &mut self.held {
            held.as_mut().reset(Instant::now() + HELD_BACK);
        }
        if let Some(batch) = batch {
            return Poll::Ready(Ok(Read::Data(batch)));
        }
        // Nothing but packets that the other side cannot carry has come.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn send(&mut self, mut batch: Batch) -> Result<(), Cut> {
        let mut peers = batch.take_peers().into_iter();
        let (bytes, ranges) = batch.parts();
        for range in ranges {
            let named;
            let head = if self.opening.is_none() && matches!(self.addressing, Addressing::None) {
                &self.head
            } else {
                named = self.head_for(peers.next());
                &named
            };
            let length = u16::try_from(range.len()).unwrap_or(u16::MAX).to_be_bytes();
            let start = range.start - head.len();
            bytes[start..range.start].copy_from_slice(head);
            bytes[range.start - 2..range.start].copy_from_slice(&length);
            range.start = start;
        }
        self.sent = Instant::now();
        self.hub.lock().send(self.serial, batch);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        let mut state = self.hub.lock();
        if state.is_over() {
            return Poll::Ready(Err(GONE));
        }
        if state.flows.get(&self.serial).is_none_or(Flow::takes_nothing) {
            return Poll::Ready(Err(CUT));
        }
        if state.may_send(self.serial, cx) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn finish(&mut self) {
        if self.network == Network::Tcp && self.hub.ends() != Ends::PassedOn {
            self.held.get_or_insert_with(|| Box::pin(sleep(HELD_BACK)));
        } else {
            self.hub.lock().say_end(self.serial, MuxEnd::Complete);
        }
    }

    fn half_open_limit(&self) -> Option<Duration> {
        match self.hub.ends() {
            Ends::PassedOnSilently | Ends::GivenUp if self.network == Network::Tcp => Some(HALF_OPEN),
            _ => self.half_open,
        }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.hub.lock();
        let is_over = state.is_over();
        match state.flows.get_mut(&self.serial) {
            Some(flow) if !is_over && !flow.is_gone() => {
                flow.wait(cx);
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// All that was given is with the connection, which outlives this session. A peer that has to be cut is given the time
    /// to pass it on.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.has_to_be_cut() {
            self.hub.lock().say_end(self.serial, MuxEnd::Complete);
            return Poll::Ready(());
        }
        let left = ARRIVED.saturating_sub(self.sent.elapsed());
        if !left.is_zero() {
            let mut state = self.hub.lock();
            state.want_nothing(self.serial);
            if let Some(flow) = state.flows.get_mut(&self.serial) {
                flow.wait(cx);
            }
            drop(state);
            let wait = self.held.insert(Box::pin(sleep(left)));
            ready!(wait.as_mut().poll(cx));
        }
        self.hub.lock().say_end(self.serial, MuxEnd::Cut);
        Poll::Ready(())
    }

    fn abort(&mut self) {
        self.hub.lock().say_end(self.serial, MuxEnd::Cut);
    }
}

impl Drop for MuxStream {
    fn drop(&mut self) {
        // Its end would be nothing to a peer that does not know it.
        self.open_silently();
        self.hub.lock().remove(self.serial);
    }
}
