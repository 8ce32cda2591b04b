//! Buffers lent from a pool, and the ranges of payload in them.
//!
//! An idle session owns no buffer: one is taken when its socket is readable and goes back when the bytes are out.
//! The buffer used last is lent first, so that a busy pair of sessions stays in the CPU's cache.

use std::{
    fmt,
    io::IoSlice,
    mem,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use wsray_vmess::Target;

/// A buffer for interactive traffic: one slot of [`Layout`], or one TLS record with its overhead.
pub const SMALL_BYTES: usize = 18 * 1024;

/// A buffer for bulk where others hold the large ones: three slots of 16 KiB, and the overhead of their TLS records.
const MEDIUM_BYTES: usize = 50 * 1024;

/// A buffer for bulk: 256 KiB, the knee of cost per byte against bytes per system call, and 8 KiB for the overhead
/// of the TLS records that 256 KiB are cut into.
pub const LARGE_BYTES: usize = 264 * 1024;

/// The most slots of a buffer, so that what they hold fits a large buffer again when TLS has sealed it.
pub const MOST_SLOTS: usize = 16;

/// What TLS adds to a piece, and what it may add to a large buffer besides (a record of 16 KiB each, and a key update).
const TLS_A_PIECE: usize = 22;
const TLS_RESERVE: usize = TLS_A_PIECE * (LARGE_BYTES / (16 * 1024) + 2) + 64;

/// The sizes of buffers.
const SIZES: [usize; 3] = [SMALL_BYTES, MEDIUM_BYTES, LARGE_BYTES];

/// At most this many unused buffers of each size are kept (4.5, 3.1 and 4.1 MiB).
const KEPT: [usize; 3] = [256, 64, 16];

/// While so many large buffers are lent, bulk gets medium ones. A stream whose reader is fast gives its buffer back at
/// once, so that a few serve all of them; one whose reader is slow holds it, and a hundred of those must not cost 25 MiB.
const MOST_LARGE: usize = 3;

/// A buffer keeps room for this many ranges: one for each chunk of a V2Ray peer in a large buffer.
const KEPT_RANGES: usize = 256;

/// Where a pool's buffers go back to.
#[derive(Default)]
pub struct Pool {
    shelves: [Mutex<Vec<Buffer>>; SIZES.len()],
    lent: AtomicU64,
    /// How many large buffers are lent.
    large: AtomicUsize,
    /// How many bytes of buffers are lent.
    held: AtomicUsize,
}

#[derive(Default)]
struct Buffer {
    bytes: Box<[u8]>,
    ranges: Vec<Range<usize>>,
}

impl Pool {
    /// An empty pool.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// An empty batch over a buffer of at least `bytes` bytes, at most [`LARGE_BYTES`].
    pub fn batch(self: &Arc<Self>, bytes: usize) -> Batch {
        let shelf = shelf_of(bytes);
        let size = SIZES[shelf];
        if size == LARGE_BYTES {
            self.large.fetch_add(1, Ordering::Relaxed);
        }
        self.lent.fetch_add(1, Ordering::Relaxed);
        self.held.fetch_add(size, Ordering::Relaxed);
        let lent = self.shelves[shelf].lock().unwrap_or_else(PoisonError::into_inner).pop();
        let fresh = || Buffer { bytes: vec![0; size].into(), ranges: Vec::new() };
        Batch { buffer: lent.unwrap_or_else(fresh), written: 0, peers: None, pool: Arc::clone(self) }
    }

    /// A packet laid out for a sender; `None`: it is empty, or larger than the sender takes.
    pub fn packet(self: &Arc<Self>, layout: Layout, payload: &[u8], peer: Option<&Target>) -> Option<Batch> {
        if payload.is_empty() || payload.len() > layout.payload {
            return None;
        }
        let mut batch = self.batch(layout.head + payload.len() + layout.tail);
        let range = layout.head..layout.head + payload.len();
        batch.bytes()[range.clone()].copy_from_slice(payload);
        match peer {
            Some(peer) => batch.push_packet(range, peer.clone()),
            None => batch.push(range),
        }
        Some(batch)
    }

    /// How many batches were lent so far: as long as it stays the same, nothing moves.
    pub fn lent(&self) -> u64 {
        self.lent.load(Ordering::Relaxed)
    }

    /// How many bytes of buffers are lent at the moment.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed) as u64
    }

    /// How large a batch for bulk is at the moment.
    pub fn bulk_bytes(&self) -> usize {
        if self.large.load(Ordering::Relaxed) < MOST_LARGE { LARGE_BYTES } else { MEDIUM_BYTES }
    }

    fn take_back(&self, mut buffer: Buffer) {
        let shelf = shelf_of(buffer.bytes.len());
        self.held.fetch_sub(buffer.bytes.len(), Ordering::Relaxed);
        if SIZES[shelf] == LARGE_BYTES {
            self.large.fetch_sub(1, Ordering::Relaxed);
        }
        if buffer.ranges.capacity() > KEPT_RANGES {
            buffer.ranges = Vec::new();
        }
        let mut shelf_buffers = self.shelves[shelf].lock().unwrap_or_else(PoisonError::into_inner);
        if shelf_buffers.len() < KEPT[shelf] {
            buffer.ranges.clear();
            shelf_buffers.push(buffer);
        }
    }
}

