//! `wsray doctor`: every cause that users ask about is made on purpose, with the real front end where it is one's
//! configuration, and has to be named.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

#[macro_use]
mod examine;
mod front_ends;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod time;
mod tls;
