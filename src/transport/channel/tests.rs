//! The channel on a real socket, with a scripted peer on the other end: bare bytes, or a TLS client of rustls.

use std::{
    future::poll_fn,
    io::{Read as _, Write as _},
    net::Ipv4Addr,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig,
    pki_types::{PrivatePkcs8KeyDer, ServerName},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{receive::MAX_CONTROL_BYTES, *};

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (client, server) = tokio::join!(connecting, listener.accept());
    let client = client.unwrap();
    client.set_nodelay(true).unwrap();
    (client, server.unwrap().0)
}

fn over(tcp: TcpStream) -> Channel {
    Channel::new(Socket::new(tcp).unwrap(), Pool::new())
}

/// A server's channel that speaks frames, and its peer.
async fn ws() -> (Channel, TcpStream) {
    let (far, near) = sockets().await;
    let mut channel = over(near);
    channel.upgrade(Role::Server, Vec::new(), Vec::new());
    (channel, far)
}

/// A client's frame.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [&[0; wsray_ws::MAX_HEADER_BYTES], payload].concat();
    let at = wsray_ws::seal(
        &mut bytes,
        wsray_ws::MAX_HEADER_BYTES..wsray_ws::MAX_HEADER_BYTES + payload.len(),
        Some([5, 6, 7, 8]),
    );
    bytes[at.start] = 0x80 | opcode;
    bytes[at].to_vec()
}

/// The next stream bytes, without those that were put back; `None` at the end.
async fn read(channel: &mut Channel) -> Option<Vec<u8>> {
    let reading = poll_fn(|cx| channel.poll_read(cx, LARGE_BYTES));
    let incoming = timeout(Duration::from_secs(10), reading).await.expect("it hangs").unwrap();
    incoming.map(|mut incoming| incoming.batch.bytes()[incoming.stream].to_vec())
}

/// Whether a read has nothing to say now. Abandons it.
async fn is_waiting(channel: &mut Channel) -> bool {
    timeout(Duration::from_millis(1), poll_fn(|cx| channel.poll_read(cx, LARGE_BYTES))).await.is_err()
}

async fn flush(channel: &mut Channel) {
    timeout(Duration::from_secs(10), poll_fn(|cx| channel.poll_flush(cx))).await.expect("it hangs").unwrap();
}

/// Everything the peer receives up to the FIN.
async fn receive_all(far: &mut TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    timeout(Duration::from_secs(10), far.read_to_end(&mut got)).await.expect("no FIN").unwrap();
    got
}

/// A TLS client of the buffered kind, its bytes moved by hand.
struct TlsPeer {
    tls: ClientConnection,
    tcp: TcpStream,
    plain: Vec<u8>,
}

impl TlsPeer {
    /// A channel and its peer, who has not shaken hands yet.
    async fn new(max_fragment_size: Option<usize>) -> (Self, Channel, Tls) {
        let certified = rcgen::generate_simple_self_signed(["h.example".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
        let mut roots = RootCertStore::empty();
        roots.add(certified.cert.der().clone()).unwrap();
        let trusting = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let serving = ServerConfig::builder().with_no_client_auth();
        let mut serving = serving.with_single_cert(vec![certified.cert.der().clone()], key.into()).unwrap();
        serving.max_fragment_size = max_fragment_size;
        let name = ServerName::try_from("h.example").unwrap();
        let tls = ClientConnection::new(Arc::new(trusting), name).unwrap();
        let (tcp, near) = sockets().await;
        (Self { tls, tcp, plain: Vec::new() }, over(near), Tls::server(Arc::new(serving)).unwrap())
    }

    /// The records that wait to be sent.
    fn records(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut out).unwrap();
        }
        out
    }

    fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        self.tls.writer().write_all(plain).unwrap();
        self.records()
    }

    /// Shakes hands, and sends what `last` adds in one piece with the client's last flight.
    async fn shake(&mut self, last: impl FnOnce(&mut ClientConnection)) {
        let mut last = Some(last);
        while last.is_some() {
            let mut out = Vec::new();
            if !self.tls.is_handshaking()
                && let Some(last) = last.take()
            {
                last(&mut self.tls);
            }
            out.append(&mut self.records());
            self.tcp.write_all(&out).await.unwrap();
            if last.is_some() {
                self.receive().await;
            }
        }
    }

    /// One read from the socket; false at the end.
    async fn receive(&mut self) -> bool {
        let mut bytes = vec![0; 64 * 1024];
        let read = self.tcp.read(&mut bytes).await.unwrap();
        let mut bytes = &bytes[..read];
        while !bytes.is_empty() {
            self.tls.read_tls(&mut bytes).unwrap();
            let waiting = self.tls.process_new_packets().unwrap().plaintext_bytes_to_read();
            let start = self.plain.len();
            self.plain.resize(start + waiting, 0);
            self.tls.reader().read_exact(&mut self.plain[start..]).unwrap();
        }
        read > 0
    }

    /// Everything up to `len` bytes of plaintext, or to the end.
    async fn plaintext(&mut self, len: usize) -> Vec<u8> {
        while self.plain.len() < len
            && timeout(Duration::from_secs(10), self.receive()).await.expect("it hangs")
        {}
        std::mem::take(&mut self.plain)
    }
}

