//! YAML and TOML: the same model as JSON, and the places of what is wrong. Expected values come from YAML 1.2.2
//! (section 10.3, the core schema) and TOML 1.0.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::{fs, path::Path, time::Duration, time::Instant};

use wsray_config::{Config, Format, Loaded, Options, Source, invariants::load_of_a_file_returns, load};

fn here(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[track_caller]
fn loaded(name: &str, text: &str) -> Loaded {
    match load(&[Source::new(name, text)], &Options::default()) {
        Ok(loaded) => loaded,
        Err(errors) => panic!("refused: {}", errors[0]),
    }
}

fn refused(name: &str, text: &str) -> Vec<String> {
    let errors = load(&[Source::new(name, text)], &Options::default()).expect_err("it loads");
    errors.iter().map(ToString::to_string).collect()
}

/// The model as text, without the places, which differ.
fn without_places(config: &Config) -> String {
    let text = format!("{config:?}");
    let mut parts = text.split("Place { ");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |all, part| all + part.split_once(" }").unwrap().1)
}

#[test]
fn yaml_and_toml_give_the_model_of_json() {
    let json = loaded("c.json", &here("tests/formats/wss-client.json"));
    assert!(without_places(&json.config).contains("A-Third"));
    for name in ["wss-client.yaml", "wss-client.toml"] {
        let other = loaded(name, &here(&format!("tests/formats/{name}")));
        assert_eq!(without_places(&json.config), without_places(&other.config), "{name}");
        assert!(other.warnings.is_empty(), "{name}: {:?}", other.warnings);
    }
}

#[test]
fn each_example_read_as_yaml_has_the_same_model_and_places() {
    // JSON is YAML, too.
    let mut count = 0;
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        count += 1;
        let text = fs::read_to_string(&path).unwrap();
        let with = |format| {
            let source = Source { format, ..Source::new("c", &text) };
            load(&[source], &Options::default()).map(|loaded| format!("{loaded:?}"))
        };
        assert_eq!(with(Format::Json).unwrap(), with(Format::Yaml).unwrap(), "{}", path.display());
    }
    assert!(count >= 21, "only {count} examples");
}

#[test]
fn the_end_of_the_name_tells_the_format_and_a_forced_one_wins() {
    let (yaml, toml, json) = (
        "log: {loglevel: debug}",
        "log.loglevel = \"debug\"",
        "{ \"log\": { \"loglevel\": \"debug\" } } // end",
    );
    for (name, text) in
        [("a.yaml", yaml), ("a.YML", yaml), ("a.toml", toml), ("a.jsonc", json), ("stdin", json)]
    {
        assert_eq!(loaded(name, text).config.log.level, wsray_config::Level::Debug, "{name}");
    }
    for (format, text) in [(Format::Yaml, yaml), (Format::Toml, toml)] {
        let source = Source { format, ..Source::new("a.json", text) };
        assert!(load(&[source], &Options::default()).is_ok(), "{format:?}");
    }
    assert!(
        load(&[Source { format: Format::Json, ..Source::new("a.yaml", yaml) }], &Options::default()).is_err()
    );
}

