//! A web server behind the inbound: bytes pass both ways, and it has the last word about all but tunnels.

use std::{
    future::poll_fn,
    io::{self, IoSliceMut},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    net::{TcpStream, UnixStream},
    time::{Instant, timeout, timeout_at},
};
use wsray_vmess::{Address, Target};

use super::{
    HEAD_LIMIT, LINGER, Place, Visit, VisitError, goodbye, refuse,
    requests::{Found, Requests},
};
use crate::{
    stream::SMALL_BYTES,
    transport::{Acceptor, Channel, Socket, Visitor, Who},
};

/// How long the web server may take to accept.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long nothing may move. A web server has its own, shorter limits; this is for one that has none.
const IDLE_LIMIT: Duration = Duration::from_mins(5);

/// Passes a visitor on.
pub(super) async fn visit(place: &Place, acceptor: &Acceptor, visitor: Visitor) -> Result<Visit, VisitError> {
    let connected = timeout(CONNECT_LIMIT, connect(place)).await;
    let server = match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(server) => server,
        Err(source) => {
            refuse(visitor.channel, "502 Bad Gateway").await?;
            return Err(VisitError::Unreachable { place: place.to_string(), source });
        }
    };
    let Visitor { channel, request, who, .. } = visitor;
    let mut passage = Passage {
        acceptor,
        channel,
        server,
        who,
        requests: Requests::new(),
        up: Vec::new(),
        up_ends: Up::Open,
        moved: Instant::now(),
    };
    if let Some(found) = passage.take(&request) {
        return passage.tunnel(found).await;
    }
    passage.run().await
}

async fn connect(place: &Place) -> io::Result<Socket> {
    match place {
        Place::Unix(path) => Ok(Socket::unix(UnixStream::connect(path).await?)),
        Place::Tcp(Target { address: Address::Ip(ip), port }) => {
            Socket::new(TcpStream::connect((*ip, *port)).await?)
        }
        Place::Tcp(Target { address: Address::Domain(name), port }) => {
            Socket::new(TcpStream::connect((name.as_str(), *port)).await?)
        }
    }
}

/// A visitor and the web server.
struct Passage<'a> {
    acceptor: &'a Acceptor,
    channel: Channel,
    server: Socket,
    who: Who,
    requests: Requests,
    /// For the web server.
    up: Vec<u8>,
    up_ends: Up,
    moved: Instant,
}

/// The way to the web server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Up {
    Open,
    /// A FIN follows.
    Ending,
    Ended,
}

/// What ends a passage.
enum Event {
    Tunnel(Found),
    /// The web server has sent all.
    Complete,
    /// One of the two has failed, or left.
    Cut,
}

impl Passage<'_> {
    fn take(&mut self, bytes: &[u8]) -> Option<Found> {
        let acceptor = self.acceptor;
        self.requests.take(bytes, self.who.speaker, |bytes| acceptor.judge(bytes), &mut self.up)
    }

    async fn run(mut self) -> Result<Visit, VisitError> {
        let mut head_limit = None;
        loop {
            // However it is cut, a head has one limit from its first byte on.
            head_limit =
                self.requests.waits_for_head().then(|| head_limit.unwrap_or(Instant::now() + HEAD_LIMIT));
            let limit = head_limit.unwrap_or(self.moved + IDLE_LIMIT);
            let what = if head_limit.is_some() { "a request" } else { "an answer or the next request" };
            let event = timeout_at(limit, poll_fn(|cx| self.poll(cx)));
            match event.await.map_err(|_| VisitError::Slow { what })? {
                None => {}
                Some(Event::Tunnel(found)) => return self.tunnel(found).await,
                Some(Event::Complete) => {
                    goodbye(self.channel).await;
                    return Ok(Visit::Over);
                }
                Some(Event::Cut) => {
                    self.channel.socket().reset_unless_complete();
                    return Ok(Visit::Over);
                }
            }
        }
    }

    /// Moves what can be moved; `None`: something has moved, and time limits may have changed.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let up = self.poll_up(cx);
        if let Poll::Ready(Some(event)) = up {
            return Poll::Ready(Some(event));
        }
        match self.poll_down(cx) {
            Poll::Pending if up.is_pending() => Poll::Pending,
            Poll::Pending | Poll::Ready(Ok(true)) => Poll::Ready(None),
            Poll::Ready(Ok(false)) => Poll::Ready(Some(Event::Complete)),
            Poll::Ready(Err(_)) => Poll::Ready(Some(Event::Cut)),
        }
    }

    /// From the visitor to the web server.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if !self.up.is_empty() {
            // One that takes no more may still answer: 413, say.
            if ready!(self.server.poll_write_bytes(cx, &mut self.up)).is_err() {
                self.up = Vec::new();
            }
            self.moved = Instant::now();
            return Poll::Ready(None);
        }
        match self.up_ends {
            Up::Open => {}
            Up::Ending => {
                self.server.shutdown_write();
                self.up_ends = Up::Ended;
                return Poll::Pending;
            }
            Up::Ended => return Poll::Pending,
        }
        match ready!(self.channel.poll_read(cx, SMALL_BYTES)) {
            Err(_) => Poll::Ready(Some(Event::Cut)),
            Ok(None) => {
                self.up = self.requests.finish();
                self.up_ends = Up::Ending;
                Poll::Ready(None)
            }
            Ok(Some(mut incoming)) => {
                let bytes = &incoming.batch.bytes()[incoming.stream];
                self.moved = Instant::now();
                let acceptor = self.acceptor;
                let judge = |bytes: &[u8]| acceptor.judge(bytes);
                let found = self.requests.take(bytes, self.who.speaker, judge, &mut self.up);
                Poll::Ready(found.map(Event::Tunnel))
            }
        }
    }

    /// From the web server to the visitor; `false`: it has sent all.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            ready!(self.channel.poll_flush(cx))?;
            ready!(self.server.poll_readable(cx))?;
            let mut batch = self.channel.pool().batch(SMALL_BYTES);
            match self.server.try_read(&mut [IoSliceMut::new(&mut batch.bytes()[..DOWN_BYTES])]) {
                Ok(0) => return Poll::Ready(Ok(false)),
                Ok(read) => {
                    batch.push(0..read);
                    self.moved = Instant::now();
                    self.channel.send(batch).map_err(io::Error::other)?;
                    return Poll::Ready(Ok(true));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Whoever sends a request for a tunnel has read the answers to those before.
    async fn tunnel(mut self, found: Found) -> Result<Visit, VisitError> {
        let flushed = timeout(LINGER, poll_fn(|cx| self.channel.poll_flush(cx)));
        let late = |_| VisitError::Slow { what: "taking an answer" };
        flushed.await.map_err(late)?.map_err(|error| VisitError::Connection(error.into()))?;
        let upgraded =
            self.acceptor.upgrade(Box::new(self.channel), found.upgrade, found.ahead, self.who).await?;
        Ok(Visit::Tunnel(Box::new(upgraded)))
    }
}

/// What is read from the web server at once: one TLS record.
const DOWN_BYTES: usize = 16 * 1024;
