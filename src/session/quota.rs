//! How many sessions somebody has, over all connections.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Counts the sessions of a user; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Quota(Arc<AtomicUsize>);

/// A session that is counted until this is dropped.
#[derive(Debug)]
pub struct Seat(Arc<AtomicUsize>);

impl Quota {
    /// The most multiplexed sessions of one user: eight full connections of Mux.Cool.
    pub const MOST: usize = 8 * 256;

    /// One more, unless there are [`Quota::MOST`].
    pub fn take(&self) -> Option<Seat> {
        let one_more = |count| (count < Self::MOST).then_some(count + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Seat(Arc::clone(&self.0)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_so_many_sessions_and_not_one_more() {
        let quota = Quota::default();
        let seats: Vec<_> = (0..2048).map_while(|_| quota.take()).collect();
        assert_eq!(seats.len(), 2048);
        assert!(quota.clone().take().is_none());
        drop(seats);
        assert!(quota.take().is_some());
    }
}
