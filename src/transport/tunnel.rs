//! A stream inside TLS or WebSocket without a protocol of its own, as one side of a session: what a proxy carries.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::Instant;

use super::{Channel, ChannelEnd, Plain};
use crate::stream::{Batch, BoxEndpoint, Cut, Endpoint, Layout, Read, V2RAY_HALF_OPEN};

/// A channel whose bytes are the session's.
///
/// In TLS a close_notify ends one direction (RFC 8446 section 6.1), and a FIN alone is a cut. WebSocket ends both
/// directions at once: a peer cannot be told that nothing more follows but by closing.
pub struct Tunnel {
    channel: Channel,
}

/// A frame with its header fits one TLS record (RFC 8446 section 5.1).
const MAX_PIECE: usize = 16 * 1024;

/// The close code of a stream that is complete (RFC 6455 section 7.4.1).
const NORMAL_CLOSE: u16 = 1000;

impl Tunnel {
    /// What is left of a connection after its handshakes; `ahead` is what was read already.
    pub fn endpoint(channel: Channel, ahead: Vec<u8>) -> BoxEndpoint {
        let pool = Arc::clone(channel.pool());
        match channel.into_socket() {
            Ok((socket, mut read)) => {
                let mut all = ahead;
                all.append(&mut read);
                Box::new(Plain::new(socket, pool, all))
            }
            Err(mut channel) => {
                channel.unread_stream(ahead);
                if !channel.is_ws() {
                    // A cut one must not end like one that is complete where TLS's own end is not heeded.
                    channel.socket().reset_unless_complete();
                }
                Box::new(Self { channel: *channel })
            }
        }
    }

    fn ended(&self) -> Result<Read, Cut> {
        match self.channel.end() {
            Some(ChannelEnd::Broken { layer, reason }) => Err(Cut::protocol(layer, reason)),
            Some(ChannelEnd::Close(None | Some(NORMAL_CLOSE))) => Ok(Read::End),
            Some(ChannelEnd::Close(Some(code))) => {
                Err(Cut::protocol("WebSocket", format_args!("the proxy closed with code {code}")))
            }
            Some(ChannelEnd::CloseNotify) if !self.channel.is_ws() => Ok(Read::End),
            _ => Err(Cut::Unfinished("the proxy's connection was lost in the middle of the stream")),
        }
    }
}

impl Endpoint for Tunnel {
    fn layout(&self) -> Layout {
        let head = self.channel.head_len(MAX_PIECE);
        Layout { head, payload: MAX_PIECE - head, tail: 0 }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, layout: Layout) -> Poll<Result<Read, Cut>> {
        match ready!(self.channel.poll_read(cx, layout.room()))? {
            None => Poll::Ready(self.ended()),
            Some(mut incoming) => {
                incoming.batch.push(incoming.stream);
                Poll::Ready(Ok(Read::Data(incoming.batch.laid_out(layout))))
            }
        }
    }

    fn send(&mut self, batch: Batch) -> Result<(), Cut> {
        self.channel.send(batch)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        self.channel.poll_flush(cx).map_err(Cut::Io)
    }

    fn finish(&mut self) {
        if !self.channel.is_ws() {
            self.channel.queue_goodbye(None);
        }
    }

    fn half_open_limit(&self) -> Option<Duration> {
        self.channel.is_ws().then_some(V2RAY_HALF_OPEN)
    }

    fn next_beat(&self, moved: Instant) -> Option<Instant> {
        self.channel.next_beat(moved)
    }

    fn beat(&mut self) -> Result<(), Cut> {
        self.channel.beat()
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.channel.poll_drain(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.channel.socket().close_cleanly();
        self.channel.queue_goodbye(Some(NORMAL_CLOSE));
        self.channel.poll_flush(cx).map(drop)
    }

    /// No close_notify and no close frame: that is how a cut looks.
    fn abort(&mut self) {}
}
