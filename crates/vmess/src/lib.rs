//! VMess (AEAD), pure: bytes in, bytes out. No socket, clock, randomness or file.
//!
//! A client: [`CmdKey::new`], [`outbound_options`], [`seal_request`], then [`ChunkSealer`] for
//! [`Direction::Request`]; and [`open_response`], then [`ChunkOpener`] for [`Direction::Response`].
//!
//! A server: [`Users`] and [`Replay`] once; per connection [`RequestOpener`], then [`ChunkOpener`] for
//! [`Direction::Request`]; and [`seal_response`], then [`ChunkSealer`] for [`Direction::Response`].
//!
//! Either, where the request was [`Command::Mux`]: [`FrameReader`] over the payload, and [`MuxHead::encode`].
//!
//! ```
//! use wsray_vmess::*;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let now = 1_700_000_000;
//! let id: UserId = "b831381d-6324-4d53-ad4f-8cda48b30811".parse()?;
//!
//! // The client: a request, and its body's first chunk in a buffer with room around the payload.
//! let (security, options) = outbound_options(SecurityChoice::Auto, Network::Tcp, AesHardware::Present);
//! let target = Target { address: "example.com".parse()?, port: 443 };
//! let secrets = Secrets { body_key: [1; 16], body_iv: [2; 16], response_auth: 3 }; // random
//! let request = Request { secrets, options, security, command: Command::Tcp(target) };
//! let entropy = HeaderEntropy::from_random([4; 28]); // random
//! let mut wire = seal_request(&CmdKey::new(&id), &request, &entropy, now)?;
//! let mut sealer = ChunkSealer::new(&request, Direction::Request)?;
//! let mut buf = [0; 256];
//! let at = sealer.head_len();
//! buf[at..at + 5].copy_from_slice(b"hello");
//! let chunk = sealer.seal(&mut buf, at..at + 5, &[6; 64])?; // random
//! wire.extend_from_slice(&buf[chunk]);
//! sealer.end_mark(&mut wire, &[7; 64])?; // random
//!
//! // The server.
//! let (users, mut replay) = (Users::new([id]), Replay::new());
//! let Step::Done { used, value: (user, seen) } =
//!     RequestOpener::new().open(&wire, &users, &mut replay, now)?
//! else {
//!     return Err("the request is not whole".into());
//! };
//! assert_eq!((user, &seen), (UserIndex(0), &request));
//! let mut opener = ChunkOpener::new(&seen, Direction::Request)?;
//! let mut payloads = Vec::new();
//! let opened = opener.open(&mut wire, used, &mut payloads);
//! assert_eq!(opened, Opened { used: wire.len(), outcome: Progress::End });
//! assert_eq!(&wire[payloads[0].clone()], b"hello");
//!
//! // Its answer, at the client.
//! let answer = seal_response(&seen.secrets, 0)?;
//! assert!(matches!(open_response(&answer, &request.secrets)?, Step::Done { used: RESPONSE_LEN, .. }));
//! # Ok(())
//! # }
//! ```

mod aead;
mod body;
mod header;
mod id;
pub mod invariants;
mod kdf;
mod keyring;
mod mux;
mod packet_addr;
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
pub use mux::{FrameReader, MAX_MUX_DATA, MAX_MUX_META, MuxEnd, MuxError, MuxEvent, MuxHead, MuxId, MuxKind};
pub use packet_addr::{MAX_PACKET_ADDR, PACKET_ADDR_NAME, encode_packet_addr, split_packet_addr};
pub use replay::{MAX_REPLAY_ENTRIES, Replay};
pub use response::{PASSES_ENDS_ON, RESPONSE_LEN, Response, ResponseError, open_response, seal_response};
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
