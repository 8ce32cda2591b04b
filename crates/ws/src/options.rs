//! The options of `wsSettings` as types that cannot hold nonsense.

use std::{fmt, num::NonZeroU32, str::FromStr};

/// The HTTP path of the WebSocket endpoint: always starts with `/`, holds no control character.
///
/// Default `/`. A missing leading slash is added and nothing else is changed
/// (v2fly/v2ray-core `transport/internet/websocket/config.go`).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Path(String);

impl Path {
    /// Normalises `text` as V2Ray does.
    ///
    /// # Errors
    /// [`OptionError::PathControl`] when it holds a control character, which could split the request head.
    pub fn new(text: &str) -> Result<Self, OptionError> {
        if let Some(found) = text.chars().find(|c| c.is_control()) {
            return Err(OptionError::PathControl { found });
        }
        let slash = if text.starts_with('/') { "" } else { "/" };
        Ok(Self(format!("{slash}{text}")))
    }

    /// The path with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Path {
    fn default() -> Self {
        Self("/".to_owned())
    }
}

/// Without its query, which may be a secret.
impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_once('?') {
            None => fmt::Debug::fmt(&self.0, f),
            Some((path, _)) => write!(f, "{path:?}?…"),
        }
    }
}

/// The name of an HTTP header: a token (RFC 9110 section 5.6.2), spelled as configured, compared without case.
#[derive(Clone, Debug)]
pub struct HeaderName(String);

impl HeaderName {
    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `other`, letter case aside.
    pub fn is(&self, other: &str) -> bool {
        self.0.eq_ignore_ascii_case(other)
    }

    /// The name as Go writes it: `accept-language` becomes `Accept-Language`.
    pub fn canonical(&self) -> String {
        let mut start_of_word = true;
        let letter = |c: char| {
            let out = if start_of_word { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
            start_of_word = c == '-';
            out
        };
        self.0.chars().map(letter).collect()
    }
}

impl PartialEq for HeaderName {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.0)
    }
}

impl Eq for HeaderName {}

impl FromStr for HeaderName {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if text.is_empty() || !text.bytes().all(is_token) {
            return Err(OptionError::HeaderName { found: text.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }
}

/// The value of an HTTP header: visible text, blanks and tabs, no line break (RFC 9110 section 5.5). Its `Debug` shows
/// nothing of it: cookies and tokens are secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct HeaderValue(String);

impl fmt::Debug for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeaderValue({} bytes)", self.0.len())
    }
}

impl HeaderValue {
    /// The value as it was written, blanks at both ends removed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HeaderValue {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        match text.chars().find(|&c| c.is_control() && c != '\t') {
            Some(found) => Err(OptionError::HeaderValue { found }),
            None => Ok(Self(text.trim_matches([' ', '\t']).to_owned())),
        }
    }
}

/// Headers the handshake writes itself; configuring one makes every V2Ray dial fail.
pub const RESERVED_HEADERS: [&str; 5] =
    ["Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Extensions"];

/// The configured `headers` of a client, in the order written, each name at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(HeaderName, HeaderValue)>);

impl Headers {
    /// Adds a header.
    ///
    /// # Errors
    /// When the name is one the handshake owns, or was given before in any letter case.
    pub fn insert(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), OptionError> {
        if RESERVED_HEADERS.iter().any(|reserved| name.is(reserved)) {
            return Err(OptionError::ReservedHeader { name: name.0 });
        }
        if self.find(name.as_str()).is_some() {
            return Err(OptionError::RepeatedHeader { name: name.0 });
        }
        self.0.push((name, value));
        Ok(())
    }

    /// The value configured for `name`, letter case aside.
    pub fn find(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own.is(name)).map(|(_, value)| value.as_str())
    }

    /// All of them, in the order written.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

/// How early data (0-RTT) travels: `maxEarlyData` and `earlyDataHeaderName` together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlyData {
    /// The most bytes, before base64, that a request carries.
    pub max_bytes: NonZeroU32,
    /// Where in the request they stand.
    pub place: EarlyDataPlace,
}

/// Where in the upgrade request the early data stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EarlyDataPlace {
    /// Behind the path (`earlyDataHeaderName` empty).
    Path,
    /// In the header of this name.
    Header(HeaderName),
}

/// An option that could not be sent or matched; the config's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// A control character in `path`.
    #[error("a path cannot hold the control character {found:?}")]
    PathControl {
        /// The first offending character.
        found: char,
    },
    /// Not an HTTP token.
    #[error("{found:?} is not an HTTP header name")]
    HeaderName {
        /// The name as written.
        found: String,
    },
    /// A line break or other control character in a header's value.
    #[error("a header value cannot hold the control character {found:?}")]
    HeaderValue {
        /// The first offending character.
        found: char,
    },
    /// A header that the handshake itself writes.
    #[error("header {name:?} is written by the WebSocket handshake itself")]
    ReservedHeader {
        /// The name as written.
        name: String,
    },
    /// The same header twice, letter case aside.
    #[error("header {name:?} is given twice")]
    RepeatedHeader {
        /// The name as written.
        name: String,
    },
}
