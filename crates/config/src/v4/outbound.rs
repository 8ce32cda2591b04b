//! Outbounds.

use std::num::NonZeroU16;

use wsray_vmess::{Network, SecurityChoice};

use super::{
    dial,
    final_rules::final_rules,
    inbound::{alter_id, level},
    proxy, stream, values,
};
use crate::{
    Blackhole, Dial, DnsOutbound, DomainStrategy, FastOpen, Freedom, Loopback, Mux, MuxPackets, Outbound,
    OutboundProtocol, Redirect, Udp443, VmessOutUser, VmessOutbound, VmessServer, keys, keys5,
    node::{Dialect, Node, Parsed},
    object::Object,
    v5,
};

/// The outbound protocols of V2Ray and Xray.
const PROTOCOLS: values::Names = values::Names {
    what: "an outbound protocol",
    known: &["vmess", "socks", "http", "freedom", "blackhole", "dns", "loopback"],
    foreign: &[
        "vless",
        "trojan",
        "shadowsocks",
        "shadowsocks2022",
        "mtproto",
        "wireguard",
        "hysteria2",
        "vlite",
    ],
    foreign_help: "remove this outbound, or use vmess, socks, http, freedom or blackhole",
};

/// Reads an element of `outbounds`.
pub(super) fn outbound<'a>(node: &Node<'a>, transport: Option<&Object<'a>>) -> Parsed<Outbound> {
    let object = node.object(node.either(keys::OUTBOUND, keys5::OUTBOUND))?;
    let mux = object.find("mux").map_or(Ok(Mux::default()), |mux| shared(&mux));
    let tag = object.text("tag", "a tag");
    let (mut protocol, dial) = protocol(&object, transport)?;
    let mux = mux?;
    match (&mut protocol, mux, object.find("mux")) {
        (OutboundProtocol::Vmess(vmess), ..) => vmess.mux = mux,
        (_, mux, Some(node)) if mux != Mux::default() => {
            return Err(node.refuse("only vmess outbounds share connections", "remove mux here"));
        }
        _ => {}
    }
    Ok(Outbound { place: node.place(), tag: tag?.map(str::to_owned), dial, protocol })
}

/// Which sessions share connections, if any do. A negative concurrency means that none do, and 0 stands for the default,
/// as in V2Ray and Xray (v2fly/v2ray-core `infra/conf/v4/v2ray.go`; XTLS/Xray-core
/// `app/proxyman/outbound/handler.go`).
fn shared(mux: &Node<'_>) -> Parsed<Mux> {
    let mux = mux.object(keys::MUX)?;
    let enabled = mux.flag("enabled");
    let sessions = count(&mux, "concurrency");
    let packets = count(&mux, "xudpConcurrency");
    let udp_443 = mux.find("xudpProxyUDP443").map(|node| udp_443(&node)).transpose();
    let (sessions, packets, udp_443) = (sessions?, packets?, udp_443?);
    if !enabled? {
        return Ok(Mux::default());
    }
    let packets = match packets {
        Count::Default => MuxPackets::AsStreams,
        Count::Off => MuxPackets::Separate,
        Count::Most(most) => MuxPackets::Xudp(most),
    };
    // Xray refuses QUIC if nothing else is said.
    let xrays = if packets == MuxPackets::AsStreams { Udp443::Allow } else { Udp443::Reject };
    let sessions = match sessions {
        Count::Default => Some(DEFAULT_CONCURRENCY),
        Count::Off => None,
        Count::Most(most) => Some(most.get()),
    };
    Ok(Mux { sessions, packets, udp_443: udp_443.unwrap_or(xrays) })
}

/// What a number of sessions says.
enum Count {
    /// It is absent or 0.
    Default,
    /// It is negative.
    Off,
    Most(NonZeroU16),
}

fn count(mux: &Object<'_>, key: &str) -> Parsed<Count> {
    if mux.find(key).is_some_and(|node| node.as_text().is_none() && node.found().starts_with('-')) {
        return Ok(Count::Off);
    }
    let number = mux.number(key, "a number of sessions", 0..=1024)?;
    let most = number.and_then(|most| u16::try_from(most).ok()).and_then(NonZeroU16::new);
    Ok(most.map_or(Count::Default, Count::Most))
}

