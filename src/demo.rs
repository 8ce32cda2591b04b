//! `wsray demo`.

use crate::cli::{Demo, Exit};

/// Runs it.
pub fn run(_: Demo) -> Exit {
    Exit::Failed
}
