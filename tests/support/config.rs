//! Configurations for every kind of node, from one description of the link between client and server.

use serde_json::{Value, json};

use super::{certificate, node::Kind};

/// What both ends of a VMess link agree upon.
#[derive(Debug, Clone)]
pub struct Link {
    pub id: String,
    pub security: &'static str,
    pub transport: Transport,
    pub tls: Tls,
    pub path: String,
    pub early: Early,
    /// `wsSettings.headers` of the client.
    pub headers: Vec<(&'static str, &'static str)>,
    /// Policy `handshake` of the server, in seconds.
    pub handshake: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    WebSocket,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    Off,
    On,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Early {
    None,
    Path(u32),
    Header(&'static str, u32),
}

impl Default for Link {
    fn default() -> Self {
        Self {
            id: super::random_id(),
            security: "aes-128-gcm",
            transport: Transport::WebSocket,
            tls: Tls::Off,
            path: "/ray".to_owned(),
            early: Early::None,
            headers: Vec::new(),
            handshake: 2,
        }
    }
}

/// The ports of a client for its applications.
#[derive(Debug, Clone, Copy)]
pub struct AppPorts {
    pub socks: u16,
    pub http: u16,
}

pub fn client(kind: Kind, link: &Link, ports: AppPorts, server: u16) -> Value {
    match kind {
        Kind::SingBox => sing_box_client(link, ports, server),
        Kind::Wsray | Kind::V2Ray434 | Kind::V2Ray445 | Kind::V2Ray5 | Kind::Xray => {
            v4_client(link, ports, server)
        }
    }
}

pub fn server(kind: Kind, link: &Link, port: u16) -> Value {
    match kind {
        Kind::SingBox => sing_box_server(link, port),
        Kind::Xray => {
            let mut config = v4_server(link, port);
            // By default it refuses strangers the way to private addresses.
            config["outbounds"][0]["settings"] = json!({ "finalRules": [{ "action": "allow" }] });
            config
        }
        Kind::Wsray | Kind::V2Ray434 | Kind::V2Ray445 | Kind::V2Ray5 => v4_server(link, port),
    }
}

fn v4_client(link: &Link, ports: AppPorts, server: u16) -> Value {
    let mut stream = v4_stream(link);
    if link.tls == Tls::On {
        stream["tlsSettings"] = json!({
            "serverName": certificate::NAME,
            "certificates": [{ "usage": "verify", "certificateFile": certificate::files().authority }],
        });
    }
    if link.transport == Transport::WebSocket && !link.headers.is_empty() {
        stream["wsSettings"]["headers"] =
            link.headers.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
    }
    json!({
        "log": { "loglevel": "debug" },
        "inbounds": [
            { "tag": "socks-in", "port": ports.socks, "listen": "127.0.0.1", "protocol": "socks",
              "settings": { "auth": "noauth", "udp": true, "ip": "127.0.0.1" } },
            { "tag": "http-in", "port": ports.http, "listen": "127.0.0.1", "protocol": "http" },
        ],
        "outbounds": [{
            "tag": "proxy",
            "protocol": "vmess",
            "settings": { "vnext": [{
                "address": "127.0.0.1",
                "port": server,
                "users": [{ "id": link.id, "alterId": 0, "security": link.security }],
            }] },
            "streamSettings": stream,
        }],
    })
}

fn v4_server(link: &Link, port: u16) -> Value {
    let mut stream = v4_stream(link);
    if link.tls == Tls::On {
        let files = certificate::files();
        stream["tlsSettings"] =
            json!({ "certificates": [{ "certificateFile": files.certificate, "keyFile": files.key }] });
    }
    json!({
        "log": { "loglevel": "debug" },
        "policy": { "levels": { "0": { "handshake": link.handshake } } },
        "inbounds": [{
            "tag": "vmess-in", "port": port, "listen": "127.0.0.1", "protocol": "vmess",
            "settings": { "clients": [{ "id": link.id, "alterId": 0, "email": "user@example.test" }] },
            "streamSettings": stream,
        }],
        "outbounds": [{ "tag": "direct", "protocol": "freedom" }],
    })
}

fn v4_stream(link: &Link) -> Value {
    let security = if link.tls == Tls::On { "tls" } else { "none" };
    if link.transport == Transport::Tcp {
        return json!({ "network": "tcp", "security": security });
    }
    let mut settings = json!({ "path": link.path });
    match link.early {
        Early::None => {}
        Early::Path(most) => settings["maxEarlyData"] = json!(most),
        Early::Header(name, most) => {
            settings["maxEarlyData"] = json!(most);
            settings["earlyDataHeaderName"] = json!(name);
        }
    }
    json!({ "network": "ws", "security": security, "wsSettings": settings })
}

fn sing_box_client(link: &Link, ports: AppPorts, server: u16) -> Value {
    let mut outbound = json!({
        "type": "vmess", "tag": "proxy", "server": "127.0.0.1", "server_port": server,
        "uuid": link.id, "security": link.security, "alter_id": 0,
    });
    if link.tls == Tls::On {
        outbound["tls"] = json!({ "enabled": true, "server_name": certificate::NAME,
            "certificate_path": certificate::files().authority });
    }
    if let Some(mut transport) = sing_box_transport(link) {
        if !link.headers.is_empty() {
            transport["headers"] = link.headers.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        }
        outbound["transport"] = transport;
    }
    json!({
        "log": { "level": "debug" },
        "inbounds": [
            { "type": "socks", "tag": "socks-in", "listen": "127.0.0.1", "listen_port": ports.socks },
            { "type": "http", "tag": "http-in", "listen": "127.0.0.1", "listen_port": ports.http },
        ],
        "outbounds": [outbound],
    })
}

fn sing_box_server(link: &Link, port: u16) -> Value {
    let mut inbound = json!({
        "type": "vmess", "tag": "vmess-in", "listen": "127.0.0.1", "listen_port": port,
        "users": [{ "name": "user", "uuid": link.id, "alterId": 0 }],
    });
    if link.tls == Tls::On {
        let files = certificate::files();
        inbound["tls"] =
            json!({ "enabled": true, "certificate_path": files.certificate, "key_path": files.key });
    }
    if let Some(transport) = sing_box_transport(link) {
        inbound["transport"] = transport;
    }
    json!({
        "log": { "level": "debug" },
        "dns": { "servers": [{ "type": "local", "tag": "local" }] },
        "route": { "default_domain_resolver": "local" },
        "inbounds": [inbound],
        "outbounds": [{ "type": "direct", "tag": "direct" }],
    })
}

fn sing_box_transport(link: &Link) -> Option<Value> {
    if link.transport == Transport::Tcp {
        return None;
    }
    let mut transport = json!({ "type": "ws", "path": link.path });
    match link.early {
        Early::None => {}
        Early::Path(most) => transport["max_early_data"] = json!(most),
        Early::Header(name, most) => {
            transport["max_early_data"] = json!(most);
            transport["early_data_header_name"] = json!(name);
        }
    }
    Some(transport)
}
