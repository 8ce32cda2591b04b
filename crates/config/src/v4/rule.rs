//! The conditions of a rule.

use std::{fmt::Display, str::FromStr};

use wsray_route::{DomainSource, Network, Networks, PortSet, Sense};

use super::routing::{Tags, suggestion};
use crate::{
    Condition, IpGroup, Placed,
    node::{Node, Parsed},
    object::Object,
};

/// Reads all conditions; one that is empty is none, as in V2Ray.
pub(super) fn conditions(rule: &Object<'_>, tags: &Tags<'_>) -> Parsed<Vec<Condition>> {
    let all = [
        domains(rule),
        present(rule, "ip", |node| Ok(Condition::Ip(addresses(node)?))),
        present(rule, "port", |node| Ok(Condition::Port(ports(node)?))),
        present(rule, "network", |node| Ok(Condition::Network(networks(node)?))),
        present_any(rule, &["source", "sourceIP"], |node| Ok(Condition::Source(addresses(node)?))),
        present(rule, "sourcePort", |node| Ok(Condition::SourcePort(ports(node)?))),
        present(rule, "user", |node| Ok(Condition::User(names(node, "a list of emails")?))),
        present(rule, "inboundTag", |node| Ok(Condition::Inbound(inbound_tags(node, tags)?))),
        present(rule, "protocol", |node| Ok(Condition::Protocol(protocols(node)?))),
        present(rule, "attrs", |node| Ok(Condition::Attributes(attributes(node)?))),
    ];
    let all = all.into_iter().collect::<Parsed<Vec<_>>>()?;
    Ok(all.into_iter().flatten().collect())
}

