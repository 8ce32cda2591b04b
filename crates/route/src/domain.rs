//! Domain conditions, and a compiled set of them.
//!
//! Domains are compared without regard to case and to one dot at the end, in conditions as in names: V2Ray compares
//! `full:`, plain and `regexp:` conditions as written, which makes those with a capital letter hold for nobody.

use crate::{
    names::{MAX_NAME_BYTES, Names, Reach, Search},
    pattern::{self, Patterns},
    punycode,
};
use aho_corasick::AhoCorasick;
use std::{cmp::Reverse, fmt, str::FromStr};

/// How a domain is compared with a condition's text.
///
/// Source: v2fly/v2ray-core `app/router/routercommon/common.proto` (`Domain.Type`) and `infra/conf/rule/rule.go`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DomainKind {
    /// No prefix or `keyword:`: the text is somewhere in the domain.
    Substring,
    /// `regexp:`: the regular expression (Go's syntax, RE2) is found in the domain.
    Regexp,
    /// `domain:`: the domain is the text or ends in a dot and the text.
    Domain,
    /// `full:`: the domain is the text.
    Full,
}

impl DomainKind {
    /// How a configuration spells it.
    fn prefix(self) -> &'static str {
        match self {
            Self::Substring => "keyword:",
            Self::Regexp => "regexp:",
            Self::Domain => "domain:",
            Self::Full => "full:",
        }
    }
}

/// One condition; its text is in lower case (but for a regular expression), and never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DomainCondition {
    kind: DomainKind,
    text: Box<str>,
}

impl DomainCondition {
    /// The condition of this kind.
    ///
    /// # Errors
    /// An empty text; a regular expression that is none.
    pub fn new(kind: DomainKind, text: &str) -> Result<Self, DomainError> {
        if text.is_empty() {
            return Err(DomainError::Empty { prefix: kind.prefix() });
        }
        let text = match kind {
            DomainKind::Regexp => {
                pattern::check(text)?;
                text.into()
            }
            DomainKind::Substring => punycode::to_ascii(text).into(),
            DomainKind::Domain | DomainKind::Full => {
                let name = text.strip_suffix('.').filter(|name| !name.is_empty()).unwrap_or(text);
                punycode::to_ascii(name).into()
            }
        };
        Ok(Self { kind, text })
    }

    /// How it compares.
    pub fn kind(&self) -> DomainKind {
        self.kind
    }

    /// What it compares with.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl FromStr for DomainCondition {
    type Err = DomainError;

    /// `domain:`, `full:`, `regexp:`, `keyword:`, `dotless:` and none. Lists (`geosite:`, `ext:`) are
    /// [`DomainSource`](crate::DomainSource)'s.
    fn from_str(text: &str) -> Result<Self, DomainError> {
        for kind in [DomainKind::Domain, DomainKind::Full, DomainKind::Regexp, DomainKind::Substring] {
            if let Some(rest) = text.strip_prefix(kind.prefix()) {
                return Self::new(kind, rest);
            }
        }
        match text.strip_prefix("dotless:") {
            Some(part) if part.contains('.') => Err(DomainError::Dot { found: part.to_owned() }),
            Some(part) => Self::new(DomainKind::Regexp, &format!("^[^.]*{part}[^.]*$")),
            None => Self::new(DomainKind::Substring, text),
        }
    }
}

impl fmt::Display for DomainCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind.prefix(), self.text)
    }
}

/// Why a text is no domain condition: its writer's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DomainError {
    /// Nothing behind the prefix.
    #[error("a condition {prefix:?} without a text would hold for every domain")]
    Empty {
        /// The prefix of its kind.
        prefix: &'static str,
    },
    /// `dotless:` is about names without a dot.
    #[error("the text of \"dotless:\" cannot have a dot, found {found:?}")]
    Dot {
        /// What was found behind the prefix.
        found: String,
    },
    /// Not a regular expression, or one too large to compile.
    #[error("the regular expression {pattern:?} cannot be used: {reason}")]
    Regexp {
        /// As written.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// More plain texts than one search can hold, which is millions.
    #[error("{count} plain texts are too many: {reason}")]
    TooMany {
        /// How many there are.
        count: usize,
        /// Which limit they meet.
        reason: String,
    },
}

/// Conditions compiled for matching: a microsecond or less for ten thousand of them, and about 40 bytes each.
///
/// Each has a label, a number that its owner chose: which rule, or which DNS server, it belongs to.
#[derive(Clone, Debug, Default)]
pub struct DomainSet {
    names: Names,
    substrings: Option<Substrings>,
    patterns: Patterns,
}

