//! `sockopt`, seen at work: in a network namespace with two ways to another one.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    check_that_we_are_alone,
    fast_open::counted,
    in_a_namespace, shell,
    support::{
        apps::{self, Association},
        config::Link,
        free_port, keep_private,
        node::{Client, Kind, Node, Server, wsray},
        origin::Origin,
        temporary_directory, within,
    },
};

/// Runs [`in_the_namespace`].
#[test]
fn options_are_seen_at_work() {
    in_a_namespace!("sockopt::in_the_namespace");
}

#[test]
#[ignore = "changes the network: started by another test in a namespace of its own"]
fn in_the_namespace() {
    check_that_we_are_alone();
    let far = Far::start();
    packets_leave_by_the_device_that_is_named(&far);
    a_device_that_is_not_there_is_told(&far);
    bytes_that_nobody_acknowledges_end_the_connection(&far);
    connections_have_congestion_control_and_segments_as_written();
    connections_go_several_ways_where_both_ends_can();
    an_inbound_for_version_6_only_takes_no_version_4();
    listeners_that_stay_are_changed();
}

/// The other end of two pairs of devices, `va` and `vb`, where 198.51.100.7 is; the way there is by `va`.
struct Far {
    namespace: Child,
    _socks: Node,
}

const FAR: &str = "198.51.100.7:1080";

impl Far {
    fn start() -> Self {
        let namespace = Command::new("unshare").args(["-n", "sleep", "120"]).spawn().unwrap();
        let pid = namespace.id();
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let is_apart = || fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|other| other != own);
        assert!(within(Duration::from_secs(5), || is_apart().then_some(())).is_some());
        shell(&format!(
            "for which in all default; do echo 0 > /proc/sys/net/ipv4/conf/$which/rp_filter; done
            far() {{ nsenter -t {pid} -n \"$@\"; }}
            far sh -c 'for which in all default; do echo 0 > /proc/sys/net/ipv4/conf/$which/rp_filter; done'
            ip link set lo up; far ip link set lo up; far ip addr add 198.51.100.7/32 dev lo
            net=1
            for pair in va vb; do
                ip link add $pair type veth peer name ${{pair}}far netns {pid}
                ip addr add 10.$net.0.1/24 dev $pair; ip link set $pair up
                far ip addr add 10.$net.0.2/24 dev ${{pair}}far; far ip link set ${{pair}}far up
                ip route add 198.51.100.0/24 via 10.$net.0.2 dev $pair metric $net; net=2
            done"
        ));
        let directory = temporary_directory("far");
        let path = directory.join("config.json");
        let config = json!({
            "inbounds": [{ "port": 1080, "listen": "0.0.0.0", "protocol": "socks" }],
            "outbounds": [{ "protocol": "freedom" }],
        });
        fs::write(&path, config.to_string()).unwrap();
        keep_private(&path);
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid.to_string(), "-n"]).arg(wsray()).args(["run", "-c"]).arg(&path);
        let socks = Node::start_program("far", command, directory, &[]);
        socks.log_line(&["[Warning]", "started"]);
        Self { namespace, _socks: socks }
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        drop(self.namespace.kill());
        drop(self.namespace.wait());
    }
}

/// How many packets have left by a device.
fn sent_by(device: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/net/dev").unwrap();
    let line = text.lines().find_map(|line| line.trim().strip_prefix(&format!("{device}:"))).unwrap();
    line.split_whitespace().nth(9).unwrap().parse().unwrap()
}

/// A SOCKS proxy whose connections have these options.
fn proxy(sockopt: &Value) -> (Node, u16) {
    let port = free_port();
    let config = json!({
        "log": { "loglevel": "debug" },
        "inbounds": [{ "port": port, "listen": "127.0.0.1", "protocol": "socks", "settings": { "udp": true } }],
        "outbounds": [{ "protocol": "freedom", "streamSettings": { "sockopt": sockopt } }],
    });
    (Node::start(Kind::Wsray, "sockopt", &config.to_string(), &[port]), port)
}

/// A connection to the far SOCKS proxy, which has answered.
fn reach_far(socks: u16) -> std::io::Result<TcpStream> {
    let target = FAR.parse::<SocketAddr>().unwrap();
    let mut stream = apps::socks5(socks, target.into(), None)?;
    stream.write_all(&[5, 1, 0])?;
    assert_eq!(apps::read_array::<2>(&mut stream)?, [5, 0]);
    Ok(stream)
}

