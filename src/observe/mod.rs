//! What the program tells its operator: the two logs of V2Ray's `log` block, in V2Ray's line shapes.
//!
//! There is no global logger: a [`Log`] is a value that is handed on, so that one process can run two
//! servers with two logs. Lines are formatted where they arise and written by one thread behind a bounded
//! queue: a slow disk costs lines, which are counted, and never the data plane's time. Each line carries
//! its session's number, which is all that spans would be used for here.
//!
//! Invariants: no line holds a control character, whatever a peer sent; no line is longer than
//! [`MAX_LINE_BYTES`]; memory for logs is bounded.

mod access;
mod limit;
mod log;
mod text;
mod zone;

pub use access::{Access, Network, Outcome};
pub use limit::{RateLimit, Verdict};
pub use log::{LIMITED_LINES_PER_SECOND, Level, Log, LogError, LogSettings, Memory, Output, QUEUED_LINES};
pub use text::{Escaped, MAX_FIELD_CHARS, MAX_LINE_BYTES, Redacted, WithoutQuery};
pub use zone::Zone;
