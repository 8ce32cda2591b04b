//! Clocks, slowness; our own server; the command itself.

use std::{io::Read, io::Write, net::TcpListener, sync::Mutex, time::Duration};

use serde_json::{Value, json};

use crate::{
    examine::{at_once, client, doctor, examine, examine_with, page, slow_relay},
    support::{
        config::{self, Early, Link, Tls, Transport},
        free_port, front,
        node::{Kind, Server},
    },
};

// Time.

#[test]
fn slow_upgrade_and_held_back_answers_are_told() {
    let link = Link { handshake: 60, ..Link::default() };
    let server = Server::start(Kind::Wsray, &link);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let port = slow_relay(server.port, Duration::from_millis(2200), 0);
            examine(&client(&link, port)).warns("upgrade", "upgrade-slow");
        });
        scope.spawn(|| {
            let port = slow_relay(server.port, Duration::from_millis(1500), 1);
            examine(&client(&link, port))
                .warns("vmess", "answer-slow")
                .writes("nginx", "proxy_buffering off;");
        });
    });
}

#[test]
fn front_end_that_cuts_idle_connections_is_told() {
    needs!("nginx");
    let link = Link { handshake: 60, ..Link::default() };
    let server = Server::start(Kind::Wsray, &link);
    let front = front::nginx_with(server.port, "proxy_read_timeout 1s;");
    let link = Link { tls: Tls::On, ..link };
    let report = examine_with(&client(&link, front.port), &["--idle", "3"]);
    report.warns("idle", "idle-cut").writes("nginx", "proxy_read_timeout 1h;");
    examine_with(&client(&Link { tls: Tls::Off, ..link }, server.port), &["--idle", "2"]).is_well();
}

/// A VMess server on plain TCP whose clock is so many seconds ahead.
fn server_with_clock(id: &str, ahead: i64) -> u16 {
    use wsray_vmess::{Replay, RequestOpener, Step, Users, seal_response};
    let id: wsray_vmess::UserId = id.parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let shared = std::sync::Arc::new((Users::new([id]), Mutex::new(Replay::new())));
    std::thread::spawn(move || {
        for stream in listener.incoming().take(64) {
            let shared = std::sync::Arc::clone(&shared);
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let (mut opener, mut bytes, mut block) = (RequestOpener::new(), Vec::new(), [0; 4096]);
                while let Ok(read @ 1..) = stream.read(&mut block) {
                    bytes.extend_from_slice(&block[..read]);
                    let now = wsray::vmess::unix_seconds().saturating_add_signed(ahead);
                    let opened = opener.open(&bytes, &shared.0, &mut shared.1.lock().unwrap(), now);
                    if let Ok(Step::Done { value: (_, request), .. }) = opened {
                        stream.write_all(&seal_response(&request.secrets, 0).unwrap()).unwrap();
                        return;
                    }
                }
            });
        }
    });
    port
}

#[test]
fn clock_that_is_off_is_told_and_by_how_much() {
    let link = Link { transport: Transport::Tcp, ..Link::default() };
    at_once([(300, "behind"), (-300, "ahead of")], |(ahead, text)| {
        let report = examine(&client(&link, server_with_clock(&link.id, ahead)));
        report.names("vmess", "clock").writes("client-machine", "set-ntp");
        assert!(report.text.contains(text), "{}", report.text);
    });
    examine(&client(&link, server_with_clock(&link.id, 60))).is_well();
}

