//! Connections that are made before a session needs them (`preconnect`): dialled, shaken hands, upgraded. A session that
//! takes one has its first byte after one round trip.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Waker},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep},
};
use wsray_config::Preconnect;

use super::{Channel, ConnectError, Connector, HANDSHAKE_TIMEOUT};

/// Connections to one connector's server that are kept ready.
pub struct Ready {
    connector: Connector,
    shelf: Arc<Shelf>,
    /// One was taken, or is wanted.
    wanted: Arc<Notify>,
}

struct Shelf {
    settings: Preconnect,
    kept: Mutex<Kept>,
}

struct Kept {
    /// The oldest first.
    made: Vec<Made>,
    /// A keeper is at work.
    attended: bool,
    /// When a session last asked.
    asked: Instant,
}

struct Made {
    channel: Channel,
    at: Instant,
    /// By the clock that goes on while the machine sleeps.
    at_wall: SystemTime,
}

/// The code of a close that is no error (RFC 6455 section 7.4.1).
const NORMAL_CLOSE: u16 = 1000;

/// So long after the last session connections are still kept ready.
const ATTENTION: Duration = Duration::from_mins(2);

/// How often what is kept is looked after: pings are answered, and what has died or is too old goes.
const ROUND: Duration = Duration::from_secs(1);

/// The pause after a connection that could not be made.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

impl Ready {
    /// Nothing is dialled before the first session asks.
    pub fn new(connector: Connector, settings: Preconnect) -> Self {
        let kept = Kept { made: Vec::new(), attended: false, asked: Instant::now() };
        let shelf = Arc::new(Shelf { settings, kept: Mutex::new(kept) });
        Self { connector, shelf, wanted: Arc::default() }
    }

    /// A connection that was alive a moment ago, if there is one; another is made in its place.
    pub fn take(&self) -> Option<Channel> {
        let mut kept = self.shelf.lock();
        kept.asked = Instant::now();
        kept.sweep(self.shelf.settings.max_age, &mut Context::from_waker(Waker::noop()));
        let made = (!kept.made.is_empty()).then(|| kept.made.remove(0));
        if kept.attended {
            self.wanted.notify_one();
        } else {
            kept.attended = true;
            let shelf = Arc::downgrade(&self.shelf);
            tokio::spawn(keep(shelf, self.connector.clone(), Arc::clone(&self.wanted)));
        }
        made.map(|made| made.channel)
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready").field("settings", &self.shelf.settings).finish_non_exhaustive()
    }
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Puts away what has died, has said something, which no server does first, or is too old.
    fn sweep(&mut self, max_age: Duration, cx: &mut Context<'_>) {
        self.made.retain_mut(|made| {
            let silent = made.channel.poll_answer(cx).is_pending();
            let young = made.at.elapsed() < max_age
                // A clock that was set back says nothing.
                && made.at_wall.elapsed().is_ok_and(|age| age < max_age);
            if silent && !young {
                made.channel.queue_goodbye(Some(NORMAL_CLOSE));
            }
            // Answers to pings, or the goodbye; what the socket does not take now is not worth waiting for.
            let flushed = made.channel.poll_flush(cx);
            silent && young && !matches!(flushed, std::task::Poll::Ready(Err(_)))
        });
    }
}

/// Keeps the shelf filled until nobody has asked for a while, or it is gone.
async fn keep(shelf: Weak<Shelf>, connector: Connector, wanted: Arc<Notify>) {
    let mut making = JoinSet::new();
    let mut pause_until = Instant::now();
    loop {
        let Some(missing) = look_after(&shelf, making.len()).await else { return };
        if Instant::now() >= pause_until {
            for _ in 0..missing {
                let connector = connector.clone();
                making.spawn(async move { connect(&connector).await });
            }
        }
        tokio::select! {
            Some(made) = making.join_next() => match made {
                Ok(Ok(channel)) => put(&shelf, channel),
                // The next session says why, if it fares no better.
                Ok(Err(_)) | Err(_) => pause_until = Instant::now() + AFTER_FAILURE,
            },
            () = wanted.notified() => {}
            () = sleep(ROUND) => {}
        }
    }
}

/// Sweeps; how many connections are missing. `None`: the keeper may go.
async fn look_after(shelf: &Weak<Shelf>, making: usize) -> Option<usize> {
    std::future::poll_fn(|cx| {
        let Some(shelf) = shelf.upgrade() else { return std::task::Poll::Ready(None) };
        let mut kept = shelf.lock();
        let leave = kept.asked.elapsed() >= ATTENTION;
        kept.sweep(if leave { Duration::ZERO } else { shelf.settings.max_age }, cx);
        kept.attended = !leave;
        let missing = usize::from(shelf.settings.connections.get()).saturating_sub(kept.made.len() + making);
        std::task::Poll::Ready((!leave).then_some(missing))
    })
    .await
}

fn put(shelf: &Weak<Shelf>, channel: Channel) {
    if let Some(shelf) = shelf.upgrade() {
        let made = Made { channel, at: Instant::now(), at_wall: SystemTime::now() };
        shelf.lock().made.push(made);
    }
}

async fn connect(connector: &Connector) -> Result<Channel, ConnectError> {
    let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
    let mut channel = connector.open(deadline).await?;
    connector.upgrade(&mut channel, &[], deadline).await?;
    Ok(channel)
}
