//! A UDP flow to one target.

use std::{
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{io::ReadBuf, net::UdpSocket};
use wsray_vmess::Target;

use crate::stream::{Cut, LARGE_BYTES, Layout, MAX_PACKET, PacketSocket, Pool, Read, lossy};

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
        ready!(self.socket.poll_recv_ready(cx))?;
        let mut batch = self.pool.batch(LARGE_BYTES);
        // One byte more than fits tells a packet that is too large from one that just fits.
        let most = layout.payload.min(MAX_PACKET);
        let mut space = ReadBuf::new(&mut batch.bytes()[layout.head..=layout.head + most]);
        let from = ready!(self.socket.poll_recv_from(cx, &mut space))?;
        let read = space.filled().len();
        if read == 0 || read > most || from.ip() != self.target.ip() {
            return Poll::Ready(Ok(None));
        }
        batch.push(layout.head..layout.head + read);
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
