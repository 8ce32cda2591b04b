//! What bulk transfers carry: a block of distinct words, repeated. Its period is no multiple of any usual buffer, so
//! that lost, doubled and exchanged buffers do not match.

use std::{
    io::{self, Read, Write},
    sync::LazyLock,
};

/// Words of the block: a prime.
const WORDS: u64 = 131_101;

const PERIOD: usize = 8 * 131_101;

/// One call of the system.
const CALL: usize = 256 * 1024;

/// Every so many bytes eight are compared; comparing all would cost more than some proxies do.
const STEP: usize = 1024;

/// Twice the block, so that what wraps around is one slice too.
static BLOCK: LazyLock<Vec<u8>> = LazyLock::new(|| {
    // splitmix64, so that neighbours share nothing (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
    // Generators, 2014).
    let word = |n: u64| {
        let mut z = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    };
    (0..WORDS).chain(0..WORDS).flat_map(word).collect()
});

/// `len` bytes, at most a period, from `offset` on.
pub(crate) fn at(offset: usize, len: usize) -> &'static [u8] {
    let start = offset % PERIOD;
    &BLOCK[start..start + len]
}

fn matches(offset: usize, got: &[u8]) -> bool {
    let expected = at(offset, got.len());
    let (first, last) = (got.len().min(16), got.len().saturating_sub(16));
    got[..first] == expected[..first]
        && got[last..] == expected[last..]
        && (0..got.len().saturating_sub(8)).step_by(STEP).all(|at| got[at..at + 8] == expected[at..at + 8])
}

pub(crate) fn send(to: &mut impl Write, offset: usize, len: usize) -> io::Result<()> {
    let mut sent = 0;
    while sent < len {
        sent += to.write(at(offset + sent, CALL.min(len - sent)))?;
    }
    Ok(())
}

/// Whether all of it is right; an error when it is not all there.
pub(crate) fn receive(from: &mut impl Read, offset: usize, len: usize) -> io::Result<bool> {
    let mut buf = vec![0; CALL];
    let (mut got, mut right) = (0, true);
    while got < len {
        let space = CALL.min(len - got);
        let read = from.read(&mut buf[..space])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        right &= matches(offset + got, &buf[..read]);
        got += read;
    }
    Ok(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_taken_and_faults_are_seen() {
        let good = at(12_345, 70_000);
        assert!(matches(12_345, good));
        assert!(receive(&mut &*good, 12_345, 70_000).unwrap());
        assert!(receive(&mut &*good, 12_345, 70_001).is_err());
        for wrong in [12_344, 12_346, 12_345 + 4096, 12_345 + 65_536, 12_345 + CALL] {
            assert!(!matches(wrong, good), "{wrong}");
        }
        let mut out = Vec::new();
        send(&mut out, 99, 3 * CALL + 5).unwrap();
        assert_eq!(out.len(), 3 * CALL + 5);
        assert!(receive(&mut out.as_slice(), 99, out.len()).unwrap());
    }
}
