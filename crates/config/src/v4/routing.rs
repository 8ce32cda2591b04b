//! `routing`, and V2Ray 5's `router`

use std::collections::HashMap;

use wsray_route::{Balancer, Choice, Destination, DomainStrategy};

use super::{rule, values};
use crate::{
    Inbound, Outbound, Place, Routing, Rule, keys, keys5,
    nearest::nearest,
    node::{Dialect, Node, Parsed},
    object::Object,
    v5,
};

/// What rules may refer to; `None` when it could not be read, and its tags are unknown.
pub(crate) struct Tags<'a> {
    pub(crate) inbounds: Option<&'a [Inbound]>,
    pub(crate) outbounds: Option<&'a [Outbound]>,
    /// The tags of questions to name servers, and of inbounds that nothing listens on.
    pub(super) others: Vec<&'a str>,
}

/// Reads where sessions go.
pub(super) fn routing(document: &Object<'_>, tags: &Tags<'_>) -> Parsed<Routing> {
    let Some(node) = document.find(document.either("routing", "router")) else {
        return Ok(Routing::default());
    };
    let object = node.object(node.either(keys::ROUTING, keys5::ROUTER))?;
    let old = match object.node.dialect {
        Dialect::V4 => object.find("settings").map(|node| node.object(keys::ROUTING_SETTINGS)).transpose()?,
        Dialect::V5 => None,
    };
    let strategy = object.find("domainStrategy");
    let strategy = strategy.or_else(|| old.as_ref().and_then(|old| old.find("domainStrategy")));
    let domain_strategy = strategy.map_or(Ok(DomainStrategy::AsIs), |node| domain_strategy(&node));
    let balancers = balancers(&object, tags);
    let mut nodes = object.list(object.either("rules", "rule"))?;
    // Behind the others, as in V2Ray 4 (`infra/conf/router.go`).
    nodes.extend(old.map(|old| old.list("rules")).transpose()?.unwrap_or_default());
    let rules: Vec<_> = nodes.iter().map(|node| rule(node, tags, balancers.as_deref().ok())).collect();
    let rules = rules.into_iter().collect::<Parsed<_>>();
    let balancers = balancers?.into_iter().map(|named| named.balancer).collect();
    Ok(Routing { domain_strategy: domain_strategy?, rules: rules?, balancers })
}

fn domain_strategy(node: &Node<'_>) -> Parsed<DomainStrategy> {
    const STRATEGIES: values::Names = values::Names {
        what: "a domain strategy",
        known: &["AsIs", "IPIfNonMatch", "IPOnDemand"],
        // Both have the effect of `AsIs` in V2Ray (`app/router/router.go`).
        foreign: &["AlwaysIP", "UseIP"],
        foreign_help: "write \"IPOnDemand\" to look names up before rules on addresses are tried",
    };
    let name = node.text(STRATEGIES.what)?;
    match name.to_ascii_lowercase().as_str() {
        "" | "asis" => Ok(DomainStrategy::AsIs),
        "ipifnonmatch" => Ok(DomainStrategy::IpIfNonMatch),
        "ipondemand" => Ok(DomainStrategy::IpOnDemand),
        _ => Err(STRATEGIES.unknown(node, name)),
    }
}

/// A balancer by its name.
struct Named<'t> {
    tag: &'t str,
    place: Place,
    balancer: Balancer,
}

fn balancers<'a>(routing: &Object<'a>, tags: &Tags<'_>) -> Parsed<Vec<Named<'a>>> {
    let nodes = routing.list(routing.either("balancers", "balancingRule"))?;
    let balancers: Vec<_> = nodes.iter().map(|node| balancer(node, tags)).collect();
    let balancers: Vec<Named<'a>> = balancers.into_iter().collect::<Parsed<_>>()?;
    let mut result = Ok(());
    let mut seen = HashMap::new();
    for named in &balancers {
        if let Some(first) = seen.insert(named.tag, &named.place) {
            let message =
                format!("the tag {:?} is taken by the balancer {}", named.tag, first.seen_from(&named.place));
            let error = crate::Diagnostic::at(&named.place, message).help("give it another tag");
            result = Err(routing.node.reader.refuse(error));
        }
    }
    result.map(|()| balancers)
}

fn balancer<'a>(node: &Node<'a>, tags: &Tags<'_>) -> Parsed<Named<'a>> {
    let object = node.object(node.either(keys::BALANCER, keys5::BALANCER))?;
    let tag = match object.text("tag", "a tag") {
        Ok(None) => Err(object.missing("tag", "write the name that rules know it by: \"tag\": \"...\"")),
        Ok(Some(tag)) => Ok(tag),
        Err(reported) => Err(reported),
    };
    let strategy = strategy(&object);
    let key = object.either("selector", "outboundSelector");
    let selectors = match object.find(key).filter(|node| !node.is_empty()) {
        Some(selector) => selector.texts("a list of beginnings of tags").map(|texts| (selector, texts)),
        None => Err(object.missing(key, format!("write how the outbounds' tags begin: {key:?}: [\"...\"]"))),
    };
    let fallback = object.find("fallbackTag").filter(|node| !node.is_empty());
    let fallback = fallback.map(|node| outbound_index(&node, tags)).transpose();
    let (selector, selectors) = selectors?;
    let selectors: Vec<&str> = selectors.into_iter().map(|(_, text)| text).collect();
    let outbounds = tags.outbounds.unwrap_or_default();
    let known = || outbounds.iter().map(|outbound| outbound.tag.as_deref());
    let balancer = Balancer::new(&selectors, fallback?, known());
    if tags.outbounds.is_some() && balancer.candidates().is_empty() {
        let first = selectors.first().copied().unwrap_or_default();
        selector.warn("no outbound's tag begins like this", suggestion(first, known().flatten()));
    }
    Ok(Named { tag: tag?, place: node.place(), balancer: balancer.with_choice(strategy?) })
}