/// The condition of `key`, if anything is in it.
pub(crate) fn present(
    rule: &Object<'_>,
    key: &str,
    read: impl FnOnce(&Node<'_>) -> Parsed<Condition>,
) -> Parsed<Option<Condition>> {
    present_any(rule, &[key], read)
}

fn present_any(
    rule: &Object<'_>,
    keys: &[&str],
    read: impl FnOnce(&Node<'_>) -> Parsed<Condition>,
) -> Parsed<Option<Condition>> {
    rule.find_any(keys).filter(|node| !node.is_empty()).map(|node| read(&node)).transpose()
}

/// `domain` and `domains`, together.
fn domains(rule: &Object<'_>) -> Parsed<Option<Condition>> {
    let lists = ["domain", "domains"].iter().filter_map(|key| rule.find(key));
    let lists = lists.map(|node| domain_list(&node)).collect::<Vec<_>>();
    let list = lists.into_iter().collect::<Parsed<Vec<_>>>()?.concat();
    Ok(Some(list).filter(|list| !list.is_empty()).map(Condition::Domain))
}

/// Names, and lists of names.
pub(super) fn domain_list(node: &Node<'_>) -> Parsed<Vec<Placed<DomainSource>>> {
    let mut result = Ok(Vec::new());
    for (at, text) in node.texts("a list of domains")? {
        collect(&mut result, parsed(&at, text, domain_help(text)));
    }
    result
}

fn domain_help(text: &str) -> &'static str {
    if text.starts_with("regexp:") {
        "check the regular expression, which is in Go's syntax (RE2), and write \\\\ for one backslash"
    } else if text.starts_with("geosite:") || text.starts_with("ext") {
        "write \"geosite:NAME\", or \"ext:FILE:NAME\" for a file of your own"
    } else {
        "write \"domain:example.com\" for it and all below it, \"full:www.example.com\" for it alone, or a part of \
            the name"
    }
}

pub(super) fn addresses(node: &Node<'_>) -> Parsed<Vec<IpGroup>> {
    let mut result = Ok(Vec::new());
    for (at, text) in node.texts("a list of addresses")? {
        let is_name = !text.contains([':', '/']) && text.chars().any(|c| c.is_ascii_alphabetic());
        let help = if is_name {
            "write an address, a network such as \"10.0.0.0/8\", or \"geoip:...\"; names go into \"domain\""
        } else {
            "write an address, a network such as \"10.0.0.0/8\", or \"geoip:...\""
        };
        collect(&mut result, parsed(&at, text, help));
    }
    Ok(vec![IpGroup { sense: Sense::Inside, sources: result? }])
}

/// Adds `one`, or makes it all an error.
pub(crate) fn collect<T>(all: &mut Parsed<Vec<T>>, one: Parsed<T>) {
    match (all.as_mut(), one) {
        (Ok(list), Ok(one)) => list.push(one),
        (_, Err(reported)) => *all = Err(reported),
        (Err(_), Ok(_)) => {}
    }
}

/// What `text` means, at the place of `node`.
pub(crate) fn parsed<T>(node: &Node<'_>, text: &str, help: &str) -> Parsed<Placed<T>>
where
    T: FromStr<Err: Display>,
{
    match text.parse() {
        Ok(value) => Ok(Placed { place: node.place(), value }),
        Err(error) => Err(node.refuse(one_line(&error), help)),
    }
}

/// An error without line breaks, which those of regular expressions have.
fn one_line(error: &impl Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A number, or a text such as `80,443,1000-2000`.
pub(crate) fn ports(node: &Node<'_>) -> Parsed<PortSet> {
    const HELP: &str = "write a port, or several such as \"80,443,1000-2000\"";
    if let Some(text) = node.as_text() {
        return parsed(node, text, HELP).map(|ports| ports.value);
    }
    let port = node.number("a port", 0..=65535)?;
    u16::try_from(port).map(PortSet::from).map_err(|_| node.expected("a port", HELP))
}

/// `tcp`, `udp`, or both.
pub(crate) fn networks(node: &Node<'_>) -> Parsed<Networks> {
    let what = "a network (tcp, udp)";
    let help = "write \"tcp\", \"udp\", or \"tcp,udp\" for both";
    let mut all = Ok(Vec::new());
    for (at, name) in node.texts("a list of networks")? {
        let network = match name.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Network::Tcp),
            "udp" => Ok(Network::Udp),
            _ => Err(at.expected(what, help)),
        };
        collect(&mut all, network);
    }
    Networks::of(all?).ok_or_else(|| node.expected(what, help))
}

/// A list of names, of which empty ones are nobody's.
pub(crate) fn names(node: &Node<'_>, what: &str) -> Parsed<Vec<String>> {
    let texts = node.texts(what)?;
    Ok(texts.into_iter().map(|(_, text)| text.to_owned()).filter(|text| !text.is_empty()).collect())
}

/// What can be overheard.
const PROTOCOLS: [&str; 3] = ["http", "tls", "bittorrent"];

pub(crate) fn protocols(node: &Node<'_>) -> Parsed<Vec<String>> {
    let texts = node.texts("a list of protocols")?;
    for (at, text) in &texts {
        let is_known = ["http1", "tls", "bittorrent"].iter().any(|name| name.starts_with(text));
        if !is_known {
            at.warn(
                format!("{text:?} is never overheard: this does not hold for any session"),
                suggestion(text, PROTOCOLS.into_iter()),
            );
        }
    }
    Ok(texts.into_iter().map(|(_, text)| text.to_owned()).filter(|text| !text.is_empty()).collect())
}

pub(crate) fn inbound_tags(node: &Node<'_>, tags: &Tags<'_>) -> Parsed<Vec<String>> {
    let mut names = Vec::new();
    for (at, name) in node.texts("a list of tags")? {
        let of_inbounds = || tags.inbounds.into_iter().flatten().filter_map(|inbound| inbound.tag.as_deref());
        let known = || of_inbounds().chain(tags.others.iter().copied());
        if tags.inbounds.is_some() && !known().any(|tag| tag == name) {
            at.warn(format!("there is no inbound with the tag {name:?}"), suggestion(name, known()));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

pub(crate) fn attributes(node: &Node<'_>) -> Parsed<wsray_route::Expression> {
    let text = node.text("an expression")?;
    let help = "write an expression such as \"attrs[':method'] == 'GET'\"";
    parsed(node, text, help).map(|expression| expression.value)
}
