//! Mux.Cool: many sessions over one stream.
//!
//! A [`Driver`] owns the stream and alone reads and writes it; each session on it is a [`MuxStream`], an endpoint like
//! any other. Between them lie buffers. Mux.Cool cannot tell a sender to slow down in one session, so:
//!
//! - What a session's reader has not taken yet waits here, up to [`SESSION_BUFFER`] a session and
//!   [`CONNECTION_BUFFER`] a connection. Beyond that nothing is read for anybody, and the sender feels it.
//! - A session that then takes nothing for [`STALL_LIMIT`] while others share its connection is cut, so that they
//!   go on. Packets are dropped instead.
//! - No session reads its source for more while a batch of its own waits to be sent, or [`SEND_BUFFER`] is full, and little
//!   goes ahead of bulk (`queue.rs`): bulk keeps the others waiting for a batch, not for all of its own.
//!
//! Most servers take the end of what we send for the end of the session: it is held back until the answer is there (see
//! [`Ends`]). Who sends an end twice wants nothing more of the session.

mod client;
mod driver;
mod hub;
mod queue;
mod stream;

pub use client::{Client, Connection, Ends, Making, Place, Sharing, Waiting, Wanted};
pub use driver::{Driver, Full, MuxEnding, Opened};
pub use stream::MuxStream;

use std::time::Duration;

/// The most sessions that are open at a time on a connection.
pub const MAX_SESSIONS: usize = 256;

/// What a session's reader may leave unread before nobody's bytes are read any more, in bytes.
pub const SESSION_BUFFER: usize = 256 * 1024;

/// The same for all sessions of a connection together.
pub const CONNECTION_BUFFER: usize = 4 * 1024 * 1024;

/// What may wait to be sent on a connection before its sessions wait, in bytes.
pub const SEND_BUFFER: usize = 512 * 1024;

/// How long a session may keep the others of its connection waiting.
pub const STALL_LIMIT: Duration = Duration::from_secs(10);

/// The most bytes of data in a frame of a stream, as V2Ray sends (v2fly/v2ray-core `common/mux/writer.go`).
pub const MAX_DATA: usize = 8 * 1024;

/// How long the answer of a server that may pass our end on has to be silent before it is told of it.
pub const HELD_BACK: Duration = Duration::from_secs(1);

/// What was sent so long ago has reached the target, if it ever will: a session whose answer nobody wants any more may be
/// cut then.
pub const ARRIVED: Duration = Duration::from_secs(1);

/// How long a client keeps a connection without sessions (v2fly/v2ray-core `common/mux/client.go`).
pub const CLIENT_IDLE: Duration = Duration::from_secs(16);

/// How long a server keeps a connection without sessions: V2Ray's default for idle ones
/// (v2fly/v2ray-core `features/policy/policy.go`). Its clients close after 16 seconds.
pub const SERVER_IDLE: Duration = Duration::from_mins(5);

#[cfg(test)]
mod tests;
