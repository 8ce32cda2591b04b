//! Who answers behind the front end, and its early data.

use serde_json::json;

use crate::{
    examine::{UPGRADE, at_once, canned, client, examine, nginx},
    support::{
        config::{Early, Link, Tls, Transport},
        front,
        node::{Kind, Server},
    },
};

// The server.

#[test]
fn unknown_id_is_told() {
    needs!("v2ray-4.45", "sing-box");
    let link = Link { handshake: 60, ..Link::default() };
    at_once([Kind::Wsray, Kind::V2Ray445, Kind::SingBox], |kind| {
        let server = Server::start(kind, &link);
        let other = Link { id: crate::support::random_id(), ..link.clone() };
        let report = examine(&client(&other, server.port));
        report.names("vmess", "id-unknown").writes("client", "id");
        for id in [&link.id, &other.id] {
            assert!(!report.text.contains(id.as_str()), "a secret: {}", report.text);
        }
    });
}

#[test]
fn server_with_legacy_users_takes_todays_header() {
    needs!("v2ray-4.34", "v2ray-4.45");
    let link = Link::default();
    at_once([Kind::V2Ray434, Kind::V2Ray445], |kind| {
        let server = Server::start_with(kind, &link, |config| {
            config["inbounds"][0]["settings"]["clients"][0]["alterId"] = json!(4);
        });
        examine(&client(&link, server.port)).is_well();
    });
}

#[test]
fn other_protocols_are_told() {
    needs!("v2ray-4.45");
    let link = Link::default();
    let vless = Server::start_with(Kind::V2Ray445, &link, |config| {
        config["inbounds"][0]["protocol"] = json!("vless");
        config["inbounds"][0]["settings"] = json!({ "decryption": "none", "clients": [{ "id": link.id }] });
    });
    let report = examine(&client(&link, vless.port));
    assert!(report.causes().contains(&("vmess".to_owned(), "not-vmess".to_owned())), "{}", report.text);
    let raw = Link { transport: Transport::Tcp, ..link.clone() };
    examine(&client(&raw, canned("SSH-2.0-OpenSSH_9.2\r\n"))).names("vmess", "not-vmess");
    examine(&client(&link, canned("SSH-2.0-OpenSSH_9.2\r\n"))).names("upgrade", "not-http");
}

#[test]
fn other_transports_are_told() {
    needs!("v2ray-4.45");
    let ws = Link { handshake: 60, ..Link::default() };
    let raw = Link { transport: Transport::Tcp, ..ws.clone() };
    at_once([Kind::Wsray, Kind::V2Ray445], |kind| {
        let server = Server::start(kind, &ws);
        examine(&client(&raw, server.port)).names("vmess", "server-wants-websocket").writes("client", "ws");
    });
    let server = Server::start(Kind::Wsray, &raw);
    examine(&client(&ws, server.port)).names("upgrade", "tcp-works").writes("client", "tcp");
}

#[test]
fn proxy_protocol_on_one_side_only_is_told() {
    needs!("haproxy", "v2ray-4.45");
    for (kind, tls) in [(Kind::Wsray, Tls::Off), (Kind::Wsray, Tls::On), (Kind::V2Ray445, Tls::Off)] {
        let link = Link { tls, ..Link::default() };
        let server = Server::start_with(kind, &link, |config| {
            config["inbounds"][0]["streamSettings"]["wsSettings"]["acceptProxyProtocol"] = json!(true);
        });
        let step = if tls == Tls::On { "tls" } else { "upgrade" };
        let report = examine(&client(&link, server.port));
        report.names(step, "proxy-header-wanted").writes("server", "acceptProxyProtocol");
    }
    for (kind, tls) in [
        (Kind::Wsray, Tls::Off),
        (Kind::V2Ray445, Tls::Off),
        (Kind::Wsray, Tls::On),
        (Kind::V2Ray445, Tls::On),
    ] {
        let link = Link { tls, ..Link::default() };
        let server = Server::start(kind, &link);
        let front = front::haproxy(server.port, "send-proxy");
        let report = examine(&client(&link, front.port));
        let (step, code) = match (kind, tls) {
            (_, Tls::Off) => ("upgrade", "request-garbled"),
            (Kind::Wsray, Tls::On) => ("tls", "tls-garbled"),
            // It just closes.
            _ => ("tls", "tls-cut"),
        };
        report.names(step, code).writes("haproxy", "send-proxy");
    }
}

