//! VMess over a channel, as one side of a session: opens and seals chunks in place.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rand::Rng;
use tokio::time::Instant;
use wsray_vmess::{
    ChunkOpener, ChunkSealer, Command, CryptoError, Direction, Options, PASSES_ENDS_ON, Progress,
    RESPONSE_LEN, Request, ResponseError, Secrets, Step, open_response, seal_response,
};

use crate::{
    stream::{Batch, Cut, Endpoint, Layout, Read, V2RAY_HALF_OPEN},
    transport::{CLOSE_LINGER, Channel, ChannelEnd, Incoming},
};

/// One VMess session on its channel.
pub struct VmessStream {
    channel: Channel,
    opener: ChunkOpener,
    sealer: ChunkSealer,
    side: Side,
    payload: Payload,
    peer: Peer,
    /// Payload has come.
    answered: bool,
    reading: Reading,
    writing: Writing,
    /// A server's wait for its client to close first.
    linger: Option<Pin<Box<tokio::time::Sleep>>>,
}

/// What differs between the two ends.
enum Side {
    Client {
        /// The response's header has not come yet.
        awaiting_response: Option<Box<Awaited>>,
        end_mark: EndMark,
        server: Arc<ServerHabits>,
    },
    Server {
        /// The response's header, which goes out with the first payload.
        response: Option<[u8; RESPONSE_LEN]>,
    },
}

/// What a response's header has to fit.
struct Awaited {
    /// It must be opened with these.
    secrets: Secrets,
    /// It answers a request for Mux.Cool.
    is_mux: bool,
}

/// Whether a client marks the end of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndMark {
    /// It does.
    Sent,
    /// It does not (`experiments`: `NoTerminationSignal`), so that no packet of a known size ends each stream.
    Omitted,
}

/// What we have learnt about a server: shared by all sessions with it.
#[derive(Debug, Default)]
pub struct ServerHabits {
    /// It has ended a stream with the end mark before, so a stream that lacks one was cut.
    sends_end_marks: AtomicBool,
    /// It repeats the options of the request in its response, as only sing-box does.
    echoes_options: AtomicBool,
    /// It says that it passes on the ends of sessions that share a connection, as only wsray does.
    passes_ends_on: AtomicBool,
    /// It has answered a request for Mux.Cool.
    has_answered_mux: AtomicBool,
}

/// What server answers a request for Mux.Cool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MuxServer {
    /// None has answered yet.
    Unknown,
    /// wsray.
    Wsray,
    /// sing-box.
    SingBox,
    /// V2Ray, Xray or another one.
    Other,
}

impl ServerHabits {
    /// Whether answers in sessions that share a connection of Mux.Cool may damage each other: sing-box seals them in
    /// several threads at a time without a lock (SagerNet/sing-vmess `mux.go`, `chunk_aead.go`).
    pub fn mixes_up_sessions(&self) -> bool {
        self.echoes_options.load(Ordering::Relaxed)
    }

    /// What server it is.
    pub fn mux_server(&self) -> MuxServer {
        if self.passes_ends_on.load(Ordering::Relaxed) {
            MuxServer::Wsray
        } else if self.echoes_options.load(Ordering::Relaxed) {
            MuxServer::SingBox
        } else if self.has_answered_mux.load(Ordering::Relaxed) {
            MuxServer::Other
        } else {
            MuxServer::Unknown
        }
    }

    fn learn(&self, options: u8, is_mux: bool) {
        let learnt = match options {
            PASSES_ENDS_ON => &self.passes_ends_on,
            0 if is_mux => &self.has_answered_mux,
            0 => return,
            _ => &self.echoes_options,
        };
        learnt.store(true, Ordering::Relaxed);
    }
}

/// Whether the edges of chunks mean anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payload {
    Stream,
    /// Each chunk is a packet.
    Packets,
}

/// What the peer makes of our end mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    /// It passes the end on, and its own direction goes on as long as it likes.
    HeedsEndMarks,
    /// It probably does: V2Ray and wsray do, sing-box with `global_padding` looks alike and does not.
    MayNot,
    /// It does not (sing-box as a client), or there is no mark (`zero`): it waits for the close.
    WaitsForClose,
}

