//! Rules and the router that asks them.
//!
//! The router does no look-up: where a rule depends on the addresses of the target's name it says so
//! ([`Decision::NeedIps`]), and is asked again with the answer. Only then: no name is looked up for rules that could
//! not hold whatever its addresses are.
//!
//! Source: v2fly/v2ray-core `app/router/router.go` and `condition.go`.

use crate::{Attributes, DomainSet, Expression, IpSet, Network, Networks, PortSet};
use std::{
    net::{IpAddr, SocketAddr},
    slice,
    sync::Arc,
};

/// What is known of a session when it is routed.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The target's name: as asked for, or as sniffed.
    pub domain: Option<&'a str>,
    /// The target's address, if that is what was asked for. V2Ray has a name or an address, never both: a sniffed
    /// name takes the address's place.
    pub ip: Option<IpAddr>,
    /// The addresses of the name: `None` before it has been looked up, empty if it has none or may not be looked up.
    pub resolved: Option<&'a [IpAddr]>,
    /// The target's port.
    pub port: u16,
    /// What the session runs over.
    pub network: Network,
    /// Who opened it, after all proxies in front.
    pub source: Option<SocketAddr>,
    /// The e-mail of its user.
    pub user: Option<&'a str>,
    /// The tag of its inbound.
    pub inbound: Option<&'a str>,
    /// What was sniffed: [`Sniffed::protocol`](crate::Sniffed::protocol).
    pub protocol: Option<&'a str>,
    /// What its HTTP request says.
    pub attributes: Option<&'a Attributes>,
}

impl Facts<'_> {
    /// Nothing is known but these two.
    pub fn new(network: Network, port: u16) -> Self {
        Self {
            domain: None,
            ip: None,
            resolved: None,
            port,
            network,
            source: None,
            user: None,
            inbound: None,
            protocol: None,
            attributes: None,
        }
    }
}

/// One condition of a rule. Sets are shared by rules that name the same lists.
#[derive(Clone, Debug)]
pub enum Condition {
    /// `domain`: the target's name is in the set.
    Domain(Arc<DomainSet>),
    /// `ip`: one of the target's addresses is in the set.
    Ip(Arc<IpSet>),
    /// `port`: the target's.
    Port(PortSet),
    /// `network`.
    Network(Networks),
    /// `source`: the address that opened the session is in the set.
    Source(Arc<IpSet>),
    /// `sourcePort`; a session without a source has the port 0, as in V2Ray.
    SourcePort(PortSet),
    /// `user`: one of these e-mails, exactly.
    User(Box<[String]>),
    /// `inboundTag`: one of these tags, exactly.
    Inbound(Box<[String]>),
    /// `protocol`: what was sniffed begins with one of these, so that `http` is `http1` as well.
    Protocol(Box<[String]>),
    /// `attrs`.
    Attributes(Expression),
}

/// What can be said of a condition or a rule now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Holds,
    Fails,
    /// It depends on the addresses of the target's name, which are not known.
    NeedsIps,
}

impl From<bool> for Verdict {
    fn from(holds: bool) -> Self {
        if holds { Self::Holds } else { Self::Fails }
    }
}

impl Condition {
    fn verdict(&self, facts: &Facts<'_>) -> Verdict {
        let one_of =
            |list: &[String], value: Option<&str>| list.iter().any(|own| Some(own.as_str()) == value);
        let holds = match self {
            Self::Domain(set) => facts.domain.is_some_and(|domain| set.is_match(domain)),
            Self::Ip(set) => return target_verdict(set, facts),
            Self::Port(set) => set.contains(facts.port),
            Self::Network(networks) => networks.contains(facts.network),
            Self::Source(set) => facts.source.is_some_and(|source| set.contains(source.ip())),
            Self::SourcePort(set) => set.contains(facts.source.map_or(0, |source| source.port())),
            Self::User(users) => one_of(users, facts.user),
            Self::Inbound(tags) => one_of(tags, facts.inbound),
            Self::Protocol(names) => {
                let protocol = facts.protocol.unwrap_or_default();
                names.iter().any(|name| !name.is_empty() && protocol.starts_with(name.as_str()))
            }
            Self::Attributes(expression) => {
                facts.attributes.is_some_and(|attributes| expression.holds(attributes))
            }
        };
        holds.into()
    }

