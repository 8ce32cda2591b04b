//! What several observations mean together.

use std::time::Duration;

use super::{
    facts::{self, Certificate},
    probe::{Exchange, Heard, NoUpgrade},
    verdict::{EarlySeen, VmessSeen, of_connect, of_early, of_vmess},
};
use crate::cause::Cause;

fn answered() -> Heard {
    Heard::Answered { took: Duration::from_millis(1), data: true }
}

fn closed(milliseconds: u64) -> Heard {
    Heard::Closed { took: Duration::from_millis(milliseconds), how: "closed".to_owned() }
}

fn vmess(own: Heard, stranger: Heard) -> VmessSeen {
    VmessSeen { own: vec![own.clone()], stranger: Some(stranger), beside: Some(own), ..VmessSeen::default() }
}

/// V2Ray closes on a stranger who has said enough, and holds one who has not.
#[test]
fn strangers_who_say_more_than_the_user_are_not_compared_with_the_user() {
    let seen = VmessSeen { beside: Some(closed(5)), ..vmess(Heard::Silence, closed(9)) };
    assert_eq!(of_vmess(&seen), [Cause::IdUnknown]);
}

#[test]
fn user_is_known_when_one_opening_is_answered() {
    let seen = VmessSeen { own: vec![Heard::Silence, answered()], ..VmessSeen::default() };
    assert!(of_vmess(&seen).is_empty());
}

/// V2Ray and wsray hold a stranger's connection, sing-box closes it.
#[test]
fn user_who_is_treated_as_a_stranger_is_one() {
    assert_eq!(of_vmess(&vmess(Heard::Silence, Heard::Silence)), [Cause::IdUnknown]);
    assert_eq!(of_vmess(&vmess(closed(5), closed(9))), [Cause::IdUnknown, Cause::NotVmess]);
}

/// A server that closes on us at once and holds a stranger has known us, and failed behind.
#[test]
fn user_who_is_treated_otherwise_than_a_stranger_is_known() {
    assert_eq!(of_vmess(&vmess(closed(5), Heard::Silence))[0], Cause::TargetUnreachable);
}

#[test]
fn clock_is_the_cause_when_another_one_is_answered_or_http_says_so() {
    let silent = vmess(Heard::Silence, Heard::Silence);
    let shifted = VmessSeen { shifted: vec![(240, answered()), (-240, Heard::Silence)], ..silent.clone() };
    assert_eq!(of_vmess(&shifted), [Cause::Clock { ahead: -240 }]);
    let told = VmessSeen { ahead: Some(-300), ..silent.clone() };
    assert_eq!(of_vmess(&told)[0], Cause::Clock { ahead: -300 });
    // VMess allows that much.
    assert_eq!(of_vmess(&VmessSeen { ahead: Some(120), ..silent }), [Cause::IdUnknown]);
}

/// The texts are those of `getaddrinfo` in glibc and musl.
#[test]
fn failures_below_tls_are_told_apart() {
    use crate::transport::ConnectError;
    use std::io::{Error, ErrorKind};
    let resolve = |source| ConnectError::Resolve { name: "server.test".to_owned(), source };
    for (text, expected) in [
        ("failed to lookup address information: Name or service not known", Cause::NameUnknown),
        ("failed to lookup address information: No address associated with hostname", Cause::NameUnknown),
        ("failed to lookup address information: Name does not resolve", Cause::NameUnknown),
        ("failed to lookup address information: Temporary failure in name resolution", Cause::ResolverFails),
        ("failed to lookup address information: Try again", Cause::ResolverFails),
        ("name server 192.0.2.1:53: no answer in 4 s", Cause::ResolverFails),
    ] {
        assert_eq!(of_connect(&resolve(Error::other(text))), Some(expected), "{text}");
    }
    assert_eq!(of_connect(&resolve(ErrorKind::NotFound.into())), Some(Cause::NameUnknown));
    let connect = |address: &str, kind: ErrorKind| {
        of_connect(&ConnectError::Connect { address: address.parse().unwrap(), source: kind.into() })
    };
    let (v4, v6) = ("192.0.2.1:443", "[2001:db8::1]:443");
    assert_eq!(connect(v6, ErrorKind::NetworkUnreachable), Some(Cause::NoNetwork { v6: true }));
    assert_eq!(connect(v4, ErrorKind::NetworkUnreachable), Some(Cause::NoNetwork { v6: false }));
    assert_eq!(connect(v4, ErrorKind::HostUnreachable), Some(Cause::NoRoute));
    assert_eq!(connect(v4, ErrorKind::ConnectionRefused), Some(Cause::PortClosed));
}

