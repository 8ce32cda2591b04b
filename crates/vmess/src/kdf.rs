//! The hashes and key derivations VMess is made of.

use md5::Md5;
use sha2::{Digest, Sha256, block_api::compress256};
use std::slice;
use zeroize::{Zeroize, Zeroizing};

/// The salts of VMess AEAD (v2fly/v2ray-core `proxy/vmess/aead/consts.go`).
pub(crate) mod salt {
    pub(crate) const AUTH_ID: &[u8] = b"AES Auth ID Encryption";
    pub(crate) const REQUEST_LEN_KEY: &[u8] = b"VMess Header AEAD Key_Length";
    pub(crate) const REQUEST_LEN_NONCE: &[u8] = b"VMess Header AEAD Nonce_Length";
    pub(crate) const REQUEST_KEY: &[u8] = b"VMess Header AEAD Key";
    pub(crate) const REQUEST_NONCE: &[u8] = b"VMess Header AEAD Nonce";
    pub(crate) const RESPONSE_LEN_KEY: &[u8] = b"AEAD Resp Header Len Key";
    pub(crate) const RESPONSE_LEN_NONCE: &[u8] = b"AEAD Resp Header Len IV";
    pub(crate) const RESPONSE_KEY: &[u8] = b"AEAD Resp Header Key";
    pub(crate) const RESPONSE_NONCE: &[u8] = b"AEAD Resp Header IV";
    /// v2fly/v2ray-core `proxy/vmess/encoding/client.go`.
    pub(crate) const BODY_LEN_KEY: &[u8] = b"auth_len";
}

/// The innermost salt (v2fly/v2ray-core `proxy/vmess/aead/consts.go`).
const ROOT_SALT: &[u8] = b"VMess AEAD KDF";

/// SHA-256's block length in bytes (FIPS 180-4), which is HMAC's too.
const BLOCK_LEN: usize = 64;

/// SHA-256's initial hash value (FIPS 180-4, section 5.3.3).
const INITIAL: State =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// SHA-256 after some whole blocks.
type State = [u32; 8];

/// VMess's nested HMAC-SHA256 (v2fly/v2ray-core `proxy/vmess/aead/kdf.go`). `key` has at most 55 bytes and
/// each element of `path` at most 64; more would be cut off.
///
/// With `H0 = HMAC-SHA256(root salt)` and `Hi = HMAC(path[i - 1])` over `H(i-1)`, the result is
/// `Hn(key)`. Unrolled, that is a chain of 2^(n+1) plain SHA-256 hashes, each over some pads and the hash
/// before it: bit `k` of a hash's number says whether level `k` is at its inner (0) or its outer pad, and a
/// level's pad is hashed only where all lower levels are at their inner one. Blocks are compressed directly,
/// since the hash's own buffering would double the time.
pub(crate) fn kdf(key: &[u8], path: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let [inner_root, outer_root] = [INNER, OUTER].map(|kind| absorb(INITIAL, &pad(ROOT_SALT, kind)));
    let first_level =
        path.first().map(|salt| [INNER, OUTER].map(|kind| absorb(inner_root, &pad(salt, kind))));
    let mut digest = Zeroizing::new([0; 32]);
    let mut last = Zeroizing::new([0; BLOCK_LEN]);
    for number in 0_usize..2 << path.len() {
        let (mut state, mut blocks) = match &first_level {
            _ if number & 1 == 1 => (outer_root, 1_u64),
            Some(states) => (states[number >> 1 & 1], 2),
            None => (inner_root, 1),
        };
        for (salt, level) in path.iter().zip(1_u32..).skip(1) {
            if number.trailing_zeros() < level {
                break;
            }
            let kind = if number >> level & 1 == 1 { OUTER } else { INNER };
            state = absorb(state, &pad(salt, kind));
            blocks += 1;
        }
        let message = if number == 0 { key } else { digest.as_slice() };
        finish(&mut last, message, blocks);
        for (bytes, word) in digest.chunks_exact_mut(4).zip(absorb(state, &last)) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
    }
    digest
}

fn absorb(mut state: State, block: &[u8; BLOCK_LEN]) -> State {
    compress256(&mut state, slice::from_ref(block));
    state
}

/// Makes the last block of a hash: the message, SHA-256's padding and the length, counting `blocks` before
/// it (FIPS 180-4, section 5.1.1).
fn finish(last: &mut [u8; BLOCK_LEN], message: &[u8], blocks: u64) {
    last.fill(0);
    let mut len = 0;
    for (to, from) in last.iter_mut().zip(message) {
        *to = *from;
        len += 1;
    }
    if let Some(end) = last.get_mut(message.len()) {
        *end = 0x80;
    }
    let bits = (blocks * BLOCK_LEN as u64 + len) * 8;
    last[56..].copy_from_slice(&bits.to_be_bytes());
}

