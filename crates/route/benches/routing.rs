//! What a decision costs with ten thousand domains, ten thousand ranges, and both in one router.
//!
//! `cargo bench -p wsray-route`

use criterion::{Criterion, criterion_group, criterion_main};
use std::{hint::black_box, net::IpAddr, sync::Arc};
use wsray_route::{
    Cidr, Condition, Decision, Destination, DomainCondition, DomainKind, DomainSet, DomainStrategy, Facts,
    IpSet, Network, Rest, Router, Rule, sniff,
};

const COUNT: u32 = 10_000;

/// As in `geosite.dat`: mostly `domain:`, some `full:`, a few of the others.
fn domains() -> Vec<DomainCondition> {
    let condition = |n: u32| {
        let (kind, text) = match n % 100 {
            0 => (DomainKind::Substring, format!("keyword{n}x")),
            1 if n < 5000 => (DomainKind::Regexp, format!(r"(^|\.)pattern{n}[a-z]*\.com$")),
            2..20 => (DomainKind::Full, format!("www.host{n}.example.net")),
            _ => (DomainKind::Domain, format!("site{n}.example-{}.com", n % 7)),
        };
        DomainCondition::new(kind, &text).ok()
    };
    (0..COUNT).filter_map(condition).collect()
}

/// Networks that do not touch, half of them IPv6.
fn networks() -> Vec<Cidr> {
    let network = |n: u32| match n % 2 {
        0 => Cidr::new(IpAddr::from((n << 12).to_be_bytes()), 24).ok(),
        _ => Cidr::new(IpAddr::from((u128::from(n) << 90 | 0x2000 << 112).to_be_bytes()), 48).ok(),
    };
    (0..COUNT).filter_map(network).collect()
}

fn sets(c: &mut Criterion) {
    let conditions = domains();
    let Ok(set) = DomainSet::new(&conditions) else { return };
    for (what, name) in [
        ("first label", "site9999.example-3.com"),
        ("deep below", "a.b.c.d.site5050.example-3.com"),
        ("by a keyword", "www.keyword100x.org"),
        ("by a pattern", "www.pattern4901abc.com"),
        ("of no condition", "a-rather-long-label.cdn.somewhere-else.example.org"),
    ] {
        c.bench_function(&format!("10,000 domains, {what}"), |b| b.iter(|| set.is_match(black_box(name))));
    }
    c.bench_function("10,000 domains, compiling", |b| b.iter(|| DomainSet::new(black_box(&conditions))));

    let ips = IpSet::new(networks());
    for (what, text) in [("inside", "1.48.0.9"), ("outside", "203.0.113.9"), ("IPv6", "2001:db8::1")] {
        let Ok(address) = text.parse() else { continue };
        c.bench_function(&format!("10,000 ranges, {what}"), |b| b.iter(|| ips.contains(black_box(address))));
    }
}

fn router(c: &mut Criterion) {
    let (Ok(domains), ips) = (DomainSet::new(&domains()), Arc::new(IpSet::new(networks()))) else { return };
    let domains = Arc::new(domains);
    let rules = [
        vec![Condition::Inbound(["api".to_owned()].into())],
        vec![Condition::Port(25.into())],
        vec![Condition::Domain(domains)],
        vec![Condition::Ip(Arc::new(IpSet::private()))],
        vec![Condition::Ip(ips)],
    ];
    let rules =
        rules.into_iter().filter_map(|conditions| Rule::new(conditions, Destination::Outbound(1)).ok());
    let router = Router::new(DomainStrategy::IpIfNonMatch, rules.collect());
    let resolved =
        ["203.0.113.9".parse(), "2001:db8::1".parse()].map(|ip| ip.unwrap_or(IpAddr::from([0; 4])));
    let facts = Facts {
        domain: Some("www.nobody-listed-this.example.org"),
        inbound: Some("socks"),
        resolved: Some(&resolved),
        ..Facts::new(Network::Tcp, 443)
    };
    c.bench_function("five rules, none holds", |b| {
        b.iter(|| router.route(black_box(&facts)) == Decision::Default);
    });
}

fn sniffing(c: &mut Criterion) {
    let hello = include_bytes!("../vectors/client_hello_rustls_post_quantum.bin");
    c.bench_function("sniff a hello", |b| b.iter(|| sniff(black_box(hello), Rest::MayCome)));
    let request = b"GET /index.html HTTP/1.1\r\nHost: example.com\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n";
    c.bench_function("sniff a request", |b| b.iter(|| sniff(black_box(request), Rest::MayCome)));
}

criterion_group!(benches, sets, router, sniffing);
criterion_main!(benches);
