//! V2Ray 5's own dialect. Expected values come from v2fly/v2ray-core's `infra/conf/v5cfg` and `config.proto` files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::{fs, path::Path, time::Duration};

use wsray_config::{
    Condition, Config, Diagnostic, Format, InboundProtocol, Level, Loaded, LogTarget, Options,
    OutboundProtocol, PemSource, Source, load,
};
use wsray_route::Sense;
use wsray_vmess::SecurityChoice;

const ID: &str = "b831381d-6324-4d53-ad4f-8cda48b30811";

fn load_v5(text: &str) -> Result<Loaded, Vec<Diagnostic>> {
    load(&[Source { format: Format::JsonV5, ..Source::new("c.json", text) }], &Options::default())
}

#[track_caller]
fn config(text: &str) -> Config {
    match load_v5(text) {
        Ok(loaded) => loaded.config,
        Err(errors) => panic!("refused: {}", errors[0]),
    }
}

#[track_caller]
fn refused(text: &str) -> String {
    let errors = load_v5(text).expect_err("it loads");
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn client(stream: &str) -> String {
    format!(
        r#"{{ "outbounds": [{{ "protocol": "vmess",
  "settings": {{ "address": "192.0.2.1", "port": 443, "uuid": "{ID}" }}, "streamSettings": {stream} }}] }}"#
    )
}

fn server(stream: &str) -> String {
    format!(
        r#"{{ "inbounds": [{{ "protocol": "vmess", "listen": "127.0.0.1", "port": 443,
  "settings": {{ "users": ["{ID}"] }}, "streamSettings": {stream} }}], "outbounds": [{{ "protocol": "freedom" }}] }}"#
    )
}

fn client_stream(stream: &str) -> wsray_config::ClientStream {
    match config(&client(stream)).outbounds.remove(0).protocol {
        OutboundProtocol::Vmess(vmess) => vmess.stream,
        other => panic!("not vmess: {other:?}"),
    }
}

/// The model as text, without the places, which differ.
fn without_places(config: &Config) -> String {
    let text = format!("{config:?}");
    let mut parts = text.split("Place { ");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |all, part| all + part.split_once(" }").unwrap().1)
}

fn ids(config: &Config) -> Vec<[u8; 16]> {
    let inbounds = config.inbounds.iter().flat_map(|inbound| match &inbound.protocol {
        InboundProtocol::Vmess(vmess) => vmess.users.iter().map(|user| *user.id.as_bytes()).collect(),
        _ => Vec::new(),
    });
    let outbounds = config.outbounds.iter().flat_map(|outbound| match &outbound.protocol {
        OutboundProtocol::Vmess(vmess) => {
            vmess.servers.iter().flat_map(|server| &server.users).map(|user| *user.id.as_bytes()).collect()
        }
        _ => Vec::new(),
    });
    inbounds.chain(outbounds).collect()
}

#[test]
fn the_twin_of_every_example_gives_the_same_model_and_the_same_warnings() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in fs::read_dir(here.join("../../examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        count += 1;
        let name = path.file_name().unwrap().to_str().unwrap();
        let v4 = fs::read_to_string(&path).unwrap();
        let v5 = fs::read_to_string(here.join("tests/v5_examples").join(name))
            .unwrap_or_else(|error| panic!("no twin of {name}: {error}"));
        let v4 = load(&[Source::new(name, &v4)], &Options::default()).unwrap();
        for format in [Format::Auto, Format::JsonV5] {
            let v5 = match load(&[Source { format, ..Source::new(name, &v5) }], &Options::default()) {
                Ok(loaded) => loaded,
                Err(errors) => panic!("{name}: {}", errors[0]),
            };
            assert_eq!(without_places(&v4.config), without_places(&v5.config), "{name} {format:?}");
            assert_eq!(ids(&v4.config), ids(&v5.config), "{name}");
            let messages = |loaded: &Loaded| -> Vec<_> {
                loaded.warnings.iter().map(|warning| warning.message.clone()).collect()
            };
            assert_eq!(messages(&v4), messages(&v5), "{name}");
        }
    }
    assert!(count >= 21, "only {count} examples");
}

