//! The socks inbound.

pub mod wire;
