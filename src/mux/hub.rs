//! What a connection's driver and its sessions share.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
};

use wsray_vmess::{MuxEnd, MuxHead, MuxId, MuxKind, Network, Target};

use super::{
    CONNECTION_BUFFER, Ends, SEND_BUFFER, SESSION_BUFFER,
    queue::{Outgoing, Queue},
};
use crate::stream::Batch;

/// A flow's own number: ids are used again, this is not.
pub(super) type Serial = u64;

/// The shared state behind its lock, which is never held while anything waits.
pub(super) struct Hub {
    state: Mutex<State>,
    ends: Box<dyn Fn() -> Ends + Send + Sync>,
}

impl Hub {
    pub(super) fn new(ends: impl Fn() -> Ends + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), ends: Box::new(ends) })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the peer makes of ends.
    pub(super) fn ends(&self) -> Ends {
        (self.ends)()
    }
}

#[derive(Default)]
pub(super) struct State {
    /// By serial.
    pub(super) flows: HashMap<Serial, Flow>,
    /// By the id on the wire: those whose frames are still understood.
    pub(super) sessions: HashMap<MuxId, MuxSession>,
    /// What waits to be sent.
    outgoing: Queue,
    /// How many bytes all flows hold unread.
    buffered: usize,
    /// The driver, to be woken when there is something to send or room to read.
    pub(super) driver: Option<Waker>,
    /// The connection is gone.
    over: bool,
    last_serial: Serial,
    /// The id that we used last, as a client.
    pub(super) last_id: MuxId,
}

/// One session of the wire.
#[derive(Clone, Copy)]
pub(super) struct MuxSession {
    /// Stream or packets.
    pub(super) network: Network,
    /// The session of ours.
    pub(super) serial: Serial,
}

/// One session of ours.
pub(super) struct Flow {
    id: MuxId,
    incoming: Incoming,
    /// How many bytes that is.
    pub(super) buffered: usize,
    /// How many bytes were taken in all.
    pub(super) taken: u64,
    /// The peer sends nothing more.
    pub(super) ended: Option<MuxEnd>,
    /// The peer knows that we send nothing more.
    said_end: bool,
    /// The peer wants nothing of what we send.
    refused: bool,
    interest: Interest,
    /// How many batches wait to be sent.
    queued: usize,
    waker: Option<Waker>,
}

/// Which directions of a flow we still care about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Interest {
    Both,
    /// What the peer sends is thrown away.
    SendOnly,
    /// We gave it up: nothing is told to the peer any more, and its owner sees a cut.
    None,
}

/// What the peer sent and nobody has read.
enum Incoming {
    Stream(VecDeque<u8>),
    Packets(VecDeque<Packet>),
}

/// A packet, and whom it names (XUDP).
pub(super) type Packet = (Option<Target>, Vec<u8>);

/// At most so many answers to frames of unknown sessions wait to be sent.
const MAX_ANSWERS: usize = 1024;

impl State {
    /// A flow for frames of `id`.
    pub(super) fn add(&mut self, id: MuxId, network: Network) -> Serial {
        self.last_serial += 1;
        let serial = self.last_serial;
        let incoming = match network {
            Network::Tcp => Incoming::Stream(VecDeque::new()),
            Network::Udp => Incoming::Packets(VecDeque::new()),
        };
        let flow = Flow {
            id,
            incoming,
            buffered: 0,
            taken: 0,
            ended: None,
            said_end: false,
            refused: false,
            interest: Interest::Both,
            queued: 0,
            waker: None,
        };
        self.flows.insert(serial, flow);
        self.sessions.insert(id, MuxSession { network, serial });
        serial
    }

    /// The peer's frames of `id` mean nothing any more; its flow ends so.
    pub(super) fn end_session(&mut self, id: MuxId, end: MuxEnd) {
        let Some(session) = self.sessions.remove(&id) else { return self.refuse(id) };
        if let Some(flow) = self.flows.get_mut(&session.serial) {
            flow.ended = flow.ended.or(Some(end));
            flow.wake();
        }
    }

    /// The peer says again that `id` has ended, as V2Ray, Xray and wsray answer data that they do not want. What it sent
    /// before is still delivered.
    fn refuse(&mut self, id: MuxId) {
        let ended = |flow: &Flow| flow.id == id && flow.ended.is_some() && !flow.refused;
        let refused: Vec<_> =
            self.flows.iter().filter(|(_, flow)| ended(flow)).map(|(serial, _)| *serial).collect();
        for serial in refused {
            self.outgoing.forget(serial);
            if let Some(flow) = self.flows.get_mut(&serial) {
                flow.queued = 0;
                flow.refused = true;
                flow.wake();
            }
        }
    }

