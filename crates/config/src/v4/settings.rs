//! `log` and `policy`

use std::{collections::BTreeMap, num::NonZeroU64, time::Duration};

use crate::{
    Diagnostic, Level, Log, LogTarget, MemoryBudget, Place, Policy, Timeouts,
    keys::{self, Key},
    nearest::nearest,
    node::{Node, Parsed},
    object::Object,
};

/// Reads `log`.
pub(super) fn log(document: &Object<'_>) -> Parsed<Log> {
    let Some(node) = document.find("log") else { return Ok(Log::default()) };
    let object = node.object(keys::LOG)?;
    let access = target(&object, "access");
    let error = target(&object, "error");
    let level = level(&object)?;
    let (access, error) = (access?, error?);
    if level == Level::None {
        return Ok(Log { access: LogTarget::Off, error: LogTarget::Off, level });
    }
    Ok(Log { access, error, level })
}

fn target(log: &Object<'_>, key: &str) -> Parsed<LogTarget> {
    let Some(node) = log.find(key) else { return Ok(LogTarget::Stdout) };
    Ok(match node.text("a file name, or none")? {
        "" => LogTarget::Stdout,
        "none" => LogTarget::Off,
        path => LogTarget::File { path: path.to_owned(), place: node.place() },
    })
}

/// An unknown level is `warning`, as in V2Ray.
fn level(log: &Object<'_>) -> Parsed<Level> {
    const NAMES: [&str; 5] = ["debug", "info", "warning", "error", "none"];
    let Some(node) = log.find("loglevel") else { return Ok(Level::default()) };
    let name = node.text("a log level")?;
    Ok(match name.to_ascii_lowercase().as_str() {
        "debug" => Level::Debug,
        "info" => Level::Info,
        "warning" | "" => Level::Warning,
        "error" => Level::Error,
        "none" => Level::None,
        _ => {
            let near = nearest(name, NAMES).unwrap_or("warning");
            node.warn(
                format!(
                    "expected a log level ({}), found {}: warning is used",
                    NAMES.join(", "),
                    node.found()
                ),
                format!("write {near:?}"),
            );
            Level::Warning
        }
    })
}

/// Reads `policy`.
pub(super) fn policy(document: &Object<'_>) -> Parsed<Policy> {
    let Some(node) = document.find("policy") else { return Ok(Policy::default()) };
    let object = node.object(keys::POLICY)?;
    let mut result = Ok(());
    let memory_budget = memory_budget(&object, keys::POLICY_SYSTEM).unwrap_or_else(|reported| {
        result = Err(reported);
        MemoryBudget::default()
    });
    let mut read = BTreeMap::new();
    let Some(levels) = object.find("levels") else {
        return result.map(|()| Policy { levels: read, memory_budget });
    };
    for (name, place, node) in levels.entries()? {
        let level = level_number(&node, name, &place);
        match (level, timeouts(&node)) {
            (Ok(level), Ok(timeouts)) => drop(read.insert(level, timeouts)),
            (Err(reported), _) | (_, Err(reported)) => result = Err(reported),
        }
    }
    result.map(|()| Policy { levels: read, memory_budget })
}

/// Reads `system` of `policy`.
pub(crate) fn memory_budget(policy: &Object<'_>, keys: &'static [Key]) -> Parsed<MemoryBudget> {
    let Some(node) = policy.find("system") else { return Ok(MemoryBudget::default()) };
    let mib = node.object(keys)?.number("memoryBudget", "MiB of memory, or 0", 0..=MOST_MIB)?;
    Ok(match mib.map(|mib| NonZeroU64::new(u64::from(mib) << 20)) {
        None => MemoryBudget::ThreeQuarters,
        Some(None) => MemoryBudget::Unlimited,
        Some(Some(bytes)) => MemoryBudget::Bytes(bytes),
    })
}

/// 4 TiB: more is a number of bytes, or of KiB.
const MOST_MIB: u32 = 4 << 20;

/// The user level that is the key of `node`.
pub(crate) fn level_number(node: &Node<'_>, name: &str, place: &Place) -> Parsed<u32> {
    name.parse().map_err(|_| {
        let error = Diagnostic::at(place, format!("expected a user level, found {name:?}"));
        node.reader.refuse(error.help("write a number in double quotes, such as \"0\""))
    })
}

fn timeouts(node: &Node<'_>) -> Parsed<Timeouts> {
    let object = node.object(keys::POLICY_LEVEL)?;
    let defaults = Timeouts::default();
    let handshake = seconds(&object, "handshake", 1);
    let connection_idle = seconds(&object, "connIdle", 1);
    let uplink_only = seconds(&object, "uplinkOnly", 0);
    let downlink_only = seconds(&object, "downlinkOnly", 0);
    Ok(Timeouts {
        handshake: handshake?.unwrap_or(defaults.handshake),
        connection_idle: connection_idle?.unwrap_or(defaults.connection_idle),
        uplink_only: uplink_only?,
        downlink_only: downlink_only?,
    })
}

fn seconds(level: &Object<'_>, key: &str, least: u32) -> Parsed<Option<Duration>> {
    let seconds = level.number(key, "seconds", least..=u32::MAX)?;
    Ok(seconds.map(|seconds| Duration::from_secs(seconds.into())))
}