/// A front end's clock that is off says nothing of the server's, which answers.
#[test]
fn date_of_the_front_end_that_is_off_is_a_warning() {
    let answer = page("404 Not Found", "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "");
    let report = examine(&client(&Link::default(), answer));
    assert_eq!(report.status("clock"), "warn", "{}", report.text);
}

// Our own server.

fn inbound(link: &Link, port: u16) -> Value {
    config::server(Kind::Wsray, link, port)
}

#[test]
fn inbounds_are_tried_in_the_process_or_where_they_run() {
    let link = Link { early: Early::Header("Sec-WebSocket-Protocol", 2048), tls: Tls::On, ..Link::default() };
    let report = examine(&inbound(&link, free_port()));
    report.is_well();
    assert_eq!(
        (report.status("port"), report.status("vmess"), report.status("early data")),
        ("ok", "ok", "ok")
    );
    assert!(report.text.contains("is free"), "{}", report.text);
    assert!(!report.text.contains(&link.id), "{}", report.text);
    let server = Server::start(Kind::Wsray, &link);
    let report = examine(&inbound(&link, server.port));
    report.is_well();
    assert!(report.text.contains("somebody listens"), "{}", report.text);
    // Somebody else runs there.
    let report = examine(&inbound(&Link { id: crate::support::random_id(), ..link.clone() }, server.port));
    report.names("vmess", "id-unknown");
    assert_eq!(report.causes()[1].1, "port-taken", "{}", report.text);
    let plain = Link { tls: Tls::Off, ..link.clone() };
    let taken = page("200 OK", "", "hello");
    examine(&inbound(&plain, taken)).names("upgrade", "port-taken").writes("server-machine", "ss -ltnp");
    let mut config = inbound(&plain, free_port());
    config["inbounds"][0]["listen"] = json!("203.0.113.1");
    examine(&config).names("port", "listen-not-here").writes("server", "0.0.0.0");
    let report = examine(&inbound(&link, page("404 Not Found", "", "")));
    report.names("tls", "tls-to-plain-port");
    let mut config = inbound(&link, free_port());
    config["inbounds"][0]["streamSettings"]["wsSettings"]["acceptProxyProtocol"] = json!(true);
    config["inbounds"][0]["streamSettings"]["tlsSettings"]["rejectUnknownSni"] = json!(true);
    examine(&config).is_well();
}

/// A blackhole ends a session with VMess's end mark, which is no answer of the target's.
#[test]
fn end_without_data_is_not_taken_for_the_targets_answer() {
    let link = Link::default();
    let mut config = inbound(&link, free_port());
    config["outbounds"] = json!([{ "protocol": "blackhole" }]);
    let report = examine(&config);
    report.is_well();
    assert!(!report.text.contains("through the tunnel"), "{}", report.text);
    let target = format!("127.0.0.1:{}", page("200 OK", "", "hello"));
    examine_with(&config, &["--target", &target]).names("vmess", "target-unreachable");
}

#[test]
fn certificate_of_an_inbound_that_has_expired_is_told() {
    let (certificate, key) = crate::tls::issue((2020, 1, 1), (2021, 1, 1), &["localhost"]);
    let mut config = inbound(&Link { tls: Tls::On, ..Link::default() }, free_port());
    config["inbounds"][0]["streamSettings"]["tlsSettings"]["certificates"] =
        json!([{ "certificateFile": certificate, "keyFile": key }]);
    examine(&config).names("tls", "certificate-expired");
    let (_, other) = crate::tls::issue((2020, 1, 1), (2090, 1, 1), &["localhost"]);
    config["inbounds"][0]["streamSettings"]["tlsSettings"]["certificates"][0]["keyFile"] = json!(other);
    let output = doctor(&config, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not belong to the certificate"));
    let locked = other.with_file_name("locked.pem");
    for (kind, more) in [("ENCRYPTED PRIVATE KEY", ""), ("EC PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\n\n")] {
        let text = format!("-----BEGIN {kind}-----\n{more}AAAA\n-----END {kind}-----\n");
        std::fs::write(&locked, text).unwrap();
        config["inbounds"][0]["streamSettings"]["tlsSettings"]["certificates"][0]["keyFile"] = json!(locked);
        let output = doctor(&config, &[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("openssl pkey -in"), "{kind}");
    }
}

// The command itself.

#[test]
fn text_tells_cause_and_change_without_colour() {
    let answer = page("404 Not Found", "Server: nginx/1.22.1\r\n", "");
    let output = doctor(&client(&Link::default(), answer), &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    for part in [
        "outbound \"proxy\": ws://127.0.0.1:",
        "  ok    tcp ",
        "  FAIL  upgrade      the server answered 404 Not Found, Server: nginx/1.22.1",
        "  -     vmess        not tried",
        "\n  cause: the request reached the server, but with a path that is not the server's [path-unknown-to-server]\n",
        "\n    change in the client's configuration:\n        wsSettings: \"path\"",
        "\n    or in nginx:\n        proxy_pass http://127.0.0.1:PORT;",
        "1 of 1 examined failed.",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(!text.contains('\x1b') && !text.contains("Caddy"), "{text}");
}

#[test]
fn command_that_finds_nothing_to_examine_is_a_wrong_one() {
    let config = client(&Link::default(), 1);
    assert_eq!(doctor(&config, &["--outbound", "nobody"]).status.code(), Some(2));
    assert_eq!(doctor(&json!({ "outbounds": [{ "protocol": "freedom" }] }), &[]).status.code(), Some(2));
    assert_eq!(doctor(&json!({ "outbounds": [{ "protocol": "vmess" }] }), &[]).status.code(), Some(2));
    assert_eq!(doctor(&config, &["--target", "nowhere"]).status.code(), Some(2));
}

#[test]
fn browser_on_the_way_is_not_passed_over() {
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let mut config = client(&link, server.port);
    let plain = examine(&config);
    assert_eq!(plain.json["checks"][0]["notes"], json!([]));
    config["outbounds"][0]["streamSettings"]["wsSettings"]["useBrowserForwarding"] = json!(true);
    config["browserForwarder"] = json!({ "listenAddr": "127.0.0.1", "listenPort": free_port() });
    let report = examine(&config);
    assert!(report.text.contains("go through a browser"), "{}", report.text);
}

#[test]
fn tag_and_target_choose_what_is_tried() {
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let mut config = client(&link, free_port());
    let mut second = client(&link, server.port)["outbounds"][0].clone();
    second["tag"] = json!("second");
    config["outbounds"].as_array_mut().unwrap().push(second);
    let origin = page("200 OK", "", "hello");
    let target = format!("127.0.0.1:{origin}");
    let report = examine_with(&config, &["--outbound", "second", "--target", &target]);
    report.is_well();
    assert!(report.text.contains(&format!("{target} answered through the tunnel")), "{}", report.text);
    let target = format!("127.0.0.1:{}", free_port());
    examine_with(&config, &["--outbound", "second", "--target", &target])
        .names("vmess", "target-unreachable");
    assert_eq!(examine(&config).json["checks"].as_array().unwrap().len(), 2);
}