/// nginx is at either end of it, and closes or answers with a page of its own.
#[test]
fn proxy_protocol_that_nginx_does_not_expect_or_misses_is_told() {
    needs!("haproxy", "nginx");
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let location = format!("location /ray {{ proxy_pass http://127.0.0.1:{}; {UPGRADE} }}", server.port);
    let unaware = nginx(&format!("listen PORT; {location}"));
    let front = front::haproxy(unaware.port, "send-proxy");
    let report = examine(&client(&link, front.port));
    report.names("upgrade", "request-garbled").writes("haproxy", "send-proxy");
    report.writes("nginx", "listen 443 ssl proxy_protocol;");
    let wanting = nginx(&format!("listen PORT proxy_protocol; {location}"));
    examine(&client(&link, wanting.port))
        .names("upgrade", "proxy-header-wanted")
        .writes("nginx", "without proxy_protocol");
    examine(&client(&link, front::haproxy(wanting.port, "send-proxy").port)).is_well();
}

// Early data.

#[test]
fn early_data_that_is_too_long_is_told() {
    needs!("nginx");
    at_once([Early::Path(2048), Early::Header("Sec-WebSocket-Protocol", 2048)], |early| {
        let link = Link { early, ..Link::default() };
        let server = Server::start(Kind::Wsray, &link);
        let front = nginx(&format!(
            "listen PORT; large_client_header_buffers 1 1k; location /ray {{ proxy_pass http://127.0.0.1:{}; {UPGRADE} }}",
            server.port
        ));
        let report = examine(&client(&link, front.port));
        report.names("early data", "early-data-too-long").writes("nginx", "large_client_header_buffers");
    });
}

#[test]
fn early_data_that_the_front_end_does_not_pass_is_told() {
    needs!("nginx", "v2ray-4.45");
    at_once([Kind::Wsray, Kind::V2Ray445], |kind| {
        let link = Link { early: Early::Path(2048), ..Link::default() };
        let server = Server::start(kind, &link);
        let front = nginx(&format!(
            "listen PORT; location = /ray {{ proxy_pass http://127.0.0.1:{}; {UPGRADE} }}",
            server.port
        ));
        let report = examine(&client(&link, front.port));
        report.names("early data", "early-data-refused").writes("nginx", "without \\\"=\\\"");
        let link = Link { early: Early::Header("Sec-WebSocket-Protocol", 2048), ..link };
        let server = Server::start(kind, &link);
        let strip = "proxy_set_header Sec-WebSocket-Protocol \"\";";
        let front = nginx(&format!(
            "listen PORT; location /ray {{ proxy_pass http://127.0.0.1:{}; {UPGRADE} {strip} }}",
            server.port
        ));
        examine(&client(&link, front.port))
            .names("early data", "early-data-lost")
            .writes("nginx", "proxy_set_header");
    });
}

#[test]
fn server_without_early_data_is_told() {
    needs!("v2ray-4.45", "sing-box");
    at_once([Kind::Wsray, Kind::V2Ray445, Kind::SingBox], |kind| {
        let link = Link::default();
        let server = Server::start(kind, &link);
        let by = |early| examine(&client(&Link { early, ..link.clone() }, server.port));
        by(Early::Path(2048)).names("early data", "early-data-refused").writes("server", "maxEarlyData");
        by(Early::Header("Sec-WebSocket-Protocol", 2048))
            .names("early data", "early-data-lost")
            .writes("server", "maxEarlyData");
    });
}
