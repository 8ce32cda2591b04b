//! Connects to the target itself.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::timeout;
use wsray_config::DomainStrategy;
use wsray_vmess::{Network, Target};

use super::{Connected, OutboundError, UdpEndpoint};
use crate::{
    relay::FirstPayload,
    session::Session,
    stream::{BoxEndpoint, Pool},
    transport::{ConnectError, Dialer, Plain},
};

/// A direct way out.
#[derive(Debug)]
pub struct Freedom {
    /// The way to targets.
    pub dialer: Dialer,
    /// Which of a domain's addresses are used.
    pub domain_strategy: DomainStrategy,
    /// Where every session goes instead of its own target.
    pub redirect: Option<wsray_config::Redirect>,
    /// Where buffers come from.
    pub pool: Arc<Pool>,
}

/// How long a connection may take (v2fly/v2ray-core `transport/internet/system_dialer.go`).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(16);

impl Freedom {
    /// Connects to the session's target.
    ///
    /// # Errors
    /// [`OutboundError::Connect`].
    pub async fn connect(&self, session: &Session) -> Result<Connected, OutboundError> {
        let target = self.redirected(&session.target);
        let late = |_| ConnectError::Timeout { stage: "connecting to the target", limit: CONNECT_TIMEOUT };
        let endpoint =
            timeout(CONNECT_TIMEOUT, self.reach(session.network, &target)).await.map_err(late)??;
        Ok(Connected { endpoint, first: FirstPayload::default(), how: None })
    }

    async fn reach(&self, network: Network, target: &Target) -> Result<BoxEndpoint, ConnectError> {
        let addresses = self.addresses(target).await?;
        let pool = Arc::clone(&self.pool);
        Ok(match network {
            Network::Tcp => Box::new(Plain::new(self.dialer.tcp_any(&addresses).await?, pool, Vec::new())),
            Network::Udp => {
                Box::new(UdpEndpoint::new(self.dialer.udp(addresses[0]).await?, addresses[0], pool))
            }
        })
    }

    fn redirected(&self, target: &Target) -> Target {
        let Some(redirect) = &self.redirect else { return target.clone() };
        Target {
            address: redirect.address.clone().unwrap_or_else(|| target.address.clone()),
            port: redirect.port.map_or(target.port, std::num::NonZeroU16::get),
        }
    }

    /// The target's addresses that the strategy allows; at least one.
    async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, ConnectError> {
        let mut found = self.dialer.resolve(target).await?;
        match self.domain_strategy {
            DomainStrategy::AsIs | DomainStrategy::UseIp => {}
            DomainStrategy::UseIpv4 => found.retain(SocketAddr::is_ipv4),
            DomainStrategy::UseIpv6 => found.retain(SocketAddr::is_ipv6),
        }
        if found.is_empty() {
            let source = std::io::Error::new(std::io::ErrorKind::NotFound, "no address of the wanted family");
            return Err(ConnectError::Resolve { name: target.address.to_string(), source });
        }
        Ok(found)
    }
}
