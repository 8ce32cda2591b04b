//! Which part of a file a visitor wants (RFC 9110 section 14). Pure.

/// What is sent of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// From the first to the last of these bytes.
    Bytes { first: u64, last: u64 },
    /// Nothing, as the file has no such bytes.
    Missing,
}

/// What a `Range` header's value wants of a file of `length` bytes. Several parts at once, and what is no range of bytes,
/// are the whole: a server may ignore the header (section 14.2).
pub(super) fn part(value: &[u8], length: u64) -> Part {
    wanted(value, length).unwrap_or(Part::Whole)
}

fn wanted(value: &[u8], length: u64) -> Option<Part> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let (unit, range) = text.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    let number = |text: &str| match text {
        "" => Some(None),
        text if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse::<u64>().ok().map(Some),
        _ => None,
    };
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    match (number(first)?, number(last)?) {
        (None, None) => None,
        (Some(first), Some(last)) if last < first => None,
        (Some(first), _) if first >= length => Some(Part::Missing),
        (Some(first), last) => Some(Part::Bytes { first, last: last.unwrap_or(u64::MAX).min(length - 1) }),
        (None, Some(0)) => Some(Part::Missing),
        // Of an empty file the last bytes are the whole.
        (None, Some(_)) if length == 0 => None,
        (None, Some(count)) => Some(Part::Bytes { first: length.saturating_sub(count), last: length - 1 }),
    }
}

#[cfg(test)]
mod tests {
    use super::{Part, part};

    /// The examples are those of RFC 9110 section 14.1.2, for a representation of 10,000 bytes.
    #[test]
    fn ranges_mean_what_the_document_says() {
        let bytes = |first, last| Part::Bytes { first, last };
        for (value, expected) in [
            ("bytes=0-499", bytes(0, 499)),
            ("bytes=500-999", bytes(500, 999)),
            ("bytes=-500", bytes(9500, 9999)),
            ("bytes=9500-", bytes(9500, 9999)),
            ("BYTES= 0-0 ", bytes(0, 0)),
            ("bytes=0-99999", bytes(0, 9999)),
            ("bytes=-20000", bytes(0, 9999)),
            ("bytes=10000-", Part::Missing),
            ("bytes=-0", Part::Missing),
            ("bytes=0-0,-1", Part::Whole),
            ("bytes=9-3", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=+1-3", Part::Whole),
            ("bytes=a-3", Part::Whole),
            ("bytes=99999999999999999999-", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("", Part::Whole),
        ] {
            assert_eq!(part(value.as_bytes(), 10_000), expected, "{value}");
        }
        assert_eq!(part(b"bytes=0-", 0), Part::Missing);
        assert_eq!(part(b"bytes=-5", 0), Part::Whole);
        assert_eq!(part(b"bytes=\xff-", 9), Part::Whole);
    }
}
