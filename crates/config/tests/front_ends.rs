//! What inbounds and outbounds learn about what stands between them: who says who the client is, who sends the PROXY
//! protocol, heartbeats, and what answers strangers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::num::NonZeroU32;

use wsray_config::{
    ClientWs, FallbackSite, ForwardedTrust, Heartbeat, InboundProtocol, Loaded, Options, OutboundProtocol,
    Preconnect, ProxyProtocol, ServerStream, Source, load,
};

const ID: &str = "f47ac10b-58cc-4372-a567-0e02b2c3d479";

fn loaded(text: &str) -> Loaded {
    load(&[Source::new("config.json", text)], &Options::default())
        .unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// An inbound with these settings, in V2Ray 4's dialect, loaded without a word.
fn inbound(ws: &str, sockopt: &str) -> (ForwardedTrust, Heartbeat) {
    served(&format!(
        r#"{{ "inbounds": [{{ "port": 443, "protocol": "vmess", "settings": {{ "clients": [{{ "id": "{ID}" }}] }},
        "streamSettings": {{ "network": "ws", "wsSettings": {ws}, "sockopt": {sockopt} }} }}],
        "outbounds": [{{ "protocol": "freedom" }}] }}"#
    ))
}

fn served(text: &str) -> (ForwardedTrust, Heartbeat) {
    let loaded = loaded(text);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let InboundProtocol::Vmess(vmess) = &loaded.config.inbounds[0].protocol else { panic!("{text}") };
    let ws = vmess.stream.ws.as_ref().unwrap();
    (ws.forwarded.clone(), ws.heartbeat)
}

fn outbound(ws: &str) -> Heartbeat {
    client(ws).heartbeat
}

fn client(ws: &str) -> ClientWs {
    let text = format!(
        r#"{{ "inbounds": [{{ "port": 1080, "listen": "127.0.0.1", "protocol": "socks" }}],
        "outbounds": [{{ "protocol": "vmess",
        "settings": {{ "vnext": [{{ "address": "192.0.2.1", "port": 443, "users": [{{ "id": "{ID}" }}] }}] }},
        "streamSettings": {{ "network": "ws" {ws} }} }}] }}"#
    );
    let loaded = loaded(&text);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let OutboundProtocol::Vmess(vmess) = &loaded.config.outbounds[0].protocol else { panic!("{text}") };
    vmess.stream.ws.clone().unwrap()
}

fn trusted(networks: &[&str]) -> ForwardedTrust {
    ForwardedTrust::ThisMachineAnd(networks.iter().map(|network| network.parse().unwrap()).collect())
}

fn every(seconds: u32) -> Heartbeat {
    Heartbeat::Every(NonZeroU32::new(seconds).unwrap())
}

