//! VMess: servers, users, and who shares a connection.

use std::num::NonZeroU16;

use wsray_config::{InboundProtocol, Mux, MuxPackets, Udp443};
use wsray_vmess::SecurityChoice;

use crate::{ID, config, outbound};

#[test]
fn vmess_users_come_from_clients_or_users_with_id_or_uuid() {
    let text = format!(
        r#"{{ "inbounds": [{{ "protocol": "vmess", "port": 1, "settings": {{
          "clients": [{{ "id": "{ID}", "email": "a@example.com", "level": 1, "alterId": 0 }}],
          "users": ["{}", {{ "uuid": "{}" }}] }} }}] }}"#,
        ID.replace("b8", "b9"),
        ID.replace("b8", "ba").replace('-', "").to_uppercase(),
    );
    let InboundProtocol::Vmess(vmess) = &config(&text).inbounds[0].protocol else { panic!("not vmess") };
    let first_bytes: Vec<_> = vmess.users.iter().map(|user| user.id.as_bytes()[0]).collect();
    assert_eq!(first_bytes, [0xb8, 0xb9, 0xba]);
    assert_eq!((vmess.users[0].email.as_deref(), vmess.users[0].level), (Some("a@example.com"), 1));
    assert!(vmess.stream.ws.is_none() && vmess.stream.tls.is_none());
}

#[test]
fn vnext_keeps_all_servers_and_users() {
    let vmess = outbound(&format!(
        r#""settings": {{ "vnext": [
          {{ "address": "a.example.com", "port": 443, "users": [
             {{ "id": "{ID}", "security": "ZERO", "experiments": "AuthenticatedLength|NoTerminationSignal" }},
             {{ "id": "{ID}", "level": 3 }} ] }},
          {{ "address": "2001:db8::1", "port": 8443, "users": [{{ "id": "{ID}", "security": "chacha20-poly1305" }}] }}
        ] }}"#
    ));
    let [a, b] = &vmess.servers[..] else { panic!("not two servers") };
    assert_eq!((a.port.get(), b.port.get(), b.address.to_string().as_str()), (443, 8443, "[2001:db8::1]"));
    assert_eq!(a.users[0].security, SecurityChoice::Zero);
    assert!(a.users[0].authenticated_length && a.users[0].no_end_mark);
    assert_eq!((a.users[1].security, a.users[1].level), (SecurityChoice::Auto, 3));
    assert!(!a.users[1].authenticated_length && !a.users[1].no_end_mark);
    assert_eq!(b.users[0].security, SecurityChoice::ChaCha20Poly1305);
}

#[test]
fn a_flat_server_takes_uuid_or_id_or_users() {
    for user in [
        format!(r#""uuid": "{ID}""#),
        format!(r#""id": "{ID}""#),
        format!(r#""users": [{{ "id": "{ID}" }}]"#),
    ] {
        let vmess = outbound(&format!(r#""settings": {{ "address": "192.0.2.1", "port": 443, {user} }}"#));
        assert_eq!(vmess.servers[0].users[0].id.as_bytes()[0], 0xb8, "{user}");
    }
}

#[test]
fn xrays_spelling_of_a_client_and_server_is_read() {
    let vmess = outbound(&format!(
        r#""settings": {{ "address": "192.0.2.1", "port": 443, "id": "{ID}", "security": "aes-128-gcm", "level": 2 }},
          "streamSettings": {{ "network": "websocket", "wsSettings": {{ "host": "a.example.com", "path": "/x?ed=2048",
            "headers": {{ "Host": "b.example.com" }} }} }}"#
    ));
    let user = &vmess.servers[0].users[0];
    assert_eq!((user.security, user.level), (SecurityChoice::Aes128Gcm, 2));
    let ws = vmess.stream.ws.unwrap();
    assert_eq!((ws.path.as_str(), ws.headers.find("Host")), ("/x", Some("a.example.com")));
    assert_eq!(ws.early_data.unwrap().max_bytes.get(), 2048);
    let text = format!(
        r#"{{ "inbounds": [{{ "protocol": "vmess", "port": 1, "settings": {{ "users": [{{ "id": "{ID}", "email": "a@example.com" }}] }},
          "streamSettings": {{ "network": "ws", "wsSettings": {{ "path": "/x?ed=2048" }} }} }}] }}"#
    );
    let InboundProtocol::Vmess(vmess) = &config(&text).inbounds[0].protocol else { panic!("not vmess") };
    assert_eq!(vmess.users[0].email.as_deref(), Some("a@example.com"));
    assert_eq!(vmess.stream.ws.as_ref().unwrap().path.as_str(), "/x");
}

