//! What edges between client and server do to a handshake: all of it was seen in the field.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use support::{
    apps,
    config::Link,
    node::{Client, Kind, Pair, Server},
    origin::Origin,
    skip,
    tap::{ChangeHead, Changes, Tap},
};

/// Whether a session of a wsray client echoes through an edge that changes heads.
fn echoes(server: Kind, changes: Changes) -> Result<(), String> {
    let origin = Origin::start();
    let link = Link::default();
    let server = Server::start(server, &link);
    let tap = Tap::changing(server.port, changes);
    let client = Client::start(Kind::Wsray, &link, tap.port);
    apps::socks5(client.socks, origin.address.into(), None)
        .and_then(|stream| apps::check_echo(&stream))
        .map_err(|error| error.to_string())
}

#[test]
fn the_client_takes_every_answer_that_says_yes() {
    let pair = Pair { client: Kind::Wsray, server: Kind::V2Ray445 };
    if let Some(reason) = pair.missing() {
        skip!(reason);
    }
    let answers: [(&str, ChangeHead); 7] = [
        ("100 before it", |head| format!("HTTP/1.1 100 Continue\r\n\r\n{head}")),
        ("103 before it", |head| {
            format!("HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n{head}")
        }),
        ("keep-alive beside Upgrade", |head| {
            head.replace("Connection: Upgrade", "Connection: keep-alive, Upgrade")
        }),
        ("upgrade in small letters", |head| head.replace("Connection: Upgrade", "connection: upgrade")),
        ("WebSocket in capitals", |head| head.replace("Upgrade: websocket", "Upgrade: WebSocket")),
        ("another reason", |head| head.replace("Switching Protocols", "OK")),
        ("more headers", |head| {
            head.replace("\r\n\r\n", "\r\nServer: cloudflare\r\nSet-Cookie: a=b\r\nVia: 1.1 edge\r\n\r\n")
        }),
    ];
    for (what, answer) in answers {
        for server in [Kind::V2Ray445, Kind::Wsray] {
            assert_eq!(
                echoes(server, Changes { answer, ..Changes::default() }),
                Ok(()),
                "{what}, {server:?}"
            );
        }
    }
}

#[test]
fn the_client_refuses_every_answer_that_is_no_upgrade() {
    let answers: [(&str, ChangeHead); 5] = [
        ("an extension nobody offered", |head| {
            head.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
        }),
        ("another accept", |head| head.replace("Sec-WebSocket-Accept: ", "Sec-WebSocket-Accept: x")),
        ("no accept", |head| head.replace("Sec-WebSocket-Accept: ", "X-Accept: ")),
        ("no upgrade", |head| head.replace("Upgrade: websocket\r\n", "")),
        ("200", |head| head.replace("101 Switching Protocols", "200 OK")),
    ];
    for (what, answer) in answers {
        assert!(echoes(Kind::Wsray, Changes { answer, ..Changes::default() }).is_err(), "{what}");
    }
}

#[test]
fn the_server_takes_what_proxies_make_of_a_request() {
    let requests: [(&str, ChangeHead); 6] = [
        ("keep-alive beside Upgrade", |head| {
            head.replace("Connection: Upgrade", "Connection: keep-alive, Upgrade")
        }),
        ("names in small letters", |head| {
            let (first, rest) = head.split_once("\r\n").unwrap();
            let lower = |line: &str| {
                line.split_once(": ")
                    .map_or_else(|| line.to_owned(), |(n, v)| format!("{}: {v}", n.to_lowercase()))
            };
            format!("{first}\r\n{}", rest.split("\r\n").map(lower).collect::<Vec<_>>().join("\r\n"))
        }),
        ("an offered extension", |head| {
            head.replace(
                "\r\n\r\n",
                "\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n",
            )
        }),
        ("headers of a CDN", |head| {
            head.replace(
                "\r\n\r\n",
                "\r\nCF-Connecting-IP: 203.0.113.1\r\nCDN-Loop: x\r\nX-Forwarded-Proto: https\r\n\r\n",
            )
        }),
        ("a query", |head| head.replace(" HTTP/1.1", "?a=b HTTP/1.1")),
        ("a browser's headers", |head| {
            head.replace(
                "\r\n\r\n",
                "\r\nOrigin: https://example.test\r\nCookie: a=b\r\nPragma: no-cache\r\n\r\n",
            )
        }),
    ];
    for (what, request) in requests {
        assert_eq!(echoes(Kind::Wsray, Changes { request, ..Changes::default() }), Ok(()), "{what}");
    }
}

/// V2Ray takes another server for every attempt as well (`proxy/vmess/outbound/outbound.go`).
#[test]
fn a_server_that_is_down_keeps_no_session_waiting_when_there_is_another() {
    let origin = Origin::start();
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let client = Client::start_with(Kind::Wsray, &link, server.port, |config| {
        let servers = config["outbounds"][0]["settings"]["vnext"].as_array_mut().unwrap();
        let mut down = servers[0].clone();
        down["port"] = support::free_port().into();
        servers.insert(0, down);
    });
    for session in 0..4 {
        let start = std::time::Instant::now();
        apps::check_echo(&apps::socks5(client.socks, origin.address.into(), None).unwrap()).unwrap();
        let took = start.elapsed();
        assert!(took < std::time::Duration::from_millis(700), "session {session} took {took:?}");
    }
}
