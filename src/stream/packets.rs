//! One side of a UDP session, made of whatever receives and sends packets.

use std::{
    io,
    task::{Context, Poll, ready},
};

use wsray_vmess::Target;

use super::{Batch, Cut, Endpoint, Layout, Read};

/// The largest UDP payload (RFC 768).
pub const MAX_PACKET: usize = 65_507;

/// What receives and sends packets, one at a time.
pub trait PacketSocket: Send {
    /// The next packet, laid out for the other side ([`Pool::packet`](super::Pool::packet)); `None`: it was dropped,
    /// and another may be there.
    ///
    /// # Errors
    /// When no more packets can come. An ICMP answer to an earlier packet ([`io::ErrorKind::ConnectionRefused`]) may be
    /// passed on: the next packet may get through.
    fn poll_receive(&mut self, cx: &mut Context<'_>, layout: Layout) -> Poll<Result<Option<Read>, Cut>>;

    /// Sends a packet to `peer`, if it has one. One that cannot be sent is lost, as on any way ([`lossy`]).
    ///
    /// # Errors
    /// When nobody takes packets any more.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        payload: &[u8],
        peer: Option<&Target>,
    ) -> Poll<Result<(), Cut>>;

    /// As [`Endpoint::poll_gone`].
    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// As [`Endpoint::poll_close`].
    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// That a packet could not be sent is no error.
pub fn lossy(sent: Poll<io::Result<usize>>) -> Poll<Result<(), Cut>> {
    sent.map(|_| Ok(()))
}

/// A [`PacketSocket`] as one side of a session: each piece of a batch is a packet.
#[derive(Debug)]
pub struct Packets<S> {
    socket: S,
    outgoing: Option<Batch>,
}

impl<S> Packets<S> {
    /// Packets of `socket`.
    pub fn new(socket: S) -> Self {
        Self { socket, outgoing: None }
    }
}

impl<S: PacketSocket> Endpoint for Packets<S> {
    fn layout(&self) -> Layout {
        Layout::FLAT
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, layout: Layout) -> Poll<Result<Read, Cut>> {
        loop {
            match ready!(self.socket.poll_receive(cx, layout)) {
                Ok(Some(read)) => return Poll::Ready(Ok(read)),
                Ok(None) => {}
                Err(Cut::Io(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(cut) => return Poll::Ready(Err(cut)),
            }
        }
    }

    fn send(&mut self, batch: Batch) -> Result<(), Cut> {
        self.outgoing = Some(batch);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        while let Some(batch) = &mut self.outgoing {
            let Some((payload, peer)) = batch.packets().next() else {
                self.outgoing = None;
                break;
            };
            let length = payload.len();
            ready!(self.socket.poll_send(cx, payload, peer))?;
            batch.advance(length);
        }
        Poll::Ready(Ok(()))
    }

    fn finish(&mut self) {}

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_gone(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_close(cx)
    }

    fn abort(&mut self) {}
}
