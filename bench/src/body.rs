//! VMess chunks.

use std::hint::black_box;

use wsray_vmess::{
    ChunkOpener, ChunkSealer, Command, Direction, MAX_PAYLOAD, Options, Request, Secrets, Security, Target,
};

use crate::{Case, Turn, done, header::target, payload, refill};

/// What V2Ray's clients ask for: chunks, masked lengths, padding.
const OPTIONS: u8 = 0x0d;

/// A V2Ray peer's chunk, and ours.
const SIZES: [usize; 2] = [2 * 1024, MAX_PAYLOAD];

/// Chunks of a batch, so that what is done once a batch weighs as it does in the program.
const BATCH: usize = 16;

const RANDOM: [u8; 64] = [0x6b; 64];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, security) in
        [("gcm", Security::Aes128Gcm), ("chacha", Security::ChaCha20Poly1305), ("none", Security::None)]
    {
        for size in SIZES {
            cases.push(Case::new(format!("chunk_seal_{name}_{size}"), size, move || sealing(security, size)));
            cases.push(Case::new(format!("chunks_open_{name}_{BATCH}x{size}"), BATCH * size, move || {
                opening(security, size)
            }));
        }
    }
    cases
}

pub(crate) fn request(security: Security, target: Target) -> Request {
    Request {
        secrets: Secrets { body_key: [1; 16], body_iv: [2; 16], response_auth: 3 },
        options: Options::from_bits(OPTIONS),
        security,
        command: Command::Tcp(target),
    }
}

fn sealing(security: Security, size: usize) -> Turn {
    let mut sealer = done(ChunkSealer::new(&request(security, target()), Direction::Request));
    let at = sealer.head_len();
    let mut buf = vec![0; at];
    buf.extend(payload(size));
    buf.resize(at + size + sealer.tail_max(), 0);
    Box::new(move || {
        black_box(done(sealer.seal(black_box(&mut buf), at..at + size, &RANDOM)));
    })
}

/// Opening is in place and in order, so each turn starts with a copy and a new opener.
fn opening(security: Security, size: usize) -> Turn {
    let request = request(security, target());
    let mut sealer = done(ChunkSealer::new(&request, Direction::Request));
    let mut wire = Vec::new();
    for _ in 0..BATCH {
        let at = sealer.head_len();
        let mut buf = vec![0; at];
        buf.extend(payload(size));
        buf.resize(at + size + sealer.tail_max(), 0);
        let chunk = done(sealer.seal(&mut buf, at..at + size, &RANDOM));
        wire.extend_from_slice(&buf[chunk]);
    }
    let (mut buf, mut payloads) = (wire.clone(), Vec::new());
    Box::new(move || {
        refill(&mut buf, &wire);
        payloads.clear();
        let mut opener = done(ChunkOpener::new(&request, Direction::Request));
        opener.open(black_box(&mut buf), 0, &mut payloads);
        assert_eq!(payloads.len(), BATCH, "a chunk did not open");
    })
}
