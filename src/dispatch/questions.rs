//! Questions to name servers, as sessions of an inbound of their own.

use std::{
    io,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::net::{UnixDatagram, UnixStream};
use wsray_vmess::{Network, Target};

use super::Dispatcher;
use crate::{
    names::Routes,
    outbound::Hop,
    session::Session,
    stream::{Batch, BoxEndpoint, Cut, Endpoint, Layout, Pool, Read, SMALL_BYTES},
    transport::{Plain, Socket},
};

/// The way of questions through routing.
#[derive(Debug)]
pub struct Questions {
    /// Weak, as the dispatcher holds those who ask.
    dispatcher: Weak<Dispatcher>,
}

/// A little longer than an answer is waited for.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

impl Questions {
    /// Through this dispatcher, for as long as there is one.
    pub fn new(dispatcher: &Arc<Dispatcher>) -> Self {
        Self { dispatcher: Arc::downgrade(dispatcher) }
    }

    fn run(
        &self,
        target: &Target,
        network: Network,
        tag: Option<&Arc<str>>,
        inbound: impl FnOnce(Arc<Pool>) -> BoxEndpoint,
    ) -> io::Result<()> {
        let dispatcher = self.dispatcher.upgrade().ok_or(io::ErrorKind::NotConnected)?;
        let session = Session {
            id: dispatcher.new_id(),
            inbound: tag.cloned(),
            idle_timeout: (network == Network::Udp).then_some(IDLE_TIMEOUT),
            ..Hop::session(target, network)
        };
        let inbound = inbound(Arc::clone(&dispatcher.pool));
        tokio::spawn(async move { Box::pin(dispatcher.run(session, inbound)).await });
        Ok(())
    }
}

impl Routes for Questions {
    fn stream(&self, target: &Target, tag: Option<&Arc<str>>) -> io::Result<UnixStream> {
        let (near, far) = UnixStream::pair()?;
        self.run(target, Network::Tcp, tag, |pool| {
            Box::new(Plain::new(Socket::unix(far), pool, Vec::new()))
        })?;
        Ok(near)
    }

    fn packets(&self, target: &Target, tag: Option<&Arc<str>>) -> io::Result<UnixDatagram> {
        let (near, far) = UnixDatagram::pair()?;
        self.run(target, Network::Udp, tag, |pool| Box::new(Packets { socket: far, pool, outgoing: None }))?;
        Ok(near)
    }
}

/// Packets of somebody inside the process.
#[derive(Debug)]
struct Packets {
    socket: UnixDatagram,
    pool: Arc<Pool>,
    outgoing: Option<Batch>,
}

/// The longest question.
const MAX_QUESTION: usize = 2048;

impl Endpoint for Packets {
    fn layout(&self) -> Layout {
        Layout::FLAT
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, layout: Layout) -> Poll<Result<Read, Cut>> {
        let head = if layout == Layout::FLAT { 0 } else { layout.head };
        let mut batch = self.pool.batch(SMALL_BYTES);
        let mut space = tokio::io::ReadBuf::new(&mut batch.bytes()[head..head + MAX_QUESTION]);
        ready!(self.socket.poll_recv(cx, &mut space))?;
        let read = space.filled().len();
        if read == 0 {
            return Poll::Ready(Ok(Read::End));
        }
        batch.push(head..head + read);
        Poll::Ready(Ok(Read::Data(batch)))
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
            // Whoever asked has an answer and is gone: the session ends.
            ready!(self.socket.poll_send(cx, packet))?;
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
