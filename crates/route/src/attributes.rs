//! What an HTTP request says about itself: `:method`, `:path`, and its headers by their names in lower case
//! (v2fly/v2ray-core `proxy/http/server.go`).

use std::fmt;

/// Names and values. `Debug` shows the names only: values hold cookies and passwords.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Attributes(Vec<(String, String)>);

impl Attributes {
    /// Adds one; its name is put in lower case. Of two with the same name the first counts.
    pub fn add(&mut self, name: &str, value: impl Into<String>) {
        self.0.push((name.to_ascii_lowercase(), value.into()));
    }

    /// The value of this name, which is in lower case.
    pub fn find(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}
