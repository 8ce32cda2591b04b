//! More ways in and out: unix sockets, doors for whatever comes, proxies that are asked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod door;
mod fast_open;
mod names;
mod proxies;
mod sockopt;
#[path = "../support/mod.rs"]
mod support;
mod unix;

use std::process::Command;

/// Runs a test of this program, an ignored one, where it may do with the network what it likes.
macro_rules! in_a_namespace {
    ($test:expr) => {
        if let Err(reason) = crate::run_in_a_namespace($test) {
            $crate::support::skip!(reason);
        }
    };
}

pub(crate) use in_a_namespace;

/// An error if there can be no namespace.
fn run_in_a_namespace(test: &str) -> Result<(), &'static str> {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    let own: &[&str] = if is_root { &["-n"] } else { &["-rn"] };
    if !Command::new("unshare").args(own).arg("true").status().is_ok_and(|status| status.success()) {
        return Err("network namespaces cannot be made here");
    }
    let mut command = Command::new("unshare");
    command.args(own).arg(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", test, "--nocapture"]);
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    assert!(String::from_utf8_lossy(&said).contains("1 passed"), "{}", String::from_utf8_lossy(&said));
    Ok(())
}

/// Nothing here is anybody else's.
fn check_that_we_are_alone() {
    let output = Command::new("ip").args(["-o", "link"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        text.lines().filter(|line| line.contains("state UP")).count(),
        0,
        "no namespace of its own: {text}"
    );
}

fn shell(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}