/// Where the smallest buffers of at least `bytes` bytes lie; the largest, if there are none.
fn shelf_of(bytes: usize) -> usize {
    SIZES.iter().position(|&size| bytes <= size).unwrap_or(SIZES.len() - 1)
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pool")
    }
}

/// How a sender wants payload laid out, so that it can seal in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes left free in front of each piece of payload.
    pub head: usize,
    /// The most payload bytes in one piece.
    pub payload: usize,
    /// Bytes left free behind each piece.
    pub tail: usize,
}

impl Layout {
    /// No headroom, pieces of any size: a plain socket.
    pub const FLAT: Self = Self { head: 0, payload: usize::MAX, tail: 0 };

    /// The bytes of one slot.
    pub fn stride(self) -> usize {
        self.head.saturating_add(self.payload).saturating_add(self.tail)
    }

    /// The most payload that a batch laid out this way holds.
    pub fn room(self) -> usize {
        if self == Self::FLAT {
            LARGE_BYTES
        } else {
            MOST_SLOTS.min(LARGE_BYTES / self.stride()) * self.payload
        }
    }

    /// Where the payload of slot `n` may stand in a buffer of `capacity` bytes; `None` when it does not fit.
    pub fn slot(self, n: usize, capacity: usize) -> Option<Range<usize>> {
        if self == Self::FLAT {
            return (n == 0).then_some(0..capacity);
        }
        if n >= MOST_SLOTS {
            return None;
        }
        let start = n.checked_mul(self.stride())?.checked_add(self.head)?;
        let end = start + self.payload;
        (end + self.tail <= capacity).then_some(start..end)
    }
}

/// A buffer and the ranges of it that hold payload (or, once sealed, bytes for the wire).
pub struct Batch {
    buffer: Buffer,
    /// How many bytes of the first range are written already.
    written: usize,
    /// Of packets to or from many targets: one for each range. Streams never have any.
    #[expect(clippy::box_collection, reason = "streams pay for a pointer only")]
    peers: Option<Box<Vec<Target>>>,
    pool: Arc<Pool>,
}

