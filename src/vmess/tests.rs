//! Both ends of a VMess stream against each other, and each against scripted bytes.

use std::{future::poll_fn, net::Ipv4Addr, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{PrivatePkcs8KeyDer, ServerName},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use wsray_vmess::{Address, Security, Target};
use wsray_ws::Role;

use super::*;
use crate::{
    stream::{LARGE_BYTES, MOST_SLOTS, Pool},
    transport::{Ahead, Credit, Socket, TabPlace, ThroughTab, Tls},
};

/// Every way a body may look: security and option bits; 0 is `zero`.
const BODIES: [(Security, u8); 10] = [
    (Security::Aes128Gcm, 0x01),
    (Security::Aes128Gcm, 0x05),
    (Security::Aes128Gcm, 0x0d),
    (Security::Aes128Gcm, 0x1d),
    (Security::ChaCha20Poly1305, 0x05),
    (Security::ChaCha20Poly1305, 0x0d),
    (Security::ChaCha20Poly1305, 0x1d),
    (Security::None, 0x01),
    (Security::None, 0x05),
    (Security::None, 0x00),
];

/// What carries the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Tcp,
    Ws,
    WsTls,
}

fn request(security: Security, options: u8, command: fn(Target) -> Command) -> Request {
    let target = Target { address: Address::Ip([127, 0, 0, 1].into()), port: 80 };
    Request {
        secrets: Secrets { body_key: [1; 16], body_iv: [2; 16], response_auth: 3 },
        options: Options::from_bits(options),
        security,
        command: command(target),
    }
}

fn aes() -> Request {
    request(Security::Aes128Gcm, 0x0d, Command::Tcp)
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (client, server) = tokio::join!(connecting, listener.accept());
    (client.unwrap(), server.unwrap().0)
}

fn channel(tcp: TcpStream, way: Way, role: Role) -> Channel {
    let mut channel = Channel::new(Socket::new(tcp).unwrap(), Pool::new());
    if way == Way::Ws {
        channel.upgrade(role, Vec::new(), Vec::new());
    }
    channel
}

async fn channels(way: Way) -> (Channel, Channel) {
    let (client, server) = sockets().await;
    if way != Way::WsTls {
        return (channel(client, way, Role::Client), channel(server, way, Role::Server));
    }
    let (mut client, mut server) =
        (channel(client, Way::Tcp, Role::Client), channel(server, Way::Tcp, Role::Server));
    let certified = rcgen::generate_simple_self_signed(["h.example".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let trusting = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let serving = ServerConfig::builder().with_no_client_auth();
    let serving = serving.with_single_cert(vec![certified.cert.der().clone()], key.into()).unwrap();
    let name = ServerName::try_from("h.example").unwrap();
    let (one, other) = tokio::join!(
        client.handshake(Tls::client(Arc::new(trusting), name).unwrap()),
        server.handshake(Tls::server(Arc::new(serving)).unwrap()),
    );
    one.unwrap();
    other.unwrap();
    client.upgrade(Role::Client, Vec::new(), Vec::new());
    server.upgrade(Role::Server, Vec::new(), Vec::new());
    (client, server)
}

fn client(channel: Channel, request: &Request) -> VmessStream {
    let sealer = ChunkSealer::new(request, Direction::Request).unwrap();
    VmessStream::client(channel, request, sealer, EndMark::Sent, Arc::default()).unwrap()
}

async fn pair(way: Way, request: &Request) -> (VmessStream, VmessStream) {
    let (one, other) = channels(way).await;
    (client(one, request), VmessStream::server(other, request).unwrap())
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0] ^ seed).collect()
}

