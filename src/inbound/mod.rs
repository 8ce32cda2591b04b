//! Who is it, where to: what accepts sessions.

pub mod accounts;
pub mod socks;
