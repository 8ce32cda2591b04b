//! Which cipher protects the body, and how it is cut.

use std::{fmt, ops::BitOr, str::FromStr};

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

/// What protects a body, as written on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Security {
    /// AES-128-GCM.
    Aes128Gcm,
    /// ChaCha20-Poly1305.
    ChaCha20Poly1305,
    /// Nothing.
    None,
}

impl Security {
    /// Its number (v2fly/v2ray-core `common/protocol/headers.proto`).
    pub(crate) const fn to_wire(self) -> u8 {
        match self {
            Self::Aes128Gcm => 3,
            Self::ChaCha20Poly1305 => 4,
            Self::None => 5,
        }
    }

    pub(crate) const fn from_wire(number: u8) -> Option<Self> {
        match number {
            3 => Some(Self::Aes128Gcm),
            4 => Some(Self::ChaCha20Poly1305),
            5 => Some(Self::None),
            _ => None,
        }
    }
}

/// A request's options: a set of bits (v2fly/v2ray-core `common/protocol/headers.go`).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Options(u8);

impl Options {
    /// No option.
    pub const NONE: Self = Self(0);
    /// The body is cut into chunks.
    pub const CHUNK_STREAM: Self = Self(1);
    /// Obsolete; ignored.
    pub const REUSE: Self = Self(2);
    /// Chunk sizes are masked.
    pub const MASKING: Self = Self(4);
    /// Chunks end in random padding. Needs [`Options::MASKING`].
    pub const PADDING: Self = Self(8);
    /// Chunk sizes are sealed.
    pub const AUTHENTICATED_LENGTH: Self = Self(16);

    /// The set of these bits, unknown ones included.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The bits.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether all of `other` is in it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Options {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Options({:#04x})", self.0)
    }
}

/// What a body carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// A stream (mux, too).
    Tcp,
    /// Packets, one a chunk.
    Udp,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Whether the CPU computes AES in hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AesHardware {
    /// It does: AES-128-GCM is the fastest.
    Present,
    /// It does not: ChaCha20-Poly1305 is.
    Absent,
}

/// What a client writes for its setting: V2Ray's own choice (v2fly/v2ray-core
/// `proxy/vmess/outbound/outbound.go`), but `zero` over UDP keeps chunks, as in sing-box, since without
/// them packets have no edges and sing-box refuses.
pub fn outbound_options(choice: SecurityChoice, network: Network, aes: AesHardware) -> (Security, Options) {
    let padded = Options::CHUNK_STREAM | Options::MASKING | Options::PADDING;
    match (choice, network, aes) {
        (SecurityChoice::Aes128Gcm, ..) | (SecurityChoice::Auto, _, AesHardware::Present) => {
            (Security::Aes128Gcm, padded)
        }
        (SecurityChoice::ChaCha20Poly1305, ..) | (SecurityChoice::Auto, _, AesHardware::Absent) => {
            (Security::ChaCha20Poly1305, padded)
        }
        (SecurityChoice::None, ..) => (Security::None, Options::CHUNK_STREAM | Options::MASKING),
        (SecurityChoice::Zero, Network::Tcp, _) => (Security::None, Options::NONE),
        (SecurityChoice::Zero, Network::Udp, _) => (Security::None, Options::CHUNK_STREAM),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_writes_the_options_v2ray_writes() {
        let wire = |choice: &str, network, aes| {
            let (security, options) = outbound_options(choice.parse().unwrap(), network, aes);
            (security.to_wire(), options.bits())
        };
        for network in [Network::Tcp, Network::Udp] {
            for aes in [AesHardware::Present, AesHardware::Absent] {
                assert_eq!(wire("aes-128-gcm", network, aes), (3, 0x0d));
                assert_eq!(wire("chacha20-poly1305", network, aes), (4, 0x0d));
                assert_eq!(wire("none", network, aes), (5, 0x05));
            }
            assert_eq!(wire("auto", network, AesHardware::Present), (3, 0x0d));
            assert_eq!(wire("", network, AesHardware::Absent), (4, 0x0d));
        }
        assert_eq!(wire("zero", Network::Tcp, AesHardware::Present), (5, 0));
        assert_eq!(wire("zero", Network::Udp, AesHardware::Present), (5, 1));
    }

    #[test]
    fn only_the_three_securities_are_known_on_the_wire() {
        for number in 0..=255 {
            let security = Security::from_wire(number);
            assert_eq!(security.is_some(), (3..=5).contains(&number));
            assert_eq!(security.map_or(number, Security::to_wire), number);
        }
    }
}
