//! How an outbound connects: `sendThrough`, `domainStrategy`, `proxySettings`, and what `sockopt` says of it.

use std::net::IpAddr;

use super::{routing::suggestion, sockopt, values};
use crate::{
    Diagnostic, Dial, DomainStrategy, Families, Otherwise, Outbound, OutboundProtocol, Placed, Through, keys,
    node::{Node, Parsed, Reader},
    object::Object,
};

/// Whether a connection through another outbound keeps the WebSocket of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Kept,
    /// As V2Ray does without `transportLayer` (v2fly/v2ray-core `app/proxyman/outbound/handler.go`).
    TlsOnly,
}

/// What the outbound and its `sockopt` say; the tag of [`Through`] is looked up by [`link`].
pub(super) fn dial(outbound: &Object<'_>, sockopt: Option<&Object<'_>>) -> Parsed<(Dial, Transport)> {
    let socket = sockopt::options(sockopt);
    let eyeballs = sockopt.map(sockopt::happy_eyeballs).transpose();
    let send_through = outbound.find("sendThrough").map(|node| source(&node)).transpose();
    let of_outbound = outbound.find("domainStrategy").map(|node| strategy(&node)).transpose();
    let of_target = outbound.find("targetStrategy").map(|node| strategy(&node)).transpose();
    let of_socket = sockopt.and_then(|sockopt| sockopt.find("domainStrategy"));
    let of_socket = of_socket.map(|node| strategy(&node)).transpose();
    let through = through(outbound, sockopt);
    if let Some(node) = sockopt.and_then(|sockopt| sockopt.find("tproxy")).filter(|node| !node.is_off()) {
        node.warn("this has no effect on an outbound", "write it in the inbound that connections come to");
    }
    let (of_outbound, through) = (of_outbound?, through?);
    let dial = Dial {
        socket: socket?,
        send_through: send_through?.flatten(),
        domain_strategy: of_socket?.or(of_outbound).unwrap_or_default(),
        target_strategy: of_target?.or(of_outbound).unwrap_or_default(),
        happy_eyeballs: eyeballs?.unwrap_or_default(),
        through: through.as_ref().map(|(tag, _)| Through { tag: tag.clone(), outbound: 0 }),
    };
    Ok((dial, through.map_or(Transport::Kept, |(_, transport)| transport)))
}

/// V2Ray takes `0.0.0.0` for "none".
fn source(node: &Node<'_>) -> Parsed<Option<IpAddr>> {
    const HELP: &str = "write an address of this machine";
    let text = node.text("an IP address")?;
    if text.is_empty() {
        return Ok(None);
    }
    if text.eq_ignore_ascii_case("origin") || text.eq_ignore_ascii_case("srcip") || text.contains('/') {
        return Err(node.refuse(format!("expected one IP address, found Xray's {}", node.found()), HELP));
    }
    Ok(Some(values::ip(node, HELP)?).filter(|ip| !ip.is_unspecified()))
}

/// Reads a `domainStrategy` of an outbound, of freedom or of `sockopt`.
pub(crate) fn strategy(node: &Node<'_>) -> Parsed<DomainStrategy> {
    const STRATEGIES: values::Names = values::Names {
        what: "a domain strategy",
        known: &[
            "AsIs",
            "UseIP",
            "UseIPv4",
            "UseIPv6",
            "UseIPv4v6",
            "UseIPv6v4",
            "ForceIP",
            "ForceIPv4",
            "ForceIPv6",
            "ForceIPv4v6",
            "ForceIPv6v4",
        ],
        foreign: &[],
        foreign_help: "",
    };
    let name = node.text(STRATEGIES.what)?;
    let plain = name.to_ascii_lowercase().replace(['_', '-'], "");
    if matches!(plain.as_str(), "" | "asis") {
        return Ok(DomainStrategy::AsIs);
    }
    let (rest, otherwise) = match (plain.strip_prefix("useip"), plain.strip_prefix("forceip")) {
        (Some(rest), _) => (rest, Otherwise::AsIs),
        (_, Some(rest)) => (rest, Otherwise::Fail),
        _ => return Err(STRATEGIES.unknown(node, name)),
    };
    let families = match rest {
        "" => Families::Any,
        "v4" | "4" => Families::OnlyV4,
        "v6" | "6" => Families::OnlyV6,
        "v4v6" | "46" => Families::PreferV4,
        "v6v4" | "64" => Families::PreferV6,
        _ => return Err(STRATEGIES.unknown(node, name)),
    };
    Ok(DomainStrategy::Lookup { families, otherwise })
}

