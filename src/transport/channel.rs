//! What carries a VMess stream: a socket, TLS around it if configured, WebSocket frames inside that if configured.
//!
//! Reading: socket -> TLS records -> frames, in one lent buffer and without gaps, so that the layer above opens its
//! chunks in place. Writing: pieces sealed by the layer above -> a frame header in front of each, masked in place
//! -> TLS records -> socket. Whatever is incomplete stays here between two reads, in a vector of its size.

use std::{
    io::{self, IoSliceMut},
    ops::Range,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use rand::RngExt;
use tokio::time::Instant;
use wsray_ws::{Control, Decoder, End, PingQueue, Role};

use super::{
    Socket,
    heartbeat::{Beat, Heartbeat, Link},
    tls::{Opened, Tls},
};
use crate::stream::{Batch, Cut, LARGE_BYTES, Pool, SMALL_BYTES};

/// A connected transport, after its handshakes.
pub struct Channel {
    socket: Socket,
    pool: Arc<Pool>,
    tls: Option<Box<Tls>>,
    ws: Option<Ws>,
    /// Decrypted bytes that came behind the handshake and are not deframed yet.
    ahead: Vec<u8>,
    /// Stream bytes that the layer above could not use yet, such as half a chunk.
    carry: Vec<u8>,
    /// What is carried has not been looked at by the layer above.
    carry_is_new: bool,
    outgoing: Option<Batch>,
    /// Bytes for the wire that follow `outgoing`: answers to pings, TLS's own messages, the goodbye.
    control: Vec<u8>,
    end: Option<ChannelEnd>,
    goodbye: Goodbye,
    /// The last read filled its buffer: lend a large one.
    bulk: bool,
    /// The last read found nothing: we wait for the peer.
    listens: bool,
}

/// WebSocket on a channel.
struct Ws {
    role: Role,
    decoder: Decoder,
    ticked: Instant,
    heartbeat: Heartbeat,
}

/// How far we are with closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goodbye {
    NotSaid,
    Queued,
    Sent,
}

/// How the peer's bytes ended. Everything before has been handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelEnd {
    /// A WebSocket close frame with this code.
    Close(Option<u16>),
    /// The connection ended without one.
    Eof,
    /// The peer broke TLS or WebSocket.
    Broken {
        /// Which of the two.
        layer: &'static str,
        /// What was wrong.
        reason: String,
    },
}

/// Stream bytes in a lent buffer.
#[derive(Debug)]
pub struct Incoming {
    /// The buffer, without ranges yet.
    pub batch: Batch,
    /// Where the bytes stand.
    pub stream: Range<usize>,
}

/// A server waits this long for its client to close first, as a V2Ray client may throw away what it has not passed
/// on when the close overtakes it (v2fly/v2ray-core `transport/pipe/impl.go`); V2Ray's own server waits as long.
pub const CLOSE_LINGER: Duration = Duration::from_secs(1);

/// Answers to pings waiting to be sent, in bytes; more pings than that go unanswered.
const MAX_CONTROL_BYTES: usize = 16 * 1024;

/// How often the count of frames without data starts anew.
const TICK: Duration = Duration::from_secs(1);

impl Channel {
    /// A channel over a connected socket, no TLS or WebSocket yet.
    pub fn new(socket: Socket, pool: Arc<Pool>) -> Self {
        Self {
            socket,
            pool,
            tls: None,
            ws: None,
            ahead: Vec::new(),
            carry: Vec::new(),
            carry_is_new: false,
            outgoing: None,
            control: Vec::new(),
            end: None,
            goodbye: Goodbye::NotSaid,
            bulk: false,
            listens: false,
        }
    }

    /// The buffers' pool.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The socket below.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// From here on frames are spoken. `ahead` came behind the peer's head, `early` is the first of its stream.
    pub fn upgrade(&mut self, role: Role, ahead: Vec<u8>, early: Vec<u8>) {
        let decoder = Decoder::new(role, wsray_ws::Limits::default());
        let now = Instant::now();
        let heartbeat = Heartbeat::new(wsray_config::Heartbeat::Off, now);
        self.ws = Some(Ws { role, decoder, ticked: now, heartbeat });
        self.ahead = snug(ahead);
        self.unread_stream(early);
    }

    /// Frames are spoken, and from here on this is when the peer is pinged.
    pub fn keep_alive(&mut self, wanted: wsray_config::Heartbeat) {
        if let Some(ws) = &mut self.ws {
            ws.heartbeat = Heartbeat::new(wanted, Instant::now());
        }
    }

