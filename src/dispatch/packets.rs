//! A session whose packets go to many targets: each target is routed by itself, and packets that may share a way out
//! go there together, so that all targets see the same source.
//!
//! A [`Leg`] is a session of ours with one way out: to one target, or to all those that its way out takes together.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    sync::mpsc::{OwnedPermit, Receiver, Sender, channel, error::SendError},
    task::JoinSet,
    time::{Instant, Sleep, sleep_until, timeout},
};
use wsray_vmess::{Address, Target};

use super::Dispatcher;
use crate::{
    session::{Mapping, Quota, Reach, Session},
    stream::{Batch, BoxEndpoint, Cut, LARGE_BYTES, Layout, PacketSocket, Packets, Pool, Read},
};

/// The most ways out that a session has at a time; packets that need one more are dropped.
const MAX_LEGS: usize = 256;

/// The most targets whose ways are remembered; the one not used for longest is routed anew.
const MAX_TARGETS: usize = 1024;

/// Packets that wait for a leg; further ones are dropped.
const WAITING_PACKETS: usize = 64;

/// Answers that wait for the application; then their legs wait.
const WAITING_ANSWERS: usize = 256;

/// So many bytes of answers go to the application together, and so many packets.
const ANSWERS_TOGETHER: usize = 64 * 1024;
const ANSWERS_AT_ONCE: usize = 32;

/// How long its legs may take to end once a session has ended.
const GOODBYE: Duration = Duration::from_secs(1);

/// A packet, and where it goes to or came from.
struct Packet {
    peer: Target,
    payload: Vec<u8>,
}

/// Runs a session to its end.
pub(super) async fn run(
    dispatcher: &Arc<Dispatcher>,
    session: Session,
    mapping: Mapping,
    inbound: BoxEndpoint,
) {
    let (sender, answers) = channel(WAITING_ANSWERS);
    let idle = dispatcher.idle_timeouts(&session).both;
    let mut switch = Switch {
        dispatcher,
        session,
        mapping,
        inbound,
        targets: HashMap::new(),
        legs: HashMap::new(),
        running: JoinSet::new(),
        sender,
        answers,
        idle,
        moved: Instant::now(),
        timer: Box::pin(sleep_until(Instant::now() + idle)),
    };
    let ending = poll_fn(|cx| switch.poll(cx)).await;
    let Switch { session, mut inbound, legs, mut running, answers, .. } = switch;
    dispatcher.log.debug(
        Some(session.id),
        "dispatch",
        format_args!("packets to many targets ended: {ending}"),
    );
    drop((legs, answers));
    let _ = timeout(GOODBYE, async { while running.join_next().await.is_some() {} }).await;
    if matches!(ending, Ending::Cut(_)) {
        inbound.abort();
        return;
    }
    inbound.finish();
    let goodbye = async {
        let _ = inbound.flush().await;
        poll_fn(|cx| inbound.poll_close(cx)).await;
    };
    let _ = timeout(GOODBYE, goodbye).await;
}

/// How such a session ended.
#[derive(Debug)]
enum Ending {
    Complete,
    Cut(Cut),
    Idle,
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Complete => f.write_str("complete"),
            Self::Cut(cut) => write!(f, "cut: {cut}"),
            Self::Idle => f.write_str("idle for too long"),
        }
    }
}

struct Switch<'a> {
    dispatcher: &'a Arc<Dispatcher>,
    session: Session,
    mapping: Mapping,
    inbound: BoxEndpoint,
    targets: HashMap<Target, Way>,
    legs: HashMap<LegKey, Sender<Packet>>,
    running: JoinSet<Done>,
    /// What each leg gets to send its answers to.
    sender: Sender<Packet>,
    answers: Receiver<Packet>,
    idle: Duration,
    /// When a packet last moved.
    moved: Instant,
    timer: Pin<Box<Sleep>>,
}

/// Where packets to a target go.
enum Way {
    /// It is being routed, and these wait.
    Routing(Vec<Vec<u8>>),
    /// Into this leg, last at that time.
    Leg(LegKey, Instant),
}

/// An outbound's index, and which targets the leg has there.
type LegKey = (usize, Scope);

/// The targets of a leg. Those of each family are apart, as their sources are: sing-box ends a session that began with
/// the other one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Scope {
    One(Target),
    /// All with an IPv6 address.
    V6,
    /// All others.
    V4,
}

/// What a task of ours came to.
enum Done {
    Routed(Target, usize),
    Leg(LegKey),
}

