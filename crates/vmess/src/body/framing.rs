//! What sealing and opening share: keys, nonces, sizes, padding.

use super::MAX_PADDING;
use crate::{
    Command, CryptoError, Options, Request, Security,
    aead::{TAG_LEN, aes_gcm, chacha},
    kdf::{chacha_key, kdf16, salt, sha256_16},
};
use aws_lc_rs::aead::{LessSafeKey, Nonce};
use shake::{ExtendableOutput, Shake128, Shake128Reader, Update, XofReader};
use zeroize::Zeroizing;

/// Which of a session's two streams it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the server.
    Request,
    /// From the server to the client.
    Response,
}

/// How a body is cut and protected, and how far along it is.
pub(super) struct Framing {
    /// `None`: the payload is not encrypted.
    pub(super) cipher: Option<Cipher>,
    pub(super) sizes: Sizes,
    shake: Option<Shake128Reader>,
    padding: bool,
    pub(super) end_mark: bool,
    pub(super) packets: bool,
}

/// How the size in front of a chunk is written.
pub(super) enum Sizes {
    /// There are no chunks.
    Raw,
    /// Two bytes.
    Plain,
    /// Two bytes, XOR a number from SHAKE128.
    Masked,
    /// Two bytes less a tag, sealed.
    Sealed(Cipher),
}

/// A key and the nonces it is used with, in order.
pub(super) struct Cipher {
    key: LessSafeKey,
    /// Wraps to 0 after 65535, as in all implementations.
    counter: u16,
    iv: [u8; 10],
}

impl Framing {
    pub(super) fn new(request: &Request, direction: Direction) -> Result<Self, CryptoError> {
        let secrets = &request.secrets;
        let (key, iv) = match direction {
            Direction::Request => (Zeroizing::new(secrets.body_key), secrets.body_iv),
            Direction::Response => {
                (Zeroizing::new(sha256_16(&secrets.body_key)), sha256_16(&secrets.body_iv))
            }
        };
        let options = request.options;
        let packets = matches!(request.command, Command::Udp(_));
        let chunked = options.contains(Options::CHUNK_STREAM);
        let masked = options.contains(Options::MASKING);
        // V2Ray cuts the encrypted bodies into chunks whatever the options say.
        let (sizes, padding) = match request.security {
            Security::None if !chunked => (Sizes::Raw, false),
            // V2Ray pads unencrypted packets, but not unencrypted streams.
            Security::None => (Sizes::masked_if(masked), packets && options.contains(Options::PADDING)),
            security => {
                let padding = options.contains(Options::PADDING);
                if options.contains(Options::AUTHENTICATED_LENGTH) {
                    // Both directions use the request's key and IV.
                    let key = kdf16(&secrets.body_key, &[salt::BODY_LEN_KEY]);
                    let cipher = Cipher::new(security, &key, &secrets.body_iv)?;
                    (cipher.map_or(Sizes::Plain, Sizes::Sealed), padding)
                } else {
                    (Sizes::masked_if(masked), padding)
                }
            }
        };
        let random = padding || matches!(sizes, Sizes::Masked);
        Ok(Self {
            cipher: Cipher::new(request.security, &key, &iv)?,
            shake: random.then(|| Shake128::default().chain(iv).finalize_xof()),
            sizes,
            padding,
            end_mark: chunked,
            packets,
        })
    }

    /// How long the size in front of a chunk is; 0 where there are no chunks.
    pub(super) const fn head_len(&self) -> usize {
        match self.sizes {
            Sizes::Raw => 0,
            Sizes::Plain | Sizes::Masked => 2,
            Sizes::Sealed(_) => 2 + TAG_LEN,
        }
    }

    /// How long the tag behind a payload is.
    pub(super) const fn tag_len(&self) -> usize {
        if self.cipher.is_some() { TAG_LEN } else { 0 }
    }

