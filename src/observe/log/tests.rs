use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{
    LIMITED_LINES_PER_SECOND, Level, Log, LogError, LogSettings, Memory, Output, QUEUED_LINES, Zone,
};
use crate::observe::{Access, Network, Outcome};

fn memory_log(level: Level) -> (Log, Memory) {
    let memory = Memory::default();
    let output = Output::Memory(memory.clone());
    let settings = LogSettings { access: output.clone(), error: output, level, zone: Zone::utc() };
    (Log::open(settings).unwrap(), memory)
}

/// The lines without their times, which must have V2Ray's shape.
fn lines(memory: &Memory) -> Vec<String> {
    let shape = "0000/00/00 00:00:00 ";
    let untimed = |line: &str| {
        let (time, rest) = line.split_at(shape.len());
        let digits_as_zeros: String =
            time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(digits_as_zeros, shape, "{line}");
        rest.to_owned()
    };
    memory.text().lines().map(untimed).collect()
}

/// A directory of its own that goes away with the value.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("wsray-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn error_lines_have_the_shape_of_v2ray() {
    let (log, memory) = memory_log(Level::Debug);
    log.debug(Some(7), "relay", format_args!("{} bytes", 5));
    log.info(None, "app", format_args!("started"));
    log.warning(Some(1_234_567), "transport", format_args!("refused"));
    log.error(None, "app", format_args!("no port"));
    log.flush().unwrap();
    assert_eq!(
        lines(&memory),
        [
            "[Debug] [7] relay: 5 bytes",
            "[Info] app: started",
            "[Warning] [1234567] transport: refused",
            "[Error] app: no port"
        ]
    );
}

#[test]
fn access_lines_have_the_shape_of_v2ray() {
    let (log, memory) = memory_log(Level::None);
    let source: std::net::SocketAddr = "1.2.3.4:5678".parse().unwrap();
    let target = wsray_vmess::Target { address: "example.com".parse().unwrap(), port: 443 };
    let accepted = |network, detour| Outcome::Accepted { network, target: &target, detour };
    let outcomes = [
        (accepted(Network::Tcp, "out"), "x@example.com"),
        (accepted(Network::Udp, ""), ""),
        (Outcome::Rejected { reason: &"unknown user" }, ""),
    ];
    for (outcome, email) in outcomes {
        log.access(&Access { source: &source, outcome, email });
    }
    log.flush().unwrap();
    assert_eq!(
        lines(&memory),
        [
            "1.2.3.4:5678 accepted tcp:example.com:443 [out] email: x@example.com",
            "1.2.3.4:5678 accepted udp:example.com:443",
            "1.2.3.4:5678 rejected  unknown user",
        ]
    );
}

#[test]
fn lines_below_the_level_are_not_formatted() {
    struct Formatted;
    impl std::fmt::Display for Formatted {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("formatted")
        }
    }
    let (log, memory) = memory_log(Level::Warning);
    log.debug(None, "a", format_args!("{Formatted}"));
    log.info(None, "a", format_args!("{Formatted}"));
    log.limited(Level::Info, "kind", None, "a", format_args!("{Formatted}"));
    log.warning(None, "a", format_args!("told"));
    log.write(Level::None, None, "a", format_args!("{Formatted}"));
    log.flush().unwrap();
    assert_eq!(lines(&memory), ["[Warning] a: told"]);
    for (level, expected) in
        [(Level::Info, false), (Level::Warning, true), (Level::Error, true), (Level::None, false)]
    {
        assert_eq!(log.is_enabled(level), expected, "{level:?}");
    }
}

#[test]
fn logs_that_are_off_tell_nothing() {
    let settings =
        LogSettings { access: Output::Off, error: Output::Off, level: Level::Debug, zone: Zone::utc() };
    for log in [Log::off(), Log::open(settings).unwrap()] {
        assert!(!log.is_enabled(Level::Error) && !log.has_access());
        log.error(None, "a", format_args!("nobody hears"));
        assert!(log.flush().is_ok() && log.reopen().is_ok());
    }
}

#[test]
fn peer_cannot_forge_a_line() {
    let (log, memory) = memory_log(Level::Info);
    let sent = "/x\n2026/01/01 00:00:00 [Error] app: forged";
    log.info(None, "transport", format_args!("path {sent}"));
    log.access(&Access { source: &"a\r\nb", outcome: Outcome::Rejected { reason: &sent }, email: "c\nd" });
    log.flush().unwrap();
    assert_eq!(
        lines(&memory),
        [
            "[Info] transport: path /x\\n2026/01/01 00:00:00 [Error] app: forged",
            "a\\r\\nb rejected  /x\\n2026/01/01 00:00:00 [Error] app: forged email: c\\nd",
        ]
    );
}

#[test]
fn flood_is_dropped_and_counted() {
    const FLOOD: usize = 50_000;
    let (log, memory) = memory_log(Level::Info);
    let blocked = memory.block();
    let start = Instant::now();
    for n in 0..FLOOD {
        log.info(None, "flood", format_args!("{n}"));
    }
    assert!(start.elapsed() < Duration::from_secs(5), "the callers waited");
    drop(blocked);
    log.flush().unwrap();
    log.flush().unwrap();
    let lines = lines(&memory);
    let dropped: Vec<usize> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("[Warning] log: ")?.split_once(" lines dropped")?.0.parse().ok())
        .collect();
    let written = lines.len() - dropped.len();
    assert_eq!(written + dropped.iter().sum::<usize>(), FLOOD);
    assert!((QUEUED_LINES..FLOOD).contains(&written), "{written} written");
}

