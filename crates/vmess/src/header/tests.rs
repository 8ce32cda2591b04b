use super::*;
use crate::{
    UserId,
    vectors::{bytes, number, protection, secrets, text, vectors},
};
use serde_json::Value;

/// The user and the time of all header vectors.
const ID: &str = "b831381d-6324-4d53-ad4f-8cda48b30811";
const TIME: u64 = 1_700_000_000;

fn id() -> UserId {
    ID.parse().unwrap()
}

fn users() -> Users {
    Users::new([UserId::from_bytes([0; 16]), id()])
}

fn entropy(case: &Value) -> HeaderEntropy {
    let given = bytes(&case["padding"]);
    let mut padding = [0; 15];
    padding[..given.len()].copy_from_slice(&given);
    HeaderEntropy {
        auth_random: [0xde, 0xad, 0xbe, 0xef],
        nonce: bytes(&case["connection_nonce"]).try_into().unwrap(),
        padding_len: given.len().try_into().unwrap(),
        padding,
    }
}

fn request(case: &Value) -> Request {
    let (security, options) = protection(case).unwrap();
    let target =
        |case: &Value| Target { address: text(&case["host"]).parse().unwrap(), port: number(&case["port"]) };
    let command = match case["command"].as_u64().unwrap() {
        1 => Command::Tcp(target(case)),
        2 => Command::Udp(target(case)),
        3 => Command::Mux,
        other => panic!("command {other}"),
    };
    Request { secrets: secrets(case), options, security, command }
}

#[test]
fn requests_are_the_vectors_at_every_split() {
    for case in vectors("headers")["request_header"].as_array().unwrap() {
        let request = request(case);
        let sealed = bytes(&case["sealed"]);
        let made = seal_request(&CmdKey::new(&id()), &request, &entropy(case), TIME).unwrap();
        assert_eq!(made, sealed, "{}", case["name"]);

        let (users, mut replay, mut opener) = (users(), Replay::new(), RequestOpener::new());
        for cut in 0..sealed.len() {
            let step = opener.open(&sealed[..cut], &users, &mut replay, TIME);
            assert_eq!(step, Ok(Step::NeedMore), "{} {cut}", case["name"]);
        }
        assert!(replay.is_empty());
        let longer = [sealed.as_slice(), &[1; 9]].concat();
        let done = Step::Done { used: sealed.len(), value: (UserIndex(1), request) };
        assert_eq!(opener.open(&longer, &users, &mut replay, TIME), Ok(done));
        assert_eq!(replay.len(), 1);
        assert_eq!(open_request(&longer, &users, &mut replay, TIME), Err(HeaderError::Replay));
    }
}

fn sample() -> Request {
    request(&vectors("headers")["request_header"][0])
}

/// A header with this request, made at `now` with these bytes as randomness.
fn sealed(request: &Request, random: u8, now: u64) -> Vec<u8> {
    let entropy = HeaderEntropy::from_random([random; 28]);
    seal_request(&CmdKey::new(&id()), request, &entropy, now).unwrap()
}

fn fresh() -> (Users, Replay) {
    (users(), Replay::new())
}

#[test]
fn a_clock_may_differ_by_120_seconds_and_no_more() {
    for (seconds, passes) in
        [(-119, true), (119, true), (-120, true), (120, true), (-121, false), (121, false), (100_000, false)]
    {
        let (users, mut replay) = fresh();
        let wire = sealed(&sample(), 1, TIME.saturating_add_signed(seconds));
        let opened = open_request(&wire, &users, &mut replay, TIME);
        assert_eq!(opened.is_ok(), passes, "{seconds}");
        // 16 bytes are enough to tell.
        let early = open_request(&wire[..16], &users, &mut Replay::new(), TIME);
        let expected = if passes { Ok(Step::NeedMore) } else { Err(HeaderError::ClockSkew { seconds }) };
        assert_eq!(early, expected);
        assert_eq!(replay.len(), usize::from(passes));
    }
    let text = HeaderError::ClockSkew { seconds: -300 }.to_string();
    assert!(text.starts_with("the client's clock is 300 s behind ours"), "{text}");
    let text = HeaderError::ClockSkew { seconds: 121 }.to_string();
    assert!(text.starts_with("the client's clock is 121 s ahead of ours"), "{text}");
}

