//! One proxied connection: who, from where, to where.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use wsray_vmess::{Network, Target};

/// A session as its inbound understood it.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its number in the log.
    pub id: u64,
    /// The inbound's tag.
    pub inbound: Option<Arc<str>>,
    /// The client's address: from the PROXY protocol header, else the peer's.
    pub source: SocketAddr,
    /// The email or account name.
    pub user: Option<Arc<str>>,
    /// The user's level in the policy.
    pub level: u32,
    /// The inbound's own limit on idle sessions, before the policy's.
    pub idle_timeout: Option<Duration>,
    /// Stream or packets.
    pub network: Network,
    /// Where to.
    pub target: Target,
}