fn udp_443(node: &Node<'_>) -> Parsed<Udp443> {
    const WAYS: values::Names = values::Names {
        what: "what becomes of QUIC",
        known: &["reject", "allow", "skip"],
        foreign: &[],
        foreign_help: "",
    };
    match node.text(WAYS.what)? {
        "" | "reject" => Ok(Udp443::Reject),
        "allow" => Ok(Udp443::Allow),
        "skip" => Ok(Udp443::Skip),
        name => Err(WAYS.unknown(node, name)),
    }
}

/// How many sessions share a connection where only `enabled` is written.
const DEFAULT_CONCURRENCY: u16 = 8;

fn protocol<'a>(object: &Object<'a>, transport: Option<&Object<'a>>) -> Parsed<(OutboundProtocol, Dial)> {
    let Some(node) = object.find("protocol") else {
        return Err(object.missing("protocol", "write \"protocol\": \"vmess\" (or freedom, blackhole)"));
    };
    let name = node.text("an outbound protocol")?;
    match name.to_ascii_lowercase().as_str() {
        "vmess" => {
            let servers = servers(object);
            let addresses: Vec<_> = servers.iter().flatten().map(|server| server.address.clone()).collect();
            let stream = stream::client(object, transport, &addresses, stream::Preconnects::Yes);
            let (stream, dial) = stream?;
            let vmess = VmessOutbound { servers: servers?, stream, mux: Mux::default() };
            warn_unprotected(object, &vmess);
            Ok((OutboundProtocol::Vmess(vmess), dial))
        }
        "socks" => {
            proxy::socks(object, transport).map(|(proxy, dial)| (OutboundProtocol::Proxy(proxy), dial))
        }
        "http" => proxy::http(object, transport).map(|(proxy, dial)| (OutboundProtocol::Proxy(proxy), dial)),
        "freedom" => {
            let dial = stream::plain_client(object);
            let (freedom, strategy) = freedom(object)?;
            let mut dial = dial?;
            if dial.socket.fast_open.take() == Some(FastOpen::On) {
                object.node.warn(
                    "\"tcpFastOpen\" has no effect on freedom: a target that speaks first would never be reached",
                    "remove it",
                );
            }
            // The target is what it connects to.
            let target = std::mem::take(&mut dial.target_strategy);
            if let Some(wanted) = [strategy, target].into_iter().find(|one| *one != DomainStrategy::AsIs) {
                dial.domain_strategy = wanted;
            }
            Ok((OutboundProtocol::Freedom(freedom), dial))
        }
        "blackhole" => Ok((OutboundProtocol::Blackhole(blackhole(object)?), Dial::default())),
        "dns" => {
            let dial = stream::plain_client(object);
            Ok((OutboundProtocol::Dns(dns(object)?), dial?))
        }
        "loopback" => Ok((OutboundProtocol::Loopback(loopback(object)?), Dial::default())),
        "direct" => Err(node.expected("an outbound protocol", "write \"freedom\"")),
        "block" | "reject" => Err(node.expected("an outbound protocol", "write \"blackhole\"")),
        _ => Err(PROTOCOLS.unknown(&node, name)),
    }
}

fn servers(outbound: &Object<'_>) -> Parsed<Vec<VmessServer>> {
    let shape = outbound.either(
        "write \"settings\": { \"vnext\": [{ \"address\": \"...\", \"port\": 443, \
            \"users\": [{ \"id\": \"...\" }] }] }",
        "write \"settings\": { \"address\": \"...\", \"port\": 443, \"uuid\": \"...\" }",
    );
    let Some(settings) = outbound.find("settings") else {
        return Err(outbound.missing("settings", shape));
    };
    let settings = settings.object(settings.either(keys::VMESS_OUTBOUND, keys5::VMESS_OUTBOUND))?;
    let Some(vnext) = settings.find("vnext") else {
        if settings.find("address").is_none() {
            return Err(settings.lacks(
                settings.either(&["vnext", "address"], &["address"]),
                settings.either(
                    "there is no server: expected \"vnext\" or \"address\"",
                    "there is no server: \"address\" is missing",
                ),
                shape,
            ));
        }
        return Ok(vec![server(&settings)?]);
    };
    if let Some(address) = settings.find("address") {
        return Err(address.refuse(
            "expected one way to name the server, found \"vnext\" and \"address\"",
            "remove one of them",
        ));
    }
    let nodes = vnext.list()?;
    if nodes.is_empty() {
        return Err(vnext.refuse("expected a server, found an empty list", shape));
    }
    let servers: Vec<_> = nodes.iter().map(|node| server(&node.object(keys::VNEXT)?)).collect();
    servers.into_iter().collect()
}

