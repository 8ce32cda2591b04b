//! Lists of front ends: who is found in them, and that no stranger gets himself another name.

use proptest::prelude::*;

use super::*;

fn trust(networks: &[&str]) -> Trust {
    Trust::this_machine_and(networks.iter().map(|network| network.parse().unwrap()))
}

/// What a request from `peer` with these headers says.
fn told(trust: &Trust, peer: &str, headers: &[(&str, &str)]) -> Told {
    trust.told(peer.parse().unwrap(), |name| {
        let named = headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_bytes()).collect()
    })
}

fn listed(value: &str) -> Told {
    told(&trust(&["198.51.100.0/24"]), "127.0.0.1", &[("X-Forwarded-For", value)])
}

fn client(address: &str) -> Told {
    Told::Client(address.parse().unwrap())
}

#[test]
fn rightmost_stranger_is_the_client() {
    for (value, expected) in [
        ("203.0.113.7", "203.0.113.7:0"),
        ("203.0.113.66, 203.0.113.7", "203.0.113.7:0"),
        (" 203.0.113.66 ,\t203.0.113.7 ", "203.0.113.7:0"),
        ("203.0.113.7, 198.51.100.3", "203.0.113.7:0"),
        ("203.0.113.66, 203.0.113.7, 198.51.100.3, 127.0.0.1, ::1", "203.0.113.7:0"),
        // All are trusted: the one furthest away.
        ("198.51.100.9, 127.0.0.1", "198.51.100.9:0"),
        ("127.0.0.1", "127.0.0.1:0"),
        ("203.0.113.7,, ,", "203.0.113.7:0"),
    ] {
        assert_eq!(listed(value), client(expected), "{value:?}");
    }
}

#[test]
fn every_way_to_write_an_address_is_read_and_its_port_kept() {
    for (value, expected) in [
        ("203.0.113.7:4711", "203.0.113.7:4711"),
        ("2001:db8::7", "[2001:db8::7]:0"),
        ("[2001:db8::7]", "[2001:db8::7]:0"),
        ("[2001:db8::7]:4711", "[2001:db8::7]:4711"),
        ("2001:DB8:0:0:0:0:0:7", "[2001:db8::7]:0"),
        ("::ffff:203.0.113.7", "203.0.113.7:0"),
        ("[::ffff:203.0.113.7]:80", "203.0.113.7:80"),
    ] {
        assert_eq!(listed(value), client(expected), "{value:?}");
    }
}

#[test]
fn what_is_no_address_names_nobody() {
    for value in [
        "unknown",
        "_hidden",
        "203.0.113.7, unknown",
        "203.0.113.7, _secret:80",
        "203.0.113",
        "203.0.113.256",
        "203.0.113.07",
        "203.0.113.7:",
        "203.0.113.7:65536",
        "203.0.113.7:+80",
        "203.0.113.7:http",
        "[203.0.113.7]",
        "[2001:db8::7",
        "2001:db8::7]",
        "fe80::1%eth0",
        "[fe80::1%2]:80",
        "[fe80::1%0]:80",
        "\"203.0.113.7\"",
        "for=203.0.113.7",
        "example.com",
        "203.0.113.7 203.0.113.8",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "255.255.255.255",
        "203.0.113.7\u{a0}",
        "２０３.0.113.7",
    ] {
        assert_eq!(listed(value), Told::Malformed("X-Forwarded-For"), "{value:?}");
    }
    let long = format!("{}203.0.113.7", "0".repeat(8000));
    assert_eq!(listed(&long), Told::Malformed("X-Forwarded-For"));
}

#[test]
fn nonsense_left_of_a_front_end_leaves_the_front_end() {
    assert_eq!(listed("unknown, 198.51.100.3"), client("198.51.100.3:0"));
    assert_eq!(listed("203.0.113.66, unknown, 198.51.100.3, 127.0.0.1"), client("198.51.100.3:0"));
}

#[test]
fn endless_list_of_front_ends_is_given_up() {
    assert_eq!(listed(&vec!["127.0.0.1"; 32].join(",")), client("127.0.0.1:0"));
    assert_eq!(listed(&vec!["127.0.0.1"; 33].join(",")), Told::Malformed("X-Forwarded-For"));
    assert_eq!(listed(&",".repeat(9000)), Told::Malformed("X-Forwarded-For"));
    // Behind the client nobody looks at the length.
    assert_eq!(listed(&format!("{}203.0.113.7", "1.2.3.4,".repeat(2000))), client("203.0.113.7:0"));
}

#[test]
fn several_lines_are_one_list() {
    let lines = [("X-Forwarded-For", "203.0.113.66"), ("x-forwarded-for", "203.0.113.7, 127.0.0.1")];
    assert_eq!(told(&trust(&[]), "::1", &lines), client("203.0.113.7:0"));
    let lines = [("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-For", "127.0.0.1")];
    assert_eq!(told(&trust(&[]), "::1", &lines), client("203.0.113.7:0"));
}

