//! Whose configuration a cure is written into.

use std::fmt;

/// A front end that can be told by its `Server` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// nginx, or what is made of it.
    Nginx,
    /// Caddy.
    Caddy,
    /// Apache.
    Apache,
    /// `HAProxy`, which never names itself.
    Haproxy,
    /// A CDN.
    Cdn,
}

impl Front {
    /// Who answers with this page: `HAProxy`, whose own pages all begin alike (haproxy/haproxy `src/http.c`).
    pub fn of_page(body: &str) -> Option<Self> {
        body.trim_start().starts_with("<html><body><h1>").then_some(Self::Haproxy)
    }

    /// Whether its answers name it.
    pub(super) fn names_itself(self) -> bool {
        matches!(self, Self::Nginx | Self::Caddy | Self::Apache)
    }

    /// Who answers with this `Server` header.
    pub fn of(server: Option<&str>) -> Option<Self> {
        let server = server?.to_ascii_lowercase();
        let is = |names: &[&str]| names.iter().any(|name| server.starts_with(name));
        if is(&["nginx", "openresty", "tengine"]) {
            Some(Self::Nginx)
        } else if is(&["caddy"]) {
            Some(Self::Caddy)
        } else if is(&["apache"]) {
            Some(Self::Apache)
        } else if is(&["cloudflare", "cloudfront", "akamai", "gcore", "bunnycdn", "ats", "fastly"]) {
            Some(Self::Cdn)
        } else {
            None
        }
    }
}

/// Whose configuration something is written into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// The client's.
    Client,
    /// The VMess server's.
    Server,
    /// nginx's.
    Nginx,
    /// Caddy's.
    Caddy,
    /// Apache's.
    Apache,
    /// `HAProxy`'s.
    Haproxy,
    /// The CDN's control panel.
    Cdn,
    /// This machine, outside of any configuration.
    Here,
    /// The server's machine.
    There,
}

impl Where {
    pub(super) fn front(self) -> Option<Front> {
        match self {
            Self::Nginx => Some(Front::Nginx),
            Self::Caddy => Some(Front::Caddy),
            Self::Apache => Some(Front::Apache),
            Self::Haproxy => Some(Front::Haproxy),
            Self::Cdn => Some(Front::Cdn),
            Self::Client | Self::Server | Self::Here | Self::There => None,
        }
    }

    /// A name for programs; it never changes.
    pub fn code(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Nginx => "nginx",
            Self::Caddy => "caddy",
            Self::Apache => "apache",
            Self::Haproxy => "haproxy",
            Self::Cdn => "cdn",
            Self::Here => "client-machine",
            Self::There => "server-machine",
        }
    }
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "in the client's configuration",
            Self::Server => "in the server's configuration",
            Self::Nginx => "in nginx",
            Self::Caddy => "in Caddy",
            Self::Apache => "in Apache",
            Self::Haproxy => "in HAProxy",
            Self::Cdn => "at the CDN",
            Self::Here => "on this machine",
            Self::There => "on the server's machine",
        })
    }
}
