use proptest::prelude::*;
use wsray_vmess::Target;

use super::{
    AuthOutcome, Command, Greeting, MAX_SOCKS4_TEXT_BYTES, Method, Reply, Request, SOCKS4_REJECTED,
    SOCKS5_CONNECT_ACCEPTED, SocksError, Step, auth_reply, invariants, method_reply, read_auth,
    read_datagram, read_greeting, read_request, reply, write_datagram_header,
};

fn target(host: &str, port: u16) -> Target {
    Target { address: host.parse().unwrap(), port }
}

fn connect(host: &str, port: u16) -> Request {
    Request { command: Command::Connect, target: target(host, port) }
}

/// Reads a whole message with three bytes behind it, checks that those are left, and that every prefix
/// needs more.
fn read_all<T: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    read: impl Fn(&[u8]) -> Result<Step<T>, SocksError>,
) -> T {
    for cut in 0..bytes.len() {
        assert_eq!(read(&bytes[..cut]), Ok(Step::NeedMore), "cut at {cut}");
    }
    let Step::Done { used, value } = read(&[bytes, b"abc"].concat()).unwrap() else { panic!("not done") };
    assert_eq!(used, bytes.len());
    value
}

#[test]
fn greeting_of_curl_offers_no_auth_and_password() {
    // curl 7.88 sends methods 0 and 2 when it has a user, 0 and 1 (GSSAPI) when not.
    let Greeting::Socks5(methods) = read_all(b"\x05\x02\x00\x02", read_greeting) else { panic!() };
    assert!(methods.offer(Method::NoAuth) && methods.offer(Method::Password));
    let Greeting::Socks5(methods) = read_all(b"\x05\x02\x00\x01", read_greeting) else { panic!() };
    assert!(methods.offer(Method::NoAuth) && !methods.offer(Method::Password));
    let Greeting::Socks5(methods) = read_all(b"\x05\x00", read_greeting) else { panic!() };
    assert!(!methods.offer(Method::NoAuth) && !methods.offer(Method::Password));
}

#[test]
fn socks4_request_names_an_address() {
    let greeting = read_all(b"\x04\x01\x00\x50\xcb\x00\x71\x05fred\0", read_greeting);
    assert_eq!(greeting, Greeting::Socks4(connect("203.0.113.5", 80)));
    let greeting = read_all(b"\x04\x01\x00\x50\x00\x00\x00\x00\0", read_greeting);
    assert_eq!(greeting, Greeting::Socks4(connect("0.0.0.0", 80)));
}

#[test]
fn socks4a_request_names_a_domain() {
    let greeting = read_all(b"\x04\x01\x01\xbb\x00\x00\x00\x01fred\0example.com\0", read_greeting);
    assert_eq!(greeting, Greeting::Socks4(connect("example.com", 443)));
}

#[test]
fn socks4_text_without_end_is_refused_at_its_limit() {
    let start = b"\x04\x01\x00\x50\xcb\x00\x71\x05";
    let text = vec![b'x'; MAX_SOCKS4_TEXT_BYTES];
    assert_eq!(read_greeting(&[&start[..], &text].concat()), Ok(Step::NeedMore));
    let error = read_greeting(&[&start[..], &text, b"x"].concat()).unwrap_err();
    assert_eq!(error, SocksError::TextTooLong);
    assert_eq!(error.answer(), Some(SOCKS4_REJECTED.to_vec()));
    assert!(matches!(read_greeting(&[&start[..], &text, b"\0"].concat()), Ok(Step::Done { .. })));
}

#[test]
fn other_protocols_are_named_in_the_message() {
    let message = |bytes| read_greeting(bytes).unwrap_err().to_string();
    assert_eq!(
        message(b"GET / HTTP/1.1"),
        "expected SOCKS version 4 or 5, found 0x47, perhaps an HTTP request for an http inbound"
    );
    assert_eq!(message(b"\x16\x03\x01"), "expected SOCKS version 4 or 5, found 0x16, a TLS handshake");
}

#[test]
fn user_and_password_are_read_and_not_shown() {
    let credentials = read_all(b"\x01\x03ann\x06secret", read_auth);
    assert_eq!((&credentials.user[..], &credentials.password[..]), (&b"ann"[..], &b"secret"[..]));
    assert!(!format!("{credentials:?}").contains("secret"));
    assert_eq!(read_auth(b"\x05").unwrap_err().answer(), Some(vec![1, 1]));
}

