//! Logs and policies.

use std::{num::NonZeroU64, time::Duration};

use wsray_config::{Level, LogTarget, MemoryBudget};

use crate::config;

#[test]
fn no_log_object_means_no_access_log_and_warnings_to_standard_output() {
    let log = config("{}").log;
    assert_eq!((log.access, log.error, log.level), (LogTarget::Off, LogTarget::Stdout, Level::Warning));
}

#[test]
fn an_empty_log_object_switches_the_access_log_on() {
    let log = config(r#"{ "log": {} }"#).log;
    assert_eq!((log.access, log.error, log.level), (LogTarget::Stdout, LogTarget::Stdout, Level::Warning));
}

#[test]
fn log_files_none_and_levels_are_read() {
    let log =
        config(r#"{ "log": { "access": "none", "error": "/var/log/e.log", "loglevel": "DEBUG" } }"#).log;
    assert_eq!(log.access, LogTarget::Off);
    assert!(matches!(log.error, LogTarget::File { path, .. } if path == "/var/log/e.log"));
    assert_eq!(log.level, Level::Debug);
    let log = config(r#"{ "log": { "access": "a.log", "loglevel": "none" } }"#).log;
    assert_eq!((log.access, log.error, log.level), (LogTarget::Off, LogTarget::Off, Level::None));
}

#[test]
fn policy_levels_override_v2rays_defaults() {
    let policy =
        config(r#"{ "policy": { "levels": { "0": { "handshake": 4, "uplinkOnly": 0 }, "1": {} } } }"#).policy;
    let zero = policy.timeouts(0);
    assert_eq!((zero.handshake, zero.connection_idle), (Duration::from_secs(4), Duration::from_mins(5)));
    assert_eq!((zero.uplink_only, zero.downlink_only), (Some(Duration::ZERO), None));
    assert_eq!(policy.timeouts(7).handshake, Duration::from_mins(1));
}

#[test]
fn a_memory_budget_is_a_number_of_mib() {
    let budget = |system: &str| config(&format!(r#"{{ "policy": {{ {system} }} }}"#)).policy.memory_budget;
    assert_eq!(budget(""), MemoryBudget::ThreeQuarters);
    assert_eq!(budget(r#""system": { "memoryBudget": 0 }"#), MemoryBudget::Unlimited);
    let bytes = NonZeroU64::new(64 << 20).unwrap();
    assert_eq!(budget(r#""system": { "memoryBudget": 64 }"#), MemoryBudget::Bytes(bytes));
}
