//! A client's connections to a server: which of them a new session joins.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use wsray_vmess::{MuxHead, MuxKind, Network, Target};

use super::{
    Driver, MuxStream,
    driver::Role,
    hub::{Hub, State},
    stream::Addressing,
};
use crate::stream::{BoxEndpoint, Layout, Pool};

/// The connections that one user of one server shares, and how many sessions share each.
#[derive(Debug)]
pub struct Client {
    concurrency: usize,
    connections: Mutex<Connections>,
    /// Makes global ids, which nobody else can foretell.
    ids: RandomState,
}

#[derive(Debug, Default)]
struct Connections {
    made: Vec<Connection>,
    /// Those that somebody is making.
    coming: Vec<Coming>,
}

/// A connection that is being made, and how many sessions wait for it, its maker among them.
#[derive(Debug)]
struct Coming {
    sessions: usize,
    outcome: watch::Receiver<Option<Outcome>>,
}

/// Why a connection was not made, if so.
type Outcome = Result<(), Arc<str>>;

/// What a session is for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Stream or packets.
    pub network: Network,
    /// Where to; with a global id, where the first packet goes to.
    pub target: Target,
    /// Its packets go to many targets (XUDP), and who sends them.
    pub global_id: Option<[u8; 8]>,
}

/// Whether sessions may share a connection at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// As many as the configuration says.
    Allowed,
    /// The server bears no two at a time: one takes over a connection when another has left it.
    OneAtATime,
}

/// What a server makes of it that we send nothing more in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// It has not shown yet.
    Unknown,
    /// It tells the target, and its answer comes, however long that takes.
    PassedOn,
    /// The same, but it does not tell us when the answer is complete: sing-box.
    PassedOnSilently,
    /// It gives the answer up: Xray at once, V2Ray when it has been silent for a second. Neither tells the target
    /// (v2fly/v2ray-core `common/mux/server.go`, XTLS/Xray-core `common/mux/session.go`).
    GivenUp,
}

/// How a session gets its place.
pub enum Place {
    /// On a connection with room for it; nothing is sent yet.
    Here(MuxStream),
    /// On a connection that it has to make.
    Make(Making),
    /// On a connection that another session makes.
    Wait(Waiting),
}

/// A connection to be made. Dropped without an outcome, whoever waits for it asks again.
#[derive(Debug)]
pub struct Making(watch::Sender<Option<Outcome>>);

/// Waits for a connection that somebody makes.
#[derive(Debug)]
pub struct Waiting(watch::Receiver<Option<Outcome>>);

/// A client's end of a connection, as its sessions see it.
#[derive(Clone)]
pub struct Connection {
    hub: Arc<Hub>,
    layout: Layout,
    pool: Arc<Pool>,
}

/// How many sessions a connection carries in its life (v2fly/v2ray-core `common/mux/client.go`).
const SESSIONS_IN_A_LIFE: u16 = 128;

impl Client {
    /// At most `concurrency` sessions at a time on a connection.
    pub fn new(concurrency: u16) -> Self {
        Self { concurrency: concurrency.into(), connections: Mutex::default(), ids: RandomState::new() }
    }

    /// A place for a session. As many as a connection takes wait for the same one, and more of them are made at the
    /// same time only if more are needed.
    pub fn place(&self, wanted: &Wanted, sharing: Sharing) -> Place {
        let concurrency = match sharing {
            Sharing::Allowed => self.concurrency,
            Sharing::OneAtATime => 1,
        };
        let mut connections = self.lock();
        connections.made.retain(|connection| connection.hub.lock().may_open_more());
        let open = |connection: &Connection| connection.open(concurrency, wanted);
        if let Some(stream) = connections.made.iter().find_map(open) {
            return Place::Here(stream);
        }
        connections.coming.retain(Coming::is_open);
        if let Some(coming) = connections.coming.iter_mut().find(|coming| coming.sessions < concurrency) {
            coming.sessions += 1;
            return Place::Wait(Waiting(coming.outcome.clone()));
        }
        let (making, outcome) = watch::channel(None);
        connections.coming.push(Coming { sessions: 1, outcome });
        Place::Make(Making(making))
    }

    /// A connection was made; the first session on it is the maker's, and then come those that waited.
    pub fn made(&self, making: &Making, connection: Connection, wanted: &Wanted) -> Option<MuxStream> {
        let mut connections = self.lock();
        let stream = connection.open(self.concurrency, wanted);
        connections.made.push(connection);
        making.0.send_replace(Some(Ok(())));
        connections.coming.retain(Coming::is_open);
        stream
    }

