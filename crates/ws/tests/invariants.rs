//! The invariants with awkward and with random input.

mod support;

use proptest::prelude::*;
use support::frame;
use wsray_ws::{Role, invariants};

proptest! {
    #[test]
    fn masking_equals_xor_byte_by_byte(
        bytes in prop::collection::vec(any::<u8>(), 0..700), key: [u8; 4], offset: u64, gap in 0usize..300,
    ) {
        invariants::masking_is_bytewise(&bytes, key, offset, gap);
    }

    #[test]
    fn sealed_payload_is_decoded_unchanged(
        payload in prop::collection::vec(any::<u8>(), 0..700), key: Option<[u8; 4]>, cut: usize,
    ) {
        invariants::sealed_payload_comes_back(&payload, key, cut);
    }

    #[test]
    fn frames_cut_anywhere_decode_the_same(
        frames in prop::collection::vec(frame(), 0..12), sizes in prop::collection::vec(0u8..20, 0..40),
    ) {
        invariants::decoding_ignores_splits(Role::Server, &frames.concat(), &sizes);
    }

    #[test]
    fn random_bytes_decode_the_same_however_cut(
        bytes in prop::collection::vec(any::<u8>(), 0..300), sizes in prop::collection::vec(0u8..20, 0..40),
    ) {
        invariants::decoding_ignores_splits(Role::Client, &bytes, &sizes);
        invariants::decoding_ignores_splits(Role::Server, &bytes, &sizes);
    }

    #[test]
    fn text_that_is_let_through_is_utf8(frames in prop::collection::vec(frame(), 0..12)) {
        invariants::validated_text_is_utf8(Role::Server, &frames.concat());
    }

    #[test]
    fn early_data_is_decoded_unchanged(bytes in prop::collection::vec(any::<u8>(), 0..300), limit in 0usize..300) {
        invariants::early_data_comes_back(&bytes, limit);
    }

    #[test]
    fn base64_like_text_never_exceeds_the_limit(text in "[A-Za-z0-9+/_-]{0,40}={0,3}", limit in 0usize..40) {
        invariants::early_data_comes_back(text.as_bytes(), limit);
    }

    #[test]
    fn handshake_brings_early_data_across(
        path in prop_oneof!["[a-z/ %#?üA-Z0-9.]{0,20}", ".{0,20}"],
        early in prop::collection::vec(any::<u8>(), 0..400), max_bytes: u16, key: [u8; 16],
    ) {
        invariants::handshake_carries_early_data(&path, &early, max_bytes, key);
    }

    #[test]
    fn request_like_text_is_taken_whole(
        target in "/ray[A-Za-z0-9_?%.-]{0,30}|[ -~]{0,20}", header in "[A-Za-z-]{1,12}: [ -~]{0,20}", cut: usize,
    ) {
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n{header}\r\n\r\nbehind",
        );
        invariants::requests_are_taken_whole(head.as_bytes(), cut);
    }

    #[test]
    fn random_heads_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), key: [u8; 16], cut: usize) {
        invariants::requests_are_taken_whole(&bytes, cut);
        invariants::responses_are_taken_whole(&bytes, key, cut);
        let status = [b"HTTP/1.1 404 ", bytes.as_slice(), b"\r\nServer: \x1b[2J\r\n\r\n"].concat();
        invariants::responses_are_taken_whole(&status, key, cut);
    }
}

#[test]
fn early_data_of_every_length_comes_back() {
    for len in 0..300 {
        invariants::early_data_comes_back(&vec![0xFB; len], len);
    }
}

#[test]
fn large_payloads_come_back() {
    for len in [125, 126, 65_535, 65_536, 200_000] {
        for key in [None, Some([1, 2, 3, 4])] {
            for cut in [1, 2, 9, 13, 14, 15] {
                invariants::sealed_payload_comes_back(&vec![7; len], key, cut);
            }
        }
    }
}
