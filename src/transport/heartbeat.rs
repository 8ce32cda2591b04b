//! When to ping, and when silence means that the connection is dead. Pure: time is an argument.
//!
//! A ping keeps what stands between the two ends from taking an idle tunnel for a forgotten one, and finds out
//! whether the other end is still there. Any byte it sends is an answer. Silence counts only where an answer could
//! have come: not while we have bytes to write, nor while the application does not read and so neither do we, nor
//! while the system may hold many bytes for a slow link, which a ping has to wait behind.

use std::time::Duration;

use tokio::time::Instant;

/// The heartbeat of one WebSocket; 32 bytes, and no timer of its own.
#[derive(Debug)]
pub(super) struct Heartbeat {
    /// When we last pinged, answered a ping, or meant to ping and could not.
    touched: Instant,
    /// In seconds; 0: never.
    period: u32,
    /// Bytes given to the system since the last ping, and what of those before it has not been confirmed.
    sent: u32,
    unproven: u32,
    /// Pings since the peer was last heard.
    unanswered: u16,
    rhythm: Rhythm,
    heard: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rhythm {
    Always,
    WhenIdle,
}

/// What a ping would meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// The system has not taken yet what we have to write.
    Writing,
    /// We do not read at the moment, as nobody takes what we have read.
    Unread,
    /// All is written, and we wait for the peer.
    Listening,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Send a ping.
    Ping,
    /// Nothing now.
    Wait,
    /// The peer has answered nothing for so long that it is gone.
    Dead {
        /// So many pings.
        unanswered: u16,
    },
}

/// A tunnel that was idle for so long is pinged. nginx (`proxy_read_timeout`), AWS load balancers and others cut
/// after 60 seconds by default: two pings fit in, so that one may be late.
const IDLE: u32 = 25;

/// So many unanswered pings, and so many seconds of them, mean that the peer is gone.
const MOST_UNANSWERED: u16 = 3;
const LEAST_SILENCE: u32 = 75;

/// More bytes than this may take longer than [`LEAST_SILENCE`] on a slow link (below 1 KiB a second).
const MOST_UNPROVEN: u32 = 64 * 1024;

impl Heartbeat {
    pub(super) fn new(wanted: wsray_config::Heartbeat, now: Instant) -> Self {
        let (period, rhythm) = match wanted {
            wsray_config::Heartbeat::Off => (0, Rhythm::Always),
            wsray_config::Heartbeat::WhenIdle => (IDLE, Rhythm::WhenIdle),
            wsray_config::Heartbeat::Every(seconds) => (seconds.get(), Rhythm::Always),
        };
        Self { touched: now, period, sent: 0, unproven: 0, unanswered: 0, rhythm, heard: false }
    }

    /// Bytes came.
    pub(super) fn heard(&mut self) {
        self.heard = true;
    }

    /// A pong came: what we had sent before the ping has arrived.
    pub(super) fn ponged(&mut self) {
        self.unproven = 0;
    }

    /// We have answered a ping.
    pub(super) fn answered(&mut self, now: Instant) {
        if self.rhythm == Rhythm::WhenIdle {
            self.touched = now;
        }
    }

    /// The system took bytes.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// When to call [`Heartbeat::beat`], if payload last moved at `moved`.
    pub(super) fn next(&self, moved: Instant) -> Option<Instant> {
        let since = match self.rhythm {
            Rhythm::Always => self.touched,
            Rhythm::WhenIdle => self.touched.max(moved),
        };
        (self.period > 0).then(|| since + Duration::from_secs(self.period.into()))
    }

    /// It is time.
    pub(super) fn beat(&mut self, now: Instant, link: Link) -> Beat {
        self.touched = now;
        if link == Link::Writing {
            self.unanswered = 0;
            return Beat::Wait;
        }
        self.unproven = self.unproven.saturating_add(std::mem::take(&mut self.sent));
        let heard = std::mem::take(&mut self.heard);
        if heard || link == Link::Unread || self.unproven > MOST_UNPROVEN {
            self.unanswered = 0;
        }
        let silence = u32::from(self.unanswered).saturating_mul(self.period);
        if self.unanswered >= MOST_UNANSWERED && silence >= LEAST_SILENCE {
            return Beat::Dead { unanswered: self.unanswered };
        }
        self.unanswered = self.unanswered.saturating_add(1);
        Beat::Ping
    }
}

#[cfg(test)]
mod tests;