/// By chance, or in turn. Which outbound answers fastest is not known here.
fn strategy(balancer: &Object<'_>) -> Parsed<Choice> {
    const STRATEGIES: values::Names = values::Names {
        what: "a way to choose",
        known: &["random", "roundRobin"],
        foreign: &[],
        foreign_help: "",
    };
    let Some(node) = balancer.find("strategy") else { return Ok(Choice::Random) };
    let node = if node.is_object() {
        match node.object(keys::STRATEGY)?.find("type") {
            Some(kind) => kind,
            None => return Ok(Choice::Random),
        }
    } else {
        node
    };
    let name = node.text(STRATEGIES.what)?;
    match name.to_ascii_lowercase().as_str() {
        "" | "random" => Ok(Choice::Random),
        "roundrobin" => Ok(Choice::InTurn),
        "leastping" | "leastload" => {
            node.warn(
                format!("{name:?} is not supported yet: one is chosen by chance, whether it works or not"),
                "leave outbounds that may fail out of \"selector\"",
            );
            Ok(Choice::Random)
        }
        _ => Err(STRATEGIES.unknown(&node, name)),
    }
}

fn rule(node: &Node<'_>, tags: &Tags<'_>, balancers: Option<&[Named<'_>]>) -> Parsed<Rule> {
    let known = node.either(keys::RULE_KEYS, keys5::RULE_KEYS);
    let object = node.object(known)?;
    let kind = kind(&object);
    let conditions = match node.dialect {
        Dialect::V4 => rule::conditions(&object, tags),
        Dialect::V5 => v5::rule::conditions(&object, tags),
    };
    let to = destination(&object, tags, balancers);
    let conditions = conditions?;
    if conditions.is_empty() {
        // Others have been refused by their keys.
        let others = known.iter().filter(|key| matches!(key.fate, keys::Fate::Condition(_)));
        if !others.filter_map(|key| object.find(key.name)).any(|node| !node.is_empty()) {
            return Err(node.refuse(
                "this rule has no condition",
                node.either(
                    "write one, such as \"domain\": [\"...\"], or \"network\": \"tcp,udp\" for everything",
                    "write one, such as \"inboundTag\": [\"...\"], or \"networks\": \"tcp,udp\" \
                        for everything",
                ),
            ));
        }
    }
    kind?;
    Ok(Rule { place: node.place(), conditions, to: to? })
}

fn kind(rule: &Object<'_>) -> Parsed<()> {
    match rule.find("type") {
        Some(node) if !node.text("a rule type")?.eq_ignore_ascii_case("field") => {
            Err(node.expected("a rule type (field)", "write \"field\""))
        }
        _ => Ok(()),
    }
}

/// The outbound, if both are there, as in V2Ray (`infra/conf/rule/rule.go`).
fn destination(rule: &Object<'_>, tags: &Tags<'_>, balancers: Option<&[Named<'_>]>) -> Parsed<Destination> {
    let key = rule.either("outboundTag", "tag");
    let balancer = rule.find(rule.either("balancerTag", "balancingTag")).filter(|node| !node.is_empty());
    if let Some(node) = rule.find(key).filter(|node| balancer.is_none() || !node.is_empty()) {
        if let Some(balancer) = balancer {
            balancer.warn(format!("this has no effect beside {key:?}"), "remove one of them");
        }
        return outbound_index(&node, tags).map(Destination::Outbound);
    }
    let Some(node) = balancer else {
        return Err(rule.missing(key, format!("write the tag of an outbound: {key:?}: \"...\"")));
    };
    let name = node.text("a tag")?;
    let Some(balancers) = balancers else { return Ok(Destination::Balancer(0)) };
    let index = balancers.iter().position(|balancer| balancer.tag == name);
    index.map(Destination::Balancer).ok_or_else(|| {
        let help = if balancers.is_empty() {
            format!("write {key:?}, or add {:?}", rule.either("balancers", "balancingRule"))
        } else {
            suggestion(name, balancers.iter().map(|balancer| balancer.tag))
        };
        node.refuse(format!("there is no balancer with the tag {name:?}"), help)
    })
}

fn outbound_index(node: &Node<'_>, tags: &Tags<'_>) -> Parsed<usize> {
    let name = node.text("a tag")?;
    let Some(outbounds) = tags.outbounds else { return Ok(0) };
    outbounds.iter().position(|outbound| outbound.tag.as_deref() == Some(name)).ok_or_else(|| {
        let known = outbounds.iter().filter_map(|outbound| outbound.tag.as_deref());
        node.refuse(format!("there is no outbound with the tag {name:?}"), suggestion(name, known))
    })
}

/// What to write instead of a tag that nothing has.
pub(super) fn suggestion<'t>(name: &str, known: impl Iterator<Item = &'t str>) -> String {
    let known: Vec<&str> = known.collect();
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("write {near:?}"),
        None if known.is_empty() => "write \"tag\": \"...\" in the one that is meant".to_owned(),
        None => format!("write one of: {}", known.join(", ")),
    }
}
