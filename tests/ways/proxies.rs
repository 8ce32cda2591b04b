//! socks and http outbounds: through the inbounds of wsray, V2Ray and sing-box, and through proxies that follow a
//! script.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    apps::{self, Association},
    certificate,
    config::Tls,
    free_port,
    node::{Kind, Node, missing},
    origin::{Origin, UdpEcho, hash_of, pattern},
    skip,
};

const USER: &str = "somebody";
const PASSWORD: &str = "correct horse";

/// A proxy for SOCKS and HTTP that sends everything directly.
struct Proxy {
    _node: Node,
    socks: u16,
    http: u16,
}

impl Proxy {
    fn start(kind: Kind, with_account: bool, tls: Tls) -> Self {
        let (socks, http) = (free_port(), free_port());
        let config = match kind {
            Kind::SingBox => sing_box(socks, http, with_account, tls),
            _ => v4(socks, http, with_account, tls),
        };
        let node = Node::start(kind, "proxy", &config.to_string(), &[socks, http]);
        Self { _node: node, socks, http }
    }
}

fn v4(socks: u16, http: u16, with_account: bool, tls: Tls) -> Value {
    let mut inbounds = json!([
        { "port": socks, "listen": "127.0.0.1", "protocol": "socks",
          "settings": { "udp": true, "ip": "127.0.0.1" } },
        { "port": http, "listen": "127.0.0.1", "protocol": "http", "settings": {} },
    ]);
    for inbound in inbounds.as_array_mut().unwrap() {
        if with_account {
            inbound["settings"]["auth"] = json!("password");
            inbound["settings"]["accounts"] = json!([{ "user": USER, "pass": PASSWORD }]);
        }
        if tls == Tls::On {
            let files = certificate::files();
            inbound["streamSettings"] = json!({ "security": "tls", "tlsSettings": { "certificates":
                [{ "certificateFile": files.certificate, "keyFile": files.key }] } });
        }
    }
    json!({ "inbounds": inbounds, "outbounds": [{ "protocol": "freedom" }] })
}

fn sing_box(socks: u16, http: u16, with_account: bool, tls: Tls) -> Value {
    let mut inbounds = json!([
        { "type": "socks", "listen": "127.0.0.1", "listen_port": socks },
        { "type": "http", "listen": "127.0.0.1", "listen_port": http },
    ]);
    if with_account {
        for inbound in inbounds.as_array_mut().unwrap() {
            inbound["users"] = json!([{ "username": USER, "password": PASSWORD }]);
        }
    }
    if tls == Tls::On {
        let files = certificate::files();
        inbounds[1]["tls"] =
            json!({ "enabled": true, "certificate_path": files.certificate, "key_path": files.key });
    }
    json!({ "inbounds": inbounds, "outbounds": [{ "type": "direct" }] })
}

/// wsray with a socks inbound and this outbound.
struct Asking {
    node: Node,
    socks: u16,
}

impl Asking {
    fn start(outbound: &Value) -> Self {
        let socks = free_port();
        let config = json!({
            "log": { "loglevel": "debug" },
            "inbounds": [{ "port": socks, "listen": "127.0.0.1", "protocol": "socks",
                           "settings": { "udp": true } }],
            "outbounds": [outbound],
        });
        let node = Node::start(Kind::Wsray, "asking", &config.to_string(), &[socks]);
        Self { node: node.keeping_secret(PASSWORD), socks }
    }

    fn connect(&self, origin: &Origin) -> TcpStream {
        apps::socks5(self.socks, origin.address.into(), None).unwrap()
    }

    fn echoes(&self, origin: &Origin) -> bool {
        apps::check_echo(&self.connect(origin)).is_ok()
    }
}

fn outbound(protocol: &str, port: u16, account: Option<(&str, &str)>) -> Value {
    let mut server = json!({ "address": "127.0.0.1", "port": port });
    if let Some((user, password)) = account {
        server["users"] = json!([{ "user": user, "pass": password }]);
    }
    json!({ "protocol": protocol, "settings": { "servers": [server] } })
}

fn over_tls(mut outbound: Value) -> Value {
    let files = certificate::files();
    outbound["streamSettings"] = json!({ "security": "tls", "tlsSettings": {
        "serverName": certificate::NAME,
        "certificates": [{ "usage": "verify", "certificateFile": files.authority }] } });
    outbound
}

