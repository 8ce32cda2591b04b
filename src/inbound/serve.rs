//! The accept loop of a listener.

use std::{
    os::unix::net::UnixDatagram,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use wsray_config::{Diagnostic, SocketOptions};

use super::{
    Inbound, Listener,
    dokodemo::serve_packets,
    listen::Accepted,
    waiting::{Crowded, Limits, Waiting},
};
use crate::{memory::Full, observe::Level, session::Source, transport::is_out_of_files};

/// How many connections there are, of all listeners that share this.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<AtomicUsize>);

impl Connections {
    /// How many there are now.
    pub fn len(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn one_more(&self) -> One {
        self.0.fetch_add(1, Ordering::Relaxed);
        One(Arc::clone(&self.0))
    }
}

/// A connection that counts until this is dropped.
struct One(Arc<AtomicUsize>);

impl Drop for One {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long to wait when a connection cannot be accepted.
const PAUSE: Duration = Duration::from_millis(50);

/// A session has two: its client's and its target's.
const MORE_FILES: &str = " (newcomers are refused until sessions end; \"ulimit -n\", or LimitNOFILE= of a systemd service, allows more)";

/// Accepts connections for the inbound of the moment until its sender is gone; then closes the listener and waits for the
/// connections to end. Dropping it cuts them. `set_up`: what was set on the listener.
pub async fn serve(
    listener: Listener,
    mut set_up: Arc<SocketOptions>,
    mut inbound: watch::Receiver<Arc<Inbound>>,
    connections: Connections,
) {
    prepare(&listener, &mut set_up, &inbound.borrow());
    if matches!(listener, Listener::Udp(_)) {
        return serve_packets(listener, set_up, inbound).await;
    }
    let waiting = Waiting::new(Limits::of_this_process());
    let mut running = JoinSet::new();
    let mut spare = Spare::new();
    loop {
        spare.refill();
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((accepted, peer)) => {
                    let inbound = Arc::clone(&inbound.borrow());
                    if let Err(full) = has_room(&inbound) {
                        accepted.reset();
                        tell(&inbound, format_args!("{peer} refused: {full}"));
                        continue;
                    }
                    let crowded = admit(&mut running, &waiting, inbound, accepted, peer, connections.one_more());
                    if crowded {
                        // The file of whoever had to go is the newcomer's: it has to be free before the next one comes.
                        let _ = timeout(PAUSE, running.join_next()).await;
                    }
                }
                Err(error) => {
                    let hint = if is_out_of_files(&error) { MORE_FILES } else { "" };
                    tell(&inbound.borrow(), format_args!("cannot accept: {error}{hint}"));
                    if !is_out_of_files(&error) {
                        sleep(PAUSE).await;
                    } else if !spare.turn_away(&listener).await {
                        // Sessions' dials were quicker to take the spare ones: a stranger's makes up for it.
                        waiting.cut_oldest();
                        let _ = timeout(PAUSE, running.join_next()).await;
                    }
                }
            },
            Some(ended) = running.join_next() => drop(ended),
            changed = inbound.changed() => match changed {
                Ok(()) => prepare(&listener, &mut set_up, &inbound.borrow()),
                Err(_) => break,
            },
        }
    }
    drop(listener);
    while running.join_next().await.is_some() {}
}

/// What is set on the listener, and what its connections inherit, may have been set by another program, or for another
/// configuration.
pub(super) fn prepare(listener: &Listener, set_up: &mut Arc<SocketOptions>, inbound: &Inbound) {
    let wanted = &inbound.common().socket;
    let log = &inbound.common().dispatcher.log;
    for error in listener.retune(set_up, wanted) {
        let text = format!("{listener}: {error}");
        match &wanted.place {
            Some(place) => log.warning(None, "inbound", format_args!("{}", Diagnostic::at(place, text))),
            None => log.warning(None, "inbound", format_args!("{text}")),
        }
    }
    *set_up = Arc::clone(wanted);
    if let Err(error) = listener.prepare(wanted.keep_alive) {
        tell(inbound, format_args!("connections are not set up as configured: {error}"));
    }
}

/// File descriptors kept for the moment when there is no other: one given up lets us accept a connection and reset it,
/// so that its client knows at once instead of waiting in the kernel's queue. A session that dials at that very moment may
/// take it for good, so there is more than one.
struct Spare(Vec<UnixDatagram>);

impl Spare {
    /// How many are kept.
    const MOST: usize = 4;

    fn new() -> Self {
        let mut spare = Self(Vec::with_capacity(Self::MOST));
        spare.refill();
        spare
    }

    /// Resets the next connection, if there is one; `false` if others were quicker to take every descriptor.
    async fn turn_away(&mut self, listener: &Listener) -> bool {
        while let Some(given_up) = self.0.pop() {
            drop(given_up);
            match listener.accept_now().await {
                Err(error) if is_out_of_files(&error) => {}
                Ok(Some(accepted)) => {
                    accepted.reset();
                    return true;
                }
                // It has left meanwhile, or nobody was there: the system says that files are out before it looks.
                Ok(None) | Err(_) => return true,
            }
        }
        false
    }

    /// Takes what is missing, before a connection takes it.
    fn refill(&mut self) {
        while self.0.len() < Self::MOST
            && let Ok(one) = UnixDatagram::unbound()
        {
            self.0.push(one);
        }
    }
}

/// What cannot have a session needs no handshake either.
fn has_room(inbound: &Inbound) -> Result<(), Full> {
    let dispatcher = &inbound.common().dispatcher;
    dispatcher.memory.has_room(dispatcher.pool.held())
}

/// Serves one connection; whether somebody who has waited too long had to go for it.
fn admit(
    running: &mut JoinSet<()>,
    waiting: &Arc<Waiting>,
    inbound: Arc<Inbound>,
    accepted: Accepted,
    peer: Source,
    one: One,
) -> bool {
    let (seat, crowded) = waiting.enter(peer.address().map(|address| address.ip()));
    let number = seat.number();
    let limits = waiting.limits();
    match crowded {
        None => {}
        Some(Crowded::Source) => tell(
            &inbound,
            format_args!(
                "more than {} connections of {peer} have not said who they are: the oldest is cut",
                limits.per_source
            ),
        ),
        Some(Crowded::Total) => tell(
            &inbound,
            format_args!(
                "more than {} connections have not said who they are: the oldest is cut",
                limits.total
            ),
        ),
    }
    let task = running.spawn(async move {
        let _one = one;
        // One that is gone already has nothing to say.
        if let Ok(socket) = accepted.socket(inbound.common().socket.keep_alive) {
            inbound.connection(socket, peer, seat).await;
        }
    });
    waiting.runs(number, task);
    crowded.is_some()
}

/// Strangers can cause each of these lines.
fn tell(inbound: &Inbound, text: std::fmt::Arguments<'_>) {
    inbound.common().dispatcher.log.limited(Level::Warning, "refused connections", None, "inbound", text);
}