#[test]
fn foreign_answers_tell_whether_they_are_http() {
    let foreign = |start: &[u8]| vmess(Heard::Foreign { start: start.to_vec() }, Heard::Silence);
    assert_eq!(of_vmess(&foreign(b"HTTP/1.1 400 Bad")), [Cause::ServerWantsWebSocket]);
    assert_eq!(of_vmess(&foreign(b"SSH-2.0")), [Cause::NotVmess]);
}

fn asked(accepted: bool) -> Exchange {
    let outcome = if accepted { Ok(wsray_ws::Upgraded { protocol: None }) } else { Err(NoUpgrade::Closed) };
    Exchange { sent: 3000, took: Duration::ZERO, heard: Vec::new(), outcome }
}

#[test]
fn early_data_is_judged_by_what_less_of_it_does() {
    let seen = |full, small: Option<(Option<Exchange>, Heard)>| EarlySeen { full, small, header: None };
    assert!(of_early(&seen((Some(asked(true)), answered()), None)).is_empty());
    let refused = || (Some(asked(false)), Heard::NoConnection(String::new()));
    let lost = || (Some(asked(true)), Heard::Silence);
    let long = Cause::EarlyDataTooLong { bytes: 3000 };
    assert_eq!(of_early(&seen(refused(), Some((Some(asked(true)), answered())))), [long]);
    let never = Cause::EarlyDataRefused { in_path: true };
    assert_eq!(of_early(&seen(refused(), Some(refused()))), [never]);
    assert_eq!(of_early(&seen(lost(), Some(lost()))), [Cause::EarlyDataLost { header: None }]);
}

#[test]
fn head_is_read_behind_interim_answers() {
    let heard = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 404 Not Found\r\nserver: nginx\r\n\
        Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nbody";
    let head = facts::head(heard).unwrap();
    // The example of RFC 9110 section 5.6.7.
    assert_eq!((head.status, head.date), (404, Some(784_111_777)));
    assert_eq!(head.server.as_deref(), Some("nginx"));
    assert_eq!(&heard[head.body..], b"body");
    assert_eq!(facts::head(b"HTTP/1.1 404 Not"), None);
    assert_eq!(facts::head(b"SSH-2.0-x\r\n\r\n"), None);
}

#[test]
fn names_of_a_certificate_cover_one_label_for_a_star() {
    let names = ["a.test", "*.b.test"].map(str::to_owned).to_vec();
    let certificate = Certificate { names, ..certificate() };
    for (name, expected) in
        [("A.test", true), ("x.b.test", true), ("b.test", false), ("x.y.b.test", false), ("c.test", false)]
    {
        assert_eq!(certificate.covers(name), expected, "{name}");
    }
}

fn certificate() -> Certificate {
    Certificate {
        names: Vec::new(),
        issuer: String::new(),
        not_before: 0,
        not_after: 86_400 * 10,
        self_signed: false,
        chain: 1,
    }
}

#[test]
fn only_a_lone_certificate_of_a_public_authority_lacks_its_intermediate() {
    use super::{
        report::{Status, Step},
        steps::secured_step,
    };
    let far = 86_400 * 365 * 200;
    let of = |issuer: &str, chain| {
        let seen = Certificate { issuer: issuer.to_owned(), not_after: far, chain, ..certificate() };
        secured_step(Step::new("tls", Status::Ok, ""), Some(&seen))
    };
    let lone = of("C=US, O=Let's Encrypt, CN=R11", 1);
    assert_eq!((lone.status, &lone.causes[..]), (Status::Warn, &[Cause::CertificateChain][..]));
    assert_eq!(of("C=US, O=Let's Encrypt, CN=R11", 2).status, Status::Ok);
    assert_eq!(of("CN=My own authority", 1).status, Status::Ok);
}

#[test]
fn days_count_down_to_the_end_of_a_certificate() {
    let certificate = certificate();
    assert_eq!(certificate.days_left(0), 10);
    assert_eq!(certificate.days_left(86_400 * 10 + 1), -1);
    assert_eq!(facts::day(784_111_777), "1994-11-06");
}
