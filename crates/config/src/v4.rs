//! From the tree to the model, in V2Ray 4's dialect; [`crate::v5`] has what V2Ray 5's own has in another shape.
//!
//! Every function reads all parts of its object before it gives up on one, so that all errors are told at
//! once.

mod browser;
mod dial;
pub(crate) mod dns;
mod dokodemo;
pub(crate) mod final_rules;
mod front;
mod inbound;
mod outbound;
mod proxy;
pub(crate) mod routing;
pub(crate) mod rule;
mod services;
pub(crate) mod settings;
mod sniffing;
mod sockopt;
mod stream;
mod tls;
mod trust;
pub(crate) mod values;
mod ws;

use std::{collections::HashMap, net::IpAddr};

use crate::{
    Config, Diagnostic, Dial, Freedom, Inbound, InboundProtocol, ListenAt, Outbound, OutboundProtocol, Ports,
    keys, keys5,
    node::{Dialect, Node, Parsed, Reported},
    object::Object,
    v5,
};

use services::Services;

/// Reads a document.
///
/// # Errors
/// Reported to the node's reader.
pub(crate) fn document(root: &Node<'_>) -> Parsed<Config> {
    if !root.is_object() {
        return Err(root.expected("an object", "write { \"inbounds\": [...], \"outbounds\": [...] }"));
    }
    let document = root.object(root.either(keys::DOCUMENT, keys5::DOCUMENT))?;
    let (log, policy, browser) = match root.dialect {
        Dialect::V4 => {
            (settings::log(&document), settings::policy(&document), document.find("browserForwarder"))
        }
        Dialect::V5 => {
            let services = document.find("services").map(|node| node.object(keys5::SERVICES)).transpose();
            let services = services.unwrap_or_default(); // A complaint about it has been made.
            let browser = services.as_ref().and_then(|services| services.find("browser"));
            (v5::log(&document), v5::policy(services.as_ref()), browser)
        }
    };
    let browser = browser::service(browser);
    let transport = transport(&document);
    let services = Services::of(root);
    let inbounds = all_inbounds(&document, transport.as_ref(), &services);
    let mut implicit_freedom = false;
    let outbounds = all_outbounds(&document, transport.as_ref()).and_then(|mut outbounds| {
        dial::link(root.reader, &mut outbounds)?;
        if let Ok(inbounds) = &inbounds {
            implicit_freedom = self::implicit_freedom(root, inbounds, &mut outbounds)?;
        }
        services.close(&mut outbounds);
        Ok(outbounds)
    });
    let dns = dns::dns(&document);
    let asked = dns.as_ref().ok().and_then(Option::as_ref);
    let others = services.inbounds().chain(asked.into_iter().flat_map(dns::question_tags)).collect();
    let tags =
        routing::Tags { inbounds: inbounds.as_deref().ok(), outbounds: outbounds.as_deref().ok(), others };
    let routing = routing::routing(&document, &tags);
    let (inbounds, outbounds) = (inbounds?, outbounds?);
    let browser = browser?;
    let unique = [
        unique_tags(root, &inbounds, &outbounds),
        unique_ports(root, &inbounds),
        browser::own_port(root, browser.as_ref(), &inbounds),
        browser::check(root, browser.as_ref(), &outbounds),
    ];
    if inbounds.is_empty() {
        root.warn(
            "nothing listens: there are no inbounds",
            "for a client, add \"inbounds\": [{ \"protocol\": \"socks\", \"listen\": \"127.0.0.1\", \
                \"port\": 1080, \"settings\": { \"udp\": true } }]",
        );
    }
    unique.into_iter().collect::<Parsed<()>>()?;
    Ok(Config {
        log: log?,
        inbounds,
        outbounds,
        routing: routing?,
        dns: dns?,
        policy: policy?,
        browser,
        implicit_freedom,
    })
}

/// Defaults for streams without settings of their own.
fn transport<'a>(document: &Object<'a>) -> Option<Object<'a>> {
    let node = document.find("transport").filter(|node| node.dialect == Dialect::V4);
    // A complaint about it has been made.
    node.map(|node| node.object(keys::TRANSPORT)).transpose().unwrap_or_default()
}

/// V2Ray 4 takes `inbound`, then `inboundDetour`, then `inbounds`; the first of all gets the document's port if it
/// has none (v2fly/v2ray-core 4.45.2 `infra/conf/v2ray.go`).
fn all_inbounds<'a>(
    document: &Object<'a>,
    transport: Option<&Object<'a>>,
    services: &Services<'a>,
) -> Parsed<Vec<Inbound>> {
    let mut nodes: Vec<Node<'_>> = document.find("inbound").into_iter().collect();
    let lists = [document.list("inboundDetour"), document.list("inbounds")];
    let mut spare_port = document.find("port");
    for list in lists {
        nodes.extend(list?);
    }
    let mut inbounds = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        let spare_port = if number == 0 { &mut spare_port } else { &mut None };
        if services.have(node) {
            continue;
        }
        inbounds.push(inbound::inbound(node, transport, spare_port));
    }
    if let Some(port) = spare_port.filter(|_| document.node.dialect == Dialect::V4) {
        port.warn("this has no effect: it is for a first inbound without a port", "remove it");
    }
    inbounds.into_iter().collect()
}

