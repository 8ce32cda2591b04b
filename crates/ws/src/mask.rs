//! Masking (RFC 6455 section 5.3): a plain XOR, done in wide blocks of safe Rust that the compiler vectorises.

/// How many bytes one round of the main loop takes: wide enough for any vector unit, a multiple of the key's four.
const BLOCK: usize = 64;

/// How many bytes are moved before they are masked: a multiple of [`BLOCK`] that fits a cache of 32 KiB twice.
const STRIDE: usize = 8 * 1024;

/// XORs `bytes` with `key`, as if they stood `offset` bytes behind the start of the frame's payload.
///
/// Masking twice gives back the input, so this both masks and unmasks.
pub fn mask(bytes: &mut [u8], key: [u8; 4], offset: u64) {
    xor_all(bytes, &pattern(key, offset));
}

/// Moves `len` bytes of `buf` from `from` down to `to` and masks them on the way, in one pass.
///
/// `offset` counts as in [`mask`]. The two places may overlap.
///
/// # Panics
/// When `to > from` or `from + len` lies behind the end of `buf`: the caller's arithmetic is wrong.
pub fn mask_copy(buf: &mut [u8], from: usize, to: usize, len: usize, key: [u8; 4], offset: u64) {
    assert!(to <= from, "payload only moves down: from {from} to {to}");
    if to == from {
        mask(&mut buf[from..from + len], key, offset);
        return;
    }
    let pattern = pattern(key, offset);
    // Bytes are moved first and masked while they are still in the nearest cache: a move and a loop over blocks that
    // lie still are both faster than one loop that does both, since nothing has to be checked in it.
    for start in (0..len).step_by(STRIDE) {
        let here = STRIDE.min(len - start);
        buf.copy_within(from + start..from + start + here, to + start);
        xor_all(&mut buf[to + start..to + start + here], &pattern);
    }
}

/// The key repeated over one block, turned so that its first byte is the one due at `offset`.
fn pattern(key: [u8; 4], offset: u64) -> [u8; BLOCK] {
    let turned = turn(key, offset);
    std::array::from_fn(|index| turned[index % 4])
}

/// The key as it stands `offset` bytes further on.
pub(crate) fn turn(mut key: [u8; 4], offset: u64) -> [u8; 4] {
    key.rotate_left(usize::from(offset.to_le_bytes()[0] % 4));
    key
}

fn xor_all(bytes: &mut [u8], pattern: &[u8; BLOCK]) {
    let (blocks, tail) = bytes.as_chunks_mut::<BLOCK>();
    for block in blocks {
        xor(block, pattern);
    }
    for (byte, key) in tail.iter_mut().zip(pattern) {
        *byte ^= key;
    }
}

/// XORs one block.
fn xor(block: &mut [u8; BLOCK], pattern: &[u8; BLOCK]) {
    for (byte, key) in block.iter_mut().zip(pattern) {
        *byte ^= key;
    }
}
