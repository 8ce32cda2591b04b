//! What carries a VMess stream: a socket, TLS around it if configured, WebSocket frames inside that if configured.
//!
//! Reading: socket -> TLS records -> frames, in one lent buffer and without gaps, so that the layer above opens its
//! chunks in place. Writing: pieces sealed by the layer above -> a frame header in front of each, masked in place
//! -> TLS records -> socket. Whatever is incomplete stays here between two reads, in a vector of its size.

mod handshake;
mod receive;

use std::{
    io,
    ops::Range,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use rand::RngExt;
use tokio::time::Instant;
use wsray_ws::{Control, Decoder, PingQueue, Role};

pub use handshake::HandshakeError;

use super::{
    Socket, ThroughTab,
    heartbeat::{Beat, Heartbeat, Link},
    pace::{Due, Pace},
    tls::Tls,
};
use crate::stream::{Batch, Cut, LARGE_BYTES, Pool, SMALL_BYTES};

/// A connected transport, after its handshakes.
pub struct Channel {
    socket: Socket,
    pool: Arc<Pool>,
    tls: Option<Box<Tls>>,
    /// A client's handshake that waits for what goes along with its first flight.
    begun: Option<Box<Begun>>,
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
    pace: Pace,
}

struct Begun {
    tls: Tls,
    flight: Vec<u8>,
}

/// WebSocket on a channel.
struct Ws {
    role: Role,
    decoder: Decoder,
    ticked: Instant,
    heartbeat: Heartbeat,
    /// The peer is behind a browser tab.
    tab: Option<Box<ThroughTab>>,
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
    /// TLS's own end, a close_notify, without one.
    CloseNotify,
    /// The connection ended without either.
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

/// How often the count of frames without data starts anew.
const TICK: Duration = Duration::from_secs(1);

impl Channel {
    /// A channel over a connected socket, no TLS or WebSocket yet.
    pub fn new(socket: Socket, pool: Arc<Pool>) -> Self {
        Self {
            socket,
            pool,
            tls: None,
            begun: None,
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
            pace: Pace::new(),
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

    /// The socket, and what was read from it already; the channel again if there is TLS or WebSocket.
    ///
    /// # Errors
    /// The channel.
    pub fn into_socket(self) -> Result<(Socket, Vec<u8>), Box<Self>> {
        if self.tls.is_some() || self.ws.is_some() || self.outgoing.is_some() || !self.control.is_empty() {
            return Err(Box::new(self));
        }
        let mut read = self.carry;
        read.extend(self.ahead);
        Ok((self.socket, read))
    }

    /// From here on frames are spoken. `ahead` came behind the peer's head, `early` is the first of its stream.
    pub fn upgrade(&mut self, role: Role, ahead: Vec<u8>, early: Vec<u8>) {
        let decoder = Decoder::new(role, wsray_ws::Limits::default());
        let now = Instant::now();
        let heartbeat = Heartbeat::new(wsray_config::Heartbeat::Off, now);
        self.ws = Some(Ws { role, decoder, ticked: now, heartbeat, tab: None });
        self.ahead = snug(ahead);
        self.unread_stream(early);
    }

    /// Frames are spoken, and from here on this is when the peer is pinged.
    pub fn keep_alive(&mut self, wanted: wsray_config::Heartbeat) {
        if let Some(ws) = &mut self.ws {
            ws.heartbeat = Heartbeat::new(wanted, Instant::now());
        }
    }

    /// Frames are spoken, and from here on the peer is the one that the tab at the other end passes them to.
    pub fn through(&mut self, tab: ThroughTab) {
        if let Some(ws) = &mut self.ws {
            ws.tab = Some(Box::new(tab));
        }
    }

    /// All payload has been given to this: a tab behind it passes everything on before [`Channel::poll_flush`] is ready.
    pub fn finish(&mut self) {
        if let Some(tab) = self.ws.as_mut().and_then(|ws| ws.tab.as_mut()) {
            tab.finish();
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
                let due = ready!(self.pace.poll_due(cx, &self.socket))?;
                self.listens = false;
                match self.try_receive(room, due) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.pace.read(0, &self.socket);
                        continue;
                    }
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

    /// Ready when the peer has sent stream bytes, which the next read begins with, or (`false`) has gone.
    pub fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        match ready!(self.poll_read(cx, SMALL_BYTES)) {
            Ok(Some(Incoming { mut batch, stream })) => {
                let bytes = batch.bytes()[stream].to_vec();
                self.unread_stream(bytes);
                Poll::Ready(true)
            }
            Ok(None) | Err(_) => Poll::Ready(false),
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
            if let Some(tab) = &mut ws.tab {
                tab.sent(batch.len());
            }
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
        self.pace.at_once(&self.socket);
        Ok(())
    }

    /// Queues stream bytes behind what is being sent: a few, such as an end mark or the head of a stream.
    ///
    /// # Errors
    /// When TLS cannot send any more.
    pub fn queue(&mut self, stream: &[u8]) -> Result<(), Cut> {
        for piece in stream.chunks(FRAME) {
            let Some(ws) = &mut self.ws else {
                self.queue_wire(piece)?;
                continue;
            };
            if let Some(tab) = &mut ws.tab {
                tab.sent(piece.len());
            }
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

    /// Ready when all that was given has gone to the socket, and a tab behind it may be sent more.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(batch) = &mut self.outgoing {
            ready!(self.socket.poll_write(cx, batch))?;
            self.outgoing = None;
        }
        if self.goodbye == Goodbye::Queued {
            ready!(self.socket.poll_write_last(cx, &mut self.control))?;
        } else if !self.control.is_empty() {
            ready!(self.socket.poll_write_bytes(cx, &mut self.control))?;
        }
        if self.goodbye == Goodbye::Queued {
            self.socket.shutdown_write();
            self.goodbye = Goodbye::Sent;
        }
        match self.ws.as_ref().and_then(|ws| ws.tab.as_ref()) {
            Some(tab) if self.goodbye == Goodbye::NotSaid => tab.poll_room(cx).map(Ok),
            _ => Poll::Ready(Ok(())),
        }
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
}

/// The largest frame we make: with its header it fits one TLS record (RFC 8446 section 5.1).
const FRAME: usize = 16 * 1024 - wsray_ws::MAX_HEADER_BYTES;

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

/// The same bytes without the room that a handshake's reads left: a session may keep them, empty, for hours.
fn snug(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.shrink_to_fit();
    bytes
}

#[cfg(test)]
mod tests;
