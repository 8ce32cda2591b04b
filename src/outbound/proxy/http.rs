//! What an HTTP proxy is asked, and how its answer is read. Pure.
//!
//! Sources: RFC 9110 sections 9.3.6 (CONNECT) and 11.7 (proxy authentication), RFC 7617 (Basic), RFC 9112.

use data_encoding::BASE64;
use wsray_vmess::Target;
use wsray_ws::{Headers, Step, printable};

use crate::session::Credentials;

/// The longest answer head, the empty line included.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The most header lines of an answer.
const MAX_HEADERS: usize = 100;

/// The proxy does not open the tunnel: its fault, or ours towards it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Its answer is no HTTP.
    #[error("does not speak HTTP: its answer begins with {found:#04x}{}", hint_of(*found))]
    NotHttp {
        /// The first byte.
        found: u8,
    },
    /// A head without an end.
    #[error("sends more than {MAX_HEAD_BYTES} bytes of head")]
    HeadTooLong,
    /// A head that cannot be read.
    #[error("sends a head that is not HTTP/1.1: {0}")]
    Head(httparse::Error),
    /// It wants to know who we are, or does not believe it.
    #[error("answers 407: {}", if *.given {
        "it refuses user and password, check \"user\" and \"pass\" of its server"
    } else {
        "it wants user and password, write them into \"users\" of its server, as \"user\" and \"pass\""
    })]
    Account {
        /// Whether we said who we are.
        given: bool,
    },
    /// Any other answer than a success.
    #[error("answers {status} {reason}{}", hint_of_status(*status))]
    Status {
        /// The code.
        status: u16,
        /// What stands behind it, fit to print.
        reason: String,
    },
}

fn hint_of(first: u8) -> &'static str {
    match first {
        4 | 5 => " (this looks like a SOCKS proxy: write \"protocol\": \"socks\")",
        0x15 | 0x16 => " (this looks like TLS: write \"security\": \"tls\" in \"streamSettings\")",
        _ => "",
    }
}

fn hint_of_status(status: u16) -> &'static str {
    match status {
        400 | 404 | 405 | 501 => " (it may be a web server, or serve no CONNECT)",
        403 => " (its rules do not allow the target)",
        502..=504 => " (it does not reach the target)",
        _ => "",
    }
}