/// HMAC's two pads (RFC 2104, section 2).
const INNER: u8 = 0x36;
const OUTER: u8 = 0x5c;

fn pad(salt: &[u8], kind: u8) -> [u8; BLOCK_LEN] {
    let mut block = [kind; BLOCK_LEN];
    for (byte, salt) in block.iter_mut().zip(salt) {
        *byte ^= salt;
    }
    block
}

/// The first 16 bytes of [`kdf`]: a key.
pub(crate) fn kdf16(key: &[u8], path: &[&[u8]]) -> Zeroizing<[u8; 16]> {
    let mut short = Zeroizing::new([0; 16]);
    short.copy_from_slice(&kdf(key, path)[..16]);
    short
}

/// The first 12 bytes of [`kdf`]: a nonce.
pub(crate) fn kdf12(key: &[u8], path: &[&[u8]]) -> [u8; 12] {
    let mut short = [0; 12];
    short.copy_from_slice(&kdf(key, path)[..12]);
    short
}

/// FNV-1a, 32 bits.
pub(crate) fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The MD5 of all `parts` together.
pub(crate) fn md5(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Md5::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// A 32-byte key for `ChaCha20` from a 16-byte one (v2fly/v2ray-core `proxy/vmess/encoding/auth.go`).
pub(crate) fn chacha_key(key: &[u8; 16]) -> Zeroizing<[u8; 32]> {
    let mut long = Zeroizing::new([0; 32]);
    let mut half = md5(&[key]);
    long[..16].copy_from_slice(&half);
    half = md5(&[&half]);
    long[16..].copy_from_slice(&half);
    half.zeroize();
    long
}

/// The first half of a SHA-256: the response's key and IV from the request's.
pub(crate) fn sha256_16(input: &[u8; 16]) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&Sha256::digest(input)[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{bytes, hex, text, vectors};

    /// A path element: text, or `hex:` and bytes.
    fn element(value: &serde_json::Value) -> Vec<u8> {
        let value = text(value);
        value.strip_prefix("hex:").map_or_else(|| value.as_bytes().to_vec(), hex)
    }

    #[test]
    fn kdf_gives_the_vectors_of_zero_one_and_three_levels() {
        let v = vectors("keys");
        let one = v["kdf_one_salt"].as_array().unwrap();
        for case in one {
            let salt = text(&case["salt"]).as_bytes();
            assert_eq!(kdf(&bytes(&case["key"]), &[salt]).as_slice(), bytes(&case["out32"]), "{case}");
        }
        for case in v["kdf_three_level"].as_array().unwrap() {
            let path: Vec<_> = case["path"].as_array().unwrap().iter().map(element).collect();
            let path: Vec<_> = path.iter().map(Vec::as_slice).collect();
            assert_eq!(kdf(&bytes(&case["key"]), &path).as_slice(), bytes(&case["out32"]), "{case}");
        }
        let case = &v["kdf_root_only"];
        assert_eq!(kdf(&bytes(&case["key"]), &[]).as_slice(), bytes(&case["out32"]));
        let case = &v["kdf_cross_check"];
        let path: Vec<_> =
            case["path_ascii"].as_array().unwrap().iter().map(|p| text(p).as_bytes()).collect();
        assert_eq!(kdf(text(&case["key_ascii"]).as_bytes(), &path).as_slice(), bytes(&case["out32"]));
    }

    #[test]
    fn short_hashes_give_the_vectors() {
        let v = vectors("keys");
        for case in v["fnv1a32"].as_array().unwrap() {
            assert_eq!(fnv1a(&bytes(&case["in"])).to_be_bytes().as_slice(), bytes(&case["out"]), "{case}");
        }
        for case in v["chacha20_key_expand"].as_array().unwrap() {
            let key = bytes(&case["in16"]).try_into().unwrap();
            assert_eq!(chacha_key(&key).as_slice(), bytes(&case["out32"]), "{case}");
        }
        let case = &v["response_keys"];
        for (from, to) in [("body_key", "response_key"), ("body_iv", "response_iv")] {
            let from = bytes(&case[from]).try_into().unwrap();
            assert_eq!(sha256_16(&from).as_slice(), bytes(&case[to]));
        }
    }
}
