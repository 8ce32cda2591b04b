//! The body's chunks, sealed and opened in place.
//!
//! A chunk is `size, payload, tag, padding`; the size counts what follows it
//! (v2fly/v2ray-core `common/crypto/auth.go`, `chunk.go`; `proxy/vmess/encoding/{auth,client,server}.go`).

mod framing;
mod open;
mod seal;

pub use framing::Direction;
pub use open::{BodyError, ChunkOpener, Opened, Progress};
pub use seal::{ChunkSealer, MAX_PAYLOAD, SealError};

/// The most padding behind a chunk, in bytes: a random number modulo 64
/// (v2fly/v2ray-core `proxy/vmess/encoding/auth.go`).
pub const MAX_PADDING: usize = 63;

#[cfg(test)]
mod tests;
