//! The thread that writes both logs.

use std::{
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{Counters, LogError, Output, Zone, sink::Sink, text};

/// How often suppressed lines are told.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(1);

pub(super) enum Message {
    Line(Line),
    /// [`Counters::limit`] has begun to count: wake up a second later.
    Suppressed,
    Reopen(SyncSender<Result<(), LogError>>),
    Flush(SyncSender<()>),
}

pub(super) struct Line {
    pub(super) at: SystemTime,
    pub(super) stream: Stream,
    pub(super) text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Access,
    Error,
}

pub(super) struct Writer {
    /// The error log's sink first, where there is one; one sink where both logs go to the same place.
    sinks: Vec<Sink>,
    /// Where each log's sink stands in `sinks`.
    access: usize,
    error: usize,
    zone: Zone,
    /// The second that was formatted last.
    time: (i64, String),
    counters: Arc<Counters>,
}

impl Writer {
    pub(super) fn open(
        access: Output,
        error: Output,
        zone: Zone,
        counters: Arc<Counters>,
    ) -> Result<Self, LogError> {
        let mut sinks: Vec<Sink> = Sink::open(error)?.into_iter().collect();
        if sinks.first().is_none_or(|sink| *sink.output() != access) {
            sinks.extend(Sink::open(access)?);
        }
        let access = sinks.len().saturating_sub(1);
        Ok(Self { sinks, access, error: 0, zone, time: (i64::MIN, String::new()), counters })
    }

    /// Writes until every [`super::Log`] is gone and the queue is empty.
    pub(super) fn run(mut self, queue: &Receiver<Message>) {
        loop {
            let message = match queue.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    self.flush();
                    let is_counting = self.counters.limit().has_suppressed();
                    let wait = if is_counting { SUMMARY_INTERVAL } else { Duration::MAX };
                    match queue.recv_timeout(wait) {
                        Ok(message) => message,
                        Err(RecvTimeoutError::Timeout) => {
                            self.tell_suppressed(Instant::now());
                            continue;
                        }
                        Err(RecvTimeoutError::Disconnected) => break,
                    }
                }
            };
            match message {
                Message::Line(line) => self.push(&line),
                Message::Suppressed => {}
                Message::Reopen(reply) => {
                    let _ = reply.try_send(self.reopen());
                }
                Message::Flush(reply) => {
                    self.flush();
                    let _ = reply.try_send(());
                }
            }
        }
        self.tell_suppressed(Instant::now() + SUMMARY_INTERVAL);
        self.flush();
    }

    fn push(&mut self, line: &Line) {
        let second = line.at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
        if second != self.time.0 {
            self.time = (second, self.zone.format(second));
        }
        let at = match line.stream {
            Stream::Access => self.access,
            Stream::Error => self.error,
        };
        if let Some(sink) = self.sinks.get_mut(at) {
            let lost = sink.push(&self.time.1, &line.text);
            self.counters.dropped.fetch_add(lost, Ordering::Relaxed);
        }
    }

    /// Writes what was gathered, and before it how many lines are missing.
    fn flush(&mut self) {
        let dropped = self.counters.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let note =
                format_args!("[Warning] log: {dropped} lines dropped: they could not be written in time");
            self.push(&Line { at: SystemTime::now(), stream: Stream::Error, text: text::line(note) });
        }
        let lost: u64 = self.sinks.iter_mut().map(Sink::flush).sum();
        self.counters.dropped.fetch_add(lost, Ordering::Relaxed);
    }

    /// Tells how many lines were not written, where their second is over.
    fn tell_suppressed(&mut self, now: Instant) {
        let counts = self.counters.limit().drain(now);
        for (kind, count) in counts {
            self.push(&Line { at: SystemTime::now(), stream: kind.stream, text: kind.missed_text(count) });
        }
    }

    fn reopen(&mut self) -> Result<(), LogError> {
        self.flush();
        self.zone.reload();
        self.time.0 = i64::MIN;
        // Every one is tried; the first failure is told.
        self.sinks.iter_mut().map(Sink::reopen).fold(Ok(()), Result::and)
    }
}
