//! What an inbound is told about those in front of it: who may name the client, who may send the PROXY protocol, and
//! what answers those who want no tunnel.

use wsray_route::Cidr;
use wsray_vmess::{Address, Target};
use wsray_ws::HeaderName;

use crate::{
    Fallback, FallbackSite, ForwardedTrust, ProxyProtocol,
    node::{Node, Parsed},
    object::Object,
};

/// Who may say who the client is: `parseXForwardedFor` switches it off, Xray's `trustedXForwardedFor` names those
/// who are not on this machine.
pub(super) fn forwarded(ws: Option<&Object<'_>>, sockopt: Option<&Object<'_>>) -> Parsed<ForwardedTrust> {
    let is_read = ws.and_then(|ws| ws.find("parseXForwardedFor")).map(|node| node.flag()).transpose();
    let Some(list) = sockopt.and_then(|sockopt| sockopt.find(TRUSTED)) else {
        let is_read = is_read?.unwrap_or(true);
        return Ok(if is_read { ForwardedTrust::ThisMachineAnd(Vec::new()) } else { ForwardedTrust::Nobody });
    };
    let networks: Vec<_> =
        list.texts("a list of networks")?.into_iter().map(|(node, text)| network(&node, text)).collect();
    let networks = networks.into_iter().collect::<Parsed<Vec<Option<Cidr>>>>()?;
    if is_read? == Some(false) {
        list.warn("this has no effect: \"parseXForwardedFor\" is false", "remove one of the two");
        return Ok(ForwardedTrust::Nobody);
    }
    Ok(ForwardedTrust::ThisMachineAnd(networks.into_iter().flatten().collect()))
}

/// The key of `sockopt`.
pub(super) const TRUSTED: &str = "trustedXForwardedFor";

/// A network, or an address alone. Xray has the names of headers here, which say nothing about who sent them.
fn network(node: &Node<'_>, text: &str) -> Parsed<Option<Cidr>> {
    const HELP: &str = "write the addresses of the proxies in front, such as \"172.18.0.0/16\"; those on this machine \
        are trusted anyway";
    if text.contains('-') && text.parse::<HeaderName>().is_ok() {
        node.warn(
            format!(
                "{text:?} is ignored: Xray takes the name of a header here and believes whoever sends it, wsray takes \
                 the addresses of those to believe"
            ),
            HELP,
        );
        return Ok(None);
    }
    let network: Cidr =
        text.parse().map_err(|error: wsray_route::CidrError| node.refuse(error.to_string(), HELP))?;
    if text.ends_with("/0") {
        node.warn("anybody can say where he comes from", HELP);
    }
    Ok(Some(network))
}

/// The networks that may send a PROXY protocol header, beside `acceptProxyProtocol`.
pub(super) const SENDERS: &str = "acceptProxyProtocolFrom";

/// Whose PROXY protocol headers are accepted, with the place of the `acceptProxyProtocol` that says so.
pub(super) fn proxy_protocol<'a>(settings: Option<&Object<'a>>) -> Parsed<Option<(Node<'a>, ProxyProtocol)>> {
    const HELP: &str = "write the addresses of the front ends, such as \"127.0.0.1\" or \"172.18.0.0/16\"";
    let Some(settings) = settings else { return Ok(None) };
    let accept = settings.find("acceptProxyProtocol");
    let is_on = accept.as_ref().map(Node::flag).transpose();
    let mut senders = ProxyProtocol::FromAnybody;
    if let Some(list) = settings.find(SENDERS) {
        let parsed = list.texts("a list of networks")?.into_iter().map(|(node, text)| {
            let refuse = |error: wsray_route::CidrError| node.refuse(error.to_string(), HELP);
            text.parse::<Cidr>().map_err(refuse)
        });
        let networks = parsed.collect::<Vec<_>>().into_iter().collect::<Parsed<Vec<_>>>()?;
        if networks.is_empty() {
            return Err(list.refuse("nobody could connect: the list is empty", HELP));
        }
        senders = ProxyProtocol::From(networks);
        if !is_on?.unwrap_or(false) && !list.is_empty() {
            let help = "write \"acceptProxyProtocol\": true beside it, or remove it";
            list.warn("this has no effect: no PROXY protocol is accepted", help);
        }
    }
    Ok(accept.filter(|_| is_on == Ok(Some(true))).map(|node| (node, senders)))
}

/// `fallback`: a folder, or where a web server listens.
pub(super) fn fallback(object: &Object<'_>) -> Parsed<Option<Fallback>> {
    const HELP: &str = "write a folder such as \"/var/www/html\", or the address of a web server such as \
        \"127.0.0.1:8080\" or \"unix:/run/site.sock\"";
    let Some(node) = object.find("fallback").filter(|node| !node.is_off()) else { return Ok(None) };
    // Xray's `dest` may be a port alone (XTLS/Xray-core `infra/conf/vless.go`).
    let text = match node.as_text() {
        Some(text) => text,
        None if node.is_list() || node.is_object() => {
            return Err(node.expected("a folder or an address", HELP));
        }
        None => {
            let port = u16::try_from(node.number("a folder or an address", 1..=65_535)?).unwrap_or(0);
            let address = Address::Ip([127, 0, 0, 1].into());
            let site = FallbackSite::Server(Target { address, port });
            return Ok(Some(Fallback { place: node.place(), site }));
        }
    };
    let refuse = |message: &str, help: &str| Err(node.refuse(message, help));
    let site = if let Some(path) = text.strip_prefix("unix:") {
        FallbackSite::Unix(path.to_owned())
    } else if let Some(authority) = text.strip_prefix("http://") {
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '?', '#', '@']) {
            return refuse(
                "the path of a request is passed on as it is, so the address has none",
                "write it without a path, such as \"http://127.0.0.1:8080\"",
            );
        }
        let server = server(authority).or_else(|| server(&format!("{authority}:80")));
        FallbackSite::Server(server.ok_or_else(|| node.expected("a folder or an address", HELP))?)
    } else if text.contains("://") {
        return refuse(
            "requests are passed on over plain HTTP",
            "write the plain HTTP address of the web server, such as \"http://127.0.0.1:8080\"",
        );
    } else if text.starts_with('@') {
        return refuse("sockets without a file are not supported here", HELP);
    } else {
        server(text).map_or_else(|| FallbackSite::Folder(text.to_owned()), FallbackSite::Server)
    };
    Ok(Some(Fallback { place: node.place(), site }))
}

/// `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`, or a port of this machine.
fn server(text: &str) -> Option<Target> {
    let (host, port) = text.rsplit_once(':').unwrap_or(("127.0.0.1", text));
    let port = port.parse().ok().filter(|&port: &u16| port != 0)?;
    let address: Address = host.parse().ok()?;
    Some(Target { address, port })
}
