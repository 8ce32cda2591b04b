//! Where inbounds listen, and what they take.

use std::time::Duration;

use wsray_config::{
    InboundProtocol, ListenAt, Options, OutboundProtocol, Padding, ProxyProtocol, Source, UnixAddress, load,
};

use crate::{ID, config};

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
fn sniffing_is_read_on_every_inbound() {
    let read = |keys: &str| {
        let text = format!(
            r#"{{ "inbounds": [{{ "protocol": "vmess", "listen": "127.0.0.1", "port": 1080, {keys} }}],
              "outbounds": [{{ "protocol": "freedom" }}] }}"#
        );
        let sniffing = config(&text).inbounds.remove(0).sniffing;
        sniffing.map(|sniffing| (sniffing.http, sniffing.tls, sniffing.route_only))
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