/// The tag in `proxySettings` or `dialerProxy`.
fn through(
    outbound: &Object<'_>,
    sockopt: Option<&Object<'_>>,
) -> Parsed<Option<(Placed<String>, Transport)>> {
    let tag = |node: &Node<'_>| -> Parsed<Option<Placed<String>>> {
        let tag = node.text("the tag of an outbound")?.to_owned();
        Ok(Some(Placed { place: node.place(), value: tag }).filter(|tag| !tag.value.is_empty()))
    };
    let dialer = sockopt.and_then(|sockopt| sockopt.find("dialerProxy"));
    let dialer = dialer.map(|node| Ok((tag(&node)?, node))).transpose();
    let mut settings = None;
    if let Some(node) = outbound.find("proxySettings") {
        let object = node.object(keys::PROXY_SETTINGS)?;
        let kept = object.flag("transportLayer");
        let named = object.find("tag").map(|node| tag(&node)).transpose()?.flatten();
        let kept = if kept? { Transport::Kept } else { Transport::TlsOnly };
        settings = named.map(|named| (named, kept));
    }
    let dialer = dialer?.and_then(|(tag, node)| Some((tag?, node)));
    match (settings, dialer) {
        (Some(_), Some((_, node))) => Err(node
            .refuse("there is \"proxySettings\", too: one outbound to go through is enough", "remove one")),
        (None, Some((tag, _))) => Ok(Some((tag, Transport::Kept))),
        (settings, None) => Ok(settings),
    }
}

/// Finds the outbounds that others go through, which must not lead back to where they began.
pub(super) fn link(reader: &Reader<'_>, outbounds: &mut [Outbound]) -> Parsed<()> {
    let mut result = Ok(());
    for index in 0..outbounds.len() {
        let Some(through) = &outbounds[index].dial.through else { continue };
        let Placed { place, value: tag } = &through.tag;
        let refuse = |message: String, help: String| reader.refuse(Diagnostic::at(place, message).help(help));
        let found = outbounds.iter().position(|outbound| outbound.tag.as_ref() == Some(tag));
        let Some(found) = found else {
            let known = outbounds.iter().filter_map(|outbound| outbound.tag.as_deref());
            let message = format!("there is no outbound with the tag {tag:?}");
            result = Err(refuse(message, suggestion(tag, known)));
            continue;
        };
        let wrong = match outbounds[found].protocol {
            OutboundProtocol::Blackhole(_) => Some("a blackhole: nothing comes through it"),
            OutboundProtocol::Loopback(_) => Some("a loopback, which has no way of its own"),
            OutboundProtocol::Dns(_) => Some("a dns outbound, which takes nothing but questions"),
            OutboundProtocol::Vmess(_) | OutboundProtocol::Proxy(_) | OutboundProtocol::Freedom(_) => None,
        };
        if let Some(wrong) = wrong {
            result = Err(refuse(
                format!("the outbound {tag:?} is {wrong}"),
                "write the tag of another outbound".to_owned(),
            ));
        }
        if let Some(through) = &mut outbounds[index].dial.through {
            through.outbound = found;
        }
    }
    result?;
    for start in &*outbounds {
        let Some(through) = &start.dial.through else { continue };
        let next =
            |outbound: &&Outbound| outbound.dial.through.as_ref().map(|next| &outbounds[next.outbound]);
        // A chain that is longer than there are outbounds goes round.
        if std::iter::successors(Some(start), next).nth(outbounds.len()).is_some() {
            let message = format!("going through {:?} leads round in a circle", through.tag.value);
            let error = Diagnostic::at(&through.tag.place, message);
            result = Err(reader.refuse(error.help("remove it from one of the outbounds of the circle")));
        }
    }
    result
}
