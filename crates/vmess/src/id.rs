//! User ids.

use std::{fmt, str::FromStr};

/// A user's id: 16 bytes, secret. Its `Debug` shows two of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserId([u8; 16]);

impl UserId {
    /// An id of these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The id's bytes: secret, never to be logged.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, ..] = self.0;
        write!(f, "{a:02x}{b:02x}…")
    }
}

/// How many hexadecimal digits stand in each group of an id's text.
const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];

impl FromStr for UserId {
    type Err = IdError;

    /// 32 hexadecimal digits of any case; dashes may stand at the usual four places, each on its own
    /// (v2fly/v2ray-core `common/uuid/uuid.go`).
    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut digits = Vec::with_capacity(32);
        let mut rest = text;
        for (n, group) in GROUPS.into_iter().enumerate() {
            if n > 0 {
                rest = rest.strip_prefix('-').unwrap_or(rest);
            }
            let (head, tail) = rest.split_at_checked(group).ok_or(IdError)?;
            for c in head.chars() {
                digits.push(c.to_digit(16).ok_or(IdError)?);
            }
            rest = tail;
        }
        if !rest.is_empty() {
            return Err(IdError);
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair.iter().fold(0, |value, &digit| value << 4 | digit as u8);
        }
        Ok(Self(bytes))
    }
}

/// The text is no id. It does not repeat the text, which may be a secret with a typing error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID: expected 32 hexadecimal digits, such as xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")]
pub struct IdError;
