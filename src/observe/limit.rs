//! A limit on lines of one kind, so that a flood of strangers is a line a second and not a full disk.

use std::time::{Duration, Instant};

/// How long one count lasts.
const WINDOW: Duration = Duration::from_secs(1);

/// How many kinds are told apart; the one unused for longest makes room for another.
const MAX_KINDS: usize = 64;

/// Lets so many events of each kind pass in a second and counts the others. Its memory is fixed.
#[derive(Clone, Debug)]
pub struct RateLimit<K> {
    per_second: u32,
    slots: Vec<Slot<K>>,
}

#[derive(Clone, Debug)]
struct Slot<K> {
    kind: K,
    start: Instant,
    passed: u32,
    suppressed: u64,
}

/// What to do with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Tell it, and before it how many more of its kind were not told since the last one, if any.
    Pass {
        /// How many.
        missed: u64,
    },
    /// Do not tell it.
    Suppress {
        /// Whether it is the first one not told: somebody must call [`RateLimit::drain`] a second later.
        is_first: bool,
    },
}

impl<K: Copy + Eq> RateLimit<K> {
    /// A limit of so many events of each kind in a second.
    pub fn new(per_second: u32) -> Self {
        Self { per_second, slots: Vec::new() }
    }

    /// Counts an event of `kind` at `now`.
    pub fn check(&mut self, kind: K, now: Instant) -> Verdict {
        let fresh = Slot { kind, start: now, passed: 1, suppressed: 0 };
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.kind == kind) else {
            if self.slots.len() >= MAX_KINDS
                && let Some(oldest) =
                    (0..self.slots.len()).min_by_key(|&n| self.slots.get(n).map(|slot| slot.start))
            {
                self.slots.swap_remove(oldest);
            }
            self.slots.push(fresh);
            return Verdict::Pass { missed: 0 };
        };
        if now.saturating_duration_since(slot.start) >= WINDOW {
            let missed = slot.suppressed;
            *slot = fresh;
            Verdict::Pass { missed }
        } else if slot.passed < self.per_second {
            slot.passed += 1;
            Verdict::Pass { missed: 0 }
        } else {
            slot.suppressed += 1;
            Verdict::Suppress { is_first: slot.suppressed == 1 }
        }
    }

    /// The kinds of which events were not told, and how many, where their second is over.
    pub fn drain(&mut self, now: Instant) -> Vec<(K, u64)> {
        let is_over = |slot: &&mut Slot<K>| now.saturating_duration_since(slot.start) >= WINDOW;
        self.slots
            .iter_mut()
            .filter(|slot| slot.suppressed > 0)
            .filter(is_over)
            .map(|slot| (slot.kind, std::mem::take(&mut slot.suppressed)))
            .collect()
    }

    /// Whether [`Self::drain`] will have something to say.
    pub fn has_suppressed(&self) -> bool {
        self.slots.iter().any(|slot| slot.suppressed > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{MAX_KINDS, RateLimit, Verdict};

    const PASS: Verdict = Verdict::Pass { missed: 0 };

    #[test]
    fn each_kind_passes_so_often_in_a_second() {
        let (mut limit, start) = (RateLimit::new(2), Instant::now());
        assert_eq!(limit.check("a", start), PASS);
        assert_eq!(limit.check("a", start), PASS);
        assert_eq!(limit.check("a", start), Verdict::Suppress { is_first: true });
        assert_eq!(
            limit.check("a", start + Duration::from_millis(999)),
            Verdict::Suppress { is_first: false }
        );
        assert_eq!(limit.check("b", start), PASS);
        assert_eq!(limit.check("a", start + Duration::from_secs(1)), Verdict::Pass { missed: 2 });
        assert_eq!(limit.check("a", start + Duration::from_secs(1)), PASS);
    }

    #[test]
    fn drain_tells_the_rest_once_when_the_second_is_over() {
        let (mut limit, start) = (RateLimit::new(1), Instant::now());
        for _ in 0..10 {
            limit.check("a", start);
        }
        assert!(limit.has_suppressed());
        assert_eq!(limit.drain(start + Duration::from_millis(999)), []);
        assert_eq!(limit.drain(start + Duration::from_secs(1)), [("a", 9)]);
        assert_eq!(limit.drain(start + Duration::from_secs(2)), []);
        assert!(!limit.has_suppressed());
    }

    #[test]
    fn clock_that_goes_back_does_not_open_a_new_second() {
        let (mut limit, start) = (RateLimit::new(1), Instant::now());
        limit.check("a", start + Duration::from_secs(5));
        assert_eq!(limit.check("a", start), Verdict::Suppress { is_first: true });
    }

    #[test]
    fn flood_of_kinds_does_not_grow_memory() {
        let (mut limit, start) = (RateLimit::new(1), Instant::now());
        for kind in 0..100_000_u32 {
            limit.check(kind, start + Duration::from_micros(kind.into()));
            limit.check(kind, start + Duration::from_micros(kind.into()));
        }
        assert_eq!(limit.slots.len(), MAX_KINDS);
    }
}
