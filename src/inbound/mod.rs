//! Who is it, where to: what accepts sessions.

pub mod accounts;
pub mod http;
pub mod socks;
