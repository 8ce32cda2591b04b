//! The heartbeat on an invented clock.

use std::num::NonZeroU32;

use wsray_config::Heartbeat as Wanted;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn every(seconds: u32) -> Wanted {
    Wanted::Every(NonZeroU32::new(seconds).unwrap())
}

/// Beats until the peer is given up, at most `most` times, with `between` before each; after how many seconds.
fn dead_after(
    wanted: Wanted,
    most: u32,
    mut between: impl FnMut(&mut Heartbeat, u32) -> Link,
) -> Option<u64> {
    let start = Instant::now();
    let mut heartbeat = Heartbeat::new(wanted, start);
    for beat in 1..=most {
        let now = heartbeat.next(start).unwrap();
        let link = between(&mut heartbeat, beat);
        if let Beat::Dead { .. } = heartbeat.beat(now, link) {
            return Some(now.duration_since(start).as_secs());
        }
    }
    None
}

#[test]
fn silent_peer_is_given_up_after_three_pings_and_75_seconds() {
    let silent = |_: &mut Heartbeat, _| Link::Listening;
    assert_eq!(dead_after(Wanted::WhenIdle, 100, silent), Some(100));
    assert_eq!(dead_after(every(1), 100, silent), Some(76));
    assert_eq!(dead_after(every(60), 100, silent), Some(240));
}

#[test]
fn any_byte_is_an_answer() {
    let answers = |heartbeat: &mut Heartbeat, beat: u32| {
        if beat.is_multiple_of(3) {
            heartbeat.heard();
        }
        Link::Listening
    };
    assert_eq!(dead_after(Wanted::WhenIdle, 1000, answers), None);
    let once = |heartbeat: &mut Heartbeat, beat| {
        if beat == 2 {
            heartbeat.heard();
        }
        Link::Listening
    };
    assert_eq!(dead_after(Wanted::WhenIdle, 100, once), Some(125));
}

#[test]
fn silence_does_not_count_while_an_answer_cannot_be_had() {
    for link in [Link::Writing, Link::Unread] {
        assert_eq!(dead_after(Wanted::WhenIdle, 1000, |_, _| link), None, "{link:?}");
    }
    // The count starts anew behind it.
    let unread_once = |_: &mut Heartbeat, beat| if beat == 3 { Link::Unread } else { Link::Listening };
    assert_eq!(dead_after(Wanted::WhenIdle, 100, unread_once), Some(150));
}

#[test]
fn silence_does_not_count_behind_much_that_a_slow_link_may_still_hold() {
    let uploaded = |bytes| {
        move |heartbeat: &mut Heartbeat, beat| {
            if beat == 1 {
                heartbeat.sent(bytes);
            }
            Link::Listening
        }
    };
    assert_eq!(dead_after(Wanted::WhenIdle, 1000, uploaded(64 * 1024)), Some(100));
    assert_eq!(dead_after(Wanted::WhenIdle, 1000, uploaded(64 * 1024 + 1)), None);
    // Bytes that come prove nothing about ours, a pong does.
    let trickle = |pong: bool| {
        move |heartbeat: &mut Heartbeat, beat| {
            if beat == 1 {
                heartbeat.sent(4 << 20);
            }
            if beat == 4 {
                heartbeat.heard();
                if pong {
                    heartbeat.ponged();
                }
            }
            Link::Listening
        }
    };
    assert_eq!(dead_after(Wanted::WhenIdle, 1000, trickle(false)), None);
    assert_eq!(dead_after(Wanted::WhenIdle, 1000, trickle(true)), Some(175));
}

#[test]
fn pong_proves_nothing_about_what_was_sent_behind_its_ping() {
    let burst_behind_ping = |heartbeat: &mut Heartbeat, beat| {
        if beat == 2 {
            heartbeat.sent(4 << 20);
            heartbeat.heard();
            heartbeat.ponged();
        }
        Link::Listening
    };
    assert_eq!(dead_after(Wanted::WhenIdle, 1000, burst_behind_ping), None);
}

#[test]
fn only_the_idle_are_pinged_by_default() {
    let start = Instant::now();
    let mut heartbeat = Heartbeat::new(Wanted::WhenIdle, start);
    assert_eq!(heartbeat.next(start), Some(start + 25 * SECOND));
    assert_eq!(heartbeat.next(start + 10 * SECOND), Some(start + 35 * SECOND));
    heartbeat.answered(start + 20 * SECOND);
    assert_eq!(heartbeat.next(start + 10 * SECOND), Some(start + 45 * SECOND));
    assert_eq!(heartbeat.beat(start + 45 * SECOND, Link::Listening), Beat::Ping);
    assert_eq!(heartbeat.next(start + 10 * SECOND), Some(start + 70 * SECOND));
}

#[test]
fn fixed_rhythm_is_kept_whatever_moves() {
    let start = Instant::now();
    let mut heartbeat = Heartbeat::new(every(10), start);
    heartbeat.answered(start + 5 * SECOND);
    assert_eq!(heartbeat.next(start + 9 * SECOND), Some(start + 10 * SECOND));
    assert_eq!(heartbeat.beat(start + 10 * SECOND, Link::Writing), Beat::Wait);
    assert_eq!(heartbeat.next(start + 19 * SECOND), Some(start + 20 * SECOND));
}

#[test]
fn switched_off_it_never_wakes() {
    let now = Instant::now();
    assert_eq!(Heartbeat::new(Wanted::Off, now).next(now), None);
}

#[test]
fn costs_32_bytes() {
    assert!(size_of::<Heartbeat>() <= 32);
}