    /// When to call [`Channel::beat`], if payload last moved at `moved`; `None`: never.
    pub fn next_beat(&self, moved: Instant) -> Option<Instant> {
        let ws = self.ws.as_ref().filter(|_| self.goodbye == Goodbye::NotSaid)?;
        ws.heartbeat.next(moved)
    }

    /// It is time to ping, which [`Channel::poll_flush`] sends.
    ///
    /// # Errors
    /// When the peer has answered nothing for so long that it is gone.
    pub fn beat(&mut self) -> Result<(), Cut> {
        let link = match (&self.outgoing, self.listens) {
            (Some(_), _) => Link::Writing,
            _ if !self.control.is_empty() => Link::Writing,
            (None, true) => Link::Listening,
            (None, false) => Link::Unread,
        };
        let Some(ws) = &mut self.ws else { return Ok(()) };
        match ws.heartbeat.beat(Instant::now(), link) {
            Beat::Wait => Ok(()),
            Beat::Ping => {
                let mut frame = Vec::new();
                wsray_ws::control(Control::Ping, &[], mask_key(ws.role), &mut frame);
                self.queue_wire(&frame)
            }
            Beat::Dead { unanswered } => {
                let reason = format!("the connection is dead: {unanswered} pings went unanswered");
                Err(Cut::protocol("WebSocket", reason))
            }
        }
    }

    /// Whether frames are spoken.
    pub fn is_ws(&self) -> bool {
        self.ws.is_some()
    }

    /// Gives stream bytes back that the next read begins with.
    pub fn unread_stream(&mut self, bytes: Vec<u8>) {
        self.carry_is_new = !bytes.is_empty();
        self.carry = snug(bytes);
    }

    /// Bytes to keep free in front of a piece of at most `longest` bytes that is sent.
    pub fn head_len(&self, longest: usize) -> usize {
        self.ws.as_ref().map_or(0, |ws| wsray_ws::header_len(longest, ws.role == Role::Client))
    }

    /// Whether stream bytes are kept that could not be used yet.
    pub fn has_carry(&self) -> bool {
        !self.carry.is_empty()
    }

