//! Which rule decides.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{net::SocketAddr, sync::Arc};
use wsray_route::{
    Attributes, Condition, Decision, Destination, DomainCondition, DomainSet, DomainStrategy, Facts, IpSet,
    Network, Networks, NoCondition, Router, Rule,
};

fn domains(texts: &[&str]) -> Condition {
    let conditions: Vec<DomainCondition> = texts.iter().map(|text| text.parse().unwrap()).collect();
    Condition::Domain(Arc::new(DomainSet::new(&conditions).unwrap()))
}

fn set(texts: &[&str]) -> Arc<IpSet> {
    Arc::new(IpSet::new(texts.iter().map(|text| text.parse().unwrap())))
}

fn list(texts: &[&str]) -> Box<[String]> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// Rules of these conditions; the first goes to outbound 0, and so on.
fn router(strategy: DomainStrategy, rules: Vec<Vec<Condition>>) -> Router {
    let rules = rules.into_iter().enumerate();
    let rules = rules.map(|(index, conditions)| Rule::new(conditions, Destination::Outbound(index)).unwrap());
    Router::new(strategy, rules.collect())
}

fn rule(index: usize) -> Decision {
    Decision::Rule { index, to: Destination::Outbound(index) }
}

fn to(domain: &str) -> Facts<'_> {
    Facts { domain: Some(domain), ..Facts::new(Network::Tcp, 443) }
}

fn to_ip(ip: &str) -> Facts<'static> {
    Facts { ip: Some(ip.parse().unwrap()), ..Facts::new(Network::Tcp, 443) }
}

#[test]
fn each_condition_holds_for_what_it_names() {
    let source: SocketAddr = "10.0.0.1:5555".parse().unwrap();
    let mut attributes = Attributes::default();
    attributes.add(":method", "GET");
    let facts = Facts {
        domain: Some("www.example.com"),
        source: Some(source),
        user: Some("love@v2ray.com"),
        inbound: Some("in"),
        protocol: Some("http1"),
        attributes: Some(&attributes),
        ..Facts::new(Network::Tcp, 443)
    };
    let holds = |condition: &Condition, facts: &Facts<'_>| {
        router(DomainStrategy::AsIs, vec![vec![condition.clone()]]).route(facts) == rule(0)
    };
    for (yes, no) in [
        (domains(&["domain:example.com"]), domains(&["domain:www.com"])),
        (Condition::Port("80,400-500".parse().unwrap()), Condition::Port("80".parse().unwrap())),
        (Condition::Network(Networks::Only(Network::Tcp)), Condition::Network(Networks::Only(Network::Udp))),
        (Condition::Source(set(&["10.0.0.0/8"])), Condition::Source(set(&["10.0.0.2"]))),
        (Condition::SourcePort(5555.into()), Condition::SourcePort(443.into())),
        (Condition::User(list(&["x", "love@v2ray.com"])), Condition::User(list(&["love"]))),
        (Condition::Inbound(list(&["in"])), Condition::Inbound(list(&["i", "inn", ""]))),
        (Condition::Protocol(list(&["tls", "http"])), Condition::Protocol(list(&["tls", "http2", ""]))),
        (
            Condition::Attributes("attrs[':method'] == 'GET'".parse().unwrap()),
            Condition::Attributes("attrs[':method'] == 'PUT'".parse().unwrap()),
        ),
    ] {
        assert!(holds(&yes, &facts), "{yes:?}");
        assert!(!holds(&no, &facts), "{no:?}");
        let everywhere = matches!(yes, Condition::Port(_) | Condition::Network(_));
        assert_eq!(
            holds(&yes, &to_ip("1.2.3.4")),
            everywhere,
            "{yes:?} of a session of which little is known"
        );
    }
    assert!(holds(&Condition::Ip(set(&["1.2.0.0/16"])), &to_ip("1.2.3.4")));
    assert!(holds(&Condition::Ip(set(&["1.2.0.0/16"])), &to_ip("::ffff:1.2.3.4")));
    assert!(!holds(&Condition::Ip(set(&["1.2.0.0/16"])), &to_ip("1.3.3.4")));
}

