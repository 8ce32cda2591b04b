//! More ways in and out: unix sockets, doors for whatever comes, proxies that are asked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod door;
mod proxies;
#[path = "../support/mod.rs"]
mod support;
mod unix;