/// Both directions, and a late answer on a half-closed stream where the proxy passes an end on: V2Ray's does not.
fn check_streams(asking: &Asking, what: &str, proxy: Kind) {
    const LENGTH: u64 = 8 << 20;
    let origin = Origin::start();
    assert!(asking.echoes(&origin), "{what}");
    let mut down = asking.connect(&origin);
    down.write_all(format!("send {LENGTH} 5\n").as_bytes()).unwrap();
    let hash = hash_of(&mut Read::take(&down, LENGTH)).unwrap();
    assert_eq!(hash, hash_of(&mut &pattern(LENGTH, 5)[..]).unwrap(), "{what}: down");
    let mut up = asking.connect(&origin);
    let bytes = pattern(LENGTH, 6);
    up.write_all(format!("take {LENGTH}\n").as_bytes()).unwrap();
    up.write_all(&bytes).unwrap();
    let hash = String::from_utf8(apps::read_array::<64>(&mut up).unwrap().to_vec()).unwrap();
    assert_eq!(hash, hash_of(&mut &bytes[..]).unwrap(), "{what}: up");
    if proxy == Kind::V2Ray445 {
        return;
    }
    let mut late = asking.connect(&origin);
    late.write_all(b"late 300 100000\nthe question").unwrap();
    late.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    late.read_to_end(&mut answer).unwrap_or_else(|error| panic!("{what}: late: {error}"));
    let expected = [hash_of(&mut &b"the question"[..]).unwrap().into_bytes(), pattern(100_000, 0)].concat();
    assert!(answer == expected, "{what}: late: {} bytes", answer.len());
}

fn streams_pass(kind: Kind) {
    for account in [None, Some((USER, PASSWORD))] {
        let proxy = Proxy::start(kind, account.is_some(), Tls::Off);
        for (protocol, port) in [("socks", proxy.socks), ("http", proxy.http)] {
            let asking = Asking::start(&outbound(protocol, port, account));
            check_streams(&asking, &format!("{protocol}, account {}", account.is_some()), kind);
        }
    }
}

#[test]
fn streams_pass_through_wsray() {
    streams_pass(Kind::Wsray);
}

#[test]
fn streams_pass_through_v2ray() {
    if let Some(reason) = missing("v2ray-4.45") {
        skip!(reason);
    }
    streams_pass(Kind::V2Ray445);
}

#[test]
fn streams_pass_through_sing_box() {
    if let Some(reason) = missing("sing-box") {
        skip!(reason);
    }
    streams_pass(Kind::SingBox);
}

#[test]
fn streams_pass_inside_tls() {
    if let Some(reason) = missing("v2ray-4.45").or_else(|| missing("sing-box")) {
        skip!(reason);
    }
    let v2ray = Proxy::start(Kind::V2Ray445, true, Tls::On);
    let sing_box = Proxy::start(Kind::SingBox, true, Tls::On);
    let account = Some((USER, PASSWORD));
    for (kind, outbound) in [
        (Kind::V2Ray445, outbound("socks", v2ray.socks, account)),
        (Kind::V2Ray445, outbound("http", v2ray.http, account)),
        (Kind::SingBox, outbound("http", sing_box.http, account)),
    ] {
        let what = format!("{kind:?} {outbound}");
        check_streams(&Asking::start(&over_tls(outbound)), &what, kind);
    }
}

/// V2Ray lets a socks server stand behind WebSocket; there a stream cannot be half closed.
#[test]
fn streams_pass_inside_websocket_with_early_data() {
    if let Some(reason) = missing("v2ray-4.45") {
        skip!(reason);
    }
    let origin = Origin::start();
    let port = free_port();
    for ws in [json!({ "path": "/s" }), json!({ "path": "/s", "maxEarlyData": 2048 })] {
        let stream = json!({ "network": "ws", "wsSettings": ws });
        let config = json!({
            "inbounds": [{ "port": port, "listen": "127.0.0.1", "protocol": "socks", "streamSettings": stream }],
            "outbounds": [{ "protocol": "freedom" }],
        });
        let _proxy = Node::start(Kind::V2Ray445, "proxy", &config.to_string(), &[port]);
        let mut outbound = outbound("socks", port, None);
        outbound["streamSettings"] = stream.clone();
        let asking = Asking::start(&outbound);
        assert!(asking.echoes(&origin), "{ws}");
        let mut down = asking.connect(&origin);
        down.write_all(b"give 3000000 5\n").unwrap();
        let hash = hash_of(&mut down).unwrap();
        assert_eq!(hash, hash_of(&mut &pattern(3_000_000, 5)[..]).unwrap(), "{ws}");
    }
}

#[test]
fn packets_pass_through_socks_5() {
    for kind in [Kind::Wsray, Kind::V2Ray445, Kind::SingBox] {
        if let Some(reason) = missing("v2ray-4.45").or_else(|| missing("sing-box")) {
            skip!(reason);
        }
        let proxy = Proxy::start(kind, true, Tls::Off);
        let asking = Asking::start(&outbound("socks", proxy.socks, Some((USER, PASSWORD))));
        let origins = [UdpEcho::start(), UdpEcho::start()];
        let association = Association::open(asking.socks).unwrap();
        for length in [1, 1400, 1900] {
            for origin in &origins {
                let payload = pattern(length, 3);
                let answer = association.round_trip(origin.address.into(), &payload);
                assert!(
                    answer.as_ref().is_ok_and(|answer| *answer == payload),
                    "{kind:?} {length}: {answer:?}"
                );
            }
        }
    }
}

