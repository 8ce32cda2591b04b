//! UDP through SOCKS 5 UDP ASSOCIATE.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use support::{
    apps::{Association, Target},
    config::{Early, Link, Tls},
    node::{Kind, Pair},
    origin::{UdpEcho, pattern},
    pairs,
};

pairs![
    packets_of_every_size_come_back,
    one_association_reaches_several_targets,
    a_domain_target_is_reached,
    packets_pass_over_tls_and_early_data,
];

fn packets_of_every_size_come_back(pair: Pair) {
    let origin = UdpEcho::start();
    for security in ["aes-128-gcm", "chacha20-poly1305"] {
        let (_server, client) = pair.start(&Link { security, ..Link::default() });
        let association = Association::open(client.socks).unwrap();
        // V2Ray drops an answer that does not fit into 2048 bytes with everything around it.
        for length in [1, 100, 1400, 1900] {
            let payload = pattern(length, length);
            let answer = association.round_trip(origin.address.into(), &payload);
            assert!(
                answer.as_ref().is_ok_and(|a| *a == payload),
                "{security}, {length} bytes: {:?}",
                answer.err()
            );
        }
    }
}

fn one_association_reaches_several_targets(pair: Pair) {
    let origins = [UdpEcho::start(), UdpEcho::start(), UdpEcho::start()];
    let (_server, client) = pair.start(&Link::default());
    let association = Association::open(client.socks).unwrap();
    for round in 0..3 {
        for origin in &origins {
            let payload = format!("round {round} to {}", origin.address).into_bytes();
            let answer = association.round_trip(origin.address.into(), &payload).unwrap();
            assert_eq!(String::from_utf8_lossy(&answer), String::from_utf8_lossy(&payload));
        }
    }
}

fn a_domain_target_is_reached(pair: Pair) {
    let origin = UdpEcho::start();
    let (_server, client) = pair.start(&Link::default());
    let association = Association::open(client.socks).unwrap();
    let target = Target::Name("localhost", origin.address.port());
    assert_eq!(association.round_trip(target, b"by name").unwrap(), b"by name");
}

fn packets_pass_over_tls_and_early_data(pair: Pair) {
    let header = Early::Header("Sec-WebSocket-Protocol", 2048);
    // V2Ray 4.34 knows no early data.
    let early = if pair.has(Kind::V2Ray434) { Early::None } else { header };
    let origin = UdpEcho::start();
    let (_server, client) = pair.start(&Link { tls: Tls::On, early, ..Link::default() });
    let association = Association::open(client.socks).unwrap();
    assert_eq!(association.round_trip(origin.address.into(), b"over TLS").unwrap(), b"over TLS");
}

#[test]
fn a_large_packet_passes_between_wsray_and_wsray() {
    let origin = UdpEcho::start();
    let (_server, client) = Pair { client: Kind::Wsray, server: Kind::Wsray }.start(&Link::default());
    let association = Association::open(client.socks).unwrap();
    let payload = pattern(9000, 1);
    assert!(association.round_trip(origin.address.into(), &payload).is_ok_and(|answer| answer == payload));
}
