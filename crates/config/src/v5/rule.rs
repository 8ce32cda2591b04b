//! The conditions of a rule in V2Ray 5's own dialect: objects where V2Ray 4 has texts.
//!
//! Source: v2fly/v2ray-core (5.x) `app/router/config.proto` and `app/router/routercommon/common.proto`.

use std::net::IpAddr;

use data_encoding::BASE64;
use wsray_route::{
    Addresses, Cidr, DomainCondition, DomainKind, DomainSource, GEOIP_FILE, GEOSITE_FILE, IpSource, Sense,
};

use crate::{
    Condition, IpGroup, Placed, keys5,
    node::{Node, Parsed},
    object::Object,
    v4::{
        routing::Tags,
        rule::{attributes, collect, inbound_tags, names, networks, parsed, ports, present, protocols},
        values,
    },
};

/// Reads all conditions; one that is empty is none.
pub(crate) fn conditions(rule: &Object<'_>, tags: &Tags<'_>) -> Parsed<Vec<Condition>> {
    let all = [
        domains(rule),
        present(rule, "geoip", |node| Ok(Condition::Ip(groups(node)?))),
        present(rule, "portList", |node| Ok(Condition::Port(ports(node)?))),
        present(rule, "networks", |node| Ok(Condition::Network(networks(node)?))),
        present(rule, "sourceGeoip", |node| Ok(Condition::Source(groups(node)?))),
        present(rule, "sourcePortList", |node| Ok(Condition::SourcePort(ports(node)?))),
        present(rule, "userEmail", |node| Ok(Condition::User(names(node, "a list of emails")?))),
        present(rule, "inboundTag", |node| Ok(Condition::Inbound(inbound_tags(node, tags)?))),
        present(rule, "protocol", |node| Ok(Condition::Protocol(protocols(node)?))),
        present(rule, "attributes", |node| Ok(Condition::Attributes(attributes(node)?))),
    ];
    let all = all.into_iter().collect::<Parsed<Vec<_>>>()?;
    Ok(all.into_iter().flatten().collect())
}

/// `domain` and `geoDomain`, together.
fn domains(rule: &Object<'_>) -> Parsed<Option<Condition>> {
    let mut all = Ok(Vec::new());
    for node in rule.list("domain")? {
        collect(&mut all, domain(&node));
    }
    let listed = lists(rule);
    let mut all = all?;
    all.extend(listed?);
    Ok(Some(all).filter(|list| !list.is_empty()).map(Condition::Domain))
}

/// `geoDomain`.
pub(super) fn lists(object: &Object<'_>) -> Parsed<Vec<Placed<DomainSource>>> {
    let mut all = Ok(Vec::new());
    for node in object.list("geoDomain")? {
        let object = node.object(keys5::GEO_DOMAIN)?;
        if let Some(name) = list_name(&object, object.list("domain")?.is_empty())? {
            let file = object.text("filePath", "a file name")?.unwrap_or(GEOSITE_FILE);
            let text =
                if file == GEOSITE_FILE { format!("geosite:{name}") } else { format!("ext:{file}:{name}") };
            collect(&mut all, parsed(&node, &text, "write \"code\": \"cn\", say, and no more than a name"));
        }
        for node in object.list("domain")? {
            collect(&mut all, domain(&node));
        }
    }
    all
}

fn domain(node: &Node<'_>) -> Parsed<Placed<DomainSource>> {
    const TYPES: values::Names = values::Names {
        what: "a type of domain",
        known: &["Plain", "Regex", "RootDomain", "Full"],
        foreign: &[],
        foreign_help: "",
    };
    let object = node.object(keys5::DOMAIN)?;
    let kind = match object.find("type") {
        None => Ok(DomainKind::Substring),
        Some(node) => {
            let name = node.text(TYPES.what)?;
            match name.to_ascii_lowercase().as_str() {
                "plain" => Ok(DomainKind::Substring),
                "regex" => Ok(DomainKind::Regexp),
                "rootdomain" => Ok(DomainKind::Domain),
                "full" => Ok(DomainKind::Full),
                _ => Err(TYPES.unknown(&node, name)),
            }
        }
    };
    let value = match object.find("value") {
        Some(node) => node.text("a domain").map(|text| (node, text)),
        None => Err(object.missing("value", "write the domain: \"value\": \"example.com\"")),
    };
    let (kind, (at, text)) = (kind?, value?);
    let condition = DomainCondition::new(kind, text).map_err(|error| {
        let error = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        at.refuse(error, "write a domain, or a regular expression with the type \"Regex\"")
    })?;
    Ok(Placed { place: at.place(), value: DomainSource::Condition(condition) })
}

