//! The two AEADs, and what a failing crypto library looks like.

use aws_lc_rs::{
    aead::{AES_128_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    error::Unspecified,
};

/// The length of a tag of either AEAD, in bytes.
pub(crate) const TAG_LEN: usize = 16;

/// The crypto library refused to make a key or to seal: out of memory, no fault of any peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the crypto library failed")]
pub struct CryptoError;

impl From<Unspecified> for CryptoError {
    fn from(_: Unspecified) -> Self {
        Self
    }
}

/// AES-128-GCM with this key.
pub(crate) fn aes_gcm(key: &[u8; 16]) -> Result<LessSafeKey, CryptoError> {
    unbound(&AES_128_GCM, key)
}

/// ChaCha20-Poly1305 with this key.
pub(crate) fn chacha(key: &[u8; 32]) -> Result<LessSafeKey, CryptoError> {
    unbound(&CHACHA20_POLY1305, key)
}

fn unbound(algorithm: &'static Algorithm, key: &[u8]) -> Result<LessSafeKey, CryptoError> {
    Ok(LessSafeKey::new(UnboundKey::new(algorithm, key)?))
}

/// Appends sealed `plain` and its tag to `out`.
pub(crate) fn seal_onto(
    key: &LessSafeKey,
    nonce: [u8; 12],
    aad: &[u8],
    plain: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CryptoError> {
    let start = out.len();
    out.extend_from_slice(plain);
    let tag = key.seal_in_place_separate_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(aad),
        &mut out[start..],
    )?;
    out.extend_from_slice(tag.as_ref());
    Ok(())
}

/// Opens `sealed`, whose last 16 bytes are the tag, in place; `None` where it does not open.
pub(crate) fn open_in_place<'a>(
    key: &LessSafeKey,
    nonce: [u8; 12],
    aad: &[u8],
    sealed: &'a mut [u8],
) -> Option<&'a mut [u8]> {
    key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), sealed).ok()
}
