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
/// 100,000 openings take about 4.5 MiB. It lives in memory only: see [`Replay::starting_at`].
#[derive(Default)]
pub struct Replay {
    generations: [Generation; 3],
    /// Openings made at this time or before may have been forgotten, and are refused.
    forgotten: Option<u64>,
    len: usize,
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

/// At most this many openings are remembered, which bounds [`Replay`] to about 70 MiB. More than 7,600
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
        Self::default()
    }

    /// Nothing seen yet, and openings dated 2 s or more before `now` (Unix seconds) are refused, since an
    /// earlier process may have seen them. So a client whose clock is behind by `d` s is refused for the
    /// first `d` s.
    pub fn starting_at(now: u64) -> Self {
        Self { forgotten: now.checked_sub(2), ..Self::default() }
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
        if self.len >= MAX_REPLAY_ENTRIES {
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
