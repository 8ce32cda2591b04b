//! How the users of a server reach its private networks, as far as routing says.

use wsray_route::{Addresses, Destination, DomainStrategy, IpSet, Networks, Sense};

use crate::{Condition, Config, Inbound, InboundProtocol, IpGroup, OutboundProtocol, Place, Rule};

/// What users reach private targets by, through one outbound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach<'a> {
    /// By their addresses.
    Addresses,
    /// By names that lead to them: those are not looked up for the rule that closes their addresses.
    Names(&'a Place),
    /// By names whose answers change: the rule looks them up, and whoever connects does so once more.
    ChangingNames(&'a Place),
    /// By nothing.
    Nothing,
}

impl Reach<'_> {
    /// How the users of `config` reach private targets through the outbound with this index.
    pub(super) fn of(config: &Config, outbound: usize) -> Reach<'_> {
        let users: Vec<_> = config.inbounds.iter().filter(|inbound| serves(inbound)).collect();
        // A loopback may lead anywhere.
        let may_be = |to: usize| {
            to == outbound || matches!(config.outbounds[to].protocol, OutboundProtocol::Loopback(_))
        };
        let leads_here = |rule: &Rule| match rule.to {
            Destination::Outbound(to) => may_be(to),
            Destination::Balancer(balancer) => match config.routing.balancers[balancer].candidates() {
                [] => true,
                candidates => candidates.iter().any(|&to| may_be(to)),
            },
        };
        let rules: Vec<_> = config.routing.rules.iter().filter(|rule| may_hold(rule, &users)).collect();
        let closing = |rule: &&Rule| leads_here(rule) || closes(rule, &users);
        let Some(closing) = rules.iter().find(|rule| closing(rule)).filter(|rule| !leads_here(rule)) else {
            return Reach::Addresses;
        };
        let mut ways = rules.iter().filter(|rule| leads_here(rule)).peekable();
        let is_reached = may_be(0) || ways.peek().is_some();
        // Such a rule holds for a name before anybody looks it up.
        let takes_names = ways.any(|rule| !rule.conditions.iter().any(|one| matches!(one, Condition::Ip(_))));
        match config.routing.domain_strategy {
            DomainStrategy::AsIs if may_be(0) || takes_names => Reach::Names(&closing.place),
            DomainStrategy::IpIfNonMatch if takes_names => Reach::Names(&closing.place),
            DomainStrategy::IpIfNonMatch | DomainStrategy::IpOnDemand if is_reached => {
                Reach::ChangingNames(&closing.place)
            }
            _ => Reach::Nothing,
        }
    }
}

/// Whether somebody uses this server by the inbound.
pub(super) fn serves(inbound: &Inbound) -> bool {
    matches!(&inbound.protocol, InboundProtocol::Vmess(vmess) if !vmess.users.is_empty())
}

/// Whether the rule is not for other inbounds only.
fn may_hold(rule: &Rule, users: &[&Inbound]) -> bool {
    let is_theirs = |tags: &[String]| users.iter().any(|inbound| has_tag(inbound, tags));
    rule.conditions.iter().all(|one| !matches!(one, Condition::Inbound(tags) if !is_theirs(tags)))
}

/// Whether the rule holds for every private address that one of these users asks for.
fn closes(rule: &Rule, users: &[&Inbound]) -> bool {
    let mut names_private = false;
    let always_holds = rule.conditions.iter().all(|condition| match condition {
        Condition::Ip(groups) => {
            names_private = has_all_private(groups);
            names_private
        }
        Condition::Network(networks) => *networks == Networks::Both,
        Condition::Inbound(tags) => users.iter().all(|inbound| has_tag(inbound, tags)),
        _ => false,
    });
    always_holds && names_private
}

fn has_tag(inbound: &Inbound, tags: &[String]) -> bool {
    inbound.tag.as_ref().is_some_and(|tag| tags.contains(tag))
}

/// Whether every private address is in one of these groups. What lists in files hold is not known here.
fn has_all_private(groups: &[IpGroup]) -> bool {
    let known: Vec<_> = groups.iter().filter_map(known_part).collect();
    let others = IpSet::private().complement();
    IpSet::union(known.iter().chain([&others])).complement().is_empty()
}

/// What is known to be in the group; `None`: nothing.
fn known_part(group: &IpGroup) -> Option<IpSet> {
    let is_known = |addresses: &Addresses| !matches!(addresses, Addresses::List { .. });
    let sources = group.sources.iter().map(|source| &source.value);
    let known: Vec<_> = sources.filter(|source| is_known(&source.addresses)).cloned().collect();
    let set = wsray_route::ip_set(&known, |_, _| Err(())).ok()?;
    match group.sense {
        Sense::Inside => Some(set),
        Sense::Outside => (known.len() == group.sources.len()).then(|| set.complement()),
    }
}
