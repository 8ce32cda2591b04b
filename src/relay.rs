//! Moves both directions of a session until both are complete, one is cut, or nothing moves any more.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::stream::{BoxEndpoint, Cut, Endpoint, Read};

/// When a session that does not move is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdleTimeouts {
    /// While both directions are open, and while one is unless the policy says otherwise.
    pub both: Duration,
    /// While only the way up (application to origin) is open.
    pub uplink_only: Option<Duration>,
    /// While only the way down is open.
    pub downlink_only: Option<Duration>,
}

/// What a session moved, and how it ended.
#[derive(Debug)]
pub struct Outcome {
    /// Payload bytes from the inbound to the outbound.
    pub up: u64,
    /// Payload bytes from the outbound to the inbound.
    pub down: u64,
    /// How it ended.
    pub ending: Ending,
}

/// How a session ended.
#[derive(Debug)]
pub enum Ending {
    /// Both directions said that they were complete.
    Complete,
    /// The peer of one side left when its own direction was complete, or took no more (why, if it is known).
    Left(Whose, Option<Cut>),
    /// One side's stream was cut; the other has been reset.
    Cut(Whose, Cut),
    /// Nothing moved for too long.
    Idle,
}

/// One of the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The side that opened the session.
    Inbound,
    /// The side that it was opened to.
    Outbound,
}

/// Whether what was moved is the whole of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Completeness {
    Whole,
    Part,
}

impl Ending {
    fn completeness(&self) -> Completeness {
        match self {
            Self::Complete | Self::Left(..) => Completeness::Whole,
            Self::Cut(..) | Self::Idle => Completeness::Part,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => f.write_str("complete"),
            Self::Left(whose, None) => write!(f, "complete, the {whose}'s peer left"),
            Self::Left(whose, Some(cut)) => write!(f, "complete, the {whose}'s peer took no more: {cut}"),
            Self::Cut(whose, cut) => write!(f, "cut on the {whose}'s side: {cut}"),
            Self::Idle => f.write_str("idle for too long"),
        }
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        })
    }
}

/// Moves `up` (inbound to outbound) and down. `up_ended`: the inbound's stream is over already, and what it held
/// has been given to the outbound.
///
/// All that an idle session keeps beside its endpoints is in this future, so it is put together outside of it: what an
/// `async fn` is given is kept twice.
pub fn relay(
    mut inbound: BoxEndpoint,
    mut outbound: BoxEndpoint,
    up: FirstPayload,
    timeouts: IdleTimeouts,
) -> impl Future<Output = Outcome> + Send {
    let mut up_lane = Lane::new(up.bytes);
    if up.ended {
        outbound.finish();
        up_lane.state = LaneState::Finishing;
    }
    let mut relay = Relay { up: up_lane, down: Lane::new(0), timeouts, moved: Instant::now() };
    async move {
        let ending = {
            let mut idle = std::pin::pin!(sleep_until(relay.deadline(&*inbound, &*outbound)));
            poll_fn(|cx| relay.poll(cx, &mut *inbound, &mut *outbound, idle.as_mut())).await
        };
        let outcome = Outcome { up: relay.up.bytes, down: relay.down.bytes, ending };
        Box::pin(close(inbound, outbound, outcome.ending.completeness())).await;
        outcome
    }
}

/// What the outbound was given before the relay began.
#[derive(Clone, Copy, Debug, Default)]
pub struct FirstPayload {
    /// How many bytes.
    pub bytes: u64,
    /// The inbound's stream ended with them.
    pub ended: bool,
}

struct Relay {
    up: Lane,
    down: Lane,
    timeouts: IdleTimeouts,
    /// When a byte last moved.
    moved: Instant,
}

/// One direction.
struct Lane {
    state: LaneState,
    bytes: u64,
    /// The sink has not taken yet what it was given.
    waits_for_sink: bool,
    /// It stopped in the middle, so that the other direction and other sessions have their turn.
    has_more: bool,
}

/// So many batches (of at most 256 KiB) a direction moves before the other has its turn. Two turns stay within what
/// tokio lets a task do at a time (128 operations on sockets), which else would be one direction's alone.
const BATCHES_A_TURN: u32 = 8;

