//! What V2Ray 5's own dialect says in another shape than V2Ray 4's: `log`, `services.policy`, and parts of
//! settings. What differs in its keys only is read beside V2Ray 4's.

pub(crate) mod dns;
pub(crate) mod rule;

use std::{collections::BTreeMap, time::Duration};

use wsray_vmess::Address;

use crate::{
    Freedom, Level, Log, LogTarget, MemoryBudget, Policy, Redirect, SocksInbound, SocksUdp, Timeouts, keys5,
    node::{Node, Parsed},
    object::Object,
    v4::{
        final_rules::final_rules,
        settings::{level_number, memory_budget},
        values,
    },
};

/// Reads `log`. What is missing in it is V2Ray's default: no access log, warnings to standard output
/// (`app/log/log.go`).
pub(crate) fn log(document: &Object<'_>) -> Parsed<Log> {
    let Some(node) = document.find("log") else { return Ok(Log::default()) };
    let object = node.object(keys5::LOG)?;
    let access = object.find("access").map(|node| access(&node)).transpose();
    let error = object.find("error").map(|node| error(&node)).transpose();
    let default = Log::default();
    let (error, level) = error?.unwrap_or((default.error, default.level));
    Ok(Log { access: access?.unwrap_or(default.access), error, level })
}

fn access(node: &Node<'_>) -> Parsed<LogTarget> {
    let object = node.object(keys5::LOG_TARGET)?;
    if let Some(level) = object.find("level") {
        level.warn("this has no effect: the access log has no levels", "remove it");
    }
    target(&object)
}

fn error(node: &Node<'_>) -> Parsed<(LogTarget, Level)> {
    const LEVELS: values::Names = values::Names {
        what: "a log level",
        known: &["Debug", "Info", "Warning", "Error"],
        foreign: &["Unknown"],
        foreign_help: "write one of: Debug, Info, Warning, Error",
    };
    let object = node.object(keys5::LOG_TARGET)?;
    let target = target(&object);
    let Some(level) = object.find("level") else {
        let target = target?;
        if target != LogTarget::Off {
            node.warn(
                "without a level V2Ray 5 writes nothing: wsray writes warnings",
                "write \"level\": \"Warning\"",
            );
        }
        return Ok((target, Level::Warning));
    };
    let name = level.text(LEVELS.what)?;
    let level = match name.to_ascii_lowercase().as_str() {
        "debug" => Level::Debug,
        "info" => Level::Info,
        "warning" => Level::Warning,
        "error" => Level::Error,
        _ => return Err(LEVELS.unknown(&level, name)),
    };
    Ok((target?, level))
}

/// Where a log goes; nowhere if it has no `type`.
fn target(object: &Object<'_>) -> Parsed<LogTarget> {
    const TYPES: values::Names = values::Names {
        what: "a type of log",
        known: &["None", "Console", "File"],
        foreign: &["Event"],
        foreign_help: "write one of: None, Console, File",
    };
    let Some(node) = object.find("type") else {
        object.node.warn("without a type nothing is logged", "write \"type\": \"Console\", or \"None\"");
        return Ok(LogTarget::Off);
    };
    let name = node.text(TYPES.what)?;
    match name.to_ascii_lowercase().as_str() {
        "none" => Ok(LogTarget::Off),
        "console" => Ok(LogTarget::Stdout),
        "file" => match (object.text("path", "a file name")?, object.find("path")) {
            (Some(path), Some(node)) => Ok(LogTarget::File { path: path.to_owned(), place: node.place() }),
            _ => Err(object.missing("path", "write the file's name: \"path\": \"...\"")),
        },
        _ => Err(TYPES.unknown(&node, name)),
    }
}

