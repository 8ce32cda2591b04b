//! The invariant of the memory of openings.

use super::Source;
use crate::{
    MAX_CLOCK_SKEW_SECS, Secrets, UserIndex,
    replay::{Refused, Replay},
};

/// An opening that passed.
struct Seen {
    auth_id: [u8; 16],
    time: u64,
    user: UserIndex,
    secrets: Secrets,
}

/// Any sequence of openings at any times: no auth ID ever passes twice, wherever the clock jumps; and as long
/// as it does not jump back, no key passes twice and what was not seen always passes.
pub fn replay_agrees_with_a_naive_model(data: &[u8]) {
    let mut source = Source(data);
    let (mut replay, mut seen) = (Replay::new(), Vec::<Seen>::new());
    let (mut now, mut monotonic) = (1_700_000_000_u64, true);
    while !source.0.is_empty() {
        match source.byte() % 8 {
            0 => now += u64::from(source.byte()),
            1 => now += u64::from(source.byte()) % 4,
            2 if source.byte() < 16 => {
                now -= u64::from(source.byte()) * 4;
                monotonic = false;
            }
            _ => {}
        }
        let time = now - MAX_CLOCK_SKEW_SECS + u64::from(source.byte()) % (2 * MAX_CLOCK_SKEW_SECS + 1);
        // Few enough different ones that they meet.
        let [which, body] = source.array::<2>().map(|byte| byte % 3);
        let user = UserIndex(usize::from(which % 2));
        let mut auth_id = [which; 16];
        auth_id[..8].copy_from_slice(&(time / 7).to_be_bytes());
        let time = time / 7 * 7;
        if time.abs_diff(now) > MAX_CLOCK_SKEW_SECS {
            continue;
        }
        let mut secrets = Secrets { body_key: [body; 16], body_iv: auth_id, response_auth: which };
        secrets.body_iv[..8].copy_from_slice(&(now / 64).to_be_bytes());

        let known_id = seen.iter().any(|old| old.auth_id == auth_id);
        let body = |old: &&Seen| old.user == user && old.secrets == secrets;
        let known_body = seen.iter().filter(body).any(|old| old.time + MAX_CLOCK_SKEW_SECS >= now);
        let forgotten_body = seen.iter().find(body).is_some() && !known_body;
        let checked = replay.check(&auth_id, time);
        let recorded = replay.record(&auth_id, time, user, &secrets, now);
        assert!(!(known_id && (checked.is_ok() || recorded.is_ok())), "an auth ID passed twice");
        assert!(!(monotonic && known_body && recorded.is_ok()), "a key passed twice");
        if monotonic && !known_id {
            assert_eq!(checked, Ok(()), "a fresh auth ID was refused");
            if !known_body && !forgotten_body {
                assert_eq!(recorded, Ok(()), "a fresh opening was refused");
            }
        }
        assert_ne!(recorded, Err(Refused::Full));
        if recorded.is_ok() {
            seen.push(Seen { auth_id, time, user, secrets });
        }
        assert!(replay.len() <= seen.len(), "counts more than it saw");
    }
}