#[test]
fn header_with_one_address_counts_where_there_is_no_list() {
    let (list, real, cloudflare) = (
        ("X-Forwarded-For", "203.0.113.1"),
        ("X-Real-IP", "203.0.113.2"),
        ("CF-Connecting-IP", "2001:db8::3"),
    );
    let told = |headers: &[(&str, &str)]| told(&trust(&[]), "127.9.9.9", headers);
    assert_eq!(told(&[cloudflare, real, list]), client("203.0.113.1:0"));
    assert_eq!(told(&[cloudflare, real]), client("203.0.113.2:0"));
    assert_eq!(told(&[cloudflare]), client("[2001:db8::3]:0"));
    assert_eq!(told(&[("X-Forwarded-For", " "), real]), client("203.0.113.2:0"));
    // A list that is no list is not made up for by what else a client may have sent.
    assert_eq!(told(&[("X-Forwarded-For", "unknown"), real]), Told::Malformed("X-Forwarded-For"));
    assert_eq!(told(&[("X-Real-IP", "203.0.113.2, 203.0.113.3")]), Told::Malformed("X-Real-IP"));
    assert_eq!(told(&[real, real]), Told::Malformed("X-Real-IP"));
    assert_eq!(told(&[("Forwarded", "for=203.0.113.2")]), Told::Nothing);
}

#[test]
fn only_trusted_peers_are_believed() {
    let header = [("X-Forwarded-For", "203.0.113.7")];
    for peer in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "198.51.100.3", "2001:db8:1::5"] {
        let trust = trust(&["198.51.100.3", "2001:db8:1::/48"]);
        assert_eq!(told(&trust, peer, &header), client("203.0.113.7:0"), "{peer}");
    }
    for peer in ["198.51.100.4", "10.0.0.1", "2001:db8:2::5", "::2"] {
        let trust = trust(&["198.51.100.3", "2001:db8:1::/48"]);
        assert_eq!(told(&trust, peer, &header), Told::Stranger("X-Forwarded-For"), "{peer}");
        assert_eq!(told(&trust, peer, &[]), Told::Nothing, "{peer}");
    }
    assert_eq!(told(&Trust::Nobody, "127.0.0.1", &header), Told::Nothing);
}

fn stranger() -> impl Strategy<Value = IpAddr> {
    let v4 = any::<[u8; 4]>().prop_map(IpAddr::from);
    let v6 = any::<[u8; 16]>().prop_map(IpAddr::from);
    let is_usable =
        |ip: &IpAddr| !ip.is_unspecified() && !ip.is_multicast() && !ip.to_canonical().is_loopback();
    prop_oneof![v4, v6].prop_filter("somebody else", move |ip| {
        is_usable(ip) && is_usable(&ip.to_canonical()) && !ip.to_string().starts_with("255.255.255.255")
    })
}

proptest! {
    #[test]
    fn nothing_left_of_the_client_changes_who_it_is(forged in ".{0,200}", real in stranger(), hops in 0..20_usize) {
        let value = format!("{forged},{real}{}", ", 127.0.0.1".repeat(hops));
        let trust = trust(&[]);
        prop_assert_eq!(
            told(&trust, "::1", &[("X-Forwarded-For", &value)]),
            Told::Client(SocketAddr::new(real.to_canonical(), 0))
        );
        let lines = [("X-Forwarded-For", forged.as_str()), ("X-Forwarded-For", &value[forged.len() + 1..])];
        prop_assert_eq!(
            told(&trust, "::1", &lines),
            Told::Client(SocketAddr::new(real.to_canonical(), 0))
        );
    }

    #[test]
    fn stranger_is_never_believed(
        peer in stranger(),
        value in any::<Vec<u8>>(),
        header in prop::sample::select(vec!["X-Forwarded-For", "X-Real-IP", "CF-Connecting-IP"]),
    ) {
        let told = trust(&[]).told(peer, |name| if name == header { vec![&value] } else { Vec::new() });
        prop_assert!(matches!(told, Told::Stranger(_) | Told::Nothing), "{told:?}");
    }

    #[test]
    fn any_bytes_give_an_answer_and_a_client_only_if_its_address_stands_there(
        lines in prop::collection::vec("[0-9a-f.:, \\[\\]%]{0,60}", 0..4),
    ) {
        let told = trust(&[]).told("::1".parse().unwrap(), |name| {
            if name == "X-Forwarded-For" { lines.iter().map(String::as_bytes).collect() } else { Vec::new() }
        });
        if let Told::Client(client) = told {
            let elements = lines.iter().flat_map(|line| line.split(','));
            prop_assert!(
                elements.filter_map(|element| address(element.as_bytes())).any(|one| one == client),
                "{client} in {lines:?}"
            );
        }
    }
}
