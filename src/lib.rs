//! wsray.
pub mod transport;