fn all_outbounds(document: &Object<'_>, transport: Option<&Object<'_>>) -> Parsed<Vec<Outbound>> {
    let mut nodes: Vec<Node<'_>> = document.find("outbound").into_iter().collect();
    for list in [document.list("outboundDetour"), document.list("outbounds")] {
        nodes.extend(list?);
    }
    let outbounds: Vec<_> = nodes.iter().map(|node| outbound::outbound(node, transport)).collect();
    outbounds.into_iter().collect()
}

/// V2Ray silently leaves the first inbound of a tag without a listener.
fn unique_tags(root: &Node<'_>, inbounds: &[Inbound], outbounds: &[Outbound]) -> Parsed<()> {
    let mut result = Ok(());
    let inbounds = inbounds.iter().map(|one| (&one.tag, &one.place)).collect::<Vec<_>>();
    let outbounds = outbounds.iter().map(|one| (&one.tag, &one.place)).collect::<Vec<_>>();
    for (kind, list) in [("inbound", inbounds), ("outbound", outbounds)] {
        let mut seen = HashMap::new();
        for (tag, place) in list {
            let Some(tag) = tag else { continue };
            if let Some(first) = seen.insert(tag, place) {
                let first: &crate::Place = first;
                let message = format!("the tag {tag:?} is taken by the {kind} {}", first.seen_from(place));
                result = Err(root.reader.refuse(Diagnostic::at(place, message).help("give it another tag")));
            }
        }
    }
    result
}

/// V2Ray lets two inbounds share a port, and the kernel deals connections out between them.
fn unique_ports(root: &Node<'_>, inbounds: &[Inbound]) -> Parsed<()> {
    let mut result = unique_paths(root, inbounds);
    let mut by_first: Vec<_> = (inbounds.iter().enumerate())
        .filter_map(|(number, inbound)| match inbound.listen.at {
            ListenAt::Ports { address, ports } => Some((number, inbound, address, ports)),
            ListenAt::Unix(_) => None,
        })
        .collect();
    by_first.sort_by_key(|(.., ports)| ports.first());
    // Those that may still share a port with one further on.
    let mut open: Vec<(usize, &Inbound, IpAddr, Ports)> = Vec::new();
    for high in by_first {
        let port = high.3.first();
        open.retain(|(.., ports)| ports.last() >= port);
        let clash = |low: &&(usize, &Inbound, IpAddr, Ports)| {
            overlap(low.2, high.2) && low.1.networks().overlaps(high.1.networks())
        };
        for &low in open.iter().filter(clash) {
            let (earlier, later) = if low.0 < high.0 { (low, high) } else { (high, low) };
            let message = format!(
                "port {port} of {} is taken by the inbound {}, which listens on {}",
                later.2,
                earlier.1.place.seen_from(&later.1.place),
                earlier.2,
            );
            let error = Diagnostic::at(&later.1.listen.place, message).help("give one of them another port");
            result = Err(root.reader.refuse(error));
        }
        open.push(high);
    }
    result
}

fn unique_paths(root: &Node<'_>, inbounds: &[Inbound]) -> Parsed<()> {
    let mut result = Ok(());
    let mut seen = HashMap::new();
    for inbound in inbounds {
        let ListenAt::Unix(address) = &inbound.listen.at else { continue };
        if let Some(first) = seen.insert(address.to_string(), &inbound.place) {
            let message = format!("{address} is taken by the inbound {}", first.seen_from(&inbound.place));
            let error = Diagnostic::at(&inbound.listen.place, message).help("give one of them another path");
            result = Err(root.reader.refuse(error));
        }
    }
    result
}

/// An unspecified address listens on all of both families.
fn overlap(a: IpAddr, b: IpAddr) -> bool {
    a == b || a.is_unspecified() || b.is_unspecified()
}

/// A server without outbounds serves; anything that a person's own programs use must say where traffic goes.
fn implicit_freedom(root: &Node<'_>, inbounds: &[Inbound], outbounds: &mut Vec<Outbound>) -> Parsed<bool> {
    if !outbounds.is_empty() || inbounds.is_empty() {
        return Ok(false);
    }
    let local = inbounds.iter().find(|inbound| !matches!(inbound.protocol, InboundProtocol::Vmess(_)));
    if let Some(local) = local {
        let error = Diagnostic::at(
            &local.place,
            "there are no outbounds, and sending the traffic of this inbound directly would show it to \
                everybody",
        );
        let help = "add \"outbounds\": [...] with your server, or [{ \"protocol\": \"freedom\" }] if \
            going directly is meant";
        return Err::<bool, Reported>(root.reader.refuse(error.help(help)));
    }
    root.warn(
        "there are no outbounds: traffic goes directly to its targets (V2Ray would drop it)",
        "to say so yourself, add \"outbounds\": [{ \"protocol\": \"freedom\" }]",
    );
    let protocol = OutboundProtocol::Freedom(Freedom::default());
    outbounds.push(Outbound { place: root.place(), tag: None, dial: Dial::default(), protocol });
    Ok(true)
}
