//! Batches against plain vectors.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*};

use super::*;

/// A batch that holds `pieces` with gaps of `gap` bytes between, which are never payload.
fn batch_of(pool: &Arc<Pool>, pieces: &[Vec<u8>], gap: usize) -> Batch {
    let mut batch = pool.batch(LARGE_BYTES);
    batch.bytes().fill(0xEE);
    let mut at = 0;
    for piece in pieces {
        at += gap;
        batch.bytes()[at..at + piece.len()].copy_from_slice(piece);
        batch.push(at..at + piece.len());
        at += piece.len();
    }
    batch
}

/// What `batch` would write now.
fn unwritten(batch: &Batch) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); 300];
    let used = batch.slices(&mut slices);
    slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect()
}

/// Pieces of several sizes with recognisable bytes.
fn pieces(lens: &[usize]) -> Vec<Vec<u8>> {
    (0_u8..).zip(lens).map(|(n, &len)| (0..len).map(|at| n ^ at.to_le_bytes()[0]).collect()).collect()
}

fn layouts() -> impl Strategy<Value = Layout> {
    (0_usize..80, prop_oneof![1_usize..50, 1000_usize..16_000], 0_usize..80)
        .prop_map(|(head, payload, tail)| Layout { head, payload, tail })
}

proptest! {
    #[test]
    fn writing_in_any_steps_writes_every_byte_once(
        lens in vec(0_usize..400, 0..200), steps in vec(1_usize..900, 0..200),
    ) {
        let pieces = pieces(&lens);
        let mut expected = pieces.concat();
        let mut batch = batch_of(&Pool::new(), &pieces, 3);
        for step in steps {
            prop_assert_eq!(batch.len(), expected.len());
            prop_assert_eq!(batch.is_empty(), expected.is_empty());
            prop_assert_eq!(&unwritten(&batch), &expected);
            let step = step.min(expected.len());
            batch.advance(step);
            expected.drain(..step);
        }
    }

    #[test]
    fn few_slices_are_the_front_of_what_is_unwritten(lens in vec(1_usize..50, 1..20), skip in 0_usize..50) {
        let pieces = pieces(&lens);
        let mut batch = batch_of(&Pool::new(), &pieces, 1);
        let skip = skip.min(pieces[0].len() - 1);
        batch.advance(skip);
        let mut slices = [IoSlice::new(&[]); 2];
        let used = batch.slices(&mut slices);
        prop_assert_eq!(used, pieces.len().min(2));
        prop_assert_eq!(&slices[0][..], &pieces[0][skip..]);
    }

    #[test]
    fn laid_out_payload_is_the_same_in_slots_of_its_own(
        layout in layouts(), lens in vec(1_usize..3000, 0..80), gap in 0_usize..20,
    ) {
        let mut pieces = pieces(&lens);
        let mut room = layout.room();
        for piece in &mut pieces {
            piece.truncate(room);
            room -= piece.len();
        }
        let mut out = batch_of(&Pool::new(), &pieces, gap).laid_out(layout);
        prop_assert_eq!(out.pieces().collect::<Vec<_>>().concat(), pieces.concat());
        let capacity = out.capacity();
        let mut free_from = 0;
        for range in out.ranges() {
            prop_assert!(range.len() <= layout.payload && range.start >= free_from + layout.head);
            free_from = range.end + layout.tail;
        }
        prop_assert!(free_from <= capacity);
        // Room for what TLS adds: 22 bytes a record, one for each piece.
        prop_assert!(out.ranges().len() <= MOST_SLOTS);
        out.bytes().fill(0);
    }

    #[test]
    fn packets_laid_out_stay_whole_and_in_order(
        layout in layouts(), lens in vec(1_usize..3000, 0..80), gap in 0_usize..20,
    ) {
        let pieces = pieces(&lens);
        let out = batch_of(&Pool::new(), &pieces, gap).packets_laid_out(layout);
        let fitting: Vec<&[u8]> =
            pieces.iter().map(Vec::as_slice).filter(|piece| piece.len() <= layout.payload).collect();
        let got: Vec<&[u8]> = out.pieces().collect();
        // 80 packets of this size always find room.
        prop_assert_eq!(got, fitting);
        let mut free_from = 0;
        for range in out.ranges() {
            prop_assert!(range.start >= free_from + layout.head);
            free_from = range.end + layout.tail;
        }
        prop_assert!(free_from <= out.capacity());
    }
}