#[test]
fn all_conditions_must_hold_and_the_first_rule_decides() {
    let router = router(
        DomainStrategy::AsIs,
        vec![
            vec![domains(&["example"]), Condition::Port(80.into())],
            vec![domains(&["example"]), Condition::Port(443.into())],
            vec![domains(&["example"])],
        ],
    );
    assert_eq!(router.route(&to("example.com")), rule(1));
    assert_eq!(router.route(&Facts { port: 80, ..to("example.com") }), rule(0));
    assert_eq!(router.route(&Facts { port: 81, ..to("example.com") }), rule(2));
    assert_eq!(router.route(&to("other.com")), Decision::Default);
}

#[test]
fn a_rule_without_conditions_is_refused() {
    assert_eq!(Rule::new(Vec::new(), Destination::Balancer(0)).err(), Some(NoCondition));
}

fn by_address_then_name(strategy: DomainStrategy) -> Router {
    router(
        strategy,
        vec![
            vec![Condition::Ip(set(&["10.0.0.0/8"])), Condition::Port(443.into())],
            vec![domains(&["example"])],
        ],
    )
}

#[test]
fn as_is_never_asks_for_addresses() {
    let router = by_address_then_name(DomainStrategy::AsIs);
    let ips = ["10.0.0.1".parse().unwrap()];
    assert_eq!(router.route(&to("other.com")), Decision::Default);
    assert_eq!(router.route(&Facts { resolved: Some(&ips), ..to("other.com") }), Decision::Default);
    assert_eq!(router.route(&to_ip("10.0.0.1")), rule(0));
}

#[test]
fn ip_if_non_match_asks_only_if_no_rule_holds() {
    let router = by_address_then_name(DomainStrategy::IpIfNonMatch);
    let (inside, outside) =
        (["1.1.1.1".parse().unwrap(), "10.0.0.1".parse().unwrap()], ["1.1.1.1".parse().unwrap()]);
    assert_eq!(router.route(&to("example.com")), rule(1));
    assert_eq!(router.route(&to("other.com")), Decision::NeedIps);
    assert_eq!(router.route(&Facts { resolved: Some(&inside), ..to("other.com") }), rule(0));
    assert_eq!(router.route(&Facts { resolved: Some(&outside), ..to("other.com") }), Decision::Default);
    assert_eq!(router.route(&Facts { resolved: Some(&[]), ..to("other.com") }), Decision::Default);
    // As V2Ray: addresses known beforehand change nothing for a name that has a rule.
    assert_eq!(router.route(&Facts { resolved: Some(&inside), ..to("example.com") }), rule(1));
}

#[test]
fn ip_on_demand_asks_at_the_first_rule_that_depends_on_addresses() {
    let router = by_address_then_name(DomainStrategy::IpOnDemand);
    let (inside, outside) = (["10.0.0.1".parse().unwrap()], ["1.1.1.1".parse().unwrap()]);
    assert_eq!(router.route(&to("example.com")), Decision::NeedIps);
    assert_eq!(router.route(&Facts { resolved: Some(&inside), ..to("example.com") }), rule(0));
    assert_eq!(router.route(&Facts { resolved: Some(&outside), ..to("example.com") }), rule(1));
    assert_eq!(router.route(&Facts { resolved: Some(&[]), ..to("example.com") }), rule(1));
}

#[test]
fn no_name_is_looked_up_for_a_rule_that_fails_anyway() {
    for strategy in [DomainStrategy::IpIfNonMatch, DomainStrategy::IpOnDemand] {
        let router = by_address_then_name(strategy);
        assert_eq!(router.route(&Facts { port: 80, ..to("other.com") }), Decision::Default);
        assert_eq!(router.route(&to_ip("1.1.1.1")), Decision::Default);
        assert_eq!(router.route(&Facts::new(Network::Udp, 443)), Decision::Default);
    }
}