/// Both after the handshake; frames are spoken.
async fn tls() -> (Channel, TlsPeer) {
    let (mut peer, mut channel, tls) = TlsPeer::new(None).await;
    let (shaken, ()) = tokio::join!(channel.handshake(tls), peer.shake(|_| {}));
    shaken.unwrap();
    channel.upgrade(Role::Server, Vec::new(), Vec::new());
    (channel, peer)
}

#[tokio::test]
async fn frames_split_at_every_byte_give_the_same_bytes() {
    let wire =
        [frame(2, b"hello"), frame(9, b"ping"), frame(2, &[7; 200]), frame(2, b""), frame(1, b"!")].concat();
    let expected = [&b"hello"[..], &[7; 200], b"!"].concat();
    for cut in 1..wire.len() {
        let (mut channel, mut far) = ws().await;
        let mut got = Vec::new();
        for part in [&wire[..cut], &wire[cut..]] {
            far.write_all(part).await.unwrap();
            while let Ok(Ok(Some(mut incoming))) =
                timeout(Duration::from_millis(1), poll_fn(|cx| channel.poll_read(cx, LARGE_BYTES))).await
            {
                got.extend_from_slice(&incoming.batch.bytes()[incoming.stream]);
            }
        }
        assert_eq!(got, expected, "cut at {cut}");
    }
}

#[tokio::test]
async fn bytes_that_were_put_back_stand_in_front_of_the_next() {
    let (mut channel, mut far) = ws().await;
    let mut all = Vec::new();
    // More than a small buffer holds, so that a large one is lent on the way.
    for n in 0..60_u8 {
        far.write_all(&frame(2, &[n; 1000])).await.unwrap();
        all.extend_from_slice(&[n; 1000]);
        let mut got = read(&mut channel).await.unwrap();
        while got.len() < all.len() {
            channel.put_back(&got);
            got = read(&mut channel).await.unwrap();
        }
        assert_eq!(got, all);
        channel.put_back(&got);
        assert!(is_waiting(&mut channel).await, "what was put back is no news");
    }
}

#[tokio::test]
async fn early_data_comes_first_then_what_came_behind_the_head() {
    let (mut far, near) = sockets().await;
    let mut channel = over(near);
    let second = frame(2, b", third");
    let ahead = [&frame(2, b", second")[..], &second[..3]].concat();
    channel.upgrade(Role::Server, ahead, b"first".to_vec());
    assert_eq!(read(&mut channel).await.unwrap(), b"first");
    assert_eq!(read(&mut channel).await.unwrap(), b", second");
    far.write_all(&second[3..]).await.unwrap();
    assert_eq!(read(&mut channel).await.unwrap(), b", third");
}

#[tokio::test]
async fn tls_records_split_at_every_byte_give_the_same_bytes() {
    let (mut channel, mut peer) = tls().await;
    let first = peer.seal(&frame(2, b"message 000"));
    peer.tcp.write_all(&first).await.unwrap();
    assert_eq!(read(&mut channel).await.unwrap(), b"message 000");
    let len = first.len();
    for cut in 1..len {
        let message = format!("message {cut:03}");
        let record = peer.seal(&frame(2, message.as_bytes()));
        assert_eq!(record.len(), len);
        peer.tcp.write_all(&record[..cut]).await.unwrap();
        assert!(is_waiting(&mut channel).await, "cut at {cut}");
        peer.tcp.write_all(&record[cut..]).await.unwrap();
        assert_eq!(read(&mut channel).await.unwrap(), message.as_bytes(), "cut at {cut}");
    }
}