#[test]
fn absurd_times_are_refused() {
    for time in [0, u64::from(u32::MAX) * 200, 1 << 39] {
        let (users, mut replay) = fresh();
        let opened = open_request(&sealed(&sample(), 1, time), &users, &mut replay, TIME);
        assert!(matches!(opened, Err(HeaderError::ClockSkew { .. })), "{time}: {opened:?}");
    }
    for time in [1 << 40, u64::MAX, i64::MIN.cast_unsigned(), (-1_i64).cast_unsigned()] {
        let (users, mut replay) = fresh();
        let opened = open_request(&sealed(&sample(), 1, time), &users, &mut replay, TIME);
        assert_eq!(opened, Err(HeaderError::UnknownUser), "{time}");
    }
}

#[test]
fn a_stranger_is_told_from_16_bytes() {
    let (_, mut replay) = fresh();
    let strangers = Users::new([UserId::from_bytes([0; 16])]);
    let wire = sealed(&sample(), 1, TIME);
    assert_eq!(open_request(&wire[..15], &strangers, &mut replay, TIME), Ok(Step::NeedMore));
    assert_eq!(open_request(&wire[..16], &strangers, &mut replay, TIME), Err(HeaderError::UnknownUser));
    assert_eq!(open_request(&wire, &Users::default(), &mut replay, TIME), Err(HeaderError::UnknownUser));
}

#[test]
fn a_header_damaged_anywhere_is_refused_and_not_recorded() {
    let wire = sealed(&sample(), 1, TIME);
    let (users, mut replay) = fresh();
    for at in 0..wire.len() {
        let mut damaged = wire.clone();
        damaged[at] ^= 0x10;
        let expected = if at < 16 { HeaderError::UnknownUser } else { HeaderError::Tag };
        assert_eq!(open_request(&damaged, &users, &mut replay, TIME), Err(expected), "{at}");
    }
    assert!(replay.is_empty());
    // So none of the damaged copies keeps the real one out.
    assert!(matches!(open_request(&wire, &users, &mut replay, TIME), Ok(Step::Done { .. })));
}

#[test]
fn an_auth_id_is_refused_the_second_time_whatever_follows_it() {
    let (users, mut replay) = fresh();
    let wire = sealed(&sample(), 1, TIME);
    // A copy of the first bytes is under way before the real one.
    let mut racing = RequestOpener::new();
    assert_eq!(racing.open(&wire[..20], &users, &mut replay, TIME), Ok(Step::NeedMore));
    assert!(matches!(open_request(&wire, &users, &mut replay, TIME), Ok(Step::Done { .. })));
    assert_eq!(racing.open(&wire, &users, &mut replay, TIME), Err(HeaderError::Replay));
    let other = [&wire[..16], &[7; 200]].concat();
    for copy in [&wire, &wire[..16], &other] {
        assert_eq!(open_request(copy, &users, &mut replay, TIME + 120), Err(HeaderError::Replay));
    }
}

#[test]
fn a_key_is_refused_under_a_fresh_auth_id() {
    let (users, mut replay) = fresh();
    let mut request = sample();
    assert!(open_request(&sealed(&request, 1, TIME), &users, &mut replay, TIME).is_ok());
    let again = sealed(&request, 2, TIME);
    assert_eq!(open_request(&again, &users, &mut replay, TIME), Err(HeaderError::Replay));
    request.secrets.body_iv[0] ^= 1;
    assert!(open_request(&sealed(&request, 3, TIME), &users, &mut replay, TIME).is_ok());
}

/// Else a copy could wait until its auth ID is forgotten.
#[test]
fn the_clock_is_looked_at_again_when_the_header_is_whole() {
    let (users, mut replay) = fresh();
    let wire = sealed(&sample(), 1, TIME);
    let mut slow = RequestOpener::new();
    assert_eq!(slow.open(&wire[..60], &users, &mut replay, TIME + 100), Ok(Step::NeedMore));
    let late = slow.open(&wire, &users, &mut replay, TIME + 121);
    assert_eq!(late, Err(HeaderError::ClockSkew { seconds: -121 }));
}

