//! What a peer can do wrong with frames.

/// A frame that breaks RFC 6455; the peer's fault. The stream ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A client's frame without a mask (section 5.1); something between rewrites frames, or it is no client.
    #[error("frame from the client is not masked")]
    Unmasked,
    /// A server's frame with a mask (section 5.1).
    #[error("frame from the server is masked")]
    Masked,
    /// A reserved bit is set, as an extension would (section 5.2); none is ever agreed on.
    #[error("reserved bits 0x{bits:02x} are set, but no extension was agreed on")]
    ReservedBits {
        /// The three bits where they stand in the first byte.
        bits: u8,
    },
    /// An opcode nobody has defined (section 5.2).
    #[error("opcode 0x{opcode:x} is reserved")]
    ReservedOpcode {
        /// The opcode, 0 to 15.
        opcode: u8,
    },
    /// A continuation frame while no message is open (section 5.4).
    #[error("continuation frame, but no message has started")]
    LoneContinuation,
    /// A text or binary frame inside a message that has not ended (section 5.4).
    #[error("new message inside a fragmented one")]
    InterruptedMessage,
    /// A control frame without FIN (section 5.5).
    #[error("control frame is fragmented")]
    FragmentedControl,
    /// A control frame with a longer payload than 125 bytes (section 5.5).
    #[error("control frame is longer than 125 bytes")]
    LongControl,
    /// A 64-bit length with its top bit set (section 5.2).
    #[error("frame length has its top bit set")]
    LengthOverflow,
    /// A close payload of one byte, which cannot hold a code (section 5.5.1).
    #[error("close frame has a payload of one byte")]
    ShortClose,
    /// A close code that must not be sent (section 7.4).
    #[error("close code {code} is not one that may be sent")]
    CloseCode {
        /// The code as received.
        code: u16,
    },
    /// A close reason that is not UTF-8 (section 5.5.1).
    #[error("close reason is not UTF-8")]
    CloseReason,
    /// Text that is not UTF-8 (section 8.1); only under [`TextPolicy::Validate`](crate::TextPolicy).
    #[error("text message is not UTF-8")]
    Text,
    /// More control and empty frames than [`Limits`](crate::Limits) allow.
    #[error("more than {limit} control or empty frames at a time")]
    Flood {
        /// The limit that was passed.
        limit: u32,
    },
}

impl Violation {
    /// The code of the close frame that answers it (RFC 6455 section 7.4.1).
    pub fn close_code(self) -> u16 {
        match self {
            Self::CloseReason | Self::Text => 1007,
            Self::Flood { .. } => 1008,
            _ => 1002,
        }
    }
}