impl Peer {
    fn of(request: &Request, side: &Side) -> Self {
        match side {
            _ if !request.options.contains(Options::CHUNK_STREAM) => Self::WaitsForClose,
            Side::Client { end_mark: EndMark::Omitted, .. } => Self::WaitsForClose,
            Side::Client { .. } => Self::HeedsEndMarks,
            Side::Server { .. } if request.options.contains(Options::PADDING) => Self::MayNot,
            Side::Server { .. } => Self::WaitsForClose,
        }
    }
}

/// How long a client that may not have understood the end of its response may stay silent.
const HALF_OPEN_LIMIT: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Open,
    /// The end mark has come.
    Ended,
    /// A chunk did not open: nothing behind it is delivered.
    Damaged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Open,
    /// The end mark is queued or sent.
    Finished,
}

impl VmessStream {
    /// Our end of a session that we asked for; the request's header is on its way.
    ///
    /// # Errors
    /// When the crypto library fails.
    ///
    /// `sealer` has sealed the first payload, which went with the header.
    pub fn client(
        channel: Channel,
        request: &Request,
        sealer: ChunkSealer,
        end_mark: EndMark,
        server: Arc<ServerHabits>,
    ) -> Result<Self, CryptoError> {
        let is_mux = request.command == Command::Mux;
        let awaiting_response = Some(Box::new(Awaited { secrets: request.secrets.clone(), is_mux }));
        Self::new(channel, request, sealer, Side::Client { awaiting_response, end_mark, server })
    }

    /// Our end of a session that a client asked for.
    ///
    /// # Errors
    /// When the crypto library fails.
    pub fn server(channel: Channel, request: &Request) -> Result<Self, CryptoError> {
        let options = if request.command == Command::Mux { PASSES_ENDS_ON } else { 0 };
        let response = Some(seal_response(&request.secrets, options)?);
        let sealer = ChunkSealer::new(request, Direction::Response)?;
        Self::new(channel, request, sealer, Side::Server { response })
    }

    fn new(
        channel: Channel,
        request: &Request,
        sealer: ChunkSealer,
        side: Side,
    ) -> Result<Self, CryptoError> {
        let reads = match side {
            Side::Client { .. } => Direction::Response,
            Side::Server { .. } => Direction::Request,
        };
        if !channel.is_ws() {
            // Without frames, a FIN is all that ends a stream without marks: a cut one must not end with it.
            channel.socket().reset_unless_complete();
        }
        Ok(Self {
            channel,
            opener: ChunkOpener::new(request, reads)?,
            sealer,
            payload: match request.command {
                Command::Udp(_) => Payload::Packets,
                Command::Tcp(_) | Command::Mux => Payload::Stream,
            },
            peer: Peer::of(request, &side),
            answered: false,
            side,
            reading: Reading::Open,
            writing: Writing::Open,
            linger: None,
        })
    }

    /// Queues what marks the end of our direction.
    fn queue_end(&mut self) {
        let mut last = Vec::new();
        if let Side::Server { response } = &mut self.side
            && let Some(header) = response.take()
        {
            last.extend_from_slice(&header);
        }
        let mut padding = [0; 64];
        rand::rng().fill_bytes(&mut padding);
        if matches!(self.side, Side::Client { end_mark: EndMark::Omitted, .. }) {
            return;
        }
        // A stream that cannot be sealed any more ends without its mark, which the peer takes for a cut.
        if self.sealer.end_mark(&mut last, &padding).is_ok() {
            let _ = self.channel.queue(&last);
        }
    }

    /// Opens what came; `None` when it held no whole chunk.
    fn open(&mut self, incoming: Incoming) -> Result<Option<Batch>, Cut> {
        let Incoming { mut batch, stream } = incoming;
        let Some(start) = self.open_response(&batch.bytes()[stream.clone()])? else {
            self.channel.put_back(&batch.bytes()[stream]);
            return Ok(None);
        };
        let (bytes, ranges) = batch.parts();
        let opened = self.opener.open(&mut bytes[..stream.end], stream.start + start, ranges);
        match opened.outcome {
            Progress::NeedMore { .. } => self.channel.put_back(&bytes[opened.used..stream.end]),
            Progress::End => self.reading = Reading::Ended,
            Progress::Damaged(_) => self.reading = Reading::Damaged,
        }
        Ok(Some(batch).filter(|batch| !batch.is_empty()))
    }

