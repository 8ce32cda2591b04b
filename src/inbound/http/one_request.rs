//! A plain request as one side of a session. Its connection carries no second one, which might be for another
//! target: the response ends the session, and the client connects again.

use std::{
    ops::Range,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::wire::{BodyLimit, BodyState};
use crate::{
    stream::{Batch, Cut, Endpoint, Layout, Pool, Read, V2RAY_HALF_OPEN},
    transport::{Plain, Socket},
};

/// The client's socket, of which only one request is read.
pub(super) struct OneRequest {
    plain: Plain,
    body: BodyLimit,
}

impl OneRequest {
    /// `head` goes to the target, then what of `ahead` and of the socket's bytes belongs to `body`.
    pub(super) fn new(
        socket: Socket,
        pool: Arc<Pool>,
        head: Vec<u8>,
        mut body: BodyLimit,
        ahead: &[u8],
    ) -> Self {
        let mut first = head;
        let taken = body.take(ahead);
        first.extend_from_slice(&ahead[..taken]);
        Self { plain: Plain::new(socket, pool, first), body }
    }

    /// Leaves in `batch` what belongs to the body.
    fn limit(&mut self, batch: &mut Batch) {
        let (bytes, ranges) = batch.parts();
        for range in ranges.iter_mut() {
            let taken = self.body.take(&bytes[range.clone()]);
            range.end = range.start + taken;
        }
        ranges.retain(|range: &Range<usize>| !range.is_empty());
    }
}

impl Endpoint for OneRequest {
    fn layout(&self) -> Layout {
        self.plain.layout()
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, layout: Layout) -> Poll<Result<Read, Cut>> {
        if self.plain.has_ahead() {
            return self.plain.poll_read(cx, layout);
        }
        loop {
            // Either by this read or by what came with the head.
            if self.body.state() == BodyState::Broken {
                return Poll::Ready(Err(Cut::protocol("HTTP", "the request's chunked body is malformed")));
            }
            let mut batch = match ready!(self.plain.poll_read(cx, layout))? {
                Read::Data(batch) => batch,
                Read::End => return Poll::Ready(Ok(Read::End)),
            };
            self.limit(&mut batch);
            // What follows the request is thrown away; the client sees the connection close and asks again.
            if !batch.is_empty() && self.body.state() != BodyState::Broken {
                return Poll::Ready(Ok(Read::Data(batch)));
            }
        }
    }

    fn send(&mut self, batch: Batch) -> Result<(), Cut> {
        self.plain.send(batch)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        self.plain.poll_flush(cx)
    }

    fn finish(&mut self) {
        self.plain.finish();
    }

    /// The response is over, and so is the session: a client that keeps its side open waits for nothing.
    fn half_open_limit(&self) -> Option<Duration> {
        Some(V2RAY_HALF_OPEN)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.plain.poll_close(cx)
    }

    fn abort(&mut self) {
        self.plain.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
        time::timeout,
    };

    use super::*;

    /// The request's side of a session, and its client.
    async fn request(body: BodyLimit, ahead: &[u8]) -> (OneRequest, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = Socket::new(listener.accept().await.unwrap().0).unwrap();
        (OneRequest::new(socket, Pool::new(), b"HEAD ".to_vec(), body, ahead), client)
    }

    async fn read(request: &mut OneRequest) -> Result<Vec<u8>, Cut> {
        let request: &mut dyn Endpoint = request;
        match timeout(Duration::from_secs(5), request.read(Layout::FLAT)).await.expect("it hangs")? {
            Read::Data(batch) => Ok(batch.pieces().collect::<Vec<_>>().concat()),
            Read::End => Ok(Vec::new()),
        }
    }

    #[tokio::test]
    async fn what_follows_the_request_is_thrown_away() {
        let (mut request, mut client) = request(BodyLimit::length(9), b"body").await;
        assert_eq!(read(&mut request).await.unwrap(), b"HEAD body");
        client.write_all(b" restGET http://other/ HTTP/1.1").await.unwrap();
        assert_eq!(read(&mut request).await.unwrap(), b" rest");
        client.shutdown().await.unwrap();
        assert_eq!(read(&mut request).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn malformed_body_is_refused_without_waiting_for_more() {
        // The client stays connected and silent.
        let (mut bad_start, _client) = request(BodyLimit::chunked(), b"what\r\n").await;
        assert!(read(&mut bad_start).await.unwrap().starts_with(b"HEAD "));
        assert!(matches!(read(&mut bad_start).await, Err(Cut::Protocol { layer: "HTTP", .. })));

        let (mut bad_later, mut client) = request(BodyLimit::chunked(), b"").await;
        assert_eq!(read(&mut bad_later).await.unwrap(), b"HEAD ");
        client.write_all(b"3\r\nabc\r\nwhat\r\n").await.unwrap();
        assert!(matches!(read(&mut bad_later).await, Err(Cut::Protocol { layer: "HTTP", .. })));
    }
}
