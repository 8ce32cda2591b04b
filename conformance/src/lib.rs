//! An echo peer over `wsray-ws`, for the Autobahn cases: blocking sockets, a thread a connection.

mod client;
mod echo;
mod server;

pub use client::drive;
pub use echo::{Echo, MAX_MESSAGE_BYTES};
pub use server::serve;
