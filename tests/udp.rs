//! UDP through SOCKS 5 UDP ASSOCIATE.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use serde_json::json;
use support::{
    apps::{Association, Target},
    config::{Early, Link, Tls},
    dns::{NameServer, Reply},
    free_port,
    node::{Client, Kind, Node, Pair, Server},
    origin::{UdpEcho, pattern},
    pairs, within,
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

/// How packets to many targets travel, where one association has one source towards all of them.
mod full_cone {
    use super::{Encoding, Pair, skip_unless_here};
    use crate::support::{
        config::{Link, Tls},
        node::Kind::*,
    };

    macro_rules! encodings {
        ($($(#[$attribute:meta])? $name:ident: $client:expr => $server:expr, $encoding:expr;)+) => {
            $(
                $(#[$attribute])?
                mod $name {
                    use super::*;

                    const PAIR: Pair = Pair { client: $client, server: $server };

                    #[test]
                    fn all_targets_see_one_source_and_strangers_may_answer() {
                        skip_unless_here!(PAIR);
                        crate::all_targets_see_one_source_and_strangers_may_answer(PAIR, $encoding);
                    }

                    #[test]
                    fn a_thousand_packets_come_back_from_several_targets() {
                        skip_unless_here!(PAIR);
                        crate::a_thousand_packets_come_back(PAIR, $encoding, &Link::default());
                    }

                    #[test]
                    fn a_thousand_packets_come_back_over_tls() {
                        skip_unless_here!(PAIR);
                        crate::a_thousand_packets_come_back(PAIR, $encoding, &Link { tls: Tls::On, ..Link::default() });
                    }
                }
            )+
        };
    }

    encodings![
        wsray_to_wsray_by_xudp: Wsray => Wsray, Encoding::Xudp;
        wsray_to_wsray_by_packet_addr: Wsray => Wsray, Encoding::PacketAddr;
        wsray_to_sing_box_by_xudp: Wsray => SingBox, Encoding::Xudp;
        wsray_to_sing_box_by_packet_addr: Wsray => SingBox, Encoding::PacketAddr;
        sing_box_to_wsray_by_xudp: SingBox => Wsray, Encoding::Xudp;
        sing_box_to_wsray_by_packet_addr: SingBox => Wsray, Encoding::PacketAddr;
        #[cfg(feature = "local-peers")]
        wsray_to_xray_by_xudp: Wsray => Xray, Encoding::Xudp;
        #[cfg(feature = "local-peers")]
        xray_to_wsray_by_xudp: Xray => Wsray, Encoding::Xudp;
        #[cfg(feature = "local-peers")]
        wsray_to_v2ray_5_by_packet_addr: Wsray => V2Ray5, Encoding::PacketAddr;
        #[cfg(feature = "local-peers")]
        v2ray_5_to_wsray_by_packet_addr: V2Ray5 => Wsray, Encoding::PacketAddr;
    ];
}

/// The same where each target has a session of its own.
mod a_session_each {
    use super::{Encoding, Pair, skip_unless_here};
    use crate::support::{
        config::{Link, Tls},
        node::Kind::*,
    };

    macro_rules! pairs {
        ($($(#[$attribute:meta])? $name:ident: $client:expr => $server:expr, $encoding:expr;)+) => {
            $(
                $(#[$attribute])?
                #[test]
                fn $name() {
                    let pair = Pair { client: $client, server: $server };
                    skip_unless_here!(pair);
                    for tls in [Tls::Off, Tls::On] {
                        crate::a_thousand_packets_come_back(pair, $encoding, &Link { tls, ..Link::default() });
                    }
                }
            )+
        };
    }

    pairs![
        a_thousand_packets_come_back_from_wsray_to_wsray: Wsray => Wsray, Encoding::None;
        a_thousand_packets_come_back_from_wsray_to_sing_box: Wsray => SingBox, Encoding::None;
        a_thousand_packets_come_back_from_wsray_to_v2ray: Wsray => V2Ray445, Encoding::None;
        a_thousand_packets_come_back_from_sing_box_to_wsray: SingBox => Wsray, Encoding::None;
        a_thousand_packets_come_back_from_v2ray_to_wsray: V2Ray445 => Wsray, Encoding::None;
        a_thousand_packets_come_back_from_wsray_to_wsray_by_mux: Wsray => Wsray, Encoding::Mux;
        a_thousand_packets_come_back_from_wsray_to_v2ray_by_mux: Wsray => V2Ray445, Encoding::Mux;
        a_thousand_packets_come_back_from_v2ray_to_wsray_by_mux: V2Ray445 => Wsray, Encoding::Mux;
        #[cfg(feature = "local-peers")]
        a_thousand_packets_come_back_from_wsray_to_v2ray_5: Wsray => V2Ray5, Encoding::None;
        #[cfg(feature = "local-peers")]
        a_thousand_packets_come_back_from_wsray_to_v2ray_5_by_mux: Wsray => V2Ray5, Encoding::Mux;
        #[cfg(feature = "local-peers")]
        a_thousand_packets_come_back_from_v2ray_5_to_wsray: V2Ray5 => Wsray, Encoding::None;
        #[cfg(feature = "local-peers")]
        a_thousand_packets_come_back_from_v2ray_5_to_wsray_by_mux: V2Ray5 => Wsray, Encoding::Mux;
        #[cfg(feature = "local-peers")]
        a_thousand_packets_come_back_from_wsray_to_xray: Wsray => Xray, Encoding::None;
        #[cfg(feature = "local-peers")]
        a_thousand_packets_come_back_from_wsray_to_xray_by_mux: Wsray => Xray, Encoding::Mux;
        #[cfg(feature = "local-peers")]
        a_thousand_packets_come_back_from_xray_to_wsray: Xray => Wsray, Encoding::None;
        #[cfg(feature = "local-peers")]
        a_thousand_packets_come_back_from_xray_to_wsray_by_mux: Xray => Wsray, Encoding::Mux;
    ];
}

macro_rules! skip_unless_here {
    ($pair:expr) => {
        if let Some(reason) = $pair.missing() {
            crate::support::skip!(reason);
        }
    };
}
pub(crate) use skip_unless_here;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    None,
    Mux,
    Xudp,
    PacketAddr,
}

impl Encoding {
    fn start(self, pair: Pair, link: &Link) -> (Server, Client) {
        let server = Server::start(pair.server, link);
        let client = Client::start_with(pair.client, link, server.port, |config| match (pair.client, self) {
            (Kind::SingBox, Self::Xudp) => config["outbounds"][0]["packet_encoding"] = json!("xudp"),
            (Kind::SingBox, Self::PacketAddr) => {
                config["outbounds"][0]["packet_encoding"] = json!("packetaddr");
            }
            (_, Self::None) => {}
            (_, Self::Mux) => config["outbounds"][0]["mux"] = json!({ "enabled": true }),
            (_, Self::Xudp) => {
                config["outbounds"][0]["mux"] =
                    json!({ "enabled": true, "concurrency": -1, "xudpConcurrency": 1 });
            }
            (_, Self::PacketAddr) => {
                config["inbounds"][0]["settings"]["packetEncoding"] = json!("Packet");
            }
        });
        (server, client)
    }
}

/// As a STUN server, it answers whom it sees.
fn whom_it_sees(ip: IpAddr) -> SocketAddr {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            drop(socket.send_to(from.to_string().as_bytes(), from));
        }
    });
    address
}

fn all_targets_see_one_source_and_strangers_may_answer(pair: Pair, encoding: Encoding) {
    let localhost = IpAddr::from([127, 0, 0, 1]);
    let (_server, client) = encoding.start(pair, &Link::default());
    let association = Association::open(client.socks).unwrap();
    let mut seen = Vec::new();
    for server in [whom_it_sees(localhost), whom_it_sees(localhost)] {
        association.send(server.into(), b"who am I").unwrap();
        let (answer, from) = association.receive().unwrap();
        assert_eq!(from, server.to_string());
        seen.push(String::from_utf8(answer).unwrap());
    }
    assert_eq!(seen[0], seen[1], "the two targets see the same source");
    let stranger = UdpSocket::bind((localhost, 0)).unwrap();
    let source: SocketAddr = seen[0].parse().unwrap();
    stranger.send_to(b"from a stranger", source).unwrap();
    let stranger = stranger.local_addr().unwrap().to_string();
    assert_eq!(association.receive().unwrap(), (b"from a stranger".to_vec(), stranger));
    let other = Association::open(client.socks).unwrap();
    let server = whom_it_sees(localhost);
    let answer = other.round_trip(server.into(), b"who am I").unwrap();
    assert_ne!(String::from_utf8(answer).unwrap(), seen[0], "another association has another source");
}

fn a_thousand_packets_come_back(pair: Pair, encoding: Encoding, link: &Link) {
    let (_server, client) = encoding.start(pair, link);
    let association = Association::open(client.socks).unwrap();
    let origins: Vec<_> = (0..3).map(|_| UdpEcho::start()).collect();
    let v6 = UdpEcho::start_v6();
    let mut targets: Vec<Target> = origins.iter().map(|origin| origin.address.into()).collect();
    targets.push(v6.address.into());
    // sing-box and V2Ray 5 put no names into packetaddr, and look none up.
    if pair.client == Kind::Wsray || encoding != Encoding::PacketAddr {
        targets.push(Target::Name("localhost", origins[0].address.port()));
    }
    // The first way to a target is found while further packets wait.
    for target in &targets {
        assert_eq!(association.round_trip(*target, b"first").unwrap(), b"first", "{target}");
    }
    // V2Ray 4 carries no more than 2048 bytes with everything around them.
    let few = [Kind::V2Ray445, Kind::V2Ray5, Kind::Xray];
    let large = if few.into_iter().any(|kind| pair.has(kind)) { 1900 } else { 8192 };
    let sizes = (0..1000).map(|n| 1 + n * 7 % 1400).chain([large; 6]);
    let packets: Vec<_> = sizes.zip(0..).map(|(size, seed)| pattern(size, seed)).collect();
    // A V2Ray client drops what it has not sent on when 16 KiB wait (v2fly/v2ray-core
    // `app/proxyman/inbound/worker.go`, `getConnection`).
    let burst = if pair.client == Kind::Wsray { 16 } else { 8 };
    for (chunk, first) in packets.chunks(burst).zip((0..).step_by(burst)) {
        for (packet, n) in chunk.iter().zip(first..) {
            association.send(targets[n % targets.len()], packet).unwrap();
        }
        let mut missing: Vec<_> = chunk.iter().collect();
        while !missing.is_empty() {
            let (answer, _) = association
                .receive()
                .unwrap_or_else(|error| panic!("{error}: {} of {} lost", missing.len(), chunk.len()));
            let at = missing.iter().position(|packet| **packet == answer).expect("a packet that was sent");
            missing.swap_remove(at);
        }
    }
}

#[test]
fn an_association_serves_64_sockets_and_no_more() {
    let pair = Pair { client: Kind::Wsray, server: Kind::Wsray };
    let (_server, client) = pair.start(&Link::default());
    let association = Association::open(client.socks).unwrap();
    let origin = UdpEcho::start();
    let sockets: Vec<_> =
        (0..64).map(|_| association.another_socket(Duration::from_secs(3)).unwrap()).collect();
    for socket in &sockets {
        assert_eq!(socket.round_trip(origin.address.into(), b"first").unwrap(), b"first");
    }
    let late = association.another_socket(Duration::from_millis(300)).unwrap();
    assert!(late.round_trip(origin.address.into(), b"late").is_err(), "the 65th is served");
    for socket in &sockets {
        assert_eq!(socket.round_trip(origin.address.into(), b"again").unwrap(), b"again");
    }
}

/// Without XUDP every target has a connection to the server.
#[test]
fn a_session_has_256_ways_out_and_no_more() {
    let pair = Pair { client: Kind::Wsray, server: Kind::Wsray };
    let (_server, client) = pair.start(&Link::default());
    let association = Association::open(client.socks).unwrap();
    let target = || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket
    };
    // UDP may lose a packet.
    let gets = |target: &UdpSocket, text: &[u8; 5], tries: usize| {
        (0..tries).any(|_| {
            association.send(target.local_addr().unwrap().into(), text).unwrap();
            let mut got = [0; 5];
            target.recv(&mut got).is_ok() && &got == text
        })
    };
    let targets: Vec<UdpSocket> = (0..256).map(|_| target()).collect();
    for (number, target) in targets.iter().enumerate() {
        assert!(gets(target, b"first", 3), "target {number} is not reached");
    }
    assert!(!gets(&target(), b"late.", 1), "the 257th is reached");
    for target in [&targets[0], &targets[255]] {
        assert!(gets(target, b"again", 3));
    }
}

#[test]
fn a_session_waits_for_the_addresses_of_256_names_and_no_more() {
    let names = NameServer::start(|_, _| Reply::silent());
    let port = free_port();
    let config = json!({
        "inbounds": [{ "port": port, "listen": "127.0.0.1", "protocol": "socks", "settings": { "udp": true } }],
        "outbounds": [{ "protocol": "freedom", "settings": { "domainStrategy": "UseIPv4" } }],
        "dns": { "servers": [{ "address": "127.0.0.1", "port": names.port }], "queryStrategy": "UseIPv4" },
    });
    let _node = Node::start(Kind::Wsray, "names", &config.to_string(), &[port]);
    let association = Association::open(port).unwrap();
    let asked = || names.questions().into_iter().map(|(name, _)| name).collect::<HashSet<_>>();
    let hosts: Vec<String> = (0..300).map(|number| format!("host{number}.test")).collect();
    let ask_for = |hosts: &[String]| {
        for host in hosts {
            association.send(Target::Name(host, 9), b"anything").unwrap();
            // No more at a time than wait for a way out.
            thread::sleep(Duration::from_millis(1));
        }
    };
    ask_for(&hosts[..256]);
    let all = within(Duration::from_secs(2), || (asked().len() == 256).then_some(()));
    assert!(all.is_some(), "{} of 256 names were asked for", asked().len());
    ask_for(&hosts[256..]);
    thread::sleep(Duration::from_millis(500));
    assert_eq!(asked().len(), 256, "further names are asked for");
}