#[test]
fn request_reads_every_address_type_and_command() {
    let request = read_all(b"\x05\x01\x00\x01\xcb\x00\x71\x05\x00\x50", read_request);
    assert_eq!(request, connect("203.0.113.5", 80));
    let request = read_all(b"\x05\x01\x00\x03\x0bexample.com\x01\xbb", read_request);
    assert_eq!(request, connect("example.com", 443));
    let request =
        read_all(b"\x05\x03\x00\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x35", read_request);
    assert_eq!(request, Request { command: Command::UdpAssociate, target: target("2001:db8::1", 53) });
    let request = read_all(b"\x05\x02\x00\x01\0\0\0\0\0\0", read_request);
    assert_eq!(request.command, Command::Bind);
}

#[test]
fn ip_address_sent_as_a_domain_is_an_address() {
    assert_eq!(read_all(b"\x05\x01\x00\x03\x09127.0.0.1\x00\x50", read_request), connect("127.0.0.1", 80));
    assert_eq!(read_all(b"\x05\x01\x00\x03\x03::1\x00\x50", read_request), connect("::1", 80));
}

#[test]
fn bad_requests_are_answered_as_the_rfc_says() {
    let answer = |bytes: &[u8]| read_request(bytes).unwrap_err().answer();
    assert_eq!(answer(b"\x05\x09"), Some(b"\x05\x07\x00\x01\0\0\0\0\0\0".to_vec()));
    assert_eq!(answer(b"\x05\x01\x00\x02"), Some(b"\x05\x08\x00\x01\0\0\0\0\0\0".to_vec()));
    assert_eq!(answer(b"\x05\x01\x00\x03\x03a b\x00\x50"), Some(b"\x05\x01\x00\x01\0\0\0\0\0\0".to_vec()));
    assert_eq!(answer(b"\x05\x01\x00\x03\x00\x00\x50"), Some(b"\x05\x01\x00\x01\0\0\0\0\0\0".to_vec()));
    assert_eq!(answer(b"\x04"), None);
    let error = read_greeting(b"\x04\x03").unwrap_err();
    assert_eq!(error.answer(), Some(SOCKS4_REJECTED.to_vec()));
}

#[test]
fn replies_are_the_bytes_of_the_rfc() {
    assert_eq!(method_reply(Some(Method::NoAuth)), [5, 0]);
    assert_eq!(method_reply(Some(Method::Password)), [5, 2]);
    assert_eq!(method_reply(None), [5, 255]);
    assert_eq!(auth_reply(AuthOutcome::Accepted), [1, 0]);
    assert_eq!(reply(Reply::Succeeded, None), SOCKS5_CONNECT_ACCEPTED);
    let bound = "[::1]:1080".parse().ok();
    assert_eq!(reply(Reply::Succeeded, bound), b"\x05\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x04\x38");
}

#[test]
fn datagram_is_read_and_its_fragments_are_refused() {
    let datagram = read_datagram(b"\0\0\0\x03\x0bexample.com\x00\x35query").unwrap();
    assert_eq!((datagram.target, datagram.payload), (target("example.com", 53), &b"query"[..]));
    assert_eq!(read_datagram(b"\0\0\0\x01\x01\x02\x03\x04\0\x35").unwrap().payload, b"");
    assert_eq!(read_datagram(b"\0\0\x01\x01\x01\x02\x03\x04\0\x35x"), Err(SocksError::Fragment { found: 1 }));
    assert_eq!(read_datagram(b"\0\0\0\x01\x01\x02\x03\x04\0"), Err(SocksError::ShortDatagram { found: 9 }));
    assert_eq!(read_datagram(b""), Err(SocksError::ShortDatagram { found: 0 }));
}

#[test]
fn datagram_header_is_written_over_what_the_buffer_held() {
    let mut out = b"old".to_vec();
    write_datagram_header(&target("203.0.113.5", 53), &mut out);
    assert_eq!(out, b"\0\0\0\x01\xcb\x00\x71\x05\x00\x35");
}

proptest! {
    #[test]
    fn any_bytes_hold_the_invariants(
        start in prop::sample::select(vec![&b""[..], b"\x04\x01", b"\x04\x01\0\x50\0\0\0\x01", b"\x05", b"\x01",
            b"\x05\x01\x00", b"\x05\x01\x00\x03", b"\0\0\0", b"\0\0\0\x03\x04"]),
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        invariants::check(&[start, &rest].concat());
    }

    #[test]
    fn any_target_survives_a_datagram_header(host in "[a-z0-9._-]{1,255}", port in any::<u16>()) {
        let (target, mut out) = (target(&host, port), Vec::new());
        write_datagram_header(&target, &mut out);
        prop_assert_eq!(read_datagram(&out).unwrap().target, target);
    }
}
