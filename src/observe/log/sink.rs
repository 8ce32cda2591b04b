//! Where lines end up.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    sync::{Arc, Mutex, PoisonError},
};

use super::{LogError, Output};

/// How many bytes are gathered before they are written in the middle of a burst.
const BATCH_BYTES: usize = 64 * 1024;

/// Log lines kept in memory, for tests. Clones are the same memory.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    /// Everything written so far; call [`super::Log::flush`] first.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }

    #[cfg(test)]
    pub(super) fn block(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for Memory {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Memory {}

/// One open output and the lines gathered for it.
pub(super) struct Sink {
    output: Output,
    open: Open,
    buffer: Vec<u8>,
    lines: u64,
}

enum Open {
    Stdout,
    File(File),
    Memory(Memory),
}

impl Sink {
    /// `None` for [`Output::Off`].
    pub(super) fn open(output: Output) -> Result<Option<Self>, LogError> {
        let open = open(&output)?;
        Ok(open.map(|open| Self { output, open, buffer: Vec::new(), lines: 0 }))
    }

    pub(super) fn output(&self) -> &Output {
        &self.output
    }

    /// Opens the output again; the old one stays where that fails.
    pub(super) fn reopen(&mut self) -> Result<(), LogError> {
        if let Some(open) = open(&self.output)? {
            self.open = open;
        }
        Ok(())
    }

    /// Gathers a line; returns how many lines were lost.
    pub(super) fn push(&mut self, time: &str, text: &str) -> u64 {
        for part in [time, " ", text, "\n"] {
            self.buffer.extend_from_slice(part.as_bytes());
        }
        self.lines += 1;
        if self.buffer.len() >= BATCH_BYTES { self.flush() } else { 0 }
    }

    /// Writes the gathered lines; returns how many were lost.
    pub(super) fn flush(&mut self) -> u64 {
        let lines = std::mem::take(&mut self.lines);
        if self.buffer.is_empty() {
            return 0;
        }
        let result = self.open.write_all(&self.buffer);
        self.buffer.clear();
        self.buffer.shrink_to(BATCH_BYTES);
        if result.is_ok() { 0 } else { lines }
    }
}

impl Open {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes)?;
                stdout.flush()
            }
            Self::File(file) => file.write_all(bytes),
            Self::Memory(memory) => {
                memory.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
                Ok(())
            }
        }
    }
}

fn open(output: &Output) -> Result<Option<Open>, LogError> {
    Ok(match output {
        Output::Off => None,
        Output::Stdout => Some(Open::Stdout),
        Output::Memory(memory) => Some(Open::Memory(memory.clone())),
        Output::File(path) => {
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
            Some(Open::File(file.map_err(|source| LogError::Open { path: path.clone(), source })?))
        }
    })
}