    /// Who `sender` is to all servers: the same for as long as the program runs.
    pub fn global_id(&self, sender: &impl std::hash::Hash) -> [u8; 8] {
        // A server ignores zeros.
        self.ids.hash_one(sender).max(1).to_be_bytes()
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Coming {
    /// Whether its maker is still at it.
    fn is_open(&self) -> bool {
        self.outcome.borrow().is_none() && self.outcome.has_changed().is_ok()
    }
}

impl Making {
    /// It could not be made: whoever waits for it fails alike.
    pub fn failed(self, why: &dyn std::fmt::Display) {
        self.0.send_replace(Some(Err(why.to_string().into())));
    }
}

impl Waiting {
    /// Until there is a place to be asked for again.
    ///
    /// # Errors
    /// Why the connection could not be made.
    pub async fn wait(mut self) -> Result<(), Arc<str>> {
        // A maker that has gone leaves it to others.
        self.0.wait_for(Option::is_some).await.map_or(Ok(()), |outcome| outcome.clone().unwrap_or(Ok(())))
    }
}

impl Connection {
    /// A driver for `below`, to be run, and what opens sessions there. `ends` says what the server makes of ends, as far
    /// as that is known by then.
    pub fn new(
        below: BoxEndpoint,
        pool: Arc<Pool>,
        ends: impl Fn() -> Ends + Send + Sync + 'static,
    ) -> (Driver, Self) {
        let hub = Hub::new(ends);
        let connection = Self { hub: Arc::clone(&hub), layout: below.layout(), pool: Arc::clone(&pool) };
        (Driver::new(below, pool, hub, Role::Client), connection)
    }

    fn open(&self, concurrency: usize, wanted: &Wanted) -> Option<MuxStream> {
        let mut state = self.hub.lock();
        if !state.may_open_more() || state.flows.len() >= concurrency {
            return None;
        }
        state.last_id += 1;
        let id = state.last_id;
        let Wanted { network, target, global_id } = wanted.clone();
        let serial = state.add(id, network);
        drop(state);
        let addressing =
            if global_id.is_some() { Addressing::Each(target.clone()) } else { Addressing::None };
        let stream = MuxStream::new(&self.hub, (id, serial), network, addressing, &self.pool, self.layout);
        Some(stream.opening(MuxHead { id, kind: MuxKind::New { network, target, global_id }, data: None }))
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl State {
    /// Whether the connection lives and has not carried all the sessions that it may.
    fn may_open_more(&self) -> bool {
        !self.is_over() && self.last_id < SESSIONS_IN_A_LIFE
    }

    /// Whether nobody will ever use the connection again.
    pub(super) fn is_used_up(&self) -> bool {
        self.last_id >= SESSIONS_IN_A_LIFE && self.flows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        let target = Target { address: "127.0.0.1".parse().unwrap(), port: 80 };
        Wanted { network: Network::Tcp, target, global_id: None }
    }

    fn kind(place: &Place) -> &'static str {
        match place {
            Place::Here(_) => "here",
            Place::Make(_) => "make",
            Place::Wait(_) => "wait",
        }
    }

    #[test]
    fn as_many_wait_for_a_connection_as_it_takes_and_the_next_makes_another() {
        let client = Client::new(3);
        let places: Vec<_> = (0..7).map(|_| client.place(&wanted(), Sharing::Allowed)).collect();
        let kinds: Vec<_> = places.iter().map(kind).collect();
        assert_eq!(kinds, ["make", "wait", "wait", "make", "wait", "wait", "make"]);
    }

    #[test]
    fn where_sessions_damage_each_other_each_makes_a_connection() {
        let client = Client::new(8);
        let places: Vec<_> = (0..3).map(|_| client.place(&wanted(), Sharing::OneAtATime)).collect();
        assert_eq!(places.iter().map(kind).collect::<Vec<_>>(), ["make"; 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_fails_with_the_maker_and_goes_on_without_one_that_left() {
        let client = Client::new(2);
        let (Place::Make(making), Place::Wait(waiting)) =
            (client.place(&wanted(), Sharing::Allowed), client.place(&wanted(), Sharing::Allowed))
        else {
            panic!("one makes and one waits")
        };
        making.failed(&"refused");
        assert_eq!(waiting.wait().await.unwrap_err().as_ref(), "refused");
        let (Place::Make(making), Place::Wait(waiting)) =
            (client.place(&wanted(), Sharing::Allowed), client.place(&wanted(), Sharing::Allowed))
        else {
            panic!("what failed is not waited for")
        };
        drop(making);
        waiting.wait().await.unwrap();
        assert_eq!(kind(&client.place(&wanted(), Sharing::Allowed)), "make");
    }
}
