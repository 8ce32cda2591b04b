//! Regular expressions as V2Ray has them: Go's `regexp`, which is RE2.
//!
//! Domains are ASCII and in lower case when they come here, so that letter classes are those of ASCII, as Go's `\d`,
//! `\w` and `\b` are; Unicode classes (`\pL`) are refused. What Go writes differently from the `regex` crate is
//! rewritten: `\Q...\E`, a brace that is no repetition, brackets and doubled signs in classes.

use crate::DomainError;
use regex::bytes::{RegexBuilder, RegexSet, RegexSetBuilder};

/// How large all expressions of a set may be together when compiled, in bytes: some thousand ordinary ones.
const MAX_COMPILED_BYTES: usize = 32 << 20;

/// How much a set may keep for the states met while matching, in bytes and for each thread at work; it begins small.
const MAX_CACHE_BYTES: usize = 1 << 20;

/// How deep groups may be nested, as in Go (`regexp/syntax/parse.go`, `maxHeight`, is 1000) but for our stack's sake.
const MAX_NESTING: u32 = 100;

/// Expressions with labels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patterns {
    /// Nothing if there are none.
    set: Option<RegexSet>,
    labels: Vec<u32>,
}

impl Patterns {
    /// # Errors
    /// An expression that [`check`] refuses; all of them together are too large.
    pub(crate) fn new(mut patterns: Vec<(&str, u32)>) -> Result<Self, DomainError> {
        if patterns.is_empty() {
            return Ok(Self::default());
        }
        patterns.sort_unstable();
        patterns.dedup();
        let set = RegexSetBuilder::new(patterns.iter().map(|(pattern, _)| translated(pattern)))
            .unicode(false)
            .octal(true)
            .case_insensitive(true)
            .nest_limit(MAX_NESTING)
            .size_limit(MAX_COMPILED_BYTES)
            .dfa_size_limit(MAX_CACHE_BYTES)
            .build();
        match set {
            Ok(set) => {
                let labels = patterns.into_iter().map(|(_, label)| label).collect();
                Ok(Self { set: Some(set), labels })
            }
            Err(error) => {
                for (pattern, _) in &patterns {
                    check(pattern)?;
                }
                Err(refused(&format!("all {} together", patterns.len()), &error))
            }
        }
    }

    pub(crate) fn is_match(&self, name: &[u8]) -> bool {
        self.set.as_ref().is_some_and(|set| set.is_match(name))
    }

    /// The labels of all that match, in order.
    pub(crate) fn labels(&self, name: &[u8]) -> Vec<u32> {
        let Some(set) = &self.set else { return Vec::new() };
        let mut labels: Vec<u32> =
            set.matches(name).into_iter().filter_map(|at| self.labels.get(at).copied()).collect();
        labels.sort_unstable();
        labels
    }

    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }
}

/// # Errors
/// What is wrong with the expression.
pub(crate) fn check(pattern: &str) -> Result<(), DomainError> {
    let built = RegexBuilder::new(&translated(pattern))
        .unicode(false)
        .octal(true)
        .case_insensitive(true)
        .nest_limit(MAX_NESTING)
        .size_limit(MAX_COMPILED_BYTES)
        .build();
    built.map(drop).map_err(|error| refused(pattern, &error))
}

fn refused(pattern: &str, error: &regex::Error) -> DomainError {
    let text = error.to_string();
    // A syntax error draws the place on several lines; the last one says what it is.
    let reason = text.lines().last().unwrap_or_default();
    let reason = reason.strip_prefix("error: ").unwrap_or(reason);
    DomainError::Regexp { pattern: pattern.to_owned(), reason: reason.to_owned() }
}

/// Go's expression in the syntax of the `regex` crate.
fn translated(pattern: &str) -> String {
    let mut to = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(next) = rest.chars().next() {
        let (piece, tail) = match next {
            '\\' => escape(rest),
            '[' => class(rest),
            '{' if !is_repetition(rest) => (r"\{".to_owned(), &rest[1..]),
            other => (other.to_string(), &rest[other.len_utf8()..]),
        };
        to.push_str(&piece);
        rest = tail;
    }
    to
}