fn packets_leave_by_the_device_that_is_named(_: &Far) {
    for (sockopt, device, other) in [
        (json!({}), "va", "vb"),
        (json!({ "bindToDevice": "vb" }), "vb", "va"),
        (json!({ "interface": "va" }), "va", "vb"),
    ] {
        let (_node, socks) = proxy(&sockopt);
        let before = sent_by(other);
        let begin = sent_by(device);
        reach_far(socks).unwrap_or_else(|error| panic!("{sockopt}: {error}"));
        assert!(sent_by(device) >= begin + 3, "{sockopt}: streams");
        let begin = sent_by(device);
        let association = Association::open(socks).unwrap();
        association.send("198.51.100.7:9".parse::<SocketAddr>().unwrap().into(), b"packet").unwrap();
        let left = within(Duration::from_secs(3), || (sent_by(device) > begin).then_some(()));
        assert!(left.is_some(), "{sockopt}: packets");
        assert_eq!(sent_by(other), before, "{sockopt}: {other}");
    }
}

fn a_device_that_is_not_there_is_told(_: &Far) {
    let (node, socks) = proxy(&json!({ "bindToDevice": "nope0" }));
    node.log_line(&["[Warning]", "cannot set interface \"nope0\" on the socket", "ip link shows"]);
    assert!(reach_far(socks).is_err());
    node.log_line(&["[Warning]", FAR, "cannot set interface \"nope0\""]);
    let config = json!({
        "inbounds": [{ "port": free_port(), "listen": "127.0.0.1", "protocol": "socks",
                       "streamSettings": { "sockopt": { "bindToDevice": "nope0" } } }],
        "outbounds": [{ "protocol": "freedom" }],
    });
    let mut node = Node::start(Kind::Wsray, "sockopt", &config.to_string(), &[]);
    assert!(!node.wait(Duration::from_secs(5)).expect("it goes on").success());
    node.log_line(&["cannot listen on", "interface \"nope0\"", "ip link shows"]);
    node.log_line(&["help: correct or remove it in streamSettings.sockopt"]);
}

/// Linux would try for a quarter of an hour.
fn bytes_that_nobody_acknowledges_end_the_connection(_: &Far) {
    let (_node, socks) = proxy(&json!({ "tcpUserTimeout": 1000, "bindToDevice": "vb" }));
    let mut stream = reach_far(socks).unwrap();
    shell("ip link set vb down");
    let start = Instant::now();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(&[5, 1, 0]).unwrap();
    let ended = stream.read(&mut [0; 1]);
    assert!(!matches!(ended, Ok(1)), "the far end answers");
    assert!(start.elapsed() < Duration::from_secs(15), "after {:?}: {ended:?}", start.elapsed());
    shell("ip link set vb up");
}