impl Switch<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        for _ in 0..ANSWERS_AT_ONCE {
            // First, since what is read may start tasks, which have to be asked for once to be waited for.
            while let Poll::Ready(Some(done)) = self.running.poll_join_next(cx) {
                match done {
                    Ok(Done::Routed(target, outbound)) => self.routed(target, outbound),
                    Ok(Done::Leg(key)) => self.ended(&key),
                    Err(_) => {}
                }
            }
            if let Err(cut) = self.poll_down(cx) {
                return Poll::Ready(Ending::Cut(cut));
            }
            match self.inbound.poll_read(cx, Layout::FLAT) {
                Poll::Ready(Ok(Read::Data(batch))) => self.forward(&batch),
                Poll::Ready(Ok(Read::End)) => return Poll::Ready(Ending::Complete),
                Poll::Ready(Err(cut)) => return Poll::Ready(Ending::Cut(cut)),
                Poll::Pending => return self.poll_timer(cx),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Answers to the application, as far as it takes them.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Result<(), Cut> {
        for _ in 0..ANSWERS_AT_ONCE {
            match self.inbound.poll_flush(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(flushed) => flushed?,
            }
            let Poll::Ready(Some(answer)) = self.answers.poll_recv(cx) else { return Ok(()) };
            self.moved = Instant::now();
            let mut batch = self.dispatcher.pool.batch(LARGE_BYTES);
            let mut at = 0;
            let mut next = Some(answer);
            for _ in 0..ANSWERS_AT_ONCE {
                let Some(Packet { peer, payload }) = next else { break };
                let range = at..at + payload.len();
                at = range.end;
                batch.bytes()[range.clone()].copy_from_slice(&payload);
                batch.push_packet(range, peer);
                next = if at < ANSWERS_TOGETHER { self.answers.try_recv().ok() } else { None };
            }
            let layout = self.inbound.layout();
            let batch = batch.packets_laid_out(layout);
            if !batch.is_empty() {
                self.inbound.send(batch)?;
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn forward(&mut self, batch: &Batch) {
        self.moved = Instant::now();
        for (payload, peer) in batch.packets() {
            let peer = peer.unwrap_or(&self.session.target).clone();
            self.pass(Packet { peer, payload: payload.to_vec() });
        }
    }

    /// A packet to its leg, which is found first if it is not known.
    fn pass(&mut self, packet: Packet) {
        match self.targets.get_mut(&packet.peer) {
            Some(Way::Routing(waiting)) => {
                if waiting.len() < WAITING_PACKETS {
                    waiting.push(packet.payload);
                }
            }
            Some(Way::Leg(key, used)) => {
                *used = self.moved;
                if let Some(leg) = self.legs.get(key).filter(|leg| !leg.is_closed()) {
                    // A packet for which there is no room is lost, as on any way.
                    let _ = leg.try_send(packet);
                } else {
                    self.find_way(packet);
                }
            }
            None => self.find_way(packet),
        }
    }

    fn find_way(&mut self, packet: Packet) {
        if self.targets.len() >= MAX_TARGETS && !self.targets.contains_key(&packet.peer) {
            let oldest = self.targets.iter().filter_map(|(target, way)| match way {
                Way::Leg(_, used) => Some((used, target)),
                Way::Routing(_) => None,
            });
            let Some(oldest) = oldest.min_by_key(|(used, _)| **used).map(|(_, target)| target.clone()) else {
                return;
            };
            self.targets.remove(&oldest);
        }
        let Packet { peer, payload } = packet;
        let session = Session { target: peer.clone(), ..self.session.clone() };
        self.targets.insert(peer.clone(), Way::Routing(vec![payload]));
        let dispatcher = Arc::clone(self.dispatcher);
        self.running
            .spawn(async move { Done::Routed(peer, Box::pin(dispatcher.route(&session, None)).await) });
    }

    fn routed(&mut self, target: Target, outbound: usize) {
        let Some(Way::Routing(waiting)) = self.targets.remove(&target) else { return };
        let gathers = self.dispatcher.outbounds[outbound].gathers(self.mapping, &target);
        let scope = match &target.address {
            _ if !gathers => Scope::One(target.clone()),
            Address::Ip(IpAddr::V6(_)) => Scope::V6,
            _ => Scope::V4,
        };
        let key = (outbound, scope);
        if self.legs.get(&key).is_none_or(Sender::is_closed) && !self.start(&key, &target) {
            return;
        }
        let session = Session { target: target.clone(), ..self.session.clone() };
        self.dispatcher.tell_accepted(&session, &self.dispatcher.outbounds[outbound]);
        if let Some(leg) = self.legs.get(&key) {
            for payload in waiting {
                let _ = leg.try_send(Packet { peer: target.clone(), payload });
            }
        }
        self.targets.insert(target, Way::Leg(key, self.moved));
    }

    /// A leg that begins with `target`, unless there are too many.
    fn start(&mut self, key: &LegKey, target: &Target) -> bool {
        let seat = self.session.quota.as_ref().map(Quota::take);
        if self.legs.len() >= MAX_LEGS || seat.as_ref().is_some_and(Option::is_none) {
            return false;
        }
        let (sender, packets) = channel(WAITING_PACKETS);
        self.legs.insert(key.clone(), sender);
        let reach = if matches!(key.1, Scope::One(_)) { Reach::Target } else { Reach::Any(self.mapping) };
        let id = self.dispatcher.new_id();
        let session = Session { id, reach, target: target.clone(), quota: None, ..self.session.clone() };
        let leg = Leg {
            packets,
            target: target.clone(),
            reach,
            answers: self.sender.clone(),
            pool: Arc::clone(&self.dispatcher.pool),
            room: None,
        };
        let (dispatcher, key) = (Arc::clone(self.dispatcher), key.clone());
        self.running.spawn(async move {
            let outbound = &dispatcher.outbounds[key.0];
            dispatcher.carry(session, Box::new(Packets::new(leg)), outbound).await;
            drop(seat);
            Done::Leg(key)
        });
        true
    }

    fn ended(&mut self, key: &LegKey) {
        // Another leg may have taken the place of the one that has ended.
        if self.legs.get(key).is_some_and(Sender::is_closed) {
            self.legs.remove(key);
            self.targets.retain(|_, way| !matches!(way, Way::Leg(to, _) if to == key));
        }
    }

    /// Pings where that is due, and ends a session that does nothing.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        loop {
            let now = Instant::now();
            if self.inbound.next_beat(self.moved).is_some_and(|beat| beat <= now) {
                if let Err(cut) = self.inbound.beat() {
                    return Poll::Ready(Ending::Cut(cut));
                }
                // That it failed is seen by who reads or sends.
                let _ = self.inbound.poll_flush(cx);
            }
            // A session with legs is as idle as they are.
            let from = if self.running.is_empty() { self.moved } else { now };
            let deadline = from + self.idle;
            if now >= deadline {
                return Poll::Ready(Ending::Idle);
            }
            let wake = self.inbound.next_beat(self.moved).map_or(deadline, |beat| beat.min(deadline));
            if self.timer.deadline() != wake {
                self.timer.as_mut().reset(wake);
            }
            ready!(self.timer.as_mut().poll(cx));
        }
    }
}

type Room = Pin<Box<dyn Future<Output = Result<OwnedPermit<Packet>, SendError<()>>> + Send>>;

/// An application's packets into one way out, and answers.
struct Leg {
    packets: Receiver<Packet>,
    /// The first packet's.
    target: Target,
    reach: Reach,
    answers: Sender<Packet>,
    pool: Arc<Pool>,
    /// Waits until the application takes more.
    room: Option<Room>,
}

impl PacketSocket for Leg {
    fn poll_receive(&mut self, cx: &mut Context<'_>, layout: Layout) -> Poll<Result<Option<Read>, Cut>> {
        let Some(Packet { peer, payload }) = ready!(self.packets.poll_recv(cx)) else {
            return Poll::Ready(Ok(Some(Read::End)));
        };
        let peer = matches!(self.reach, Reach::Any(_)).then_some(&peer);
        Poll::Ready(Ok(self.pool.packet(layout, &payload, peer).map(Read::Data)))
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        payload: &[u8],
        peer: Option<&Target>,
    ) -> Poll<Result<(), Cut>> {
        let packet = || Packet { peer: peer.unwrap_or(&self.target).clone(), payload: payload.to_vec() };
        if self.room.is_none()
            && let Ok(permit) = self.answers.try_reserve()
        {
            permit.send(packet());
            return Poll::Ready(Ok(()));
        }
        let room = self.room.get_or_insert_with(|| Box::pin(self.answers.clone().reserve_owned()));
        let permit = ready!(room.as_mut().poll(cx));
        self.room = None;
        let Ok(permit) = permit else { return Poll::Ready(Err(GONE)) };
        permit.send(packet());
        Poll::Ready(Ok(()))
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

const GONE: Cut = Cut::Unfinished("the application is gone");