enum LaneState {
    Flowing,
    /// The source ended; the end is being passed on.
    Finishing,
    Done,
    /// The sink takes nothing any more. What the other direction still holds is delivered.
    Blocked(Option<Cut>),
}

impl Lane {
    fn new(bytes: u64) -> Self {
        Self { state: LaneState::Flowing, bytes, waits_for_sink: false, has_more: false }
    }

    /// Moves until something would block or its turn is over; `Err`: the source was cut.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut dyn Endpoint,
        sink: &mut dyn Endpoint,
        moved: &mut bool,
    ) -> Poll<Result<(), Cut>> {
        let mut turn = BATCHES_A_TURN;
        self.has_more = false;
        loop {
            match &self.state {
                LaneState::Flowing => {
                    if let Err(cut) = ready!(self.poll_flush(cx, sink, moved)) {
                        self.state = LaneState::Blocked(Some(cut));
                        continue;
                    }
                    if turn == 0 {
                        self.has_more = true;
                        return Poll::Pending;
                    }
                    turn -= 1;
                    match ready!(source.poll_read(cx, sink.layout()))? {
                        Read::Data(batch) => {
                            *moved = true;
                            self.bytes += batch.len() as u64;
                            if let Err(cut) = sink.send(batch) {
                                self.state = LaneState::Blocked(Some(cut));
                            }
                        }
                        Read::End => {
                            *moved = true;
                            sink.finish();
                            self.state = LaneState::Finishing;
                        }
                    }
                }
                LaneState::Finishing => {
                    self.state = match ready!(self.poll_flush(cx, sink, moved)) {
                        Ok(()) => LaneState::Done,
                        Err(cut) => LaneState::Blocked(Some(cut)),
                    };
                }
                LaneState::Done | LaneState::Blocked(_) => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Flushes the sink. That a slow one has taken all counts as a move.
    fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut dyn Endpoint,
        moved: &mut bool,
    ) -> Poll<Result<(), Cut>> {
        let flushed = sink.poll_flush(cx);
        *moved |= self.waits_for_sink && flushed.is_ready();
        self.waits_for_sink = flushed.is_pending();
        flushed
    }

    fn is_flowing(&self) -> bool {
        matches!(self.state, LaneState::Flowing)
    }

    fn is_blocked(&self) -> bool {
        matches!(self.state, LaneState::Blocked(_))
    }

    /// Why the sink takes nothing.
    fn take_cause(&mut self) -> Option<Cut> {
        if let LaneState::Blocked(cause) = &mut self.state { cause.take() } else { None }
    }
}

impl Relay {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        inbound: &mut dyn Endpoint,
        outbound: &mut dyn Endpoint,
        mut idle: Pin<&mut Sleep>,
    ) -> Poll<Ending> {
        let mut moved = false;
        let up = self.up.poll(cx, inbound, outbound, &mut moved);
        if let Poll::Ready(Err(cut)) = up {
            return Poll::Ready(Ending::Cut(Whose::Inbound, cut));
        }
        let down = self.down.poll(cx, outbound, inbound, &mut moved);
        if let Poll::Ready(Err(cut)) = down {
            return Poll::Ready(Ending::Cut(Whose::Outbound, cut));
        }
        if let Some(ending) = self.ended(cx, up.is_ready(), down.is_ready(), inbound, outbound) {
            return Poll::Ready(ending);
        }
        if self.up.has_more || self.down.has_more {
            cx.waker().wake_by_ref();
        }
        // Answers to pings and TLS's own messages go out even when no payload does.
        let _ = inbound.poll_flush(cx);
        let _ = outbound.poll_flush(cx);
        if moved {
            self.moved = Instant::now();
        }
        self.poll_idle(cx, inbound, outbound, idle.as_mut())
    }

    fn ended(
        &mut self,
        cx: &mut Context<'_>,
        up: bool,
        down: bool,
        inbound: &mut dyn Endpoint,
        outbound: &mut dyn Endpoint,
    ) -> Option<Ending> {
        if up && down {
            return Some(match (self.up.is_blocked(), self.down.is_blocked()) {
                (true, _) => Ending::Left(Whose::Outbound, self.up.take_cause()),
                (_, true) => Ending::Left(Whose::Inbound, self.down.take_cause()),
                _ => Ending::Complete,
            });
        }
        if up && matches!(self.up.state, LaneState::Done) && inbound.poll_gone(cx).is_ready() {
            return Some(Ending::Left(Whose::Inbound, None));
        }
        if down && matches!(self.down.state, LaneState::Done) && outbound.poll_gone(cx).is_ready() {
            return Some(Ending::Left(Whose::Outbound, None));
        }
        None
    }

    fn poll_idle(
        &mut self,
        cx: &mut Context<'_>,
        inbound: &mut dyn Endpoint,
        outbound: &mut dyn Endpoint,
        mut idle: Pin<&mut Sleep>,
    ) -> Poll<Ending> {
        loop {
            let deadline = self.deadline(inbound, outbound);
            let wake = self.next_beat(inbound, outbound).map_or(deadline, |beat| beat.min(deadline));
            if wake < idle.deadline() {
                idle.as_mut().reset(wake);
            }
            ready!(idle.as_mut().poll(cx));
            let now = Instant::now();
            if now >= deadline {
                let half_open = !(self.up.is_flowing() && self.down.is_flowing());
                let delivered = !self.waits_for_sink();
                return Poll::Ready(if half_open && delivered { Ending::Complete } else { Ending::Idle });
            }
            if let Err(cut) = beat(cx, inbound, self.moved, now) {
                return Poll::Ready(Ending::Cut(Whose::Inbound, cut));
            }
            if let Err(cut) = beat(cx, outbound, self.moved, now) {
                return Poll::Ready(Ending::Cut(Whose::Outbound, cut));
            }
            let wake = self.next_beat(inbound, outbound).map_or(deadline, |beat| beat.min(deadline));
            idle.as_mut().reset(wake);
        }
    }

    /// When a side wants to ping its peer.
    fn next_beat(&self, inbound: &dyn Endpoint, outbound: &dyn Endpoint) -> Option<Instant> {
        let beats = [inbound.next_beat(self.moved), outbound.next_beat(self.moved)];
        beats.into_iter().flatten().min()
    }

    /// Whether a side has not taken yet what it was given.
    fn waits_for_sink(&self) -> bool {
        self.up.waits_for_sink || self.down.waits_for_sink
    }

    /// When the session is given up if nothing moves until then. A side that takes slowly is not a silent one.
    fn deadline(&self, inbound: &dyn Endpoint, outbound: &dyn Endpoint) -> Instant {
        let wait = match (self.up.is_flowing(), self.down.is_flowing()) {
            _ if self.waits_for_sink() => None,
            (true, true) => None,
            (true, false) => self.timeouts.uplink_only.or_else(|| inbound.half_open_limit()),
            (false, _) => self.timeouts.downlink_only.or_else(|| outbound.half_open_limit()),
        };
        self.moved + wait.unwrap_or(self.timeouts.both)
    }
}

