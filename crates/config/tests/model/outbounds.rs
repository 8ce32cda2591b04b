//! Freedom, blackhole and proxies, and how every outbound connects.

use std::time::Duration;

use wsray_config::{
    Blackhole, Dial, DomainStrategy, Families, Family, FastOpen, KeepAlive, Options, Otherwise,
    OutboundProtocol, ProxyKind, SocketOptions, Source, Transparent, load,
};

use crate::{ID, config};

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
    let queue = |options| sockopt(options).fast_open_queue.map(std::num::NonZeroU32::get);
    assert_eq!(queue(r#""tcpFastOpen": true, "tcpFastOpenQueueLength": 4096"#), Some(4096));
    assert_eq!(queue(r#""tcpFastOpen": 256, "tcpFastOpenQueueLength": 0"#), Some(256));
    assert_eq!(queue(r#""tcpFastOpen": true"#), None);
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
