//! Openings already seen.

use crate::{Secrets, UserIndex, header::MAX_CLOCK_SKEW_SECS, user::AUTH_ID_LEN};
use sha2::{Digest, Sha256};
use std::{collections::HashSet, fmt};

/// Remembers every opening for as long as its time could pass: exactly, so that no fresh one is refused and
/// no old one passes. (V2Ray's cuckoo filter refuses fresh users under load.)
///
/// An opening made at `t` passes from `t - 120` to `t + 120` s, and is remembered until then by being filed
/// under `t`. At any moment three generations of 120 s hold all that can pass; each is dropped as a
/// whole when it no longer can, so that an entry of a right clock lives 120 to 240 s.
///
/// 100,000 openings take about 4.5 MiB. It lives in memory only: see [`Replay::starting_at`]. When users are
/// reloaded, it must be kept.
pub struct Replay {
    generations: [Generation; 3],
    /// Openings made at this time or before may have been forgotten, and are refused.
    forgotten: Option<u64>,
    len: usize,
    /// [`MAX_REPLAY_ENTRIES`], but for tests.
    limit: usize,
}

/// The openings made in the 120 s from `number * 120` on.
#[derive(Default)]
struct Generation {
    number: u64,
    auth_ids: HashSet<[u8; AUTH_ID_LEN]>,
    bodies: HashSet<BodyMark>,
}

/// The first 16 bytes of SHA-256 over user, body key and body IV.
type BodyMark = [u8; 16];

/// At most this many openings are remembered, which bounds [`Replay`] to about 120 MiB. More than 7,600
/// openings a second reach it; then fresh openings are refused until old ones have expired, because
/// forgetting one would let it be replayed. Seven eighths of 2^21: what a hash table of that size holds.
pub const MAX_REPLAY_ENTRIES: usize = 1_835_008;

/// Why an opening is refused here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Seen before.
    Seen,
    /// So old that it may have been seen and forgotten.
    Forgotten,
    /// No room to remember it.
    Full,
}

impl Replay {
    /// Nothing seen yet. What an earlier process saw passes once more: [`Replay::starting_at`] prevents it.
    pub fn new() -> Self {
        Self { generations: Default::default(), forgotten: None, len: 0, limit: MAX_REPLAY_ENTRIES }
    }

    /// Nothing seen yet, and openings dated 2 s or more before `now` (Unix seconds) are refused, since an
    /// earlier process may have seen them. So a client whose clock is behind by `d` s is refused for the
    /// first `d` s.
    pub fn starting_at(now: u64) -> Self {
        Self { forgotten: now.checked_sub(2), ..Self::new() }
    }

    /// How many openings are remembered.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether an opening made at `time` with this auth ID may pass. Does not remember it.
    pub(crate) fn check(&self, auth_id: &[u8; AUTH_ID_LEN], time: u64) -> Result<(), Refused> {
        if self.forgotten.is_some_and(|forgotten| time <= forgotten) {
            return Err(Refused::Forgotten);
        }
        let seen = self.generations.iter().any(|generation| generation.auth_ids.contains(auth_id));
        if seen { Err(Refused::Seen) } else { Ok(()) }
    }

    /// Checks again, and the body's key and IV too, and remembers. `time` must lie within 120 s of `now`,
    /// which the caller has seen to.
    pub(crate) fn record(
        &mut self,
        auth_id: &[u8; AUTH_ID_LEN],
        time: u64,
        user: UserIndex,
        secrets: &Secrets,
        now: u64,
    ) -> Result<(), Refused> {
        self.expire(now);
        self.check(auth_id, time)?;
        let body = body_mark(user, secrets);
        if self.generations.iter().any(|generation| generation.bodies.contains(&body)) {
            return Err(Refused::Seen);
        }
        if self.len >= self.limit {
            return Err(Refused::Full);
        }
        let number = time / MAX_CLOCK_SKEW_SECS;
        // Three numbers in a row fall into three different places.
        let place = &mut self.generations[usize::try_from(number % 3).unwrap_or_default()];
        if place.number != number && !place.auth_ids.is_empty() {
            // Only after a clock that ran back by minutes: that place holds a later time still.
            return Err(Refused::Forgotten);
        }
        place.number = number;
        place.auth_ids.insert(*auth_id);
        place.bodies.insert(body);
        self.len += 1;
        Ok(())
    }

    /// Drops the generations that cannot pass any more, and their memory.
    fn expire(&mut self, now: u64) {
        for generation in &mut self.generations {
            let last =
                generation.number.saturating_mul(MAX_CLOCK_SKEW_SECS).saturating_add(MAX_CLOCK_SKEW_SECS - 1);
            if last.saturating_add(MAX_CLOCK_SKEW_SECS) < now && !generation.auth_ids.is_empty() {
                self.len -= generation.auth_ids.len();
                *generation = Generation::default();
                self.forgotten = self.forgotten.max(Some(last));
            }
        }
    }
}

