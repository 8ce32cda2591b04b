//! The dns outbound: programs' questions for addresses are answered here, all others by a name server.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    apps,
    config::Link,
    dns::{A, AAAA, NameServer, Reply},
    free_port,
    node::{Client, Kind, Node, Server},
};

/// RFC 1035 section 3.3.9.
const MX: u16 = 15;

/// RFC 1035 section 4.1: a question for `name`.
pub(super) fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

/// Id, code, number of answers, and the last bytes of an answer.
pub(super) fn read(answer: &[u8]) -> (u16, u8, u16, &[u8]) {
    assert!(answer.len() >= 12 && answer[2] & 0x80 != 0, "no answer: {answer:?}");
    let number = |at: usize| u16::from_be_bytes([answer[at], answer[at + 1]]);
    (number(0), answer[3] & 0x0f, number(6), &answer[answer.len() - 4..])
}

fn over_udp(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

fn ask(socket: &UdpSocket, question: &[u8]) -> Vec<u8> {
    socket.send(question).unwrap();
    hear(socket)
}

fn hear(socket: &UdpSocket) -> Vec<u8> {
    let mut answer = vec![0; 4096];
    let length = socket.recv(&mut answer).unwrap_or_else(|error| panic!("no answer: {error}"));
    answer.truncate(length);
    answer
}

fn say(mut stream: &TcpStream, question: &[u8]) {
    let length = u16::try_from(question.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], question].concat()).unwrap();
}

fn hear_on(mut stream: &TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer).unwrap();
    answer
}

/// Who is asked by the program, and whom its clients mean to ask.
struct Servers {
    own: NameServer,
    theirs: NameServer,
}

impl Servers {
    fn start() -> Self {
        let own = NameServer::start(|name, kind| match (name, kind) {
            ("broken.test", _) => Reply { code: 2, ..Reply::default() },
            ("four.test", AAAA) => Reply::default(),
            (_, A) => Reply::of("192.0.2.7"),
            _ => Reply::of("2001:db8::7"),
        });
        let theirs = NameServer::start(|_, _| Reply::of("203.0.113.66"));
        Self { own, theirs }
    }

    /// A door to `target` with both networks; its sessions go to the dns outbound.
    fn door(&self, kind: Kind, target: SocketAddr, settings: &Value) -> (Node, u16) {
        let port = free_port();
        let config = json!({
            "log": { "loglevel": "debug" },
            "dns": { "servers": [{ "address": "127.0.0.1", "port": self.own.port }] },
            "inbounds": [{ "tag": "door", "port": port, "listen": "127.0.0.1", "protocol": "dokodemo-door",
                "settings": { "address": target.ip(), "port": target.port(), "network": "tcp,udp" } }],
            "outbounds": [
                { "tag": "direct", "protocol": "freedom" },
                { "tag": "names", "protocol": "dns", "settings": settings },
            ],
            "routing": { "rules": [{ "type": "field", "inboundTag": ["door"], "outboundTag": "names" }] },
        });
        (Node::start(kind, "names", &config.to_string(), &[port]), port)
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.theirs.port).into()
    }
}

#[test]
fn questions_for_addresses_are_answered_here_and_others_by_whom_they_were_for() {
    for kind in [Kind::Wsray, Kind::V2Ray445] {
        let servers = Servers::start();
        let (_node, port) = servers.door(kind, servers.address(), &json!({}));
        let (socket, stream) = (over_udp(port), apps::connect(port).unwrap());
        let over_tcp = |question: &[u8]| {
            say(&stream, question);
            hear_on(&stream)
        };
        for (number, name) in [(1, "one.test"), (2, "two.test")] {
            let asked = question(number, name, A);
            let answer = if number == 1 { ask(&socket, &asked) } else { over_tcp(&asked) };
            assert_eq!(read(&answer), (number, 0, 1, &[192, 0, 2, 7][..]), "{kind:?}, {name}");
        }
        let answer = ask(&socket, &question(3, "one.test", AAAA));
        assert_eq!(read(&answer), (3, 0, 1, &[0, 0, 0, 7][..]), "{kind:?}");
        assert_eq!(servers.theirs.questions(), [], "{kind:?}");
        let own = servers.own.questions();
        assert_eq!(read(&ask(&socket, &question(4, "three.test", MX))).0, 4, "{kind:?}");
        assert_eq!(read(&over_tcp(&question(5, "four.test", MX))).0, 5, "{kind:?}");
        let passed_on = [("three.test".to_owned(), MX), ("four.test".to_owned(), MX)];
        assert_eq!(servers.theirs.questions(), passed_on, "{kind:?}");
        assert_eq!(servers.own.questions(), own, "{kind:?}");
    }
}