/// Sends all of `bytes` and the end, and reads `expected` bytes and, where the body marks it, the end; both at once.
async fn exchange(stream: &mut VmessStream, bytes: &[u8], expected: usize) -> Vec<u8> {
    let marked = stream.sealer.has_end_mark();
    let (mut at, mut finished, mut flushed, mut ended, mut got) = (0, false, false, false, Vec::new());
    let both = poll_fn(|cx| {
        loop {
            let mut moved = false;
            if let Poll::Ready(result) = stream.poll_flush(cx) {
                result.unwrap();
                flushed = finished;
                if at < bytes.len() {
                    let layout = stream.layout();
                    let now = layout.room().min(bytes.len() - at);
                    let mut batch = stream.channel.pool().batch(LARGE_BYTES);
                    batch.bytes()[..now].copy_from_slice(&bytes[at..at + now]);
                    batch.push(0..now);
                    stream.send(batch.laid_out(layout)).unwrap();
                    at += now;
                    moved = true;
                } else if !finished {
                    stream.finish();
                    finished = true;
                    moved = true;
                }
            }
            if !ended && let Poll::Ready(read) = stream.poll_read(cx, Layout::FLAT) {
                match read.unwrap() {
                    Read::Data(batch) => batch.pieces().for_each(|piece| got.extend_from_slice(piece)),
                    Read::End => ended = true,
                }
                ended |= !marked && got.len() >= expected;
                moved = true;
            }
            if finished && flushed && ended {
                return Poll::Ready(());
            }
            if !moved {
                return Poll::Pending;
            }
        }
    });
    timeout(Duration::from_mins(1), both).await.expect("it hangs");
    got
}

/// Everything up to the end, and the end.
async fn read_all(stream: &mut VmessStream) -> (Vec<u8>, Result<(), Cut>) {
    let mut got = Vec::new();
    let stream: &mut dyn Endpoint = stream;
    loop {
        match timeout(Duration::from_secs(20), stream.read(Layout::FLAT)).await.expect("it hangs") {
            Ok(Read::Data(batch)) => batch.pieces().for_each(|piece| got.extend_from_slice(piece)),
            Ok(Read::End) => return (got, Ok(())),
            Err(cut) => return (got, Err(cut)),
        }
    }
}

async fn send(stream: &mut VmessStream, bytes: &[u8]) {
    let mut batch = stream.channel.pool().batch(bytes.len());
    batch.bytes()[..bytes.len()].copy_from_slice(bytes);
    batch.push(0..bytes.len());
    stream.send(batch.laid_out(stream.layout())).unwrap();
    let stream: &mut dyn Endpoint = stream;
    stream.flush().await.unwrap();
}

/// What a server sends for these payloads: its header, a chunk a payload, the end mark.
fn server_bytes(request: &Request, payloads: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut sealer = ChunkSealer::new(request, Direction::Response).unwrap();
    let mut parts = vec![seal_response(&request.secrets, 0).unwrap().to_vec()];
    for payload in payloads {
        let (head, tail) = (sealer.head_len(), sealer.tail_max());
        let mut chunk = [&vec![0; head], *payload, &vec![0; tail]].concat();
        let sealed = sealer.seal(&mut chunk, head..head + payload.len(), &[9; 64]).unwrap();
        parts.push(chunk[sealed].to_vec());
    }
    let mut last = Vec::new();
    sealer.end_mark(&mut last, &[9; 64]).unwrap();
    parts.push(last);
    parts
}

/// A server's unmasked frame around `payload`.
fn frame(payload: &[u8]) -> Vec<u8> {
    let mut bytes = [&[0; wsray_ws::MAX_HEADER_BYTES], payload].concat();
    let at = wsray_ws::seal(
        &mut bytes,
        wsray_ws::MAX_HEADER_BYTES..wsray_ws::MAX_HEADER_BYTES + payload.len(),
        None,
    );
    bytes[at].to_vec()
}

#[tokio::test]
async fn every_body_passes_both_ways_at_once_over_every_way() {
    let (up, down) = (pattern(300_001, 1), pattern(400_003, 2));
    for (security, options) in BODIES {
        for way in [Way::Tcp, Way::Ws, Way::WsTls] {
            let (mut one, mut other) = pair(way, &request(security, options, Command::Tcp)).await;
            let (got_down, got_up) =
                tokio::join!(exchange(&mut one, &up, down.len()), exchange(&mut other, &down, up.len()));
            assert!(got_up == up && got_down == down, "{security:?} {options:#x} {way:?}");
        }
    }
}

