//! More ways in and out: unix sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

#[path = "../support/mod.rs"]
mod support;
mod unix;