/// A server: an element of `vnext`, or the flat form, which may hold its one user itself.
fn server(object: &Object<'_>) -> Parsed<VmessServer> {
    let address = match object.find("address") {
        Some(node) => values::address(&node),
        None => Err(object.missing("address", "write the server's name or IP address")),
    };
    let port = match object.find("port") {
        Some(node) => values::port(&node),
        None => Err(object.missing("port", "write the server's port: \"port\": 443")),
    };
    let users = users(object);
    Ok(VmessServer { place: object.node.place(), address: address?, port: port?, users: users? })
}

fn users(server: &Object<'_>) -> Parsed<Vec<VmessOutUser>> {
    let Some(users) = server.find("users") else {
        if server.find_any(&["id", "uuid"]).is_some() {
            return Ok(vec![user(server)?]);
        }
        return Err(server.lacks(
            server.either(&["users", "uuid"], &["uuid"]),
            server.either("there is no user: \"users\" is missing", "there is no user: \"uuid\" is missing"),
            server.either("write \"users\": [{ \"id\": \"...\" }]", "write \"uuid\": \"...\""),
        ));
    };
    let nodes = users.list()?;
    if nodes.is_empty() {
        return Err(users.refuse("expected a user, found an empty list", "write [{ \"id\": \"...\" }]"));
    }
    let users: Vec<_> = nodes.iter().map(|node| user(&node.object(keys::VNEXT_USER)?)).collect();
    users.into_iter().collect()
}

fn user(object: &Object<'_>) -> Parsed<VmessOutUser> {
    let id = values::id_of(object);
    let security = match object.find("security") {
        Some(node) => security(&node),
        None => Ok(SecurityChoice::Auto),
    };
    let level = level(object, "level");
    let alter_id = alter_id(object, "the new one (AEAD) is sent, which V2Ray 4.28 and later understand");
    let experiments = object.text("experiments", "names of experiments")?.unwrap_or_default();
    alter_id?;
    Ok(VmessOutUser {
        place: object.node.place(),
        id: id?,
        security: security?,
        authenticated_length: experiments.contains("AuthenticatedLength"),
        no_end_mark: experiments.contains("NoTerminationSignal"),
        level: level?,
    })
}

fn security(node: &Node<'_>) -> Parsed<SecurityChoice> {
    const CIPHERS: values::Names = values::Names {
        what: "a VMess security",
        known: &SecurityChoice::NAMES,
        foreign: &["tls"],
        foreign_help: "write \"auto\"; TLS goes into \"streamSettings\"",
    };
    let name = node.text(CIPHERS.what)?;
    if name.eq_ignore_ascii_case("aes-128-cfb") {
        // What V2Ray makes of it, too, since it has forgotten that cipher.
        node.warn("\"aes-128-cfb\" is no more: \"auto\" is used, as V2Ray does", "write \"auto\"");
        return Ok(SecurityChoice::Auto);
    }
    name.parse().map_err(|_| CIPHERS.unknown(node, name))
}

/// Without TLS, `none` and `zero` let everybody on the way read along.
fn warn_unprotected(outbound: &Object<'_>, vmess: &VmessOutbound) {
    let plain = |user: &VmessOutUser| matches!(user.security, SecurityChoice::None | SecurityChoice::Zero);
    let away =
        |server: &&VmessServer| !matches!(&server.address, wsray_vmess::Address::Ip(ip) if ip.is_loopback());
    let exposed = vmess.servers.iter().filter(away).any(|server| server.users.iter().any(plain));
    if vmess.stream.tls.is_none() && exposed {
        outbound.node.warn(
            "nothing is encrypted: the VMess security is none or zero, and there is no TLS",
            "write \"security\": \"tls\" in \"streamSettings\", or \"security\": \"auto\" for the user",
        );
    }
}

