//! What the tests of the program share: real peers and wsray as processes, applications, origins, and raw sockets.

#![allow(dead_code, unused_macros, unused_imports, reason = "every test binary uses its own part of this")]
#![allow(missing_docs, unreachable_pub, reason = "support for tests, not an interface")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot be set up has to fail"
)]

pub mod apps;
pub mod cdn;
pub mod certificate;
pub mod chromium;
pub mod config;
pub mod delay;
pub mod dns;
pub mod front;
pub mod geo;
pub mod node;
pub mod origin;
pub mod raw;
pub mod reframe;
pub mod tap;

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io::Write,
    net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket},
    path::PathBuf,
    sync::atomic::{AtomicU16, AtomicU32, Ordering::Relaxed},
    time::Duration,
};

/// The longest any single read or wait may take before the test counts as failed.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Ends the test with a line that `./test` lists; with `CI=true` it fails instead.
macro_rules! skip {
    ($reason:expr) => {{
        $crate::support::skipped(&$reason.to_string());
        return;
    }};
}

pub(crate) use skip;

pub fn skipped(reason: &str) {
    let test = test_name();
    // Not eprintln: that is captured, and nobody would see it.
    drop(std::io::stderr().write_all(format!("SKIPPED: {test}: {reason}\n").as_bytes()));
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "SKIPPED: {test}: {reason}");
}

pub fn test_name() -> String {
    std::thread::current().name().unwrap_or("unnamed").to_owned()
}

/// Defines one `#[test]` in a module a pair for each of the functions named, each taking a [`node::Pair`].
///
/// The pairs without wsray test the tests themselves: `cargo test --features peers-only` runs them too.
macro_rules! pairs {
    ($($test:ident),+ $(,)?) => {
        $crate::support::pair!(wsray_to_wsray: Wsray => Wsray, #[cfg(test)], [$($test),+]);
        $crate::support::pair!(wsray_to_v2ray_4_34: Wsray => V2Ray434, #[cfg(test)], [$($test),+]);
        $crate::support::pair!(wsray_to_v2ray_4_45: Wsray => V2Ray445, #[cfg(test)], [$($test),+]);
        $crate::support::pair!(wsray_to_sing_box: Wsray => SingBox, #[cfg(test)], [$($test),+]);
        $crate::support::pair!(v2ray_4_34_to_wsray: V2Ray434 => Wsray, #[cfg(test)], [$($test),+]);
        $crate::support::pair!(v2ray_4_45_to_wsray: V2Ray445 => Wsray, #[cfg(test)], [$($test),+]);
        $crate::support::pair!(sing_box_to_wsray: SingBox => Wsray, #[cfg(test)], [$($test),+]);
        $crate::support::pair!(wsray_to_v2ray_5: Wsray => V2Ray5, #[cfg(feature = "local-peers")], [$($test),+]);
        $crate::support::pair!(v2ray_5_to_wsray: V2Ray5 => Wsray, #[cfg(feature = "local-peers")], [$($test),+]);
        $crate::support::pair!(wsray_to_xray: Wsray => Xray, #[cfg(feature = "local-peers")], [$($test),+]);
        $crate::support::pair!(xray_to_wsray: Xray => Wsray, #[cfg(feature = "local-peers")], [$($test),+]);
        $crate::support::pair!(
            v2ray_4_34_to_v2ray_4_45: V2Ray434 => V2Ray445, #[cfg(feature = "peers-only")], [$($test),+]);
        $crate::support::pair!(
            v2ray_4_45_to_v2ray_4_45: V2Ray445 => V2Ray445, #[cfg(feature = "peers-only")], [$($test),+]);
        $crate::support::pair!(
            v2ray_4_45_to_sing_box: V2Ray445 => SingBox, #[cfg(feature = "peers-only")], [$($test),+]);
        $crate::support::pair!(
            sing_box_to_v2ray_4_45: SingBox => V2Ray445, #[cfg(feature = "peers-only")], [$($test),+]);
    };
}

macro_rules! pair {
    ($name:ident: $client:ident => $server:ident, #[$attribute:meta], [$($test:ident),+ $(,)?]) => {
        #[$attribute]
        mod $name {
            use $crate::support::node::{Kind, Pair};
            $(
                #[test]
                fn $test() {
                    let pair = Pair { client: Kind::$client, server: Kind::$server };
                    if let Some(reason) = pair.missing() {
                        $crate::support::skip!(reason);
                    }
                    super::$test(pair);
                }
            )+
        }
    };
}

/// Defines one `#[test]` for each of the functions named, each taking the [`node::Kind`] under test.
///
/// Those with V2Ray in wsray's place test the tests themselves: feature `peers-only`.
macro_rules! for_wsray {
    ($($test:ident),+ $(,)?) => {
        $crate::support::for_kind!(wsray: Wsray, #[cfg(test)], [$($test),+]);
        $crate::support::for_kind!(v2ray_4_45: V2Ray445, #[cfg(feature = "peers-only")], [$($test),+]);
    };
}

macro_rules! for_kind {
    ($name:ident: $kind:ident, #[$attribute:meta], [$($test:ident),+ $(,)?]) => {
        #[$attribute]
        mod $name {
            use $crate::support::node::Kind;
            $(
                #[test]
                fn $test() {
                    super::$test(Kind::$kind);
                }
            )+
        }
    };
}

pub(crate) use {for_kind, for_wsray, pair, pairs};

/// A port nobody listens on, below the range the system gives to outgoing connections, so that none takes it meanwhile.
pub fn free_port() -> u16 {
    const FIRST: u16 = 13_000;
    const COUNT: u16 = 17_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Another test process beside this one starts elsewhere.
    let start = u16::try_from(std::process::id().wrapping_mul(97) % u32::from(COUNT)).unwrap();
    for _ in 0..COUNT {
        let port = FIRST + (start.wrapping_add(NEXT.fetch_add(1, Relaxed)) % COUNT);
        let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
            && TcpListener::bind((Ipv6Addr::LOCALHOST, port)).is_ok()
            && UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
        if free {
            return port;
        }
    }
    panic!("no free port");
}

/// A directory of this test alone below `target/tmp`.
pub fn temporary_directory(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let base = option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let path = base.join(format!("{}-{}-{name}", std::process::id(), NEXT.fetch_add(1, Relaxed)));
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Nobody but us may read it: what holds secrets and is open to all gets a warning.
pub fn keep_private(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

pub fn random_id() -> String {
    let (a, b) = (random(), random());
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        a >> 32,
        a & 0xffff,
        (a >> 16) & 0xfff,
        b & 0xfff,
        b >> 16
    )
}

/// Tries until `what` gives a value, at most [`PATIENCE`] long.
pub fn eventually<T>(what: impl FnMut() -> Option<T>) -> Option<T> {
    within(PATIENCE, what)
}

pub fn within<T>(limit: Duration, mut what: impl FnMut() -> Option<T>) -> Option<T> {
    let start = std::time::Instant::now();
    loop {
        if let Some(value) = what() {
            return Some(value);
        }
        if start.elapsed() > limit {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
