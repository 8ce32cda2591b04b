//! VMess (AEAD), pure: bytes in, bytes out. No socket, clock, randomness or file.
//!
//! A client: [`CmdKey::new`], [`outbound_options`], [`seal_request`], then [`ChunkSealer`] for
//! [`Direction::Request`]; and [`open_response`], then [`ChunkOpener`] for [`Direction::Response`].
//!
//! A server: [`Users`] and [`Replay`] once; per connection [`RequestOpener`], then [`ChunkOpener`] for
//! [`Direction::Request`]; and [`seal_response`], then [`ChunkSealer`] for [`Direction::Response`].

mod aead;
mod body;
mod header;
mod id;
pub mod invariants;
mod kdf;
mod keyring;
mod replay;
mod response;
mod security;
mod target;
mod user;
#[cfg(test)]
mod vectors;

pub use aead::CryptoError;
pub use body::{
    BodyError, ChunkOpener, ChunkSealer, Direction, MAX_PADDING, MAX_PAYLOAD, Opened, Progress, SealError,
};
pub use header::{
    Command, HeaderEntropy, HeaderError, MAX_CLOCK_SKEW_SECS, MAX_HEADER_LEN, Request, RequestOpener,
    Secrets, open_request, seal_request,
};
pub use id::{IdError, UserId};
pub use replay::{MAX_REPLAY_ENTRIES, Replay};
pub use response::{RESPONSE_LEN, Response, ResponseError, open_response, seal_response};
pub use security::{
    AesHardware, Network, Options, Security, SecurityChoice, UnknownSecurity, outbound_options,
};
pub use target::{Address, AddressError, Domain, Target, TargetError};
pub use user::{CmdKey, UserIndex, Users};

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