/// Which sessions share a connection of a vmess outbound with this `mux`.
fn mux(mux: &str) -> Mux {
    let text = format!(
        r#"{{ "outbounds": [{{ "protocol": "vmess", "mux": {mux}, "settings": {{ "vnext": [{{ "address": "example.com",
            "port": 443, "users": [{{ "id": "b831381d-6324-4d53-ad4f-8cda48b30811" }}] }}] }} }}] }}"#
    );
    match &config(&text).outbounds[0].protocol {
        wsray_config::OutboundProtocol::Vmess(vmess) => vmess.mux,
        other => panic!("{other:?}"),
    }
}

fn shared(text: &str) -> Option<u16> {
    mux(text).sessions
}

#[test]
fn mux_shares_a_connection_among_as_many_sessions_as_it_says() {
    assert_eq!(shared(r#"{ "enabled": true }"#), Some(8));
    assert_eq!(shared(r#"{ "enabled": true, "concurrency": 0 }"#), Some(8));
    assert_eq!(shared(r#"{ "enabled": true, "concurrency": 1024 }"#), Some(1024));
    assert_eq!(shared(r#"{ "enabled": true, "concurrency": -1 }"#), None);
    assert_eq!(shared(r#"{ "enabled": false, "concurrency": 8 }"#), None);
    assert_eq!(shared("{}"), None);
}

#[test]
fn mux_with_a_negative_concurrency_is_off() {
    let text =
        r#"{ "outbounds": [{ "protocol": "freedom", "mux": { "enabled": true, "concurrency": -1 } }] }"#;
    assert_eq!(config(text).outbounds.len(), 1);
}

#[test]
fn xudp_is_what_xray_means_by_it() {
    let most = |most| MuxPackets::Xudp(NonZeroU16::new(most).unwrap());
    for (text, sessions, packets, udp_443) in [
        (r#"{ "enabled": true }"#, Some(8), MuxPackets::AsStreams, Udp443::Allow),
        (r#"{ "enabled": true, "xudpConcurrency": 0 }"#, Some(8), MuxPackets::AsStreams, Udp443::Allow),
        (r#"{ "enabled": true, "xudpConcurrency": 16 }"#, Some(8), most(16), Udp443::Reject),
        (r#"{ "enabled": true, "concurrency": -1, "xudpConcurrency": 1 }"#, None, most(1), Udp443::Reject),
        (r#"{ "enabled": true, "xudpConcurrency": -1 }"#, Some(8), MuxPackets::Separate, Udp443::Reject),
        (
            r#"{ "enabled": true, "xudpConcurrency": 4, "xudpProxyUDP443": "allow" }"#,
            Some(8),
            most(4),
            Udp443::Allow,
        ),
        (r#"{ "enabled": true, "xudpProxyUDP443": "skip" }"#, Some(8), MuxPackets::AsStreams, Udp443::Skip),
        (r#"{ "enabled": false, "xudpConcurrency": 4 }"#, None, MuxPackets::AsStreams, Udp443::Allow),
    ] {
        assert_eq!(mux(text), Mux { sessions, packets, udp_443 }, "{text}");
    }
}
