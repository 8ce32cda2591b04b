//! WebSocket, TLS and the PROXY protocol.

use wsray_config::{InboundProtocol, PemSource, ProxyProtocol};
use wsray_ws::EarlyDataPlace;

use crate::{ID, client, config, server};

#[test]
fn ws_defaults_are_the_root_path_and_nothing_else() {
    let ws = client(r#"{ "network": "ws" }"#).ws.unwrap();
    assert_eq!(ws.path.as_str(), "/");
    assert!(ws.headers.iter().next().is_none() && ws.early_data.is_none() && ws.browser_forwarding.is_none());
    let ws = server(r#"{ "network": "ws", "wsSettings": { "path": "" } }"#).ws.unwrap();
    assert_eq!(ws.path.as_str(), "/");
    assert_eq!(
        server(r#"{ "network": "ws", "wsSettings": { "path": "ray" } }"#).ws.unwrap().path.as_str(),
        "/ray"
    );
}

#[test]
fn early_data_travels_in_the_path_unless_a_header_is_named() {
    let ws = client(r#"{ "network": "ws", "wsSettings": { "maxEarlyData": 2147483647 } }"#).ws.unwrap();
    let early_data = ws.early_data.unwrap();
    assert_eq!((early_data.max_bytes.get(), early_data.place), (2_147_483_647, EarlyDataPlace::Path));
    let ws = server(
        r#"{ "network": "ws", "wsSettings": { "maxEarlyData": 1, "earlyDataHeaderName": "X-Early" } }"#,
    );
    assert!(
        matches!(ws.ws.unwrap().early_data.unwrap().place, EarlyDataPlace::Header(name) if name.is("x-early"))
    );
}

#[test]
fn xrays_ed_means_early_data_unless_the_file_says_its_own() {
    let ws = client(r#"{ "network": "ws", "wsSettings": { "path": "/ray?a=1&ed=2560&b=2" } }"#).ws.unwrap();
    assert_eq!(ws.path.as_str(), "/ray?a=1&b=2");
    let early_data = ws.early_data.unwrap();
    assert_eq!(early_data.max_bytes.get(), 2560);
    assert!(matches!(early_data.place, EarlyDataPlace::Header(name) if name.is("Sec-WebSocket-Protocol")));

    let ws = client(r#"{ "network": "ws", "wsSettings": { "path": "/ray?ed=2560", "maxEarlyData": 10 } }"#)
        .ws
        .unwrap();
    assert_eq!(ws.path.as_str(), "/ray?ed=2560");
    assert_eq!(ws.early_data.unwrap().max_bytes.get(), 10);

    let ws = server(r#"{ "network": "ws", "wsSettings": { "path": "/ray?ed=2560" } }"#).ws.unwrap();
    assert_eq!((ws.path.as_str(), ws.early_data.unwrap().max_bytes.get()), ("/ray", 2560));
    // In path mode V2Ray matches the query as a prefix like any other.
    let ws =
        server(r#"{ "network": "ws", "wsSettings": { "path": "/ray?a=", "maxEarlyData": 10 } }"#).ws.unwrap();
    assert_eq!(ws.path.as_str(), "/ray?a=");
}

#[test]
fn xrays_host_is_a_host_header_and_an_empty_host_is_none() {
    let ws = client(
        r#"{ "network": "ws", "wsSettings": { "host": "a.example.com", "headers": { "X-A": "b" } } }"#,
    );
    assert_eq!(ws.ws.unwrap().headers.find("host"), Some("a.example.com"));
    let ws = client(r#"{ "network": "ws", "wsSettings": { "headers": { "host": "", "User-Agent": "" } } }"#)
        .ws
        .unwrap();
    assert_eq!((ws.headers.find("Host"), ws.headers.find("User-Agent")), (None, Some("")));
}

#[test]
fn the_proxy_protocol_is_asked_for_by_ws_on_ws_and_by_the_socket_on_tcp() {
    let accepts = |stream: &str| server(stream).accept_proxy_protocol != ProxyProtocol::Off;
    assert!(accepts(r#"{ "network": "ws", "wsSettings": { "acceptProxyProtocol": true } }"#));
    assert!(!accepts(r#"{ "network": "ws", "sockopt": { "acceptProxyProtocol": true } }"#));
    assert!(accepts(r#"{ "network": "tcp", "sockopt": { "acceptProxyProtocol": true } }"#));
    assert!(accepts(r#"{ "tcpSettings": { "acceptProxyProtocol": true } }"#));
    assert!(!accepts("{}"));
}

#[test]
fn top_level_transport_fills_streams_without_settings_of_their_own() {
    let text = format!(
        r#"{{ "transport": {{ "wsSettings": {{ "path": "/shared" }} }}, "inbounds": [
          {{ "protocol": "vmess", "port": 1, "settings": {{ "clients": ["{ID}"] }}, "streamSettings": {{ "network": "ws" }} }},
          {{ "protocol": "vmess", "port": 2, "settings": {{ "clients": ["{ID}"] }},
             "streamSettings": {{ "network": "ws", "wsSettings": {{ "path": "/own" }} }} }} ] }}"#
    );
    let paths: Vec<_> = config(&text)
        .inbounds
        .iter()
        .map(|inbound| match &inbound.protocol {
            InboundProtocol::Vmess(vmess) => vmess.stream.ws.as_ref().unwrap().path.as_str().to_owned(),
            other => panic!("not vmess: {other:?}"),
        })
        .collect();
    assert_eq!(paths, ["/shared", "/own"]);
}

#[test]
fn certificates_come_from_files_or_lines() {
    let tls = server(
        r#"{ "security": "TLS", "tlsSettings": { "alpn": "h2,http/1.1", "enableSessionResumption": true, "certificates": [
          { "certificateFile": "c.pem", "keyFile": "k.pem" },
          { "usage": "Encipherment", "certificate": ["-----BEGIN", "a"], "key": ["b", "c"] } ] } }"#,
    )
    .tls
    .unwrap();
    assert!(matches!(&tls.certificates[0].certificate.source, PemSource::File(path) if path == "c.pem"));
    assert!(
        matches!(&tls.certificates[1].certificate.source, PemSource::Inline(text) if text == "-----BEGIN\na")
    );
    assert!(matches!(&tls.certificates[1].key.source, PemSource::Inline(text) if text == "b\nc"));
    assert_eq!(tls.alpn, ["h2", "http/1.1"]);
    assert_eq!(tls.resumption, wsray_config::Resumption::On);
    assert!(!format!("{tls:?}").contains("BEGIN"), "inline PEM in Debug");
}

#[test]
fn alpn_is_http_1_on_ws_and_both_on_tcp() {
    let alpn = |stream| client(stream).tls.unwrap().alpn;
    assert_eq!(alpn(r#"{ "network": "ws", "security": "tls" }"#), ["http/1.1"]);
    assert_eq!(alpn(r#"{ "network": "ws", "security": "tls", "tlsSettings": {} }"#), ["http/1.1"]);
    assert_eq!(
        alpn(r#"{ "network": "ws", "security": "tls", "tlsSettings": { "alpn": ["h2"] } }"#),
        ["http/1.1"]
    );
    assert_eq!(alpn(r#"{ "security": "tls" }"#), ["h2", "http/1.1"]);
}

#[test]
fn client_trust_is_read() {
    let tls = client(
        r#"{ "security": "tls", "tlsSettings": { "serverName": "a.example.com", "disableSystemRoot": true,
          "certificates": [{ "usage": "verify", "certificateFile": "ca.pem" }],
          "pinnedPeerCertificateChainSha256": ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="] } }"#,
    )
    .tls
    .unwrap();
    assert!(tls.disable_system_root && !tls.allow_insecure);
    assert!(matches!(&tls.extra_roots[0].source, PemSource::File(path) if path == "ca.pem"));
    assert_eq!(tls.pinned_chain_sha256, [std::array::from_fn(|n| u8::try_from(n).unwrap())]);
    let tls = client(r#"{ "security": "tls", "tlsSettings": { "allowInsecure": true } }"#).tls.unwrap();
    assert!(tls.allow_insecure && tls.server_name.is_none() && !tls.is_pinned());
    let tls = client(
        r#"{ "security": "tls", "tlsSettings": { "disableSystemRoot": true, "verifyPeerCertByName": "b.test,,c.test",
          "pinnedPeerCertSha256": "00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1e:1f" } }"#,
    )
    .tls
    .unwrap();
    assert_eq!(tls.pinned_sha256, [std::array::from_fn(|n| u8::try_from(n).unwrap())]);
    assert_eq!(tls.verified_names.iter().map(ToString::to_string).collect::<Vec<_>>(), ["b.test", "c.test"]);
}
