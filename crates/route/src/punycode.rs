//! Names of other alphabets as DNS carries them: punycode (RFC 3492), label by label.
//!
//! Letters are made small, as far as Unicode's simple rules go; nothing else is mapped, as in V2Ray
//! (`common/strmatcher/matchers.go`, `ToDomain`).

/// The text in lower case, its labels in ASCII.
pub(crate) fn to_ascii(text: &str) -> String {
    let text = text.to_lowercase();
    if text.is_ascii() {
        return text;
    }
    let labels: Vec<String> = text.split('.').map(label).collect();
    labels.join(".")
}

fn label(label: &str) -> String {
    match encode(label) {
        Some(encoded) if !label.is_ascii() => format!("xn--{encoded}"),
        _ => label.to_owned(),
    }
}

// RFC 3492 section 5.
const BASE: u32 = 36;
const T_MIN: u32 = 1;
const T_MAX: u32 = 26;
const SKEW: u32 = 38;
const DAMP: u32 = 700;
const INITIAL_BIAS: u32 = 72;
const INITIAL_N: u32 = 128;

/// RFC 3492 section 6.3; `None` where a number grows too large.
fn encode(label: &str) -> Option<String> {
    let mut to: String = label.chars().filter(char::is_ascii).collect();
    let basic = u32::try_from(to.len()).ok()?;
    if basic > 0 {
        to.push('-');
    }
    let total = u32::try_from(label.chars().count()).ok()?;
    let (mut n, mut delta, mut bias, mut handled) = (INITIAL_N, 0_u32, INITIAL_BIAS, basic);
    while handled < total {
        let next = label.chars().map(u32::from).filter(|&point| point >= n).min()?;
        delta = delta.checked_add((next - n).checked_mul(handled + 1)?)?;
        n = next;
        for point in label.chars().map(u32::from) {
            if point < n {
                delta = delta.checked_add(1)?;
            }
            if point == n {
                number(delta, bias, &mut to);
                bias = adapt(delta, handled + 1, handled == basic);
                delta = 0;
                handled += 1;
            }
        }
        delta = delta.checked_add(1)?;
        n += 1;
    }
    Some(to)
}

/// A number of variable length.
fn number(mut value: u32, bias: u32, to: &mut String) {
    let mut k = BASE;
    loop {
        let threshold = k.saturating_sub(bias).clamp(T_MIN, T_MAX);
        if value < threshold {
            to.extend(char::from_digit(value, BASE).map(digit));
            return;
        }
        let rest = value - threshold;
        to.extend(char::from_digit(threshold + rest % (BASE - threshold), BASE).map(digit));
        value = rest / (BASE - threshold);
        k += BASE;
    }
}

/// Punycode counts a to z, then 0 to 9; `from_digit` counts 0 to 9, then a to z.
fn digit(usual: char) -> char {
    let value = usual.to_digit(BASE).unwrap_or_default();
    let byte = match value {
        0..26 => b'a' + u8::try_from(value).unwrap_or_default(),
        _ => b'0' + u8::try_from(value - 26).unwrap_or_default(),
    };
    char::from(byte)
}

/// RFC 3492 section 6.1.
fn adapt(delta: u32, points: u32, first: bool) -> u32 {
    let mut delta = if first { delta / DAMP } else { delta / 2 };
    delta += delta / points;
    let mut k = 0;
    while delta > (BASE - T_MIN) * T_MAX / 2 {
        delta /= BASE - T_MIN;
        k += BASE;
    }
    k + (BASE - T_MIN + 1) * delta / (delta + SKEW)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3492 section 7.1, (B), (I) in lower case, (L) and (P); the last is RFC 5891's usual example.
    #[test]
    fn the_examples_of_the_rfc_are_encoded() {
        for (text, expected) in [
            ("他们为什么不说中文", "ihqwcrb4cv8a8dqg056pqjye"),
            ("почемужеонинеговорятпорусски", "b1abfaaepdrnnbgefbadotcwatmq2g4l"),
            ("3年b組金八先生", "3b-ww4c5e180e575a65lsy2b"),
            ("安室奈美恵-with-super-monkeys", "-with-super-monkeys-pc58ag80a8qai00g7n9n"),
            ("bücher", "bcher-kva"),
        ] {
            assert_eq!(encode(text).unwrap(), expected);
        }
    }

    #[test]
    fn only_labels_that_need_it_are_changed() {
        assert_eq!(to_ascii("WWW.Example.com"), "www.example.com");
        assert_eq!(to_ascii("www.Bücher.example"), "www.xn--bcher-kva.example");
    }
}
