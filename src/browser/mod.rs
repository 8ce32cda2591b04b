//! Browser forwarding: a browser tab makes the connections to servers, so that TLS and HTTP are a browser's own.
//!
//! ```text
//! application -> outbound -> Hub::dial -> "dial 7 wss://..." on the tab's link
//!                                      <- the tab opens /tunnel?id=7 here and the WebSocket to the server there
//!             -> VmessStream on the tunnel's Channel <-> tab <-> server
//! ```
//!
//! [`Service`] is a small HTTP server with three paths: the page, the link (one WebSocket a tab, lines of text: see
//! `lines`) and the tunnels (one WebSocket each, bytes and nothing else). [`Hub`] knows the tabs and deals the dials
//! out among them. What a foreign web page may not do is decided in `gate`; nothing it sends gets any further.

mod dialer;
mod gate;
mod hub;
mod lines;
mod link;
mod page;
mod service;
mod wish;

pub use dialer::BrowserDialer;
pub use hub::Hub;
pub use lines::invariants;
pub use service::Service;
pub use wish::BrowserError;
