//! Which cipher protects the body.

use std::str::FromStr;

/// The outbound's `security` setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecurityChoice {
    /// AES-128-GCM where the CPU has AES instructions, else ChaCha20-Poly1305, as V2Ray.
    #[default]
    Auto,
    /// `aes-128-gcm`
    Aes128Gcm,
    /// `chacha20-poly1305`
    ChaCha20Poly1305,
    /// `none`: chunks, not encrypted.
    None,
    /// `zero`: no chunks, not encrypted, no end mark.
    Zero,
}

impl SecurityChoice {
    /// The spellings a config may hold.
    pub const NAMES: [&str; 5] = ["auto", "aes-128-gcm", "chacha20-poly1305", "none", "zero"];
}

impl FromStr for SecurityChoice {
    type Err = UnknownSecurity;

    /// Letter case aside; an empty text means `auto`.
    fn from_str(text: &str) -> Result<Self, UnknownSecurity> {
        match text.to_ascii_lowercase().as_str() {
            "" | "auto" => Ok(Self::Auto),
            "aes-128-gcm" => Ok(Self::Aes128Gcm),
            "chacha20-poly1305" => Ok(Self::ChaCha20Poly1305),
            "none" => Ok(Self::None),
            "zero" => Ok(Self::Zero),
            _ => Err(UnknownSecurity),
        }
    }
}

/// Not one of [`SecurityChoice::NAMES`]. V2Ray would silently take `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown VMess security")]
pub struct UnknownSecurity;