impl Default for Replay {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Replay({} openings)", self.len)
    }
}

fn body_mark(user: UserIndex, secrets: &Secrets) -> BodyMark {
    let hash = Sha256::new()
        .chain_update(user.0.to_be_bytes())
        .chain_update(secrets.body_key)
        .chain_update(secrets.body_iv)
        .finalize();
    let mut mark = [0; 16];
    mark.copy_from_slice(&hash[..16]);
    mark
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;
    const USER: UserIndex = UserIndex(0);

    /// The `n`-th auth ID and the secrets that came with it.
    fn opening(n: u64) -> ([u8; AUTH_ID_LEN], Secrets) {
        let bytes = (u128::from(n) << 64 | 7).to_be_bytes();
        (bytes, Secrets { body_key: bytes, body_iv: bytes, response_auth: 0 })
    }

    fn record(replay: &mut Replay, n: u64, time: u64, now: u64) -> Result<(), Refused> {
        let (auth_id, secrets) = opening(n);
        replay.record(&auth_id, time, USER, &secrets, now)
    }

    #[test]
    fn an_opening_is_refused_for_as_long_as_its_time_could_pass() {
        for time in NOW - 120..=NOW + 120 {
            let mut replay = Replay::new();
            assert_eq!(record(&mut replay, 1, time, NOW), Ok(()));
            for now in NOW..=time + 120 {
                // Others come and go meanwhile.
                assert_eq!(record(&mut replay, now, now, now), Ok(()));
                assert_eq!(record(&mut replay, 1, time, now), Err(Refused::Seen));
            }
        }
    }

    #[test]
    fn an_opening_is_dropped_two_generations_after_its_time() {
        for time in NOW..NOW + 120 {
            let mut replay = Replay::new();
            record(&mut replay, 1, time, time).unwrap();
            let gone = (120..=241).find(|later| {
                replay.expire(time + later);
                replay.is_empty()
            });
            assert!(gone.is_some_and(|later| later > 120), "{gone:?}");
            // Should the clock run back now, it still does not pass.
            assert_eq!(record(&mut replay, 1, time, time), Err(Refused::Forgotten));
        }
    }

    #[test]
    fn a_body_key_is_refused_under_another_auth_id() {
        let mut replay = Replay::new();
        let (first, secrets) = opening(1);
        replay.record(&first, NOW, USER, &secrets, NOW).unwrap();
        let (second, other) = opening(2);
        for seen in [NOW, NOW + 119] {
            assert_eq!(replay.record(&second, seen, USER, &secrets, seen), Err(Refused::Seen));
        }
        assert_eq!(replay.record(&second, NOW, UserIndex(1), &secrets, NOW), Ok(()));
        assert_eq!(replay.record(&opening(3).0, NOW, USER, &other, NOW), Ok(()));
    }

    #[test]
    fn a_hundred_thousand_openings_pass_and_fit_into_eight_mebibytes() {
        let mut replay = Replay::new();
        for n in 0..100_000 {
            // 386 s, as in the run in which V2Ray refused 796 of them.
            let now = NOW + n * 386 / 100_000;
            assert_eq!(record(&mut replay, n, now, now), Ok(()), "{n}");
        }
        let mut replay = Replay::new();
        for n in 0..100_000 {
            assert_eq!(record(&mut replay, n, NOW, NOW), Ok(()), "{n}");
        }
        assert_eq!(replay.len(), 100_000);
        // A hash table has 8 places for 7 entries and a byte beside each.
        let bytes = |capacity: usize| (capacity * 8 / 7).next_power_of_two() * 17;
        let all =
            replay.generations.iter().map(|g| bytes(g.auth_ids.capacity()) + bytes(g.bodies.capacity()));
        assert!(all.sum::<usize>() <= 8 << 20);
    }

    #[test]
    fn a_full_memory_refuses_fresh_openings_and_forgets_none() {
        let mut replay = Replay { limit: 100, ..Replay::new() };
        for n in 0..100 {
            assert_eq!(record(&mut replay, n, NOW, NOW), Ok(()));
        }
        assert_eq!(record(&mut replay, 100, NOW, NOW), Err(Refused::Full));
        for n in 0..100 {
            assert_eq!(record(&mut replay, n, NOW, NOW + 120), Err(Refused::Seen));
        }
        assert_eq!(record(&mut replay, 100, NOW + 240, NOW + 240), Ok(()));
        assert_eq!(replay.len(), 1);
    }

    #[test]
    fn openings_from_before_the_start_are_refused() {
        let mut replay = Replay::starting_at(NOW);
        for (n, time) in [(1, NOW - 120), (2, NOW - 3), (3, NOW - 2)] {
            assert_eq!(record(&mut replay, n, time, NOW), Err(Refused::Forgotten));
        }
        for (n, time) in [(4, NOW - 1), (5, NOW), (6, NOW + 120)] {
            assert_eq!(record(&mut replay, n, time, NOW), Ok(()));
        }
    }
}
