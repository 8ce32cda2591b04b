//! The wsray program.

fn main() {}
