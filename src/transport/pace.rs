//! How often a socket is read that brings bulk in small pieces.
//!
//! V2Ray writes each frame of 2 KiB by itself. Who is faster than that wakes for every one of them, and pays three system
//! calls for what one would carry. So the socket of such a peer is left alone for [`REST`] after each read, as a
//! network card leaves its processor alone between interrupts, and what comes meanwhile is read at once. What has been read
//! never waits. A stream that pauses, slows down or is answered is none of those: it is read as soon as something comes.

use std::{
    io,
    os::fd::OwnedFd,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::Instant,
};

use super::Socket;

/// How long a socket is left alone, unless [`GATHERED`] has come before.
const REST: Duration = Duration::from_micros(300);

/// What the kernel gathers meanwhile without waking us, in bytes. It makes room for the double in the socket's buffer, and
/// must find it there: where it has to make the buffer larger it also bounds the window (`tcp_set_rcvlowat` in Linux's
/// `net/ipv4/tcp.c`). A buffer begins with 128 KiB.
const GATHERED: usize = 64 * 1024;

/// A smaller read carries no bulk.
const LEAST_BULK: usize = 1024;

/// A larger read is large enough.
const SMALL_READ: usize = 16 * 1024;

/// After so many small reads in a row it is timed how fast they come ...
const NOTICED: u8 = 4;

/// ... for so many more. Rests begin when one would bring [`PIECES_A_REST`] such pieces or more.
const TIMED: u8 = 8;
const PIECES_A_REST: u32 = 4;

/// A rest that brings less was in vain.
const WORTH_A_REST: usize = 4 * 1000;

/// After so many rests in vain in a row, small reads are counted anew.
const IN_VAIN: u8 = 4;

/// When to read a socket.
#[derive(Debug)]
pub(super) enum Pace {
    /// When something comes. So many small reads came in a row.
    AtOnce(u8),
    /// The same, and it is timed how fast small reads come. In a box, as few sessions get here.
    Timing(Box<Timing>),
    /// After a rest.
    Rests(Box<Rests>),
}

#[derive(Debug)]
pub(super) struct Timing {
    since: Instant,
    reads: u8,
}

#[derive(Debug)]
pub(super) struct Rests {
    timer: AsyncFd<OwnedFd>,
    now: Now,
    in_vain: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Now {
    Resting,
    /// The last rest was too long for the stream: what comes next is read at once.
    Waiting,
}

/// Why it is time to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Something has come.
    Readable,
    /// The rest is over, and something may have come.
    Rested,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self::AtOnce(0)
    }

    /// Ready when `socket` is to be read.
    pub(super) fn poll_due(&self, cx: &mut Context<'_>, socket: &Socket) -> Poll<io::Result<Due>> {
        if let Self::Rests(rests) = self
            && rests.poll_over(cx).is_ready()
        {
            return Poll::Ready(Ok(Due::Rested));
        }
        ready!(socket.poll_readable(cx))?;
        Poll::Ready(Ok(Due::Readable))
    }

    /// A read brought so many bytes, 0 if there were none after all.
    pub(super) fn read(&mut self, bytes: usize, socket: &Socket) {
        match self {
            Self::Rests(rests) => {
                if !rests.read(bytes, socket) {
                    self.at_once(socket);
                }
            }
            _ if bytes < LEAST_BULK => self.at_once(socket),
            // Nobody needs a rest after so much.
            _ if bytes > SMALL_READ => {}
            Self::AtOnce(reads) if *reads < NOTICED => *reads += 1,
            Self::AtOnce(_) => *self = Self::Timing(Box::new(Timing { since: Instant::now(), reads: 1 })),
            Self::Timing(timing) if timing.reads < TIMED => timing.reads += 1,
            Self::Timing(timing) if timing.since.elapsed() < REST * u32::from(TIMED) / PIECES_A_REST => {
                *self = Rests::begin(socket).map_or(Self::AtOnce(0), |rests| Self::Rests(Box::new(rests)));
            }
            Self::Timing(_) => self.at_once(socket),
        }
    }

    /// Something was sent: whoever is answered may wait for it before sending more.
    pub(super) fn at_once(&mut self, socket: &Socket) {
        if matches!(self, Self::Rests(_)) {
            // What it cannot be told any more, a broken socket does not need to know.
            let _ = socket.gather(1);
        }
        *self = Self::AtOnce(0);
    }
}

impl Rests {
    /// `None`: not with this socket, or there is no file descriptor left.
    fn begin(socket: &Socket) -> Option<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).ok()?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types that could swap their descriptor; OwnedFd cannot"
        )]
        let timer = AsyncFd::with_interest(timer, Interest::READABLE).ok()?;
        socket.gather(GATHERED).ok()?;
        let rests = Self { timer, now: Now::Resting, in_vain: 0 };
        rests.rest();
        Some(rests)
    }

    /// Whether rests go on after a read of so many bytes.
    fn read(&mut self, bytes: usize, socket: &Socket) -> bool {
        let was = self.now;
        let enough = if was == Now::Resting { WORTH_A_REST } else { LEAST_BULK };
        self.now = if bytes < enough { Now::Waiting } else { Now::Resting };
        match (was, self.now) {
            (Now::Resting, Now::Resting) => self.in_vain = 0,
            (Now::Resting, Now::Waiting) => {
                self.in_vain += 1;
                return self.in_vain < IN_VAIN && socket.gather(1).is_ok();
            }
            (Now::Waiting, Now::Resting) if socket.gather(GATHERED).is_ok() => {}
            (Now::Waiting, _) => return false,
        }
        self.rest();
        true
    }

    fn rest(&self) {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let rest = Timespec { tv_sec: 0, tv_nsec: REST.subsec_nanos().into() };
        let once = Itimerspec { it_interval: zero, it_value: rest };
        // The kernel refuses only what is not a timer or a time.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once);
    }

    fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.now == Now::Waiting {
            return Poll::Pending;
        }
        if let Ok(mut over) = ready!(self.timer.poll_read_ready(cx)) {
            over.clear_ready();
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests;