#[test]
fn refusals_of_one_kind_are_a_few_lines_and_a_count() {
    let (log, memory) = memory_log(Level::Info);
    for n in 0..1000 {
        log.limited(Level::Info, "refused handshakes", Some(n), "ws", format_args!("no upgrade"));
    }
    log.limited(Level::Info, "bad early data", None, "ws", format_args!("not base64"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while !memory.text().contains("more in the last second") && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let lines = lines(&memory);
    let limit = LIMITED_LINES_PER_SECOND as usize;
    assert_eq!(lines.iter().filter(|line| line.ends_with("no upgrade")).count(), limit);
    assert!(lines.contains(&"[Info] ws: not base64".into()));
    assert_eq!(
        lines.last().unwrap(),
        &format!("[Info] ws: refused handshakes: {} more in the last second", 1000 - limit)
    );
}

#[test]
fn rejected_strangers_are_a_few_access_lines_and_a_count() {
    let (log, memory) = memory_log(Level::None);
    for n in 0..100 {
        let outcome = Outcome::Rejected { reason: &"unknown user" };
        log.access_limited("unknown users", &Access { source: &n, outcome, email: "" });
    }
    drop(log);
    let lines = lines(&memory);
    let limit = LIMITED_LINES_PER_SECOND as usize;
    assert_eq!(lines[..limit].last().unwrap(), &format!("{} rejected  unknown user", limit - 1));
    assert_eq!(lines[limit..], [format!("unknown users: {} more rejected in the last second", 100 - limit)]);
}

#[test]
fn configuration_of_v2ray_gives_the_settings() {
    let text = r#"{"log": {"access": "none", "error": "/var/log/wsray.log", "loglevel": "info"}}"#;
    let config =
        wsray_config::load(&[wsray_config::Source::new("c", text)], &wsray_config::Options::default())
            .unwrap()
            .config;
    let settings = LogSettings::from_config(&config.log, Zone::utc());
    assert_eq!((settings.access, settings.level), (Output::Off, Level::Info));
    assert_eq!(settings.error, Output::File("/var/log/wsray.log".into()));
}

#[test]
fn last_lines_and_counts_are_written_when_the_log_goes() {
    let (log, memory) = memory_log(Level::Info);
    for _ in 0..=LIMITED_LINES_PER_SECOND {
        log.clone().limited(Level::Info, "kind", None, "a", format_args!("x"));
    }
    drop(log);
    assert_eq!(lines(&memory).last().unwrap(), "[Info] a: kind: 1 more in the last second");
}

#[test]
fn file_is_private_appended_to_and_reopened() {
    let directory = Directory::new("log-reopen");
    let (path, old) = (directory.0.join("error.log"), directory.0.join("error.log.1"));
    fs::write(&path, "before\n").unwrap();
    fs::remove_file(&path).unwrap();
    let open = || {
        let error = Output::File(path.clone());
        Log::open(LogSettings { access: Output::Off, error, level: Level::Info, zone: Zone::utc() }).unwrap()
    };
    open().info(None, "a", format_args!("one"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let log = open();
    log.info(None, "a", format_args!("two"));
    log.flush().unwrap();
    fs::rename(&path, &old).unwrap();
    log.info(None, "a", format_args!("three"));
    log.reopen().unwrap();
    log.info(None, "a", format_args!("four"));
    log.flush().unwrap();
    let words = |path: &PathBuf| -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect()
    };
    assert_eq!(words(&old), ["one", "two", "three"]);
    assert_eq!(words(&path), ["four"]);
}

#[test]
fn failed_reopening_keeps_the_old_file() {
    let directory = Directory::new("log-failed-reopen");
    let (inner, moved) = (directory.0.join("inner"), directory.0.join("moved"));
    fs::create_dir(&inner).unwrap();
    let error = Output::File(inner.join("error.log"));
    let log =
        Log::open(LogSettings { access: Output::Off, error, level: Level::Info, zone: Zone::utc() }).unwrap();
    fs::rename(&inner, &moved).unwrap();
    assert!(matches!(log.reopen(), Err(LogError::Open { .. })));
    log.info(None, "a", format_args!("still told"));
    log.flush().unwrap();
    assert!(fs::read_to_string(moved.join("error.log")).unwrap().ends_with("still told\n"));
}

#[test]
fn log_that_cannot_be_opened_is_named() {
    let error = Output::File("/nonexistent/error.log".into());
    let settings = LogSettings { access: Output::Off, error, level: Level::Info, zone: Zone::utc() };
    assert_eq!(
        Log::open(settings).unwrap_err().to_string(),
        "cannot open the log file /nonexistent/error.log"
    );
}

#[test]
fn both_logs_to_one_file_keep_their_order() {
    let (log, memory) = memory_log(Level::Info);
    for n in 0..100 {
        log.info(None, "a", format_args!("{n}"));
        log.access(&Access { source: &n, outcome: Outcome::Rejected { reason: &"x" }, email: "" });
    }
    log.flush().unwrap();
    let expected: Vec<String> =
        (0..100).flat_map(|n| [format!("[Info] a: {n}"), format!("{n} rejected  x")]).collect();
    assert_eq!(lines(&memory), expected);
}
