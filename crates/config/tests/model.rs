//! What a configuration means, with V2Ray 4's behaviour as the measure.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::{
    num::{NonZeroU16, NonZeroU64},
    time::Duration,
};

use wsray_config::{
    Blackhole, Condition, Config, Dial, DomainStrategy, Families, Family, FastOpen, InboundProtocol,
    KeepAlive, Level, ListenAt, LogTarget, MemoryBudget, Mux, MuxPackets, Options, Otherwise,
    OutboundProtocol, Padding, PemSource, ProxyKind, ProxyProtocol, Rule, SocketOptions, Source, Transparent,
    Udp443, UnixAddress, load,
};
use wsray_route::Destination;
use wsray_vmess::SecurityChoice;
use wsray_ws::EarlyDataPlace;

const ID: &str = "b831381d-6324-4d53-ad4f-8cda48b30811";

#[track_caller]
fn config(text: &str) -> Config {
    match load(&[Source::new("config.json", text)], &Options::default()) {
        Ok(loaded) => loaded.config,
        Err(errors) => panic!("refused: {}", errors[0]),
    }
}

fn server(stream: &str) -> wsray_config::ServerStream {
    let text = format!(
        r#"{{ "inbounds": [{{ "protocol": "vmess", "port": 10000, "settings": {{ "clients": ["{ID}"] }},
             "streamSettings": {stream} }}] }}"#
    );
    match config(&text).inbounds.remove(0).protocol {
        InboundProtocol::Vmess(vmess) => vmess.stream,
        other => panic!("not vmess: {other:?}"),
    }
}

fn outbound(rest: &str) -> wsray_config::VmessOutbound {
    match config(&format!(r#"{{ "outbounds": [{{ "protocol": "vmess", {rest} }}] }}"#))
        .outbounds
        .remove(0)
        .protocol
    {
        OutboundProtocol::Vmess(vmess) => vmess,
        other => panic!("not vmess: {other:?}"),
    }
}

fn client(stream: &str) -> wsray_config::ClientStream {
    outbound(&format!(
        r#""settings": {{ "address": "192.0.2.1", "port": 80, "id": "{ID}" }}, "streamSettings": {stream}"#
    ))
    .stream
}

#[test]
fn no_log_object_means_no_access_log_and_warnings_to_standard_output() {
    let log = config("{}").log;
    assert_eq!((log.access, log.error, log.level), (LogTarget::Off, LogTarget::Stdout, Level::Warning));
}

#[test]
fn an_empty_log_object_switches_the_access_log_on() {
    let log = config(r#"{ "log": {} }"#).log;
    assert_eq!((log.access, log.error, log.level), (LogTarget::Stdout, LogTarget::Stdout, Level::Warning));
}

#[test]
fn log_files_none_and_levels_are_read() {
    let log =
        config(r#"{ "log": { "access": "none", "error": "/var/log/e.log", "loglevel": "DEBUG" } }"#).log;
    assert_eq!(log.access, LogTarget::Off);
    assert!(matches!(log.error, LogTarget::File { path, .. } if path == "/var/log/e.log"));
    assert_eq!(log.level, Level::Debug);
    let log = config(r#"{ "log": { "access": "a.log", "loglevel": "none" } }"#).log;
    assert_eq!((log.access, log.error, log.level), (LogTarget::Off, LogTarget::Off, Level::None));
}

#[test]
fn comments_trailing_commas_and_a_byte_order_mark_are_fine() {
    let text = "\u{FEFF}# one\n{ // two\n /* three\n */ \"log\": { \"access\": \"a//b#c/*d*/\", },\n} ";
    assert!(matches!(config(text).log.access, LogTarget::File { path, .. } if path == "a//b#c/*d*/"));
}

#[test]
fn a_byte_order_mark_does_not_move_columns() {
    let errors = load(&[Source::new("x", "\u{FEFF}{ \"log\": 5 }")], &Options::default()).unwrap_err();
    let place = errors[0].place.as_ref().unwrap();
    assert_eq!((place.line, place.column), (1, 10));
}

#[test]
fn keys_and_names_match_in_any_letter_case() {
    let stream = server(r#"{ "NETWORK": "WebSocket", "WSSETTINGS": { "PATH": "/x" } }"#);
    assert_eq!(stream.ws.unwrap().path.as_str(), "/x");
    let text = r#"{ "INBOUNDS": [{ "PROTOCOL": "SOCKS", "PORT": 1080 }], "outbounds": [{ "protocol": "FreeDom" }] }"#;
    assert_eq!(config(text).inbounds[0].listen.ports().unwrap().first(), 1080);
}

#[test]
fn null_is_absent_and_the_last_of_equal_keys_counts() {
    let stream =
        server(r#"{ "network": "ws", "wsSettings": { "path": "/a", "path": "/b", "maxEarlyData": null } }"#);
    let ws = stream.ws.unwrap();
    assert_eq!(ws.path.as_str(), "/b");
    assert_eq!(ws.early_data, None);
}

#[test]
fn a_port_may_be_a_number_a_text_or_a_range() {
    for (port, first, last) in [("443", 443, 443), ("\"443\"", 443, 443), ("\"1000-1005\"", 1000, 1005)] {
        let text = format!(
            r#"{{ "inbounds": [{{ "protocol": "http", "listen": "localhost", "port": {port} }}], "outbounds": [{{ "protocol": "freedom" }}] }}"#
        );
        let listen = &config(&text).inbounds[0].listen;
        assert_eq!((listen.ports().unwrap().first(), listen.ports().unwrap().last()), (first, last));
        assert_eq!(listen.address().unwrap().to_string(), "127.0.0.1");
        assert_eq!(listen.ports().unwrap().iter().count(), usize::from(last - first) + 1);
    }
}

#[test]
fn proxies_are_written_in_a_list_or_flat() {
    let servers = r#""servers": [{ "address": "a.example", "port": 1, "users": [{ "user": "ann", "pass": "p", "level": 1 }] }]"#;
    let flat = r#""address": "a.example", "port": 1, "user": "ann", "pass": "p", "level": 1"#;
    for (protocol, more, expected) in [
        ("socks", "", ProxyKind::Socks5),
        ("socks", r#""version": "4a","#, ProxyKind::Socks4a),
        ("http", "", ProxyKind::Http(wsray_ws::Headers::default())),
    ] {
        for settings in [servers, flat] {
            let settings =
                if more.is_empty() { settings.to_owned() } else { settings.replace(r#""pass": "p","#, "") };
            let text = format!(
                r#"{{ "inbounds": [{{ "protocol": "socks", "listen": "127.0.0.1", "port": 1 }}],
                  "outbounds": [{{ "protocol": "{protocol}", "settings": {{ {more} {settings} }},
                    "streamSettings": {{ "security": "tls" }} }}] }}"#
            );
            let loaded = load(&[Source::new("config.json", &text)], &Options::default()).unwrap();
            assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
            let OutboundProtocol::Proxy(proxy) = &loaded.config.outbounds[0].protocol else {
                panic!("{text}")
            };
            assert_eq!(proxy.protocol, expected);
            assert!(proxy.stream.tls.is_some());
            let server = &proxy.servers[0];
            assert_eq!((server.address.to_string().as_str(), server.port.get()), ("a.example", 1));
            assert_eq!(server.accounts[0].user, "ann");
            assert_eq!(server.accounts[0].password, if more.is_empty() { "p" } else { "" });
            assert!(!format!("{server:?}").contains("\"p\""));
        }
    }
}

#[test]
fn unix_sockets_are_written_as_in_v2ray() {
    let file = |mode| UnixAddress::File { path: "/run/a.sock".into(), mode };
    let name = |padding| UnixAddress::Abstract { name: "ray".into(), padding };
    for (written, expected) in [
        ("/run/a.sock", file(None)),
        ("/run/a.sock,0666", file(Some(0o666))),
        ("@ray", name(Padding::None)),
        ("@@ray", name(Padding::Full)),
    ] {
        let text = format!(
            r#"{{ "inbounds": [{{ "protocol": "socks", "listen": "{written}" }}], "outbounds": [{{ "protocol": "freedom" }}] }}"#
        );
        let loaded = load(&[Source::new("config.json", &text)], &Options::default()).unwrap();
        assert_eq!(loaded.config.inbounds[0].listen.at, ListenAt::Unix(expected), "{written}");
        assert!(loaded.warnings.is_empty(), "a unix socket is not open to everybody: {:?}", loaded.warnings);
    }
}

#[test]
fn one_port_on_two_addresses_is_no_conflict() {
    let text = r#"{ "inbounds": [
        { "protocol": "http", "listen": "127.0.0.1", "port": 8080 },
        { "protocol": "http", "listen": "127.0.0.2", "port": 8080 },
        { "protocol": "http", "listen": "127.0.0.1", "port": "8081-8090" } ],
      "outbounds": [{ "protocol": "freedom" }] }"#;
    assert_eq!(config(text).inbounds.len(), 3);
}

#[test]
fn vmess_users_come_from_clients_or_users_with_id_or_uuid() {
    let text = format!(
        r#"{{ "inbounds": [{{ "protocol": "vmess", "port": 1, "settings": {{
          "clients": [{{ "id": "{ID}", "email": "a@example.com", "level": 1, "alterId": 0 }}],
          "users": ["{}", {{ "uuid": "{}" }}] }} }}] }}"#,
        ID.replace("b8", "b9"),
        ID.replace("b8", "ba").replace('-', "").to_uppercase(),
    );
    let InboundProtocol::Vmess(vmess) = &config(&text).inbounds[0].protocol else { panic!("not vmess") };
    let first_bytes: Vec<_> = vmess.users.iter().map(|user| user.id.as_bytes()[0]).collect();
    assert_eq!(first_bytes, [0xb8, 0xb9, 0xba]);
    assert_eq!((vmess.users[0].email.as_deref(), vmess.users[0].level), (Some("a@example.com"), 1));
    assert!(vmess.stream.ws.is_none() && vmess.stream.tls.is_none());
}