#[test]
fn the_comparison_of_models_sees_differences() {
    let model = |path: &str| {
        without_places(&config(&client(&format!(
            r#"{{ "transport": "ws", "transportSettings": {{ "path": "{path}" }} }}"#
        ))))
    };
    assert_eq!(model("/a"), model("/a"));
    assert_ne!(model("/a"), model("/b"));
}

#[test]
fn the_dialect_is_recognised_by_keys_that_only_it_has() {
    for text in [
        r#"{ "router": { "rule": [] }, "outbounds": [{ "protocol": "freedom" }], "colour": 1 }"#.to_owned(),
        r#"{ "log": { "access": { "type": "None" } }, "colour": 1 }"#.to_owned(),
        client(r#"{ "transport": "ws", "colour": 1 }"#),
        r#"{ "outbounds": [{ "protocol": "freedom", "streamSettings": { "securitySettings": {} } }], "colour": 1 }"#
            .to_owned(),
    ] {
        let errors = load(&[Source::new("c.json", &text)], &Options::default()).unwrap_err();
        assert!(errors.iter().any(|error| error.to_string().contains("unknown key, as for V2Ray 5")), "{text}");
    }
    // The same keys in a document that has V2Ray 4's as well.
    let mixed = r#"{ "router": {}, "routing": {}, "outbounds": [{ "protocol": "freedom" }] }"#;
    let errors = load(&[Source::new("c.json", mixed)], &Options::default());
    assert!(errors.is_ok() || errors.unwrap_err()[0].to_string().contains("V2Ray 5's own dialect"));
}

#[test]
fn format_json_means_v2ray_4s_dialect() {
    let text = r#"{ "router": { "rule": [{ "tag": "a" }] } }"#;
    let source = Source { format: Format::Json, ..Source::new("c.json", text) };
    let errors = load(&[source], &Options::default()).unwrap_err();
    assert!(errors[0].message.contains("this is V2Ray 5's own dialect, in a configuration of V2Ray 4's"));
}

#[test]
fn unknown_keys_are_errors_at_every_level() {
    for (text, path) in [
        (r#"{ "x": null }"#.to_owned(), "x"),
        (r#"{ "_x": 1 }"#.to_owned(), "_x"),
        (r#"{ "log": { "x": 1 } }"#.to_owned(), "log.x"),
        (r#"{ "log": { "access": { "x": 1, "type": "None" } } }"#.to_owned(), "log.access.x"),
        (r#"{ "router": { "x": 1 } }"#.to_owned(), "router.x"),
        (r#"{ "services": { "x": {} } }"#.to_owned(), "services.x"),
        (
            r#"{ "services": { "policy": { "level": { "0": { "timeout": { "x": 1 } } } } } }"#.to_owned(),
            "services.policy.level.0.timeout.x",
        ),
        (client(r#"{ "x": 1 }"#), "outbounds[0].streamSettings.x"),
        (client(r#"{ "transportSettings": { "x": 1 } }"#), "outbounds[0].streamSettings.transportSettings.x"),
        (
            client(r#"{ "transport": "ws", "transportSettings": { "header": [{ "x": 1 }] } }"#),
            "outbounds[0].streamSettings.transportSettings.header[0].x",
        ),
        (
            server(r#"{ "security": "tls", "securitySettings": { "certificate": [{ "x": 1 }] } }"#),
            "inbounds[0].streamSettings.securitySettings.certificate[0].x",
        ),
        (
            r#"{ "inbounds": [{ "protocol": "http", "port": 1, "settings": { "timeout": 0 } }] }"#.to_owned(),
            "inbounds[0].settings.timeout",
        ),
        (
            r#"{ "outbounds": [{ "protocol": "blackhole", "settings": { "response": {} } }] }"#.to_owned(),
            "outbounds[0].settings.response",
        ),
        (
            r#"{ "outbounds": [{ "protocol": "freedom", "settings": { "x": {} } }] }"#.to_owned(),
            "outbounds[0].settings.x",
        ),
    ] {
        let said = refused(&text);
        assert!(said.contains(&format!(": {path}: unknown key, as for V2Ray 5")), "{path}: {said}");
    }
}

#[test]
fn keys_of_v2ray_4_are_told_apart_with_what_to_write() {
    for (text, path, help) in [
        (r#"{ "routing": { "rules": [1] } }"#.to_owned(), "routing", "\"router\""),
        (r#"{ "policy": { "levels": { "0": 1 } } }"#.to_owned(), "policy", "\"services\""),
        (client(r#"{ "network": "ws" }"#), "outbounds[0].streamSettings.network", "\"transport\""),
        (
            client(r#"{ "transport": "ws", "transportSettings": { "headers": { "Host": "a" } } }"#),
            "outbounds[0].streamSettings.transportSettings.headers",
            "\"header\"",
        ),
        (
            client(r#"{ "security": "tls", "securitySettings": { "alpn": ["h2"] } }"#),
            "outbounds[0].streamSettings.securitySettings.alpn",
            "\"nextProtocol\"",
        ),
    ] {
        let said = refused(&text);
        let at =
            said.find(&format!(": {path}: this is V2Ray 4's dialect")).unwrap_or_else(|| panic!("{said}"));
        assert!(said[at..].lines().nth(1).unwrap().contains(help), "{said}");
    }
}

#[test]
fn snake_case_means_the_same() {
    let camel = r#"{ "transport": "ws", "transportSettings": { "path": "/x", "acceptProxyProtocol": true,
      "maxEarlyData": 10, "earlyDataHeaderName": "X-Early" } }"#;
    let snake = r#"{ "transport": "ws", "transportSettings": { "path": "/x", "accept_proxy_protocol": true,
      "max_early_data": 10, "early_data_header_name": "X-Early" } }"#;
    let model = without_places(&config(&server(camel)));
    assert_eq!(model, without_places(&config(&server(snake))));
    assert!(model.contains("accept_proxy_protocol: FromAnybody") && model.contains("X-Early"), "{model}");
}

#[test]
fn headers_are_a_list_of_pairs_kept_in_order() {
    let ws = client_stream(
        r#"{ "transport": "ws", "transportSettings": { "header": [
          { "key": "X-B", "value": "2" }, { "key": "Host", "value": "www.example.com" }, { "key": "X-A", "value": "1" } ] } }"#,
    )
    .ws
    .unwrap();
    let headers: Vec<_> = ws.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(headers, [("X-B", "2"), ("Host", "www.example.com"), ("X-A", "1")]);
    let said = refused(&client(
        r#"{ "transport": "ws", "transportSettings": { "header": [{ "key": "a b", "value": "1" }, { "key": "c" }] } }"#,
    ));
    assert!(said.contains("header[0].key: expected the name of an HTTP header, found \"a b\""), "{said}");
    assert!(said.contains("header[1]: \"value\" is missing"), "{said}");
}

#[test]
fn defaults_are_tcp_without_tls_and_the_cipher_is_auto() {
    let config = config(&client("{}"));
    let OutboundProtocol::Vmess(vmess) = &config.outbounds[0].protocol else { panic!("not vmess") };
    assert!(vmess.stream.ws.is_none() && vmess.stream.tls.is_none());
    assert_eq!(vmess.servers[0].users[0].security, SecurityChoice::Auto);
    assert_eq!((config.log.access, config.log.level), (LogTarget::Off, Level::Warning));
}

#[test]
fn transports_and_securities_are_named_when_they_are_not_ours() {
    for (stream, expected) in [
        (r#"{ "transport": "websocket" }"#, "help: write \"ws\""),
        (r#"{ "transport": "grpc" }"#, "\"grpc\" is not supported by wsray"),
        (r#"{ "transport": "httpupgrade" }"#, "\"httpupgrade\" is not supported by wsray"),
        (r##"{ "transport": "#v2ray.core.transport.internet.websocket.Config" }"##, "expected a network (ws"),
        (r#"{ "security": "utls" }"#, "\"utls\" is not supported by wsray"),
        (r#"{ "security": "tsl" }"#, "help: write \"tls\""),
        (
            r#"{ "security": "tls", "securitySettings": { "serverName": "a.example.com", "allowInsecure": true } }"#,
            "securitySettings.allowInsecure: this is not supported",
        ),
        (
            r#"{ "transport": "ws", "transportSettings": { "useBrowserForwarding": true } }"#,
            "help: write \"services\": { \"browser\": { \"listenAddr\": \"127.0.0.1\", \"listenPort\": 8080 } }",
        ),
        (
            r#"{ "transportSettings": { "headerSettings": { "@type": "x" } } }"#,
            "headerSettings: this is not supported",
        ),
    ] {
        let said = refused(&client(stream));
        assert!(said.contains(expected), "{stream}: {said}");
    }
}

#[test]
fn tls_of_a_server_has_certificates_by_file_or_base64() {
    let text = server(
        r#"{ "transport": "ws", "security": "tls", "securitySettings": { "nextProtocol": ["http/1.1"],
          "minVersion": "TLS1_2", "maxVersion": "TLS1_3", "certificate": [
          { "certificateFile": "c.pem", "keyFile": "k.pem", "usage": "ENCIPHERMENT" },
          { "Certificate": "LS0tLS1CRUdJTgo=", "Key": "c2VjcmV0" } ] } }"#,
    );
    let config = config(&text);
    let InboundProtocol::Vmess(vmess) = &config.inbounds[0].protocol else { panic!("not vmess") };
    let tls = vmess.stream.tls.as_ref().unwrap();
    assert!(matches!(&tls.certificates[0].certificate.source, PemSource::File(path) if path == "c.pem"));
    let inline = &tls.certificates[1];
    assert!(matches!(&inline.certificate.source, PemSource::Inline(text) if text == "-----BEGIN\n"));
    assert!(matches!(&inline.key.source, PemSource::Inline(text) if text == "secret"));
    for (usage, expected) in [
        ("AUTHORITY_ISSUE", "is not supported by wsray"),
        ("verify", "expected a usage (ENCIPHERMENT, AUTHORITY_VERIFY)"),
    ] {
        let said = refused(&text.replace("ENCIPHERMENT", usage));
        assert!(said.contains(expected), "{said}");
    }
    let said = refused(&text.replace("LS0tLS1CRUdJTgo=", "LS0tLS1CRUdJTgo"));
    assert!(said.contains("expected a PEM file in base64") && !said.contains("LS0t"), "{said}");
    assert!(refused(&server(r#"{ "security": "tls" }"#)).contains("\"securitySettings\" is missing"));
}

#[test]
fn tls_of_a_client_trusts_what_is_written() {
    let tls = client_stream(
        r#"{ "security": "tls", "securitySettings": { "serverName": "a.example.com", "disableSystemRoot": true,
          "certificate": [{ "usage": "AUTHORITY_VERIFY", "certificateFile": "ca.pem" }],
          "pinnedPeerCertificateChainSha256": ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="],
          "allowInsecureIfPinnedPeerCertificate": true } }"#,
    )
    .tls
    .unwrap();
    assert!(tls.disable_system_root && tls.allow_insecure);
    assert_eq!(tls.server_name.unwrap().to_string(), "a.example.com");
    assert!(matches!(&tls.extra_roots[0].source, PemSource::File(path) if path == "ca.pem"));
    assert_eq!(tls.pinned_chain_sha256, [std::array::from_fn(|n| u8::try_from(n).unwrap())]);
    let stream = r#"{ "security": "tls", "securitySettings": { "serverName": "a.example.com",
        "allowInsecureIfPinnedPeerCertificate": true } }"#;
    assert!(!client_stream(stream).tls.unwrap().allow_insecure);
}

#[test]
fn logs_have_types_levels_and_paths() {
    let log = config(
        r#"{ "log": { "access": { "type": "File", "path": "a.log" }, "error": { "type": "Console", "level": "Debug" } } }"#,
    )
    .log;
    assert!(matches!(log.access, LogTarget::File { path, .. } if path == "a.log"));
    assert_eq!((log.error, log.level), (LogTarget::Stdout, Level::Debug));
    let log = config(r#"{ "log": { "error": { "type": "None" } } }"#).log;
    assert_eq!((log.access, log.error), (LogTarget::Off, LogTarget::Off));
    let loaded = load_v5(r#"{ "log": { "error": { "type": "Console" } } }"#).unwrap();
    assert!(loaded.warnings.iter().any(|one| one.message.contains("without a level V2Ray 5 writes nothing")));
    for (text, expected) in [
        (r#"{ "log": { "access": { "type": "File" } } }"#, "\"path\" is missing"),
        (r#"{ "log": { "access": { "type": "Event" } } }"#, "\"Event\" is not supported"),
        (r#"{ "log": { "error": { "type": "Console", "level": "warn" } } }"#, "expected a log level"),
        (r#"{ "log": { "loglevel": "debug" } }"#, "this is V2Ray 4's dialect"),
    ] {
        assert!(refused(text).contains(expected), "{text}");
    }
}

#[test]
fn rules_choose_by_inbound_and_lead_to_a_tag() {
    let text = r#"{ "inbounds": [{ "tag": "in", "protocol": "socks", "listen": "127.0.0.1", "port": 1080 }],
      "outbounds": [{ "tag": "a", "protocol": "freedom" }, { "tag": "b", "protocol": "blackhole" }],
      "router": { "domainStrategy": "AsIs", "rule": [
        { "tag": "b", "inboundTag": ["in"] }, { "tag": "a", "networks": ["tcp", "UDP"] } ] } }"#;
    let rules = config(text).routing.rules;
    assert_eq!(format!("{:?} {:?}", rules[0].conditions, rules[0].to), "[Inbound([\"in\"])] Outbound(1)");
    assert_eq!(format!("{:?} {:?}", rules[1].conditions, rules[1].to), "[Network(Both)] Outbound(0)");
    for (from, to, expected) in [
        (
            "\"tag\": \"b\", \"inboundTag\"",
            "\"tag\": \"c\", \"inboundTag\"",
            "no outbound with the tag \"c\"",
        ),
        ("\"inboundTag\": [\"in\"]", "\"inboundTag\": []", "this rule has no condition"),
        ("[\"tcp\", \"UDP\"]", "[\"icmp\"]", "expected a network (tcp, udp)"),
        ("\"tag\": \"b\", \"inboundTag\"", "\"inboundTag\"", "\"tag\" is missing"),
        (
            "\"tag\": \"b\", \"inboundTag\"",
            "\"balancingTag\": \"b\", \"inboundTag\"",
            "no balancer with the tag \"b\"",
        ),
        ("\"inboundTag\": [\"in\"]", "\"port\": 80", "write \"portList\""),
    ] {
        let said = refused(&text.replace(from, to));
        assert!(said.contains(expected), "{to}: {said}");
    }
}

/// Each condition is what V2Ray 4's spelling of it is.
#[test]
fn conditions_are_those_of_v2ray_4() {
    for (v5, v4) in [
        (
            r#""domain": [{ "type": "RootDomain", "value": "a.com" }, { "value": "b" }, { "type": "Regex", "value": "c$" },
              { "type": "Full", "value": "d.com" }], "geoDomain": [{ "code": "cn" }, { "code": "x@ads", "filePath": "my.dat" }]"#,
            r#""domain": ["domain:a.com", "b", "regexp:c$", "full:d.com", "geosite:cn", "ext:my.dat:x@ads"]"#,
        ),
        (
            r#""geoip": [{ "code": "private", "cidr": [{ "ip_addr": "1.2.3.0", "prefix": 24 },
              { "ip": "AQIDBA==", "prefix": 32 }] }]"#,
            r#""ip": ["geoip:private", "1.2.3.0/24", "1.2.3.4"]"#,
        ),
        (r#""geoip": [{ "countryCode": "cn" }]"#, r#""ip": ["geoip:cn"]"#),
        (r#""source_geoip": [{ "code": "x", "filePath": "my.dat" }]"#, r#""source": ["ext:my.dat:x"]"#),
        (r#""portList": "80,443", "sourcePortList": "1-5""#, r#""port": "80,443", "sourcePort": "1-5""#),
        (
            r#""userEmail": ["a@example.com"], "protocol": ["tls"]"#,
            r#""user": "a@example.com", "protocol": "tls""#,
        ),
        (r#""networks": "udp""#, r#""network": "udp""#),
        (r#""attributes": "attrs[':path'] == '/'""#, r#""attrs": "attrs[':path'] == '/'""#),
    ] {
        let outbounds = r#""outbounds": [{ "tag": "a", "protocol": "freedom" }]"#;
        let five = config(&format!(
            r#"{{ {outbounds}, "router": {{ "domainStrategy": "IpOnDemand", "rule": [{{ "tag": "a", {v5} }}] }} }}"#
        ));
        let four = format!(
            r#"{{ {outbounds}, "routing": {{ "domainStrategy": "IPOnDemand", "rules": [{{ "outboundTag": "a", {v4} }}] }} }}"#
        );
        let four = load(&[Source::new("v4.json", &four)], &Options::default()).unwrap().config;
        // Places differ.
        let bare = |config: &Config| {
            let text =
                format!("{:?} {:?}", config.routing.domain_strategy, config.routing.rules[0].conditions);
            text.split("place: Place {")
                .map(|part| part.split_once("}, ").map_or(part, |(_, rest)| rest))
                .collect::<String>()
        };
        assert_eq!(bare(&five), bare(&four), "{v5}");
    }
}

#[test]
fn addresses_listed_together_are_inverted_together() {
    let text = r#"{ "outbounds": [{ "tag": "a", "protocol": "freedom" }], "router": {
      "balancingRule": [{ "tag": "any", "outboundSelector": ["a"], "strategy": "random", "fallbackTag": "a" }],
      "rule": [{ "balancingTag": "any", "geoip": [
        { "inverseMatch": true, "cidr": [{ "ipAddr": "10.0.0.0", "prefix": 8 }, { "ipAddr": "::1", "prefix": 128 }] },
        { "code": "cn" }] }] } }"#;
    let routing = config(text).routing;
    assert_eq!(routing.balancers[0].candidates(), [0]);
    let Condition::Ip(groups) = &routing.rules[0].conditions[0] else { panic!("not addresses") };
    let read: Vec<_> = groups.iter().map(|group| (group.sense, group.sources.len())).collect();
    assert_eq!(read, [(Sense::Outside, 2), (Sense::Inside, 1)]);
    for (from, to, expected) in [
        (", \"prefix\": 8", "", "\"prefix\" is missing"),
        ("\"prefix\": 8", "\"prefix\": 64", "expected a prefix from 0 to 32, found 64"),
        ("\"10.0.0.0\"", "\"a.com\"", "expected an IP address, found \"a.com\""),
        ("{ \"code\": \"cn\" }", "{}", "no addresses are named"),
        ("\"random\"", "\"quickest\"", "expected a way to choose (random, roundRobin)"),
    ] {
        let said = refused(&text.replacen(from, to, 1));
        assert!(said.contains(expected), "{to}: {said}");
    }
}

#[test]
fn policy_is_a_service() {
    let text = r#"{ "services": { "stats": {}, "policy": { "level": { "1": { "timeout": {
      "handshake": { "value": 4 }, "connection_idle": { "value": 100 }, "uplinkOnly": { "value": 0 } } } } } } }"#;
    let timeouts = config(text).policy.timeouts(1);
    assert_eq!(timeouts.handshake, Duration::from_secs(4));
    assert_eq!(timeouts.connection_idle, Duration::from_secs(100));
    assert_eq!((timeouts.uplink_only, timeouts.downlink_only), (Some(Duration::ZERO), None));
    assert!(refused(&text.replace("{ \"value\": 4 }", "4")).contains("expected an object, found 4"));
    assert!(
        refused(r#"{ "services": { "tun": { "name": "tun0" } } }"#)
            .contains("services.tun: this is not supported")
    );
    assert!(
        refused(r#"{ "services": { "reverse": { "size": 5 } } }"#)
            .contains("services.reverse: this is not supported")
    );
}

#[test]
fn local_inbounds_and_freedom_have_their_own_names() {
    let text = r#"{ "inbounds": [
      { "protocol": "socks", "listen": "127.0.0.1", "port": 1080, "settings": { "udpEnabled": true, "address": "127.0.0.1", "packetEncoding": "None" } },
      { "protocol": "http", "listen": "127.0.0.1", "port": 1081, "settings": {} } ],
      "outbounds": [{ "protocol": "freedom", "settings": { "destinationOverride": { "server": { "address": "127.0.0.1", "port": 3366 } },
        "protocolReplacement": "IDENTITY", "finalRules": [{ "action": "block", "ip": ["geoip:private"] }] } }] }"#;
    let config = config(text);
    let InboundProtocol::Socks(socks) = &config.inbounds[0].protocol else { panic!("not socks") };
    assert_eq!(socks.udp.as_ref().unwrap().reply_address.unwrap().to_string(), "127.0.0.1");
    let OutboundProtocol::Freedom(freedom) = &config.outbounds[0].protocol else { panic!("not freedom") };
    let redirect = freedom.redirect.as_ref().unwrap();
    assert_eq!(redirect.address.as_ref().unwrap().to_string(), "127.0.0.1");
    assert_eq!(redirect.port.unwrap().get(), 3366);
    let [rule] = &freedom.final_rules[..] else { panic!("{:?}", freedom.final_rules) };
    assert!(rule.addresses.as_ref().unwrap().contains([10, 0, 0, 1].into()));
    for (from, to, expected) in [
        ("\"None\"", "\"Stream\"", "packetEncoding: \"Stream\" is not supported by wsray"),
        ("\"IDENTITY\"", "\"FORCE_TCP\"", "replacing protocols is not supported"),
        ("\"block\"", "\"drop\"", "finalRules[0]: unknown action \"drop\""),
        ("\"udpEnabled\"", "\"udp\"", "help: write \"udpEnabled\""),
    ] {
        assert!(refused(&text.replace(from, to)).contains(expected), "{to}");
    }
}

#[test]
fn users_are_ids_and_servers_are_flat() {
    let said = refused(&server("{}").replace(&format!("\"{ID}\""), &format!("{{ \"id\": \"{ID}\" }}")));
    assert!(said.contains("users[0]: expected a UUID in double quotes, found an object"), "{said}");
    let said = refused(&client("{}").replace("uuid", "id"));
    assert!(said.contains("settings.id: this is V2Ray 4's dialect"), "{said}");
    let said = refused(r#"{ "outbounds": [{ "protocol": "vmess", "settings": { "port": 443 } }] }"#);
    assert!(said.contains("there is no server: \"address\" is missing"), "{said}");
}

#[test]
fn the_dialect_cannot_be_merged_with_other_sources() {
    let v5 = r#"{ "router": {} }"#;
    for sources in [
        [Source::new("a.json", "{}"), Source::new("b.json", v5)],
        [Source::new("b.json", v5), Source::new("a.json", "{}")],
    ] {
        let errors = load(&sources, &Options::default()).unwrap_err();
        assert!(
            errors[0]
                .to_string()
                .starts_with("b.json:1:1: a configuration in V2Ray 5's own dialect cannot be merged")
        );
    }
}

#[test]
fn its_streams_are_understood_in_a_configuration_of_v2ray_4_with_a_warning() {
    let text = format!(
        r#"{{ "inbounds": [{{ "protocol": "vmess", "listen": "127.0.0.1", "port": 443, "settings": {{ "clients": [{{ "id": "{ID}" }}] }},
          "streamSettings": {{ "transport": "ws", "transportSettings": {{ "path": "/x" }} }} }}], "outbounds": [{{ "protocol": "freedom" }}] }}"#
    );
    let loaded = load(&[Source::new("c.json", &text)], &Options::default()).unwrap();
    let InboundProtocol::Vmess(vmess) = &loaded.config.inbounds[0].protocol else { panic!("not vmess") };
    assert_eq!(vmess.stream.ws.as_ref().unwrap().path.as_str(), "/x");
    assert!(loaded.warnings[0].message.contains("where V2Ray would ignore it"), "{:?}", loaded.warnings);
}

/// The block is what V2Ray 4's spelling of it is.
#[test]
fn dns_is_that_of_v2ray_4() {
    let shape = |dns: &wsray_config::Dns| {
        let hosts = dns.hosts.iter().map(|host| format!("{:?} {:?}", host.names.value, host.to));
        let servers = dns.servers.iter().map(|server| {
            let domains: Vec<_> = server.domains.iter().map(|domain| &domain.value).collect();
            let expected =
                server.expected.iter().flat_map(|group| &group.sources).map(|source| &source.value);
            let expected: Vec<_> = expected.collect();
            format!(
                "{:?} {domains:?} {expected:?} {:?} {:?} {:?} {:?} {:?}",
                server.address, server.client, server.families, server.cache, server.fallback, server.tag
            )
        });
        hosts.chain(servers).collect::<Vec<_>>()
    };
    let outbounds = r#""outbounds": [{ "tag": "a", "protocol": "freedom" }]"#;
    let five = config(&format!(
        r#"{{ {outbounds}, "dns": {{
          "nameServer": [
            {{ "address": {{ "network": "UDP", "address": "1.1.1.1", "port": 5353 }}, "tag": "one", "skipFallback": true,
               "prioritizedDomain": [{{ "type": "Subdomain", "domain": "a.com" }}, {{ "domain": "b.com" }},
                 {{ "type": "Keyword", "domain": "c" }}, {{ "type": "Regex", "domain": "d$" }}],
               "geoDomain": [{{ "code": "cn" }}], "geoip": [{{ "code": "cn" }}] }},
            {{ "address": {{ "address": "https+local://dns.example/dns-query" }}, "queryStrategy": "USE_IP4",
               "cacheStrategy": "CacheDisabled", "fallbackStrategy": "DisabledIfAnyMatch" }},
            {{ "address": {{ "address": "localhost" }} }} ],
          "staticHosts": [ {{ "type": "Subdomain", "domain": "x.test", "ip": ["127.0.0.1", "::1"] }},
            {{ "domain": "y.test", "proxiedDomain": "z.test" }} ],
          "clientIp": "192.0.2.1", "queryStrategy": "USE_IP6", "tag": "all" }} }}"#
    ));
    let four = format!(
        r#"{{ {outbounds}, "dns": {{
          "servers": [
            {{ "address": "1.1.1.1", "port": 5353, "tag": "one", "skipFallback": true,
               "domains": ["domain:a.com", "full:b.com", "c", "regexp:d$", "geosite:cn"], "expectIPs": ["geoip:cn"] }},
            {{ "address": "https+local://dns.example/dns-query", "queryStrategy": "UseIPv4", "disableCache": true }},
            "localhost" ],
          "hosts": {{ "domain:x.test": ["127.0.0.1", "::1"], "y.test": "z.test" }},
          "clientIp": "192.0.2.1", "queryStrategy": "UseIPv6", "tag": "all" }} }}"#
    );
    let four = load(&[Source::new("config.json", &four)], &Options::default()).unwrap().config;
    let (five, four) = (shape(&five.dns.unwrap()), shape(&four.dns.unwrap()));
    assert_eq!(five.len(), 5);
    for (five, four) in five.iter().zip(&four) {
        assert_eq!(&five.replace("UnlessMatched", "Always"), four);
    }
    assert!(
        refused(
            r#"{ "dns": { "servers": ["1.1.1.1"] }, "outbounds": [{ "protocol": "freedom" }], "router": {} }"#
        )
        .contains("write \"nameServer\"")
    );
}

/// As in every JSON for protobuf; V2Ray 5.52 loads both.
#[test]
fn a_number_may_stand_in_quotes() {
    let early_data = |written: &str| {
        let stream = format!(
            r#"{{ "transport": "ws", "transportSettings": {{ "maxEarlyData": {written}, "earlyDataHeaderName": "X" }} }}"#
        );
        client_stream(&stream).ws.unwrap().early_data.unwrap().max_bytes.get()
    };
    assert_eq!((early_data("4096"), early_data("\"4096\"")), (4096, 4096));
    let stream = r#"{ "transport": "ws", "transportSettings": { "maxEarlyData": "4k" } }"#;
    assert!(refused(&client(stream)).contains("found \"4k\""));
}

#[test]
fn what_leads_to_the_commander_is_not_listened_on() {
    let text = r#"{ "services": { "commander": { "tag": "s" } },
      "inbounds": [{ "tag": "in", "protocol": "dokodemo-door", "listen": "127.0.0.1", "port": 1, "settings": { "address": "127.0.0.1" } }],
      "outbounds": [{ "protocol": "freedom" }], "router": { "rule": [{ "inboundTag": ["in"], "tag": "s" }] } }"#;
    let config = config(text);
    assert!(config.inbounds.is_empty() && config.outbounds.len() == 2);
}
