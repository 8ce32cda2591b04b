//! Frames out of a stream, their data where they lie.

use super::{MuxError, MuxHead};
use crate::Step;

/// Tells heads from data. It keeps only how much data is still to come.
#[derive(Debug, Default)]
pub struct FrameReader {
    left: usize,
}

/// What comes next in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MuxEvent {
    /// A frame begins.
    Head(MuxHead),
    /// All bytes used are data of the frame that began last, at least one.
    Data {
        /// How many more follow in this frame.
        left: usize,
    },
}

impl FrameReader {
    /// At the start of a stream.
    pub const fn new() -> Self {
        Self { left: 0 }
    }

    /// Looks at the start of `input`. Data are given as they come, heads only when they are whole.
    ///
    /// # Errors
    /// [`MuxError`]; nothing behind can be read.
    pub fn next(&mut self, input: &[u8]) -> Result<Step<MuxEvent>, MuxError> {
        if self.left > 0 {
            let used = self.left.min(input.len());
            self.left -= used;
            return Ok(match used {
                0 => Step::NeedMore,
                _ => Step::Done { used, value: MuxEvent::Data { left: self.left } },
            });
        }
        Ok(match MuxHead::parse(input)? {
            Step::NeedMore => Step::NeedMore,
            Step::Done { used, value } => {
                self.left = value.data.map_or(0, usize::from);
                Step::Done { used, value: MuxEvent::Head(value) }
            }
        })
    }

    /// Whether the stream may end here.
    pub const fn is_between_frames(&self) -> bool {
        self.left == 0
    }
}