#[test]
fn a_user_is_identified_without_the_replay_memory() {
    let (users, mut replay) = fresh();
    let wire = sealed(&sample(), 1, TIME);
    let mut opener = RequestOpener::new();
    assert_eq!(opener.identify(&wire[..15], &users, TIME), Ok(None));
    assert_eq!(opener.identify(&wire[..16], &users, TIME), Ok(Some(UserIndex(1))));
    assert!(matches!(opener.open(&wire, &users, &mut replay, TIME), Ok(Step::Done { .. })));
}

/// Opens a plaintext that a holder of the key made.
fn open_plain(plain: &[u8]) -> Result<Step<(UserIndex, Request)>, HeaderError> {
    let (users, mut replay) = fresh();
    let key = CmdKey::new(&id());
    let wire = seal_plain(&key, plain, key.auth_id(TIME, [9; 4]), [8; 8]).unwrap();
    open_request(&wire, &users, &mut replay, TIME)
}

/// The first vector's plaintext, changed and with the sum put right.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Result<Step<(UserIndex, Request)>, HeaderError> {
    let mut plain = bytes(&vectors("headers")["request_header"][0]["plain"]);
    plain.truncate(plain.len() - 4);
    change(&mut plain);
    plain.extend(fnv1a(&plain).to_be_bytes());
    open_plain(&plain)
}

#[test]
fn every_field_of_the_header_is_checked() {
    assert!(changed(|_| ()).is_ok());
    for found in [0, 2, 255] {
        assert_eq!(changed(|plain| plain[0] = found), Err(HeaderError::Version { found }));
    }
    for found in [0, 1, 2, 6, 7, 15] {
        assert_eq!(changed(|plain| plain[35] = found), Err(HeaderError::Security { found }));
    }
    for found in [0, 4, 255] {
        assert_eq!(changed(|plain| plain[37] = found), Err(HeaderError::Command { found }));
    }
    assert_eq!(changed(|plain| plain[34] = 0x09), Err(HeaderError::PaddingWithoutMasking));
    // The reserved byte and the obsolete option mean nothing.
    assert!(changed(|plain| plain[36] = 255).is_ok());
    assert!(changed(|plain| plain[34] |= 2).is_ok());
    let target = |change: fn(&mut Vec<u8>)| match changed(change) {
        Err(HeaderError::Target(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(target(|plain| plain[40] = 4), TargetError::Kind { found: 4 });
    assert_eq!(target(|plain| plain[41] = 0), TargetError::Address(crate::AddressError::Empty));
    assert_eq!(target(|plain| plain[42] = b' '), TargetError::Address(crate::AddressError::Domain));
    assert_eq!(target(|plain| plain.truncate(48)), TargetError::Short);
}

#[test]
fn sum_and_lengths_are_checked() {
    let plain = bytes(&vectors("headers")["request_header"][0]["plain"]);
    for at in 0..plain.len() {
        let mut damaged = plain.clone();
        damaged[at] ^= 0x40;
        assert!(open_plain(&damaged).is_err(), "{at}");
    }
    let mut damaged = plain.clone();
    damaged[5] ^= 1;
    assert_eq!(open_plain(&damaged), Err(HeaderError::Sum));
    for cut in 0..plain.len() {
        assert!(open_plain(&plain[..cut]).is_err(), "{cut}");
    }
    // What stands behind the sum is ignored, as all peers do, up to the limit.
    let longer = |len| open_plain(&[plain.as_slice(), &vec![1; len - plain.len()]].concat());
    assert!(longer(MAX_HEADER_LEN).is_ok());
    for found in [MAX_HEADER_LEN + 1, 65_520, 65_535] {
        assert_eq!(longer(found), Err(HeaderError::TooLong { found }));
    }
}

#[test]
fn debug_and_errors_show_no_secret() {
    let request = sample();
    let shown = format!("{request:?} {:?}", HeaderEntropy::from_random([0x77; 28]));
    assert!(shown.contains("example.com") && shown.contains("Secrets(…)"), "{shown}");
    for secret in ["101112", "16, 17, 18", "48, 49, 50", "0x77", "119"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