    /// Stream bytes, at most `room` of them, as soon as there is one more than were put back; `None` at the end.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<Option<Incoming>>> {
        if self.carry_is_new {
            return Poll::Ready(Ok(Some(self.take_carry())));
        }
        loop {
            let incoming = if self.ahead.is_empty() {
                if self.end.is_some() {
                    return Poll::Ready(Ok(None));
                }
                self.listens = true;
                ready!(self.socket.poll_readable(cx))?;
                self.listens = false;
                match self.try_receive(room) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    received => received?,
                }
            } else {
                let ahead = std::mem::take(&mut self.ahead);
                self.deframe_ahead(ahead, room)
            };
            if let Some(incoming) = incoming {
                return Poll::Ready(Ok(Some(incoming)));
            }
        }
    }

    fn take_carry(&mut self) -> Incoming {
        let carry = std::mem::take(&mut self.carry);
        self.carry_is_new = false;
        let mut batch = self.pool.batch(carry.len());
        batch.bytes()[..carry.len()].copy_from_slice(&carry);
        Incoming { batch, stream: 0..carry.len() }
    }

    /// How the peer's bytes ended, once [`Channel::poll_read`] has said so.
    pub fn end(&self) -> Option<&ChannelEnd> {
        self.end.as_ref()
    }

    /// Keeps stream bytes that cannot be used before more have come.
    pub fn put_back(&mut self, bytes: &[u8]) {
        debug_assert!(self.carry.is_empty());
        self.carry = bytes.to_vec();
    }

    /// Seals the pieces of `batch` and holds them for [`Channel::poll_flush`], which must have been ready.
    ///
    /// # Errors
    /// When TLS cannot send any more.
    pub fn send(&mut self, mut batch: Batch) -> Result<(), Cut> {
        debug_assert!(self.outgoing.is_none() && self.control.is_empty());
        if let Some(ws) = &mut self.ws {
            let (bytes, ranges) = batch.parts();
            for range in ranges {
                *range = wsray_ws::seal(bytes, range.clone(), mask_key(ws.role));
            }
            ws.heartbeat.sent(batch.len());
        }
        if let Some(tls) = &mut self.tls {
            let mut sealed = self.pool.batch(Tls::sealed_len(batch.len(), batch.ranges().len()));
            let written =
                tls.seal(batch.pieces(), sealed.bytes()).map_err(|error| Cut::protocol("TLS", error))?;
            sealed.push(0..written);
            batch = sealed;
        }
        self.outgoing = Some(batch);
        Ok(())
    }

    /// Queues stream bytes behind what is being sent: a few, such as an end mark or the head of a stream.
    ///
    /// # Errors
    /// When TLS cannot send any more.
    pub fn queue(&mut self, stream: &[u8]) -> Result<(), Cut> {
        for piece in stream.chunks(FRAME) {
            let Some(ws) = &self.ws else {
                self.queue_wire(piece)?;
                continue;
            };
            let start = wsray_ws::MAX_HEADER_BYTES;
            let mut frame = vec![0; start];
            frame.extend_from_slice(piece);
            let sealed = wsray_ws::seal(&mut frame, start..start + piece.len(), mask_key(ws.role));
            self.queue_wire(&frame[sealed])?;
        }
        Ok(())
    }

    fn queue_wire(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        match &mut self.tls {
            None => self.control.extend_from_slice(bytes),
            Some(tls) => {
                tls.seal_onto(bytes, &mut self.control).map_err(|error| Cut::protocol("TLS", error))?;
            }
        }
        Ok(())
    }

    /// Ready when all that was given has gone to the socket.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(batch) = &mut self.outgoing {
            ready!(self.socket.poll_write(cx, batch))?;
            self.outgoing = None;
        }
        if !self.control.is_empty() {
            ready!(self.socket.poll_write_bytes(cx, &mut self.control))?;
        }
        if self.goodbye == Goodbye::Queued {
            self.socket.shutdown_write();
            self.goodbye = Goodbye::Sent;
        }
        Poll::Ready(Ok(()))
    }

    /// Queues a close frame with `code` (WebSocket) and a close_notify (TLS); a FIN follows when they are flushed.
    pub fn queue_goodbye(&mut self, code: Option<u16>) {
        if self.goodbye != Goodbye::NotSaid {
            return;
        }
        self.goodbye = Goodbye::Queued;
        // A close frame is answered with its own code (RFC 6455 section 5.5.1).
        let code = if let Some(ChannelEnd::Close(theirs)) = self.end { theirs } else { code };
        if let Some(ws) = &self.ws {
            let mut frame = Vec::new();
            let payload = wsray_ws::close_payload(code);
            wsray_ws::control(Control::Close, &payload, mask_key(ws.role), &mut frame);
            // When TLS cannot send any more, the FIN has to do.
            let _ = self.queue_wire(&frame);
        }
        if let Some(tls) = &mut self.tls {
            tls.close_notify(&mut self.control);
        }
    }

    /// Whether we have said goodbye, and it is on its way.
    pub fn said_goodbye(&self) -> bool {
        self.goodbye == Goodbye::Sent
    }

    /// Reads and throws away, so that a peer that still sends is not answered with a reset; ready at the end.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.carry = Vec::new();
            self.carry_is_new = false;
            match self.poll_read(cx, LARGE_BYTES) {
                Poll::Ready(Ok(Some(_))) => {}
                Poll::Ready(Ok(None) | Err(_)) => return Poll::Ready(()),
                Poll::Pending => {
                    // Pings are answered meanwhile.
                    let _ = self.poll_flush(cx);
                    return Poll::Pending;
                }
            }
        }
    }

    /// One read from the socket, decrypted and deframed; `None` when it held no stream bytes.
    fn try_receive(&mut self, room: usize) -> io::Result<Option<Incoming>> {
        let carried = self.carry.len();
        let tls_carried = self.tls.as_mut().map_or(0, |tls| tls.carry().len());
        let wanted =
            if self.bulk || carried + tls_carried > CARRY_IN_SMALL { LARGE_BYTES } else { SMALL_BYTES };
        let mut batch = self.pool.batch(wanted);
        let last = batch.capacity().min(room.max(carried + SMALL_BYTES));
        let fresh = if self.tls.is_some() {
            self.receive_tls(&mut batch, carried, last)?
        } else {
            let read = self.receive_raw(&mut batch.bytes()[carried..last])?;
            carried..carried + read
        };
        Ok(self.deframe(batch, fresh))
    }

    /// Reads from the socket into `space`; notes the end.
    fn receive_raw(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let read = self.socket.try_read(&mut [IoSliceMut::new(space)])?;
        if read == 0 {
            self.end = Some(ChannelEnd::Eof);
        } else if let Some(ws) = &mut self.ws {
            ws.heartbeat.heard();
        }
        self.bulk = if self.bulk { read > SMALL_BYTES } else { read == space.len() };
        Ok(read)
    }

    /// Reads records and puts their plaintext into `batch` from `start` on.
    fn receive_tls(&mut self, batch: &mut Batch, start: usize, last: usize) -> io::Result<Range<usize>> {
        let Some(mut tls) = self.tls.take() else { return Ok(start..start) };
        let received = self.receive_records(&mut tls, batch, start, last);
        self.tls = Some(tls);
        received
    }

    fn receive_records(
        &mut self,
        tls: &mut Tls,
        batch: &mut Batch,
        start: usize,
        last: usize,
    ) -> io::Result<Range<usize>> {
        let mut raw = self.pool.batch(last);
        let carried = tls.carry().len();
        // Plaintext is shorter than its records, so what fits here fits behind `start` in a buffer of equal size.
        let space = carried..(last - start).min(raw.capacity());
        let read = self.receive_raw(&mut raw.bytes()[space])?;
        let records = &mut raw.bytes()[..carried + read];
        records[..carried].copy_from_slice(tls.carry());
        tls.carry().clear();
        let mut at = start;
        let plain = batch.bytes();
        let mut deliver = |piece: &[u8]| {
            plain[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        };
        match tls.open(records, &mut deliver, &mut self.control) {
            Ok(opened) => {
                *tls.carry() = records[opened.used..].to_vec();
                if opened.closed {
                    self.end = Some(ChannelEnd::Eof);
                }
            }
            Err(error) => self.end = Some(ChannelEnd::Broken { layer: "TLS", reason: error.to_string() }),
        }
        Ok(start..at)
    }

    /// Deframes `fresh` and puts the carried stream bytes in front of it.
    fn deframe(&mut self, mut batch: Batch, fresh: Range<usize>) -> Option<Incoming> {
        let stream = match &mut self.ws {
            None => fresh,
            Some(ws) => {
                let mut pings = PingQueue::new();
                let decoded = ws.decode(&mut batch.bytes()[fresh.clone()], &mut pings);
                let role = ws.role;
                if let Some(end) = decoded.end {
                    self.end = Some(match end {
                        End::Close(code) => ChannelEnd::Close(code),
                        End::Violation(violation) => {
                            self.queue_goodbye(Some(violation.close_code()));
                            ChannelEnd::Broken { layer: "WebSocket", reason: violation.to_string() }
                        }
                    });
                }
                self.answer(&mut pings, role);
                fresh.start + decoded.payload.start..fresh.start + decoded.payload.end
            }
        };
        if stream.is_empty() {
            return None;
        }
        let start = stream.start - self.carry.len();
        batch.bytes()[start..stream.start].copy_from_slice(&self.carry);
        self.carry = Vec::new();
        Some(Incoming { batch, stream: start..stream.end })
    }

    /// As much as a buffer holds of what came behind the handshake; the rest waits its turn.
    fn deframe_ahead(&mut self, mut ahead: Vec<u8>, room: usize) -> Option<Incoming> {
        let carried = self.carry.len();
        let mut batch = self.pool.batch(carried + ahead.len());
        let now = ahead.len().min(batch.capacity() - carried).min(room);
        batch.bytes()[carried..carried + now].copy_from_slice(&ahead[..now]);
        ahead.drain(..now);
        self.ahead = ahead;
        self.deframe(batch, carried..carried + now)
    }

    fn answer(&mut self, pings: &mut PingQueue, role: Role) {
        if let Some(ws) = self.ws.as_mut().filter(|_| !pings.is_empty()) {
            ws.heartbeat.answered(Instant::now());
        }
        while let Some(payload) = pings.pop() {
            if self.control.len() > MAX_CONTROL_BYTES || self.goodbye != Goodbye::NotSaid {
                return;
            }
            let mut frame = Vec::new();
            wsray_ws::control(Control::Pong, payload.as_bytes(), mask_key(role), &mut frame);
            let _ = self.queue_wire(&frame);
        }
    }
}

