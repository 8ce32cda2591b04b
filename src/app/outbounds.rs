//! How each outbound connects, and those first that others go through.

use std::{net::SocketAddr, sync::Arc};

use wsray_config::{Diagnostic, DomainStrategy, OutboundProtocol, Policy};

use super::outbound::build_outbound;
use crate::{
    browser::Hub,
    names::Names,
    observe::Log,
    outbound::{Hop, Outbound, TargetLookup},
    relay::IdleTimeouts,
    stream::Pool,
    transport::{Dialer, Permitted, Through},
};

/// What all outbounds share.
pub(super) struct Ways<'a> {
    pub(super) names: Arc<Names>,
    pub(super) policy: &'a Policy,
    /// The browsers, if there is a service for them.
    pub(super) hub: Option<Arc<Hub>>,
    /// Where the page for browsers is, which no session may reach.
    pub(super) page: Option<SocketAddr>,
    pub(super) pool: Arc<Pool>,
    pub(super) log: &'a Log,
}

/// How an outbound connects.
pub(super) struct Way {
    /// Gets it sockets.
    pub(super) dialer: Dialer,
    /// The outbound that it goes through, which the dialer knows as well.
    pub(super) through: Option<Arc<Outbound>>,
    /// How targets become addresses before it gets them.
    pub(super) target: Option<TargetLookup>,
    /// The browsers that may connect in its place.
    pub(super) hub: Option<Arc<Hub>>,
}

impl Ways<'_> {
    /// All outbounds, in the configuration's order; what is wrong with some is added to `wrong`.
    pub(super) fn build(
        &self,
        configs: &[wsray_config::Outbound],
        wrong: &mut Vec<Diagnostic>,
    ) -> Vec<Arc<Outbound>> {
        let mut built: Vec<Option<Arc<Outbound>>> = vec![None; configs.len()];
        let mut order: Vec<usize> = (0..configs.len()).collect();
        order.sort_by_key(|&index| hops(configs, index));
        for index in order {
            let config = &configs[index];
            let through = match &config.dial.through {
                None => None,
                Some(next) => match &built[next.outbound] {
                    Some(next) => Some(Arc::clone(next)),
                    // A complaint about it has been made.
                    None => continue,
                },
            };
            match build_outbound(config, &self.way(config, through), &self.pool) {
                Ok(outbound) => built[index] = Some(Arc::new(outbound)),
                Err(diagnostic) => wrong.push(diagnostic),
            }
        }
        built.into_iter().flatten().collect()
    }

    fn way(&self, config: &wsray_config::Outbound, through: Option<Arc<Outbound>>) -> Way {
        let dial = &config.dial;
        let strategy = dial.target_strategy;
        let target = (strategy != DomainStrategy::AsIs)
            .then(|| TargetLookup { names: Arc::clone(&self.names), strategy });
        let permitted = match &config.protocol {
            OutboundProtocol::Freedom(freedom) => Permitted::by(&freedom.final_rules, self.page),
            OutboundProtocol::Dns(_) => Permitted::by(&[], self.page),
            _ => Permitted::default(),
        };
        let dialer = Dialer {
            permitted,
            names: Arc::clone(&self.names),
            strategy: dial.domain_strategy,
            options: Arc::new(dial.socket.clone()),
            send_through: dial.send_through,
            happy_eyeballs: dial.happy_eyeballs,
            through: through.clone().map(|outbound| self.hop(outbound)),
        };
        Way { dialer, through, target, hub: self.hub.clone() }
    }

    fn hop(&self, outbound: Arc<Outbound>) -> Arc<dyn Through> {
        let timeouts = self.policy.timeouts(0);
        let timeouts = IdleTimeouts {
            both: timeouts.connection_idle,
            uplink_only: timeouts.uplink_only,
            downlink_only: timeouts.downlink_only,
        };
        Arc::new(Hop { outbound, timeouts, pool: Arc::clone(&self.pool), log: self.log.clone() })
    }
}

/// How many outbounds an outbound goes through; there are no circles.
fn hops(configs: &[wsray_config::Outbound], index: usize) -> usize {
    let next = |index: &usize| configs[*index].dial.through.as_ref().map(|next| next.outbound);
    std::iter::successors(Some(index), next).take(configs.len()).count()
}