/// Asks for a tunnel.
pub(super) fn connect(target: &Target, credentials: Option<&Credentials>, headers: &Headers) -> Vec<u8> {
    let mut out = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(Credentials { user, password }) = credentials {
        let basic = BASE64.encode(&[user, &b":"[..], password].concat());
        out.extend_from_slice(format!("Proxy-Authorization: Basic {basic}\r\n").as_bytes());
    }
    for (name, value) in headers.iter() {
        out.extend_from_slice(format!("{}: {}\r\n", name.as_str(), value.as_str()).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Reads whether the tunnel is open; every byte behind the head is the tunnel's (RFC 9110 section 9.3.6). Interim answers
/// (section 15.2) before the real one count as part of its head.
pub(super) fn read_answer(input: &[u8], given: bool) -> Result<Step<()>, Refused> {
    match input.first() {
        Some(&found) if found != b'H' => return Err(Refused::NotHttp { found }),
        _ => {}
    }
    let mut used = 0;
    loop {
        let head = read_head(input.get(used..).unwrap_or_default())?;
        used += head.as_ref().map_or(input.len() - used, |head| head.bytes);
        if used > MAX_HEAD_BYTES {
            return Err(Refused::HeadTooLong);
        }
        let Some(Head { status, reason, .. }) = head else { return Ok(Step::NeedMore) };
        match status {
            100..=199 => {}
            200..=299 => return Ok(Step::Done { used, value: () }),
            407 => return Err(Refused::Account { given }),
            _ => return Err(Refused::Status { status, reason }),
        }
    }
}

/// One answer.
struct Head {
    bytes: usize,
    status: u16,
    reason: String,
}

/// `None`: more is needed.
fn read_head(input: &[u8]) -> Result<Option<Head>, Refused> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(bytes) = answer.parse(input).map_err(Refused::Head)? else {
        return Ok(None);
    };
    let reason = printable(answer.reason.unwrap_or_default().as_bytes(), 60);
    Ok(Some(Head { bytes, status: answer.code.unwrap_or_default(), reason }))
}

/// What must hold for any answer; tests and the fuzz targets call it.
pub mod invariants {
    use super::{MAX_HEAD_BYTES, Step, read_answer};

    /// Reads `input` whole and cut at `cut`: no panic, `used` within bounds, and what a prefix says stands.
    ///
    /// # Panics
    /// Where one of these does not hold.
    pub fn check(input: &[u8], cut: usize) {
        let whole = read_answer(input, true);
        if let Ok(Step::Done { used, .. }) = whole {
            assert!(used <= input.len().min(MAX_HEAD_BYTES), "takes {used} bytes");
        }
        match read_answer(&input[..cut % (input.len() + 1)], true) {
            Ok(Step::NeedMore) => {}
            Err(_) => assert!(whole.is_err(), "a prefix is refused, the whole is not"),
            done => assert_eq!(done, whole, "a prefix reads differently"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interim_answers_without_an_end_are_refused_and_take_no_stack() {
        let interim = "HTTP/1.1 100 C\r\n\r\n";
        let fits = interim.repeat(100) + "HTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(read_answer(fits.as_bytes(), false), Ok(Step::Done { used: fits.len(), value: () }));
        let endless = interim.repeat(100_000);
        assert_eq!(read_answer(endless.as_bytes(), false), Err(Refused::HeadTooLong));
        assert_eq!(read_answer(&endless.as_bytes()[..MAX_HEAD_BYTES], false), Ok(Step::NeedMore));
        invariants::check(fits.as_bytes(), 700);
    }

    #[test]
    fn request_names_the_target_twice_and_us_once() {
        let target = Target { address: "2001:db8::1".parse().unwrap(), port: 443 };
        let ann = Credentials { user: b"Aladdin".to_vec(), password: b"open sesame".to_vec() };
        let mut headers = Headers::default();
        headers.insert("X-A".parse().unwrap(), "b".parse().unwrap()).unwrap();
        // The example of RFC 7617 section 2.
        assert_eq!(
            String::from_utf8(connect(&target, Some(&ann), &headers)).unwrap(),
            "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\
             Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\nX-A: b\r\n\r\n"
        );
    }

    #[test]
    fn answer_is_read_to_its_empty_line_and_no_further() {
        for head in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.0 200\r\nVia: a\r\n\r\n",
            "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 204 N\r\n\r\n",
        ] {
            for cut in 0..head.len() {
                assert_eq!(read_answer(&head.as_bytes()[..cut], false), Ok(Step::NeedMore), "{head:?} {cut}");
            }
            let with_more = format!("{head}tunnel");
            let used = head.len();
            assert_eq!(read_answer(with_more.as_bytes(), false), Ok(Step::Done { used, value: () }));
        }
    }

    #[test]
    fn refusals_say_what_was_answered_and_what_to_write() {
        let said = |answer: &[u8], given| read_answer(answer, given).unwrap_err().to_string();
        assert!(said(b"HTTP/1.1 407 P\r\n\r\n", true).contains("refuses user and password"));
        assert!(said(b"HTTP/1.1 407 P\r\n\r\n", false).contains("wants user and password"));
        assert_eq!(
            said(b"HTTP/1.1 503 Nope\r\n\r\n", false),
            "answers 503 Nope (it does not reach the target)"
        );
        assert!(said(&[5, 0xff], false).contains("\"socks\""));
        assert_eq!(
            read_answer(&vec![b'H'; MAX_HEAD_BYTES + 1], false).unwrap_err(),
            Refused::Head(httparse::Error::Version)
        );
        let endless = [b"HTTP/1.1 200 OK\r\nA: ", &vec![b'a'; MAX_HEAD_BYTES][..]].concat();
        assert_eq!(read_answer(&endless, false), Err(Refused::HeadTooLong));
    }
}