#[tokio::test]
async fn bytes_that_come_with_the_end_of_the_handshake_are_kept() {
    let (mut peer, mut channel, tls) = TlsPeer::new(None).await;
    let frames = frame(2, b"with Finished");
    let shaking = peer.shake(|tls| tls.writer().write_all(&[b"HEAD", &frames[..]].concat()).unwrap());
    let (shaken, ()) = tokio::join!(channel.handshake(tls), shaking);
    shaken.unwrap();
    let mut head = Vec::new();
    while head.len() < 4 {
        assert!(channel.read_some(&mut head).await.unwrap() > 0);
    }
    let ahead = head.split_off(4);
    assert_eq!(head, b"HEAD");
    channel.upgrade(Role::Server, ahead, Vec::new());
    assert_eq!(read(&mut channel).await.unwrap(), b"with Finished");
}

#[tokio::test]
async fn close_notify_that_comes_with_the_last_bytes_ends_the_stream() {
    for during_handshake in [true, false] {
        let (mut peer, mut channel, tls) = TlsPeer::new(None).await;
        let goodbye = |tls: &mut ClientConnection| {
            tls.writer().write_all(b"last").unwrap();
            tls.send_close_notify();
        };
        if during_handshake {
            let (shaken, ()) = tokio::join!(channel.handshake(tls), peer.shake(goodbye));
            shaken.unwrap();
        } else {
            let (shaken, ()) = tokio::join!(channel.handshake(tls), peer.shake(|_| {}));
            shaken.unwrap();
            goodbye(&mut peer.tls);
            let records = peer.records();
            peer.tcp.write_all(&records).await.unwrap();
        }
        // The connection below stays open.
        let mut head = Vec::new();
        assert_eq!(channel.read_some(&mut head).await.unwrap(), 4);
        let more = timeout(Duration::from_secs(5), channel.read_some(&mut head)).await;
        assert_eq!(more.expect("waits for more although none can come").unwrap(), 0);
        assert_eq!(head, b"last");
    }
}

#[tokio::test]
async fn tickets_cut_into_many_records_disturb_nothing() {
    let (mut peer, mut server, tls) = TlsPeer::new(Some(64)).await;
    let (shaken, ()) = tokio::join!(server.handshake(tls), peer.shake(|_| {}));
    shaken.unwrap();
    server.write_all(b"behind the tickets").await.unwrap();
    assert_eq!(peer.plaintext(18).await, b"behind the tickets");
}

#[tokio::test]
async fn end_of_the_connection_without_close_notify_delivers_what_came() {
    let (mut channel, mut peer) = tls().await;
    let record = peer.seal(&frame(2, b"last words"));
    peer.tcp.write_all(&record).await.unwrap();
    peer.tcp.shutdown().await.unwrap();
    assert_eq!(read(&mut channel).await.unwrap(), b"last words");
    assert_eq!(read(&mut channel).await, None);
    assert_eq!(channel.end(), Some(&ChannelEnd::Eof));
}

#[tokio::test]
async fn damaged_record_breaks_the_stream_and_is_answered_with_an_alert() {
    let (mut channel, mut peer) = tls().await;
    let mut records = peer.seal(&frame(2, b"whole"));
    let mut damaged = peer.seal(&frame(2, b"damaged"));
    *damaged.last_mut().unwrap() ^= 1;
    records.append(&mut damaged);
    peer.tcp.write_all(&records).await.unwrap();
    assert_eq!(read(&mut channel).await.unwrap(), b"whole");
    assert_eq!(read(&mut channel).await, None);
    assert!(matches!(channel.end(), Some(ChannelEnd::Broken { layer: "TLS", .. })), "{:?}", channel.end());
    flush(&mut channel).await;
    drop(channel);
    let bytes = receive_all(&mut peer.tcp).await;
    let mut bytes = &bytes[..];
    let mut refused = None;
    while !bytes.is_empty() && refused.is_none() {
        peer.tls.read_tls(&mut bytes).unwrap();
        refused = peer.tls.process_new_packets().err();
    }
    assert!(matches!(refused, Some(rustls::Error::AlertReceived(_))), "{refused:?}");
}

/// Gives the channel batches until the socket takes no more; how many bytes.
async fn fill(channel: &mut Channel, fill: u8) -> usize {
    let mut given = 0;
    while timeout(Duration::from_millis(20), poll_fn(|cx| channel.poll_flush(cx))).await.is_ok() {
        let mut batch = channel.pool().batch(LARGE_BYTES);
        let (bytes, ranges) = batch.parts();
        for n in 0..16 {
            let slot = n * 16_000 + 100..(n + 1) * 16_000;
            bytes[slot.clone()].fill(fill);
            given += slot.len();
            ranges.push(slot);
        }
        channel.send(batch).unwrap();
    }
    given
}

