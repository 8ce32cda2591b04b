//! V2Ray's WebSocket transport, pure: bytes in, bytes out. No socket, clock, randomness or file.
//!
//! - [`client`] and [`server`]: the handshake, with [`early_data`] in it.
//! - [`seal`] and [`control`]: frames to send, made in place.
//! - [`Decoder`]: what was received, as one stream of bytes. [`FrameReader`]: the same with message boundaries.

pub mod client;
mod decode;
pub mod early_data;
mod frame;
mod frames;
mod http;
pub mod invariants;
mod mask;
mod options;
mod reader;
mod refusal;
mod request;
mod response;
pub mod server;
mod violation;

pub use client::ClientOptions;
pub use decode::{Decoded, Decoder, End, MAX_WAITING_PINGS, PingQueue};
pub use early_data::EarlyDataError;
pub use frame::{Control, MAX_CONTROL_BYTES, MAX_HEADER_BYTES, close_payload, control, header_len, seal};
pub use frames::{ControlPayload, Kind, Limits};
pub use http::{MAX_HEAD_BYTES, MAX_HEADERS, accept_key, printable};
pub use mask::{mask, mask_copy};
pub use options::{
    EarlyData, EarlyDataPlace, HeaderName, HeaderValue, Headers, OptionError, Path, RESERVED_HEADERS,
};
pub use reader::{Event, FrameReader, TextPolicy};
pub use response::{RefusedResponse, ResponseError, Upgraded};
pub use server::{
    Accepted, BodyLength, HeadLimits, Refusal, RefusalReason, Request, RequestError, ServerOptions,
};
pub use violation::Violation;

/// Which end of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We opened the connection: our frames are masked, the peer's are not.
    Client,
    /// We accepted it: the peer's frames are masked, ours are not.
    Server,
}

/// What a parser made of the bytes so far. It takes nothing until the whole is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// Call again with the same bytes and more behind them.
    NeedMore,
    /// Parsed.
    Done {
        /// How many bytes of the input it was made of.
        used: usize,
        /// The result.
        value: T,
    },
}
