//! Browser forwarding in a real browser: what goes through its tabs arrives, a lost tab is noticed, and no other web
//! page gets in.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

#[macro_use]
mod forwarding;
mod endings;
mod page;
mod servers;
mod slow;
mod speed;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod tabs;
