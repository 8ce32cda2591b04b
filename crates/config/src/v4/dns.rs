//! The `dns` block, in the spellings of V2Ray and Xray.

use std::net::IpAddr;

use wsray_route::DomainSource;
use wsray_vmess::{Address, Target};

use super::{rule, values};
use crate::{
    Cache, Dns, Families, Host, HostTarget, NameServer, NameServerAddress, NameServerFallback, Place, Placed,
    Way, keys,
    node::{Dialect, Node, Parsed},
    object::Object,
    v5,
};

/// What servers have that do not say otherwise.
pub(crate) struct Defaults {
    pub(crate) client: Option<IpAddr>,
    pub(crate) families: Families,
    pub(crate) cache: Cache,
    pub(crate) fallback: NameServerFallback,
    pub(crate) tag: Option<String>,
}

/// Reads `dns`.
pub(super) fn dns(document: &Object<'_>) -> Parsed<Option<Dns>> {
    let Some(node) = document.find("dns") else { return Ok(None) };
    if node.dialect == Dialect::V5 {
        return v5::dns::dns(&node).map(Some);
    }
    let object = node.object(keys::DNS)?;
    let hosts = object.find("hosts").map_or(Ok(Vec::new()), |node| hosts(&node));
    let defaults = Defaults {
        client: client(&object)?,
        families: families(&object)?.unwrap_or(Families::Any),
        cache: if object.flag("disableCache")? { Cache::Off } else { Cache::On },
        fallback: match (object.flag("disableFallback")?, object.flag("disableFallbackIfMatch")?) {
            (true, _) => NameServerFallback::Never,
            (false, true) => NameServerFallback::UnlessMatched,
            (false, false) => NameServerFallback::Always,
        },
        tag: object.text("tag", "a tag")?.map(str::to_owned),
    };
    let servers: Vec<_> = object.list("servers")?.iter().map(|node| server(node, &defaults)).collect();
    let mut servers: Vec<_> = servers.into_iter().collect::<Parsed<_>>()?;
    if servers.is_empty() {
        // As V2Ray (`app/dns/dns.go`).
        servers.push(plain_server(node.place(), NameServerAddress::System, &defaults));
    }
    Ok(Some(Dns { place: node.place(), hosts: hosts?, servers }))
}

/// The tags by which rules know questions to the servers.
pub(super) fn question_tags(dns: &Dns) -> impl Iterator<Item = &str> {
    dns.servers.iter().filter_map(|server| server.tag.as_deref())
}

fn hosts(node: &Node<'_>) -> Parsed<Vec<Host>> {
    let mut result = Ok(Vec::new());
    for (name, place, node) in node.entries()? {
        rule::collect(&mut result, host(name, place, &node));
    }
    result
}

/// A name without a prefix is that name alone, unlike in rules.
fn host(name: &str, place: Place, node: &Node<'_>) -> Parsed<Host> {
    let (kind, rest) = name.split_once(':').unwrap_or(("full", name));
    let text = match kind {
        "dotless" if rest.is_empty() => "regexp:^[^.]*$".to_owned(),
        "dotless" => format!("regexp:^[^.]*{rest}[^.]*$"),
        "keyword" => rest.to_owned(),
        _ => format!("{kind}:{rest}"),
    };
    let names = text.parse::<DomainSource>().map_err(|error| {
        let message = format!("expected a name, found {name:?}: {error}");
        let help = "write \"example.com\" for it alone, \"domain:example.com\" for it and all below it, or \
            \"geosite:NAME\"";
        node.reader.refuse(crate::Diagnostic::at(&place, message).help(help))
    });
    let to = host_target(node);
    Ok(Host { names: Placed { place, value: names? }, to: to? })
}

fn host_target(node: &Node<'_>) -> Parsed<HostTarget> {
    const HELP: &str = "write an IP address, several in a list, or one other name";
    if !node.is_list() {
        return Ok(match values::address(node)? {
            Address::Ip(ip) => HostTarget::Addresses(vec![ip]),
            Address::Domain(name) => HostTarget::Name(name),
        });
    }
    let addresses: Vec<_> = node.list()?.iter().map(values::address).collect();
    let addresses: Vec<Address> = addresses.into_iter().collect::<Parsed<_>>()?;
    // V2Ray takes the first name of a list and drops the rest.
    let name = addresses.iter().find_map(|address| match address {
        Address::Domain(name) => Some(name),
        Address::Ip(_) => None,
    });
    match (name, addresses.len()) {
        (Some(name), 1) => Ok(HostTarget::Name(name.clone())),
        (None, 1..) => Ok(HostTarget::Addresses(
            addresses
                .iter()
                .filter_map(|address| if let Address::Ip(ip) = address { Some(*ip) } else { None })
                .collect(),
        )),
        _ => Err(node.expected("addresses, or one name", HELP)),
    }
}

