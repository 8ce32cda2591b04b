//! What servers answered, for as long as they said; and one question at a time for each name.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::OnceCell,
    time::{Duration, Instant},
};

use super::message::Kind;

/// A question to a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The server's index.
    pub(super) server: usize,
    pub(super) name: Arc<str>,
    pub(super) kind: Kind,
}

/// Addresses, none if there are none; or why nobody knows.
pub(super) type Known = Result<Arc<[IpAddr]>, Arc<str>>;

/// All that is known.
#[derive(Debug, Default)]
pub(super) struct Cache {
    known: Mutex<HashMap<Key, (Arc<[IpAddr]>, Instant)>>,
    asked: Mutex<HashMap<Key, Arc<OnceCell<Known>>>>,
}

/// So many answers are kept.
const MAX_KNOWN: usize = 4096;

impl Cache {
    /// What is known and has not expired.
    pub(super) fn get(&self, key: &Key) -> Option<Arc<[IpAddr]>> {
        let mut known = lock(&self.known);
        let (addresses, until) = known.get(key)?;
        if Instant::now() < *until {
            return Some(Arc::clone(addresses));
        }
        known.remove(key);
        None
    }

    pub(super) fn put(&self, key: Key, addresses: Arc<[IpAddr]>, lifetime: Duration) {
        let mut known = lock(&self.known);
        let now = Instant::now();
        if known.len() >= MAX_KNOWN {
            known.retain(|_, (_, until)| now < *until);
        }
        if known.len() >= MAX_KNOWN {
            // Rare enough that the search for the one that expires first does not matter.
            let first = known.iter().min_by_key(|(_, (_, until))| *until).map(|(key, _)| key.clone());
            first.map(|first| known.remove(&first));
        }
        known.insert(key, (addresses, now + lifetime));
    }

    /// What `ask` brings, which is run once for all who want to know at the same time.
    pub(super) async fn ask(&self, key: &Key, ask: impl Future<Output = Known>) -> Known {
        let cell = Arc::clone(lock(&self.asked).entry(key.clone()).or_default());
        let answer = cell.get_or_init(|| ask).await.clone();
        let mut asked = lock(&self.asked);
        if asked.get(key).is_some_and(|current| Arc::ptr_eq(current, &cell)) {
            asked.remove(key);
        }
        answer
    }
}

/// Whoever panicked with it left it as it was.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
