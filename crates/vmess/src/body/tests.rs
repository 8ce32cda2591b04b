//! Vectors and properties of both halves.

use super::*;
use crate::{
    Command, Request,
    vectors::{bytes, protection, secrets, text, vectors},
};
use serde_json::Value;

/// What the vectors' padding is filled with.
const FILLER: [u8; 64] = [0xa5; 64];

fn seal(sealer: &mut ChunkSealer, payload: &[u8]) -> Vec<u8> {
    let at = sealer.head_len();
    let mut buf = vec![0; at + payload.len() + sealer.tail_max()];
    buf[at..at + payload.len()].copy_from_slice(payload);
    let wire = sealer.seal(&mut buf, at..at + payload.len(), &FILLER).unwrap();
    buf[wire].to_vec()
}

fn list(value: &Value) -> Vec<Vec<u8>> {
    value.as_array().unwrap().iter().map(bytes).collect()
}

#[test]
fn sessions_are_the_vectors() {
    let v = vectors("bodies");
    let mut seen = 0;
    for case in v["session"].as_array().unwrap() {
        let Some((security, options)) = protection(case) else {
            assert!(text(&case["name"]).starts_with("aes-128-cfb"));
            continue;
        };
        seen += 1;
        let request = Request { secrets: secrets(case), options, security, command: Command::Mux };
        for (direction, name) in [(Direction::Request, "up"), (Direction::Response, "down")] {
            let payloads = list(&case[format!("{name}_payloads")]);
            let mut chunks = list(&case[format!("{name}_chunks")]);
            let mut sealer = ChunkSealer::new(&request, direction).unwrap();
            assert_eq!(sealer.has_end_mark(), case["end_chunk_is_last"].as_bool().unwrap());
            let mut wire: Vec<_> = payloads.iter().map(|payload| seal(&mut sealer, payload)).collect();
            let mut end = Vec::new();
            sealer.end_mark(&mut end, &FILLER).unwrap();
            wire.extend(sealer.has_end_mark().then_some(end));
            assert_eq!(wire, chunks, "{} {name}", case["name"]);

            let mut opener = ChunkOpener::new(&request, direction).unwrap();
            let mut out = Vec::new();
            for (chunk, payload) in chunks.iter_mut().zip(&payloads) {
                let opened = opener.open(chunk, 0, &mut out);
                assert_eq!(opened.used, chunk.len());
                assert!(matches!(opened.outcome, Progress::NeedMore { .. }), "{opened:?}");
                assert_eq!(&chunk[out.pop().unwrap()], payload);
                assert_eq!(out, []);
            }
            if let Some(end) = chunks.get_mut(payloads.len()) {
                let opened = opener.open(end, 0, &mut out);
                assert_eq!(opened, Opened { used: end.len(), outcome: Progress::End });
                assert_eq!(out, []);
            }
        }
    }
    assert_eq!(seen, 15);
}