    /// How many bytes of `input` the response's header took; `None` when more are needed.
    fn open_response(&mut self, input: &[u8]) -> Result<Option<usize>, Cut> {
        let Side::Client { awaiting_response, server, .. } = &mut self.side else { return Ok(Some(0)) };
        let Some(awaited) = awaiting_response else { return Ok(Some(0)) };
        match open_response(input, &awaited.secrets) {
            Ok(Step::NeedMore) => Ok(None),
            Ok(Step::Done { used, value }) => {
                server.learn(value.options, awaited.is_mux);
                *awaiting_response = None;
                Ok(Some(used))
            }
            Err(error) => Err(Cut::protocol("VMess", describe_response_error(&error))),
        }
    }

    /// The peer's bytes are over: was that the end of the stream, or was it cut?
    fn ended(&self) -> Result<Read, Cut> {
        match (self.reading, self.channel.end()) {
            (Reading::Ended, _) => Ok(Read::End),
            (Reading::Damaged, _) => Err(Cut::protocol("VMess", "a chunk was damaged on the way")),
            (_, Some(ChannelEnd::Broken { layer, reason })) => Err(Cut::protocol(layer, reason)),
            (_, Some(ChannelEnd::Close(_))) if self.refused() => Err(Cut::Unfinished(REFUSED)),
            (_, Some(ChannelEnd::Eof | ChannelEnd::CloseNotify)) if self.refused() => {
                Err(Cut::Unfinished(DROPPED))
            }
            _ if self.is_inside_chunk() => Err(Cut::Unfinished("the peer closed in the middle of a chunk")),
            (_, Some(ChannelEnd::Close(code))) if self.may_end_unmarked(*code) => Ok(Read::End),
            (_, Some(ChannelEnd::Eof | ChannelEnd::CloseNotify))
                if !self.channel.is_ws() && self.may_end_unmarked(None) =>
            {
                Ok(Read::End)
            }
            _ if !self.answered && matches!(self.side, Side::Client { .. }) => {
                Err(Cut::Unfinished(UNREACHABLE))
            }
            _ => Err(Cut::Unfinished("the peer closed in the middle of the stream")),
        }
    }

    /// Whether a part of a chunk has come, so that no close makes a clean end.
    fn is_inside_chunk(&self) -> bool {
        self.channel.has_carry() || !self.opener.is_between_chunks()
    }

    /// Whether the server closed before it answered at all.
    fn refused(&self) -> bool {
        matches!(&self.side, Side::Client { awaiting_response: Some(_), .. })
    }

    /// Peers such as sing-box send no end mark, and `zero` has none: then a normal close is all there is. A server
    /// that is known to send end marks has cut the stream.
    fn may_end_unmarked(&self, code: Option<u16>) -> bool {
        let normal = matches!(code, None | Some(NORMAL_CLOSE));
        match &self.side {
            Side::Client { server, .. } if self.sealer.has_end_mark() => {
                normal && !server.sends_end_marks.load(Ordering::Relaxed)
            }
            _ => normal,
        }
    }
}

/// A frame with its header fits one TLS record (RFC 8446 section 5.1), and sixteen fit a large buffer when sealed.
const MAX_FRAME: usize = 16 * 1024;

/// The close code of a stream that is complete, and of a stranger's that is not (RFC 6455 section 7.4.1).
pub const NORMAL_CLOSE: u16 = 1000;

const REFUSED: &str = "the server closed without an answer: unknown user id, the clocks differ by more than two \
    minutes, it could not reach the target, or it does not know this security (Xray 26.7: \"none\" and \"zero\")";

const DROPPED: &str = "the connection was lost before the server answered: it refused the user id or the clock, or \
    something on the way cut it";

const UNREACHABLE: &str = "the server closed before any answer came from the target: it could not reach it";

