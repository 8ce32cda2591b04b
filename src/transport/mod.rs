//! Getting a byte stream: TCP, PROXY protocol, TLS, WebSocket.

mod accept;
mod browser;
mod certificates;
mod channel;
mod connect;
mod dial;
mod forwarded;
mod heartbeat;
pub mod options;
mod pace;
mod permitted;
mod plain;
pub mod proxy_protocol;
mod ready;
mod socket;
mod tls;
mod tunnel;

pub use accept::{
    AcceptError, Accepted, Acceptor, Arrived, Judged, Rejected, Senders, Upgrade, Visitor, Visitors, Who,
};
pub use browser::{Ahead, Credit, TabPlace, ThroughTab};
pub use certificates::{client_config, server_config, server_name};
pub use channel::{CLOSE_LINGER, Channel, ChannelEnd, HandshakeError, Incoming};
pub use connect::{ConnectError, Connector, HANDSHAKE_TIMEOUT, TlsDial, is_out_of_files};
pub use dial::{Dialer, Through};
pub use forwarded::{Told, Trust, invariants};
pub use permitted::Permitted;
pub use plain::Plain;
pub use ready::Ready;
pub use socket::Socket;
#[cfg(test)]
pub(crate) use tls::Tls;
pub use tunnel::Tunnel;
