//! wsray: V2Ray's WebSocket transport and VMess, client and server, run from V2Ray's own configuration.
//!
//! The way of a byte on a server (a client is its mirror image):
//!
//! ```text
//! socket -> transport::Acceptor (PROXY protocol, TLS, WebSocket) -> transport::Channel
//!        -> inbound::vmess (header -> session::Session, vmess::VmessStream) -> dispatch -> outbound::Freedom
//!        -> transport::Plain -> socket; then relay moves both directions
//! ```

pub mod app;
pub mod browser;
pub mod cause;
pub mod cli;
pub mod demo;
pub mod dispatch;
pub mod doctor;
pub mod inbound;
pub mod memory;
pub mod mux;
pub mod names;
pub mod observe;
pub mod outbound;
pub mod relay;
pub mod run;
pub mod session;
pub mod site;
pub mod sniff;
pub mod socks;
pub mod stream;
pub mod transport;
pub mod vmess;