    /// Cuts a flow from both sides: what it holds is thrown away.
    pub(super) fn cut(&mut self, serial: Serial) {
        self.say_end(serial, MuxEnd::Cut);
        let Some(flow) = self.flows.get_mut(&serial) else { return };
        let id = flow.id;
        self.buffered -= std::mem::take(&mut flow.buffered);
        flow.incoming.clear();
        flow.interest = Interest::None;
        flow.wake();
        self.forget(id, serial);
    }

    /// The peer uses `id` anew: whatever still goes on under it is cut without a word, which would be taken for one
    /// of the new session.
    pub(super) fn supersede(&mut self, id: MuxId) {
        let old: Vec<_> =
            self.flows.iter().filter(|(_, flow)| flow.id == id).map(|(serial, _)| *serial).collect();
        for serial in old {
            if let Some(flow) = self.flows.get_mut(&serial) {
                flow.said_end = true;
            }
            self.outgoing.forget(serial);
            self.cut(serial);
        }
        self.sessions.remove(&id);
    }

    /// Takes a flow out of its session on the wire.
    fn forget(&mut self, id: MuxId, serial: Serial) {
        if self.sessions.get(&id).is_some_and(|session| session.serial == serial) {
            self.sessions.remove(&id);
        }
    }

    /// Whatever the peer still sends is thrown away.
    pub(super) fn want_nothing(&mut self, serial: Serial) {
        let Some(flow) = self.flows.get_mut(&serial) else { return };
        self.buffered -= std::mem::take(&mut flow.buffered);
        flow.incoming.clear();
        flow.interest = Interest::SendOnly;
        self.wake_driver();
    }

    /// The flow's owner is gone.
    pub(super) fn remove(&mut self, serial: Serial) {
        if let Some(flow) = self.flows.get_mut(&serial)
            && matches!(flow.incoming, Incoming::Stream(_))
            && flow.ended.is_none()
            && flow.interest != Interest::None
        {
            // A second time, for a peer that has passed our end on and would go on sending for nobody.
            flow.said_end = false;
        }
        self.say_end(serial, MuxEnd::Cut);
        let Some(flow) = self.flows.remove(&serial) else { return };
        self.buffered -= flow.buffered;
        self.forget(flow.id, serial);
        self.wake_driver();
    }

    /// Tells the peer that we send nothing more, once.
    pub(super) fn say_end(&mut self, serial: Serial, end: MuxEnd) {
        let Some(flow) = self.flows.get_mut(&serial) else { return };
        if std::mem::replace(&mut flow.said_end, true) {
            return;
        }
        let id = flow.id;
        self.send_head(Some(serial), &MuxHead { id, kind: MuxKind::End(end), data: None });
    }

    /// Answers a frame of a session that is not there.
    pub(super) fn answer_unknown(&mut self, id: MuxId, end: MuxEnd) {
        if self.outgoing.len() < MAX_ANSWERS {
            self.send_head(None, &MuxHead { id, kind: MuxKind::End(end), data: None });
        }
    }

    /// A frame without data, of a flow or of none.
    pub(super) fn send_head(&mut self, serial: Option<Serial>, head: &MuxHead) {
        let mut bytes = Vec::new();
        head.encode(&mut bytes);
        self.outgoing.push(Outgoing::Head(serial, bytes));
        self.wake_driver();
    }

    pub(super) fn send(&mut self, serial: Serial, batch: Batch) {
        let Some(flow) = self.flows.get_mut(&serial) else { return };
        flow.queued += 1;
        self.outgoing.push(Outgoing::Frames(serial, batch));
        self.wake_driver();
    }

    /// What is sent next. Whoever waited for room is told.
    pub(super) fn next_outgoing(&mut self) -> Option<Outgoing> {
        let was_full = self.is_full();
        let next = self.outgoing.pop()?;
        if let Outgoing::Frames(serial, _) = &next {
            if let Some(flow) = self.flows.get_mut(serial) {
                flow.queued -= 1;
                flow.wake();
            }
            if was_full && !self.is_full() {
                self.flows.values_mut().for_each(Flow::wake);
            }
        }
        Some(next)
    }

    /// Whether a head follows that may go along with the one before.
    pub(super) fn next_is_head(&self) -> bool {
        self.outgoing.head_is_next()
    }

    fn is_full(&self) -> bool {
        self.outgoing.bytes() >= SEND_BUFFER
    }

    /// Whether the flow may be given more to send; else `cx` is woken when it may.
    pub(super) fn may_send(&mut self, serial: Serial, cx: &Context<'_>) -> bool {
        let is_full = self.is_full();
        let Some(flow) = self.flows.get_mut(&serial) else { return true };
        flow.wait(cx);
        flow.queued == 0 && !is_full
    }