#[tokio::test]
async fn eight_mebibytes_pass_both_ways_at_once() {
    let (up, down) = (pattern(8 << 20, 1), pattern(8 << 20, 2));
    for (security, options) in [(Security::Aes128Gcm, 0x1d), (Security::None, 0x00)] {
        let (mut one, mut other) = pair(Way::WsTls, &request(security, options, Command::Tcp)).await;
        let (got_down, got_up) =
            tokio::join!(exchange(&mut one, &up, down.len()), exchange(&mut other, &down, up.len()));
        assert!(got_up == up && got_down == down, "{security:?} {options:#x}");
    }
}

#[tokio::test]
async fn full_batches_of_every_body_fit_their_buffers_when_sealed() {
    for command in [Command::Tcp, Command::Udp] {
        for (security, options) in BODIES {
            let (mut one, mut other) = pair(Way::WsTls, &request(security, options, command)).await;
            for stream in [&mut one, &mut other] {
                let layout = stream.layout();
                let mut batch = stream.channel.pool().batch(LARGE_BYTES);
                for slot in (0..).map_while(|n| layout.slot(n, LARGE_BYTES)) {
                    batch.push(slot);
                }
                let slots = if layout.payload < 20_000 { MOST_SLOTS } else { 4 };
                assert_eq!(batch.ranges().len(), slots);
                stream.send(batch).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn packets_of_every_size_pass_whole() {
    for (security, options) in BODIES.into_iter().filter(|(_, options)| *options != 0) {
        for way in [Way::Ws, Way::WsTls] {
            let (mut one, mut other) = pair(way, &request(security, options, Command::Udp)).await;
            for len in [1, 125, 1400, 16_384, 65_380, 65_440, 65_456, 65_507] {
                for up in [true, false] {
                    let (from, to) = if up { (&mut one, &mut other) } else { (&mut other, &mut one) };
                    let layout = from.layout();
                    let packet = pattern(len.min(layout.payload), 5);
                    let mut batch = from.channel.pool().batch(LARGE_BYTES);
                    batch.bytes()[layout.head..layout.head + packet.len()].copy_from_slice(&packet);
                    batch.push(layout.head..layout.head + packet.len());
                    from.send(batch).unwrap();
                    let (from, to): (&mut dyn Endpoint, &mut dyn Endpoint) = (from, to);
                    let (flushed, read) = tokio::join!(from.flush(), to.read(Layout::FLAT));
                    flushed.unwrap();
                    let Read::Data(got) = read.unwrap() else { panic!("ended") };
                    assert!(got.pieces().eq([packet.as_slice()]), "{security:?} {options:#x} {way:?} {len}");
                }
            }
        }
    }
}

#[tokio::test]
async fn bytes_that_come_one_by_one_pass() {
    for (security, options) in
        [(Security::Aes128Gcm, 0x1d), (Security::ChaCha20Poly1305, 0x0d), (Security::None, 0x01)]
    {
        let request = request(security, options, Command::Tcp);
        let ((near, far), (far_server, server)) = (sockets().await, sockets().await);
        let drip = async |mut from: TcpStream, mut to: TcpStream| {
            to.set_nodelay(true).unwrap();
            while let Ok(byte) = from.read_u8().await {
                to.write_u8(byte).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let dripping = tokio::spawn(drip(far, far_server));
        let mut one = client(channel(near, Way::Ws, Role::Client), &request);
        let mut other = VmessStream::server(channel(server, Way::Ws, Role::Server), &request).unwrap();
        let up = pattern(3000, 1);
        for part in up.chunks(700) {
            send(&mut one, part).await;
        }
        one.finish();
        let one: &mut dyn Endpoint = &mut one;
        one.flush().await.unwrap();
        let (got, end) = read_all(&mut other).await;
        assert!(got == up && end.is_ok(), "{security:?} {options:#x}: {end:?}");
        dripping.abort();
    }
}

/// Shows how many bytes a tab was asked about.
struct Asked(std::sync::mpsc::Sender<u64>);

impl TabPlace for Asked {
    fn ask(&self, bytes: u64) -> bool {
        self.0.send(bytes).is_ok()
    }
}

#[tokio::test]
async fn end_is_not_flushed_before_a_tab_has_passed_on_every_byte() {
    let (near, mut far) = sockets().await;
    let (credit, (asked, questions)) = (Arc::new(Credit::default()), std::sync::mpsc::channel());
    let mut behind = channel(near, Way::Ws, Role::Server);
    behind.through(ThroughTab::new(Arc::clone(&credit), Ahead::Unlimited, Asked(asked)));
    let mut stream = client(behind, &aes());
    send(&mut stream, &pattern(3000, 1)).await;
    stream.finish();
    let stream: &mut dyn Endpoint = &mut stream;
    assert!(timeout(Duration::from_millis(50), stream.flush()).await.is_err(), "nothing has been passed on");
    // What a page counts: the frames' payload.
    let mut wire = vec![0; 8000];
    let mut read = 0;
    let mut payload = Vec::new();
    let mut frames = Vec::new();
    while frames.len() < 2 {
        read += far.read(&mut wire[read..]).await.unwrap();
        (frames, payload) = (Vec::new(), Vec::new());
        let mut rest = &wire[..read];
        // Unmasked, with lengths of one byte or of two (RFC 6455 section 5.2).
        while let [0x82, short, behind @ ..] = rest {
            let (length, behind) = match (short, behind) {
                (126, [high, low, behind @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), behind),
                (length, behind) => (usize::from(*length), behind),
            };
            let Some((whole, behind)) = behind.split_at_checked(length) else { break };
            payload.extend_from_slice(whole);
            frames.push(length);
            rest = behind;
        }
    }
    let all = payload.len() as u64;
    assert_eq!(questions.try_recv(), Ok(all), "{frames:?}");
    credit.add(all - 1);
    assert!(timeout(Duration::from_millis(50), stream.flush()).await.is_err(), "a byte is missing");
    credit.add(1);
    timeout(Duration::from_secs(10), stream.flush()).await.expect("it hangs").unwrap();
}

#[tokio::test]
async fn connection_lost_without_an_end_mark_is_a_cut() {
    for way in [Way::Tcp, Way::Ws, Way::WsTls] {
        let (mut one, mut other) = pair(way, &aes()).await;
        send(&mut other, b"all that came").await;
        drop(other);
        let (got, end) = read_all(&mut one).await;
        assert_eq!(got, b"all that came");
        assert!(end.is_err(), "{way:?}");
    }
}

#[tokio::test]
async fn aborted_stream_is_seen_as_a_cut_over_every_way() {
    for way in [Way::Tcp, Way::Ws, Way::WsTls] {
        for client_aborts in [true, false] {
            let (one, other) = pair(way, &aes()).await;
            let (mut from, mut to) = if client_aborts { (one, other) } else { (other, one) };
            send(&mut from, b"all that came").await;
            let Ok(Read::Data(_)) = (&mut to as &mut dyn Endpoint).read(Layout::FLAT).await else {
                panic!("no data")
            };
            from.abort();
            (&mut from as &mut dyn Endpoint).flush().await.unwrap();
            drop(from);
            let (_, end) = read_all(&mut to).await;
            assert!(end.is_err(), "{way:?}, client aborts: {client_aborts}");
        }
    }
}

#[tokio::test]
async fn damaged_byte_cuts_the_stream_and_nothing_behind_it_is_delivered() {
    let request = request(Security::Aes128Gcm, 0x1d, Command::Tcp);
    let parts = server_bytes(&request, &[b"first ", b"second ", b"third"]);
    let whole = parts.concat();
    // From the second chunk on; its padding carries nothing.
    let start = parts[0].len() + parts[1].len();
    for at in start..start + 18 + 7 + 16 {
        let (near, mut far) = sockets().await;
        let mut one = client(channel(near, Way::Ws, Role::Client), &request);
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        far.write_all(&frame(&damaged)).await.unwrap();
        let (got, end) = read_all(&mut one).await;
        assert_eq!(got, b"first ", "damaged at {at}");
        assert!(matches!(end, Err(Cut::Protocol { layer: "VMess", .. })), "damaged at {at}: {end:?}");
    }
}

#[tokio::test]
async fn response_split_at_every_byte_is_read_the_same() {
    let request = aes();
    let whole = server_bytes(&request, &[b"hello", b", world"]).concat();
    for cut in 1..whole.len() {
        let (near, mut far) = sockets().await;
        let mut one = client(channel(near, Way::Ws, Role::Client), &request);
        far.set_nodelay(true).unwrap();
        let (first, second) = (frame(&whole[..cut]), frame(&whole[cut..]));
        let writing = async {
            far.write_all(&first).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            far.write_all(&second).await.unwrap();
        };
        let ((), (got, end)) = tokio::join!(writing, read_all(&mut one));
        assert!(got == b"hello, world" && end.is_ok(), "cut at {cut}: {end:?}");
    }
}

#[tokio::test]
async fn read_given_up_at_any_moment_loses_nothing() {
    let request = aes();
    let whole = frame(&server_bytes(&request, &[b"hello", b", world"]).concat());
    let (near, mut far) = sockets().await;
    let mut one = client(channel(near, Way::Ws, Role::Client), &request);
    let mut got = Vec::new();
    for byte in whole {
        far.write_u8(byte).await.unwrap();
        let one: &mut dyn Endpoint = &mut one;
        let waiting = timeout(Duration::from_millis(1), one.read(Layout::FLAT)).await;
        if let Ok(Ok(Read::Data(batch))) = waiting {
            batch.pieces().for_each(|piece| got.extend_from_slice(piece));
        }
    }
    let (rest, end) = read_all(&mut one).await;
    assert!([got, rest].concat() == b"hello, world" && end.is_ok(), "{end:?}");
}

#[tokio::test]
async fn normal_close_ends_an_unmarked_stream_between_chunks_only() {
    for options in [0x05, 0x1d] {
        let request = request(Security::Aes128Gcm, options, Command::Tcp);
        let parts = server_bytes(&request, &[b"first", b"second"]);
        let whole = parts[..3].concat();
        let edges = [parts[0].len() + parts[1].len(), whole.len()];
        for cut in parts[0].len() + 1..=whole.len() {
            let (near, mut far) = sockets().await;
            let mut one = client(channel(near, Way::Ws, Role::Client), &request);
            let mut bytes = frame(&whole[..cut]);
            bytes.extend_from_slice(b"\x88\x02\x03\xe8");
            far.write_all(&bytes).await.unwrap();
            let (_, end) = read_all(&mut one).await;
            assert_eq!(end.is_ok(), edges.contains(&cut), "closed after {cut} bytes: {end:?}");
        }
    }
}

#[tokio::test]
async fn server_that_closes_without_an_answer_has_refused() {
    let (near, mut far) = sockets().await;
    let mut one = client(channel(near, Way::Ws, Role::Client), &aes());
    far.write_all(b"\x88\x02\x03\xe8").await.unwrap();
    let (_, end) = read_all(&mut one).await;
    assert!(matches!(end, Err(Cut::Unfinished(REFUSED))), "{end:?}");

    let (near, far) = sockets().await;
    let mut one = client(channel(near, Way::Ws, Role::Client), &aes());
    drop(far);
    let (_, end) = read_all(&mut one).await;
    assert!(matches!(end, Err(Cut::Unfinished(DROPPED))), "{end:?}");
}

#[tokio::test]
async fn server_that_never_answers_leaves_the_reader_waiting() {
    let (near, mut far) = sockets().await;
    let mut one = client(channel(near, Way::Ws, Role::Client), &aes());
    far.write_all(&frame(b"")).await.unwrap();
    far.write_all(&frame(&server_bytes(&aes(), &[])[0][..37])).await.unwrap();
    let one: &mut dyn Endpoint = &mut one;
    assert!(timeout(Duration::from_millis(50), one.read(Layout::FLAT)).await.is_err());
}

#[tokio::test]
async fn aborted_server_still_answers_once() {
    let (mut one, mut other) = pair(Way::Ws, &aes()).await;
    other.abort();
    (&mut other as &mut dyn Endpoint).flush().await.unwrap();
    drop(other);
    let (_, end) = read_all(&mut one).await;
    assert!(matches!(end, Err(Cut::Unfinished(UNREACHABLE))), "{end:?}");
}
