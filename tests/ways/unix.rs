//! Inbounds on unix sockets: behind front ends, and their files.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    apps,
    config::{self, Early, Link, Tls},
    front,
    node::{Client, Kind, Node, missing},
    origin::{Origin, UdpEcho, hash_of, pattern},
    pair, raw, skip, temporary_directory, within,
};

/// A server on a unix socket.
fn server(kind: Kind, link: &Link, listen: &str, change: impl FnOnce(&mut Value)) -> Node {
    let mut config = config::server(kind, link, 1);
    config["inbounds"][0]["listen"] = json!(listen);
    config["inbounds"][0].as_object_mut().unwrap().remove("port");
    change(&mut config);
    let node = Node::start(kind, "unix", &config.to_string(), &[]);
    node.log_line(&["[Warning]", "started"]);
    node
}

/// The source that the server tells of a session with an origin, after 2 MiB have come whole.
fn source(kind: Kind, link: &Link, server: &Node, port: u16) -> String {
    const LENGTH: u64 = 2 << 20;
    let origin = Origin::start();
    let client = Client::start(kind, link, port);
    let echoed = apps::socks5(client.socks, origin.address.into(), None).and_then(|s| apps::check_echo(&s));
    assert!(echoed.is_ok(), "{echoed:?}");
    let mut stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
    stream.write_all(format!("send {LENGTH} 9\n").as_bytes()).unwrap();
    assert_eq!(
        hash_of(&mut Read::take(&stream, LENGTH)).unwrap(),
        hash_of(&mut &pattern(LENGTH, 9)[..]).unwrap()
    );
    let line = server.log_line(&[" accepted ", &format!("{} ", origin.address)]);
    line.split(" accepted ").next().unwrap().rsplit(' ').next().unwrap().to_owned()
}

pair!(wsray_to_wsray: Wsray => Wsray, #[cfg(test)], [nginx_passes_data_to_a_unix_socket]);
pair!(v2ray_4_45_to_wsray: V2Ray445 => Wsray, #[cfg(test)], [nginx_passes_data_to_a_unix_socket]);
pair!(v2ray_4_45_to_v2ray_4_45: V2Ray445 => V2Ray445, #[cfg(feature = "peers-only")],
    [nginx_passes_data_to_a_unix_socket]);

/// Who is on the other end of a unix socket is on this machine, and so is believed about the client.
fn nginx_passes_data_to_a_unix_socket(pair: crate::support::node::Pair) {
    if let Some(reason) = missing("nginx") {
        skip!(reason);
    }
    for early in [Early::None, Early::Header("Sec-WebSocket-Protocol", 2048)] {
        let folder = temporary_directory("unix");
        let path = folder.join("a.sock");
        let link = Link { early, ..Link::default() };
        let server = server(pair.server, &link, &format!("{},0666", path.display()), |_| {});
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o666);
        let nginx = front::nginx_to(&format!("http://unix:{}", path.display()), "");
        let link = Link { tls: Tls::On, headers: vec![("Host", "example.test")], ..link };
        assert_eq!(source(pair.client, &link, &server, nginx.port), "127.0.0.1:0", "nginx names no port");
    }
}

#[test]
fn haproxy_tells_the_real_address_over_unix_sockets() {
    if let Some(reason) = missing("haproxy") {
        skip!(reason);
    }
    let folder = temporary_directory("unix");
    let path = folder.join("a.sock");
    let name = format!("wsray-{}", std::process::id());
    for (listen, backend) in [
        (path.display().to_string(), format!("unix@{}", path.display())),
        (format!("@@{name}"), format!("abns@{name}")),
    ] {
        let link = Link::default();
        let server = server(Kind::Wsray, &link, &listen, |config| {
            config["inbounds"][0]["streamSettings"]["wsSettings"]["acceptProxyProtocol"] = json!(true);
        });
        let haproxy = front::haproxy_to(&backend, "send-proxy-v2");
        let found = source(Kind::Wsray, &link, &server, haproxy.port);
        assert!(found.starts_with("127.0.0.1:") && !found.ends_with(":0"), "{listen}: {found}");
    }
}

/// Without a front end's word there is nobody to name: V2Ray's log says `@`, too.
#[test]
fn program_on_this_machine_is_shown_as_in_v2ray() {
    let Some(reason) = missing("v2ray-4.45") else {
        return [Kind::V2Ray445, Kind::Wsray].into_iter().for_each(shows_a_sign);
    };
    skip!(reason);
}

fn shows_a_sign(kind: Kind) {
    let folder = temporary_directory("unix");
    let path = folder.join("a.sock");
    let origin = Origin::start();
    let config = json!({
        "log": { "loglevel": "info" },
        "inbounds": [{ "listen": path, "protocol": "http" }],
        "outbounds": [{ "protocol": "freedom" }],
    });
    let node = Node::start(kind, "unix", &config.to_string(), &[]);
    node.log_line(&["[Warning]", "started"]);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.address).unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let line = node.log_line(&[" accepted "]);
    assert!(line.contains(" @ accepted "), "{kind:?}: {line}");
}

