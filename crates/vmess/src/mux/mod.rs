//! Mux.Cool: many sessions in the body of one, [`Command::Mux`](crate::Command::Mux).
//!
//! Frames follow one another whatever the edges of the body's chunks:
//! `metaLen(2) || meta || [dataLen(2) || data]`, with
//! `meta = id(2) || status(1) || option(1) || [network(1) || port(2) || kind(1) || address || [globalId(8)]]`
//! (v2fly/v2ray-core `common/mux/frame.go`). XUDP's frames are the same, with an address in those that keep a session
//! too: where that packet goes to, or has come from.

mod reader;

pub use reader::{FrameReader, MuxEvent};

use crate::{Network, Step, Target, TargetError};

/// The most bytes of a frame's meta (v2fly/v2ray-core `common/mux/frame.go`).
pub const MAX_MUX_META: usize = 512;

/// The most bytes of a frame's data: their number has two bytes.
pub const MAX_MUX_DATA: usize = u16::MAX as usize;

/// A session's number on its connection. The client chooses it; XUDP's is 0.
pub type MuxId = u16;

/// What precedes a frame's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MuxHead {
    /// Whose frame it is.
    pub id: MuxId,
    /// What it says.
    pub kind: MuxKind,
    /// How many bytes of data follow; `None`: this frame has no data, not even an empty one.
    pub data: Option<u16>,
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MuxKind {
    /// Opens a session.
    New {
        /// Stream or packets.
        network: Network,
        /// Where to.
        target: Target,
        /// Which of the client's sockets sends, across connections (XUDP in Xray).
        global_id: Option<[u8; 8]>,
    },
    /// Carries data of an open session.
    Keep {
        /// Of a packet: where it goes to, or where it came from (XUDP).
        peer: Option<Target>,
    },
    /// The sender sends nothing more in this session.
    End(MuxEnd),
    /// Says that the connection lives. Its data mean nothing.
    KeepAlive,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MuxEnd {
    /// All that there was has been sent.
    Complete,
    /// It was cut.
    Cut,
}

/// The peer does not speak Mux.Cool, or a future form of it: nothing behind can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MuxError {
    /// The meta is too short or too long.
    #[error("a frame's meta has 4 to {MAX_MUX_META} bytes, found {found}")]
    MetaLength {
        /// Its length in bytes.
        found: usize,
    },
    /// No known status.
    #[error("status {found} is none of 1 (new), 2 (keep), 3 (end) and 4 (keep alive)")]
    Status {
        /// The byte found.
        found: u8,
    },
    /// No known network.
    #[error("network {found} is neither 1 (TCP) nor 2 (UDP)")]
    Network {
        /// The byte found.
        found: u8,
    },
    /// No target.
    #[error(transparent)]
    Target(#[from] TargetError),
}

const NEW: u8 = 1;
const KEEP: u8 = 2;
const END: u8 = 3;
const KEEP_ALIVE: u8 = 4;

const OPTION_DATA: u8 = 1;
const OPTION_ERROR: u8 = 2;

const TCP: u8 = 1;
const UDP: u8 = 2;

/// The bytes of a meta without an address.
const BARE_META: usize = 4;

impl MuxHead {
    /// Reads a head from the start of `input`; it is whole with the length of its data.
    ///
    /// # Errors
    /// [`MuxError`].
    pub fn parse(input: &[u8]) -> Result<Step<Self>, MuxError> {
        let Some((length, rest)) = input.split_first_chunk() else { return Ok(Step::NeedMore) };
        let found = usize::from(u16::from_be_bytes(*length));
        if !(BARE_META..=MAX_MUX_META).contains(&found) {
            return Err(MuxError::MetaLength { found });
        }
        let Some((meta, rest)) = rest.split_at_checked(found) else { return Ok(Step::NeedMore) };
        let Some((&[high, low, status, option], meta)) = meta.split_first_chunk() else {
            return Err(MuxError::MetaLength { found });
        };
        let kind = parse_kind(status, option, meta)?;
        let data = match rest.first_chunk() {
            _ if option & OPTION_DATA == 0 => None,
            None => return Ok(Step::NeedMore),
            Some(length) => Some(u16::from_be_bytes(*length)),
        };
        let used = 2 + found + if data.is_some() { 2 } else { 0 };
        Ok(Step::Done { used, value: Self { id: u16::from_be_bytes([high, low]), kind, data } })
    }

    /// Appends the wire form, to which the data follow.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let (status, error) = match &self.kind {
            MuxKind::New { .. } => (NEW, 0),
            MuxKind::Keep { .. } => (KEEP, 0),
            MuxKind::End(MuxEnd::Complete) => (END, 0),
            MuxKind::End(MuxEnd::Cut) => (END, OPTION_ERROR),
            MuxKind::KeepAlive => (KEEP_ALIVE, 0),
        };
        let [high, low] = self.id.to_be_bytes();
        let data = if self.data.is_some() { OPTION_DATA } else { 0 };
        out.extend([0, 0, high, low, status, error | data]);
        match &self.kind {
            MuxKind::New { network, target, global_id } => {
                out.push(if *network == Network::Tcp { TCP } else { UDP });
                target.encode(out);
                out.extend_from_slice(global_id.as_ref().map_or(&[], <[u8; 8]>::as_slice));
            }
            MuxKind::Keep { peer: Some(peer) } => {
                out.push(UDP);
                peer.encode(out);
            }
            MuxKind::Keep { peer: None } | MuxKind::End(_) | MuxKind::KeepAlive => {}
        }
        // At most 4 bytes, a network, a target of at most 259 bytes and a global id: far below 512.
        let length = u16::try_from(out.len() - start - 2).unwrap_or(u16::MAX).to_be_bytes();
        out[start..start + 2].copy_from_slice(&length);
        if let Some(data) = self.data {
            out.extend(data.to_be_bytes());
        }
    }
}

/// What stands behind what we know is left unread, as in V2Ray.
fn parse_kind(status: u8, option: u8, rest: &[u8]) -> Result<MuxKind, MuxError> {
    match status {
        NEW => {
            let (&network, rest) = rest.split_first().ok_or(TargetError::Short)?;
            let network = match network {
                TCP => Network::Tcp,
                UDP => Network::Udp,
                found => return Err(MuxError::Network { found }),
            };
            let (target, used) = Target::decode(rest)?;
            let global_id = rest[used..].first_chunk().copied().filter(|_| network == Network::Udp);
            Ok(MuxKind::New { network, target, global_id })
        }
        KEEP => match rest.split_first() {
            Some((&UDP, address)) => Ok(MuxKind::Keep { peer: Some(Target::decode(address)?.0) }),
            _ => Ok(MuxKind::Keep { peer: None }),
        },
        END if option & OPTION_ERROR != 0 => Ok(MuxKind::End(MuxEnd::Cut)),
        END => Ok(MuxKind::End(MuxEnd::Complete)),
        KEEP_ALIVE => Ok(MuxKind::KeepAlive),
        found => Err(MuxError::Status { found }),
    }
}

#[cfg(test)]
mod tests;