/// Lets a side ping its peer if its time has come.
fn beat(cx: &mut Context<'_>, side: &mut dyn Endpoint, moved: Instant, now: Instant) -> Result<(), Cut> {
    if side.next_beat(moved).is_some_and(|beat| beat <= now) {
        side.beat()?;
        // That it failed is seen by who reads or sends.
        let _ = side.poll_flush(cx);
    }
    Ok(())
}

/// How long a goodbye may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a reset overtakes is lost, so it waits a moment for the peer to take what was sent.
const RESET_GRACE: Duration = Duration::from_millis(100);

async fn close(mut inbound: BoxEndpoint, mut outbound: BoxEndpoint, complete: Completeness) {
    if complete == Completeness::Whole {
        let both = async {
            tokio::join!(poll_fn(|cx| inbound.poll_close(cx)), poll_fn(|cx| outbound.poll_close(cx)));
        };
        // Whoever does not take our goodbye in time goes without.
        let _ = timeout(CLOSE_TIMEOUT, both).await;
        return;
    }
    tokio::join!(cut(inbound), cut(outbound));
}

/// Ends a side whose stream is not complete so that its peer sees it, after what was sent before.
pub async fn cut(mut side: BoxEndpoint) {
    side.abort();
    // Whoever does not take it in time goes without.
    let _ = timeout(CLOSE_TIMEOUT, side.flush()).await;
    tokio::time::sleep(RESET_GRACE).await;
}

#[cfg(test)]
mod tests;