impl DomainSet {
    /// Conditions with the label 0, for those who ask [`is_match`](Self::is_match) only.
    ///
    /// # Errors
    /// Regular expressions that are too large together.
    pub fn new<'a>(conditions: impl IntoIterator<Item = &'a DomainCondition>) -> Result<Self, DomainError> {
        Self::labelled(conditions.into_iter().map(|condition| (0, condition)))
    }

    /// Conditions with labels.
    ///
    /// # Errors
    /// Regular expressions that are too large together.
    pub fn labelled<'a>(
        conditions: impl IntoIterator<Item = (u32, &'a DomainCondition)>,
    ) -> Result<Self, DomainError> {
        let (mut names, mut substrings, mut patterns) = (Vec::new(), Vec::new(), Vec::new());
        for (label, condition) in conditions {
            match condition.kind {
                DomainKind::Full => names.push((condition.text(), Reach::Full, label)),
                DomainKind::Domain => names.push((condition.text(), Reach::Suffix, label)),
                DomainKind::Substring => substrings.push((condition.text(), label)),
                DomainKind::Regexp => patterns.push((condition.text(), label)),
            }
        }
        Ok(Self {
            names: Names::new(names),
            substrings: Substrings::new(substrings)?,
            patterns: Patterns::new(patterns)?,
        })
    }

    /// Whether a condition holds for this domain. None holds for an empty name, nor for one above 255 bytes.
    pub fn is_match(&self, domain: &str) -> bool {
        let mut buf = [0; MAX_NAME_BYTES];
        let Some(name) = lower(domain, &mut buf) else { return false };
        self.names.find(name, |_, _, _| Search::Enough) == Search::Enough
            || self.substrings.as_ref().is_some_and(|all| all.search.is_match(name))
            || self.patterns.is_match(name)
    }

    /// The labels of the conditions that hold, the most exact first: `full:`, then `domain:` from the longest to the
    /// shortest, then plain, then `regexp:`; of equal ones the lower label. Each label once.
    ///
    /// Source of the order: v2fly/v2ray-core `common/strmatcher/strmatcher.go` (`IndexMatcher`).
    pub fn labels(&self, domain: &str) -> Vec<u32> {
        let mut buf = [0; MAX_NAME_BYTES];
        let Some(name) = lower(domain, &mut buf) else { return Vec::new() };
        let mut found = Vec::new();
        self.names.find(name, |len, reach, label| {
            found.push((reach, Reverse(len), label));
            Search::GoOn
        });
        found.sort_unstable();
        let mut labels: Vec<u32> = found.into_iter().map(|(_, _, label)| label).collect();
        labels.extend(self.substrings.iter().flat_map(|all| all.labels(name)));
        labels.extend(self.patterns.labels(name));
        let mut seen = std::collections::HashSet::new();
        labels.retain(|&label| seen.insert(label));
        labels
    }

    /// How many different conditions there are.
    pub fn len(&self) -> usize {
        let substrings = self.substrings.as_ref().map_or(0, |all| all.labels.len());
        self.names.len() + substrings + self.patterns.len()
    }

    /// Whether it holds for no domain.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The name in lower case, without a dot at its end; `None` if it is no name.
fn lower<'b>(domain: &str, buf: &'b mut [u8; MAX_NAME_BYTES]) -> Option<&'b [u8]> {
    let bytes = domain.strip_suffix('.').unwrap_or(domain).as_bytes();
    let name = buf.get_mut(..bytes.len()).filter(|name| !name.is_empty())?;
    name.copy_from_slice(bytes);
    name.make_ascii_lowercase();
    Some(name)
}

/// All plain conditions in one search.
#[derive(Clone, Debug)]
struct Substrings {
    search: AhoCorasick,
    labels: Vec<u32>,
}

impl Substrings {
    fn new(mut texts: Vec<(&str, u32)>) -> Result<Option<Self>, DomainError> {
        texts.sort_unstable();
        texts.dedup();
        if texts.is_empty() {
            return Ok(None);
        }
        let search = AhoCorasick::new(texts.iter().map(|(text, _)| text))
            .map_err(|error| DomainError::TooMany { count: texts.len(), reason: error.to_string() })?;
        Ok(Some(Self { search, labels: texts.into_iter().map(|(_, label)| label).collect() }))
    }

