//! Rules and balancers.

use wsray_config::{Condition, Rule};
use wsray_route::Destination;

use crate::config;

#[test]
fn rules_point_to_outbounds_in_order() {
    let text = r#"{ "inbounds": [{ "tag": "a", "protocol": "http", "listen": "127.0.0.1", "port": 8080 }],
      "outbounds": [{ "protocol": "freedom" }, { "tag": "x", "protocol": "blackhole" }, { "tag": "y", "protocol": "freedom" }],
      "routing": { "domainStrategy": "AsIs", "rules": [
        { "type": "field", "inboundTag": ["a"], "outboundTag": "y" },
        { "inboundTag": "a, a", "outboundTag": "x" },
        { "type": "field", "network": "tcp,udp", "outboundTag": "x" } ] } }"#;
    let rules = config(text).routing.rules;
    let read: Vec<_> = rules.iter().map(|rule| (format!("{:?}", rule.conditions), rule.to)).collect();
    assert_eq!(
        read,
        [
            ("[Inbound([\"a\"])]".to_owned(), Destination::Outbound(2)),
            ("[Inbound([\"a\", \"a\"])]".to_owned(), Destination::Outbound(1)),
            ("[Network(Both)]".to_owned(), Destination::Outbound(1)),
        ]
    );
}

#[test]
fn every_condition_of_a_rule_is_read() {
    for (text, expected) in [
        (r#""domain": "a.com, full:b.com", "domains": ["regexp:c"]"#, 3),
        (r#""ip": ["10.0.0.0/8", "::1", "geoip:!cn", "geoip:private", "ext:x.dat:y"]"#, 5),
        (r#""sourceIP": ["10.0.0.1"]"#, 1),
        (r#""source": "10.0.0.1,10.0.0.2""#, 2),
    ] {
        let rules = rules(text);
        let count = match &rules[0].conditions[..] {
            [Condition::Domain(sources)] => sources.len(),
            [Condition::Ip(groups) | Condition::Source(groups)] => groups[0].sources.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(count, expected, "{text}");
    }
    let all = rules(
        r#""port": 80, "sourcePort": "1-5", "network": ["udp"], "user": ["a@b", ""], "protocol": "tls",
           "attrs": "attrs[':path'] == '/'", "ip": [], "inboundTag": """#,
    );
    let read: Vec<_> = all[0].conditions.iter().map(|one| format!("{one:?}")).collect();
    assert_eq!(
        read[..5],
        [
            "Port(PortSet([(80, 80)]))",
            "Network(Only(Udp))",
            "SourcePort(PortSet([(1, 5)]))",
            "User([\"a@b\"])",
            "Protocol([\"tls\"])"
        ]
    );
    assert!(read.len() == 6 && read[5].starts_with("Attributes("), "{read:?}");
}

fn rules(conditions: &str) -> Vec<Rule> {
    let text = format!(
        r#"{{ "outbounds": [{{ "tag": "x", "protocol": "freedom" }}],
          "routing": {{ "rules": [{{ "outboundTag": "x", {conditions} }}] }} }}"#
    );
    config(&text).routing.rules
}

#[test]
fn balancers_choose_among_outbounds_by_their_tags() {
    let text = r#"{ "outbounds": [{ "tag": "a1", "protocol": "freedom" }, { "protocol": "freedom" },
        { "tag": "b", "protocol": "freedom" }, { "tag": "a2", "protocol": "freedom" }],
      "routing": { "domainStrategy": "ipondemand", "balancers": [
        { "tag": "first", "selector": ["a"] },
        { "tag": "second", "selector": ["a2", "b"], "fallbackTag": "a1", "strategy": { "type": "Random" } }],
        "rules": [{ "port": "1", "balancerTag": "second" }, { "port": "1", "balancerTag": "first", "outboundTag": "" }] } }"#;
    let routing = config(text).routing;
    assert_eq!(routing.domain_strategy, wsray_route::DomainStrategy::IpOnDemand);
    assert_eq!(routing.balancers[0].candidates(), [0, 3]);
    assert_eq!(routing.balancers[1].candidates(), [2, 3]);
    assert_eq!(routing.balancers[1].pick(0, |_| false), Some(0));
    let to: Vec<_> = routing.rules.iter().map(|rule| rule.to).collect();
    assert_eq!(to, [Destination::Balancer(1), Destination::Balancer(0)]);
}

/// In V2Ray 4.45 (`infra/conf/router.go`).
#[test]
fn rules_of_v2ray_2_come_behind_the_others() {
    let text = r#"{ "outbounds": [{ "tag": "a", "protocol": "freedom" }, { "tag": "b", "protocol": "blackhole" }],
      "routing": { "rules": [{ "port": 1, "outboundTag": "a" }],
        "settings": { "domainStrategy": "IPOnDemand", "rules": [{ "port": 2, "outboundTag": "b" }] } } }"#;
    let routing = config(text).routing;
    let to: Vec<_> = routing.rules.iter().map(|rule| rule.to).collect();
    assert_eq!(to, [Destination::Outbound(0), Destination::Outbound(1)]);
    assert_eq!(routing.domain_strategy, wsray_route::DomainStrategy::IpOnDemand);
    let both = text.replace("\"routing\": {", "\"routing\": { \"domainStrategy\": \"AsIs\",");
    assert_eq!(config(&both).routing.domain_strategy, wsray_route::DomainStrategy::AsIs);
}

#[test]
fn what_leads_to_a_service_is_not_listened_on_and_never_goes_directly() {
    let door = |tag: &str| {
        format!(
            r#"{{ "tag": "{tag}", "protocol": "dokodemo-door", "listen": "127.0.0.1", "port": 1,
              "settings": {{ "address": "127.0.0.1" }} }}"#
        )
    };
    for service in [r#""api": { "tag": "s" }"#, r#""metrics": { "tag": "s" }"#] {
        let text = format!(
            r#"{{ {service}, "inbounds": [{}, {{ "tag": "p", "protocol": "http", "listen": "127.0.0.1", "port": 2 }}],
              "outbounds": [{{ "protocol": "freedom" }}],
              "routing": {{ "rules": [{{ "inboundTag": "x, in", "outboundTag": "s" }}, {{ "port": 7, "outboundTag": "s" }}] }} }}"#,
            door("in")
        );
        let config = config(&text);
        let tags: Vec<_> = config.inbounds.iter().map(|inbound| inbound.tag.as_deref().unwrap()).collect();
        assert_eq!(tags, ["p"], "{service}");
        assert_eq!(config.routing.rules[1].to, Destination::Outbound(1));
        assert!(matches!(config.outbounds[1].protocol, wsray_config::OutboundProtocol::Blackhole(_)));
    }
}

#[test]
fn an_outbound_with_a_services_tag_keeps_it() {
    let text = r#"{ "api": { "tag": "s" }, "outbounds": [{ "tag": "s", "protocol": "freedom" }],
      "routing": { "rules": [{ "port": 7, "outboundTag": "s" }] } }"#;
    let config = config(text);
    assert_eq!((config.outbounds.len(), config.routing.rules[0].to), (1, Destination::Outbound(0)));
}
