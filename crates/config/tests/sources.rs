//! Several sources: V2Ray 4's rules (`Config.Override` in v2fly/v2ray-core 4.45.2 `infra/conf/v2ray.go`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use wsray_config::{Config, Diagnostic, Level, Loaded, Options, Source, load};

fn merge(files: &[(&str, &str)]) -> Result<Loaded, Vec<Diagnostic>> {
    let sources: Vec<_> = files.iter().map(|(name, text)| Source::new(name, text)).collect();
    load(&sources, &Options::default())
}

fn merged(files: &[(&str, &str)]) -> Config {
    match merge(files) {
        Ok(loaded) => loaded.config,
        Err(errors) => panic!("refused: {}", errors[0]),
    }
}

fn refused(files: &[(&str, &str)]) -> Vec<String> {
    merge(files).expect_err("it loads").iter().map(ToString::to_string).collect()
}

/// Inbounds as `tag:port`, outbounds as tags.
fn shape(config: &Config) -> (Vec<String>, Vec<String>) {
    let tag = |tag: &Option<String>| tag.clone().unwrap_or_default();
    let inbound =
        |one: &wsray_config::Inbound| format!("{}:{}", tag(&one.tag), one.listen.ports().unwrap().first());
    (
        config.inbounds.iter().map(inbound).collect(),
        config.outbounds.iter().map(|one| tag(&one.tag)).collect(),
    )
}

const BASE: &str = r#"{
  "log": { "loglevel": "debug", "access": "none" },
  "inbounds": [{ "tag": "a", "protocol": "socks", "listen": "127.0.0.1", "port": 1080 }],
  "outbounds": [{ "tag": "o1", "protocol": "freedom" }]
}"#;

