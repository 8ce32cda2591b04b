//! The two logs: what goes to them, and how it gets there.

use std::{
    fmt, io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use wsray_config::LogTarget;

use super::{Access, RateLimit, Verdict, Zone, text};

mod sink;
#[cfg(test)]
mod tests;
mod writer;

pub use sink::Memory;
use writer::{Line, Message, Stream, Writer};

/// How many lines wait for the writer before lines are dropped (and counted).
pub const QUEUED_LINES: usize = 1024;

/// How many lines of one kind [`Log::limited`] writes in a second.
pub const LIMITED_LINES_PER_SECOND: u32 = 5;

/// How long stopping, flushing and reopening wait for a disk or pipe that does not take the lines.
const PATIENCE: Duration = Duration::from_secs(2);

/// How much is told. Source: V2Ray's `loglevel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Decisions about single sessions.
    Debug,
    /// Start, stop, finished sessions.
    Info,
    /// An operator should act.
    Warning,
    /// The program cannot do its work.
    Error,
    /// Nothing.
    None,
}

impl Level {
    fn tag(self) -> &'static str {
        match self {
            Self::Debug => "Debug",
            Self::Info => "Info",
            Self::Warning => "Warning",
            Self::Error => "Error",
            Self::None => "None",
        }
    }
}

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// The end of this file; it is made with mode 0600 where there is none.
    File(PathBuf),
    /// Memory without a limit: for tests.
    Memory(Memory),
}

/// What V2Ray's `log` block says.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Where sessions are told.
    pub access: Output,
    /// Where everything else is told.
    pub error: Output,
    /// What of everything else is told.
    pub level: Level,
    /// The zone of the times.
    pub zone: Zone,
}

impl Default for LogSettings {
    /// What V2Ray does without a `log` block: no access log, warnings and errors to standard output.
    fn default() -> Self {
        Self { access: Output::Off, error: Output::Stdout, level: Level::Warning, zone: Zone::from_tz(None) }
    }
}

impl LogSettings {
    /// What a configuration says.
    pub fn from_config(log: &wsray_config::Log, zone: Zone) -> Self {
        let output = |target: &LogTarget| match target {
            LogTarget::Off => Output::Off,
            LogTarget::Stdout => Output::Stdout,
            LogTarget::File { path, .. } => Output::File(path.into()),
        };
        let level = match log.level {
            wsray_config::Level::Debug => Level::Debug,
            wsray_config::Level::Info => Level::Info,
            wsray_config::Level::Warning => Level::Warning,
            wsray_config::Level::Error => Level::Error,
            wsray_config::Level::None => Level::None,
        };
        Self { access: output(&log.access), error: output(&log.error), level, zone }
    }
}

/// A log could not be opened; the operator's fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The file cannot be opened for writing at its end.
    #[error("cannot open the log file {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system gave no thread.
    #[error("cannot start the thread that writes the log")]
    Thread(#[source] io::Error),
    /// The disk or pipe does not take the lines that came before.
    #[error("the log is not being written: {} s passed", PATIENCE.as_secs())]
    Stuck,
}

/// The logs of one running program. Clones are the same logs; the last one to go writes what is left.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

struct Shared {
    level: Level,
    has_access: bool,
    counters: Arc<Counters>,
    /// `None` where both logs are off, and while stopping.
    queue: Option<SyncSender<Message>>,
    /// Ends when the writer has.
    finished: Mutex<Receiver<()>>,
}

/// What callers count and the writer tells.
struct Counters {
    dropped: AtomicU64,
    limit: Mutex<RateLimit<Kind>>,
}

/// What [`Log::limited`] counts together.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    stream: Stream,
    level: Level,
    module: &'static str,
    name: &'static str,
}

impl Kind {
    /// The line that stands for `count` lines not written.
    fn missed_text(self, count: u64) -> String {
        let Self { stream, level, module, name } = self;
        match stream {
            Stream::Error => text::line(format_args!(
                "[{}] {module}: {name}: {count} more in the last second",
                level.tag()
            )),
            Stream::Access => text::line(format_args!("{name}: {count} more rejected in the last second")),
        }
    }
}

impl Log {
    /// Opens the files and starts the thread that writes them.
    ///
    /// # Errors
    /// A file cannot be opened, or there is no thread.
    pub fn open(settings: LogSettings) -> Result<Self, LogError> {
        let LogSettings { access, error, level, zone } = settings;
        let level = if error == Output::Off { Level::None } else { level };
        let has_access = access != Output::Off;
        let limit = Mutex::new(RateLimit::new(LIMITED_LINES_PER_SECOND));
        let counters = Arc::new(Counters { dropped: AtomicU64::new(0), limit });
        let (finish, finished) = mpsc::sync_channel(0);
        let mut queue = None;
        if has_access || level != Level::None {
            let (sender, receiver) = mpsc::sync_channel(QUEUED_LINES);
            let writer = Writer::open(access, error, zone, Arc::clone(&counters))?;
            let run = move || {
                writer.run(&receiver);
                drop(finish);
            };
            thread::Builder::new().name("log".into()).spawn(run).map_err(LogError::Thread)?;
            queue = Some(sender);
        }
        Ok(Self(Arc::new(Shared { level, has_access, counters, queue, finished: Mutex::new(finished) })))
    }

    /// A log that tells nothing.
    pub fn off() -> Self {
        let limit = Mutex::new(RateLimit::new(LIMITED_LINES_PER_SECOND));
        let counters = Arc::new(Counters { dropped: AtomicU64::new(0), limit });
        let finished = Mutex::new(mpsc::sync_channel(0).1);
        Self(Arc::new(Shared { level: Level::None, has_access: false, counters, queue: None, finished }))
    }