#[test]
fn this_machine_is_trusted_and_others_by_name() {
    assert_eq!(inbound("{}", "{}"), (trusted(&[]), Heartbeat::Off));
    assert_eq!(inbound("null", "null").0, trusted(&[]));
    assert_eq!(inbound(r#"{ "parseXForwardedFor": true }"#, "{}").0, trusted(&[]));
    assert_eq!(inbound(r#"{ "parseXForwardedFor": false }"#, "{}").0, ForwardedTrust::Nobody);
    let sockopt = r#"{ "trustedXForwardedFor": ["172.18.0.0/16", "203.0.113.7", "2001:db8::/32"] }"#;
    assert_eq!(inbound("{}", sockopt).0, trusted(&["172.18.0.0/16", "203.0.113.7", "2001:db8::/32"]));
    assert_eq!(inbound("null", sockopt).0, inbound("{}", sockopt).0);
    assert_eq!(inbound("{}", r#"{ "trustedXForwardedFor": [] }"#).0, trusted(&[]));
}

#[test]
fn dialect_of_v2ray_5_says_the_same() {
    let v5 = |ws: &str| {
        served(&format!(
            r#"{{ "inbounds": [{{ "port": 443, "protocol": "vmess", "settings": {{ "users": ["{ID}"] }},
            "streamSettings": {{ "transport": "ws", "transportSettings": {ws},
            "socketSettings": {{ "trustedXForwardedFor": ["10.0.0.0/8"] }} }} }}],
            "outbounds": [{{ "protocol": "freedom" }}] }}"#
        ))
    };
    assert_eq!(v5("{}"), (trusted(&["10.0.0.0/8"]), Heartbeat::Off));
    assert_eq!(
        v5(r#"{ "parseXForwardedFor": true, "heartbeatPeriod": 5 }"#),
        (trusted(&["10.0.0.0/8"]), every(5))
    );
}

#[test]
fn heartbeat_is_the_clients_by_default_and_anybodys_by_its_key() {
    for (ws, expected) in [
        ("", Heartbeat::WhenIdle),
        (r#", "wsSettings": {}"#, Heartbeat::WhenIdle),
        (r#", "wsSettings": { "heartbeatPeriod": null }"#, Heartbeat::WhenIdle),
        (r#", "wsSettings": { "heartbeatPeriod": 0 }"#, Heartbeat::Off),
        (r#", "wsSettings": { "heartbeatPeriod": -1 }"#, Heartbeat::Off),
        (r#", "wsSettings": { "heartbeatPeriod": 20 }"#, every(20)),
    ] {
        assert_eq!(outbound(ws), expected, "{ws}");
    }
    assert_eq!(inbound(r#"{ "heartbeatPeriod": 20 }"#, "{}").1, every(20));
    assert_eq!(inbound(r#"{ "heartbeatPeriod": 0 }"#, "{}").1, Heartbeat::Off);
}

/// The stream of an inbound with these `wsSettings` and `transportSettings`, which have to mean the same.
fn in_both_dialects(ws: &str) -> ServerStream {
    let v4 = format!(
        r#""settings": {{ "clients": [{{ "id": "{ID}" }}] }}, "streamSettings": {{ "network": "ws", "wsSettings": {ws} }}"#
    );
    let v5 = format!(
        r#""settings": {{ "users": ["{ID}"] }}, "streamSettings": {{ "transport": "ws", "transportSettings": {ws} }}"#
    );
    let [v4, v5] = [v4, v5].map(|inbound| {
        let text = format!(
            r#"{{ "inbounds": [{{ "port": 443, "protocol": "vmess", {inbound} }}], "outbounds": [{{ "protocol": "freedom" }}] }}"#
        );
        let loaded = loaded(&text);
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        let InboundProtocol::Vmess(vmess) = &loaded.config.inbounds[0].protocol else { panic!("{text}") };
        vmess.stream.clone()
    });
    let site = |stream: &ServerStream| {
        stream.ws.as_ref().unwrap().fallback.as_ref().map(|fallback| fallback.site.clone())
    };
    assert_eq!((site(&v4), &v4.accept_proxy_protocol), (site(&v5), &v5.accept_proxy_protocol), "{ws}");
    v4
}

#[test]
fn fallback_is_a_folder_or_a_web_server() {
    let server = |address: &str, port| {
        Some(FallbackSite::Server(wsray_vmess::Target { address: address.parse().unwrap(), port }))
    };
    let folder = |path: &str| Some(FallbackSite::Folder(path.to_owned()));
    for (written, expected) in [
        ("null", None),
        ("\"\"", None),
        ("\"/var/www/html\"", folder("/var/www/html")),
        ("\"./site\"", folder("./site")),
        ("\"site\"", folder("site")),
        ("\"C:/site\"", folder("C:/site")),
        ("8080", server("127.0.0.1", 8080)),
        ("\"8080\"", server("127.0.0.1", 8080)),
        ("\"127.0.0.1:8080\"", server("127.0.0.1", 8080)),
        ("\"[::1]:8080\"", server("::1", 8080)),
        ("\"localhost:80\"", server("localhost", 80)),
        ("\"http://127.0.0.1:8080\"", server("127.0.0.1", 8080)),
        ("\"http://site.internal/\"", server("site.internal", 80)),
        ("\"unix:/run/site.sock\"", Some(FallbackSite::Unix("/run/site.sock".to_owned()))),
    ] {
        let stream = in_both_dialects(&format!(r#"{{ "fallback": {written} }}"#));
        let found = stream.ws.unwrap().fallback.map(|fallback| fallback.site);
        assert_eq!(found, expected, "{written}");
    }
}

#[test]
fn senders_of_the_proxy_protocol_can_be_limited() {
    let from = |networks: &[&str]| {
        ProxyProtocol::From(networks.iter().map(|network| network.parse().unwrap()).collect())
    };
    for (written, expected) in [
        ("{}", ProxyProtocol::Off),
        (r#"{ "acceptProxyProtocol": true }"#, ProxyProtocol::FromAnybody),
        (
            r#"{ "acceptProxyProtocol": true, "acceptProxyProtocolFrom": ["127.0.0.1", "2001:db8::/32"] }"#,
            from(&["127.0.0.1", "2001:db8::/32"]),
        ),
        (
            r#"{ "acceptProxyProtocol": true, "acceptProxyProtocolFrom": "10.0.0.0/8" }"#,
            from(&["10.0.0.0/8"]),
        ),
    ] {
        assert_eq!(in_both_dialects(written).accept_proxy_protocol, expected, "{written}");
    }
}

#[test]
fn preconnect_is_off_unless_the_outbound_asks_for_it() {
    let ready = |connections, seconds| {
        let connections = std::num::NonZeroU8::new(connections)?;
        Some(Preconnect { connections, max_age: std::time::Duration::from_secs(seconds) })
    };
    for (ws, expected) in [
        ("", None),
        (r#", "wsSettings": { "path": "/ray" }"#, None),
        (r#", "wsSettings": { "preconnect": 0 }"#, None),
        (r#", "wsSettings": { "preconnect": 2 }"#, ready(2, 20)),
        (r#", "wsSettings": { "preconnect": 16, "preconnectMaxAge": 3 }"#, ready(16, 3)),
    ] {
        assert_eq!(client(ws).preconnect, expected, "{ws}");
    }
}

/// The warnings about this outbound, with these `streamSettings`.
fn warnings_about(protocol: &str, stream: &str) -> Vec<String> {
    let server = r#""address": "proxy.example", "port": 443"#;
    let settings = match protocol {
        "vmess" => format!(
            r#"{{ "vnext": [{{ {server}, "users": [{{ "id": "b831381d-6324-4d53-ad4f-8cda48b30811" }}] }}] }}"#
        ),
        _ => format!(r#"{{ "servers": [{{ {server} }}] }}"#),
    };
    let text = format!(
        r#"{{ "inbounds": [{{ "protocol": "socks", "listen": "127.0.0.1", "port": 1080 }}],
          "outbounds": [{{ "protocol": "{protocol}", "settings": {settings}, "streamSettings": {stream} }}] }}"#
    );
    let loaded = load(&[Source::new("c.json", &text)], &Options::default()).unwrap();
    loaded.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn preconnect_of_an_outbound_that_does_not_use_it_is_told() {
    let stream = r#"{ "network": "ws", "wsSettings": { "preconnect": 2, "preconnectMaxAge": 3 } }"#;
    assert_eq!(warnings_about("vmess", stream), [""; 0]);
    for protocol in ["socks", "http"] {
        let said = warnings_about(protocol, stream);
        let about =
            |key: &str| said.iter().any(|one| one.contains(key) && one.contains("only vmess outbounds"));
        assert!(about("wsSettings.preconnect:") && about("wsSettings.preconnectMaxAge:"), "{said:?}");
    }
    assert_eq!(warnings_about("socks", r#"{ "network": "ws", "wsSettings": { "preconnect": 0 } }"#), [""; 0]);
}

#[test]
fn early_data_of_tls_without_any_of_websocket_is_told() {
    let stream = |network: &str, ws: &str| {
        format!(
            r#"{{ "network": "{network}", "security": "tls", "wsSettings": {ws},
              "tlsSettings": {{ "enableSessionResumption": true, "enableEarlyData": true }} }}"#
        )
    };
    let early = r#"{ "maxEarlyData": 2048, "earlyDataHeaderName": "Sec-WebSocket-Protocol" }"#;
    assert_eq!(warnings_about("vmess", &stream("ws", early)), [""; 0]);
    for stream in [stream("ws", "{}"), stream("ws", r#"{ "maxEarlyData": 0 }"#), stream("tcp", "{}")] {
        let said = warnings_about("vmess", &stream);
        assert!(
            said.iter().any(|one| one.contains("tlsSettings.enableEarlyData: this has no effect")),
            "{said:?}"
        );
    }
}
