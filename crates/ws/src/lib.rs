//! V2Ray's WebSocket transport, pure: bytes in, bytes out. No socket, clock, randomness or file.

mod options;

pub use options::{
    EarlyData, EarlyDataPlace, HeaderName, HeaderValue, Headers, OptionError, Path, RESERVED_HEADERS,
};

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
