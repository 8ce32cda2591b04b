//! wsray.
pub mod inbound;
pub mod transport;
