//! `routing`, and V2Ray 5's `router`

use crate::{
    Inbound, Outbound, Rule, keys, keys5,
    nearest::nearest,
    node::{Dialect, Node, Parsed},
    object::Object,
};

/// What rules may refer to; `None` when it could not be read, and its tags are unknown.
pub(super) struct Tags<'a> {
    pub(super) inbounds: Option<&'a [Inbound]>,
    pub(super) outbounds: Option<&'a [Outbound]>,
}

/// Reads the rules.
pub(super) fn rules(document: &Object<'_>, tags: &Tags<'_>) -> Parsed<Vec<Rule>> {
    let Some(routing) = document.find(document.either("routing", "router")) else {
        return Ok(Vec::new());
    };
    let routing = routing.object(routing.either(keys::ROUTING, keys5::ROUTER))?;
    let rules: Vec<_> =
        routing.list(routing.either("rules", "rule"))?.iter().map(|node| rule(node, tags)).collect();
    rules.into_iter().collect()
}

fn rule(node: &Node<'_>, tags: &Tags<'_>) -> Parsed<Rule> {
    let known = node.either(keys::RULE_KEYS, keys5::RULE_KEYS);
    let object = node.object(known)?;
    let kind = kind(&object);
    let every_network = every_network(&object);
    let inbound_tags = inbound_tags(&object, tags);
    let outbound = outbound(&object, tags);
    let (inbound_tags, every_network) = (inbound_tags?, every_network?);
    if inbound_tags.is_empty() && !every_network {
        // Other conditions have been refused by their keys.
        let conditions = known.iter().filter(|key| matches!(key.fate, keys::Fate::Condition(_)));
        let has_others = conditions.filter_map(|key| object.find(key.name)).any(|node| !node.is_empty());
        if !has_others {
            return Err(node.refuse(
                "this rule has no condition",
                node.either(
                    "write \"inboundTag\": [\"...\"], or \"network\": \"tcp,udp\" for everything",
                    "write \"inboundTag\": [\"...\"], or \"networks\": { \"network\": [\"TCP\", \"UDP\"] } for \
                        everything",
                ),
            ));
        }
    }
    kind?;
    Ok(Rule { place: node.place(), inbound_tags, outbound: outbound? })
}

fn kind(rule: &Object<'_>) -> Parsed<()> {
    match rule.find("type") {
        Some(node) if !node.text("a rule type")?.eq_ignore_ascii_case("field") => {
            Err(node.expected("a rule type (field)", "write \"field\""))
        }
        _ => Ok(()),
    }
}

/// Whether `network` is there and names both TCP and UDP, which is no restriction.
fn every_network(rule: &Object<'_>) -> Parsed<bool> {
    let node = match rule.node.dialect {
        Dialect::V4 => rule.find("network"),
        Dialect::V5 => {
            let networks = rule.find("networks").map(|node| node.object(keys5::NETWORKS)).transpose()?;
            networks.and_then(|networks| networks.find("network"))
        }
    };
    let Some(node) = node else { return Ok(false) };
    let networks = node.texts("a list of networks")?;
    let has = |name: &str| networks.iter().any(|(_, network)| network.eq_ignore_ascii_case(name));
    if has("tcp") && has("udp") {
        return Ok(true);
    }
    Err(node.refuse(
        format!("rules for one network only are not supported yet, found {}", node.found()),
        node.either("write \"tcp,udp\", or remove the rule", "write [\"TCP\", \"UDP\"], or remove the rule"),
    ))
}

fn inbound_tags(rule: &Object<'_>, tags: &Tags<'_>) -> Parsed<Vec<String>> {
    let Some(node) = rule.find("inboundTag") else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for (at, name) in node.texts("a list of tags")? {
        let known = || tags.inbounds.into_iter().flatten().filter_map(|inbound| inbound.tag.as_deref());
        if tags.inbounds.is_some() && !known().any(|tag| tag == name) {
            at.warn(format!("there is no inbound with the tag {name:?}"), suggestion(name, known()));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn outbound(rule: &Object<'_>, tags: &Tags<'_>) -> Parsed<usize> {
    let key = rule.either("outboundTag", "tag");
    let Some(node) = rule.find(key) else {
        if rule.find(rule.either("balancerTag", "balancingTag")).is_some_and(|node| !node.is_off()) {
            return Err(crate::node::Reported); // By its key.
        }
        return Err(rule.missing(key, format!("write the tag of an outbound: {key:?}: \"...\"")));
    };
    let name = node.text("a tag")?;
    let Some(outbounds) = tags.outbounds else { return Ok(0) };
    outbounds.iter().position(|outbound| outbound.tag.as_deref() == Some(name)).ok_or_else(|| {
        let known = outbounds.iter().filter_map(|outbound| outbound.tag.as_deref());
        node.refuse(format!("there is no outbound with the tag {name:?}"), suggestion(name, known))
    })
}

fn suggestion<'t>(name: &str, known: impl Iterator<Item = &'t str>) -> String {
    let known: Vec<&str> = known.collect();
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("write {near:?}"),
        None if known.is_empty() => "write \"tag\": \"...\" in the one that is meant".to_owned(),
        None => format!("write one of: {}", known.join(", ")),
    }
}
