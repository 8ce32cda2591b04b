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

/// An answer, and when it expires.
type Kept = (Arc<[IpAddr]>, Instant);

/// All that is known.
#[derive(Debug, Default)]
pub(super) struct Cache {
    known: Mutex<HashMap<Key, Kept>>,
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
        let asking = Asking { cache: self, key, cell };
        asking.cell.get_or_init(|| ask).await.clone()
    }
}

/// Somebody who waits for an answer; the last one to go, be it without one, clears up.
struct Asking<'a> {
    cache: &'a Cache,
    key: &'a Key,
    cell: Arc<OnceCell<Known>>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut asked = lock(&self.cache.asked);
        let is_current = asked.get(self.key).is_some_and(|current| Arc::ptr_eq(current, &self.cell));
        // An answer is not for those who come later; without one, others may still wait.
        if is_current && (self.cell.initialized() || Arc::strong_count(&self.cell) == 2) {
            asked.remove(self.key);
        }
    }
}

/// Whoever panicked with it left it as it was.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key { server: 0, name: name.into(), kind: Kind::V4 }
    }

    fn some() -> Arc<[IpAddr]> {
        [IpAddr::from([127, 0, 0, 1])].into()
    }

    #[tokio::test(start_paused = true)]
    async fn answer_is_kept_until_it_expires() {
        let cache = Cache::default();
        cache.put(key("a"), some(), Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(cache.get(&key("a")), Some(some()));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(cache.get(&key("a")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn cache_has_a_bound() {
        let cache = Cache::default();
        for number in 0..MAX_KNOWN as u64 + 10 {
            cache.put(key(&number.to_string()), some(), Duration::from_secs(10 + number));
        }
        assert_eq!(lock(&cache.known).len(), MAX_KNOWN);
        assert_eq!(cache.get(&key("0")), None);
    }

    #[tokio::test]
    async fn question_that_nobody_waits_for_leaves_nothing_behind() {
        let cache = Cache::default();
        let (a, b) = (key("a"), key("a"));
        let asking = cache.ask(&a, std::future::pending());
        assert!(tokio::time::timeout(Duration::from_millis(1), asking).await.is_err());
        assert!(lock(&cache.asked).is_empty());
        let found = cache.ask(&b, async { Ok(some()) }).await;
        assert_eq!(found, Ok(some()));
        assert!(lock(&cache.asked).is_empty());
    }
}