    /// The most bytes behind a payload.
    pub(super) const fn tail_max(&self) -> usize {
        self.tag_len() + if self.padding { MAX_PADDING } else { 0 }
    }

    /// The next chunk's padding. To be called once a chunk, before [`Framing::draw_mask`].
    pub(super) fn draw_padding(&mut self) -> usize {
        if self.padding { usize::from(self.draw() % 64) } else { 0 }
    }

    /// The next chunk's mask. To be called once a chunk.
    pub(super) fn draw_mask(&mut self) -> u16 {
        if matches!(self.sizes, Sizes::Masked) { self.draw() } else { 0 }
    }

    fn draw(&mut self) -> u16 {
        let mut bytes = [0; 2];
        if let Some(shake) = &mut self.shake {
            shake.read(&mut bytes);
        }
        u16::from_be_bytes(bytes)
    }
}

impl Sizes {
    const fn masked_if(masked: bool) -> Self {
        if masked { Self::Masked } else { Self::Plain }
    }
}

impl Cipher {
    fn new(security: Security, key: &[u8; 16], iv: &[u8; 16]) -> Result<Option<Self>, CryptoError> {
        let key = match security {
            Security::Aes128Gcm => aes_gcm(key)?,
            Security::ChaCha20Poly1305 => chacha(&chacha_key(key))?,
            Security::None => return Ok(None),
        };
        let [_, _, iv @ .., _, _, _, _] = *iv;
        Ok(Some(Self { key, counter: 0, iv }))
    }

    /// The key, and the next nonce.
    pub(super) fn next(&mut self) -> (&LessSafeKey, Nonce) {
        let mut nonce = [0; 12];
        nonce[..2].copy_from_slice(&self.counter.to_be_bytes());
        nonce[2..].copy_from_slice(&self.iv);
        self.counter = self.counter.wrapping_add(1);
        (&self.key, Nonce::assume_unique_for_key(nonce))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{bytes, number, vectors};

    #[test]
    fn nonces_are_the_vectors_and_wrap() {
        let case = &vectors("keys")["chunk_nonce"];
        let iv = bytes(&case["iv"]).try_into().unwrap();
        let mut cipher = Cipher::new(Security::Aes128Gcm, &[0; 16], &iv).unwrap().unwrap();
        let mut nonce = || cipher.next().1.as_ref().to_vec();
        assert_eq!(nonce(), bytes(&case["count_0"]));
        assert_eq!(nonce(), bytes(&case["count_1"]));
        for _ in 2..65535 {
            nonce();
        }
        assert_eq!(nonce(), bytes(&case["count_65535"]));
        assert_eq!(nonce(), bytes(&case["count_65536_wraps_to"]));
    }

    #[test]
    fn masks_and_paddings_are_the_vectors() {
        let v = vectors("keys");
        let seed = bytes(&v["shake128_u16"]["seed"]).try_into().unwrap();
        let framing = |options| {
            let request = Request {
                secrets: crate::Secrets { body_key: [0; 16], body_iv: seed, response_auth: 0 },
                options: Options::from_bits(options),
                security: Security::Aes128Gcm,
                command: Command::Mux,
            };
            Framing::new(&request, Direction::Request).unwrap()
        };
        let mut masked = framing(5);
        for value in v["shake128_u16"]["first_16_values"].as_array().unwrap() {
            assert_eq!((masked.draw_padding(), masked.draw_mask()), (0, number(value)));
        }
        let mut padded = framing(13);
        for pair in v["shake128_pairs_with_padding"].as_array().unwrap() {
            let pair = (number(&pair["padding"]), number(&pair["mask"]));
            assert_eq!((padded.draw_padding(), padded.draw_mask()), pair);
        }
        let mut sealed = framing(29);
        for value in v["shake128_u16"]["first_16_values"].as_array().unwrap() {
            let value: usize = number(value);
            assert_eq!((sealed.draw_padding(), sealed.draw_mask()), (value % 64, 0));
        }
    }
}
