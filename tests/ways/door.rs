//! dokodemo-door: one target, and transparent proxying in a network namespace of its own.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    path::Path,
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    check_that_we_are_alone, in_a_namespace,
    names::{question, read},
    shell,
    support::{
        apps,
        dns::A,
        free_port, keep_private,
        node::{Kind, Node, missing, peer, wsray},
        origin::{Origin, UdpEcho, hash_of, pattern},
        skip, temporary_directory,
    },
};

fn start(config: &Value) -> Node {
    let node = Node::start(Kind::Wsray, "door", &config.to_string(), &[]);
    node.log_line(&["[Warning]", "started"]);
    node
}

fn udp_to(address: SocketAddr) -> UdpSocket {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    // The kernel drops answers from anywhere else.
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

fn round_trip(socket: &UdpSocket, payload: &[u8]) -> Vec<u8> {
    socket.send(payload).unwrap();
    let mut answer = vec![0; 65_536];
    let length = socket.recv(&mut answer).unwrap_or_else(|error| panic!("no answer: {error}"));
    answer.truncate(length);
    answer
}

#[test]
fn streams_and_packets_go_to_the_one_target() {
    let (origin, echo) = (Origin::start(), UdpEcho::start());
    let ports = [free_port(), free_port()];
    let door = |port: u16, target: u16, network: &str| {
        json!({ "port": port, "listen": "127.0.0.1", "protocol": "dokodemo-door",
            "settings": { "address": "127.0.0.1", "port": target, "network": network } })
    };
    let _node = start(&json!({
        "log": { "loglevel": "debug" },
        "inbounds": [door(ports[0], origin.port(), "tcp"), door(ports[1], echo.address.port(), "udp")],
        "outbounds": [{ "protocol": "freedom" }],
    }));
    let mut stream = apps::connect(ports[0]).unwrap();
    apps::check_echo(&apps::connect(ports[0]).unwrap()).unwrap();
    stream.write_all(b"send 8388608 9\n").unwrap();
    let hash = hash_of(&mut Read::take(&stream, 8 << 20)).unwrap();
    assert_eq!(hash, hash_of(&mut &pattern(8 << 20, 9)[..]).unwrap());
    let sockets = [(); 3].map(|()| udp_to(SocketAddr::from(([127, 0, 0, 1], ports[1]))));
    for length in [1_usize, 1400, 9000] {
        for (number, socket) in sockets.iter().enumerate() {
            let payload = vec![u8::try_from(number).unwrap(); length];
            assert_eq!(round_trip(socket, &payload), payload, "client {number}, {length} bytes");
        }
    }
}

/// V2Ray does so with streams; packets come back to it for ever.
#[test]
fn what_no_firewall_sent_goes_to_the_address_that_is_written_beside_follow_redirect() {
    let (origin, echo) = (Origin::start(), UdpEcho::start());
    for kind in [Kind::Wsray, Kind::V2Ray445] {
        let ports = [free_port(), free_port()];
        let door = |port: u16, target: u16, network: &str| {
            json!({ "port": port, "listen": "127.0.0.1", "protocol": "dokodemo-door", "settings": {
                "address": "127.0.0.1", "port": target, "network": network, "followRedirect": true } })
        };
        let config = json!({
            "inbounds": [door(ports[0], origin.port(), "tcp"), door(ports[1], echo.address.port(), "udp")],
            "outbounds": [{ "protocol": "freedom" }],
        });
        let _node = Node::start(kind, "door", &config.to_string(), &ports[..1]);
        apps::check_echo(&apps::connect(ports[0]).unwrap())
            .unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        if kind == Kind::Wsray {
            let socket = udp_to(SocketAddr::from(([127, 0, 0, 1], ports[1])));
            assert_eq!(round_trip(&socket, b"hello"), b"hello");
        }
    }
}

/// Runs [`in_the_namespace`] where it may do what it likes.
#[test]
fn firewall_sends_streams_and_packets_here() {
    if let Some(reason) = missing("nft") {
        skip!(reason);
    }
    in_a_namespace!("door::in_the_namespace");
}

fn rules(text: &str) {
    let file = temporary_directory("nft").join("rules.nft");
    std::fs::write(&file, text).unwrap();
    load_rules(&file);
}

fn load_rules(file: &Path) {
    let output = Command::new(peer("nft")).arg("-f").arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Everything goes to these two, whatever its target.
fn outbounds(origin: &Origin, echo: &UdpEcho) -> (Value, Value) {
    let to = |tag: &str, address: SocketAddr| {
        json!({ "tag": tag, "protocol": "freedom", "settings": { "redirect": address.to_string() },
            "streamSettings": { "sockopt": { "mark": 255 } } })
    };
    let rule = json!({ "type": "field", "network": "udp", "outboundTag": "udp" });
    (json!([to("tcp", origin.address), to("udp", echo.address)]), json!({ "rules": [rule] }))
}

fn stream_to(target: &str) -> TcpStream {
    let stream = TcpStream::connect_timeout(&target.parse().unwrap(), Duration::from_secs(5)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

/// Nobody answers there: the connection ends without a byte.
fn check_refused(target: &str) {
    let mut stream = stream_to(target);
    let _ = stream.write_all(b"echo\nhello");
    assert!(!matches!(stream.read(&mut [0; 16]), Ok(1..)), "{target} answers");
}

#[test]
#[ignore = "changes the network: started by another test in a namespace of its own"]
fn in_the_namespace() {
    check_that_we_are_alone();
    shell(
        "ip link set lo up
        ip addr add 192.0.2.1/32 dev lo; ip -6 addr add 2001:db8::1/128 dev lo nodad
        ip route add 198.51.100.0/24 dev lo src 192.0.2.1; ip -6 route add 2001:db8:1::/48 dev lo src 2001:db8::1
        ip route add 203.0.113.0/24 dev lo src 192.0.2.1; ip -6 route add 2001:db8:2::/48 dev lo src 2001:db8::1
        ip rule add fwmark 1 lookup 100; ip -6 rule add fwmark 1 lookup 100
        ip route add local default dev lo table 100; ip -6 route add local default dev lo table 100",
    );
    let (origin, echo) = (Origin::start(), UdpEcho::start());
    redirected(&origin, &echo);
    tproxied(&origin, &echo);
}

fn redirected(origin: &Origin, echo: &UdpEcho) {
    rules(
        "table inet redirected {
    chain output {
        type nat hook output priority -100;
        ip daddr 198.51.100.0/24 tcp dport 80 redirect to :12345
        ip6 daddr 2001:db8:1::/48 tcp dport 80 redirect to :12345
    }
}
",
    );
    let (outbounds, routing) = outbounds(origin, echo);
    let node = start(&json!({
        "log": { "loglevel": "debug" },
        "inbounds": [{ "port": 12345, "protocol": "dokodemo-door", "settings": { "followRedirect": true } }],
        "outbounds": outbounds, "routing": routing,
    }));
    for target in ["198.51.100.7:80", "[2001:db8:1::7]:80"] {
        apps::check_echo(&stream_to(target)).unwrap_or_else(|error| panic!("{target}: {error}"));
        node.log_line(&[&format!("accepted tcp:{target} ")]);
    }
    for target in ["127.0.0.1:12345", "[::1]:12345", "192.0.2.1:12345"] {
        check_refused(target);
    }
    node.log_line(&["[Warning]", "is this inbound itself"]);
    assert!(!node.log().contains("accepted tcp:127.0.0.1") && !node.log().contains("accepted tcp:[::1]"));
}

/// Twenty clients, each with ten targets of its own and ten that all of them ask.
fn many_flows_are_answered_each_by_whom_it_asked() {
    for client in 0..20_u8 {
        let sockets: Vec<_> = (0..20_u8)
            .map(|n| {
                let host = if n < 10 { n + 1 } else { client * 10 + n };
                let target = match n % 2 {
                    0 => format!("203.0.113.{host}:{}", 4000 + u16::from(n)),
                    _ => format!("[2001:db8:2::{host}]:{}", 4000 + u16::from(n)),
                };
                // The kernel drops what comes from anywhere else.
                udp_to(target.parse().unwrap())
            })
            .collect();
        for round in 0..2 {
            for (socket, n) in sockets.iter().zip(0..) {
                socket.send(&[client, n, round]).unwrap();
            }
            for (socket, n) in sockets.iter().zip(0..) {
                let mut answer = [0; 16];
                let length = socket.recv(&mut answer).unwrap_or_else(|error| panic!("{client} {n}: {error}"));
                assert_eq!(answer[..length], [client, n, round]);
            }
        }
    }
}

/// Of the kinds of sockets, each asks for itself.
#[test]
fn tproxy_without_its_capability_is_refused_by_name() {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if is_root && Command::new("setpriv").arg("--version").output().is_err() {
        skip!("setpriv is not here: it is of util-linux");
    }
    for network in ["tcp", "udp"] {
        let port = free_port();
        let config = json!({
            "inbounds": [{ "port": port, "listen": "127.0.0.1", "protocol": "dokodemo-door",
                "settings": { "network": network, "followRedirect": true },
                "streamSettings": { "sockopt": { "tproxy": "tproxy" } } }],
            "outbounds": [{ "protocol": "freedom", "streamSettings": { "sockopt": { "mark": 255 } } }],
        });
        let directory = temporary_directory("uncapable");
        let path = directory.join("config.json");
        std::fs::write(&path, config.to_string()).unwrap();
        keep_private(&path);
        let mut command = Command::new(if is_root { "setpriv".into() } else { wsray() });
        if is_root {
            // CAP_NET_RAW is enough for Linux, too.
            let less = "-net_admin,-net_raw";
            command.args(["--bounding-set", less, "--inh-caps", less]).arg(wsray());
        }
        command.args(["run", "-c"]).arg(&path);
        let mut node = Node::start_program("uncapable", command, directory, &[]);
        assert!(!node.wait(Duration::from_secs(5)).expect("it goes on").success());
        node.log_line(&["cannot listen on", &port.to_string(), "Operation not permitted"]);
        node.log_line(&["help: tproxy needs root or the capability CAP_NET_ADMIN"]);
    }
}

/// The configuration and the rules of the documents, but for the outbounds.
fn tproxied(origin: &Origin, echo: &UdpEcho) {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    load_rules(&examples.join("transparent.nft"));
    let text = std::fs::read_to_string(examples.join("transparent.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    let (outbounds, routing) = outbounds(origin, echo);
    config["log"] = json!({ "loglevel": "debug" });
    config["outbounds"] = outbounds;
    config["routing"] = routing;
    let node = start(&config);
    for target in ["203.0.113.7:443", "[2001:db8:2::7]:443", "203.0.113.7:12345"] {
        apps::check_echo(&stream_to(target)).unwrap_or_else(|error| panic!("{target}: {error}"));
        node.log_line(&[&format!("accepted tcp:{target} ")]);
    }
    for target in ["203.0.113.7:53", "203.0.113.8:53", "[2001:db8:2::7]:4433"] {
        let socket = udp_to(target.parse().unwrap());
        for payload in [&b"first"[..], &[7; 1400]] {
            assert_eq!(round_trip(&socket, payload), payload, "{target}");
        }
        node.log_line(&[&format!("accepted udp:{target} ")]);
    }
    many_flows_are_answered_each_by_whom_it_asked();
    check_refused("127.0.0.1:12345");
    node.log_line(&["[Warning]", "127.0.0.1:12345, which is this inbound itself"]);
    drop(node);

    let to_echo = json!({ "tag": "echo", "protocol": "freedom" });
    config["outbounds"].as_array_mut().unwrap().push(to_echo);
    config["routing"]["rules"] = json!([{ "ip": ["127.0.0.1"], "outboundTag": "echo" }]);
    let settings = config["inbounds"][0]["settings"].as_object_mut().unwrap();
    settings.insert("address".to_owned(), json!("127.0.0.1"));
    settings.insert("port".to_owned(), json!(echo.address.port()));
    config["outbounds"].as_array_mut().unwrap().push(json!({ "tag": "names", "protocol": "dns" }));
    let to_names = json!({ "port": 53, "outboundTag": "names" });
    config["routing"]["rules"].as_array_mut().unwrap().push(to_names);
    config["dns"] = json!({ "hosts": { "here.test": "192.0.2.99" } });
    let _node = start(&config);
    let socket = udp_to("127.0.0.1:12345".parse().unwrap());
    assert_eq!(round_trip(&socket, b"hello"), b"hello", "to the address beside followRedirect");
    for server in ["203.0.113.7:53", "[2001:db8:2::7]:53"] {
        let socket = udp_to(server.parse().unwrap());
        let answer = round_trip(&socket, &question(7, "here.test", A));
        assert_eq!(read(&answer), (7, 0, 1, &[192, 0, 2, 99][..]), "in the name of {server}");
    }
}