#[test]
fn vnext_keeps_all_servers_and_users() {
    let vmess = outbound(&format!(
        r#""settings": {{ "vnext": [
          {{ "address": "a.example.com", "port": 443, "users": [
             {{ "id": "{ID}", "security": "ZERO", "experiments": "AuthenticatedLength|NoTerminationSignal" }},
             {{ "id": "{ID}", "level": 3 }} ] }},
          {{ "address": "2001:db8::1", "port": 8443, "users": [{{ "id": "{ID}", "security": "chacha20-poly1305" }}] }}
        ] }}"#
    ));
    let [a, b] = &vmess.servers[..] else { panic!("not two servers") };
    assert_eq!((a.port.get(), b.port.get(), b.address.to_string().as_str()), (443, 8443, "[2001:db8::1]"));
    assert_eq!(a.users[0].security, SecurityChoice::Zero);
    assert!(a.users[0].authenticated_length && a.users[0].no_end_mark);
    assert_eq!((a.users[1].security, a.users[1].level), (SecurityChoice::Auto, 3));
    assert!(!a.users[1].authenticated_length && !a.users[1].no_end_mark);
    assert_eq!(b.users[0].security, SecurityChoice::ChaCha20Poly1305);
}

#[test]
fn a_flat_server_takes_uuid_or_id_or_users() {
    for user in [
        format!(r#""uuid": "{ID}""#),
        format!(r#""id": "{ID}""#),
        format!(r#""users": [{{ "id": "{ID}" }}]"#),
    ] {
        let vmess = outbound(&format!(r#""settings": {{ "address": "192.0.2.1", "port": 443, {user} }}"#));
        assert_eq!(vmess.servers[0].users[0].id.as_bytes()[0], 0xb8, "{user}");
    }
}

#[test]
fn ws_defaults_are_the_root_path_and_nothing_else() {
    let ws = client(r#"{ "network": "ws" }"#).ws.unwrap();
    assert_eq!(ws.path.as_str(), "/");
    assert!(ws.headers.iter().next().is_none() && ws.early_data.is_none() && ws.browser_forwarding.is_none());
    let ws = server(r#"{ "network": "ws", "wsSettings": { "path": "" } }"#).ws.unwrap();
    assert_eq!(ws.path.as_str(), "/");
    assert_eq!(
        server(r#"{ "network": "ws", "wsSettings": { "path": "ray" } }"#).ws.unwrap().path.as_str(),
        "/ray"
    );
}

#[test]
fn early_data_travels_in_the_path_unless_a_header_is_named() {
    let ws = client(r#"{ "network": "ws", "wsSettings": { "maxEarlyData": 2147483647 } }"#).ws.unwrap();
    let early_data = ws.early_data.unwrap();
    assert_eq!((early_data.max_bytes.get(), early_data.place), (2_147_483_647, EarlyDataPlace::Path));
    let ws = server(
        r#"{ "network": "ws", "wsSettings": { "maxEarlyData": 1, "earlyDataHeaderName": "X-Early" } }"#,
    );
    assert!(
        matches!(ws.ws.unwrap().early_data.unwrap().place, EarlyDataPlace::Header(name) if name.is("x-early"))
    );
}

#[test]
fn xrays_ed_means_early_data_unless_the_file_says_its_own() {
    let ws = client(r#"{ "network": "ws", "wsSettings": { "path": "/ray?a=1&ed=2560&b=2" } }"#).ws.unwrap();
    assert_eq!(ws.path.as_str(), "/ray?a=1&b=2");
    let early_data = ws.early_data.unwrap();
    assert_eq!(early_data.max_bytes.get(), 2560);
    assert!(matches!(early_data.place, EarlyDataPlace::Header(name) if name.is("Sec-WebSocket-Protocol")));

    let ws = client(r#"{ "network": "ws", "wsSettings": { "path": "/ray?ed=2560", "maxEarlyData": 10 } }"#)
        .ws
        .unwrap();
    assert_eq!(ws.path.as_str(), "/ray?ed=2560");
    assert_eq!(ws.early_data.unwrap().max_bytes.get(), 10);

    let ws = server(r#"{ "network": "ws", "wsSettings": { "path": "/ray?ed=2560" } }"#).ws.unwrap();
    assert_eq!((ws.path.as_str(), ws.early_data.unwrap().max_bytes.get()), ("/ray", 2560));
    // In path mode V2Ray matches the query as a prefix like any other.
    let ws =
        server(r#"{ "network": "ws", "wsSettings": { "path": "/ray?a=", "maxEarlyData": 10 } }"#).ws.unwrap();
    assert_eq!(ws.path.as_str(), "/ray?a=");
}

#[test]
fn xrays_host_is_a_host_header_and_an_empty_host_is_none() {
    let ws = client(
        r#"{ "network": "ws", "wsSettings": { "host": "a.example.com", "headers": { "X-A": "b" } } }"#,
    );
    assert_eq!(ws.ws.unwrap().headers.find("host"), Some("a.example.com"));
    let ws = client(r#"{ "network": "ws", "wsSettings": { "headers": { "host": "", "User-Agent": "" } } }"#)
        .ws
        .unwrap();
    assert_eq!((ws.headers.find("Host"), ws.headers.find("User-Agent")), (None, Some("")));
}

#[test]
fn the_proxy_protocol_is_asked_for_by_ws_on_ws_and_by_the_socket_on_tcp() {
    let accepts = |stream: &str| server(stream).accept_proxy_protocol != ProxyProtocol::Off;
    assert!(accepts(r#"{ "network": "ws", "wsSettings": { "acceptProxyProtocol": true } }"#));
    assert!(!accepts(r#"{ "network": "ws", "sockopt": { "acceptProxyProtocol": true } }"#));
    assert!(accepts(r#"{ "network": "tcp", "sockopt": { "acceptProxyProtocol": true } }"#));
    assert!(accepts(r#"{ "tcpSettings": { "acceptProxyProtocol": true } }"#));
    assert!(!accepts("{}"));
}

#[test]
fn top_level_transport_fills_streams_without_settings_of_their_own() {
    let text = format!(
        r#"{{ "transport": {{ "wsSettings": {{ "path": "/shared" }} }}, "inbounds": [
          {{ "protocol": "vmess", "port": 1, "settings": {{ "clients": ["{ID}"] }}, "streamSettings": {{ "network": "ws" }} }},
          {{ "protocol": "vmess", "port": 2, "settings": {{ "clients": ["{ID}"] }},
             "streamSettings": {{ "network": "ws", "wsSettings": {{ "path": "/own" }} }} }} ] }}"#
    );
    let paths: Vec<_> = config(&text)
        .inbounds
        .iter()
        .map(|inbound| match &inbound.protocol {
            InboundProtocol::Vmess(vmess) => vmess.stream.ws.as_ref().unwrap().path.as_str().to_owned(),
            other => panic!("not vmess: {other:?}"),
        })
        .collect();
    assert_eq!(paths, ["/shared", "/own"]);
}

#[test]
fn certificates_come_from_files_or_lines() {
    let tls = server(
        r#"{ "security": "TLS", "tlsSettings": { "alpn": "h2,http/1.1", "enableSessionResumption": true, "certificates": [
          { "certificateFile": "c.pem", "keyFile": "k.pem" },
          { "usage": "Encipherment", "certificate": ["-----BEGIN", "a"], "key": ["b", "c"] } ] } }"#,
    )
    .tls
    .unwrap();
    assert!(matches!(&tls.certificates[0].certificate.source, PemSource::File(path) if path == "c.pem"));
    assert!(
        matches!(&tls.certificates[1].certificate.source, PemSource::Inline(text) if text == "-----BEGIN\na")
    );
    assert!(matches!(&tls.certificates[1].key.source, PemSource::Inline(text) if text == "b\nc"));
    assert_eq!(tls.alpn, ["h2", "http/1.1"]);
    assert_eq!(tls.resumption, wsray_config::Resumption::On);
    assert!(!format!("{tls:?}").contains("BEGIN"), "inline PEM in Debug");
}

#[test]
fn alpn_is_http_1_on_ws_and_both_on_tcp() {
    let alpn = |stream| client(stream).tls.unwrap().alpn;
    assert_eq!(alpn(r#"{ "network": "ws", "security": "tls" }"#), ["http/1.1"]);
    assert_eq!(alpn(r#"{ "network": "ws", "security": "tls", "tlsSettings": {} }"#), ["http/1.1"]);
    assert_eq!(
        alpn(r#"{ "network": "ws", "security": "tls", "tlsSettings": { "alpn": ["h2"] } }"#),
        ["http/1.1"]
    );
    assert_eq!(alpn(r#"{ "security": "tls" }"#), ["h2", "http/1.1"]);
}

#[test]
fn client_trust_is_read() {
    let tls = client(
        r#"{ "security": "tls", "tlsSettings": { "serverName": "a.example.com", "disableSystemRoot": true,
          "certificates": [{ "usage": "verify", "certificateFile": "ca.pem" }],
          "pinnedPeerCertificateChainSha256": ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="] } }"#,
    )
    .tls
    .unwrap();
    assert!(tls.disable_system_root && !tls.allow_insecure);
    assert!(matches!(&tls.extra_roots[0].source, PemSource::File(path) if path == "ca.pem"));
    assert_eq!(tls.pinned_chain_sha256, [std::array::from_fn(|n| u8::try_from(n).unwrap())]);
    let tls = client(r#"{ "security": "tls", "tlsSettings": { "allowInsecure": true } }"#).tls.unwrap();
    assert!(tls.allow_insecure && tls.server_name.is_none());
}

#[test]
fn local_inbounds_are_read() {
    let text = r#"{ "inbounds": [
      { "tag": "s", "protocol": "socks", "listen": "::1", "port": 1080, "settings": { "auth": "password",
        "accounts": [{ "user": "u", "pass": "secret-word" }], "udp": true, "ip": "127.0.0.1", "userLevel": 2 } },
      { "protocol": "socks", "listen": "::1", "port": 1081 },
      { "protocol": "http", "listen": "::1", "port": 1082, "settings": { "accounts": [{ "user": "u", "pass": "p" }], "timeout": 30 } }
      ], "outbounds": [{ "protocol": "freedom" }] }"#;
    let config = config(text);
    assert!(!format!("{config:?}").contains("secret-word"), "a password in Debug");
    let InboundProtocol::Socks(socks) = &config.inbounds[0].protocol else { panic!("not socks") };
    assert_eq!((socks.accounts[0].user.as_str(), socks.accounts[0].password.as_str()), ("u", "secret-word"));
    assert_eq!(socks.udp.as_ref().unwrap().reply_address.unwrap().to_string(), "127.0.0.1");
    assert_eq!(socks.level, 2);
    let InboundProtocol::Socks(socks) = &config.inbounds[1].protocol else { panic!("not socks") };
    assert!(socks.accounts.is_empty() && socks.udp.is_none());
    let InboundProtocol::Http(http) = &config.inbounds[2].protocol else { panic!("not http") };
    assert_eq!((http.accounts.len(), http.idle_timeout), (1, Some(Duration::from_secs(30))));
}

#[test]
fn freedom_and_blackhole_are_read() {
    let text = r#"{ "outbounds": [
      { "protocol": "freedom", "settings": { "domainStrategy": "useipv4", "redirect": "127.0.0.1:3366" } },
      { "protocol": "freedom", "settings": { "redirect": ":53" } },
      { "protocol": "blackhole" },
      { "protocol": "blackhole", "settings": { "response": { "type": "http" } } } ] }"#;
    let config = config(text);
    let OutboundProtocol::Freedom(freedom) = &config.outbounds[0].protocol else { panic!("not freedom") };
    let only_v4 = DomainStrategy::Lookup { families: Families::OnlyV4, otherwise: Otherwise::AsIs };
    assert_eq!(config.outbounds[0].dial.domain_strategy, only_v4);
    let redirect = freedom.redirect.clone().unwrap();
    assert_eq!(
        (redirect.address.unwrap().to_string().as_str(), redirect.port.unwrap().get()),
        ("127.0.0.1", 3366)
    );
    let OutboundProtocol::Freedom(freedom) = &config.outbounds[1].protocol else { panic!("not freedom") };
    assert!(freedom.redirect.as_ref().is_some_and(|to| to.address.is_none() && to.port.unwrap().get() == 53));
    assert!(matches!(
        config.outbounds[2].protocol,
        OutboundProtocol::Blackhole(Blackhole { http_response: false })
    ));
    assert!(matches!(
        config.outbounds[3].protocol,
        OutboundProtocol::Blackhole(Blackhole { http_response: true })
    ));
}

fn dial(rest: &str) -> Dial {
    let text = format!(
        r#"{{ "outbounds": [{{ "protocol": "vmess", {rest},
              "settings": {{ "address": "192.0.2.1", "port": 80, "id": "{ID}" }} }},
              {{ "tag": "next", "protocol": "freedom" }}] }}"#
    );
    config(&text).outbounds.remove(0).dial
}

fn sockopt(options: &str) -> SocketOptions {
    dial(&format!(r#""streamSettings": {{ "sockopt": {{ {options} }} }}"#)).socket
}

#[test]
fn socket_options_are_read_in_the_spellings_of_v2ray_and_xray() {
    let nothing = sockopt("");
    assert_eq!(SocketOptions { place: None, ..nothing }, SocketOptions::default());
    assert_eq!(sockopt(r#""mark": 255"#).mark.unwrap().get(), 255);
    assert_eq!(sockopt(r#""mark": 0"#).mark, None);
    for key in ["bindToDevice", "interface"] {
        assert_eq!(sockopt(&format!(r#""{key}": "eth0""#)).device.as_deref(), Some("eth0"));
    }
    // V2Ray's three states, Xray's length of the queue.
    for (value, expected) in [
        ("true", Some(FastOpen::On)),
        ("false", Some(FastOpen::Off)),
        ("256", Some(FastOpen::On)),
        ("0", None),
        ("-1", Some(FastOpen::Off)),
    ] {
        assert_eq!(sockopt(&format!(r#""tcpFastOpen": {value}"#)).fast_open, expected, "{value}");
    }
    for key in ["mptcp", "tcpMptcp"] {
        assert!(sockopt(&format!(r#""{key}": true"#)).multipath);
    }
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let kept = sockopt(r#""tcpKeepAliveIdle": 100, "tcpKeepAliveInterval": 20"#).keep_alive;
    assert_eq!(kept, KeepAlive::On { idle: seconds(100), interval: seconds(20) });
    assert_eq!(sockopt(r#""tcpKeepAliveInterval": 0"#).keep_alive, KeepAlive::default());
    assert_eq!(sockopt(r#""tcpKeepAliveInterval": -1"#).keep_alive, KeepAlive::Off);
    assert_eq!(sockopt(r#""tcpcongestion": "bbr""#).congestion.as_deref(), Some("bbr"));
    assert_eq!(sockopt(r#""tcpUserTimeout": 10000"#).user_timeout, seconds(10));
    assert_eq!(sockopt(r#""tcpMaxSeg": 1440"#).max_segment, Some(1440));
    assert!(sockopt(r#""v6only": true"#).only_v6);
    let buffers = sockopt(r#""rxBufSize": 65536, "txBufSize": 0, "forceBufSize": true"#).buffers;
    assert_eq!((buffers.receive, buffers.send, buffers.beyond_limit), (Some(65536), None, true));
    assert_eq!(sockopt(r#""tproxy": "TProxy""#).transparent, Transparent::Tproxy);
    assert_eq!(sockopt(r#""tproxy": "redirect""#).transparent, Transparent::Redirect);
}

#[test]
fn domain_strategies_have_the_meanings_of_their_names() {
    use Families::{Any, OnlyV4, OnlyV6, PreferV4, PreferV6};
    use Otherwise::{AsIs, Fail};
    assert_eq!(dial(r#""domainStrategy": "AsIs""#).domain_strategy, DomainStrategy::AsIs);
    for (name, families, otherwise) in [
        ("UseIP", Any, AsIs),
        ("use_ip", Any, AsIs),
        ("UseIPv4", OnlyV4, AsIs),
        ("use_ip4", OnlyV4, AsIs),
        ("UseIPv6", OnlyV6, AsIs),
        ("UseIPv4v6", PreferV4, AsIs),
        ("UseIPv6v4", PreferV6, AsIs),
        ("ForceIP", Any, Fail),
        ("ForceIPv4", OnlyV4, Fail),
        ("ForceIPv6", OnlyV6, Fail),
        ("ForceIPv4v6", PreferV4, Fail),
        ("ForceIPv6v4", PreferV6, Fail),
    ] {
        let expected = DomainStrategy::Lookup { families, otherwise };
        let of = |rest: &str| dial(&rest.replace("NAME", name));
        // V2Ray 5's is for targets and servers, Xray's two for one each.
        let both = of(r#""domainStrategy": "NAME""#);
        assert_eq!((both.domain_strategy, both.target_strategy), (expected, expected), "{name}");
        let target = of(r#""targetStrategy": "NAME""#);
        assert_eq!(
            (target.domain_strategy, target.target_strategy),
            (DomainStrategy::AsIs, expected),
            "{name}"
        );
        let server = of(r#""streamSettings": { "sockopt": { "domainStrategy": "NAME" } }"#);
        assert_eq!(
            (server.domain_strategy, server.target_strategy),
            (expected, DomainStrategy::AsIs),
            "{name}"
        );
    }
}

#[test]
fn an_outbound_is_sent_from_an_address_and_through_another_outbound() {
    assert_eq!(dial(r#""sendThrough": "192.0.2.7""#).send_through.unwrap().to_string(), "192.0.2.7");
    assert_eq!(dial(r#""sendThrough": "0.0.0.0""#).send_through, None);
    let eyeballs = dial(
        r#""streamSettings": { "sockopt": { "happyEyeballs": {
            "prioritizeIPv6": true, "tryDelayMs": 300, "interleave": 2, "maxConcurrentTry": 3 } } }"#,
    )
    .happy_eyeballs;
    assert_eq!((eyeballs.first, eyeballs.delay), (Some(Family::V6), Duration::from_millis(300)));
    assert_eq!((eyeballs.interleave.get(), eyeballs.at_once.get()), (2, 3));
    for rest in [
        r#""proxySettings": { "tag": "next" }"#,
        r#""proxySettings": { "tag": "next", "transportLayer": true }"#,
        r#""streamSettings": { "sockopt": { "dialerProxy": "next" } }"#,
    ] {
        assert_eq!(dial(rest).through.unwrap().outbound, 1, "{rest}");
    }
}

#[test]
fn a_chain_keeps_websocket_only_if_it_is_told_to() {
    let ws = |rest: &str| {
        let text = format!(
            r#"{{ "outbounds": [{{ "protocol": "vmess", {rest},
                  "settings": {{ "address": "192.0.2.1", "port": 80, "id": "{ID}" }} }},
                  {{ "tag": "next", "protocol": "freedom" }}] }}"#
        );
        match config(&text).outbounds.remove(0).protocol {
            OutboundProtocol::Vmess(vmess) => (vmess.stream.tls.is_some(), vmess.stream.ws.is_some()),
            other => panic!("not vmess: {other:?}"),
        }
    };
    let stream = r#""streamSettings": { "network": "ws", "security": "tls" }"#;
    assert_eq!(ws(&format!(r#"{stream}, "proxySettings": {{ "tag": "next" }}"#)), (true, false));
    let kept = r#""proxySettings": { "tag": "next", "transportLayer": true }"#;
    assert_eq!(ws(&format!("{stream}, {kept}")), (true, true));
    let dialer =
        r#""streamSettings": { "network": "ws", "security": "tls", "sockopt": { "dialerProxy": "next" } }"#;
    assert_eq!(ws(dialer), (true, true));
}

#[test]
fn rules_point_to_outbounds_in_order() {
    let text = r#"{ "inbounds": [{ "tag": "a", "protocol": "http", "listen": "127.0.0.1", "port": 8080 }],
      "outbounds": [{ "protocol": "freedom" }, { "tag": "x", "protocol": "blackhole" }, { "tag": "y", "protocol": "freedom" }],
      "routing": { "domainStrategy": "AsIs", "rules": [
        { "type": "field", "inboundTag": ["a"], "outboundTag": "y" },
        { "inboundTag": "a, a", "outboundTag": "x" },
        { "type": "field", "network": "tcp,udp", "outboundTag": "x" } ] } }"#;
    let rules = config(text).routing.rules;
    let read: Vec<_> = rules.iter().map(|rule| (format!("{:?}", rule.conditions), rule.to)).collect();
    assert_eq!(
        read,
        [
            ("[Inbound([\"a\"])]".to_owned(), Destination::Outbound(2)),
            ("[Inbound([\"a\", \"a\"])]".to_owned(), Destination::Outbound(1)),
            ("[Network(Both)]".to_owned(), Destination::Outbound(1)),
        ]
    );
}

#[test]
fn every_condition_of_a_rule_is_read() {
    for (text, expected) in [
        (r#""domain": "a.com, full:b.com", "domains": ["regexp:c"]"#, 3),
        (r#""ip": ["10.0.0.0/8", "::1", "geoip:!cn", "geoip:private", "ext:x.dat:y"]"#, 5),
        (r#""sourceIP": ["10.0.0.1"]"#, 1),
        (r#""source": "10.0.0.1,10.0.0.2""#, 2),
    ] {
        let rules = rules(text);
        let count = match &rules[0].conditions[..] {
            [Condition::Domain(sources)] => sources.len(),
            [Condition::Ip(groups) | Condition::Source(groups)] => groups[0].sources.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(count, expected, "{text}");
    }
    let all = rules(
        r#""port": 80, "sourcePort": "1-5", "network": ["udp"], "user": ["a@b", ""], "protocol": "tls",
           "attrs": "attrs[':path'] == '/'", "ip": [], "inboundTag": """#,
    );
    let read: Vec<_> = all[0].conditions.iter().map(|one| format!("{one:?}")).collect();
    assert_eq!(
        read[..5],
        [
            "Port(PortSet([(80, 80)]))",
            "Network(Only(Udp))",
            "SourcePort(PortSet([(1, 5)]))",
            "User([\"a@b\"])",
            "Protocol([\"tls\"])"
        ]
    );
    assert!(read.len() == 6 && read[5].starts_with("Attributes("), "{read:?}");
}

fn rules(conditions: &str) -> Vec<Rule> {
    let text = format!(
        r#"{{ "outbounds": [{{ "tag": "x", "protocol": "freedom" }}],
          "routing": {{ "rules": [{{ "outboundTag": "x", {conditions} }}] }} }}"#
    );
    config(&text).routing.rules
}

#[test]
fn balancers_choose_among_outbounds_by_their_tags() {
    let text = r#"{ "outbounds": [{ "tag": "a1", "protocol": "freedom" }, { "protocol": "freedom" },
        { "tag": "b", "protocol": "freedom" }, { "tag": "a2", "protocol": "freedom" }],
      "routing": { "domainStrategy": "ipondemand", "balancers": [
        { "tag": "first", "selector": ["a"] },
        { "tag": "second", "selector": ["a2", "b"], "fallbackTag": "a1", "strategy": { "type": "Random" } }],
        "rules": [{ "port": "1", "balancerTag": "second" }, { "port": "1", "balancerTag": "first", "outboundTag": "" }] } }"#;
    let routing = config(text).routing;
    assert_eq!(routing.domain_strategy, wsray_route::DomainStrategy::IpOnDemand);
    assert_eq!(routing.balancers[0].candidates(), [0, 3]);
    assert_eq!(routing.balancers[1].candidates(), [2, 3]);
    assert_eq!(routing.balancers[1].pick(0, |_| false), Some(0));
    let to: Vec<_> = routing.rules.iter().map(|rule| rule.to).collect();
    assert_eq!(to, [Destination::Balancer(1), Destination::Balancer(0)]);
}

#[test]
fn sniffing_is_read_on_every_inbound() {
    let read = |keys: &str| {
        let text = format!(
            r#"{{ "inbounds": [{{ "protocol": "vmess", "listen": "127.0.0.1", "port": 1080, {keys} }}],
              "outbounds": [{{ "protocol": "freedom" }}] }}"#
        );
        config(&text).inbounds[0].sniffing.map(|sniffing| (sniffing.http, sniffing.tls, sniffing.route_only))
    };
    assert_eq!(read(r#""tag": "x""#), None);
    assert_eq!(read(r#""sniffing": { "destOverride": ["http"] }"#), None);
    assert_eq!(read(r#""sniffing": { "enabled": true }"#), Some((false, false, false)));
    assert_eq!(
        read(r#""sniffing": { "enabled": true, "destOverride": ["HTTP", "tls"] }"#),
        Some((true, true, false))
    );
    assert_eq!(
        read(r#""sniffing": { "enabled": true, "destOverride": "tls", "routeOnly": true }"#),
        Some((false, true, true))
    );
    assert_eq!(
        read(r#""sniffing": { "enabled": true, "destOverride": ["fakedns+others"] }"#),
        Some((true, true, false))
    );
    assert_eq!(read(r#""sniffing": { "enabled": true, "metadataOnly": true }"#), None);
    assert_eq!(read(r#""domainOverride": ["tls"]"#), Some((false, true, false)));
}

#[test]
fn policy_levels_override_v2rays_defaults() {
    let policy =
        config(r#"{ "policy": { "levels": { "0": { "handshake": 4, "uplinkOnly": 0 }, "1": {} } } }"#).policy;
    let zero = policy.timeouts(0);
    assert_eq!((zero.handshake, zero.connection_idle), (Duration::from_secs(4), Duration::from_mins(5)));
    assert_eq!((zero.uplink_only, zero.downlink_only), (Some(Duration::ZERO), None));
    assert_eq!(policy.timeouts(7).handshake, Duration::from_mins(1));
}

#[test]
fn a_memory_budget_is_a_number_of_mib() {
    let budget = |system: &str| config(&format!(r#"{{ "policy": {{ {system} }} }}"#)).policy.memory_budget;
    assert_eq!(budget(""), MemoryBudget::ThreeQuarters);
    assert_eq!(budget(r#""system": { "memoryBudget": 0 }"#), MemoryBudget::Unlimited);
    let bytes = NonZeroU64::new(64 << 20).unwrap();
    assert_eq!(budget(r#""system": { "memoryBudget": 64 }"#), MemoryBudget::Bytes(bytes));
}

#[test]
fn v2ray_2_spellings_load_in_v2rays_order() {
    let text = r#"{ "port": 1080, "inbound": { "tag": "1", "protocol": "socks", "listen": "127.0.0.1" },
      "inbounds": [{ "tag": "3", "protocol": "http", "listen": "127.0.0.1", "port": 3 }],
      "inboundDetour": [{ "tag": "2", "protocol": "http", "listen": "127.0.0.1", "port": 2 }],
      "outbound": { "protocol": "freedom", "tag": "out" }, "outboundDetour": [{ "protocol": "blackhole" }] }"#;
    let config = config(text);
    let read: Vec<_> = config
        .inbounds
        .iter()
        .map(|one| (one.tag.as_deref().unwrap(), one.listen.ports().unwrap().first()))
        .collect();
    assert_eq!(read, [("1", 1080), ("2", 2), ("3", 3)]);
    assert!(
        matches!(config.outbounds[0].protocol, OutboundProtocol::Freedom(_)) && config.outbounds.len() == 2
    );
}

/// Which sessions share a connection of a vmess outbound with this `mux`.
fn mux(mux: &str) -> Mux {
    let text = format!(
        r#"{{ "outbounds": [{{ "protocol": "vmess", "mux": {mux}, "settings": {{ "vnext": [{{ "address": "example.com",
            "port": 443, "users": [{{ "id": "b831381d-6324-4d53-ad4f-8cda48b30811" }}] }}] }} }}] }}"#
    );
    match &config(&text).outbounds[0].protocol {
        wsray_config::OutboundProtocol::Vmess(vmess) => vmess.mux,
        other => panic!("{other:?}"),
    }
}

fn shared(text: &str) -> Option<u16> {
    mux(text).sessions
}

#[test]
fn xudp_is_what_xray_means_by_it() {
    let most = |most| MuxPackets::Xudp(NonZeroU16::new(most).unwrap());
    for (text, sessions, packets, udp_443) in [
        (r#"{ "enabled": true }"#, Some(8), MuxPackets::AsStreams, Udp443::Allow),
        (r#"{ "enabled": true, "xudpConcurrency": 0 }"#, Some(8), MuxPackets::AsStreams, Udp443::Allow),
        (r#"{ "enabled": true, "xudpConcurrency": 16 }"#, Some(8), most(16), Udp443::Reject),
        (r#"{ "enabled": true, "concurrency": -1, "xudpConcurrency": 1 }"#, None, most(1), Udp443::Reject),
        (r#"{ "enabled": true, "xudpConcurrency": -1 }"#, Some(8), MuxPackets::Separate, Udp443::Reject),
        (
            r#"{ "enabled": true, "xudpConcurrency": 4, "xudpProxyUDP443": "allow" }"#,
            Some(8),
            most(4),
            Udp443::Allow,
        ),
        (r#"{ "enabled": true, "xudpProxyUDP443": "skip" }"#, Some(8), MuxPackets::AsStreams, Udp443::Skip),
        (r#"{ "enabled": false, "xudpConcurrency": 4 }"#, None, MuxPackets::AsStreams, Udp443::Allow),
    ] {
        assert_eq!(mux(text), Mux { sessions, packets, udp_443 }, "{text}");
    }
}

#[test]
fn mux_shares_a_connection_among_as_many_sessions_as_it_says() {
    assert_eq!(shared(r#"{ "enabled": true }"#), Some(8));
    assert_eq!(shared(r#"{ "enabled": true, "concurrency": 0 }"#), Some(8));
    assert_eq!(shared(r#"{ "enabled": true, "concurrency": 1024 }"#), Some(1024));
    assert_eq!(shared(r#"{ "enabled": true, "concurrency": -1 }"#), None);
    assert_eq!(shared(r#"{ "enabled": false, "concurrency": 8 }"#), None);
    assert_eq!(shared("{}"), None);
}

#[test]
fn mux_with_a_negative_concurrency_is_off() {
    let text =
        r#"{ "outbounds": [{ "protocol": "freedom", "mux": { "enabled": true, "concurrency": -1 } }] }"#;
    assert_eq!(config(text).outbounds.len(), 1);
}

#[test]
fn no_source_at_all_is_an_error() {
    assert!(load(&[], &Options::default()).is_err());
}

/// A configuration with one inbound on `port`, where the environment has some variables.
fn ports(port: &str) -> Result<(u16, u16), String> {
    let variable = |name: &str| match name {
        "PORT" => Some("443".to_owned()),
        "RANGE" => Some("1000-1005".to_owned()),
        "WORD" => Some("https".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    let text = format!(
        r#"{{ "inbounds": [{{ "protocol": "http", "listen": "127.0.0.1", "port": {port} }}], "outbounds": [{{ "protocol": "freedom" }}] }}"#
    );
    match load(&[Source::new("config.json", &text)], &Options { variable: &variable }) {
        Ok(loaded) => {
            let ports = loaded.config.inbounds[0].listen.ports().unwrap();
            Ok((ports.first(), ports.last()))
        }
        Err(errors) => Err(errors[0].to_string()),
    }
}

#[test]
fn a_port_may_be_a_variable_of_the_environment() {
    assert_eq!(ports("\"env:PORT\""), Ok((443, 443)));
    assert_eq!(ports("\"env:RANGE\""), Ok((1000, 1005)));
    for (port, expected) in [
        ("\"env:OTHER\"", "the environment has no variable \"OTHER\""),
        ("\"env:WORD\"", "in the variable \"WORD\", found \"https\""),
        ("\"env:EMPTY\"", "in the variable \"EMPTY\", found \"\""),
        ("\"env:\"", "the environment has no variable \"\""),
    ] {
        let said = ports(port).unwrap_err();
        assert!(said.contains("inbounds[0].port: ") && said.contains(expected), "{said}");
    }
}

#[test]
fn a_port_beside_the_inbounds_is_the_first_inbounds_alone() {
    let load_it = |text: &str| load(&[Source::new("c.json", text)], &Options::default());
    let errors = load_it(
        r#"{ "port": 5, "inbounds": [{ "protocol": "http", "listen": "::1", "port": 1 }, { "protocol": "http", "listen": "::1" }],
          "outbounds": [{ "protocol": "freedom" }] }"#,
    );
    assert!(errors.unwrap_err()[0].to_string().contains("inbounds[1]: \"port\" is missing"));
    let loaded = load_it(
        r#"{ "port": 5, "inbounds": [{ "protocol": "http", "listen": "::1", "port": 1 }], "outbounds": [{ "protocol": "freedom" }] }"#,
    )
    .unwrap();
    assert_eq!(loaded.config.inbounds[0].listen.ports().unwrap().first(), 1);
    assert!(loaded.warnings[0].to_string().starts_with("c.json:1:11: port: this has no effect"));
}

#[test]
fn top_level_tcp_settings_reach_inbounds_without_stream_settings() {
    let text = |inbound: &str| {
        format!(
            r#"{{ "transport": {{ "tcpSettings": {{ "acceptProxyProtocol": true }} }},
              "inbounds": [{{ "listen": "::1", "port": 1, {inbound} }}], "outbounds": [{{ "protocol": "freedom" }}] }}"#
        )
    };
    let vmess = text(&format!(r#""protocol": "vmess", "settings": {{ "clients": ["{ID}"] }}"#));
    let InboundProtocol::Vmess(vmess) = &config(&vmess).inbounds[0].protocol else { panic!("not vmess") };
    assert_eq!(vmess.stream.accept_proxy_protocol, ProxyProtocol::FromAnybody);
    for rest in ["", r#", "streamSettings": {}"#] {
        let socks = text(&format!(r#""protocol": "socks"{rest}"#));
        let errors = load(&[Source::new("c.json", &socks)], &Options::default()).unwrap_err();
        assert!(errors[0].message.contains("the PROXY protocol is supported on vmess inbounds only"));
    }
}

#[test]
fn without_an_address_every_address_of_both_families_is_listened_on() {
    // Go's net.Listen takes 0.0.0.0 for both families, and V2Ray's default is 0.0.0.0.
    for listen in ["", r#""listen": "","#, r#""listen": "0.0.0.0","#, r#""listen": "::","#] {
        let text = |port: u16, other: &str| {
            format!(
                r#"{{ "inbounds": [{{ {listen} "protocol": "socks", "port": 1080 }},
                  {{ "listen": "{other}", "protocol": "socks", "port": {port} }}], "outbounds": [{{ "protocol": "freedom" }}] }}"#
            )
        };
        assert!(
            config(&text(1081, "::1")).inbounds[0].listen.address().unwrap().is_unspecified(),
            "{listen}"
        );
        for other in ["127.0.0.1", "::1"] {
            let errors = load(&[Source::new("c.json", &text(1080, other))], &Options::default()).unwrap_err();
            assert!(errors[0].message.contains("port 1080"), "{listen} {other}");
        }
    }
}

#[test]
fn xrays_spelling_of_a_client_and_server_is_read() {
    let vmess = outbound(&format!(
        r#""settings": {{ "address": "192.0.2.1", "port": 443, "id": "{ID}", "security": "aes-128-gcm", "level": 2 }},
          "streamSettings": {{ "network": "websocket", "wsSettings": {{ "host": "a.example.com", "path": "/x?ed=2048",
            "headers": {{ "Host": "b.example.com" }} }} }}"#
    ));
    let user = &vmess.servers[0].users[0];
    assert_eq!((user.security, user.level), (SecurityChoice::Aes128Gcm, 2));
    let ws = vmess.stream.ws.unwrap();
    assert_eq!((ws.path.as_str(), ws.headers.find("Host")), ("/x", Some("a.example.com")));
    assert_eq!(ws.early_data.unwrap().max_bytes.get(), 2048);
    let text = format!(
        r#"{{ "inbounds": [{{ "protocol": "vmess", "port": 1, "settings": {{ "users": [{{ "id": "{ID}", "email": "a@example.com" }}] }},
          "streamSettings": {{ "network": "ws", "wsSettings": {{ "path": "/x?ed=2048" }} }} }}] }}"#
    );
    let InboundProtocol::Vmess(vmess) = &config(&text).inbounds[0].protocol else { panic!("not vmess") };
    assert_eq!(vmess.users[0].email.as_deref(), Some("a@example.com"));
    assert_eq!(vmess.stream.ws.as_ref().unwrap().path.as_str(), "/x");
}