/// What `ss` tells of the established connections with a port.
fn connections_with(port: u16) -> String {
    let filter = format!("( sport = :{port} or dport = :{port} )");
    let output = Command::new("ss").args(["-tinHO", "state", "established", &filter]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn connections_have_congestion_control_and_segments_as_written() {
    let (origin, link) = (Origin::start(), Link::default());
    let sockopt = json!({ "tcpCongestion": "reno", "tcpMaxSeg": 700 });
    let server = Server::start_with(Kind::Wsray, &link, |config| {
        config["inbounds"][0]["streamSettings"]["sockopt"] = sockopt.clone();
    });
    let client = Client::start_with(Kind::Wsray, &link, server.port, |config| {
        config["outbounds"][0]["streamSettings"]["sockopt"] = sockopt.clone();
    });
    let stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
    apps::check_echo(&stream).unwrap();
    let seen = connections_with(server.port);
    let ends: Vec<&str> = seen.lines().collect();
    assert_eq!(ends.len(), 2, "{seen}");
    for end in ends {
        let segment: u16 =
            end.split_whitespace().find_map(|word| word.strip_prefix("mss:")).unwrap().parse().unwrap();
        assert!(end.contains(" reno ") && (600..=700).contains(&segment), "{end}");
    }
}

fn connections_go_several_ways_where_both_ends_can() {
    let (origin, link) = (Origin::start(), Link::default());
    let sockopt = json!({ "mptcp": true });
    let server = Server::start_with(Kind::Wsray, &link, |config| {
        config["inbounds"][0]["streamSettings"]["sockopt"] = sockopt.clone();
        // Whose targets do not know it.
        config["outbounds"][0]["streamSettings"] = json!({ "sockopt": sockopt });
    });
    let client = Client::start_with(Kind::Wsray, &link, server.port, |config| {
        config["outbounds"][0]["streamSettings"]["sockopt"] = json!({ "tcpMptcp": true });
    });
    let has = fs::read_to_string("/proc/sys/net/mptcp/enabled").is_ok_and(|text| text.trim() == "1");
    let counts = || ["MPCapableSYNTX", "MPCapableACKRX"].map(|name| counted("MPTcpExt", name));
    let before = if has { counts() } else { [0; 2] };
    let stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
    apps::check_echo(&stream).unwrap();
    if has {
        let after = counts();
        assert!(after[0] >= before[0] + 2 && after[1] > before[1], "{before:?} {after:?}");
    } else {
        client.node.log_line(&["[Warning]", "cannot set mptcp", "the kernel has no MPTCP"]);
    }
}

fn an_inbound_for_version_6_only_takes_no_version_4() {
    for (only, listen, takes) in [(false, "::", true), (true, "::", false)] {
        let port = free_port();
        let config = json!({
            "inbounds": [{ "port": port, "listen": listen, "protocol": "socks",
                           "streamSettings": { "sockopt": { "V6Only": only } } }],
            "outbounds": [{ "protocol": "freedom" }],
        });
        let node = Node::start(Kind::Wsray, "sockopt", &config.to_string(), &[]);
        node.log_line(&["[Warning]", "started"]);
        TcpStream::connect(("::1", port)).unwrap();
        assert_eq!(TcpStream::connect(("127.0.0.1", port)).is_ok(), takes, "V6Only {only}");
    }
}

fn listeners_that_stay_are_changed() {
    shell("echo 3 > /proc/sys/net/ipv4/tcp_fastopen");
    let (origin, link) = (Origin::start(), Link::default());
    let mut written = Value::Null;
    let server = Server::start_with(Kind::Wsray, &link, |config| {
        config["inbounds"][0]["streamSettings"]["sockopt"] = json!({ "tcpCongestion": "reno" });
        written = config.clone();
    });
    let client = Client::start_with(Kind::Wsray, &link, server.port, |config| {
        config["outbounds"][0]["streamSettings"]["sockopt"] = json!({ "tcpFastOpen": true });
    });
    let ask = || {
        let stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
        apps::check_echo(&stream).unwrap();
        stream
    };
    let accepted = |name: &str| {
        let from = format!("127.0.0.1:{} ", server.port);
        let seen = connections_with(server.port);
        let ours = |line: &&str| line.split_whitespace().nth(2) == Some(from.trim());
        assert!(seen.lines().any(|line| ours(&line)), "{seen}");
        seen.lines().filter(ours).all(|line| line.contains(&format!(" {name} ")))
    };
    let stream = ask();
    assert!(accepted("reno"));
    drop(stream);
    assert_eq!(counted("TcpExt", "TCPFastOpenPassive"), 0);

    let sockopt = &mut written["inbounds"][0]["streamSettings"]["sockopt"];
    *sockopt = json!({ "tcpFastOpen": true, "tcpFastOpenQueueLength": 7, "V6Only": true });
    server.node.rewrite(&written);
    server.node.signal("HUP");
    server.node.log_line(&["[Warning]", "reloaded"]);
    server.node.log_line(&["[Warning]", "cannot set V6Only", "until wsray is started anew"]);
    for _ in 0..4 {
        ask();
    }
    assert!(counted("TcpExt", "TCPFastOpenPassive") >= 2, "no SYN with data was taken");
    let ended = within(Duration::from_secs(5), || connections_with(server.port).is_empty().then_some(()));
    assert!(ended.is_some(), "{}", connections_with(server.port));
    let stream = ask();
    assert!(!accepted("reno"));
    drop(stream);

    let sockopt = &mut written["inbounds"][0]["streamSettings"]["sockopt"];
    *sockopt = json!({ "bindToDevice": "nope0" });
    server.node.rewrite(&written);
    server.node.signal("HUP");
    server.node.log_line(&["cannot listen on", "interface \"nope0\"", "correct or remove it"]);
    server.node.log_line(&["not reloaded"]);
    // It is bound to the device that it came by until it has gone.
    let sockopt = &mut written["inbounds"][0]["streamSettings"]["sockopt"];
    *sockopt = json!({ "bindToDevice": "va" });
    server.node.rewrite(&written);
    server.node.signal("HUP");
    server.node.log_with(2, "app: reloaded");
    let closed = within(Duration::from_secs(3), || TcpStream::connect(("127.0.0.1", server.port)).err());
    assert!(closed.is_some(), "what comes by another device is still taken");
}
