//! Early data against the vectors.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use serde_json::Value;
use wsray_ws::{EarlyDataError, accept_key, early_data::decode, early_data::encode};

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/handshake.json")).unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
}

#[test]
fn early_data_is_written_as_the_vectors_say() {
    for vector in vectors()["early_data"].as_array().unwrap() {
        let (bytes, base64) = (hex(text(vector, "data")), text(vector, "base64rawurl"));
        assert_eq!(encode(&bytes), base64);
        assert_eq!(decode(base64.as_bytes(), bytes.len()).unwrap(), bytes);
    }
}

#[test]
fn early_data_is_read_as_the_vectors_say() {
    let vectors = &vectors()["early_data_decode"];
    for vector in vectors["accept"].as_array().unwrap() {
        assert_eq!(decode(text(vector, "in").as_bytes(), 99), Ok(hex(text(vector, "out"))));
    }
    let lenient = vectors["xray_also_accepts"].as_array().unwrap();
    for vector in lenient {
        let plain = decode(text(vector, "as").as_bytes(), 99);
        assert!(plain.is_ok());
        assert_eq!(decode(text(vector, "in").as_bytes(), 99), plain);
    }
    for refused in vectors["reject"].as_array().unwrap() {
        let refused = refused.as_str().unwrap();
        // What V2Ray refuses and Xray takes, we take.
        let taken = lenient.iter().any(|vector| text(vector, "in") == refused);
        assert_eq!(decode(refused.as_bytes(), 99).is_ok(), taken, "{refused:?}");
    }
}

#[test]
fn padding_is_taken_only_where_it_belongs() {
    for right in ["AA==", "AA=", "AAA=", "AAAA", "AA"] {
        assert!(decode(right.as_bytes(), 9).is_ok(), "{right:?}");
    }
    for wrong in ["=", "AAAA=", "AAA==", "AA===", "A===", "A=AA", "=AAA"] {
        assert!(decode(wrong.as_bytes(), 9).is_err(), "{wrong:?}");
    }
}

#[test]
fn characters_of_neither_alphabet_are_refused_with_their_place() {
    for wrong in [" ", ",", "%", "\n", "\t", ".", "~", "\u{e9}", "\0"] {
        let text = format!("AAAA{wrong}AAAAAA");
        let found = decode(text.as_bytes(), 99);
        assert!(
            matches!(found, Err(EarlyDataError::Character { at: 4 } | EarlyDataError::Length { .. })),
            "{wrong:?}: {found:?}"
        );
    }
    assert_eq!(decode(b"AAAA%AAA", 99), Err(EarlyDataError::Character { at: 4 }));
}

#[test]
fn early_data_above_the_limit_is_refused() {
    assert_eq!(decode(b"AAAAAAAA", 6).map(|bytes| bytes.len()), Ok(6));
    assert_eq!(decode(b"AAAAAAAA", 5), Err(EarlyDataError::TooLong { found: 6, limit: 5 }));
    assert_eq!(decode(b"AAAAAA==", 3), Err(EarlyDataError::TooLong { found: 4, limit: 3 }));
}

#[test]
fn accept_key_is_that_of_rfc_6455() {
    for vector in vectors()["ws_accept"].as_array().unwrap() {
        assert_eq!(accept_key(text(vector, "key")), text(vector, "accept"));
    }
}