    /// The cheapest first, and last those for which a name may have to be looked up.
    fn cost(&self) -> u8 {
        match self {
            Self::Port(_) | Self::Network(_) | Self::SourcePort(_) => 0,
            Self::User(_) | Self::Inbound(_) | Self::Protocol(_) => 1,
            Self::Source(_) => 2,
            Self::Domain(_) => 3,
            Self::Attributes(_) => 4,
            Self::Ip(_) => 5,
        }
    }
}

fn target_verdict(set: &IpSet, facts: &Facts<'_>) -> Verdict {
    let any = |addresses: &[IpAddr]| addresses.iter().any(|&address| set.contains(address)).into();
    match (&facts.ip, facts.resolved, facts.domain) {
        (Some(ip), ..) => any(slice::from_ref(ip)),
        (None, Some(resolved), _) => any(resolved),
        (None, None, Some(_)) => Verdict::NeedsIps,
        (None, None, None) => Verdict::Fails,
    }
}

/// Conditions that must all hold, and where the session goes then.
#[derive(Clone, Debug)]
pub struct Rule {
    conditions: Box<[Condition]>,
    to: Destination,
}

/// Where a rule sends a session: a place in the caller's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `outboundTag`.
    Outbound(usize),
    /// `balancerTag`.
    Balancer(usize),
}

impl Rule {
    /// The rule of these conditions.
    ///
    /// # Errors
    /// There is none: V2Ray refuses such a rule too.
    pub fn new(mut conditions: Vec<Condition>, to: Destination) -> Result<Self, NoCondition> {
        if conditions.is_empty() {
            return Err(NoCondition);
        }
        conditions.sort_by_key(Condition::cost);
        Ok(Self { conditions: conditions.into(), to })
    }

    fn verdict(&self, facts: &Facts<'_>) -> Verdict {
        for condition in &self.conditions {
            match condition.verdict(facts) {
                Verdict::Holds => {}
                // Conditions on addresses are the last: all others hold.
                other => return other,
            }
        }
        Verdict::Holds
    }
}

/// A rule without a condition: its writer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this rule has no condition")]
pub struct NoCondition;

/// When names are looked up for the sake of rules: `domainStrategy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DomainStrategy {
    /// Never: conditions on addresses fail for names.
    #[default]
    AsIs,
    /// If no rule holds for the name, it is looked up and all rules are asked again.
    IpIfNonMatch,
    /// As soon as a rule has a condition on addresses.
    IpOnDemand,
}

/// Rules in order; the first that holds decides.
#[derive(Clone, Debug, Default)]
pub struct Router {
    strategy: DomainStrategy,
    rules: Box<[Rule]>,
}

/// Where a session goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A rule holds.
    Rule {
        /// Its place in the list, for the log.
        index: usize,
        /// What it says.
        to: Destination,
    },
    /// No rule holds: the first outbound.
    Default,
    /// Look the target's name up and ask again with [`Facts::resolved`], empty if that failed.
    NeedIps,
}

impl Router {
    /// The router of these rules.
    pub fn new(strategy: DomainStrategy, rules: Vec<Rule>) -> Self {
        Self { strategy, rules: rules.into() }
    }

    /// Where this session goes. It never answers [`Decision::NeedIps`] when [`Facts::resolved`] is there.
    pub fn route(&self, facts: &Facts<'_>) -> Decision {
        let unresolved = Facts { resolved: None, ..*facts };
        match self.strategy {
            DomainStrategy::AsIs => self.first(&Facts { resolved: Some(&[]), ..*facts }),
            DomainStrategy::IpOnDemand => self.first(facts),
            DomainStrategy::IpIfNonMatch => self.first_without_ips(&unresolved).unwrap_or_else(|| {
                // Without addresses no rule holds.
                self.first(facts)
            }),
        }
    }

    /// The first rule that holds, unless one before it depends on addresses.
    fn first(&self, facts: &Facts<'_>) -> Decision {
        for (index, rule) in self.rules.iter().enumerate() {
            match rule.verdict(facts) {
                Verdict::Holds => return Decision::Rule { index, to: rule.to },
                Verdict::NeedsIps => return Decision::NeedIps,
                Verdict::Fails => {}
            }
        }
        Decision::Default
    }

    /// The first rule that holds whatever the addresses are.
    fn first_without_ips(&self, facts: &Facts<'_>) -> Option<Decision> {
        let index = self.rules.iter().position(|rule| rule.verdict(facts) == Verdict::Holds)?;
        Some(Decision::Rule { index, to: self.rules[index].to })
    }
}
