//! Listening to an application's first words, to learn the name it asks for; what was heard is said again to whoever
//! reads next.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};
use wsray_route::{Rest, Sniffed, sniff};

use crate::stream::{Batch, BoxEndpoint, Cut, Endpoint, LARGE_BYTES, Layout, Pool, Read};

use std::sync::Arc;

/// An inbound of which the first payload was read already.
pub struct Overheard {
    inner: BoxEndpoint,
    pool: Arc<Pool>,
    heard: Vec<u8>,
    ended: bool,
}

/// How long an application that says nothing is waited for (v2fly/v2ray-core `app/dispatcher/default.go`).
const PATIENCE: Duration = Duration::from_millis(200);

/// Where the server speaks first, so that nothing can be learnt by waiting: FTP, SSH, telnet, SMTP, POP3, NNTP, IMAP,
/// submission, `MySQL` and VNC.
///
/// Source: the ports' entries in IANA's registry of service names; the protocols' RFCs (959, 4253, 854, 5321, 1939, 3977, 9051,
/// 6409, 6143) and `MySQL`'s handshake.
const SERVER_SPEAKS_FIRST: [u16; 10] = [21, 22, 23, 25, 110, 119, 143, 587, 3306, 5900];

/// How long an application may take for its first words to a port.
pub fn patience(port: u16) -> Duration {
    if SERVER_SPEAKS_FIRST.contains(&port) { Duration::ZERO } else { PATIENCE }
}

/// Reads until the first words tell what they are, or the application has said no more for `patience`; what is there already
/// is heard in any case.
///
/// # Errors
/// When the inbound was cut.
pub async fn overhear(
    inner: BoxEndpoint,
    pool: &Arc<Pool>,
    patience: Duration,
) -> Result<(Overheard, Sniffed), Cut> {
    let mut overheard = Overheard { inner, pool: Arc::clone(pool), heard: Vec::new(), ended: false };
    let deadline = Instant::now() + patience;
    loop {
        let Ok(read) = timeout_at(deadline, overheard.inner.read(Layout::FLAT)).await else { break };
        match read? {
            Read::Data(batch) => batch.pieces().for_each(|piece| overheard.heard.extend_from_slice(piece)),
            Read::End => {
                overheard.ended = true;
                break;
            }
        }
        match sniff(&overheard.heard, Rest::MayCome) {
            Sniffed::NeedMore => {}
            known => return Ok((overheard, known)),
        }
    }
    let sniffed = sniff(&overheard.heard, Rest::Over);
    Ok((overheard, sniffed))
}

impl Overheard {
    fn repeat(&mut self, layout: Layout) -> Batch {
        let mut batch = self.pool.batch(self.heard.len());
        let now = self.heard.len().min(layout.room()).min(LARGE_BYTES);
        batch.bytes()[..now].copy_from_slice(&self.heard[..now]);
        batch.push(0..now);
        self.heard.drain(..now);
        if self.heard.is_empty() {
            self.heard = Vec::new();
        }
        batch.laid_out(layout)
    }
}

impl Endpoint for Overheard {
    fn layout(&self) -> Layout {
        self.inner.layout()
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, layout: Layout) -> Poll<Result<Read, Cut>> {
        if !self.heard.is_empty() {
            return Poll::Ready(Ok(Read::Data(self.repeat(layout))));
        }
        if self.ended {
            return Poll::Ready(Ok(Read::End));
        }
        self.inner.poll_read(cx, layout)
    }

    fn send(&mut self, batch: Batch) -> Result<(), Cut> {
        self.inner.send(batch)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        self.inner.poll_flush(cx)
    }

    fn finish(&mut self) {
        self.inner.finish();
    }

    fn half_open_limit(&self) -> Option<Duration> {
        self.inner.half_open_limit()
    }

    fn next_beat(&self, moved: Instant) -> Option<Instant> {
        self.inner.next_beat(moved)
    }

    fn beat(&mut self) -> Result<(), Cut> {
        self.inner.beat()
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.inner.poll_gone(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.inner.poll_close(cx)
    }

    fn abort(&mut self) {
        self.inner.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::transport::{Plain, Socket};

    /// One that has said `words`, which have arrived.
    async fn application(words: &[u8]) -> (BoxEndpoint, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        if !words.is_empty() {
            client.write_all(words).await.unwrap();
            stream.readable().await.unwrap();
        }
        let socket = Socket::new(stream).unwrap();
        (Box::new(Plain::new(socket, Pool::new(), Vec::new())), client)
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_server_speaks_first_nobody_waits() {
        for (port, expected) in [(22, 0), (25, 0), (80, 200), (443, 200), (2222, 200)] {
            let (silent, _client) = application(b"").await;
            let start = Instant::now();
            let (_, sniffed) = overhear(silent, &Pool::new(), patience(port)).await.unwrap();
            // The clock's steps are of a millisecond.
            let waited = start.elapsed().as_millis();
            assert!((expected..=expected + 2).contains(&waited), "{port}: {waited} ms");
            assert_eq!(sniffed, Sniffed::Nothing);
        }
    }

    #[tokio::test]
    async fn words_that_are_there_already_are_heard_at_every_port() {
        let (speaking, _client) = application(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        let (_, sniffed) = overhear(speaking, &Pool::new(), patience(22)).await.unwrap();
        assert_eq!(sniffed.domain(), Some("a.test"));
    }
}
