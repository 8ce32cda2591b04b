//! The response's header.

use crate::{
    CryptoError, MAX_HEADER_LEN, Secrets, Step,
    aead::{TAG_LEN, aes_gcm, open_in_place},
    kdf::{kdf12, kdf16, salt, sha256_16},
};
use aws_lc_rs::aead::{Aad, Nonce};

/// The length of the response header that [`seal_response`] makes, in bytes.
pub const RESPONSE_LEN: usize = SEALED_LEN_LEN + MIN_PLAIN_LEN + TAG_LEN;

/// What a response's header tells: little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Response {
    /// The command; 0 is none. 1 (switch account) and all others are ignored, here as in sing-box.
    pub command: u8,
    /// The options, which clients ignore. sing-box repeats those of the request, V2Ray and Xray send 0, wsray may send
    /// [`PASSES_ENDS_ON`].
    pub options: u8,
}

/// wsray's own option of a response, for Mux.Cool: the end of a session's way up is passed on, and its way down goes on.
/// No option of a request is like it, and V2Ray, Xray and sing-box do not look.
pub const PASSES_ENDS_ON: u8 = 0x80;

/// The wire form of the response to a request with these secrets: no command, and 0 or [`PASSES_ENDS_ON`] as options.
///
/// # Errors
/// When the crypto library fails.
pub fn seal_response(secrets: &Secrets, options: u8) -> Result<[u8; RESPONSE_LEN], CryptoError> {
    let mut out = [0; RESPONSE_LEN];
    out[SEALED_LEN_LEN] = secrets.response_auth;
    out[SEALED_LEN_LEN + 1] = options;
    seal_plain(secrets, &mut out)?;
    Ok(out)
}

/// Seals the plaintext in `out` and puts its length in front: 18 bytes go before it and 16 behind.
fn seal_plain(secrets: &Secrets, out: &mut [u8]) -> Result<(), CryptoError> {
    let (key, iv) = (sha256_16(&secrets.body_key), sha256_16(&secrets.body_iv));
    let (len, plain) = out.split_at_mut(SEALED_LEN_LEN);
    let plain_len = u16::try_from(plain.len() - TAG_LEN).unwrap_or(u16::MAX);
    len[..2].copy_from_slice(&plain_len.to_be_bytes());
    for (part, key_salt, nonce_salt) in [
        (len, salt::RESPONSE_LEN_KEY, salt::RESPONSE_LEN_NONCE),
        (plain, salt::RESPONSE_KEY, salt::RESPONSE_NONCE),
    ] {
        let nonce = Nonce::assume_unique_for_key(kdf12(&iv, &[nonce_salt]));
        let (text, tag) = part.split_at_mut(part.len() - TAG_LEN);
        let made =
            aes_gcm(&kdf16(&key, &[key_salt]))?.seal_in_place_separate_tag(nonce, Aad::empty(), text)?;
        tag.copy_from_slice(made.as_ref());
    }
    Ok(())
}

/// Opens the response to a request with these secrets. A command and everything behind it are skipped.
///
/// # Errors
/// See [`ResponseError`].
pub fn open_response(input: &[u8], secrets: &Secrets) -> Result<Step<Response>, ResponseError> {
    let (key, iv) = (sha256_16(&secrets.body_key), sha256_16(&secrets.body_iv));
    let Some(sealed_len) = input.first_chunk::<SEALED_LEN_LEN>() else { return Ok(Step::NeedMore) };
    let mut sealed_len = *sealed_len;
    let length_key = aes_gcm(&kdf16(&key, &[salt::RESPONSE_LEN_KEY]))?;
    let length_nonce = kdf12(&iv, &[salt::RESPONSE_LEN_NONCE]);
    let len = match open_in_place(&length_key, length_nonce, &[], &mut sealed_len) {
        Some([high, low]) => usize::from(u16::from_be_bytes([*high, *low])),
        _ => return Err(ResponseError::NotOurs),
    };
    if !(MIN_PLAIN_LEN..=MAX_HEADER_LEN).contains(&len) {
        return Err(ResponseError::Length { found: len });
    }
    let used = SEALED_LEN_LEN + len + TAG_LEN;
    let Some(sealed) = input.get(SEALED_LEN_LEN..used) else { return Ok(Step::NeedMore) };
    let mut sealed = sealed.to_vec();
    let header_key = aes_gcm(&kdf16(&key, &[salt::RESPONSE_KEY]))?;
    let header_nonce = kdf12(&iv, &[salt::RESPONSE_NONCE]);
    match open_in_place(&header_key, header_nonce, &[], &mut sealed) {
        Some([auth, options, command, _command_len, ..]) if *auth == secrets.response_auth => {
            Ok(Step::Done { used, value: Response { command: *command, options: *options } })
        }
        Some(_) => Err(ResponseError::Auth),
        None => Err(ResponseError::Damaged),
    }
}