fn describe_response_error(error: &ResponseError) -> String {
    format!("{error}: is this a VMess server, and does it know this user id?")
}

fn io(error: io::Error) -> Cut {
    Cut::Io(error)
}

impl Endpoint for VmessStream {
    fn layout(&self) -> Layout {
        let response = match &self.side {
            Side::Server { response: Some(_) } => RESPONSE_LEN,
            _ => 0,
        };
        let (inner, tail) = (response + self.sealer.head_len(), self.sealer.tail_max());
        let most = self.sealer.max_payload();
        match self.payload {
            // The longest packet's frame may need the long form of its length.
            Payload::Packets => {
                Layout { head: self.channel.head_len(inner + most + tail) + inner, payload: most, tail }
            }
            Payload::Stream => {
                let head = self.channel.head_len(MAX_FRAME) + inner;
                Layout { head, payload: most.min(MAX_FRAME - head - tail), tail }
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, layout: Layout) -> Poll<Result<Read, Cut>> {
        loop {
            if self.reading != Reading::Open {
                if let (Reading::Ended, Side::Client { server, .. }) = (self.reading, &self.side) {
                    server.sends_end_marks.store(true, Ordering::Relaxed);
                }
                return Poll::Ready(self.ended());
            }
            match ready!(self.channel.poll_read(cx, layout.room())).map_err(io)? {
                None => return Poll::Ready(self.ended()),
                Some(incoming) => {
                    if let Some(batch) = self.open(incoming)? {
                        self.answered = true;
                        return Poll::Ready(Ok(Read::Data(match self.payload {
                            Payload::Stream => batch.laid_out(layout),
                            Payload::Packets => batch.packets_laid_out(layout),
                        })));
                    }
                }
            }
        }
    }

    fn send(&mut self, mut batch: Batch) -> Result<(), Cut> {
        let (bytes, ranges) = batch.parts();
        let mut padding = [0; 64];
        for range in ranges.iter_mut() {
            rand::rng().fill_bytes(&mut padding);
            *range = self
                .sealer
                .seal(bytes, range.clone(), &padding)
                .map_err(|error| Cut::protocol("VMess", error))?;
        }
        if let (Side::Server { response }, Some(first)) = (&mut self.side, ranges.first_mut())
            && let Some(header) = response.take()
        {
            let start = first.start - header.len();
            bytes[start..first.start].copy_from_slice(&header);
            first.start = start;
        }
        self.channel.send(batch)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        self.channel.poll_flush(cx).map_err(io)
    }

    fn finish(&mut self) {
        if self.writing == Writing::Finished {
            return;
        }
        self.writing = Writing::Finished;
        self.queue_end();
        self.channel.finish();
    }

    fn half_open_limit(&self) -> Option<Duration> {
        match self.peer {
            Peer::HeedsEndMarks => None,
            Peer::MayNot => Some(HALF_OPEN_LIMIT),
            Peer::WaitsForClose => Some(V2RAY_HALF_OPEN),
        }
    }

    fn next_beat(&self, moved: Instant) -> Option<Instant> {
        self.channel.next_beat(moved)
    }

    fn beat(&mut self) -> Result<(), Cut> {
        self.channel.beat()
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.channel.poll_drain(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.channel.socket().close_cleanly();
        if matches!(self.side, Side::Server { .. }) && !self.channel.said_goodbye() {
            let linger = self.linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(CLOSE_LINGER)));
            let waited = linger.as_mut().poll(cx).is_ready();
            if !waited && self.channel.poll_drain(cx).is_pending() {
                let _ = self.channel.poll_flush(cx);
                return Poll::Pending;
            }
        }
        self.channel.queue_goodbye(Some(NORMAL_CLOSE));
        self.channel.poll_flush(cx).map(|_| ())
    }

    /// No end mark and no close frame: that is how a cut looks. A client that got no answer yet at least learns
    /// that it was not refused.
    fn abort(&mut self) {
        if let Side::Server { response } = &mut self.side
            && let Some(header) = response.take()
        {
            let _ = self.channel.queue(&header);
        }
    }
}

/// The clock that auth IDs carry.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
