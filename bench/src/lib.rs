//! The steps that a byte and a session cost, each alone: what `cargo bench` times and `bench/instructions` counts.
//!
//! All inputs are fixed, so that two runs of one binary do the same work.

mod body;
mod frames;
mod header;

/// A step to be measured.
pub struct Case {
    /// What it is called, without spaces, so that a shell can name it.
    pub name: String,
    /// How many payload bytes one turn handles; 0 where that means nothing.
    pub bytes: u64,
    prepare: Box<dyn Fn() -> Turn>,
}

/// Does the step once.
pub type Turn = Box<dyn FnMut()>;

impl Case {
    fn new(name: impl Into<String>, bytes: usize, prepare: impl Fn() -> Turn + 'static) -> Self {
        Self { name: name.into(), bytes: bytes as u64, prepare: Box::new(prepare) }
    }

    /// Does what has to be done once before: keys, buffers, users.
    pub fn prepare(&self) -> Turn {
        (self.prepare)()
    }
}

/// All cases, in the order in which they are shown.
pub fn cases() -> Vec<Case> {
    let mut cases = frames::cases();
    cases.extend(body::cases());
    cases.extend(header::cases());
    cases
}

/// What a broken case would have measured is nothing: better to stop.
///
/// # Panics
/// When it did not do its step.
#[expect(clippy::panic, reason = "a figure of a step that failed would mislead")]
fn done<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("a case failed: {error:?}"))
}

/// Payload that no two positions share by accident.
fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at * 31 % 251).unwrap_or_default()).collect()
}

/// Copies in pieces: processors copy long runs with one instruction that counters see as one a byte.
fn refill(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.chunks_mut(1024).zip(from.chunks(1024)) {
        to.copy_from_slice(from);
    }
}