#[test]
fn packets_beyond_the_buffer_are_dropped_and_leave_room_for_tls() {
    let pool = Pool::new();
    let layout = Layout { head: 30, payload: 65_000, tail: 80 };
    let packets = vec![vec![7; 20]; 10_000];
    let out = batch_of(&pool, &packets, 0).packets_laid_out(layout);
    let sealed: usize = out.pieces().map(|packet| packet.len() + layout.head + layout.tail + 22).sum();
    assert!(
        out.ranges().len() > 1000 && sealed + 22 * 18 + 64 <= LARGE_BYTES,
        "{} packets",
        out.ranges().len()
    );
}

#[test]
fn slots_lie_in_the_buffer_and_apart() {
    for layout in [
        Layout { head: 4, payload: 15_872, tail: 79 },
        Layout { head: 64, payload: 65_456, tail: 79 },
        Layout { head: 0, payload: 1, tail: 0 },
    ] {
        for capacity in [SMALL_BYTES, MEDIUM_BYTES, LARGE_BYTES] {
            let slots: Vec<_> = (0..).map_while(|n| layout.slot(n, capacity)).collect();
            assert!(slots.len() <= MOST_SLOTS);
            for pair in slots.windows(2) {
                assert_eq!(pair[0].end + layout.tail + layout.head, pair[1].start);
            }
            assert!(
                slots.iter().all(|slot| slot.len() == layout.payload && slot.end + layout.tail <= capacity)
            );
            if capacity == LARGE_BYTES {
                assert_eq!(layout.room(), slots.iter().map(Range::len).sum::<usize>());
            }
        }
    }
    assert_eq!(Layout::FLAT.slot(0, 100), Some(0..100));
    assert_eq!(Layout::FLAT.slot(1, 100), None);
}

#[test]
fn pool_lends_the_buffer_used_last_and_keeps_few() {
    let pool = Pool::new();
    let (mut first, mut second) = (pool.batch(1), pool.batch(SMALL_BYTES));
    first.bytes()[0] = 1;
    second.bytes()[0] = 2;
    second.push(0..1);
    drop(first);
    drop(second);
    let mut lent = pool.batch(10);
    assert_eq!((lent.bytes()[0], lent.ranges().len(), lent.capacity()), (2, 0, SMALL_BYTES));
    assert_eq!(pool.batch(SMALL_BYTES + 1).capacity(), MEDIUM_BYTES);
    assert_eq!(pool.batch(MEDIUM_BYTES + 1).capacity(), LARGE_BYTES);
    drop(lent);
    for (shelf, (bytes, kept)) in [(1, 256), (MEDIUM_BYTES, 64), (LARGE_BYTES, 16)].into_iter().enumerate() {
        drop((0..kept + 5).map(|_| pool.batch(bytes)).collect::<Vec<_>>());
        assert_eq!(pool.shelves[shelf].lock().unwrap().len(), kept);
    }
}

#[test]
fn partly_written_batch_gives_back_a_fresh_buffer() {
    let pool = Pool::new();
    let mut batch = batch_of(&pool, &pieces(&[10, 10]), 0);
    batch.advance(13);
    drop(batch);
    let mut again = pool.batch(LARGE_BYTES);
    again.push(0..4);
    assert_eq!((again.len(), unwritten(&again).len()), (4, 4));
}

#[test]
fn bulk_gets_medium_buffers_while_slow_readers_hold_the_large_ones() {
    let pool = Pool::new();
    let held: Vec<Batch> = (0..50).map(|_| pool.batch(pool.bulk_bytes())).collect();
    let bytes: usize = held.iter().map(Batch::capacity).sum();
    assert!(bytes / held.len() <= 80 * 1024, "{bytes} bytes for 50 streams");
    assert_eq!(pool.batch(pool.bulk_bytes()).capacity(), MEDIUM_BYTES);
    drop(held);
    assert_eq!(pool.batch(pool.bulk_bytes()).capacity(), LARGE_BYTES);
}