#[test]
fn socks_client_on_a_unix_socket_gets_udp_on_this_machine() {
    let folder = temporary_directory("unix");
    let path = folder.join("a.sock");
    let echo = UdpEcho::start();
    let config = json!({
        "inbounds": [{ "listen": path, "protocol": "socks", "settings": { "udp": true } }],
        "outbounds": [{ "protocol": "freedom" }],
    });
    let node = Node::start(Kind::Wsray, "unix", &config.to_string(), &[]);
    node.log_line(&["[Warning]", "started"]);
    let mut control = UnixStream::connect(&path).unwrap();
    control.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    control.write_all(&[5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
    let mut reply = [0; 12];
    control.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..10], [5, 0, 5, 0, 0, 1, 127, 0, 0, 1]);
    let relay = (std::net::Ipv4Addr::LOCALHOST, u16::from_be_bytes([reply[10], reply[11]]));
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut packet = vec![0, 0, 0, 1, 127, 0, 0, 1];
    packet.extend(echo.address.port().to_be_bytes());
    packet.extend(b"hello");
    udp.send_to(&packet, relay).unwrap();
    let mut answer = [0; 64];
    let (length, _) = udp.recv_from(&mut answer).unwrap();
    assert!(answer[..length].ends_with(b"hello"), "{:?}", &answer[..length]);
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn files_are_gone_after_a_signal_and_replaced_after_a_crash() {
    let folder = temporary_directory("unix");
    let path = folder.join("a.sock");
    let listen = path.display().to_string();
    let link = Link::default();
    for signal in ["TERM", "INT", "KILL", "TERM"] {
        let mut node = server(Kind::Wsray, &link, &listen, |_| {});
        assert!(fs::metadata(&path).unwrap().file_type().is_socket());
        let request = raw::upgrade("/ray", "");
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 101");
        node.signal(signal);
        assert!(node.wait(Duration::from_secs(6)).is_some(), "SIG{signal}");
        let left: &[&str] = if signal == "KILL" { &["a.sock", "a.sock.lock"] } else { &[] };
        assert_eq!(names(&folder), left, "SIG{signal}");
    }
}

#[test]
fn files_move_and_change_their_modes_with_a_reload() {
    let folder = temporary_directory("unix");
    let [one, other] = ["a.sock", "b.sock"].map(|name| folder.join(name));
    let mut written = Value::Null;
    let node =
        server(Kind::Wsray, &Link::default(), &one.display().to_string(), |config| written = config.clone());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for (count, (path, wanted)) in (1..).zip([(&one, 0o666), (&one, 0o600), (&other, 0o640)]) {
        written["inbounds"][0]["listen"] = json!(format!("{},0{wanted:o}", path.display()));
        node.rewrite(&written);
        node.signal("HUP");
        node.log_with(count, "app: reloaded");
        assert_eq!(mode(path), wanted);
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(names(&folder), [name.to_owned(), format!("{name}.lock")]);
        UnixStream::connect(path).unwrap();
    }
}

/// Two of wsray, and wsray beside V2Ray, whose lock is the same.
#[test]
fn live_socket_is_refused_by_name() {
    if let Some(reason) = missing("v2ray-4.45") {
        skip!(reason);
    }
    let link = Link::default();
    for first in [Kind::Wsray, Kind::V2Ray445] {
        let path = temporary_directory("unix").join("a.sock");
        let listen = path.display().to_string();
        let _first = server(first, &link, &listen, |_| {});
        let mut config = config::server(Kind::Wsray, &link, 1);
        config["inbounds"][0]["listen"] = json!(listen);
        let mut second = Node::start(Kind::Wsray, "second", &config.to_string(), &[]);
        let status = second.wait(Duration::from_secs(5)).expect("it goes on");
        assert!(!status.success());
        let line = second.log_line(&["cannot listen on"]);
        assert!(line.contains(&listen) && line.contains("another program listens there"), "{line}");
        assert!(within(Duration::from_secs(1), || UnixStream::connect(&path).ok()).is_some(), "{first:?}");
    }
}
