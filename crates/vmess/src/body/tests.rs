//! Vectors and properties of both halves.

use super::*;
use crate::{
    Command, Options, Request, Security, Target,
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

fn session(security: Security, options: u8, command: Command) -> Request {
    let secrets = secrets(&vectors("bodies")["session"][0]);
    Request { secrets, options: Options::from_bits(options), security, command }
}

fn udp() -> Command {
    Command::Udp(Target { address: "127.0.0.1".parse().unwrap(), port: 53 })
}

fn sealer(request: &Request) -> ChunkSealer {
    ChunkSealer::new(request, Direction::Request).unwrap()
}

/// Opens `wire` in one piece: the payloads and why it stopped.
fn open(request: &Request, wire: &[u8]) -> (Vec<Vec<u8>>, Progress) {
    let (mut buf, mut out) = (wire.to_vec(), Vec::new());
    let mut opener = ChunkOpener::new(request, Direction::Request).unwrap();
    let outcome = opener.open(&mut buf, 0, &mut out).outcome;
    (out.into_iter().map(|range| buf[range].to_vec()).collect(), outcome)
}

#[test]
fn packets_are_the_vectors() {
    let case = &vectors("bodies")["udp_chunks"];
    let (security, options) = protection(case).unwrap();
    let request = session(security, options.bits(), udp());
    let mut sealer = sealer(&request);
    let packets = list(&case["packets"]);
    let wire: Vec<_> = packets.iter().map(|packet| seal(&mut sealer, packet)).collect();
    assert_eq!(wire, list(&case["chunks"]));
    assert_eq!(open(&request, &wire.concat()), (packets, Progress::NeedMore { missing: 2 }));
}

/// v2fly/v2ray-core `proxy/vmess/encoding/client.go`: without a cipher, padding goes to packets only. The
/// numbers are the SHAKE128 vectors' first two: 0x9327, whose padding is 39, and 0x16d3.
#[test]
fn unencrypted_packets_are_padded_and_unencrypted_streams_are_not() {
    let payload = b"query";
    let stream = session(Security::None, 0x0d, Command::Mux);
    let wire = seal(&mut sealer(&stream), payload);
    assert_eq!(wire, [&(0x0005_u16 ^ 0x9327).to_be_bytes(), payload.as_slice()].concat());
    assert_eq!(open(&stream, &wire).0, [payload]);

    let packets = session(Security::None, 0x0d, udp());
    let wire = seal(&mut sealer(&packets), payload);
    assert_eq!(wire, [&((5 + 39) ^ 0x16d3_u16).to_be_bytes(), payload.as_slice(), &[0xa5; 39]].concat());
    assert_eq!(open(&packets, &wire).0, [payload]);
}

#[test]
fn encrypted_bodies_are_cut_even_without_the_option() {
    let request = session(Security::Aes128Gcm, 0, Command::Mux);
    let wire = seal(&mut sealer(&request), b"x");
    assert_eq!(wire.len(), 2 + 1 + 16);
    assert_eq!(open(&request, &wire).0, [b"x"]);
}

#[test]
fn a_body_without_chunks_is_its_bytes_and_has_no_end() {
    let request = session(Security::None, 0, Command::Mux);
    let mut sealer = sealer(&request);
    assert_eq!((sealer.head_len(), sealer.tail_max(), sealer.has_end_mark()), (0, 0, false));
    assert_eq!(seal(&mut sealer, b"bytes"), b"bytes");
    let mut end = Vec::new();
    sealer.end_mark(&mut end, &FILLER).unwrap();
    assert_eq!(end, b"");
    assert_eq!(open(&request, b"bytes"), (vec![b"bytes".to_vec()], Progress::NeedMore { missing: 1 }));
    assert_eq!(open(&request, b""), (vec![], Progress::NeedMore { missing: 1 }));
}

#[test]
fn nonces_wrap_after_65536_chunks() {
    let request = session(Security::Aes128Gcm, 1, Command::Mux);
    let mut sealer = sealer(&request);
    let chunks: Vec<_> = (0..65_538).map(|_| seal(&mut sealer, b"same")).collect();
    assert_eq!(chunks[0], chunks[65_536]);
    assert_eq!(chunks[1], chunks[65_537]);
    assert_ne!(chunks[0], chunks[65_535]);
    let (payloads, _) = open(&request, &chunks.concat());
    assert_eq!(payloads.len(), 65_538);
    assert!(payloads.iter().all(|payload| payload == b"same"));
}

/// Three chunks and the end mark; in each of them every byte is damaged once.
#[test]
fn nothing_is_delivered_after_a_damaged_byte() {
    for security in [Security::Aes128Gcm, Security::ChaCha20Poly1305] {
        for options in [0x01, 0x05, 0x0d, 0x15, 0x1d] {
            let request = session(security, options, Command::Mux);
            let mut sealer = sealer(&request);
            let mut ends = Vec::new();
            let mut wire = Vec::new();
            for payload in [b"first".as_slice(), b"second", b"third"] {
                let chunk = seal(&mut sealer, payload);
                let sealed_end = wire.len() + sealer.head_len() + payload.len() + 16;
                wire.extend(chunk);
                ends.push((sealed_end, wire.len()));
            }
            let end_head = sealer.head_len();
            let start = wire.len();
            sealer.end_mark(&mut wire, &FILLER).unwrap();
            ends.push((start + end_head + 16, wire.len()));
            assert_eq!(open(&request, &wire).1, Progress::End);
            for at in 0..wire.len() {
                let mut damaged = wire.clone();
                damaged[at] ^= 1;
                let hit = ends.iter().position(|&(_, end)| at < end).unwrap();
                let (payloads, outcome) = open(&request, &damaged);
                if at >= ends[hit].0 {
                    assert_eq!((payloads.len(), outcome), (3, Progress::End), "padding at {at}");
                    continue;
                }
                assert_eq!(payloads.len(), hit, "{options} at {at}");
                assert_ne!(outcome, Progress::End, "{options} at {at}");
                if options & 0x10 != 0 {
                    assert!(matches!(outcome, Progress::Damaged(_)), "{options} at {at}");
                }
            }
        }
    }
}

#[test]
fn a_forged_end_mark_is_damage() {
    let request = session(Security::Aes128Gcm, 1, Command::Mux);
    let wire = seal(&mut sealer(&request), b"payload");
    // The size of an end mark, which V2Ray takes for one without looking further.
    let forged = [&[0, 16], &wire[2..]].concat();
    assert_eq!(open(&request, &forged), (vec![], Progress::Damaged(BodyError::Payload)));
    assert_eq!(open(&request, &forged[..17]), (vec![], Progress::NeedMore { missing: 1 }));
}

#[test]
fn sizes_that_no_chunk_has_are_damage() {
    let request = session(Security::Aes128Gcm, 1, Command::Mux);
    for size in 0..16_u8 {
        let error = BodyError::Length { found: size.into(), least: 16 };
        assert_eq!(open(&request, &[0, size, 1, 2]), (vec![], Progress::Damaged(error)));
    }
    // 39 is the first padding.
    let request = session(Security::None, 0x0d, udp());
    let error = BodyError::Length { found: 38, least: 39 };
    let wire = (0x0026_u16 ^ 0x16d3).to_be_bytes();
    assert_eq!(open(&request, &wire), (vec![], Progress::Damaged(error)));
}

/// A sealed size leaves out its own tag, so that 65,535 would mean 65,551.
#[test]
fn a_sealed_size_above_16_bits_is_damage() {
    let request = session(Security::Aes128Gcm, 0x15, Command::Mux);
    for (size, found) in [(65_535_u16, 65_551), (65_520, 65_536), (65_519, 65_535)] {
        let mut framing = framing::Framing::new(&request, Direction::Request).unwrap();
        let framing::Sizes::Sealed(cipher) = &mut framing.sizes else { panic!("not sealed") };
        let (key, nonce) = cipher.next();
        let mut wire = size.to_be_bytes().to_vec();
        key.seal_in_place_append_tag(nonce, aws_lc_rs::aead::Aad::empty(), &mut wire).unwrap();
        let expected = if found > 65_535 {
            Progress::Damaged(BodyError::Length { found, least: 16 })
        } else {
            Progress::NeedMore { missing: found }
        };
        assert_eq!(open(&request, &wire), (vec![], expected));
    }
}

#[test]
fn the_longest_chunk_is_read() {
    let request = session(Security::None, 1, Command::Mux);
    let wire = [vec![0xff; 2 + 65_535], vec![0, 0]].concat();
    assert_eq!(open(&request, &wire), (vec![vec![0xff; 65_535]], Progress::End));
    let packet = vec![3; 65_535 - 16 - 63];
    let request = session(Security::ChaCha20Poly1305, 0x1d, udp());
    assert_eq!(open(&request, &seal(&mut sealer(&request), &packet)).0, [packet]);
}

#[test]
fn a_chunk_of_a_stream_fits_one_tls_record_with_its_websocket_header() {
    for options in 0..32 {
        for security in [Security::Aes128Gcm, Security::ChaCha20Poly1305, Security::None] {
            let sealer = sealer(&session(security, options, Command::Mux));
            assert_eq!(sealer.max_payload(), MAX_PAYLOAD);
            assert!(14 + sealer.head_len() + MAX_PAYLOAD + sealer.tail_max() <= 16_384);
        }
    }
}

#[test]
fn a_callers_mistake_changes_nothing() {
    let request = session(Security::Aes128Gcm, 0x0d, udp());
    let mut sealer = sealer(&request);
    let mut buf = vec![0; 70_000];
    let room = SealError::Room { head: 2, tail: 79 };
    let end = buf.len();
    assert_eq!(sealer.seal(&mut buf, 1..5, &FILLER), Err(room));
    assert_eq!(sealer.seal(&mut buf, end - 80..end - 78, &FILLER), Err(room));
    assert_eq!(sealer.seal(&mut buf, end..end + 10, &FILLER), Err(room));
    assert_eq!(sealer.seal(&mut buf, 9..9, &FILLER), Err(SealError::Empty));
    let long = SealError::TooLong { found: 65_457, limit: 65_456 };
    assert_eq!(sealer.seal(&mut buf, 9..9 + 65_457, &FILLER), Err(long));
    assert_eq!(buf, vec![0; 70_000]);
    assert_eq!(seal(&mut sealer, b"one"), list(&vectors("bodies")["udp_chunks"]["chunks"])[0]);
}

/// What an idle session holds, besides the crypto library's own key schedules.
#[test]
fn idle_bodies_are_small() {
    assert!(size_of::<ChunkSealer>() <= 320, "{}", size_of::<ChunkSealer>());
    assert!(size_of::<ChunkOpener>() <= 384, "{}", size_of::<ChunkOpener>());
}

#[test]
fn debug_shows_nothing() {
    let request = session(Security::Aes128Gcm, 0x0d, udp());
    let opener = ChunkOpener::new(&request, Direction::Request).unwrap();
    assert_eq!(format!("{:?} {opener:?}", sealer(&request)), "ChunkSealer(…) ChunkOpener(…)");
}