    /// Whether lines of this level are written. For what is costly to find out; formatting needs no check.
    pub fn is_enabled(&self, level: Level) -> bool {
        level >= self.0.level && level != Level::None
    }

    /// Whether there is an access log.
    pub fn has_access(&self) -> bool {
        self.0.has_access
    }

    /// Writes a line of level `debug`; formatted only where that level is on.
    pub fn debug(&self, session: Option<u64>, module: &str, text: fmt::Arguments<'_>) {
        self.write(Level::Debug, session, module, text);
    }

    /// Writes a line of level `info`.
    pub fn info(&self, session: Option<u64>, module: &str, text: fmt::Arguments<'_>) {
        self.write(Level::Info, session, module, text);
    }

    /// Writes a line of level `warning`.
    pub fn warning(&self, session: Option<u64>, module: &str, text: fmt::Arguments<'_>) {
        self.write(Level::Warning, session, module, text);
    }

    /// Writes a line of level `error`.
    pub fn error(&self, session: Option<u64>, module: &str, text: fmt::Arguments<'_>) {
        self.write(Level::Error, session, module, text);
    }

    /// Writes a line of any level: `2006/01/02 15:04:05 [Warning] [session] module: text`.
    pub fn write(&self, level: Level, session: Option<u64>, module: &str, text: fmt::Arguments<'_>) {
        if !self.is_enabled(level) {
            return;
        }
        let tag = level.tag();
        let text = match session {
            Some(session) => text::line(format_args!("[{tag}] [{session}] {module}: {text}")),
            None => text::line(format_args!("[{tag}] {module}: {text}")),
        };
        self.send(Stream::Error, text);
    }

    /// Writes a line that strangers can cause: at most [`LIMITED_LINES_PER_SECOND`] of this `kind`, level
    /// and module, then one line a second that says how many more there were.
    pub fn limited(
        &self,
        level: Level,
        kind: &'static str,
        session: Option<u64>,
        module: &'static str,
        text: fmt::Arguments<'_>,
    ) {
        if !self.is_enabled(level) {
            return;
        }
        if self.may_tell(Kind { stream: Stream::Error, level, module, name: kind }) {
            self.write(level, session, module, text);
        }
    }

    /// Writes a line of the access log.
    pub fn access(&self, access: &Access<'_>) {
        if self.0.has_access {
            self.send(Stream::Access, text::line(format_args!("{access}")));
        }
    }

    /// Writes a line of the access log that strangers can cause, limited as [`Self::limited`].
    pub fn access_limited(&self, kind: &'static str, access: &Access<'_>) {
        let kind = Kind { stream: Stream::Access, level: Level::Warning, module: "access", name: kind };
        if self.0.has_access && self.may_tell(kind) {
            self.access(access);
        }
    }

    /// Counts a line of this kind; whether to write it.
    fn may_tell(&self, kind: Kind) -> bool {
        let verdict = self.0.counters.limit().check(kind, Instant::now());
        match verdict {
            Verdict::Pass { missed: 0 } => true,
            Verdict::Pass { missed } => {
                self.send(kind.stream, kind.missed_text(missed));
                true
            }
            Verdict::Suppress { is_first } => {
                if is_first {
                    self.queue(Message::Suppressed);
                }
                false
            }
        }
    }

    /// Closes the files and opens them again, for a tool that has renamed them. Waits for the lines before
    /// it: up to two seconds, so not from a task that must go on.
    ///
    /// # Errors
    /// A file cannot be opened; its old one stays in use.
    pub fn reopen(&self) -> Result<(), LogError> {
        self.ask(Message::Reopen, Ok(()))?
    }

    /// Waits until every line so far is written: up to two seconds.
    ///
    /// # Errors
    /// The disk or pipe does not take them.
    pub fn flush(&self) -> Result<(), LogError> {
        self.ask(Message::Flush, ())
    }

    /// Asks the writer; `off` is the answer where there is none.
    fn ask<T>(&self, message: impl FnOnce(SyncSender<T>) -> Message, off: T) -> Result<T, LogError> {
        let Some(queue) = &self.0.queue else { return Ok(off) };
        let (reply, answer) = mpsc::sync_channel(1);
        let deadline = Instant::now() + PATIENCE;
        let mut message = message(reply);
        while let Err(mpsc::TrySendError::Full(back)) = queue.try_send(message) {
            if Instant::now() >= deadline {
                return Err(LogError::Stuck);
            }
            message = back;
            thread::sleep(Duration::from_millis(5));
        }
        let rest = deadline.saturating_duration_since(Instant::now());
        answer.recv_timeout(rest).map_err(|_| LogError::Stuck)
    }

    fn send(&self, stream: Stream, text: String) {
        self.queue(Message::Line(Line { at: SystemTime::now(), stream, text }));
    }

    fn queue(&self, message: Message) {
        let is_line = matches!(message, Message::Line(_));
        if let Some(queue) = &self.0.queue
            && queue.try_send(message).is_err()
            && is_line
        {
            self.0.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Log({:?})", self.0.level)
    }
}

impl Drop for Shared {
    /// Lets the writer finish; one that is stuck is left behind after [`PATIENCE`].
    fn drop(&mut self) {
        if self.queue.take().is_some() {
            let finished = self.finished.get_mut().unwrap_or_else(PoisonError::into_inner);
            let _ = finished.recv_timeout(PATIENCE);
        }
    }
}

impl Counters {
    fn limit(&self) -> std::sync::MutexGuard<'_, RateLimit<Kind>> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