/// The largest frame we make: with its header it fits one TLS record (RFC 8446 section 5.1).
const FRAME: usize = 16 * 1024 - wsray_ws::MAX_HEADER_BYTES;

/// More carried bytes than this do not leave enough of a small buffer for new ones.
const CARRY_IN_SMALL: usize = 1024;

impl Ws {
    fn decode(&mut self, fresh: &mut [u8], pings: &mut PingQueue) -> wsray_ws::Decoded {
        if self.ticked.elapsed() > TICK {
            self.ticked = Instant::now();
            self.decoder.tick();
        }
        let decoded = self.decoder.decode(fresh, pings);
        if decoded.ponged {
            self.heartbeat.ponged();
        }
        decoded
    }
}

/// A client's frames are masked with a fresh, unpredictable key (RFC 6455 section 5.3).
fn mask_key(role: Role) -> Option<[u8; 4]> {
    (role == Role::Client).then(|| rand::rng().random())
}

/// The channel before frames: what handshakes read and write, byte by byte.
impl Channel {
    /// Makes this end of a TLS connection and shakes hands.
    ///
    /// # Errors
    /// When the socket fails or the peer breaks TLS; an alert has been sent then.
    pub async fn handshake(&mut self, mut tls: Tls) -> Result<(), HandshakeError> {
        let mut raw = std::mem::take(&mut self.ahead);
        let mut plain = Vec::new();
        loop {
            let mut replies = Vec::new();
            let opened = tls.open(&mut raw, &mut |piece| plain.extend_from_slice(piece), &mut replies);
            self.socket.write_all(&replies).await?;
            let opened = opened?;
            raw.drain(..opened.used);
            self.note_closed(opened);
            if !tls.is_handshaking() {
                break;
            }
            if self.socket.read_some(&mut raw, HANDSHAKE_READ).await? == 0 {
                return Err(HandshakeError::Eof);
            }
        }
        *tls.carry() = snug(raw);
        self.tls = Some(Box::new(tls));
        self.ahead = snug(plain);
        Ok(())
    }

