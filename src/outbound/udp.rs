//! A UDP flow to one target as one side of a session: each piece of a batch is a packet.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{io::ReadBuf, net::UdpSocket};

use crate::stream::{Batch, Cut, Endpoint, LARGE_BYTES, Layout, Pool, Read};

/// A socket that sends to one target and takes what its host sends back, from whatever port.
#[derive(Debug)]
pub struct UdpEndpoint {
    socket: UdpSocket,
    target: SocketAddr,
    pool: Arc<Pool>,
    outgoing: Option<Batch>,
}

impl UdpEndpoint {
    /// Packets to and from `target`.
    pub fn new(socket: UdpSocket, target: SocketAddr, pool: Arc<Pool>) -> Self {
        Self { socket, target, pool, outgoing: None }
    }

    /// Receives one packet behind `layout`'s first head; `None`: dropped.
    fn poll_receive(&self, cx: &mut Context<'_>, layout: Layout) -> Poll<io::Result<Option<Batch>>> {
        ready!(self.socket.poll_recv_ready(cx))?;
        let mut batch = self.pool.batch(LARGE_BYTES);
        // One byte more than fits tells a packet that is too large from one that just fits.
        let head = if layout == Layout::FLAT { 0 } else { layout.head };
        let most = layout.payload.min(MAX_PACKET);
        let mut space = ReadBuf::new(&mut batch.bytes()[head..=head + most]);
        let from = ready!(self.socket.poll_recv_from(cx, &mut space))?;
        let read = space.filled().len();
        if read == 0 || read > most || from.ip() != self.target.ip() {
            return Poll::Ready(Ok(None));
        }
        batch.push(head..head + read);
        Poll::Ready(Ok(Some(batch)))
    }
}

/// The largest UDP payload (RFC 768).
const MAX_PACKET: usize = 65_507;

impl Endpoint for UdpEndpoint {
    fn layout(&self) -> Layout {
        Layout::FLAT
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, layout: Layout) -> Poll<Result<Read, Cut>> {
        loop {
            match ready!(self.poll_receive(cx, layout)) {
                Ok(Some(batch)) => return Poll::Ready(Ok(Read::Data(batch))),
                Ok(None) => {}
                // An ICMP answer to an earlier packet; the next one may get through.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    fn send(&mut self, batch: Batch) -> Result<(), Cut> {
        self.outgoing = Some(batch);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        while let Some(batch) = &mut self.outgoing {
            let Some(packet) = batch.pieces().next() else {
                self.outgoing = None;
                break;
            };
            let len = packet.len();
            // A packet that cannot be sent is lost, as on any way.
            let _ = ready!(self.socket.poll_send_to(cx, packet, self.target));
            batch.advance(len);
        }
        Poll::Ready(Ok(()))
    }

    fn finish(&mut self) {}

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn abort(&mut self) {}
}
