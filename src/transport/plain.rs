//! A socket without any protocol: the application's or the origin's.

use std::{
    io::{self, IoSliceMut},
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::Socket;
use crate::stream::{Batch, Cut, Endpoint, LARGE_BYTES, Layout, MOST_SLOTS, Pool, Read, SMALL_BYTES};

/// An application's or origin's socket as one side of a session.
#[derive(Debug)]
pub struct Plain {
    socket: Socket,
    pool: Arc<Pool>,
    /// Bytes that came behind a proxy request and belong to the stream.
    ahead: Vec<u8>,
    outgoing: Option<Batch>,
    state: PlainState,
    /// The last read filled its buffer: lend a large one.
    bulk: bool,
    /// The peer sends no more.
    ended: bool,
    /// Bytes thrown away since we are closing.
    drained: usize,
}

/// A peer that still sends when we close has this many bytes thrown away; one that sends more is reset.
const MAX_DRAINED: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PlainState {
    Open,
    /// A FIN follows when all is flushed.
    Finishing,
    Finished,
}

impl Plain {
    /// `ahead` is what was read from the socket already and is the stream's first payload.
    pub fn new(socket: Socket, pool: Arc<Pool>, mut ahead: Vec<u8>) -> Self {
        socket.reset_unless_complete();
        ahead.shrink_to_fit();
        Self {
            socket,
            pool,
            ahead,
            outgoing: None,
            state: PlainState::Open,
            bulk: false,
            ended: false,
            drained: 0,
        }
    }

    /// Whether payload is left that was read before the session began.
    pub fn has_ahead(&self) -> bool {
        !self.ahead.is_empty()
    }

    fn take_ahead(&mut self, layout: Layout) -> Batch {
        let mut batch = self.pool.batch(LARGE_BYTES);
        let now = self.ahead.len().min(layout.room()).min(batch.capacity());
        batch.bytes()[..now].copy_from_slice(&self.ahead[..now]);
        batch.push(0..now);
        self.ahead.drain(..now);
        if self.ahead.is_empty() {
            self.ahead = Vec::new();
        }
        batch.laid_out(layout)
    }

    /// One read of all the slots that the buffer has.
    fn try_fill(&mut self, layout: Layout) -> io::Result<Option<Batch>> {
        let mut batch = self.pool.batch(if self.bulk { self.pool.bulk_bytes() } else { SMALL_BYTES });
        let capacity = batch.capacity();
        let (bytes, ranges) = batch.parts();
        let mut slots = Slots::new(bytes, layout, capacity);
        let read = self.socket.try_read(slots.as_mut())?;
        if read == 0 {
            return Ok(None);
        }
        let filled = slots.wanted == read;
        self.bulk = if self.bulk { read > SMALL_BYTES } else { filled };
        let mut left = read;
        for slot in (0..).map_while(|n| layout.slot(n, capacity)) {
            let here = slot.len().min(left);
            if here == 0 {
                break;
            }
            ranges.push(slot.start..slot.start + here);
            left -= here;
        }
        Ok(Some(batch))
    }
}

/// The payload parts of a buffer's slots, ready for one vectored read.
struct Slots<'a> {
    slices: [IoSliceMut<'a>; MOST_SLOTS],
    used: usize,
    wanted: usize,
}

impl<'a> Slots<'a> {
    fn new(bytes: &'a mut [u8], layout: Layout, capacity: usize) -> Self {
        let mut slots =
            Self { slices: std::array::from_fn(|_| IoSliceMut::new(&mut [])), used: 0, wanted: 0 };
        let mut rest = bytes;
        let mut at = 0;
        for (slice, slot) in slots.slices.iter_mut().zip((0..).map_while(|n| layout.slot(n, capacity))) {
            let (_, from_payload) = rest.split_at_mut(slot.start - at);
            let (payload, behind) = from_payload.split_at_mut(slot.len());
            *slice = IoSliceMut::new(payload);
            slots.used += 1;
            slots.wanted += slot.len();
            at = slot.end;
            rest = behind;
        }
        slots
    }

    fn as_mut(&mut self) -> &mut [IoSliceMut<'a>] {
        &mut self.slices[..self.used]
    }
}

impl Endpoint for Plain {
    fn layout(&self) -> Layout {
        Layout::FLAT
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, layout: Layout) -> Poll<Result<Read, Cut>> {
        if !self.ahead.is_empty() {
            return Poll::Ready(Ok(Read::Data(self.take_ahead(layout))));
        }
        loop {
            ready!(self.socket.poll_readable(cx))?;
            match self.try_fill(layout) {
                Ok(Some(batch)) => return Poll::Ready(Ok(Read::Data(batch))),
                Ok(None) => {
                    self.ended = true;
                    return Poll::Ready(Ok(Read::End));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    fn send(&mut self, batch: Batch) -> Result<(), Cut> {
        self.outgoing = Some(batch);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        if let Some(batch) = &mut self.outgoing {
            ready!(self.socket.poll_write(cx, batch))?;
            self.outgoing = None;
        }
        if self.state == PlainState::Finishing {
            self.socket.shutdown_write();
            self.state = PlainState::Finished;
        }
        Poll::Ready(Ok(()))
    }

    fn finish(&mut self) {
        if self.state == PlainState::Open {
            self.state = PlainState::Finishing;
        }
    }

    /// Waits until the peer has ended too: bytes that nobody reads make the kernel send a reset, which may overtake
    /// the last of what we sent.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.close_cleanly();
        if self.state != PlainState::Finished {
            self.socket.shutdown_write();
            self.state = PlainState::Finished;
        }
        self.ahead = Vec::new();
        while !self.ended && self.drained < MAX_DRAINED {
            match ready!(self.poll_read(cx, Layout::FLAT)) {
                Ok(Read::Data(batch)) => self.drained += batch.len(),
                Ok(Read::End) | Err(_) => self.ended = true,
            }
        }
        Poll::Ready(())
    }

    /// Dropping it resets it.
    fn abort(&mut self) {}
}

#[cfg(test)]
mod tests;