fn server(node: &Node<'_>, defaults: &Defaults) -> Parsed<NameServer> {
    if node.as_text().is_some() {
        return Ok(plain_server(node.place(), address(node, None)?, defaults));
    }
    let object = node.object(keys::NAME_SERVER)?;
    // 0 is the usual one, as in V2Ray (`app/dns/nameserver_udp.go`).
    let port = object.find("port").filter(|port| !port.is_number() || !port.is_off());
    let port = port.map(|node| values::port(&node)).transpose();
    let Some(at) = object.find("address") else {
        return Err(
            object.missing("address", "write the server's IP address, \"https://...\", or \"localhost\"")
        );
    };
    let address = port.and_then(|port| address(&at, port.map(std::num::NonZeroU16::get)));
    let domains = domains(&object);
    let expected = object.find_any(&["expectIPs", "expectedIPs"]).map(|node| rule::addresses(&node));
    let client = client(&object);
    let families = families(&object);
    let skips = object.flag("skipFallback")?;
    let own_tag = object.text("tag", "a tag")?.map(str::to_owned);
    Ok(NameServer {
        domains: domains?,
        expected: expected.transpose()?.unwrap_or_default(),
        client: client?.or(defaults.client),
        families: families?.unwrap_or(defaults.families),
        cache: if object.flag("disableCache")? { Cache::Off } else { defaults.cache },
        fallback: if skips { NameServerFallback::Never } else { defaults.fallback },
        tag: own_tag.or_else(|| defaults.tag.clone()),
        ..plain_server(node.place(), address?, defaults)
    })
}

pub(crate) fn plain_server(place: Place, address: NameServerAddress, defaults: &Defaults) -> NameServer {
    NameServer {
        place,
        address,
        domains: Vec::new(),
        expected: Vec::new(),
        client: defaults.client,
        families: defaults.families,
        cache: defaults.cache,
        fallback: defaults.fallback,
        tag: defaults.tag.clone(),
    }
}

fn domains(server: &Object<'_>) -> Parsed<Vec<Placed<DomainSource>>> {
    server.find("domains").map_or(Ok(Vec::new()), |node| rule::domain_list(&node))
}

pub(crate) fn client(object: &Object<'_>) -> Parsed<Option<IpAddr>> {
    let Some(node) = object.find("clientIp").filter(|node| !node.is_empty()) else { return Ok(None) };
    values::ip(&node, "write the IP address that servers shall take for the client's").map(Some)
}

pub(crate) fn families(object: &Object<'_>) -> Parsed<Option<Families>> {
    const STRATEGIES: values::Names = values::Names {
        what: "a query strategy",
        known: &["UseIP", "UseIPv4", "UseIPv6"],
        foreign: &["UseSystem", "UseSys"],
        foreign_help: "write one of: UseIP, UseIPv4, UseIPv6",
    };
    let Some(node) = object.find("queryStrategy") else { return Ok(None) };
    let name = node.text(STRATEGIES.what)?;
    match name.to_ascii_lowercase().replace(['_', '-'], "").as_str() {
        "" => Ok(None),
        "useip" => Ok(Some(Families::Any)),
        "useipv4" | "useip4" => Ok(Some(Families::OnlyV4)),
        "useipv6" | "useip6" => Ok(Some(Families::OnlyV6)),
        _ => Err(STRATEGIES.unknown(&node, name)),
    }
}

/// `1.1.1.1`, `1.1.1.1:5353`, `localhost`, `tcp://...`, `tcp+local://...`, `https://...`, `https+local://...`; `port` where
/// the text has none.
pub(crate) fn address(node: &Node<'_>, port: Option<u16>) -> Parsed<NameServerAddress> {
    const HELP: &str =
        "write an IP address, \"https://dns.example/dns-query\", \"tcp://1.1.1.1\", or \"localhost\"";
    const WHAT: &str = "a name server";
    let text = node.text(WHAT)?;
    if text.eq_ignore_ascii_case("localhost") {
        return Ok(NameServerAddress::System);
    }
    if text.eq_ignore_ascii_case("fakedns") {
        return Err(node.refuse("fakedns is not supported", "remove it, and let \"sniffing\" find names"));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        let target = target(text, port.unwrap_or(53)).ok_or_else(|| node.expected(WHAT, HELP))?;
        return Ok(NameServerAddress::Udp(target));
    };
    let scheme = scheme.to_ascii_lowercase();
    let (kind, way) = match scheme.strip_suffix("+local") {
        Some(kind) => (kind, Way::Direct),
        None => (scheme.as_str(), Way::Routed),
    };
    let (host, path) = match rest.find(['/', '?']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let known = if kind == "https" { 443 } else { 53 };
    let to = || target(host, port.unwrap_or(known)).ok_or_else(|| node.expected(WHAT, HELP));
    match kind {
        "tcp" => Ok(NameServerAddress::Tcp(to()?, way)),
        "https" => {
            let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
            let fits = path.bytes().all(|byte| byte.is_ascii_graphic());
            let target = to()?;
            if !fits {
                return Err(node.expected("a URL without spaces or control characters", HELP));
            }
            Ok(NameServerAddress::Https { target, path, way })
        }
        "udp" => Ok(NameServerAddress::Udp(to()?)),
        "quic" | "tls" | "h2c" | "h3" => Err(node.refuse(
            format!("name servers of {scheme:?} are not supported by wsray"),
            "write \"https://...\", which hides queries as well",
        )),
        _ => Err(node.expected(WHAT, HELP)),
    }
}

/// `host`, `host:port`, `[::1]:port` or `::1`.
fn target(text: &str, port: u16) -> Option<Target> {
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Some(Target { address: Address::Ip(ip), port });
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, own)) => (host, own.parse::<u16>().ok().filter(|port| *port > 0)?),
        None => (text, port),
    };
    let address = host.trim_matches(['[', ']']).parse().ok()?;
    Some(Target { address, port })
}
