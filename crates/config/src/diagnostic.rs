//! What is said to a person about their configuration: where, what was found, what to write.

use std::{fmt, sync::Arc};

/// A place in a configuration, as an editor and a reader name it. Lines and columns count from 1, columns in
/// characters; the key path is empty for the document itself.
///
/// Shown as `config.json:14:25: inbounds[0].port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name given in [`crate::Source`].
    pub file: Arc<str>,
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
    /// The keys that lead there, such as `inbounds[0].port`, spelled as in the file.
    pub path: Arc<str>,
}

impl Place {
    /// The line as somebody would say it who reads `other`: with the file's name if it is another one.
    pub(crate) fn seen_from(&self, other: &Place) -> String {
        if self.file == other.file {
            format!("in line {}", self.line)
        } else {
            format!("in line {} of {}", self.line, self.file)
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)?;
        if self.path.is_empty() { Ok(()) } else { write!(f, ": {}", self.path) }
    }
}

/// One thing to tell the person who wrote the configuration; an error or a warning by where it is returned.
///
/// Shown on one line, and the help on a second one:
/// ```text
/// config.json:14:25: inbounds[0].streamSettings.wsSettings.maxEarlyData: expected ..., found "2k"
///   help: write 2048
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where; `None` when it is about no place in a file.
    pub place: Option<Place>,
    /// What was expected and found: one sentence, lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A diagnostic about something written at `place`.
    pub fn at(place: &Place, message: impl Into<String>) -> Self {
        Self { place: Some(place.clone()), message: message.into(), help: None }
    }

    /// A diagnostic about no place in a file.
    pub fn general(message: impl Into<String>) -> Self {
        Self { place: None, message: message.into(), help: None }
    }

    /// The same with help.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Diagnostic {}
