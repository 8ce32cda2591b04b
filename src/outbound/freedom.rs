//! Connects to the target itself.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::UdpSocket, time::timeout};
use wsray_config::DomainStrategy;
use wsray_vmess::{Network, Target};

use super::{Connected, OutboundError, UdpEndpoint};
use crate::{
    relay::FirstPayload,
    session::Session,
    stream::Pool,
    transport::{ConnectError, Plain, Socket, connect_any, resolve},
};

/// A direct way out.
#[derive(Debug)]
pub struct Freedom {
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
        let connecting = async {
            let addresses = self.addresses(&target).await?;
            match session.network {
                Network::Tcp => Ok(Ok(connect_any(&addresses).await?)),
                Network::Udp => Ok(Err(addresses[0])),
            }
        };
        let late = |_| ConnectError::Timeout { stage: "connecting to the target", limit: CONNECT_TIMEOUT };
        let reached: Result<_, ConnectError> = timeout(CONNECT_TIMEOUT, connecting).await.map_err(late)?;
        let endpoint = match reached? {
            Ok(tcp) => {
                let address = tcp.peer_addr();
                let socket = Socket::new(tcp).map_err(|source| connect_error(address.ok(), source))?;
                Box::new(Plain::new(socket, Arc::clone(&self.pool), Vec::new())) as _
            }
            Err(target) => Box::new(self.udp(target).await?) as _,
        };
        Ok(Connected { endpoint, first: FirstPayload::default(), how: None })
    }

    async fn udp(&self, target: SocketAddr) -> Result<UdpEndpoint, ConnectError> {
        let any: SocketAddr = if target.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
        let socket = UdpSocket::bind(any).await.map_err(|source| connect_error(Some(target), source))?;
        Ok(UdpEndpoint::new(socket, target, Arc::clone(&self.pool)))
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
        let mut found = resolve(target).await?;
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

fn connect_error(address: Option<SocketAddr>, source: std::io::Error) -> ConnectError {
    let nowhere = SocketAddr::from(([0; 4], 0));
    ConnectError::Connect { address: address.unwrap_or(nowhere), source }
}
