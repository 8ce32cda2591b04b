//! TCP Fast Open (RFC 7413), in a network namespace of its own: the request travels in the SYN.

use serde_json::json;

use crate::{
    check_that_we_are_alone, in_a_namespace, shell,
    support::{
        apps,
        config::Link,
        node::{Client, Kind, Server},
        origin::Origin,
    },
};

/// Runs [`in_the_namespace`].
#[test]
fn request_travels_in_the_syn() {
    in_a_namespace!("fast_open::in_the_namespace");
}

/// A counter of the namespace (netstat): of its TCP (`TcpExt`), or of another part.
pub(crate) fn counted(part: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/net/netstat").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with(&format!("{part}:")));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let found = names.split(' ').zip(values.split(' ')).find(|(found, _)| *found == name);
    found.unwrap_or_else(|| panic!("no counter {name}")).1.parse().unwrap()
}

#[test]
#[ignore = "changes the network: started by another test in a namespace of its own"]
fn in_the_namespace() {
    check_that_we_are_alone();
    // Clients and servers may (Documentation/networking/ip-sysctl.rst of the kernel).
    shell("ip link set lo up && echo 3 > /proc/sys/net/ipv4/tcp_fastopen");
    let (origin, link) = (Origin::start(), Link::default());
    let open = |fast: bool| {
        let sockopt = json!({ "tcpFastOpen": fast });
        let server = Server::start_with(Kind::Wsray, &link, |config| {
            config["inbounds"][0]["streamSettings"]["sockopt"] = sockopt.clone();
        });
        let client = Client::start_with(Kind::Wsray, &link, server.port, |config| {
            config["outbounds"][0]["streamSettings"]["sockopt"] = sockopt.clone();
        });
        for _ in 0..4 {
            apps::check_echo(&apps::socks5(client.socks, origin.address.into(), None).unwrap()).unwrap();
        }
        (counted("TcpExt", "TCPFastOpenActive"), counted("TcpExt", "TCPFastOpenPassive"))
    };
    assert_eq!(open(false), (0, 0), "without being asked to");
    let (sent, taken) = open(true);
    // The first connection fetches the cookie.
    assert!(sent >= 3 && taken >= 3, "SYNs with data: {sent} sent, {taken} taken");
}
