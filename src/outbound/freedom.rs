//! Connects to the target itself.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;
use wsray_vmess::{Network, Target};

use super::{Connected, Outbound, OutboundError, cone::ConeEndpoint, udp::Flow};
use crate::{
    relay::FirstPayload,
    session::{Mapping, Reach, Session},
    stream::{BoxEndpoint, Endpoint, Packets, Pool},
    transport::{ConnectError, Dialer, Plain},
};

/// A direct way out.
#[derive(Debug)]
pub struct Freedom {
    /// The way to targets.
    pub dialer: Dialer,
    /// The outbound that sessions go through instead.
    pub through: Option<Arc<Outbound>>,
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
    /// [`OutboundError::Connect`], and those of an outbound that it goes through.
    pub async fn connect(
        &self,
        session: &Session,
        inbound: &mut dyn Endpoint,
    ) -> Result<Connected, OutboundError> {
        let target = self.redirected(&session.target);
        if let Some(through) = &self.through {
            return Box::pin(through.connect(&Session { target, ..session.clone() }, inbound)).await;
        }
        if matches!(session.reach, Reach::Any(_)) {
            let cone = ConeEndpoint::new(self.dialer.clone(), Arc::clone(&self.pool));
            let endpoint = Box::new(cone.ready_for(&target).await?);
            return Ok(Connected { endpoint, first: FirstPayload::default(), how: None });
        }
        let late = |_| ConnectError::Timeout { stage: "connecting to the target", limit: CONNECT_TIMEOUT };
        let endpoint =
            timeout(CONNECT_TIMEOUT, self.reach(session.network, &target)).await.map_err(late)??;
        Ok(Connected { endpoint, first: FirstPayload::default(), how: None })
    }

    /// Whether packets to `target` leave from one socket with others of their application.
    pub fn gathers(&self, mapping: Mapping, target: &Target) -> bool {
        match &self.through {
            _ if self.redirect.is_some() => false,
            Some(through) => through.gathers(mapping, target),
            None => mapping != Mapping::PerTarget,
        }
    }

    async fn reach(&self, network: Network, target: &Target) -> Result<BoxEndpoint, ConnectError> {
        let addresses = self.dialer.resolve(target).await?;
        let pool = Arc::clone(&self.pool);
        Ok(match network {
            Network::Tcp => Box::new(Plain::new(self.dialer.tcp_any(&addresses).await?, pool, Vec::new())),
            Network::Udp => {
                Box::new(Packets::new(Flow::new(self.dialer.udp(addresses[0]).await?, addresses[0], pool)))
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
}
