//! dokodemo-door inbounds.

use std::{num::NonZeroU16, time::Duration};

use wsray_vmess::Address;

use super::{inbound::level, values};
use crate::{
    DokodemoInbound, DoorTarget, Networks, SocketOptions, Transparent, keys, keys5, node::Parsed,
    object::Object,
};

const SHAPE: &str =
    "write \"settings\": { \"address\": \"192.0.2.1\", \"port\": 53 }, or \"followRedirect\": true";

/// Reads the settings of an inbound whose `sockopt` is known.
pub(super) fn dokodemo(inbound: &Object<'_>, socket: &SocketOptions) -> Parsed<DokodemoInbound> {
    let Some(settings) = inbound.find("settings") else { return Err(inbound.missing("settings", SHAPE)) };
    let settings = settings.object(settings.either(keys::DOKODEMO, keys5::DOKODEMO))?;
    let follows = settings.flag("followRedirect");
    let target = target(&settings);
    let networks = networks(&settings);
    let timeout = settings.number("timeout", "seconds", 0..=u32::MAX);
    let level = level(&settings, "userLevel");
    let (follows, target, mut networks) = (follows?, target?, networks?);
    if follows && target.is_none() && networks.has_udp() && socket.transparent != Transparent::Tproxy {
        // The kernel does not tell where a redirected packet was going.
        let message = "packets cannot be followed after a REDIRECT";
        let help =
            "write \"sockopt\": { \"tproxy\": \"tproxy\" } in \"streamSettings\", or \"network\": \"tcp\"";
        if !networks.has_tcp() {
            return Err(settings.node.refuse(message, help));
        }
        settings.node.warn(format!("{message}: only connections are listened to"), help);
        networks = Networks::Tcp;
    }
    if !follows && socket.transparent != Transparent::Off {
        settings.node.warn(
            "\"tproxy\" has no effect on where this goes: \"followRedirect\" is not set",
            "write \"followRedirect\": true, or remove \"tproxy\"",
        );
    }
    let target = match (follows, target) {
        (true, otherwise) => DoorTarget::Original { otherwise },
        (false, Some((address, port))) => DoorTarget::Fixed(address, port),
        (false, None) => return Err(settings.missing("address", SHAPE)),
    };
    let idle_timeout =
        timeout?.filter(|&seconds| seconds > 0).map(|seconds| Duration::from_secs(seconds.into()));
    Ok(DokodemoInbound { target, networks, idle_timeout, level: level? })
}

fn target(settings: &Object<'_>) -> Parsed<Option<(Address, NonZeroU16)>> {
    let Some(address) = settings.find_any(&["address", "rewriteAddress"]) else { return Ok(None) };
    let address = values::address(&address);
    let port = match settings.find_any(&["port", "rewritePort"]) {
        Some(node) => values::port(&node).map(Some),
        None => Ok(None),
    };
    match (address?, port?) {
        (address, Some(port)) => Ok(Some((address, port))),
        (_, None) if settings.flag("followRedirect")? => Ok(None),
        (_, None) => Err(settings.missing("port", "write the port of the target: \"port\": 53")),
    }
}

fn networks(settings: &Object<'_>) -> Parsed<Networks> {
    const NAMES: values::Names = values::Names {
        what: "a network",
        known: &["tcp", "udp"],
        foreign: &["unix"],
        foreign_help: "remove it",
    };
    let keys = settings.either(&["network", "allowedNetwork"][..], &["networks"]);
    let Some(node) = settings.find_any(keys) else { return Ok(Networks::Tcp) };
    let (mut tcp, mut udp) = (false, false);
    for (node, name) in node.texts("a list of networks")? {
        match name.to_ascii_lowercase().as_str() {
            "tcp" => tcp = true,
            "udp" => udp = true,
            _ => return Err(NAMES.unknown(&node, name)),
        }
    }
    Ok(match (tcp, udp) {
        (true, true) => Networks::Both,
        (false, true) => Networks::Udp,
        (_, false) => Networks::Tcp,
    })
}
