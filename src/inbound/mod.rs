//! Who is it, where to: what accepts sessions.

pub mod accounts;
pub mod dokodemo;
pub mod http;
mod listen;
mod serve;
pub mod socks;
pub mod vmess;
mod waiting;

use std::{collections::HashSet, pin::Pin, sync::Arc, time::Duration};

use tokio::time::timeout;
use wsray_config::Networks;
use wsray_vmess::{Network, Target, UserId};

use crate::{
    dispatch::Dispatcher,
    observe::{Access, Level, Outcome},
    session::{Origin, Reach, Session, Sniffing, Source},
    transport::Socket,
};

pub use listen::{BindUnixError, Listener, SocketFile, bind, bind_unix};
pub use serve::{Connections, serve};
pub use waiting::Seat;

/// What is done for a connection, to its end.
type Served<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// What every inbound needs.
#[derive(Clone, Debug)]
pub struct Common {
    /// Its tag.
    pub tag: Option<Arc<str>>,
    /// Where its sessions go.
    pub dispatcher: Arc<Dispatcher>,
    /// Whether sessions are sniffed.
    pub sniffing: Option<Arc<Sniffing>>,
    /// The level of sessions without a user.
    pub level: u32,
    /// How long a client may take to say what it wants.
    pub handshake: Duration,
    /// What is set on its sockets.
    pub socket: Arc<wsray_config::SocketOptions>,
}

/// What a listener accepts for.
#[derive(Debug)]
pub enum Inbound {
    /// VMess from clients on other machines.
    Vmess(Box<vmess::VmessInbound>),
    /// SOCKS from programs.
    Socks(socks::SocksInbound),
    /// HTTP proxy requests from programs.
    Http(http::HttpInbound),
    /// Whatever comes, for one target or where it was going.
    Dokodemo(Box<dokodemo::DokodemoInbound>),
    /// SOCKS and HTTP on one port.
    Mixed(socks::SocksInbound, http::HttpInbound),
}

impl Inbound {
    /// Serves one connection to its end; it has its `seat` until its client is known. In a box of the size that this
    /// inbound needs, since idle connections are many.
    pub fn connection(&self, socket: Socket, peer: Source, seat: Seat) -> Served<'_> {
        match self {
            Self::Vmess(vmess) => Box::pin(vmess.connection(socket, peer, seat)),
            Self::Socks(socks) => Box::pin(socks.connection(socket, peer, seat)),
            Self::Http(http) => Box::pin(http.connection(socket, peer, seat)),
            Self::Dokodemo(door) => Box::pin(door.connection(socket, peer, seat)),
            Self::Mixed(socks, http) => Box::pin(async move {
                let served: Served<'_> = match timeout(socks.common.handshake, socket.peek()).await {
                    Ok(Ok(Some(b'A'..=b'Z'))) => Box::pin(http.connection(socket, peer, seat)),
                    Ok(Ok(Some(_))) => Box::pin(socks.connection(socket, peer, seat)),
                    _ => return,
                };
                served.await;
            }),
        }
    }

    /// Its VMess users.
    pub fn user_ids(&self) -> Vec<UserId> {
        match self {
            Self::Vmess(vmess) => vmess.names.iter().map(|name| name.id).collect(),
            _ => Vec::new(),
        }
    }

    /// Cuts the sessions of all VMess users but these; returns who is none any more.
    pub fn dismiss_all_but(&self, users: &HashSet<UserId>) -> Vec<UserId> {
        match self {
            Self::Vmess(vmess) => vmess.dismiss_all_but(users),
            _ => Vec::new(),
        }
    }

    /// What all inbounds have.
    pub fn common(&self) -> &Common {
        match self {
            Self::Vmess(vmess) => &vmess.common,
            Self::Socks(socks) | Self::Mixed(socks, _) => &socks.common,
            Self::Http(http) => &http.common,
            Self::Dokodemo(door) => &door.common,
        }
    }

    /// What it takes.
    pub fn networks(&self) -> Networks {
        match self {
            Self::Dokodemo(door) => door.networks,
            _ => Networks::Tcp,
        }
    }
}

impl Common {
    /// A session of this inbound.
    fn session(&self, source: Source, user: Option<Arc<str>>, network: Network, target: Target) -> Session {
        Session {
            id: self.dispatcher.new_id(),
            inbound: self.tag.clone(),
            origin: Origin::Client,
            source,
            user,
            level: self.level,
            idle_timeout: None,
            network,
            target,
            reach: Reach::Target,
            quota: None,
            sniffing: self.sniffing.clone(),
            overheard: None,
            said: None,
        }
    }

    /// Tells that a client was refused, and why; a flood of such lines is cut.
    fn tell_refused(
        &self,
        kind: &'static str,
        module: &'static str,
        source: Source,
        reason: &dyn std::fmt::Display,
    ) {
        let log = &self.dispatcher.log;
        log.limited(Level::Warning, kind, None, module, format_args!("{source} refused: {reason}"));
        log.access_limited(
            kind,
            &Access { source: &source, outcome: Outcome::Rejected { reason }, email: "" },
        );
    }
}