/// The sealed length in front of the sealed header.
const SEALED_LEN_LEN: usize = 2 + TAG_LEN;

/// Response auth, options, command, the command's length.
const MIN_PLAIN_LEN: usize = 4;

/// Why a response is refused: the server's fault, or that of somebody on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// The first bytes do not open.
    #[error("the answer is not a VMess response to our request: it is damaged, or no VMess server sent it")]
    NotOurs,
    /// The rest does not open.
    #[error("the response's header is damaged")]
    Damaged,
    /// The response answers another request.
    #[error("the response has another authentication byte than our request")]
    Auth,
    /// Too short to be one, or absurdly long.
    #[error("the response's header has {found} bytes, expected {MIN_PLAIN_LEN} to {MAX_HEADER_LEN}")]
    Length {
        /// Its length.
        found: usize,
    },
    /// Our own failure.
    #[error("cannot open the response")]
    Crypto(#[from] CryptoError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{bytes, secrets, vectors};

    #[test]
    fn responses_are_the_vectors() {
        let v = vectors("headers");
        let secrets = secrets(&v["response_keys"]);
        let cases = v["response_header"].as_array().unwrap();
        assert_eq!(seal_response(&secrets, 0).unwrap().as_slice(), bytes(&cases[0]["sealed"]));
        for case in cases {
            let sealed = bytes(&case["sealed"]);
            for cut in 0..sealed.len() {
                assert_eq!(open_response(&sealed[..cut], &secrets), Ok(Step::NeedMore), "{cut}");
            }
            let options = bytes(&case["plain"])[1];
            let done = Step::Done { used: sealed.len(), value: Response { command: 0, options } };
            assert_eq!(open_response(&sealed, &secrets), Ok(done.clone()));
            assert_eq!(open_response(&[sealed, vec![0; 9]].concat(), &secrets), Ok(done));
        }
    }

    #[test]
    fn a_response_that_is_not_ours_is_refused() {
        let mut secrets = secrets(&vectors("headers")["response_keys"]);
        let sealed = seal_response(&secrets, 0).unwrap();
        for at in 0..sealed.len() {
            let mut damaged = sealed;
            damaged[at] ^= 1;
            let expected = if at < 18 { ResponseError::NotOurs } else { ResponseError::Damaged };
            assert_eq!(open_response(&damaged, &secrets), Err(expected));
        }
        secrets.response_auth ^= 1;
        assert_eq!(open_response(&sealed, &secrets), Err(ResponseError::Auth));
        secrets.body_key[0] ^= 1;
        assert_eq!(open_response(&sealed, &secrets), Err(ResponseError::NotOurs));
    }

    #[test]
    fn options_arrive_as_sent() {
        let secrets = secrets(&vectors("headers")["response_keys"]);
        let sealed = seal_response(&secrets, PASSES_ENDS_ON).unwrap();
        let response = Response { command: 0, options: 0x80 };
        assert_eq!(open_response(&sealed, &secrets), Ok(Step::Done { used: RESPONSE_LEN, value: response }));
    }

    fn open_plain(plain: &[u8]) -> Result<Step<Response>, ResponseError> {
        let secrets = secrets(&vectors("headers")["response_keys"]);
        let mut sealed = [&[0; 18], plain, &[0; 16]].concat();
        seal_plain(&secrets, &mut sealed).unwrap();
        open_response(&sealed, &secrets)
    }

    #[test]
    fn a_command_is_skipped_whatever_is_in_it() {
        // Command 1 with a sum, an empty host, and less than its length says.
        let plain = [0x77, 0, 1, 40, 0xde, 0xad, 0xbe, 0xef, 0];
        let response = Response { command: 1, options: 0 };
        assert_eq!(open_plain(&plain), Ok(Step::Done { used: 18 + 9 + 16, value: response }));
    }

    #[test]
    fn a_response_of_absurd_length_is_refused() {
        for found in [0, 3, 2049, 65_535] {
            assert_eq!(open_plain(&vec![0x77; found]), Err(ResponseError::Length { found }));
        }
        for found in [4, 2048] {
            assert!(open_plain(&vec![0x77; found]).is_ok(), "{found}");
        }
    }
}
