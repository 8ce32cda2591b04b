//! User ids.

use std::{fmt, str::FromStr};

/// A user's id: 16 bytes, secret. Its `Debug` shows two of them.
///
/// It is `Copy` and not wiped: it comes from a text and a tree of it that hold it too, and lasts as long as the
/// configuration it stands in, which is as long as the program runs. What is made of it for users who come and go,
/// [`CmdKey`](crate::CmdKey), the keys of auth IDs and of sessions, is wiped when dropped.
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
        let mut bytes = [0; 16];
        let mut place = 0;
        let mut rest = text;
        for (n, group) in GROUPS.into_iter().enumerate() {
            if n > 0 {
                rest = rest.strip_prefix('-').unwrap_or(rest);
            }
            let (head, tail) = rest.split_at_checked(group).ok_or(IdError)?;
            for c in head.chars() {
                let digit = c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or(IdError)?;
                let byte: &mut u8 = bytes.get_mut(place / 2).ok_or(IdError)?;
                *byte = *byte << 4 | digit;
                place += 1;
            }
            rest = tail;
        }
        if !rest.is_empty() {
            return Err(IdError);
        }
        Ok(Self(bytes))
    }
}

/// The text is no id. It does not repeat the text, which may be a secret with a typing error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID: expected 32 hexadecimal digits, such as xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")]
pub struct IdError;

#[cfg(test)]
mod tests {
    use super::*;

    /// Every place of the dashes that V2Ray takes, and what it refuses.
    #[test]
    fn ids_are_read_with_and_without_dashes() {
        let id: UserId = "b831381d-6324-4d53-ad4f-8cda48b30811".parse().unwrap();
        assert_eq!(id.as_bytes(), b"\xb8\x31\x38\x1d\x63\x24\x4d\x53\xad\x4f\x8c\xda\x48\xb3\x08\x11");
        for same in ["b831381d63244d53ad4f8cda48b30811", "B831381D-63244D53-ad4f8cda48b30811"] {
            assert_eq!(same.parse(), Ok(id));
        }
        for other in [
            "",
            "uuid",
            "b831381d-6324-4d53-ad4f-8cda48b3081",
            "b831381d-6324-4d53-ad4f-8cda48b308111",
            "b831381d-6324-4d53-ad4f-8cda48b3081g",
            "b831381d--6324-4d53-ad4f-8cda48b30811",
            "b83138-1d63244d53ad4f8cda48b30811",
            "é831381d-6324-4d53-ad4f-8cda48b3081",
        ] {
            assert_eq!(other.parse::<UserId>(), Err(IdError), "{other}");
        }
    }

    #[test]
    fn debug_shows_two_bytes_only() {
        assert_eq!(format!("{:?}", UserId::from_bytes([0xab; 16])), "abab…");
    }
}