    /// Bytes of a stream for a flow.
    pub(super) fn deliver(&mut self, serial: Serial, data: &[u8]) {
        let Some(flow) = self.flows.get_mut(&serial) else { return };
        if let (Incoming::Stream(stream), None, Interest::Both) =
            (&mut flow.incoming, flow.ended, flow.interest)
        {
            stream.extend(data);
            flow.buffered += data.len();
            self.buffered += data.len();
            flow.wake();
        }
    }

    /// A packet for a flow; lost if too much waits already.
    pub(super) fn deliver_packet(&mut self, serial: Serial, (peer, packet): Packet) {
        let room = self.buffered < CONNECTION_BUFFER;
        let Some(flow) = self.flows.get_mut(&serial) else { return };
        if let (Incoming::Packets(packets), None, Interest::Both) =
            (&mut flow.incoming, flow.ended, flow.interest)
            && room
            && flow.buffered < SESSION_BUFFER
            && !packet.is_empty()
        {
            flow.buffered += packet.len();
            self.buffered += packet.len();
            packets.push_back((peer, packet));
            flow.wake();
        }
    }

    /// Whose stream keeps the driver from reading, and how much was taken of it so far; `None`: there is room.
    pub(super) fn paused_by(&self) -> Option<(Serial, u64)> {
        if self.buffered < SESSION_BUFFER {
            return None;
        }
        let streams = || self.flows.iter().filter(|(_, flow)| matches!(flow.incoming, Incoming::Stream(_)));
        let total: usize = streams().map(|(_, flow)| flow.buffered).sum();
        let (serial, flow) = streams().max_by_key(|(_, flow)| flow.buffered)?;
        let full = total >= CONNECTION_BUFFER || flow.buffered >= SESSION_BUFFER;
        full.then_some((*serial, flow.taken))
    }

    /// Moves bytes of the flow's stream into `to`; how many.
    pub(super) fn take_stream(&mut self, serial: Serial, to: &mut [u8]) -> usize {
        let Some(flow) = self.flows.get_mut(&serial) else { return 0 };
        let Incoming::Stream(stream) = &mut flow.incoming else { return 0 };
        let most = stream.len().min(to.len());
        let (front, back) = stream.as_slices();
        let first = front.len().min(most);
        to[..first].copy_from_slice(&front[..first]);
        to[first..most].copy_from_slice(&back[..most - first]);
        stream.drain(..most);
        if stream.is_empty() {
            *stream = VecDeque::new();
        }
        self.took(serial, most);
        most
    }

    /// The flow's next packet, if it has at most `room` bytes.
    pub(super) fn take_packet(&mut self, serial: Serial, room: usize) -> Option<Packet> {
        let flow = self.flows.get_mut(&serial)?;
        let Incoming::Packets(packets) = &mut flow.incoming else { return None };
        let packet = packets.pop_front_if(|(_, packet)| packet.len() <= room)?;
        self.took(serial, packet.1.len());
        Some(packet)
    }

    fn took(&mut self, serial: Serial, bytes: usize) {
        let was_paused = self.paused_by().is_some();
        if let Some(flow) = self.flows.get_mut(&serial) {
            flow.buffered -= bytes;
            flow.taken += bytes as u64;
        }
        self.buffered -= bytes;
        if was_paused {
            self.wake_driver();
        }
    }

    /// The connection is gone, and everybody with it.
    pub(super) fn end(&mut self) {
        self.over = true;
        self.outgoing = Queue::default();
        self.flows.values_mut().for_each(Flow::wake);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn wake_driver(&self) {
        if let Some(driver) = &self.driver {
            driver.wake_by_ref();
        }
    }
}

impl Flow {
    fn is_broken(&self) -> bool {
        self.interest == Interest::None
    }

    /// Whether the session was cut while it still had something to say. A peer that cuts what we have ended takes
    /// nothing back that was sent before, and V2Ray does so.
    pub(super) fn is_cut(&self) -> bool {
        self.is_broken() || self.ended == Some(MuxEnd::Cut) && !self.said_end
    }

    /// Whether the peer listens no more.
    pub(super) fn is_gone(&self) -> bool {
        self.is_broken() || self.refused || self.ended == Some(MuxEnd::Cut)
    }

    /// Whether what we send now is lost.
    pub(super) fn takes_nothing(&self) -> bool {
        self.refused || self.is_cut()
    }

    /// Remembers whom to wake.
    pub(super) fn wait(&mut self, cx: &Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Incoming {
    fn clear(&mut self) {
        match self {
            Self::Stream(stream) => *stream = VecDeque::new(),
            Self::Packets(packets) => packets.clear(),
        }
    }
}