    /// TLS tells of a close_notify once only.
    fn note_closed(&mut self, opened: Opened) {
        if opened.closed {
            self.end = Some(ChannelEnd::Eof);
        }
    }

    /// The protocol that TLS agreed on, if any.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tls.as_ref().and_then(|tls| tls.alpn())
    }

    /// The version of TLS, if there is TLS.
    pub fn tls_version(&self) -> Option<rustls::ProtocolVersion> {
        self.tls.as_ref().and_then(|tls| tls.version())
    }

    /// Appends what comes next to `bytes`; 0 means the end. Before the upgrade only.
    ///
    /// # Errors
    /// When the socket fails or the peer breaks TLS.
    pub async fn read_some(&mut self, bytes: &mut Vec<u8>) -> Result<usize, HandshakeError> {
        let before = bytes.len();
        if !self.ahead.is_empty() {
            bytes.append(&mut self.ahead);
            self.ahead = Vec::new();
            return Ok(bytes.len() - before);
        }
        if self.end.is_some() {
            return Ok(0);
        }
        let Some(tls) = &mut self.tls else {
            return Ok(self.socket.read_some(bytes, HANDSHAKE_READ).await?);
        };
        loop {
            let mut replies = Vec::new();
            let mut raw = std::mem::take(tls.carry());
            let opened = tls.open(&mut raw, &mut |piece| bytes.extend_from_slice(piece), &mut replies);
            raw.drain(..opened.as_ref().map_or(0, |opened| opened.used));
            *tls.carry() = raw;
            self.socket.write_all(&replies).await?;
            // An error that comes behind bytes comes again at the next call.
            let closed = opened.as_ref().is_ok_and(|opened| opened.closed);
            if closed {
                self.end = Some(ChannelEnd::Eof);
            }
            if bytes.len() > before || closed {
                return Ok(bytes.len() - before);
            }
            opened?;
            if self.socket.read_some(tls.carry(), HANDSHAKE_READ).await? == 0 {
                return Ok(0);
            }
        }
    }

    /// Sends `bytes` as they are, inside TLS if there is one. Before the upgrade only.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn write_all(&mut self, bytes: &[u8]) -> Result<(), HandshakeError> {
        let Some(tls) = &mut self.tls else { return Ok(self.socket.write_all(bytes).await?) };
        let mut sealed = Vec::new();
        tls.seal_onto(bytes, &mut sealed).map_err(|error| HandshakeError::Seal(error.to_string()))?;
        Ok(self.socket.write_all(&sealed).await?)
    }

    /// Keeps bytes that were read and belong to what follows. Before the upgrade only.
    pub fn unread(&mut self, bytes: Vec<u8>) {
        self.ahead = snug(bytes);
    }
}

/// The same bytes without the room that a handshake's reads left: a session may keep them, empty, for hours.
fn snug(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.shrink_to_fit();
    bytes
}

/// How much a handshake reads at once.
const HANDSHAKE_READ: usize = 4 * 1024;

/// A handshake that did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer went away in the middle.
    #[error("the connection was closed during the handshake")]
    Eof,
    /// TLS refused.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// TLS cannot send.
    #[error("{0}")]
    Seal(String),
}

#[cfg(test)]
mod tests;
