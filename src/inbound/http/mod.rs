//! The http inbound.

pub mod wire;
