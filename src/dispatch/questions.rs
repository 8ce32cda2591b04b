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
    session::{Origin, Session},
    stream::{BoxEndpoint, Cut, Layout, PacketSocket, Packets, Pool, Read, SMALL_BYTES},
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
            origin: Origin::Names,
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
        self.run(target, Network::Udp, tag, |pool| Box::new(Packets::new(Asker { socket: far, pool })))?;
        Ok(near)
    }
}

/// Somebody inside the process.
#[derive(Debug)]
struct Asker {
    socket: UnixDatagram,
    pool: Arc<Pool>,
}

/// The longest question.
const MAX_QUESTION: usize = 2048;

impl PacketSocket for Asker {
    fn poll_receive(&mut self, cx: &mut Context<'_>, layout: Layout) -> Poll<Result<Option<Read>, Cut>> {
        let mut batch = self.pool.batch(SMALL_BYTES);
        let mut space = tokio::io::ReadBuf::new(&mut batch.bytes()[layout.head..layout.head + MAX_QUESTION]);
        ready!(self.socket.poll_recv(cx, &mut space))?;
        let read = space.filled().len();
        if read == 0 {
            return Poll::Ready(Ok(Some(Read::End)));
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
        // If whoever asked has an answer and is gone, the session ends.
        self.socket.poll_send(cx, payload).map(|sent| Ok(sent.map(drop)?))
    }
}