#[test]
fn settings_say_whom_questions_are_passed_on_to_and_how() {
    for kind in [Kind::Wsray, Kind::V2Ray445] {
        let servers = Servers::start();
        // Over UDP it answers that it does not fit.
        let theirs = NameServer::start(|_, _| Reply { cut_off: true, ..Reply::default() });
        let settings = json!({ "network": "tcp", "address": "127.0.0.1", "port": theirs.port });
        let nowhere = SocketAddr::from(([192, 0, 2, 1], 53));
        let (_node, port) = servers.door(kind, nowhere, &settings);
        let answer = ask(&over_udp(port), &question(9, "mail.test", MX));
        assert_eq!((read(&answer).0, answer[2] & 2), (9, 0), "{kind:?}: over TCP");
        assert_eq!(theirs.questions(), [("mail.test".to_owned(), MX)], "{kind:?}");
    }
}

/// V2Ray answers nothing where it knows nothing.
#[test]
fn that_there_is_no_address_is_an_answer_and_that_nobody_knows_is_a_failure() {
    let servers = Servers::start();
    let (_node, port) = servers.door(Kind::Wsray, servers.address(), &json!({}));
    let socket = over_udp(port);
    let answer = ask(&socket, &question(1, "four.test", AAAA));
    assert_eq!((read(&answer).1, read(&answer).2), (0, 0));
    let answer = ask(&socket, &question(2, "broken.test", A));
    assert_eq!((read(&answer).1, read(&answer).2), (2, 0));
    // What is no question gets no answer, and those behind it do.
    socket.send(b"x").unwrap();
    assert_eq!(read(&ask(&socket, &question(3, "one.test", A))).0, 3);
}

#[test]
fn many_questions_at_once_are_all_answered() {
    let servers = Servers::start();
    let (_node, port) = servers.door(Kind::Wsray, servers.address(), &json!({}));
    let name = |id: u16| format!("n{id}.test");
    let (socket, stream) = (over_udp(port), apps::connect(port).unwrap());
    (0..40).for_each(|id| drop(socket.send(&question(id, &name(id), A))));
    let mut ids: Vec<_> = (0..40).map(|_| read(&hear(&socket)).0).collect();
    ids.sort_unstable();
    assert!(ids.iter().copied().eq(0..40), "{ids:?}");
    (100..300).for_each(|id| say(&stream, &question(id, &name(id), A)));
    let mut ids: Vec<_> = (100..300).map(|_| read(&hear_on(&stream)).0).collect();
    ids.sort_unstable();
    assert!(ids.iter().copied().eq(100..300), "{ids:?}");
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!((&stream).read(&mut [0; 1]).unwrap(), 0, "the end comes back");
}

/// Rules send what this program asks to the dns outbound as well, which must not ask it again.
#[test]
fn own_questions_that_come_to_the_dns_outbound_are_passed_on() {
    let servers = Servers::start();
    let link = Link::default();
    let server = Server::start_with(Kind::Wsray, &link, |config| {
        config["dns"] = json!({ "servers": [{ "address": "127.0.0.1", "port": servers.own.port }] });
        config["outbounds"] = json!([{ "protocol": "dns" }]);
    });
    let client = Client::start(Kind::Wsray, &link, server.port);
    let stream = apps::socks5(client.socks, servers.address().into(), None).unwrap();
    for (id, name) in [(1, "one.test"), (2, "two.test")] {
        say(&stream, &question(id, name, A));
        assert_eq!(read(&hear_on(&stream)), (id, 0, 1, &[192, 0, 2, 7][..]));
    }
    let asked = [("one.test".to_owned(), A), ("two.test".to_owned(), A)];
    assert_eq!(servers.own.questions(), asked);
}

#[test]
fn questions_are_passed_on_by_way_of_another_outbound() {
    let servers = Servers::start();
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let client = Client::start_with(Kind::Wsray, &link, server.port, |config| {
        config["outbounds"][0]["tag"] = json!("proxy");
        let names = json!({ "tag": "names", "protocol": "dns", "proxySettings": { "tag": "proxy" } });
        config["outbounds"].as_array_mut().unwrap().push(names);
        let rule = json!({ "type": "field", "port": servers.theirs.port, "outboundTag": "names" });
        config["routing"] = json!({ "rules": [rule] });
    });
    let stream = apps::socks5(client.socks, servers.address().into(), None).unwrap();
    say(&stream, &question(1, "one.test", MX));
    assert_eq!(read(&hear_on(&stream)).0, 1);
    server.node.log_line(&["accepted", &format!("tcp:{}", servers.address())]);
    let association = apps::Association::open(client.socks).unwrap();
    let answer = association.round_trip(servers.address().into(), &question(2, "two.test", MX)).unwrap();
    assert_eq!(read(&answer).0, 2);
    server.node.log_line(&["accepted", &format!("udp:{}", servers.address())]);
    let passed_on = [("one.test".to_owned(), MX), ("two.test".to_owned(), MX)];
    assert_eq!(servers.theirs.questions(), passed_on);
}