#[test]
fn socks_4_and_4a_are_spoken() {
    let origin = Origin::start();
    for kind in [Kind::Wsray, Kind::V2Ray445, Kind::SingBox] {
        if let Some(reason) = missing("v2ray-4.45").or_else(|| missing("sing-box")) {
            skip!(reason);
        }
        let proxy = Proxy::start(kind, false, Tls::Off);
        for version in ["4", "4a"] {
            let mut outbound = outbound("socks", proxy.socks, None);
            outbound["settings"]["version"] = json!(version);
            let asking = Asking::start(&outbound);
            assert!(asking.echoes(&origin), "{kind:?} {version}");
            let by_name = apps::Target::Name("localhost", origin.port());
            let stream = apps::socks5(asking.socks, by_name, None).unwrap();
            assert!(apps::check_echo(&stream).is_ok(), "{kind:?} {version} by name");
        }
    }
}

#[test]
fn refusals_are_told_with_what_to_write() {
    let proxy = Proxy::start(Kind::Wsray, true, Tls::Off);
    let open = Proxy::start(Kind::Wsray, false, Tls::Off);
    let (origin, wrong) = (Origin::start(), Some((USER, "wrong")));
    for (outbound, expected) in [
        (outbound("socks", proxy.socks, wrong), "SOCKS 5 proxy 127.0.0.1:_ refuses user and password: check"),
        (outbound("socks", proxy.socks, None), "wants user and password: write them into"),
        (outbound("http", proxy.http, wrong), "answers 407: it refuses user and password, check"),
        (outbound("http", proxy.http, None), "answers 407: it wants user and password, write"),
        (outbound("socks", open.http, None), "(this looks like an HTTP proxy: write \"protocol\": \"http\")"),
        (outbound("http", open.socks, None), "the connection"),
        (outbound("socks", free_port(), None), "cannot connect to 127.0.0.1:"),
    ] {
        let asking = Asking::start(&outbound);
        assert!(!asking.echoes(&origin), "{expected}");
        let parts: Vec<&str> = expected.split('_').chain(["[Warning]"]).collect();
        asking.node.log_line(&parts);
    }
    assert_eq!(origin.connections(), 0);
    let asking = Asking::start(&outbound("http", open.http, None));
    let association = Association::open(asking.socks).unwrap();
    association.send(origin.address.into(), b"x").unwrap();
    asking.node.log_line(&["cannot carry UDP in HTTP: send UDP to another outbound"]);
}

/// A proxy that waits for `questions`, each as long as the number says, and answers with what stands beside it.
fn script(pieces: usize, questions: &'static [(usize, &'static [u8])]) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        for (length, answer) in questions {
            let mut question = vec![0; *length];
            stream.read_exact(&mut question).unwrap();
            for piece in answer.chunks(pieces) {
                stream.write_all(piece).unwrap();
                if pieces == 1 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }
        drop(stream.read(&mut [0; 1]));
    });
    port
}

#[test]
fn nothing_is_lost_between_the_answer_and_the_stream() {
    const HTTP: &[(usize, &[u8])] = &[(
        "CONNECT 192.0.2.1:80 HTTP/1.1\r\nHost: 192.0.2.1:80\r\n\r\n".len(),
        b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nthe first words",
    )];
    const SOCKS: &[(usize, &[u8])] = &[(3, b"\x05\0"), (10, b"\x05\0\0\x03\x04host\0\x50the first words")];
    const SOCKS4A: &[(usize, &[u8])] = &[(9, b"\0\x5a\0\0\0\0\0\0the first words")];
    for (protocol, version, questions) in
        [("http", Value::Null, HTTP), ("socks", Value::Null, SOCKS), ("socks", json!("4a"), SOCKS4A)]
    {
        for pieces in [1, 1000] {
            let mut outbound = outbound(protocol, script(pieces, questions), None);
            outbound["settings"]["version"] = version.clone();
            if protocol == "http" {
                outbound["settings"].as_object_mut().unwrap().remove("version");
            }
            let asking = Asking::start(&outbound);
            let target = "192.0.2.1:80".parse::<std::net::SocketAddr>().unwrap();
            let mut stream = apps::socks5(asking.socks, target.into(), None).unwrap();
            let said = apps::read_array::<15>(&mut stream).unwrap();
            assert_eq!(&said, b"the first words", "{protocol} {version} in pieces of {pieces}");
        }
    }
}
