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

/// Reads until the first words tell what they are, or the application waits for an answer.
///
/// # Errors
/// When the inbound was cut.
pub async fn overhear(inner: BoxEndpoint, pool: &Arc<Pool>) -> Result<(Overheard, Sniffed), Cut> {
    let mut overheard = Overheard { inner, pool: Arc::clone(pool), heard: Vec::new(), ended: false };
    let deadline = Instant::now() + PATIENCE;
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
