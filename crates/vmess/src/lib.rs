//! VMess (AEAD), pure: bytes in, bytes out. No socket, clock, randomness or file.

mod id;
mod security;
mod target;

pub use id::{IdError, UserId};
pub use security::{SecurityChoice, UnknownSecurity};
pub use target::{Address, AddressError, Domain, Target};

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
