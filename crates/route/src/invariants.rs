//! What must hold for any input: each function takes some and panics where it does not hold. Tests call them with
//! chosen and random input, fuzz targets with what they find.
//!
//! The input comes from a fuzzer or a test, never from a peer.

#![expect(clippy::missing_panics_doc, reason = "panicking is what they are for")]

use crate::{
    Attributes, Cidr, DomainCondition, DomainKind, DomainSet, DomainSource, Expression, IpSet, IpSource,
    PortSet, Rest, Sniffed, geo, sniff,
};
use std::{collections::BTreeSet, net::IpAddr};

/// A set answers what its conditions answer one by one, for its conditions labelled from 0.
pub fn domain_set_agrees_with_its_conditions(conditions: &[DomainCondition], domain: &str) {
    let Ok(set) = DomainSet::labelled((0..).zip(conditions)) else { return };
    let expected: BTreeSet<u32> = (0..)
        .zip(conditions)
        .filter(|(_, condition)| holds_naively(condition, domain))
        .map(|(label, _)| label)
        .collect();
    let labels = set.labels(domain);
    assert_eq!(labels.iter().copied().collect::<BTreeSet<_>>(), expected, "{domain:?}");
    assert_eq!(labels.len(), expected.len(), "a label twice");
    assert_eq!(set.is_match(domain), !expected.is_empty(), "{domain:?}");
    let rank = |label: &u32| {
        let condition = &conditions[*label as usize];
        let len = if condition.kind() == DomainKind::Domain { condition.text().len() } else { 0 };
        (condition.kind(), len)
    };
    let ranks: Vec<_> = labels.iter().map(rank).collect();
    let exact_first = [DomainKind::Full, DomainKind::Domain, DomainKind::Substring, DomainKind::Regexp];
    let place = |kind: DomainKind| exact_first.iter().position(|&own| own == kind);
    let in_order = |pair: &[(DomainKind, usize)]| {
        (place(pair[0].0), std::cmp::Reverse(pair[0].1)) <= (place(pair[1].0), std::cmp::Reverse(pair[1].1))
    };
    assert!(ranks.windows(2).all(in_order), "{ranks:?}");
}

fn holds_naively(condition: &DomainCondition, domain: &str) -> bool {
    let name = domain.strip_suffix('.').unwrap_or(domain).to_ascii_lowercase();
    if name.is_empty() || name.len() > 255 {
        return false;
    }
    let text = condition.text();
    match condition.kind() {
        DomainKind::Full => name == text,
        DomainKind::Domain => name == text || name.ends_with(&format!(".{text}")),
        DomainKind::Substring => name.contains(text),
        DomainKind::Regexp => DomainSet::new([condition]).is_ok_and(|alone| alone.is_match(&name)),
    }
}

/// The first line is a domain, the others are conditions; those that are none are left out.
pub fn domain_text(text: &str) {
    let mut lines = text.lines();
    let domain = lines.next().unwrap_or_default();
    let sources = lines.filter_map(|line| line.parse().ok());
    let conditions: Vec<DomainCondition> = sources
        .filter_map(|source| match source {
            DomainSource::Condition(condition) => Some(condition),
            DomainSource::List(_) => None,
        })
        .collect();
    domain_set_agrees_with_its_conditions(&conditions, domain);
}

/// A set holds the addresses that one of its networks holds, its complement all others.
pub fn ip_set_agrees_with_its_networks(networks: &[(IpAddr, u8)], addresses: &[IpAddr]) {
    let cidrs: Vec<Cidr> =
        networks.iter().filter_map(|&(address, prefix)| Cidr::new(address, prefix).ok()).collect();
    let set = IpSet::new(cidrs.iter().copied());
    let halves = cidrs.split_at(cidrs.len() / 2);
    let union = IpSet::union(&[IpSet::new(halves.0.iter().copied()), IpSet::new(halves.1.iter().copied())]);
    assert_eq!(set, union);
    let complement = set.complement();
    assert_eq!(set, complement.complement());
    let edges = networks.iter().map(|&(address, _)| address);
    for address in addresses.iter().copied().chain(edges) {
        let expected = networks.iter().any(|&(network, prefix)| is_in(network, prefix, address));
        assert_eq!(set.contains(address), expected, "{address}");
        assert_eq!(complement.contains(address), !expected, "not {address}");
    }
}

/// Bit by bit; what is inside `::ffff:0:0/96` is IPv4.
fn is_in(network: IpAddr, prefix: u8, address: IpAddr) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_bits().to_be_bytes().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let bit = |bytes: &[u8], at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
    let mut prefix = usize::from(prefix);
    let mut network_bits = bits(network);
    if prefix > network_bits.len() * 8 {
        return false;
    }
    if network.is_ipv6() && network.to_canonical().is_ipv4() && prefix >= 96 {
        network_bits = bits(network.to_canonical());
        prefix -= 96;
    }
    let address_bits = bits(address.to_canonical());
    address_bits.len() == network_bits.len()
        && (0..prefix).all(|at| bit(&network_bits, at) == bit(&address_bits, at))
}

/// Any file is read without a panic, and every list that it is said to have can be asked for.
pub fn geo_file(file: &[u8]) {
    let Ok(names) = geo::list_names(file) else {
        let _ = (geo::ip_list(file, "cn"), geo::site_list(file, "cn", &["ads"]));
        return;
    };
    for name in names.iter().take(100).filter(|name| !name.contains(char::REPLACEMENT_CHARACTER)) {
        let (ips, sites) = (geo::ip_list(file, name), geo::site_list(file, name, &[]));
        assert!(!matches!(ips, Err(geo::GeoError::NoList { .. })), "{name}");
        assert!(!matches!(sites, Err(geo::GeoError::NoList { .. })), "{name}");
        let _ = geo::site_list(file, name, &["ads"]);
    }
}

/// However the bytes are cut, the pieces say the same as the whole or that more is needed; the answer stays when
/// more bytes follow; without more to come there is an answer.
pub fn sniffing_ignores_splits(input: &[u8], cut: usize) {
    let whole = sniff(input, Rest::MayCome);
    let head = sniff(&input[..cut % (input.len() + 1)], Rest::MayCome);
    assert!(head == Sniffed::NeedMore || head == whole, "{head:?} became {whole:?}");
    let last = sniff(input, Rest::Over);
    assert_ne!(last, Sniffed::NeedMore);
    assert!(whole == Sniffed::NeedMore || whole == last, "{whole:?} ended as {last:?}");
    for found in [whole, last] {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
        if let Some(name) = found.domain() {
            assert!(!name.is_empty() && name.bytes().all(allowed), "{name:?}");
            assert_eq!(name, name.to_ascii_lowercase());
        }
    }
}

/// Texts of a configuration are understood or refused, without a panic.
pub fn configuration_text(text: &str) {
    let _ = text.parse::<DomainSource>();
    let _ = text.parse::<PortSet>();
    if let Ok(source) = text.parse::<IpSource>() {
        let _ = crate::ip_set(&[source], |_, _| Err(()));
    }
    if let Ok(expression) = text.parse::<Expression>() {
        let mut attributes = Attributes::default();
        attributes.add(":method", "GET");
        let _ = expression.holds(&attributes);
    }
}
