//! A client's connections to a server: which of them a new session joins.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wsray_vmess::{MuxHead, MuxKind, Network, Target};

use super::{
    Driver, MuxStream,
    driver::Role,
    hub::{Hub, State},
    stream::keep_head,
};
use crate::stream::{BoxEndpoint, Layout, Pool};

/// The connections that one user of one server shares, and how many sessions share each.
#[derive(Debug)]
pub struct Client {
    concurrency: usize,
    connections: Mutex<Vec<Connection>>,
    /// Held while a connection is made, so that sessions which come at the same time share it.
    pub making: tokio::sync::Mutex<()>,
}

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
        Self {
            concurrency: concurrency.into(),
            connections: Mutex::default(),
            making: tokio::sync::Mutex::default(),
        }
    }

    /// A session on a connection with room for it; nothing is sent yet.
    pub fn open(&self, network: Network, target: &Target) -> Option<MuxStream> {
        let mut connections = self.lock();
        connections.retain(|connection| connection.hub.lock().may_open_more());
        connections.iter().find_map(|connection| connection.open(self.concurrency, network, target))
    }

    /// One more connection.
    pub fn add(&self, connection: Connection) {
        self.lock().push(connection);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// A driver for `below`, to be run, and what opens sessions there.
    pub fn new(below: BoxEndpoint, pool: Arc<Pool>) -> (Driver, Self) {
        let hub = Hub::new();
        let connection = Self { hub: Arc::clone(&hub), layout: below.layout(), pool: Arc::clone(&pool) };
        (Driver::new(below, pool, hub, Role::Client), connection)
    }

    fn open(&self, concurrency: usize, network: Network, target: &Target) -> Option<MuxStream> {
        let mut state = self.hub.lock();
        if !state.may_open_more() || state.flows.len() >= concurrency {
            return None;
        }
        state.last_id += 1;
        let id = state.last_id;
        let serial = state.add(id, network, target.clone(), false);
        drop(state);
        let kind = MuxKind::New { network, target: target.clone(), global_id: None };
        Some(MuxStream {
            hub: Arc::clone(&self.hub),
            serial,
            network,
            pool: Arc::clone(&self.pool),
            below: self.layout,
            opening: Some(MuxHead { id, kind, data: None }),
            head: keep_head(id, None),
            half_open: None,
        })
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