/// `geoip` and `sourceGeoip`.
pub(super) fn groups(node: &Node<'_>) -> Parsed<Vec<IpGroup>> {
    let mut all = Ok(Vec::new());
    for node in node.list()? {
        collect(&mut all, group(&node));
    }
    all
}

fn group(node: &Node<'_>) -> Parsed<IpGroup> {
    let object = node.object(keys5::GEOIP)?;
    let networks = object.list("cidr")?;
    let inverse = object.flag("inverseMatch");
    let mut sources = Ok(Vec::new());
    if let Some(name) = list_name(&object, networks.is_empty())? {
        let file = object.text("filePath", "a file name")?.unwrap_or(GEOIP_FILE);
        let text = if file == GEOIP_FILE { format!("geoip:{name}") } else { format!("ext:{file}:{name}") };
        collect(&mut sources, parsed(node, &text, "write \"code\": \"cn\", say, and no more than a name"));
    }
    for node in &networks {
        collect(&mut sources, network(node));
    }
    let sources = sources?;
    if sources.is_empty() {
        return Err(object.lacks(
            &["code", "cidr"],
            "no addresses are named",
            "write \"code\": \"private\", or \"cidr\": [{ \"ipAddr\": \"10.0.0.0\", \"prefix\": 8 }]",
        ));
    }
    let sense = if inverse? { Sense::Outside } else { Sense::Inside };
    Ok(IpGroup { sense, sources })
}

/// The list to read: `code`; or `countryCode`, which is only a label beside an inline list.
fn list_name<'a>(object: &Object<'a>, alone: bool) -> Parsed<Option<&'a str>> {
    let code = object.text("code", "the name of a list")?;
    let label = object.text("countryCode", "the name of a list")?;
    Ok(code.or(label.filter(|_| alone)))
}

fn network(node: &Node<'_>) -> Parsed<Placed<IpSource>> {
    let object = node.object(keys5::CIDR)?;
    let prefix = match object.number("prefix", "a number of bits", 0..=128) {
        Ok(None) => Err(object.missing("prefix", "write how many bits count: \"prefix\": 32")),
        Ok(Some(prefix)) => Ok(prefix),
        Err(reported) => Err(reported),
    };
    let address = match object.find_any(&["ipAddr", "ip"]) {
        Some(node) => address(&node),
        None => Err(object.missing("ipAddr", "write the address: \"ipAddr\": \"10.0.0.0\"")),
    };
    let (address, prefix) = (address?, prefix?);
    let network = u8::try_from(prefix).ok().and_then(|prefix| Cidr::new(address, prefix).ok());
    let network = network.ok_or_else(|| {
        let max = if address.is_ipv4() { 32 } else { 128 };
        node.refuse(
            format!("expected a prefix from 0 to {max}, found {prefix}"),
            format!("write {max} for one address"),
        )
    })?;
    let value = IpSource { sense: Sense::Inside, addresses: Addresses::Network(network) };
    Ok(Placed { place: node.place(), value })
}

/// An address as text; `ip` may hold its bytes in base64, as protobuf writes them.
fn address(node: &Node<'_>) -> Parsed<IpAddr> {
    let text = node.text("an IP address")?;
    let bytes = BASE64.decode(text.as_bytes()).ok();
    let decoded = bytes.and_then(|bytes| {
        let v4 = <[u8; 4]>::try_from(bytes.as_slice()).map(IpAddr::from).ok();
        v4.or_else(|| <[u8; 16]>::try_from(bytes.as_slice()).map(IpAddr::from).ok())
    });
    match decoded {
        Some(address) => Ok(address),
        None => values::ip(node, "write an address such as \"10.0.0.0\""),
    }
}
