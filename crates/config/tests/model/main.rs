//! What a configuration means, with V2Ray 4's behaviour as the measure.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod inbounds;
mod outbounds;
mod program;
mod routing;
mod stream;
mod syntax;
mod vmess;

use wsray_config::{Config, InboundProtocol, Options, OutboundProtocol, Source, load};

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