/// The data and the pongs that a server's wire holds.
fn decode(wire: &mut [u8]) -> (usize, usize) {
    let mut reader = wsray_ws::FrameReader::new(
        Role::Client,
        wsray_ws::TextPolicy::Bytes,
        wsray_ws::Limits { max_idle_frames: u32::MAX },
    );
    let (mut data, mut pongs, mut at) = (0, 0, 0);
    while let Some(event) = reader.next(wire, &mut at) {
        match event {
            wsray_ws::Event::Data { range, .. } => data += range.len(),
            wsray_ws::Event::Pong(_) => pongs += 1,
            other => panic!("{other:?}"),
        }
    }
    (data, pongs)
}

#[tokio::test]
async fn ping_that_comes_while_a_batch_waits_is_answered_behind_it() {
    let (mut channel, mut peer) = tls().await;
    let given = fill(&mut channel, 3).await;
    let ping = peer.seal(&[frame(9, b"are you there"), frame(2, b"x")].concat());
    peer.tcp.write_all(&ping).await.unwrap();
    assert_eq!(read(&mut channel).await.unwrap(), b"x", "a blocked way out stops the way in");
    let len = given + given.div_ceil(15_900) * 4 + 2 + 13;
    // A record out of order would not open.
    let ((), mut plain) = tokio::join!(flush(&mut channel), peer.plaintext(len));
    assert_eq!(plain.len(), len);
    assert!(plain.ends_with(b"\x8a\x0dare you there"));
    assert_eq!(decode(&mut plain), (given, 1));
}

#[tokio::test]
async fn answers_to_a_peer_that_takes_none_are_bounded() {
    let (mut channel, mut far) = ws().await;
    let given = fill(&mut channel, 3).await;
    let flood = frame(9, &[1; 125]).repeat(900);
    far.write_all(&flood).await.unwrap();
    far.write_all(&frame(2, b"x")).await.unwrap();
    assert_eq!(read(&mut channel).await.unwrap(), b"x");
    assert!(channel.control.len() <= MAX_CONTROL_BYTES + 200, "{} bytes", channel.control.len());
    let (mut wire, expected) = (Vec::new(), given);
    channel.queue_goodbye(None);
    let ((), got) = tokio::join!(flush(&mut channel), receive_all(&mut far));
    wire.extend_from_slice(&got[..got.len() - 2]);
    let (data, pongs) = decode(&mut wire);
    assert!(data == expected && pongs > 16, "{data} bytes, {pongs} pongs");
}

#[tokio::test]
async fn flood_of_pings_ends_the_stream() {
    let (mut channel, mut far) = ws().await;
    let flood = [frame(2, b"before"), frame(9, b"").repeat(1100), frame(2, b"behind")].concat();
    far.write_all(&flood).await.unwrap();
    assert_eq!(read(&mut channel).await.unwrap(), b"before");
    assert_eq!(read(&mut channel).await, None);
    assert!(matches!(channel.end(), Some(ChannelEnd::Broken { layer: "WebSocket", .. })));
}

#[tokio::test]
async fn close_frame_delivers_what_came_before_and_is_answered_with_its_code() {
    let (mut channel, mut far) = ws().await;
    let wire = [frame(2, b"before"), frame(8, &4001_u16.to_be_bytes()), frame(2, b"behind")].concat();
    far.write_all(&wire).await.unwrap();
    assert_eq!(read(&mut channel).await.unwrap(), b"before");
    assert_eq!(read(&mut channel).await, None);
    assert_eq!(channel.end(), Some(&ChannelEnd::Close(Some(4001))));
    channel.queue_goodbye(Some(1000));
    flush(&mut channel).await;
    assert!(channel.said_goodbye());
    assert_eq!(receive_all(&mut far).await, b"\x88\x02\x0f\xa1");
}

#[tokio::test]
async fn goodbye_is_a_close_frame_then_close_notify_then_a_fin() {
    let (mut channel, mut peer) = tls().await;
    channel.queue(b"last").unwrap();
    channel.queue_goodbye(Some(1000));
    channel.queue_goodbye(Some(1001));
    flush(&mut channel).await;
    assert_eq!(peer.plaintext(usize::MAX).await, b"\x82\x04last\x88\x02\x03\xe8");
    // An end without close_notify would be an error here.
    assert_eq!(peer.tls.reader().read(&mut [0; 1]).unwrap(), 0);
}

#[tokio::test]
async fn broken_rule_is_answered_with_its_close_code() {
    let (mut channel, mut far) = ws().await;
    // Not masked.
    far.write_all(b"\x82\x01x").await.unwrap();
    assert_eq!(read(&mut channel).await, None);
    flush(&mut channel).await;
    assert_eq!(receive_all(&mut far).await, b"\x88\x02\x03\xea");
}

