//! One line of the access log.

use std::fmt;

pub use wsray_vmess::Network;
use wsray_vmess::Target;

/// One line of the access log, in V2Ray's shape (v2fly/v2ray-core `common/log/access.go`), which panels
/// and fail2ban rules read.
#[derive(Clone, Copy)]
pub struct Access<'a> {
    /// Who the client is, usually a `SocketAddr`.
    pub source: &'a dyn fmt::Display,
    /// What became of it.
    pub outcome: Outcome<'a>,
    /// The user's e-mail address from the configuration; empty: none.
    pub email: &'a str,
}

/// What became of a session.
#[derive(Clone, Copy)]
pub enum Outcome<'a> {
    /// `accepted tcp:example.com:443 [detour]`.
    Accepted {
        /// TCP or UDP.
        network: Network,
        /// Where to.
        target: &'a Target,
        /// The tag of the outbound; empty: none.
        detour: &'a str,
    },
    /// `rejected  reason`; the two blanks are V2Ray's.
    Rejected {
        /// Why.
        reason: &'a dyn fmt::Display,
    },
}

impl fmt::Display for Access<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outcome {
            Outcome::Accepted { network, target, detour } => {
                write!(f, "{} accepted {network}:{target}", self.source)?;
                if !detour.is_empty() {
                    write!(f, " [{detour}]")?;
                }
            }
            Outcome::Rejected { reason } => write!(f, "{} rejected  {reason}", self.source)?,
        }
        if self.email.is_empty() { Ok(()) } else { write!(f, " email: {}", self.email) }
    }
}

impl fmt::Debug for Access<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Access({self})")
    }
}
