//! The test vectors under `vectors/`, and how to read them.

use crate::{Options, Secrets, Security};
use data_encoding::HEXLOWER;
use serde_json::Value;

/// `vectors/{name}.json`.
pub(crate) fn vectors(name: &str) -> Value {
    let json = match name {
        "keys" => include_str!("../vectors/keys.json"),
        "headers" => include_str!("../vectors/headers.json"),
        "bodies" => include_str!("../vectors/bodies.json"),
        "mux" => include_str!("../vectors/mux.json"),
        other => panic!("no vectors {other}"),
    };
    serde_json::from_str(json).unwrap()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).unwrap()
}

pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    hex(text(value))
}

pub(crate) fn number<T: TryFrom<u64, Error: std::fmt::Debug>>(value: &Value) -> T {
    value.as_u64().unwrap().try_into().unwrap()
}

/// `body_key` and `body_iv` of a case; `response_auth`, or 0x77 as all the vectors have.
pub(crate) fn secrets(case: &Value) -> Secrets {
    Secrets {
        body_key: bytes(&case["body_key"]).try_into().unwrap(),
        body_iv: bytes(&case["body_iv"]).try_into().unwrap(),
        response_auth: case["response_auth"].as_u64().map_or(0x77, |auth| auth.try_into().unwrap()),
    }
}

/// `option` and `security` of a case; `None` where wsray does not speak that security.
pub(crate) fn protection(case: &Value) -> Option<(Security, Options)> {
    Some((Security::from_wire(number(&case["security"]))?, Options::from_bits(number(&case["option"]))))
}
