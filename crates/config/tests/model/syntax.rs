//! JSON as V2Ray takes it.

use wsray_config::{LogTarget, Options, Source, load};

use crate::{config, server};

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
fn no_source_at_all_is_an_error() {
    assert!(load(&[], &Options::default()).is_err());
}
