//! wsray.
