//! The examples people start from: those of this repository, and the six of V2Ray's own document on WebSocket
//! as they are printed there (`user_document/`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::{fs, path::Path};

use wsray_config::{
    Config, InboundProtocol, Loaded, Options, OutboundProtocol, PemSource, ProxyProtocol, Source,
    VmessInbound, VmessOutbound, load,
};
use wsray_ws::EarlyDataPlace;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn loaded(text: &str) -> Loaded {
    match load(&[Source::new("config.json", text)], &Options::default()) {
        Ok(loaded) => loaded,
        Err(errors) => panic!("refused: {}", errors[0]),
    }
}

fn refused(text: &str) -> String {
    let errors = load(&[Source::new("config.json", text)], &Options::default()).expect_err("it loads");
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].to_string()
}

fn vmess_out(config: &Config) -> &VmessOutbound {
    match &config.outbounds[0].protocol {
        OutboundProtocol::Vmess(vmess) => vmess,
        other => panic!("not vmess: {other:?}"),
    }
}

fn vmess_in(config: &Config) -> &VmessInbound {
    match &config.inbounds[0].protocol {
        InboundProtocol::Vmess(vmess) => vmess,
        other => panic!("not vmess: {other:?}"),
    }
}

/// A fragment of the document, put where it belongs in a client.
fn as_client(fragment: &str) -> String {
    let inside = fragment.trim().strip_prefix('{').unwrap().strip_suffix('}').unwrap();
    format!(
        r#"{{ "inbounds": [{{ "protocol": "socks", "listen": "127.0.0.1", "port": 11080 }}],
  "outbounds": [{{ "protocol": "vmess",
    "settings": {{ "vnext": [{{ "address": "server.example.com", "port": 443,
      "users": [{{ "id": "b831381d-6324-4d53-ad4f-8cda48b30811" }}] }}] }},
    {inside} }}] }}"#
    )
}

#[test]
fn every_example_loads_and_warns_of_nothing_but_implicit_outbounds() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut count = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        count += 1;
        let loaded = loaded(&fs::read_to_string(&path).unwrap());
        let is_server = path.file_stem().unwrap().to_str().unwrap().ends_with("server");
        let messages: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(messages.len(), usize::from(is_server), "{}: {messages:?}", path.display());
        assert!(messages.iter().all(|message| message.contains("there are no outbounds")), "{messages:?}");
        assert_eq!(loaded.config.implicit_freedom, is_server, "{}", path.display());
        for inbound in &loaded.config.inbounds {
            let Some(address) = inbound.listen.address() else { continue };
            assert!(address.is_loopback() && inbound.listen.ports().unwrap().first() > 10000);
        }
    }
    assert!(count >= 21, "only {count} examples");
}

#[test]
fn each_example_is_named_in_the_index() {
    let index = read("../../examples/README.md");
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            Path::new(&name).extension().is_some_and(|extension| extension == "pem")
                || name == "README.md"
                || index.contains(&name),
            "{name} is missing"
        );
    }
}

#[test]
fn document_example_1_loads_as_printed_and_says_that_nothing_listens() {
    let loaded = loaded(&read("tests/user_document/example-1-client.json"));
    let vmess = vmess_out(&loaded.config);
    assert_eq!(vmess.servers.len(), 1);
    assert_eq!(vmess.servers[0].address.to_string(), "server.example.com");
    assert_eq!(vmess.servers[0].port.get(), 443);
    assert_eq!(vmess.servers[0].users[0].id.as_bytes()[..4], [0xb8, 0x31, 0x38, 0x1d]);
    assert_eq!(vmess.stream.ws.as_ref().unwrap().path.as_str(), "/v2ray");
    let tls = vmess.stream.tls.as_ref().unwrap();
    assert_eq!(tls.server_name.as_ref().unwrap().to_string(), "server.example.com");
    assert_eq!(tls.alpn, ["http/1.1"]);
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].message.starts_with("nothing listens"));
    assert!(!loaded.config.implicit_freedom);
}

#[test]
fn document_fragments_are_refused_with_the_place_where_they_belong() {
    for name in ["2-headers", "4-early-data", "5-client"] {
        let said = refused(&read(&format!("tests/user_document/example-{name}.json")));
        assert!(said.starts_with("config.json:2:3: streamSettings: this does not belong here"), "{said}");
        assert!(said.contains("move it into an element of \"outbounds\""), "{said}");
    }
}

#[test]
fn document_example_2_keeps_its_headers_in_order() {
    let loaded = loaded(&as_client(&read("tests/user_document/example-2-headers.json")));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let headers: Vec<_> = vmess_out(&loaded.config)
        .stream
        .ws
        .as_ref()
        .unwrap()
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        headers,
        [
            ("User-Agent", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36"),
            ("Host", "www.example.com")
        ]
    );
}

#[test]
fn document_example_3_serves_directly_and_names_its_files() {
    let loaded = loaded(&read("tests/user_document/example-3-server.json"));
    assert!(loaded.config.implicit_freedom);
    assert!(
        matches!(loaded.config.outbounds[..], [ref one] if matches!(one.protocol, OutboundProtocol::Freedom(_)))
    );
    let listen = &loaded.config.inbounds[0].listen;
    assert_eq!(
        (
            listen.address().unwrap().to_string().as_str(),
            listen.ports().unwrap().first(),
            listen.ports().unwrap().last()
        ),
        ("0.0.0.0", 443, 443)
    );
    let tls = vmess_in(&loaded.config).stream.tls.as_ref().unwrap();
    let pair = &tls.certificates[0];
    assert!(matches!(&pair.certificate.source, PemSource::File(path) if path == "/path/to/cert.crt"));
    assert!(matches!(&pair.key.source, PemSource::File(path) if path == "/path/to/key.key"));
    assert_eq!(
        pair.key.place.path.as_ref(),
        "inbounds[0].streamSettings.tlsSettings.certificates[0].keyFile"
    );
    assert_eq!((pair.key.place.line, pair.key.place.column), (23, 26));
}

#[test]
fn document_example_4_sends_early_data_in_a_header() {
    let loaded = loaded(&as_client(&read("tests/user_document/example-4-early-data.json")));
    let early_data = vmess_out(&loaded.config).stream.ws.as_ref().unwrap().early_data.clone().unwrap();
    assert_eq!(early_data.max_bytes.get(), 2048);
    assert!(
        matches!(&early_data.place, EarlyDataPlace::Header(name) if name.as_str() == "Sec-WebSocket-Protocol")
    );
}

#[test]
fn document_examples_5_and_6_need_a_real_id_and_then_serve() {
    for (name, proxy_protocol) in [("5-server", false), ("6-proxy-protocol", true)] {
        let text = read(&format!("tests/user_document/example-{name}.json"));
        let said = refused(&text);
        assert!(
            said.contains("inbounds[0].settings.clients[0].id: expected a UUID, found the placeholder"),
            "{said}"
        );
        assert!(said.contains("wsray uuid"), "{said}");
        let loaded = loaded(&text.replace("\"uuid\"", "\"b831381d-6324-4d53-ad4f-8cda48b30811\""));
        let vmess = vmess_in(&loaded.config);
        assert_eq!(vmess.users.len(), 1);
        assert_eq!(vmess.stream.accept_proxy_protocol != ProxyProtocol::Off, proxy_protocol);
        assert!(vmess.stream.ws.is_some() && vmess.stream.tls.is_none());
    }
}
