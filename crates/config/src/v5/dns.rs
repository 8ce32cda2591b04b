//! `dns` in V2Ray 5's own dialect: objects where V2Ray 4 has texts.
//!
//! Source: v2fly/v2ray-core (5.x) `app/dns/config.proto`.

use wsray_route::{DomainCondition, DomainKind, DomainSource};

use super::rule::{groups, lists};
use crate::{
    Cache, Dns, Host, HostTarget, NameServer, NameServerFallback, Placed, keys5,
    node::{Node, Parsed},
    object::Object,
    v4::{
        dns::{Defaults, address, client, families, plain_server},
        rule::collect,
        values,
    },
};

/// Reads `dns`; without servers the system is asked.
pub(crate) fn dns(node: &Node<'_>) -> Parsed<Dns> {
    let object = node.object(keys5::DNS)?;
    let mut hosts = Ok(Vec::new());
    for node in object.list("staticHosts")? {
        collect(&mut hosts, host(&node));
    }
    let defaults = Defaults {
        client: client(&object)?,
        families: families(&object)?.unwrap_or(crate::Families::Any),
        cache: cache(&object)?.unwrap_or(Cache::On),
        fallback: fallback(&object)?.unwrap_or(NameServerFallback::Always),
        tag: object.text("tag", "a tag")?.map(str::to_owned),
    };
    let servers: Vec<_> = object.list("nameServer")?.iter().map(|node| server(node, &defaults)).collect();
    let mut servers: Vec<_> = servers.into_iter().collect::<Parsed<_>>()?;
    if servers.is_empty() {
        servers.push(plain_server(node.place(), crate::NameServerAddress::System, &defaults));
    }
    Ok(Dns { place: node.place(), hosts: hosts?, servers })
}

fn host(node: &Node<'_>) -> Parsed<Host> {
    let object = node.object(keys5::STATIC_HOST)?;
    let names = matching(&object);
    let addresses: Vec<_> =
        object.list("ip")?.iter().map(|node| values::ip(node, "write an IP address")).collect();
    let addresses: Vec<_> = addresses.into_iter().collect::<Parsed<_>>()?;
    let other = object.find("proxiedDomain").filter(|node| !node.is_empty());
    let to = match (other.map(|node| values::address(&node)).transpose()?, addresses.is_empty()) {
        (Some(wsray_vmess::Address::Domain(name)), _) => HostTarget::Name(name),
        (Some(wsray_vmess::Address::Ip(ip)), _) => HostTarget::Addresses(vec![ip]),
        (None, false) => HostTarget::Addresses(addresses),
        (None, true) => return Err(object.missing("ip", "write its addresses: \"ip\": [\"127.0.0.1\"]")),
    };
    Ok(Host { names: names?, to })
}

fn server(node: &Node<'_>, defaults: &Defaults) -> Parsed<NameServer> {
    let object = node.object(keys5::NAME_SERVER)?;
    let Some(endpoint) = object.find("address") else {
        return Err(
            object.missing("address", "write \"address\": { \"address\": \"1.1.1.1\", \"port\": 53 }")
        );
    };
    let endpoint = endpoint.object(keys5::SERVER_ENDPOINT)?;
    if let Some(network) = endpoint.find("network").filter(|node| {
        !node.as_text().is_some_and(|name| name.is_empty() || name.eq_ignore_ascii_case("UDP"))
    }) {
        return Err(network.refuse(
            format!("expected the network UDP, found {}", network.found()),
            "write \"address\": \"tcp://...\" for TCP",
        ));
    }
    let port = endpoint.find("port").map(|node| values::port(&node)).transpose()?;
    let at = match endpoint.find("address") {
        Some(node) => address(&node, port.map(std::num::NonZeroU16::get)),
        None => Err(endpoint.missing("address", "write the server's IP address, or \"https://...\"")),
    };
    let mut domains = Ok(Vec::new());
    for node in object.list("prioritizedDomain")? {
        collect(&mut domains, matching(&node.object(keys5::PRIORITY)?));
    }
    let (mut domains, listed) = (domains?, lists(&object)?);
    domains.extend(listed);
    let skips = object.flag("skipFallback")?.then_some(NameServerFallback::Never);
    Ok(NameServer {
        domains,
        expected: object.find("geoip").map_or(Ok(Vec::new()), |node| groups(&node))?,
        client: client(&object)?.or(defaults.client),
        families: families(&object)?.unwrap_or(defaults.families),
        cache: cache(&object)?.unwrap_or(defaults.cache),
        fallback: fallback(&object)?.or(skips).unwrap_or(defaults.fallback),
        tag: object.text("tag", "a tag")?.map(str::to_owned).or_else(|| defaults.tag.clone()),
        ..plain_server(node.place(), at?, defaults)
    })
}

/// `type` and `domain`.
fn matching(object: &Object<'_>) -> Parsed<Placed<DomainSource>> {
    const TYPES: values::Names = values::Names {
        what: "a type of domain",
        known: &["Full", "Subdomain", "Keyword", "Regex"],
        foreign: &[],
        foreign_help: "",
    };
    let kind = match object.find("type") {
        None => DomainKind::Full,
        Some(node) => {
            let name = node.text(TYPES.what)?;
            match name.to_ascii_lowercase().as_str() {
                "full" => DomainKind::Full,
                "subdomain" => DomainKind::Domain,
                "keyword" => DomainKind::Substring,
                "regex" => DomainKind::Regexp,
                _ => return Err(TYPES.unknown(&node, name)),
            }
        }
    };
    let Some(node) = object.find("domain") else {
        return Err(object.missing("domain", "write the domain: \"domain\": \"example.com\""));
    };
    let condition = DomainCondition::new(kind, node.text("a domain")?).map_err(|error| {
        let error = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        node.refuse(error, "write a domain, or a regular expression with the type \"Regex\"")
    })?;
    Ok(Placed { place: node.place(), value: DomainSource::Condition(condition) })
}

fn cache(object: &Object<'_>) -> Parsed<Option<Cache>> {
    const STRATEGIES: values::Names = values::Names {
        what: "a cache strategy",
        known: &["CacheEnabled", "CacheDisabled"],
        foreign: &[],
        foreign_help: "",
    };
    let off = object.flag("disableCache")?.then_some(Cache::Off);
    let Some(node) = object.find("cacheStrategy") else { return Ok(off) };
    match node.text(STRATEGIES.what)? {
        "CacheEnabled" => Ok(Some(Cache::On)),
        "CacheDisabled" => Ok(Some(Cache::Off)),
        name => Err(STRATEGIES.unknown(&node, name)),
    }
}

fn fallback(object: &Object<'_>) -> Parsed<Option<NameServerFallback>> {
    const STRATEGIES: values::Names = values::Names {
        what: "a fallback strategy",
        known: &["Enabled", "Disabled", "DisabledIfAnyMatch"],
        foreign: &[],
        foreign_help: "",
    };
    let flags = match (object.flag("disableFallback")?, object.flag("disableFallbackIfMatch")?) {
        (true, _) => Some(NameServerFallback::Never),
        (false, true) => Some(NameServerFallback::UnlessMatched),
        (false, false) => None,
    };
    let Some(node) = object.find("fallbackStrategy") else { return Ok(flags) };
    match node.text(STRATEGIES.what)? {
        "Enabled" => Ok(Some(NameServerFallback::Always)),
        "Disabled" => Ok(Some(NameServerFallback::Never)),
        "DisabledIfAnyMatch" => Ok(Some(NameServerFallback::UnlessMatched)),
        name => Err(STRATEGIES.unknown(&node, name)),
    }
}
