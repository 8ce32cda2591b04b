//! VMess headers: what a session costs before its first byte, and the search for its user.

use std::hint::black_box;

use wsray_vmess::{
    Address, CmdKey, HeaderEntropy, Replay, RequestOpener, Security, Step, Target, UserId, Users,
    open_request, open_response, seal_request, seal_response,
};

use crate::{Case, Turn, body::request, done};

const NOW: u64 = 1_700_000_000;

const USERS: [u32; 3] = [1, 1_000, 10_000];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("header_seal", 0, || {
            let (key, request) = (CmdKey::new(&id(0)), request(Security::Aes128Gcm, target()));
            Box::new(move || {
                black_box(done(seal_request(&key, black_box(&request), &entropy(), NOW)));
            })
        }),
        Case::new("header_open", 0, opening),
        Case::new("response_seal", 0, || {
            let request = request(Security::Aes128Gcm, target());
            Box::new(move || {
                black_box(done(seal_response(black_box(&request.secrets), 0)));
            })
        }),
        Case::new("response_open", 0, || {
            let request = request(Security::Aes128Gcm, target());
            let wire = done(seal_response(&request.secrets, 0));
            Box::new(move || {
                black_box(done(open_response(black_box(&wire), &request.secrets)));
            })
        }),
    ];
    for count in USERS {
        cases.push(Case::new(format!("user_known_of_{count}"), 0, move || searching(count, count / 2)));
        cases.push(Case::new(format!("user_unknown_of_{count}"), 0, move || searching(count, count)));
    }
    cases
}

pub(crate) fn target() -> Target {
    Target { address: Address::Ip([192, 0, 2, 1].into()), port: 443 }
}

fn id(number: u32) -> UserId {
    let mut bytes = [7; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    UserId::from_bytes(bytes)
}

fn entropy() -> HeaderEntropy {
    HeaderEntropy::from_random([4; 28])
}

fn sealed(user: u32) -> Vec<u8> {
    done(seal_request(&CmdKey::new(&id(user)), &request(Security::Aes128Gcm, target()), &entropy(), NOW))
}

/// With a memory of openings that holds nothing: the same opening must pass each time.
fn opening() -> Turn {
    let (wire, users) = (sealed(0), Users::new([id(0)]));
    Box::new(move || {
        let opened = done(open_request(black_box(&wire), &users, &mut Replay::new(), NOW));
        assert!(matches!(opened, Step::Done { .. }), "a header did not open");
    })
}

/// User number `user` among the users from 0 to `count - 1`.
fn searching(count: u32, user: u32) -> Turn {
    let (wire, users) = (sealed(user), Users::new((0..count).map(id)));
    Box::new(move || {
        let found = RequestOpener::new().identify(black_box(&wire), &users, NOW);
        assert_eq!(found.is_ok(), user < count, "the wrong user was found");
    })
}
