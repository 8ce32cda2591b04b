//! A connection that goes through another outbound: `proxySettings` and `dialerProxy`.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use wsray_vmess::{Network, Target};

use super::Outbound;
use crate::{
    observe::{Level, Log},
    relay::{IdleTimeouts, cut, relay},
    session::{Origin, Reach, Session, Source},
    stream::Pool,
    transport::{Plain, Socket, Through},
};

/// The next outbound of a chain.
#[derive(Debug)]
pub struct Hop {
    /// The outbound.
    pub outbound: Arc<Outbound>,
    /// How long its sessions may be idle.
    pub timeouts: IdleTimeouts,
    /// Where buffers come from.
    pub pool: Arc<Pool>,
    /// Where to tell of it.
    pub log: Log,
}

impl Hop {
    /// The session of an outbound that goes through this one.
    pub fn session(target: &Target, network: Network) -> Session {
        Session {
            id: 0,
            inbound: None,
            origin: Origin::Client,
            source: Source::Address(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            user: None,
            level: 0,
            idle_timeout: None,
            network,
            target: target.clone(),
            reach: Reach::Target,
            quota: None,
            sniffing: None,
            overheard: None,
            said: None,
        }
    }
}

impl Through for Hop {
    /// The outbound is reached in a task of its own, so that what the stream carries first can go along.
    fn open(&self, target: &Target) -> io::Result<Socket> {
        let (near, far) = Socket::pair()?;
        let session = Self::session(target, Network::Tcp);
        let (outbound, timeouts, log) = (Arc::clone(&self.outbound), self.timeouts, self.log.clone());
        let mut inbound: Box<_> = Box::new(Plain::new(far, Arc::clone(&self.pool), Vec::new()));
        tokio::spawn(async move {
            match Box::pin(outbound.connect(&session, &mut *inbound)).await {
                Ok(connected) => {
                    let _ = relay(inbound, connected.endpoint, connected.first, timeouts).await;
                }
                Err(error) => {
                    let tag = outbound.tag.as_deref().unwrap_or("outbound");
                    log.limited(
                        Level::Warning,
                        "failed connections",
                        None,
                        "outbound",
                        format_args!(
                            "[{tag}] {}:{}, on the way of another outbound: {error}",
                            session.network, session.target
                        ),
                    );
                    cut(inbound).await;
                }
            }
        });
        Ok(near)
    }
}