fn freedom(outbound: &Object<'_>) -> Parsed<(Freedom, DomainStrategy)> {
    let Some(settings) = outbound.find("settings") else {
        return Ok((Freedom::default(), DomainStrategy::AsIs));
    };
    if settings.dialect == Dialect::V5 {
        return Ok((v5::freedom(&settings)?, DomainStrategy::AsIs));
    }
    let settings = settings.object(keys::FREEDOM)?;
    let strategies = ["targetStrategy", "domainStrategy"]
        .map(|key| settings.find(key).map_or(Ok(DomainStrategy::AsIs), |node| dial::strategy(&node)));
    let redirect = settings.find("redirect").map(|node| redirect(&node)).transpose();
    let final_rules = final_rules(&settings);
    let level = level(&settings, "userLevel");
    let strategies = strategies.into_iter().collect::<Parsed<Vec<_>>>()?;
    let strategy = strategies.into_iter().find(|strategy| *strategy != DomainStrategy::AsIs);
    let freedom = Freedom { redirect: redirect?.flatten(), final_rules: final_rules?, level: level? };
    Ok((freedom, strategy.unwrap_or_default()))
}

/// `host:port`, `host:0` (the target's own port) or `:port` (the target's own host).
fn redirect(node: &Node<'_>) -> Parsed<Option<Redirect>> {
    const WHAT: &str = "host:port";
    const HELP: &str = "write \"127.0.0.1:3366\", or \":3366\" for another port only";
    let text = node.text(WHAT)?;
    if text.is_empty() {
        return Ok(None);
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(|| node.expected(WHAT, HELP))?;
    let port: u16 = port.parse().map_err(|_| node.expected(WHAT, HELP))?;
    let address =
        if host.is_empty() { None } else { Some(host.parse().map_err(|_| node.expected(WHAT, HELP))?) };
    Ok(Some(Redirect { address, port: std::num::NonZeroU16::new(port) }))
}

fn dns(outbound: &Object<'_>) -> Parsed<DnsOutbound> {
    const NETWORKS: values::Names =
        values::Names { what: "a network", known: &["tcp", "udp"], foreign: &[], foreign_help: "" };
    let Some(settings) = outbound.find("settings") else { return Ok(DnsOutbound::default()) };
    let settings = settings.object(settings.either(keys::DNS_OUTBOUND, keys5::DNS_OUTBOUND))?;
    let network = settings.find("network").map(|node| {
        let name = node.text(NETWORKS.what)?;
        match name.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Network::Tcp),
            "udp" => Ok(Network::Udp),
            _ => Err(NETWORKS.unknown(&node, name)),
        }
    });
    let address = settings.find("address").map(|node| values::address(&node)).transpose();
    let port = settings.number("port", "a port", 0..=u32::from(u16::MAX));
    let port = port?.and_then(|port| u16::try_from(port).ok()).and_then(NonZeroU16::new);
    Ok(DnsOutbound { network: network.transpose()?, address: address?, port })
}

fn loopback(outbound: &Object<'_>) -> Parsed<Loopback> {
    const SHAPE: &str = "write \"settings\": { \"inboundTag\": \"a tag that rules name\" }";
    let Some(settings) = outbound.find("settings") else { return Err(outbound.missing("settings", SHAPE)) };
    let settings = settings.object(keys::LOOPBACK)?;
    let inbound = settings.text("inboundTag", "a tag")?.filter(|tag| !tag.is_empty());
    let inbound = inbound.ok_or_else(|| settings.missing("inboundTag", SHAPE))?;
    Ok(Loopback { inbound: inbound.to_owned() })
}

fn blackhole(outbound: &Object<'_>) -> Parsed<Blackhole> {
    const RESPONSES: values::Names =
        values::Names { what: "a response", known: &["none", "http"], foreign: &[], foreign_help: "" };
    let Some(settings) = outbound.find("settings") else { return Ok(Blackhole::default()) };
    let settings = settings.object(settings.either(keys::BLACKHOLE, keys5::NOTHING))?;
    let Some(response) = settings.find("response") else { return Ok(Blackhole::default()) };
    let response = response.object(keys::TYPE)?;
    let Some(kind) = response.find("type") else { return Ok(Blackhole::default()) };
    let name = kind.text(RESPONSES.what)?;
    match name.to_ascii_lowercase().as_str() {
        "" | "none" => Ok(Blackhole { http_response: false }),
        "http" => Ok(Blackhole { http_response: true }),
        _ => Err(RESPONSES.unknown(&kind, name)),
    }
}