/// Reads the `policy` of `services`.
pub(crate) fn policy(services: Option<&Object<'_>>) -> Parsed<Policy> {
    let Some(node) = services.and_then(|services| services.find("policy")) else {
        return Ok(Policy::default());
    };
    let object = node.object(keys5::POLICY)?;
    let mut result = Ok(());
    let memory_budget = memory_budget(&object, keys5::POLICY_SYSTEM).unwrap_or_else(|reported| {
        result = Err(reported);
        MemoryBudget::default()
    });
    let mut read = BTreeMap::new();
    let Some(levels) = object.find("level") else {
        return result.map(|()| Policy { levels: read, memory_budget });
    };
    for (name, place, node) in levels.entries()? {
        let level = level_number(&node, name, &place);
        let timeouts = timeouts(&node);
        match (level, timeouts) {
            (Ok(level), Ok(timeouts)) => drop(read.insert(level, timeouts)),
            (Err(reported), _) | (_, Err(reported)) => result = Err(reported),
        }
    }
    result.map(|()| Policy { levels: read, memory_budget })
}

fn timeouts(level: &Node<'_>) -> Parsed<Timeouts> {
    let level = level.object(keys5::POLICY_LEVEL)?;
    let defaults = Timeouts::default();
    let Some(node) = level.find("timeout") else { return Ok(defaults) };
    let object = node.object(keys5::TIMEOUT)?;
    let handshake = seconds(&object, "handshake", 1);
    let connection_idle = seconds(&object, "connectionIdle", 1);
    let uplink_only = seconds(&object, "uplinkOnly", 0);
    let downlink_only = seconds(&object, "downlinkOnly", 0);
    Ok(Timeouts {
        handshake: handshake?.unwrap_or(defaults.handshake),
        connection_idle: connection_idle?.unwrap_or(defaults.connection_idle),
        uplink_only: uplink_only?,
        downlink_only: downlink_only?,
    })
}

fn seconds(timeout: &Object<'_>, key: &str, least: u32) -> Parsed<Option<Duration>> {
    let Some(node) = timeout.find(key) else { return Ok(None) };
    if !node.is_object() {
        return Err(node.expected("an object", "write { \"value\": 300 }, in seconds"));
    }
    let seconds = node.object(keys5::SECONDS)?.number("value", "seconds", least..=u32::MAX)?;
    Ok(seconds.map(|seconds| Duration::from_secs(seconds.into())))
}

/// Reads the `settings` of a socks inbound.
pub(crate) fn socks(settings: &Node<'_>) -> Parsed<SocksInbound> {
    let settings = settings.object(keys5::SOCKS)?;
    let udp = settings.flag("udpEnabled");
    let reply_address = settings
        .find("address")
        .map(|node| values::ip(&node, "write the address of this machine that clients can reach"));
    let packet_encoding = values::packet_encoding(&settings);
    let (reply_address, packet_encoding) = (reply_address.transpose()?, packet_encoding?);
    let udp = udp?.then_some(SocksUdp { reply_address, packet_encoding });
    Ok(SocksInbound { accounts: Vec::new(), udp, level: 0 })
}

/// Reads the `settings` of a freedom outbound.
pub(crate) fn freedom(settings: &Node<'_>) -> Parsed<Freedom> {
    let settings = settings.object(keys5::FREEDOM)?;
    if let Some(node) = settings.find("protocolReplacement")
        && !node.text("a protocol replacement")?.eq_ignore_ascii_case("IDENTITY")
    {
        return Err(node.refuse(
            format!("replacing protocols is not supported, found {}", node.found()),
            "remove it, or write \"IDENTITY\"",
        ));
    }
    let redirect = settings.find("destinationOverride").map(|node| redirect(&node)).transpose()?;
    let final_rules = final_rules(&settings)?;
    Ok(Freedom { redirect: redirect.flatten(), final_rules, ..Freedom::default() })
}

fn redirect(node: &Node<'_>) -> Parsed<Option<Redirect>> {
    let object = node.object(keys5::OVERRIDE)?;
    let Some(server) = object.find("server") else { return Ok(None) };
    let server = server.object(keys5::ENDPOINT)?;
    let address = server.find("address").map(|node| values::address(&node)).transpose();
    let port = server.number("port", "a port", 0..=65535);
    let address: Option<Address> = address?;
    let port = port?.and_then(|port| u16::try_from(port).ok()).and_then(std::num::NonZeroU16::new);
    Ok(Some(Redirect { address, port }))
}
