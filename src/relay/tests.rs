//! The relay between two scripted endpoints, on a paused clock.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    task::Waker,
};

use super::*;
use crate::stream::{Batch, Layout, Pool};

/// What a scripted endpoint reads next.
enum Item {
    Data(&'static [u8]),
    End,
    Cut,
}

/// What it does with what it is given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taking {
    All,
    Nothing,
    Failing,
}

/// One side, as the test sees it.
#[derive(Clone)]
struct Side(Arc<Mutex<State>>);

#[expect(clippy::struct_excessive_bools, reason = "what happened to a scripted side, each on its own")]
struct State {
    items: VecDeque<Item>,
    /// The last item comes again and again, so many times.
    repeats: u32,
    taking: Taking,
    outgoing: Option<Batch>,
    sent: Vec<u8>,
    /// An answer to a ping waits.
    answer: bool,
    finished: bool,
    aborted: bool,
    closed: bool,
    gone: bool,
    half_open_limit: Option<Duration>,
    /// It wants to ping when nothing has moved for so long, and how often it did.
    pings_after: Option<Duration>,
    pinged: Vec<Instant>,
    /// Its peer is found to be gone at this ping.
    dead_at: Option<usize>,
    reads: u32,
    wakers: Vec<Waker>,
}

impl Side {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            items: VecDeque::new(),
            repeats: 0,
            taking: Taking::All,
            outgoing: None,
            sent: Vec::new(),
            answer: false,
            finished: false,
            aborted: false,
            closed: false,
            gone: false,
            half_open_limit: None,
            pings_after: None,
            pinged: Vec::new(),
            dead_at: None,
            reads: 0,
            wakers: Vec::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Changes something and wakes the session.
    async fn set(&self, change: impl FnOnce(&mut State)) {
        let wakers = {
            let mut state = self.state();
            change(&mut state);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
        settle().await;
    }

    async fn says(&self, item: Item) {
        self.set(|state| state.items.push_back(item)).await;
    }

    fn sent(&self) -> String {
        String::from_utf8(self.state().sent.clone()).unwrap()
    }
}

/// Lets the session do all it can without time passing that matters.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

impl Endpoint for Side {
    fn layout(&self) -> Layout {
        Layout::FLAT
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, _: Layout) -> Poll<Result<Read, Cut>> {
        let mut state = self.state();
        state.reads += 1;
        if let (Some(&Item::Data(bytes)), true) = (state.items.front(), state.repeats > 0) {
            state.repeats -= 1;
            return Poll::Ready(Ok(Read::Data(batch(bytes))));
        }
        match state.items.pop_front() {
            Some(Item::Data(bytes)) => Poll::Ready(Ok(Read::Data(batch(bytes)))),
            Some(Item::End) => Poll::Ready(Ok(Read::End)),
            Some(Item::Cut) => Poll::Ready(Err(Cut::Unfinished("scripted"))),
            None => {
                state.wakers.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn send(&mut self, batch: Batch) -> Result<(), Cut> {
        let mut state = self.state();
        assert!(state.outgoing.is_none(), "given more before the last was flushed");
        assert!(!state.finished, "given more behind the end");
        state.outgoing = Some(batch);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        let mut state = self.state();
        match state.taking {
            Taking::Failing => return Poll::Ready(Err(Cut::Unfinished("scripted"))),
            Taking::Nothing if state.outgoing.is_some() || state.answer => {
                state.wakers.push(cx.waker().clone());
                return Poll::Pending;
            }
            _ => {}
        }
        if let Some(batch) = state.outgoing.take() {
            batch.pieces().for_each(|piece| state.sent.extend_from_slice(piece));
        }
        state.answer = false;
        Poll::Ready(Ok(()))
    }

    fn finish(&mut self) {
        self.state().finished = true;
    }

    fn half_open_limit(&self) -> Option<Duration> {
        self.state().half_open_limit
    }

    fn next_beat(&self, moved: Instant) -> Option<Instant> {
        let state = self.state();
        Some(state.pinged.last().map_or(moved, |&last| last.max(moved)) + state.pings_after?)
    }

    fn beat(&mut self) -> Result<(), Cut> {
        let mut state = self.state();
        state.pinged.push(Instant::now());
        state.answer = true;
        if state.dead_at == Some(state.pinged.len()) { Err(Cut::Unfinished("scripted")) } else { Ok(()) }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.gone {
            return Poll::Ready(());
        }
        state.wakers.push(cx.waker().clone());
        Poll::Pending
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<()> {
        self.state().closed = true;
        Poll::Ready(())
    }

    fn abort(&mut self) {
        self.state().aborted = true;
    }
}

fn batch(bytes: &[u8]) -> Batch {
    let mut batch = Pool::new().batch(bytes.len());
    batch.bytes()[..bytes.len()].copy_from_slice(bytes);
    batch.push(0..bytes.len());
    batch
}

const TIMEOUTS: IdleTimeouts =
    IdleTimeouts { both: Duration::from_mins(5), uplink_only: None, downlink_only: None };

/// A session under way, and its two sides.
struct Session {
    inbound: Side,
    outbound: Side,
    task: tokio::task::JoinHandle<Outcome>,
    started: Instant,
}

impl Session {
    async fn start() -> Self {
        Self::with(FirstPayload::default(), TIMEOUTS, |_, _| {}).await
    }

    async fn with(
        first: FirstPayload,
        timeouts: IdleTimeouts,
        prepare: impl FnOnce(&mut State, &mut State),
    ) -> Self {
        let (inbound, outbound) = (Side::new(), Side::new());
        prepare(&mut inbound.state(), &mut outbound.state());
        let task =
            tokio::spawn(relay(Box::new(inbound.clone()), Box::new(outbound.clone()), first, timeouts));
        settle().await;
        Self { inbound, outbound, task, started: Instant::now() }
    }

    /// How it ended, and how long after the start.
    async fn end(self) -> (Outcome, Duration) {
        let outcome = timeout(Duration::from_hours(1), self.task).await.expect("it never ends").unwrap();
        (outcome, self.started.elapsed())
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_move_both_ways_and_ends_are_passed_on() {
    let session = Session::start().await;
    session.inbound.says(Item::Data(b"request")).await;
    assert_eq!(session.outbound.sent(), "request");
    session.outbound.says(Item::Data(b"re")).await;
    session.outbound.says(Item::Data(b"ply")).await;
    assert_eq!(session.inbound.sent(), "reply");
    session.inbound.says(Item::End).await;
    assert!(session.outbound.state().finished && !session.inbound.state().finished);
    session.outbound.says(Item::Data(b", and more")).await;
    assert_eq!(session.inbound.sent(), "reply, and more");
    session.outbound.says(Item::End).await;
    let (inbound, outbound) = (session.inbound.clone(), session.outbound.clone());
    let (outcome, _) = session.end().await;
    assert!(matches!(outcome.ending, Ending::Complete), "{:?}", outcome.ending);
    assert_eq!((outcome.up, outcome.down), (7, 15));
    assert!(inbound.state().closed && outbound.state().closed);
    assert!(!inbound.state().aborted && !outbound.state().aborted);
}

#[tokio::test(start_paused = true)]
async fn upload_goes_on_after_the_end_of_the_download() {
    let session = Session::start().await;
    session.outbound.says(Item::End).await;
    assert!(session.inbound.state().finished);
    session.inbound.says(Item::Data(b"still here")).await;
    assert_eq!(session.outbound.sent(), "still here");
    session.inbound.says(Item::End).await;
    assert!(matches!(session.end().await.0.ending, Ending::Complete));
}

#[tokio::test(start_paused = true)]
async fn cut_source_aborts_the_other_side_once_what_came_before_is_flushed() {
    for cut_side in [Whose::Inbound, Whose::Outbound] {
        let session = Session::start().await;
        let (source, sink) = match cut_side {
            Whose::Inbound => (session.inbound.clone(), session.outbound.clone()),
            Whose::Outbound => (session.outbound.clone(), session.inbound.clone()),
        };
        sink.set(|state| state.taking = Taking::Nothing).await;
        source.says(Item::Data(b"before the cut")).await;
        source.says(Item::Cut).await;
        assert!(!sink.state().aborted, "aborted before it took what came first");
        sink.set(|state| state.taking = Taking::All).await;
        let (outcome, _) = session.end().await;
        assert!(matches!(outcome.ending, Ending::Cut(whose, _) if whose == cut_side), "{:?}", outcome.ending);
        assert_eq!(sink.sent(), "before the cut");
        let sink = sink.state();
        assert!(sink.aborted && !sink.finished && !sink.closed, "a cut must not look like an end");
    }
}

#[tokio::test(start_paused = true)]
async fn blocked_sink_stops_its_source_and_nothing_else() {
    let session = Session::start().await;
    session.outbound.set(|state| state.taking = Taking::Nothing).await;
    session.inbound.says(Item::Data(b"1")).await;
    let reads = session.inbound.state().reads;
    session.inbound.says(Item::Data(b"2")).await;
    session.inbound.says(Item::Data(b"3")).await;
    for part in [&b"a"[..], b"b", b"c"] {
        session.outbound.says(Item::Data(part)).await;
    }
    assert_eq!(session.inbound.sent(), "abc");
    assert_eq!(session.inbound.state().reads, reads, "read on although nobody takes it");
    session.outbound.set(|state| state.taking = Taking::All).await;
    assert_eq!(session.outbound.sent(), "123");
}

#[tokio::test(start_paused = true)]
async fn sink_that_fails_still_gets_its_reply_delivered() {
    let session = Session::start().await;
    session.outbound.set(|state| state.taking = Taking::Failing).await;
    session.inbound.says(Item::Data(b"too late")).await;
    session.outbound.says(Item::Data(b"413, go away")).await;
    session.outbound.says(Item::End).await;
    let inbound = session.inbound.clone();
    let (outcome, _) = session.end().await;
    assert!(matches!(outcome.ending, Ending::Left(Whose::Outbound, Some(_))), "{:?}", outcome.ending);
    assert_eq!(inbound.sent(), "413, go away");
    assert!(inbound.state().finished && !inbound.state().aborted);
}

#[tokio::test(start_paused = true)]
async fn peer_that_leaves_after_its_end_ends_the_session() {
    let session = Session::start().await;
    session.inbound.set(|state| state.gone = true).await;
    session.outbound.says(Item::Data(b"x")).await;
    assert!(!session.task.is_finished(), "only a peer that has ended can be gone");
    session.inbound.says(Item::End).await;
    let (outcome, after) = session.end().await;
    assert!(matches!(outcome.ending, Ending::Left(Whose::Inbound, None)), "{:?}", outcome.ending);
    assert!(after < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn silent_session_is_aborted_after_the_idle_timeout_of_its_last_byte() {
    let session = Session::start().await;
    tokio::time::sleep(Duration::from_mins(4)).await;
    session.outbound.says(Item::Data(b"x")).await;
    let outbound = session.outbound.clone();
    let (outcome, after) = session.end().await;
    assert!(matches!(outcome.ending, Ending::Idle), "{:?}", outcome.ending);
    assert_eq!(after.as_secs(), 9 * 60);
    assert!(outbound.state().aborted && !outbound.state().closed);
}

#[tokio::test(start_paused = true)]
async fn half_open_session_ends_by_the_policy_before_its_peers_habits() {
    let limits = |state: &mut State| state.half_open_limit = Some(Duration::from_secs(7));
    let policy = IdleTimeouts {
        uplink_only: Some(Duration::from_secs(2)),
        downlink_only: Some(Duration::from_secs(5)),
        ..TIMEOUTS
    };
    // Who ends first, the policy, and after how many seconds.
    let cases = [
        (Whose::Inbound, policy, 5),
        (Whose::Outbound, policy, 2),
        (Whose::Inbound, TIMEOUTS, 7),
        (Whose::Outbound, TIMEOUTS, 7),
    ];
    for (first, timeouts, expected) in cases {
        let session = Session::with(FirstPayload::default(), timeouts, |inbound, outbound| {
            // The side that has been told of the end is asked for its limit.
            limits(if first == Whose::Inbound { outbound } else { inbound });
        })
        .await;
        let side = if first == Whose::Inbound { &session.inbound } else { &session.outbound };
        side.says(Item::End).await;
        let (outcome, after) = session.end().await;
        assert!(matches!(outcome.ending, Ending::Complete), "{:?}", outcome.ending);
        assert_eq!(after.as_secs(), expected, "{first} ended");
    }
}

#[tokio::test(start_paused = true)]
async fn slow_sink_is_not_taken_for_a_silent_source() {
    let session = Session::with(FirstPayload::default(), TIMEOUTS, |_, outbound| {
        outbound.half_open_limit = Some(Duration::from_secs(1));
    })
    .await;
    session.inbound.says(Item::End).await;
    session.inbound.set(|state| state.taking = Taking::Nothing).await;
    session.outbound.says(Item::Data(b"one")).await;
    session.outbound.says(Item::Data(b", two")).await;
    session.outbound.says(Item::End).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!session.task.is_finished(), "given up although the application just reads slowly");
    session.inbound.set(|state| state.taking = Taking::All).await;
    let inbound = session.inbound.clone();
    let (outcome, _) = session.end().await;
    assert!(matches!(outcome.ending, Ending::Complete), "{:?}", outcome.ending);
    assert_eq!(inbound.sent(), "one, two");
}

#[tokio::test(start_paused = true)]
async fn silence_is_counted_from_when_a_slow_sink_has_taken_all() {
    let session = Session::with(FirstPayload::default(), TIMEOUTS, |_, outbound| {
        outbound.half_open_limit = Some(Duration::from_secs(1));
    })
    .await;
    session.inbound.says(Item::End).await;
    session.inbound.set(|state| state.taking = Taking::Nothing).await;
    session.outbound.says(Item::Data(b"one")).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    session.inbound.set(|state| state.taking = Taking::All).await;
    assert!(!session.task.is_finished());
    session.outbound.says(Item::Data(b", two")).await;
    assert_eq!(session.inbound.sent(), "one, two");
    let (_, after) = session.end().await;
    assert_eq!(after.as_secs(), 31);
}

#[tokio::test(start_paused = true)]
async fn undelivered_bytes_never_end_as_complete() {
    let session = Session::start().await;
    session.inbound.says(Item::End).await;
    session.inbound.set(|state| state.taking = Taking::Nothing).await;
    session.outbound.says(Item::Data(b"nobody takes this")).await;
    session.outbound.says(Item::End).await;
    let inbound = session.inbound.clone();
    let (outcome, _) = session.end().await;
    assert!(matches!(outcome.ending, Ending::Idle), "{:?}", outcome.ending);
    let inbound = inbound.state();
    assert!(inbound.aborted && !inbound.closed, "the application must see a reset");
}

#[tokio::test(start_paused = true)]
async fn first_payload_that_ended_its_stream_finishes_the_outbound() {
    let session = Session::with(FirstPayload { bytes: 5, ended: true }, TIMEOUTS, |_, _| {}).await;
    assert!(session.outbound.state().finished);
    assert_eq!(session.inbound.state().reads, 0, "read behind the end");
    session.outbound.says(Item::Data(b"reply")).await;
    session.outbound.says(Item::End).await;
    assert_eq!(session.inbound.sent(), "reply");
    let (outcome, _) = session.end().await;
    assert!(matches!(outcome.ending, Ending::Complete), "{:?}", outcome.ending);
    assert_eq!((outcome.up, outcome.down), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn answers_to_pings_leave_an_idle_session() {
    let session = Session::start().await;
    for side in [&session.inbound, &session.outbound] {
        side.set(|state| state.answer = true).await;
        assert!(!side.state().answer, "the answer waits for payload");
    }
}

#[tokio::test(start_paused = true)]
async fn idle_session_is_not_polled() {
    let session = Session::start().await;
    session.inbound.says(Item::Data(b"x")).await;
    session.inbound.says(Item::End).await;
    let reads = || session.inbound.state().reads + session.outbound.state().reads;
    let before = reads();
    tokio::time::sleep(Duration::from_mins(4)).await;
    assert_eq!(reads(), before);
}

#[tokio::test(start_paused = true)]
async fn endless_upload_does_not_starve_the_download_or_other_tasks() {
    const UPLOADS: u32 = 100_000;
    let session = Session::with(FirstPayload::default(), TIMEOUTS, |inbound, outbound| {
        inbound.items.push_back(Item::Data(b"u"));
        inbound.repeats = UPLOADS;
        outbound.items.push_back(Item::Data(b"d"));
    })
    .await;
    assert_eq!(session.inbound.sent(), "d", "the download waits for the upload");
    let left = session.inbound.state().repeats;
    assert!(left > UPLOADS / 2, "{} batches in one go", UPLOADS - left);
    let (outcome, _) = session.end().await;
    assert_eq!((outcome.up, outcome.down), (u64::from(UPLOADS) + 1, 1));
}

/// Seconds from the start to each ping.
fn pings(side: &Side, started: Instant) -> Vec<u64> {
    side.state().pinged.iter().map(|ping| ping.duration_since(started).as_secs()).collect()
}

#[tokio::test(start_paused = true)]
async fn idle_side_pings_and_is_flushed_until_the_session_is_given_up() {
    let session = Session::with(FirstPayload::default(), TIMEOUTS, |_, outbound| {
        outbound.pings_after = Some(Duration::from_secs(25));
    })
    .await;
    let (outbound, started) = (session.outbound.clone(), session.started);
    tokio::time::sleep(Duration::from_secs(26)).await;
    assert!(!outbound.state().answer, "the ping is still queued");
    let (outcome, after) = session.end().await;
    assert!(matches!(outcome.ending, Ending::Idle), "{:?}", outcome.ending);
    assert_eq!(after.as_secs(), 300, "pings are no payload");
    assert_eq!(pings(&outbound, started), (1..12).map(|n| 25 * n).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn side_on_which_payload_moves_is_not_pinged() {
    let session = Session::with(FirstPayload::default(), TIMEOUTS, |inbound, outbound| {
        inbound.pings_after = Some(Duration::from_secs(25));
        outbound.pings_after = Some(Duration::from_secs(25));
    })
    .await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(20)).await;
        session.inbound.says(Item::Data(b"x")).await;
    }
    let (inbound, outbound, started) = (session.inbound.clone(), session.outbound.clone(), session.started);
    assert_eq!(pings(&outbound, started), [0_u64; 0]);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!((pings(&inbound, started), pings(&outbound, started)), (vec![225], vec![225]));
}

#[tokio::test(start_paused = true)]
async fn side_whose_peer_is_gone_is_cut_for_both() {
    for dead in [Whose::Inbound, Whose::Outbound] {
        let session = Session::with(FirstPayload::default(), TIMEOUTS, |inbound, outbound| {
            let side = if dead == Whose::Inbound { inbound } else { outbound };
            side.pings_after = Some(Duration::from_secs(25));
            side.dead_at = Some(4);
        })
        .await;
        let (inbound, outbound) = (session.inbound.clone(), session.outbound.clone());
        let (outcome, after) = session.end().await;
        assert!(matches!(outcome.ending, Ending::Cut(whose, _) if whose == dead), "{:?}", outcome.ending);
        assert_eq!(after.as_secs(), 100);
        assert!(inbound.state().aborted && outbound.state().aborted, "the application must see a reset");
    }
}