#[test]
fn formats_merge_with_each_other() {
    let sources = [
        Source::new("a.yaml", "outbounds: [{tag: a, protocol: freedom}]"),
        Source::new("b.toml", "[[outbounds]]\ntag = \"b\"\nprotocol = \"blackhole\"\n"),
        Source::new("c.json", r#"{ "outbounds": [{ "tag": "c", "protocol": "x" }] }"#),
    ];
    let tags = |config: &Config| -> Vec<_> {
        config.outbounds.iter().map(|outbound| outbound.tag.clone().unwrap()).collect()
    };
    assert_eq!(tags(&load(&sources[..2], &Options::default()).unwrap().config), ["b", "a"]);
    let errors = load(&sources, &Options::default()).unwrap_err();
    assert!(errors[0].to_string().starts_with("c.json:1:43: outbounds[0].protocol:"), "{errors:?}");
}

#[test]
fn v5s_dialect_is_recognised_in_every_format() {
    let yaml = "router: {rule: [{tag: out, inboundTag: [in]}]}\noutbounds: [{tag: out, protocol: freedom}]\ninbounds: []\n";
    assert_eq!(loaded("c.yaml", yaml).config.routing.rules.len(), 1);
    assert!(
        refused("c.yaml", &format!("{yaml}colour: 1\n"))[0].starts_with("c.yaml:4:1: colour: unknown key")
    );
}

#[test]
fn places_in_yaml_are_those_of_the_values_and_keys() {
    let text = "# 東京\ninbounds:\n  - protocol: socks\n    listen: 127.0.0.1\n    port: 70000\n    settings:\n      udp: \"東\"\n      colour: 1\n  - {protocol: 東京, port: 5}\n";
    let said = refused("c.yaml", text);
    assert!(
        said[0].starts_with("c.yaml:5:11: inbounds[0].port: expected a port (1 to 65535), found 70000"),
        "{said:?}"
    );
    assert!(said[1].starts_with("c.yaml:7:12: inbounds[0].settings.udp: expected true or false"), "{said:?}");
    assert!(
        said[2].starts_with("c.yaml:9:16: inbounds[1].protocol: expected an inbound protocol"),
        "{said:?}"
    );
    let with_marks = format!("\u{FEFF}{}", text.replace('\n', "\r\n"));
    assert_eq!(refused("c.yaml", &with_marks), said);
    let warned = loaded("c.yaml", "log:\n  colour: 1\n").warnings;
    assert!(
        warned.iter().any(|one| one.to_string().starts_with("c.yaml:2:3: log.colour: unknown key")),
        "{warned:?}"
    );
}

#[test]
fn places_in_toml_are_those_of_the_values_and_keys() {
    let text = "# 東京\n[[inbounds]]\nprotocol = \"socks\"\nport = 70000\nsettings.udp = \"東\"\n\n[[inbounds]]\nprotocol = \"東京\"\nport = 5\n";
    let said = refused("c.toml", text);
    assert!(
        said[0].starts_with("c.toml:4:8: inbounds[0].port: expected a port (1 to 65535), found 70000"),
        "{said:?}"
    );
    assert!(said[1].starts_with("c.toml:5:16: inbounds[0].settings.udp: expected true or false"), "{said:?}");
    assert!(
        said[2].starts_with("c.toml:8:12: inbounds[1].protocol: expected an inbound protocol"),
        "{said:?}"
    );
    assert_eq!(refused("c.toml", &text.replace('\n', "\r\n")), said);
    assert_eq!(refused("c.toml", &format!("\u{FEFF}{text}")), said);
    let said = refused("c.toml", "[[inbounds]]\ntag = \"a\"\n\n[[inbounds]]\nport = 1\n");
    // A table of a list stands at its header.
    assert!(said[2].starts_with("c.toml:4:1: inbounds[1]: \"protocol\" is missing"), "{said:?}");
    let warned = loaded("c.toml", "[log]\ncolour = 1\n").warnings;
    assert!(
        warned.iter().any(|one| one.to_string().starts_with("c.toml:2:1: log.colour: unknown key")),
        "{warned:?}"
    );
    // A table without a header stands at the key that made it.
    let said = refused("c.toml", "[outbounds.a]\nx = 1\n");
    assert!(said[0].starts_with("c.toml:1:2: outbounds: expected a list"), "{said:?}");
}

#[test]
fn what_is_no_yaml_or_toml_is_told_with_its_place() {
    for (name, text, expected) in [
        ("c.yaml", "log: {\n", "c.yaml:2:1: this is not YAML: "),
        ("c.yaml", "log:\n  a: 1\n b: 2\n", "c.yaml:3:"),
        ("c.yaml", "a: b: c\n", "c.yaml:1:"),
        ("c.yaml", "a: 'x\n", "c.yaml:"),
        ("c.yaml", "", "c.yaml:1:1: expected a configuration, found nothing"),
        ("c.yaml", "# nothing\n", "c.yaml:1:1: expected a configuration, found nothing"),
        ("c.yaml", "log: {}\n---\nlog: {}\n", "c.yaml:2:1: expected one document, found another one"),
        ("c.yaml", "- 1\n", "c.yaml:1:1: expected an object, found a list"),
        ("c.toml", "log = {\n", "c.toml:"),
        ("c.toml", "log = yes\n", "c.toml:1:7: this is not TOML: "),
        ("c.toml", "[log]\n[log]\n", "c.toml:2:"),
    ] {
        let said = refused(name, text);
        assert!(said[0].starts_with(expected), "{text:?}: {said:?}");
    }
}

#[test]
fn plain_words_of_yaml_follow_the_core_schema() {
    let port = |port: &str| {
        let text = format!(
            "inbounds: [{{protocol: http, listen: 127.0.0.1, port: {port}}}]\noutbounds: [{{protocol: freedom}}]\n"
        );
        match load(&[Source::new("c.yaml", &text)], &Options::default()) {
            Ok(loaded) => loaded.config.inbounds[0].listen.ports().unwrap().first().to_string(),
            Err(errors) => errors[0].message.clone(),
        }
    };
    for (text, expected) in [
        ("443", "443"),
        ("+443", "443"),
        ("'443'", "443"),
        ("\"443\"", "443"),
        ("0x1bb", "443"),
        ("0o673", "443"),
        ("!!int 443", "443"),
        ("!!str 443", "443"),
        ("443-445", "443"),
        ("0443", "expected a number without a leading zero, found 0443"),
        ("443.5", "expected a port (1 to 65535), found 443.5"),
        ("4e2", "expected a port (1 to 65535), found 4e2"),
        ("true", "expected a port (1 to 65535), found true"),
        ("yes", "expected a port (1 to 65535) or a range of ports, found \"yes\""),
        ("~", "\"port\" is missing"),
        ("", "\"port\" is missing"),
        ("!x 443", "the tag \"!x\" is not understood"),
    ] {
        assert_eq!(port(text), expected, "{text}");
    }
    let flag = |word: &str| {
        let text = format!(
            "inbounds: [{{protocol: socks, listen: 127.0.0.1, port: 1, settings: {{udp: {word}}}}}]\noutbounds: [{{protocol: freedom}}]\n"
        );
        load(&[Source::new("c.yaml", &text)], &Options::default()).map_err(|errors| errors[0].to_string())
    };
    assert!(flag("true").is_ok() && flag("False").is_ok());
    assert!(
        flag("yes")
            .unwrap_err()
            .ends_with("expected true or false, found \"yes\"\n  help: write true without quotes")
    );
}

#[test]
fn anchors_work_and_merge_keys_are_refused() {
    let text = "inbounds:\n- &one {protocol: http, listen: 127.0.0.1, port: 1}\n- {protocol: http, listen: 127.0.0.2, port: &p 2}\n- {protocol: http, listen: 127.0.0.3, port: *p}\noutbounds: [{protocol: freedom}]\n";
    let config = loaded("c.yaml", text).config;
    assert_eq!(config.inbounds[2].listen.ports().unwrap().first(), 2);
    let said = refused("c.yaml", "log: &l {loglevel: info}\npolicy:\n  <<: *l\n");
    assert!(said[0].starts_with("c.yaml:3:3: merge keys are not supported"), "{said:?}");
    let said = refused("c.yaml", "log: &l [*l]\n");
    assert!(said[0].contains("this value would hold itself"), "{said:?}");
    let said = refused("c.yaml", "? [a]\n: 1\n");
    assert!(said[0].contains("expected a key that is a text"), "{said:?}");
}

#[test]
fn bombs_are_refused_in_a_second() {
    let laugh = |n: usize| {
        let before = vec![format!("*a{n}"); 10].join(", ");
        format!("a{}: &a{} [{before}]\n", n + 1, n + 1)
    };
    let laughs =
        "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned() + &(0..11).map(laugh).collect::<String>();
    let start = Instant::now();
    for (name, text) in [
        ("c.yaml", laughs),
        ("c.yaml", "[".repeat(100_000)),
        ("c.yaml", "- ".repeat(100_000)),
        ("c.yaml", "{a: ".repeat(50_000)),
        ("c.toml", format!("a = {}", "[".repeat(100_000))),
        ("c.toml", format!("{} = 1", vec!["a"; 100_000].join("."))),
        ("c.toml", format!("[{}]", vec!["a"; 100_000].join("."))),
        ("c.toml", format!("[{}]\n{} = 1", vec!["a"; 70].join("."), vec!["a"; 70].join("."))),
    ] {
        assert!(load(&[Source::new(name, &text)], &Options::default()).is_err(), "{name} {}", &text[..20]);
    }
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn every_text_cut_anywhere_and_changed_anywhere_is_handled() {
    for name in ["wss-client.yaml", "wss-client.toml"] {
        let text = here(&format!("tests/formats/{name}"));
        for (at, _) in text.char_indices() {
            load_of_a_file_returns(name, &text[..at]);
            for piece in [
                "", "東", "\"", "'", ":", "- ", "{", "[", "]", "&a ", "*a ", "\r", "\n", "\t", "#", "!", "|",
                "=", "\u{FEFF}", "\0", "---\n",
            ] {
                let rest = &text[at..];
                let skipped = rest.chars().next().map_or(0, char::len_utf8);
                load_of_a_file_returns(name, &format!("{}{piece}{}", &text[..at], &rest[skipped..]));
            }
        }
    }
}