    fn labels(&self, name: &[u8]) -> Vec<u32> {
        let found = self.search.find_overlapping_iter(name);
        let mut labels: Vec<u32> =
            found.filter_map(|at| self.labels.get(at.pattern().as_usize()).copied()).collect();
        labels.sort_unstable();
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(conditions: &[&str]) -> DomainSet {
        let parsed: Vec<DomainCondition> = conditions.iter().map(|text| text.parse().unwrap()).collect();
        DomainSet::labelled((0..).zip(&parsed)).unwrap()
    }

    /// The condition, a domain for which it holds and one for which it does not. From V2Ray's documentation of
    /// `domain` in routing rules and `common/strmatcher/matchers_test.go`.
    #[test]
    fn each_kind_holds_as_v2ray_documents() {
        for (condition, yes, no) in [
            ("sina.com", "sina.com.cn", "sina.cn"),
            ("sina.com", "www.sina.company", "sina-com"),
            ("keyword:apis", "www.googleapis.com", "www.api.com"),
            ("domain:v2ray.com", "www.v2ray.com", "xv2ray.com"),
            ("domain:v2ray.com", "v2ray.com", "v2ray.com.cn"),
            ("full:v2ray.com", "v2ray.com", "www.v2ray.com"),
            (r"regexp:\.goo.*\.com$", "www.google.com", "google.com"),
            (r"regexp:^[^.]*$", "localhost", "local.host"),
            ("dotless:", "printer", "printer.lan"),
            ("dotless:int", "printer", "scanner"),
            ("domain:com", "a.com", "com.a"),
        ] {
            assert!(set(&[condition]).is_match(yes), "{condition} {yes}");
            assert!(!set(&[condition]).is_match(no), "{condition} {no}");
        }
    }

    #[test]
    fn case_and_a_dot_at_the_end_do_not_matter() {
        for condition in ["Goo", "domain:Google.COM.", "full:WWW.google.com", "regexp:^WWW[.]Goo"] {
            for name in ["www.google.com", "WWW.GOOGLE.COM", "www.Google.com."] {
                assert!(set(&[condition]).is_match(name), "{condition} {name}");
            }
        }
    }

    #[test]
    fn names_without_end_or_beginning_match_nothing() {
        let everything = set(&["regexp:.*", "a", "domain:aa"]);
        assert!(!everything.is_match(""));
        assert!(!everything.is_match("."));
        assert!(everything.is_match(&"a".repeat(255)));
        assert!(!everything.is_match(&"a".repeat(256)));
        assert!(!set(&[]).is_match("a"));
        assert!(set(&[]).is_empty());
    }

    #[test]
    fn labels_come_from_the_most_exact() {
        let conditions = [
            "regexp:example",
            "exam",
            "domain:com",
            "domain:example.com",
            "full:www.example.com",
            "domain:www.example.com",
            "full:example.com",
            "ample",
        ];
        assert_eq!(set(&conditions).labels("www.example.com"), [4, 5, 3, 2, 1, 7, 0]);
        assert_eq!(set(&conditions).len(), 8);
    }

    #[test]
    fn a_label_comes_once_and_equal_conditions_keep_their_labels() {
        let texts = ["domain:a.com", "domain:a.com", "full:a.com", "a.c", "regexp:a"];
        let parsed: Vec<DomainCondition> = texts.iter().map(|text| text.parse().unwrap()).collect();
        let set = DomainSet::labelled([7, 3, 9, 7, 3].into_iter().zip(&parsed)).unwrap();
        assert_eq!(set.labels("a.com"), [9, 3, 7]);
    }

    #[test]
    fn names_of_other_alphabets_are_compared_in_punycode() {
        // RFC 3492 section 7.1 (B) and (S) give the encodings of the method; these two are registered names.
        assert!(set(&["domain:例子.cn"]).is_match("www.xn--fsqu00a.cn"));
        assert!(set(&["full:bücher.example"]).is_match("xn--bcher-kva.example"));
    }

    #[test]
    fn nonsense_is_refused() {
        let parse = |text: &str| text.parse::<DomainCondition>().unwrap_err().to_string();
        assert_eq!(parse("domain:"), r#"a condition "domain:" without a text would hold for every domain"#);
        assert_eq!(parse(""), r#"a condition "keyword:" without a text would hold for every domain"#);
        assert_eq!(parse("dotless:a.b"), r#"the text of "dotless:" cannot have a dot, found "a.b""#);
        assert_eq!(parse("regexp:a("), r#"the regular expression "a(" cannot be used: unclosed group"#);
    }
}
