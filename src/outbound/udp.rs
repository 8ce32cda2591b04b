//! A UDP flow to one target.

use std::{
    io,
    net::SocketAddr,
    ops::Range,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{io::ReadBuf, net::UdpSocket};
use wsray_vmess::Target;

use crate::stream::{Batch, Cut, LARGE_BYTES, Layout, MAX_PACKET, PacketSocket, Pool, Read, lossy};

/// A socket that sends to one target and takes what its host sends back, from whatever port.
#[derive(Debug)]
pub(super) struct Flow {
    socket: UdpSocket,
    target: SocketAddr,
    pool: Arc<Pool>,
}

impl Flow {
    /// Packets to and from `target`.
    pub(super) fn new(socket: UdpSocket, target: SocketAddr, pool: Arc<Pool>) -> Self {
        Self { socket, target, pool }
    }
}

impl PacketSocket for Flow {
    fn poll_receive(&mut self, cx: &mut Context<'_>, layout: Layout) -> Poll<Result<Option<Read>, Cut>> {
        let most = layout.payload.min(MAX_PACKET);
        let received = ready!(receive(&self.socket, &self.pool, cx, layout.head, most))?;
        let Some(Received { mut batch, range, from }) = received else { return Poll::Ready(Ok(None)) };
        if from.ip() != self.target.ip() {
            return Poll::Ready(Ok(None));
        }
        batch.push(range);
        Poll::Ready(Ok(Some(Read::Data(batch))))
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        payload: &[u8],
        _: Option<&Target>,
    ) -> Poll<Result<(), Cut>> {
        lossy(self.socket.poll_send_to(cx, payload, self.target))
    }
}

/// A packet in a batch that does not hold it yet.
pub(super) struct Received {
    pub(super) batch: Batch,
    /// Where it lies.
    pub(super) range: Range<usize>,
    /// Who sent it.
    pub(super) from: SocketAddr,
}

/// Receives one packet behind `head` free bytes; `None`: it is empty, or larger than `most`.
pub(super) fn receive(
    socket: &UdpSocket,
    pool: &Arc<Pool>,
    cx: &mut Context<'_>,
    head: usize,
    most: usize,
) -> Poll<io::Result<Option<Received>>> {
    // No buffer before there is something to read.
    ready!(socket.poll_recv_ready(cx))?;
    let mut batch = pool.batch(LARGE_BYTES);
    // One byte more than fits tells a packet that is too large from one that just fits.
    let mut space = ReadBuf::new(&mut batch.bytes()[head..=head + most]);
    let from = ready!(socket.poll_recv_from(cx, &mut space))?;
    let length = space.filled().len();
    let fits = (1..=most).contains(&length);
    Poll::Ready(Ok(fits.then(|| Received { batch, range: head..head + length, from })))
}
