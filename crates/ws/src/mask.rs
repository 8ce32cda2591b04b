//! Masking (RFC 6455 section 5.3): a plain XOR, done in wide blocks of safe Rust that the compiler vectorises.

/// How many bytes one round of the main loop takes: wide enough for any vector unit, a multiple of the key's four.
const BLOCK: usize = 64;

/// XORs `bytes` with `key`, as if they stood `offset` bytes behind the start of the frame's payload.
///
/// Masking twice gives back the input, so this both masks and unmasks.
pub fn mask(bytes: &mut [u8], key: [u8; 4], offset: u64) {
    let pattern = pattern(key, offset);
    let (blocks, tail) = bytes.as_chunks_mut::<BLOCK>();
    for block in blocks {
        xor(block, &pattern);
    }
    for (byte, key) in tail.iter_mut().zip(pattern) {
        *byte ^= key;
    }
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
    // A block is read whole before it is written, and writes stay behind the reads because `to < from`.
    let area = &mut buf[to..from + len];
    let gap = from - to;
    let mut done = 0;
    while let Some(source) = area.get(done + gap..).and_then(|rest| rest.first_chunk::<BLOCK>()) {
        let mut block = *source;
        xor(&mut block, &pattern);
        area[done..done + BLOCK].copy_from_slice(&block);
        done += BLOCK;
    }
    for (index, key) in (done..len).zip(pattern) {
        area[index] = area[index + gap] ^ key;
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

/// XORs one block.
fn xor(block: &mut [u8; BLOCK], pattern: &[u8; BLOCK]) {
    for (byte, key) in block.iter_mut().zip(pattern) {
        *byte ^= key;
    }
}