/// An escape at the beginning of the text, and what is behind it.
fn escape(text: &str) -> (String, &str) {
    if let Some(quoted) = text.strip_prefix(r"\Q") {
        let (literal, rest) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
        return (regex::escape(literal), rest);
    }
    let mut chars = text.chars();
    let backslash: String = chars.next().into_iter().collect();
    match chars.next() {
        Some(sign @ ('<' | '>')) => (sign.to_string(), chars.as_str()),
        Some(sign) => (backslash + sign.encode_utf8(&mut [0; 4]), chars.as_str()),
        None => (backslash, ""),
    }
}

/// A class in brackets at the beginning of the text, and what is behind it; what is unclosed stays as it is.
fn class(text: &str) -> (String, &str) {
    let mut to = String::from("[");
    let mut rest = &text[1..];
    if let Some(tail) = rest.strip_prefix('^') {
        to.push('^');
        rest = tail;
    }
    if let Some(tail) = rest.strip_prefix(']') {
        to.push_str(r"\]");
        rest = tail;
    }
    while let Some(next) = rest.chars().next() {
        let tail = &rest[next.len_utf8()..];
        match next {
            ']' => {
                to.push(']');
                return (to, tail);
            }
            '\\' => {
                let (piece, tail) = escape(rest);
                to.push_str(&piece);
                rest = tail;
                continue;
            }
            '[' if named_class(rest).is_some() => {
                let (name, tail) = rest.split_at(named_class(rest).unwrap_or(1));
                to.push_str(name);
                rest = tail;
                continue;
            }
            '[' | '&' | '~' => to.extend(['\\', next]),
            other => to.push(other),
        }
        rest = tail;
    }
    (to, rest)
}

/// The length of `[:alpha:]` or the like at the beginning of the text.
fn named_class(text: &str) -> Option<usize> {
    let name = text.strip_prefix("[:")?;
    let len = name.find(":]")?;
    name[..len].bytes().all(|b| b.is_ascii_alphabetic() || b == b'^').then_some(len + 4)
}

/// Whether `{n}`, `{n,}` or `{n,m}` is at the beginning of the text: any other brace is a letter to Go.
fn is_repetition(text: &str) -> bool {
    let Some((inside, _)) = text[1..].split_once('}') else { return false };
    let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    !least.is_empty() && digits(least) && digits(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Patterns::new(vec![(pattern, 0)]).unwrap().is_match(name.as_bytes())
    }

    /// Answers as Go's `regexp` gives them (its syntax page: pkg.go.dev/regexp/syntax).
    #[test]
    fn expressions_mean_what_they_mean_in_go() {
        for (pattern, yes, no) in [
            (r"^\Qa.b\E$", "a.b", "axb"),
            (r"\Qa.b", "a.b", "axb"),
            (r"^a{2}$", "aa", "a{2}"),
            (r"^a{,2}$", "a{,2}", "aa"),
            (r"^a{$", "a{", "a"),
            (r"^[[a-c]+$", "[a", "d"),
            (r"^[a&&b]$", "&", "c"),
            (r"^[[:alpha:]]+$", "ab", "a1"),
            (r"^[[:^alpha:]]+$", "12", "a1"),
            (r"^[]a]$", "]", "b"),
            (r"^[^]a]$", "b", "]"),
            (r"^[\w.-]+$", "a-b.c", "a b"),
            (r"\bads\b", "x.ads.y", "x.adsy"),
            (r"^(?P<n>a|b)$", "a", "ab"),
            (r"^\x61\141$", "aa", "ab"),
            (r"\A[a-z]\z", "a", "a\n"),
            (r"^a\.b\-c\_d$", "a.b-c_d", "axb-c_d"),
            (r"^(?i)AB$", "ab", "abc"),
            (r"^[\Qa-\E]$", "-", "b"),
        ] {
            assert!(matches(pattern, yes), "{pattern} {yes}");
            assert!(!matches(pattern, no), "{pattern} {no}");
        }
    }

    #[test]
    fn what_go_refuses_or_we_cannot_do_is_refused() {
        for pattern in ["(", "[a", "a**(", r"\pL", "(?=a)", &"(".repeat(2000), "a{1000}{1000}"] {
            assert!(check(pattern).is_err(), "{pattern}");
        }
    }
}