fn inbounds(list: &str) -> String {
    let one = |word: &str| {
        let (tag, port) = word.split_once(':').unwrap();
        format!(r#"{{ "tag": "{tag}", "protocol": "socks", "listen": "127.0.0.1", "port": {port} }}"#)
    };
    format!(r#"{{ "inbounds": [{}] }}"#, list.split_whitespace().map(one).collect::<Vec<_>>().join(", "))
}

fn outbounds(list: &str) -> String {
    let one = |tag: &str| format!(r#"{{ "tag": "{tag}", "protocol": "blackhole" }}"#);
    format!(r#"{{ "outbounds": [{}] }}"#, list.split_whitespace().map(one).collect::<Vec<_>>().join(", "))
}

#[test]
fn a_single_inbound_takes_the_place_of_its_tag_or_goes_to_the_end() {
    for (second, expected) in [
        ("a:1090", &["a:1090"][..]),
        ("b:1090", &["a:1080", "b:1090"]),
        ("b:1090 c:1091", &["b:1090", "c:1091"]),
        ("", &["a:1080"]),
    ] {
        let config = merged(&[("base.json", BASE), ("more.json", &inbounds(second))]);
        assert_eq!(shape(&config).0, expected, "{second}");
        assert_eq!(shape(&config).1, ["o1"]);
    }
}

#[test]
fn a_single_outbound_goes_in_front_unless_the_name_says_tail() {
    for (name, second, expected) in [
        ("more.json", "o1", &["o1"][..]),
        ("more.json", "o2", &["o2", "o1"]),
        ("99_Tail.json", "o2", &["o1", "o2"]),
        ("99_tail.json", "o2 o3", &["o2", "o3"]),
    ] {
        let config = merged(&[("base.json", BASE), (name, &outbounds(second))]);
        assert_eq!(shape(&config).1, expected, "{name} {second}");
    }
}

#[test]
fn a_block_is_replaced_whole_by_the_last_one_and_not_by_null() {
    let config = merged(&[("a.json", BASE), ("b.json", r#"{ "log": { "access": "" } }"#)]);
    assert_eq!(config.log.level, Level::Warning);
    let config =
        merged(&[("a.json", BASE), ("b.json", r#"{ "LOG": { "loglevel": "error" }, "log": null }"#)]);
    assert_eq!(config.log.level, Level::Error);
    let config = merged(&[("a.json", BASE), ("b.json", r#"{ "log": null }"#), ("c.json", "{}")]);
    assert_eq!(config.log.level, Level::Debug);
}

#[test]
fn three_sources_merge_in_order_and_rules_find_merged_tags() {
    let routing =
        r#"{ "routing": { "rules": [{ "type": "field", "inboundTag": ["b"], "outboundTag": "o2" }] } }"#;
    let (b, o2) = (inbounds("b:1090"), outbounds("o2"));
    let loaded =
        merge(&[("r.json", routing), ("base.json", BASE), ("b.json", &b), ("o_tail.json", &o2)]).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(
        shape(&loaded.config),
        (vec!["a:1080".into(), "b:1090".into()], vec!["o1".into(), "o2".into()])
    );
    assert_eq!(loaded.config.routing.rules[0].to, wsray_route::Destination::Outbound(1));
}

#[test]
fn places_name_their_own_file_and_their_own_index() {
    let bad = r#"{
  "inbounds": [{ "tag": "b", "protocol": "socks", "port": 70000 }]
}"#;
    let said = refused(&[("base.json", BASE), ("bad.json", bad)]);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("bad.json:2:59: inbounds[0].port: expected a port"), "{said:?}");
}

#[test]
fn errors_come_file_by_file() {
    let (a, b) = (r#"{ "inbounds": 5 }"#, r#"{ "log": 5 }"#);
    let said = refused(&[("b.json", a), ("a.json", b)]);
    assert!(said[0].starts_with("b.json:1:15: inbounds"), "{said:?}");
    assert!(said[1].starts_with("a.json:1:10: log"), "{said:?}");
    let said = refused(&[("b.json", "{"), ("a.json", "[]"), ("c.json", "{}")]);
    assert!(said[0].starts_with("b.json:1:1: expected a \"}\""), "{said:?}");
    let said = refused(&[("a.json", "[]"), ("c.json", "5")]);
    assert_eq!(said.len(), 2, "{said:?}");
}

#[test]
fn conflicts_are_found_in_the_merged_result_only() {
    let said = refused(&[("base.json", BASE), ("b.json", &inbounds("b:1080"))]);
    assert!(said[0].starts_with("b.json:1:"), "{said:?}");
    assert!(said[0].contains("taken by the inbound in line 3 of base.json"), "{said:?}");
    assert!(merge(&[("base.json", BASE), ("b.json", &inbounds("a:1080"))]).is_ok());
    let said = refused(&[("base.json", BASE), ("b.json", &outbounds("x x"))]);
    assert!(said[0].contains("the tag \"x\" is taken by the outbound in line 1"), "{said:?}");
}

#[test]
fn an_element_without_a_tag_replaces_one_without_a_tag_and_says_so() {
    let bare = r#"{ "outbounds": [{ "protocol": "freedom" }] }"#;
    let other = r#"{ "outbounds": [{ "protocol": "blackhole" }] }"#;
    let loaded = merge(&[("a.json", bare), ("b.json", other)]).unwrap();
    assert_eq!(loaded.config.outbounds.len(), 1);
    assert!(matches!(loaded.config.outbounds[0].protocol, wsray_config::OutboundProtocol::Blackhole(_)));
    let said =
        loaded.warnings.iter().map(ToString::to_string).find(|said| said.starts_with("b.json")).unwrap();
    assert!(
        said.starts_with(
            "b.json:1:17: outbounds[0]: this takes the place of the one without a tag in line 1 of a.json"
        ),
        "{said}"
    );
}

#[test]
fn marks_of_v2ray_5s_merging_are_not_ignored_in_silence() {
    let marked = r#"{ "outbounds": [{ "tag": "x", "protocol": "freedom", "_priority": 10 }] }"#;
    let loaded = merge(&[("base.json", BASE), ("b.json", marked)]).unwrap();
    let said: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert!(said[0].contains("outbounds[0]._priority: this has no effect"), "{said:?}");
}

#[test]
fn unknown_and_old_keys_survive_merging() {
    let old = r#"{ "inbound": { "protocol": "http", "listen": "127.0.0.1", "port": 8080 }, "colour": 1 }"#;
    let loaded = merge(&[("old.json", old), ("base.json", BASE)]).unwrap();
    assert_eq!(shape(&loaded.config).0, [":8080", "a:1080"]);
    assert!(loaded.warnings[0].to_string().starts_with("old.json:1:75: colour: unknown key, ignored"));
}

#[test]
fn a_port_beside_the_inbounds_counts_in_the_first_source_only() {
    let loaded = merge(&[("base.json", BASE), ("b.json", r#"{ "port": 5 }"#)]).unwrap();
    assert_eq!(shape(&loaded.config).0, ["a:1080"]);
    let said: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert!(said.iter().any(|one| one.starts_with("b.json:1:3: port: this has no effect")), "{said:?}");
}