impl Batch {
    /// The whole buffer.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.buffer.bytes
    }

    /// The buffer and its ranges, to be changed together.
    pub fn parts(&mut self) -> (&mut [u8], &mut Vec<Range<usize>>) {
        (&mut self.buffer.bytes, &mut self.buffer.ranges)
    }

    /// The buffer's size.
    pub fn capacity(&self) -> usize {
        self.buffer.bytes.len()
    }

    /// Adds a range; an empty one is left out.
    pub fn push(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            self.buffer.ranges.push(range);
        }
    }

    /// Adds a packet, and where it goes to or came from. All packets of a batch have a peer or none has; an empty one is
    /// left out.
    pub fn push_packet(&mut self, range: Range<usize>, peer: Target) {
        if !range.is_empty() {
            self.peers.get_or_insert_default().push(peer);
            self.buffer.ranges.push(range);
        }
    }

    /// The packets, in order, with their peers if they have any.
    pub fn packets(&self) -> impl Iterator<Item = (&[u8], Option<&Target>)> {
        let peers = self.peers.as_deref().map_or(&[][..], Vec::as_slice).iter().map(Some);
        self.pieces().zip(peers.chain(std::iter::repeat(None)))
    }

    /// Takes the peers off the packets; none: they have no peers.
    pub fn take_peers(&mut self) -> Vec<Target> {
        self.peers.take().map_or_else(Vec::new, |peers| *peers)
    }

    /// The ranges, in order.
    pub fn ranges(&self) -> &[Range<usize>] {
        &self.buffer.ranges
    }

    /// The pieces of payload, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.buffer.ranges.iter().map(|range| &self.buffer.bytes[range.clone()])
    }

    /// How many bytes the ranges hold that are not written yet.
    pub fn len(&self) -> usize {
        self.ranges().iter().map(ExactSizeIterator::len).sum::<usize>() - self.written
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.ranges().is_empty()
    }

    /// Fills `slices` with what is not written yet; returns how many it used.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut skip = self.written;
        let mut used = 0;
        for (slice, piece) in slices.iter_mut().zip(self.pieces()) {
            *slice = IoSlice::new(&piece[skip..]);
            skip = 0;
            used += 1;
        }
        used
    }

    /// `bytes` more bytes are written.
    pub fn advance(&mut self, bytes: usize) {
        self.written += bytes;
        let mut done = 0;
        for range in &self.buffer.ranges {
            if self.written < range.len() {
                break;
            }
            self.written -= range.len();
            done += 1;
        }
        self.buffer.ranges.drain(..done);
        if let Some(peers) = &mut self.peers {
            peers.drain(..done.min(peers.len()));
        }
    }

    /// The same payload laid out for another sender. It must fit: see [`Layout::room`].
    #[must_use]
    pub fn laid_out(self, layout: Layout) -> Self {
        if layout == Layout::FLAT {
            return self;
        }
        let size = if self.len() <= layout.payload { layout.stride() } else { LARGE_BYTES };
        let mut out = self.pool.batch(size);
        let mut pieces = self.pieces();
        let mut piece: &[u8] = &[];
        for slot in (0..).map_while(|n| layout.slot(n, size)) {
            let mut at = slot.start;
            while at < slot.end {
                if piece.is_empty() {
                    let Some(next) = pieces.next() else { break };
                    piece = next;
                }
                let (now, later) = piece.split_at(piece.len().min(slot.end - at));
                out.bytes()[at..at + now.len()].copy_from_slice(now);
                at += now.len();
                piece = later;
            }
            out.push(slot.start..at);
        }
        debug_assert!(
            piece.is_empty() && pieces.next().is_none(),
            "more payload than the layout has room for"
        );
        drop(pieces);
        out
    }

    /// The same packets, each with its head and tail. Those that find no room or are too large for the layout are
    /// dropped.
    #[must_use]
    pub fn packets_laid_out(self, layout: Layout) -> Self {
        if layout == Layout::FLAT {
            return self;
        }
        let mut out = self.pool.batch(LARGE_BYTES);
        let mut at = 0;
        let mut room = LARGE_BYTES - TLS_RESERVE;
        for (packet, peer) in self.packets().filter(|(packet, _)| packet.len() <= layout.payload) {
            let stride = layout.head + packet.len() + layout.tail;
            let Some(left) = room.checked_sub(stride + TLS_A_PIECE) else { break };
            room = left;
            let range = at + layout.head..at + layout.head + packet.len();
            out.bytes()[range.clone()].copy_from_slice(packet);
            match peer {
                Some(peer) => out.push_packet(range, peer.clone()),
                None => out.push(range),
            }
            at += stride;
        }
        out
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.pool.take_back(mem::take(&mut self.buffer));
    }
}

impl fmt::Debug for Batch {
    /// Sizes only, never contents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("ranges", &self.ranges().len()).field("bytes", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests;
