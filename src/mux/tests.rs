//! A driver on a scripted stream: frames go in as bytes and come out as bytes.

use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use wsray_vmess::Network;

use super::*;
use crate::stream::{Batch, BoxEndpoint, Cut, Endpoint, Layout, Pool, Read};

/// What the test and the stream below the driver share.
#[derive(Default)]
struct Wire {
    incoming: Vec<u8>,
    ended: bool,
    sent: Vec<u8>,
    waker: Option<Waker>,
    aborted: bool,
    finished: bool,
    /// How long after the last payload the stream wants to ping, if it does.
    beats_after: Option<Duration>,
    beats: Vec<tokio::time::Instant>,
    peer: Pinged,
}

/// What a peer does that is pinged.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Pinged {
    #[default]
    Answers,
    Silent,
}

struct Below(Arc<Mutex<Wire>>, Arc<Pool>);

impl Endpoint for Below {
    fn layout(&self) -> Layout {
        Layout { head: 11, payload: 16_000, tail: 7 }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, _: Layout) -> Poll<Result<Read, Cut>> {
        let mut wire = self.0.lock().unwrap();
        if !wire.incoming.is_empty() {
            let most = wire.incoming.len().min(100_000);
            let bytes: Vec<_> = wire.incoming.drain(..most).collect();
            let mut batch = self.1.batch(most);
            batch.bytes()[..most].copy_from_slice(&bytes);
            // Chunks end anywhere.
            let middle = most / 3;
            batch.push(0..middle);
            batch.push(middle..most);
            return Poll::Ready(Ok(Read::Data(batch)));
        }
        if wire.ended {
            return Poll::Ready(Ok(Read::End));
        }
        wire.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn send(&mut self, batch: Batch) -> Result<(), Cut> {
        assert!(batch.ranges().iter().all(|range| range.start >= 11 && range.len() <= 16_000));
        let mut wire = self.0.lock().unwrap();
        batch.pieces().for_each(|piece| wire.sent.extend_from_slice(piece));
        Ok(())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        Poll::Ready(Ok(()))
    }

    fn finish(&mut self) {
        self.0.lock().unwrap().finished = true;
    }

    fn next_beat(&self, moved: tokio::time::Instant) -> Option<tokio::time::Instant> {
        let wire = self.0.lock().unwrap();
        let after = wire.beats_after?;
        Some(wire.beats.last().map_or(moved, |last| moved.max(*last)) + after)
    }

    fn beat(&mut self) -> Result<(), Cut> {
        let mut wire = self.0.lock().unwrap();
        if wire.peer == Pinged::Silent && !wire.beats.is_empty() {
            return Err(Cut::Unfinished("the peer answers no ping"));
        }
        wire.beats.push(tokio::time::Instant::now());
        Ok(())
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn abort(&mut self) {
        self.0.lock().unwrap().aborted = true;
    }
}

/// A running driver and the sessions that it opened.
struct Running {
    wire: Arc<Mutex<Wire>>,
    opened: Arc<Mutex<Vec<Opened>>>,
    /// How many were refused.
    refused: Arc<Mutex<usize>>,
    driver: JoinHandle<MuxEnding>,
    pool: Arc<Pool>,
}

impl Running {
    fn start() -> Self {
        let (wire, opened, pool) =
            (Arc::<Mutex<Wire>>::default(), Arc::<Mutex<Vec<_>>>::default(), Pool::new());
        let refused = Arc::<Mutex<usize>>::default();
        let below: BoxEndpoint = Box::new(Below(Arc::clone(&wire), Arc::clone(&pool)));
        let list = Arc::clone(&opened);
        let counter = Arc::clone(&refused);
        let open = move |session: Result<Opened, Full>| match session {
            Ok(session) => list.lock().unwrap().push(session),
            Err(Full) => *counter.lock().unwrap() += 1,
        };
        let driver = tokio::spawn(Driver::server(below, Arc::clone(&pool), open).run());
        Self { wire, opened, refused, driver, pool }
    }

    /// The peer sends this; everything that follows from it happens.
    async fn receive(&self, bytes: &[u8]) {
        {
            let mut wire = self.wire.lock().unwrap();
            wire.incoming.extend_from_slice(bytes);
            wire.waker.take().into_iter().for_each(Waker::wake);
        }
        sleep(Duration::from_millis(1)).await;
    }

    async fn sent(&self) -> Vec<u8> {
        sleep(Duration::from_millis(1)).await;
        std::mem::take(&mut self.wire.lock().unwrap().sent)
    }

    /// The session opened first of those not taken yet.
    fn session(&self) -> Opened {
        self.opened.lock().unwrap().remove(0)
    }

    fn batch(&self, bytes: &[u8], layout: Layout) -> Batch {
        let mut batch = self.pool.batch(bytes.len());
        batch.bytes()[..bytes.len()].copy_from_slice(bytes);
        batch.push(0..bytes.len());
        batch.laid_out(layout)
    }

    async fn say(&self, session: &mut Opened, bytes: &[u8]) {
        let stream: &mut dyn Endpoint = &mut session.stream;
        stream.flush().await.unwrap();
        stream.send(self.batch(bytes, stream.layout())).unwrap();
    }
}

/// What the session reads next; `None` at its end.
async fn read(session: &mut Opened) -> Result<Option<Vec<u8>>, Cut> {
    let stream: &mut dyn Endpoint = &mut session.stream;
    let read =
        timeout(Duration::from_millis(100), stream.read(Layout::FLAT)).await.expect("something to read")?;
    Ok(match read {
        Read::Data(batch) => Some(batch.pieces().flatten().copied().collect()),
        Read::End => None,
    })
}

/// `New` of a TCP session to 127.0.0.1:80.
fn new(id: u8) -> Vec<u8> {
    vec![0, 12, 0, id, 1, 0, 1, 0, 80, 1, 127, 0, 0, 1]
}

/// `Keep` with data.
fn keep(id: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap().to_be_bytes();
    [&[0, 4, 0, id, 2, 1][..], &length, data].concat()
}

const fn end(id: u8) -> [u8; 6] {
    [0, 4, 0, id, 3, 0]
}

const fn cut(id: u8) -> [u8; 6] {
    [0, 4, 0, id, 3, 2]
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ended_its_way_up_still_gets_its_answer() {
    let running = Running::start();
    running.receive(&[new(1), keep(1, b"question"), end(1).to_vec()].concat()).await;
    let mut session = running.session();
    assert_eq!(session.target.to_string(), "127.0.0.1:80");
    assert_eq!(read(&mut session).await.unwrap().unwrap(), b"question");
    assert!(read(&mut session).await.unwrap().is_none());
    running.say(&mut session, b"answer").await;
    session.stream.finish();
    drop(session);
    assert_eq!(running.sent().await, [keep(1, b"answer"), end(1).to_vec()].concat());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_the_peer_cuts_is_cut_behind_its_data() {
    let running = Running::start();
    running.receive(&[new(1), keep(1, b"half"), cut(1).to_vec()].concat()).await;
    let mut session = running.session();
    assert_eq!(read(&mut session).await.unwrap().unwrap(), b"half");
    assert!(read(&mut session).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_cut_of_what_we_have_ended_is_an_end() {
    let running = Running::start();
    running.receive(&new(1)).await;
    let mut session = running.session();
    running.say(&mut session, b"all of it").await;
    session.stream.finish();
    running.receive(&cut(1)).await;
    assert!(read(&mut session).await.unwrap().is_none());
    assert_eq!(running.sent().await, [keep(1, b"all of it"), end(1).to_vec()].concat());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_dropped_is_cut() {
    let running = Running::start();
    running.receive(&[new(1), new(2)].concat()).await;
    drop(running.session());
    assert_eq!(running.sent().await, cut(1));
}

#[tokio::test(start_paused = true)]
async fn data_for_nobody_are_answered_with_an_end() {
    let running = Running::start();
    running.receive(&[keep(9, b"lost"), new(1), keep(1, b"kept")].concat()).await;
    assert_eq!(read(&mut running.session()).await.unwrap().unwrap(), b"kept");
    assert!(running.sent().await.starts_with(&end(9)));
}

#[tokio::test(start_paused = true)]
async fn an_id_is_used_again() {
    let running = Running::start();
    running.receive(&[new(1), keep(1, b"one"), end(1).to_vec(), new(1), keep(1, b"two")].concat()).await;
    let (mut old, mut fresh) = (running.session(), running.session());
    assert_eq!(read(&mut fresh).await.unwrap().unwrap(), b"two");
    assert!(read(&mut old).await.is_err());
    drop(old);
    running.say(&mut fresh, b"answer").await;
    assert_eq!(running.sent().await, keep(1, b"answer"));
}

#[tokio::test(start_paused = true)]
async fn one_session_more_than_allowed_is_refused() {
    let running = Running::start();
    for id in 0..=256_u16 {
        let [high, low] = (id + 1).to_be_bytes();
        running.receive(&[0, 12, high, low, 1, 0, 1, 0, 80, 1, 127, 0, 0, 1]).await;
    }
    assert_eq!((running.opened.lock().unwrap().len(), *running.refused.lock().unwrap()), (256, 1));
    assert_eq!(running.sent().await, [0, 4, 1, 1, 3, 2]);
}

#[tokio::test(start_paused = true)]
async fn sessions_end_when_their_connection_does() {
    let running = Running::start();
    running.receive(&[new(1), keep(1, b"unread")].concat()).await;
    let mut session = running.session();
    running.wire.lock().unwrap().ended = true;
    running.receive(&[]).await;
    assert!(read(&mut session).await.is_err());
    assert!(matches!(running.driver.await.unwrap(), MuxEnding::Complete));
    assert!(running.wire.lock().unwrap().finished);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_frame_cuts_the_connection() {
    let running = Running::start();
    running.receive(&[new(1), vec![0, 4, 0, 1, 9, 0]].concat()).await;
    let ending = running.driver.await.unwrap();
    assert_eq!(
        ending.to_string(),
        "cut: Mux.Cool: status 9 is none of 1 (new), 2 (keep), 3 (end) and 4 (keep alive)"
    );
    assert!(running.wire.lock().unwrap().aborted);
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_sessions_ends_after_five_minutes() {
    let running = Running::start();
    running.receive(&new(1)).await;
    sleep(Duration::from_mins(10)).await;
    assert!(!running.driver.is_finished());
    drop(running.session());
    sleep(Duration::from_secs(299)).await;
    assert!(!running.driver.is_finished());
    sleep(Duration::from_secs(3)).await;
    assert!(running.driver.is_finished());
    assert!(matches!(running.driver.await.unwrap(), MuxEnding::Idle));
}

/// More than a session's reader may leave unread.
fn flood(id: u8) -> Vec<u8> {
    (0..10).flat_map(|_| keep(id, &vec![0; 60_000])).collect()
}

#[tokio::test(start_paused = true)]
async fn a_session_that_takes_nothing_is_cut_after_ten_seconds_when_it_is_not_alone() {
    let running = Running::start();
    running.receive(&[new(1), new(2), flood(1), keep(2, b"behind")].concat()).await;
    let (mut lazy, mut other) = (running.session(), running.session());
    sleep(Duration::from_secs(9)).await;
    assert!(!running.wire.lock().unwrap().incoming.is_empty(), "nothing more is read");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(read(&mut other).await.unwrap().unwrap(), b"behind");
    assert!(read(&mut lazy).await.is_err());
    assert!(running.sent().await.starts_with(&cut(1)));
}

#[tokio::test(start_paused = true)]
async fn a_session_alone_may_take_nothing_for_long() {
    let running = Running::start();
    running.receive(&[new(1), flood(1)].concat()).await;
    let mut lazy = running.session();
    sleep(Duration::from_mins(10)).await;
    let mut got = 0;
    while got < 600_000 {
        got += read(&mut lazy).await.unwrap().unwrap().len();
    }
    assert_eq!(got, 600_000);
}

#[tokio::test(start_paused = true)]
async fn a_slow_session_is_not_a_stalled_one() {
    let running = Running::start();
    running.receive(&[new(1), new(2), flood(1)].concat()).await;
    let (mut slow, _other) = (running.session(), running.session());
    let mut got = 0;
    while got < 600_000 {
        sleep(Duration::from_secs(9)).await;
        got += read(&mut slow).await.unwrap().unwrap().len();
    }
    assert_eq!(got, 600_000);
}

/// A client's end of a connection to a server that makes this of ends, with one session.
async fn client_of(ends: Ends) -> (Arc<Mutex<Wire>>, MuxStream, Arc<Pool>) {
    let (wire, pool) = (Arc::<Mutex<Wire>>::default(), Pool::new());
    let below: BoxEndpoint = Box::new(Below(Arc::clone(&wire), Arc::clone(&pool)));
    let (driver, connection) = Connection::new(below, Arc::clone(&pool), move || ends);
    tokio::spawn(driver.run());
    let client = Client::new(8);
    let target = "127.0.0.1:80".parse::<std::net::SocketAddr>().unwrap().into();
    let wanted = Wanted { network: Network::Tcp, target, global_id: None };
    let Place::Make(making) = client.place(&wanted, Sharing::Allowed) else { panic!("nothing is made yet") };
    let mut stream = client.made(&making, connection, &wanted).unwrap();
    stream.open_silently();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(std::mem::take(&mut wire.lock().unwrap().sent), new(1));
    (wire, stream, pool)
}

/// Reads for so long; whether something came.
async fn listens(stream: &mut MuxStream, limit: Duration) -> bool {
    let stream: &mut dyn Endpoint = stream;
    timeout(limit, stream.read(Layout::FLAT)).await.is_ok()
}

fn gets(wire: &Mutex<Wire>, bytes: &[u8]) {
    let mut wire = wire.lock().unwrap();
    wire.incoming.extend_from_slice(bytes);
    wire.waker.take().into_iter().for_each(Waker::wake);
}

#[tokio::test(start_paused = true)]
async fn an_end_is_held_back_from_a_server_that_would_give_the_answer_up() {
    for (ends, told_after) in [
        (Ends::PassedOn, Some(0)),
        (Ends::PassedOnSilently, Some(1000)),
        (Ends::Unknown, Some(1000)),
        (Ends::GivenUp, None),
    ] {
        let (wire, mut stream, _pool) = client_of(ends).await;
        stream.finish();
        let sent = || wire.lock().unwrap().sent.clone();
        // What moves is not silent.
        for _ in 0..3 {
            listens(&mut stream, Duration::from_millis(900)).await;
            assert_eq!(sent().is_empty(), told_after != Some(0), "{ends:?}");
            gets(&wire, &keep(1, b"more"));
            assert!(listens(&mut stream, Duration::from_millis(10)).await, "{ends:?}");
        }
        listens(&mut stream, Duration::from_millis(1010)).await;
        assert_eq!(sent() == end(1), told_after.is_some(), "{ends:?}");
        listens(&mut stream, Duration::from_mins(2)).await;
        gets(&wire, &end(1));
        assert!(listens(&mut stream, Duration::from_millis(10)).await, "{ends:?}");
        std::future::poll_fn(|cx| stream.poll_close(cx)).await;
        drop(stream);
        sleep(Duration::from_millis(1)).await;
        assert_eq!(sent(), end(1), "{ends:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_wants_is_cut_when_the_question_has_had_time_to_arrive() {
    for ends in [Ends::PassedOn, Ends::PassedOnSilently, Ends::Unknown, Ends::GivenUp] {
        let (wire, mut stream, pool) = client_of(ends).await;
        let endpoint: &mut dyn Endpoint = &mut stream;
        let mut batch = pool.batch(8);
        batch.push(0..8);
        endpoint.flush().await.unwrap();
        endpoint.send(batch.laid_out(endpoint.layout())).unwrap();
        endpoint.finish();
        let start = tokio::time::Instant::now();
        std::future::poll_fn(|cx| stream.poll_close(cx)).await;
        let waited = if ends == Ends::PassedOn { 0 } else { 1000 };
        assert_eq!(start.elapsed().as_millis(), waited, "{ends:?}");
        drop(stream);
        sleep(Duration::from_millis(1)).await;
        assert!(wire.lock().unwrap().sent.ends_with(&cut(1)), "{ends:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_ends_twice_gets_nothing_more_and_what_it_sent_is_delivered() {
    let running = Running::start();
    running.receive(&[new(1), keep(1, b"question"), end(1).to_vec()].concat()).await;
    let mut session = running.session();
    running.say(&mut session, b"answer").await;
    running.receive(&end(1)).await;
    let stream: &mut dyn Endpoint = &mut session.stream;
    assert!(stream.flush().await.is_err());
    assert_eq!(read(&mut session).await.unwrap().unwrap(), b"question");
    assert!(read(&mut session).await.unwrap().is_none());
}

/// XUDP: a packet to 127.0.0.1 and this port, as `New` (1) or `Keep` (2).
fn packet(status: u8, port: u8, data: u8) -> Vec<u8> {
    vec![0, 12, 0, 0, status, 1, 2, 0, port, 1, 127, 0, 0, 1, 0, 1, data]
}

/// What the session reads next, packet by packet, each with its peer.
async fn read_packets(session: &mut Opened) -> Vec<(Vec<u8>, String)> {
    let stream: &mut dyn Endpoint = &mut session.stream;
    let layout = Layout { head: 20, payload: 60_000, tail: 5 };
    match timeout(Duration::from_millis(100), stream.read(layout)).await.expect("a packet").unwrap() {
        Read::Data(batch) => {
            let shown = |(packet, peer): (&[u8], Option<&wsray_vmess::Target>)| {
                (packet.to_vec(), peer.map_or_else(String::new, ToString::to_string))
            };
            batch.packets().map(shown).collect()
        }
        Read::End => Vec::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn xudp_is_one_session_whose_packets_name_their_peers() {
    let running = Running::start();
    let packets = [packet(1, 53, b'a'), packet(2, 54, b'b'), keep(0, b"c")].concat();
    running.receive(&packets).await;
    let mut session = running.session();
    assert_eq!((session.network, session.is_xudp), (Network::Udp, true));
    assert_eq!(session.target.to_string(), "127.0.0.1:53");
    let named = |packet: &[u8], peer: &str| (packet.to_vec(), peer.to_owned());
    // A packet that names nobody is for the session's target.
    let expected = [named(b"a", "127.0.0.1:53"), named(b"b", "127.0.0.1:54"), named(b"c", "127.0.0.1:53")];
    assert_eq!(read_packets(&mut session).await, expected);
    let stream: &mut dyn Endpoint = &mut session.stream;
    let mut answers = running.pool.batch(1000);
    let head = stream.layout().head;
    answers.bytes()[head..head + 2].copy_from_slice(b"BA");
    answers.push_packet(head..head + 1, "127.0.0.1:54".parse::<std::net::SocketAddr>().unwrap().into());
    stream.flush().await.unwrap();
    stream.send(answers).unwrap();
    assert_eq!(running.sent().await, packet(2, 54, b'B'));
    running.receive(&end(0)).await;
    assert_eq!(read_packets(&mut session).await, []);
    drop(session);
    assert_eq!(running.sent().await, cut(0));
    assert!(running.opened.lock().unwrap().is_empty(), "one session, however many targets");
}

#[tokio::test(start_paused = true)]
async fn a_client_opens_xudp_with_its_first_packets_target_and_global_id() {
    let (wire, pool) = (Arc::<Mutex<Wire>>::default(), Pool::new());
    let below: BoxEndpoint = Box::new(Below(Arc::clone(&wire), Arc::clone(&pool)));
    let (driver, connection) = Connection::new(below, Arc::clone(&pool), || Ends::Unknown);
    tokio::spawn(driver.run());
    let client = Client::new(8);
    let first = "127.0.0.1:53".parse::<std::net::SocketAddr>().unwrap();
    let global_id = Some(*b"whoever!");
    let wanted = Wanted { network: Network::Udp, target: first.into(), global_id };
    let Place::Make(making) = client.place(&wanted, Sharing::Allowed) else { panic!("nothing is made yet") };
    let mut stream = client.made(&making, connection, &wanted).unwrap();
    let endpoint: &mut dyn Endpoint = &mut stream;
    let mut packets = pool.batch(2000);
    let head = endpoint.layout().head;
    packets.bytes()[head] = b'a';
    packets.push_packet(head..head + 1, first.into());
    packets.bytes()[2 * head + 1] = b'b';
    let name = wsray_vmess::Target { address: "a.test".parse().unwrap(), port: 54 };
    packets.push_packet(2 * head + 1..2 * head + 2, name);
    endpoint.flush().await.unwrap();
    endpoint.send(packets).unwrap();
    sleep(Duration::from_millis(1)).await;
    let new = b"\0\x14\0\x01\x01\x01\x02\0\x35\x01\x7f\0\0\x01whoever!\0\x01a";
    let keep = b"\0\x0f\0\x01\x02\x01\x02\0\x36\x02\x06a.test\0\x01b";
    assert_eq!(wire.lock().unwrap().sent, [&new[..], keep].concat());
}

#[tokio::test(start_paused = true)]
async fn packets_that_nobody_takes_are_dropped_and_stop_nobody() {
    let running = Running::start();
    let udp = vec![0, 12, 0, 1, 1, 0, 2, 0, 53, 1, 127, 0, 0, 1];
    running.receive(&[udp, flood(1), new(2), keep(2, b"behind")].concat()).await;
    let (_lazy, mut other) = (running.session(), running.session());
    assert_eq!(read(&mut other).await.unwrap().unwrap(), b"behind");
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_pinged_when_it_is_silent_and_only_then() {
    let running = Running::start();
    running.wire.lock().unwrap().beats_after = Some(Duration::from_secs(30));
    let start = tokio::time::Instant::now();
    running.receive(&new(1)).await;
    let mut session = running.session();
    for _ in 0..5 {
        sleep(Duration::from_secs(20)).await;
        running.say(&mut session, b"busy").await;
    }
    assert!(running.wire.lock().unwrap().beats.is_empty(), "what moves needs no ping");
    sleep(Duration::from_secs(95)).await;
    let beats: Vec<_> =
        running.wire.lock().unwrap().beats.iter().map(|beat| (*beat - start).as_secs()).collect();
    assert_eq!(beats, [130, 160, 190]);
    assert!(!running.driver.is_finished());
}

#[tokio::test(start_paused = true)]
async fn sessions_are_cut_when_pings_find_that_the_peer_is_gone() {
    let running = Running::start();
    {
        let mut wire = running.wire.lock().unwrap();
        (wire.beats_after, wire.peer) = (Some(Duration::from_secs(30)), Pinged::Silent);
    }
    running.receive(&new(1)).await;
    let mut session = running.session();
    sleep(Duration::from_secs(61)).await;
    assert!(read(&mut session).await.is_err());
    assert_eq!(running.driver.await.unwrap().to_string(), "cut: the peer answers no ping");
    assert!(running.wire.lock().unwrap().aborted);
}
