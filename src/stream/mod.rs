//! What the relay moves: batches of payload between two endpoints.
//!
//! An [`Endpoint`] is one side of a session: the application's or the origin's socket, or a VMess stream inside a
//! WebSocket. It reads payload into a [`Batch`] laid out as the other side wants it ([`Layout`]), so that sealing
//! happens in place, and it sends a batch that was read by the other side. In a UDP session each piece of a batch is a
//! packet; where packets go to many targets, each has a peer as well ([`Batch::packets`]).

mod batch;
mod packet_addr;
mod packets;

pub use batch::{Batch, LARGE_BYTES, Layout, MOST_SLOTS, Pool, SMALL_BYTES};
pub use packet_addr::PacketAddr;
pub use packets::{MAX_PACKET, PacketSocket, Packets, lossy};

use std::{
    fmt,
    future::poll_fn,
    io,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

/// What one read brought.
#[derive(Debug)]
pub enum Read {
    /// Payload, at least one byte.
    Data(Batch),
    /// The source ended cleanly: a FIN, or VMess's end mark.
    End,
}

/// Why a stream ended that had not said it was complete. The other side must see a reset, not an end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cut {
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer closed without VMess's end mark.
    #[error("{0}")]
    Unfinished(&'static str),
    /// The peer broke the protocol, or bytes were damaged on the way.
    #[error("{layer}: {reason}")]
    Protocol {
        /// TLS, WebSocket or VMess.
        layer: &'static str,
        /// What was wrong.
        reason: String,
    },
}

impl Cut {
    /// A cut for which a peer's bytes in `layer` are to blame.
    pub fn protocol(layer: &'static str, reason: impl fmt::Display) -> Self {
        Self::Protocol { layer, reason: reason.to_string() }
    }
}

/// One side of a session.
///
/// Everything is polled from one task, so both directions may share state (TLS, control frames) without a lock.
/// A read or a flush that is abandoned loses nothing: what was received or sealed stays in the endpoint.
pub trait Endpoint: Send {
    /// How this side wants the payload that it is given to send.
    fn layout(&self) -> Layout;

    /// Payload from this side, laid out for the other side.
    ///
    /// # Errors
    /// [`Cut`] when the stream ended without saying it was complete; what came before has been returned.
    fn poll_read(&mut self, cx: &mut Context<'_>, layout: Layout) -> Poll<Result<Read, Cut>>;

    /// Takes a batch to send. Only after [`Endpoint::poll_flush`] was ready.
    ///
    /// # Errors
    /// When it cannot be sealed.
    fn send(&mut self, batch: Batch) -> Result<(), Cut>;

    /// Ready when all that was given has gone to the socket.
    ///
    /// # Errors
    /// When the socket refuses it.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>>;

    /// Nothing more will be sent and all was sent: queues the end mark or the FIN. Flush afterwards.
    fn finish(&mut self);

    /// How long to wait, once this side was told that nothing more follows, for it to move again before the session
    /// is closed. `None`: as long as any session may be idle. A peer that cannot be told but by closing, or does not
    /// understand, waits for us.
    fn half_open_limit(&self) -> Option<Duration> {
        None
    }

    /// When to call [`Endpoint::beat`], if payload last moved at `moved`; `None`: never.
    fn next_beat(&self, _moved: Instant) -> Option<Instant> {
        None
    }

    /// Its time has come: queues what keeps the way to the peer open. Flush afterwards.
    ///
    /// # Errors
    /// When the peer has been silent for so long that it is gone.
    fn beat(&mut self) -> Result<(), Cut> {
        Ok(())
    }

    /// After a read has returned [`Read::End`]: ready when the peer cannot be reached any more either.
    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Both directions are complete: says goodbye in the peer's protocol and waits (bounded) for it to go.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// The session was cut: the peer must see that, once it is dropped, as a reset or a missing end mark.
    fn abort(&mut self);
}

/// How long V2Ray keeps one direction alone without traffic (v2fly/v2ray-core `features/policy/policy.go`).
pub const V2RAY_HALF_OPEN: Duration = Duration::from_secs(1);

/// A boxed endpoint.
pub type BoxEndpoint = Box<dyn Endpoint>;

impl dyn Endpoint + '_ {
    /// [`Endpoint::poll_read`] as a future.
    ///
    /// # Errors
    /// As there.
    pub async fn read(&mut self, layout: Layout) -> Result<Read, Cut> {
        poll_fn(|cx| self.poll_read(cx, layout)).await
    }

    /// [`Endpoint::poll_flush`] as a future.
    ///
    /// # Errors
    /// As there.
    pub async fn flush(&mut self) -> Result<(), Cut> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }
}
