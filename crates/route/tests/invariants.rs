//! What must hold for any input, with random input.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use proptest::{collection::vec, prelude::*};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use wsray_route::{DomainCondition, DomainKind, invariants};

/// Names of few letters, so that they meet.
fn name() -> impl Strategy<Value = String> {
    "[ab]{1,2}(\\.[abA]{1,2}){0,3}\\.?"
}

fn condition() -> impl Strategy<Value = DomainCondition> {
    let kind = prop_oneof![
        Just(DomainKind::Domain),
        Just(DomainKind::Full),
        Just(DomainKind::Substring),
        Just(DomainKind::Regexp)
    ];
    (kind, name()).prop_map(|(kind, text)| DomainCondition::new(kind, &text).unwrap())
}

/// Addresses that differ in their last bits only, and one of the other family inside the first.
fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0..64_u32).prop_map(|low| Ipv4Addr::from_bits(0x0a00_0000 | low).into()),
        (0..64_u32).prop_map(|low| Ipv4Addr::from_bits(u32::MAX - low).into()),
        (0..64_u128).prop_map(|low| Ipv6Addr::from_bits(0x2001 << 112 | low).into()),
        (0..64_u128).prop_map(|low| Ipv6Addr::from_bits(low).into()),
        (0..64_u128).prop_map(|low| Ipv6Addr::from_bits(0xffff_0a00_0000 | low).into()),
        (0..64_u128).prop_map(|low| Ipv6Addr::from_bits(u128::MAX - low).into()),
    ]
}

fn prefix() -> impl Strategy<Value = u8> {
    prop_oneof![0..=4_u8, 24..=32_u8, 90..=130_u8]
}

/// First bytes of the protocols with something wrong behind them.
fn beginning() -> impl Strategy<Value = Vec<u8>> {
    let hello = include_bytes!("../vectors/client_hello_openssl_tls12.bin");
    let start = prop_oneof![
        Just(b"GET / HTTP/1.1\r\nHost: ".to_vec()),
        Just(b"post ".to_vec()),
        Just(b"\x13BitTorrent".to_vec()),
        (0..hello.len()).prop_map(|len| hello[..len].to_vec()),
        Just(Vec::new()),
    ];
    let end = prop_oneof![vec(any::<u8>(), 0..40), "[ -~\r\n:]{0,60}".prop_map(String::into_bytes)];
    (start, end).prop_map(|(start, end)| [start, end].concat())
}

proptest! {
    #[test]
    fn domain_sets_agree_with_their_conditions(conditions in vec(condition(), 0..40), domain in name()) {
        invariants::domain_set_agrees_with_its_conditions(&conditions, &domain);
    }

    #[test]
    fn any_text_is_a_domain_or_a_condition_without_a_panic(text in "(?s).{0,200}") {
        invariants::domain_text(&text);
    }

    #[test]
    fn regular_expressions_of_any_text_do_not_panic(text in r"a.b\n(regexp:[ab.*+?()\[\]{}^$|\\QEd0-9,&~:!-]{0,30}\n){1,4}") {
        invariants::domain_text(&text);
    }

    #[test]
    fn ip_sets_agree_with_their_networks(
        networks in vec((address(), prefix()), 0..20), addresses in vec(address(), 1..40)
    ) {
        invariants::ip_set_agrees_with_its_networks(&networks, &addresses);
    }

    #[test]
    fn sniffing_ignores_splits(input in beginning(), cut in any::<usize>()) {
        invariants::sniffing_ignores_splits(&input, cut);
    }

    #[test]
    fn patched_hellos_do_not_panic(at in 0..188_usize, byte in any::<u8>(), cut in any::<usize>()) {
        let mut hello = include_bytes!("../vectors/client_hello_openssl_tls12.bin").to_vec();
        hello[at] = byte;
        invariants::sniffing_ignores_splits(&hello, cut);
    }

    #[test]
    fn any_geo_file_is_read_without_a_panic(mut file in vec(0..40_u8, 0..200)) {
        invariants::geo_file(&file);
        // With a list in front whose name is right.
        file.splice(0..0, [10, 200, 1, 10, 2, b'c', b'n']);
        invariants::geo_file(&file);
    }

    #[test]
    fn any_text_of_a_configuration_is_read_without_a_panic(
        text in r"(geoip:|geosite:|ext:|!|attrs|not |and|'a'|==|\.lower\(\)|[a-z0-9'()\[\]\\/.,:@ -]|\PC){0,40}"
    ) {
        invariants::configuration_text(&text);
    }
}