#[tokio::test]
async fn idle_channel_holds_no_buffer() {
    let (mut channel, mut far) = ws().await;
    far.write_all(&frame(2, &[1; 5000])).await.unwrap();
    while read(&mut channel).await.unwrap().len() < 2000 {}
    assert!(is_waiting(&mut channel).await);
    assert_eq!((channel.carry.capacity(), channel.ahead.capacity(), channel.control.capacity()), (0, 0, 0));
    assert!(channel.outgoing.is_none());
}

/// A client's channel that pings when idle, and its peer; on a paused clock.
async fn pinging() -> (Channel, TcpStream) {
    let (near, far) = sockets().await;
    let mut channel = over(near);
    channel.upgrade(Role::Client, Vec::new(), Vec::new());
    channel.keep_alive(wsray_config::Heartbeat::WhenIdle);
    (channel, far)
}

/// Reads what has come, sleeps until the next ping is due and sends it, so many times; `Err`: the peer is gone.
async fn beats(channel: &mut Channel, count: u32) -> Result<(), Cut> {
    for _ in 0..count {
        while poll_fn(|cx| Poll::Ready(channel.poll_read(cx, LARGE_BYTES).is_ready())).await {}
        let next = channel.next_beat(Instant::now() - Duration::from_hours(1)).unwrap();
        tokio::time::sleep_until(next).await;
        while poll_fn(|cx| Poll::Ready(channel.poll_read(cx, LARGE_BYTES).is_ready())).await {}
        channel.beat()?;
        let _ = poll_fn(|cx| Poll::Ready(channel.poll_flush(cx))).await;
    }
    Ok(())
}

/// Answers each ping of a client with `answer`.
async fn answer_pings(mut far: TcpStream, answer: &'static [u8]) {
    let mut ping = [0; 6];
    while far.read_exact(&mut ping).await.is_ok() {
        assert_eq!(ping[..2], [0x89, 0x80], "an empty masked ping");
        far.write_all(answer).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn idle_client_pings_every_25_seconds_and_gives_a_silent_peer_up() {
    let (mut channel, mut far) = pinging().await;
    let start = Instant::now();
    let gone = beats(&mut channel, 100).await.unwrap_err().to_string();
    assert_eq!(start.elapsed().as_secs(), 100);
    assert!(gone.contains("3 pings went unanswered"), "{gone}");
    drop(channel);
    let mut got = Vec::new();
    far.read_to_end(&mut got).await.unwrap();
    assert_eq!(got.len(), 3 * 6, "{got:?}");
    assert!(got.chunks(6).all(|ping| ping[..2] == [0x89, 0x80]));
}

#[tokio::test(start_paused = true)]
async fn peer_that_answers_pings_or_just_speaks_is_alive() {
    for answer in [&b"\x8a\x00"[..], b"\x82\x01x"] {
        let (mut channel, far) = pinging().await;
        let peer = tokio::spawn(answer_pings(far, answer));
        beats(&mut channel, 100).await.unwrap();
        peer.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_wait_unread_prove_that_nobody_listens_here() {
    let (mut channel, mut far) = pinging().await;
    far.write_all(b"\x82\x01x").await.unwrap();
    assert_eq!(read(&mut channel).await.unwrap(), b"x");
    // The application takes nothing, so nothing more is read.
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(25)).await;
        channel.beat().unwrap();
        flush(&mut channel).await;
    }
}

#[tokio::test(start_paused = true)]
async fn slow_link_with_bytes_in_flight_is_neither_pinged_nor_given_up() {
    let (mut channel, far) = pinging().await;
    loop {
        let mut batch = channel.pool().batch(LARGE_BYTES);
        batch.push(1024..LARGE_BYTES);
        channel.send(batch).unwrap();
        if poll_fn(|cx| Poll::Ready(channel.poll_flush(cx).is_pending())).await {
            break;
        }
    }
    beats(&mut channel, 100).await.unwrap();
    assert!(channel.control.is_empty(), "pings pile up behind what is not sent");
    drop(far);
}

#[tokio::test]
async fn nobody_is_pinged_without_frames_unasked_or_after_the_goodbye() {
    let (near, _far) = sockets().await;
    let mut plain = over(near);
    plain.keep_alive(wsray_config::Heartbeat::WhenIdle);
    assert_eq!(plain.next_beat(Instant::now()), None);
    let (channel, _far) = ws().await;
    assert_eq!(channel.next_beat(Instant::now()), None);
    let (mut channel, _far) = pinging().await;
    assert!(channel.next_beat(Instant::now()).is_some());
    channel.queue_goodbye(None);
    assert_eq!(channel.next_beat(Instant::now()), None);
}
