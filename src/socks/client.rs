//! What a SOCKS client says to a proxy, and how it reads the answers.

use std::net::Ipv4Addr;

use wsray_vmess::{Address, Target};
use wsray_ws::Step;

use super::{
    AUTH_VERSION, Command, Method, SocksError, VERSION_4, VERSION_5, read, read_target, reply::write_target,
};
use crate::session::Credentials;

/// The longest name and the longest password (RFC 1929 section 2: a byte counts each).
pub const MAX_CREDENTIAL_BYTES: usize = 255;

/// The proxy's fault, or ours towards it: the connection is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Its answer is no SOCKS.
    #[error("does not speak SOCKS {expected}: its answer begins with {found:#04x}{}", hint_of(*found))]
    NotSocks {
        /// The version that was spoken to it.
        expected: u8,
        /// The first byte.
        found: u8,
    },
    /// It wants user and password, and there are none.
    #[error("wants user and password: write them into \"users\" of its server, as \"user\" and \"pass\"")]
    NeedsAccount,
    /// It takes neither of the ways of authentication we know.
    #[error("takes neither clients without authentication nor user and password")]
    Methods,
    /// User or password is wrong.
    #[error("refuses user and password: check \"user\" and \"pass\" of its server")]
    Account,
    /// It cannot or will not serve the request.
    #[error("answers {code:#04x}, {}", reason_of(*code))]
    Request {
        /// Its answer (RFC 1928 section 6).
        code: u8,
    },
    /// The same in SOCKS 4.
    #[error("rejects the request ({code:#04x})")]
    Request4 {
        /// Its answer.
        code: u8,
    },
    /// Its answer cannot be read.
    #[error("{0}")]
    Malformed(SocksError),
}

fn hint_of(first: u8) -> &'static str {
    match first {
        b'H' => " (this looks like an HTTP proxy: write \"protocol\": \"http\")",
        0x15 | 0x16 => " (this looks like TLS: write \"security\": \"tls\" in \"streamSettings\")",
        0 | 4 => " (this looks like SOCKS 4: write \"version\": \"4a\")",
        _ => "",
    }
}

/// Source: RFC 1928, section 6.
fn reason_of(code: u8) -> &'static str {
    match code {
        1 => "a general failure",
        2 => "its rules do not allow the connection",
        3 => "it cannot reach the target's network",
        4 => "it cannot reach the target",
        5 => "the target refuses the connection",
        6 => "the target is too far away",
        7 => "it does not support this command",
        8 => "it does not support this type of address",
        _ => "which RFC 1928 does not know",
    }
}

/// The first message: how we can say who we are.
pub fn greeting(credentials: Option<&Credentials>) -> Vec<u8> {
    match credentials {
        None => vec![VERSION_5, 1, 0],
        Some(_) => vec![VERSION_5, 2, 0, 2],
    }
}

/// Reads which of them the proxy chose.
///
/// # Errors
/// [`Refused`].
pub fn read_method(input: &[u8], credentials: Option<&Credentials>) -> Result<Step<Method>, Refused> {
    let chosen = read(input, |cursor| {
        let version = cursor.byte()?;
        if version != VERSION_5 {
            return Ok((version, 0));
        }
        Ok((version, cursor.byte()?))
    });
    let Step::Done { used, value: (version, method) } = chosen.map_err(Refused::Malformed)? else {
        return Ok(Step::NeedMore);
    };
    match (version, method, credentials) {
        (VERSION_5, 0, _) => Ok(Step::Done { used, value: Method::NoAuth }),
        (VERSION_5, 2, Some(_)) => Ok(Step::Done { used, value: Method::Password }),
        (VERSION_5, 2 | 0xff, None) => Err(Refused::NeedsAccount),
        (VERSION_5, ..) => Err(Refused::Methods),
        (found, ..) => Err(Refused::NotSocks { expected: VERSION_5, found }),
    }
}

/// User and password, each of at most [`MAX_CREDENTIAL_BYTES`] bytes. Source: RFC 1929, section 2.
pub fn password(credentials: &Credentials) -> Vec<u8> {
    let mut out = vec![AUTH_VERSION];
    for text in [&credentials.user, &credentials.password] {
        let text = &text[..text.len().min(MAX_CREDENTIAL_BYTES)];
        out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(text);
    }
    out
}

/// Reads what the proxy says to them. Some answer with version 5, which nobody minds.
///
/// # Errors
/// [`Refused::Account`].
pub fn read_password_answer(input: &[u8]) -> Result<Step<()>, Refused> {
    match input {
        [_, 0, ..] => Ok(Step::Done { used: 2, value: () }),
        [_, _, ..] => Err(Refused::Account),
        _ => Ok(Step::NeedMore),
    }
}

/// Asks for a connection or a UDP association. Source: RFC 1928, section 4.
pub fn request(command: Command, target: &Target) -> Vec<u8> {
    let command = match command {
        Command::Connect => 1,
        Command::Bind => 2,
        Command::UdpAssociate => 3,
    };
    let mut out = vec![VERSION_5, command, 0];
    write_target(target, &mut out);
    out
}

/// Reads where the proxy's end is.
///
/// # Errors
/// [`Refused`].
pub fn read_answer(input: &[u8]) -> Result<Step<Target>, Refused> {
    match input {
        [VERSION_5, 0, ..] | [] => {}
        [VERSION_5] => return Ok(Step::NeedMore),
        // What follows a refusal means nothing.
        [VERSION_5, code, ..] => return Err(Refused::Request { code: *code }),
        [found, ..] => return Err(Refused::NotSocks { expected: VERSION_5, found: *found }),
    }
    let answer = read(input, |cursor| {
        let [_version, _reply, _reserved] = cursor.array()?;
        // "A bound domain of no length" is what some send for "nowhere".
        match cursor.clone().array() {
            Ok([super::ADDRESS_DOMAIN, 0]) => {
                let [_kind, _length, high, low] = cursor.array()?;
                Ok(Target {
                    address: Address::Ip(Ipv4Addr::UNSPECIFIED.into()),
                    port: u16::from_be_bytes([high, low]),
                })
            }
            _ => read_target(cursor),
        }
    });
    answer.map_err(Refused::Malformed)
}

/// Asks in SOCKS 4 for an IPv4 address, in 4a also for a domain; `None` for IPv6, which it cannot name.
pub fn request4(target: &Target, user: &[u8]) -> Option<Vec<u8>> {
    let (ip, domain) = match &target.address {
        Address::Ip(std::net::IpAddr::V4(ip)) => (ip.octets(), None),
        Address::Ip(std::net::IpAddr::V6(_)) => return None,
        Address::Domain(domain) => ([0, 0, 0, 1], Some(domain.as_str())),
    };
    let mut out = vec![VERSION_4, 1];
    out.extend_from_slice(&target.port.to_be_bytes());
    out.extend_from_slice(&ip);
    out.extend(user.iter().filter(|&&byte| byte != 0));
    out.push(0);
    if let Some(domain) = domain {
        out.extend_from_slice(domain.as_bytes());
        out.push(0);
    }
    Some(out)
}

/// Reads the answer of a SOCKS 4 proxy.
///
/// # Errors
/// [`Refused`].
pub fn read_answer4(input: &[u8]) -> Result<Step<()>, Refused> {
    match input {
        [0, 0x5a, ..] if input.len() >= 8 => Ok(Step::Done { used: 8, value: () }),
        [0, 0x5a, ..] | [0] | [] => Ok(Step::NeedMore),
        [0, code, ..] => Err(Refused::Request4 { code: *code }),
        [found, ..] => Err(Refused::NotSocks { expected: VERSION_4, found: *found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socks::{
        Greeting, SOCKS4_GRANTED, SOCKS5_CONNECT_ACCEPTED, read_auth, read_greeting, read_request,
    };

    fn target(text: &str) -> Target {
        let (host, port) = text.rsplit_once(':').unwrap();
        Target { address: host.parse().unwrap(), port: port.parse().unwrap() }
    }

    fn ann() -> Credentials {
        Credentials { user: b"ann".to_vec(), password: b"secret".to_vec() }
    }

    fn whole<T: std::fmt::Debug>(bytes: &[u8], read: impl Fn(&[u8]) -> Result<Step<T>, Refused>) -> T {
        for cut in 0..bytes.len() {
            assert!(matches!(read(&bytes[..cut]), Ok(Step::NeedMore)), "cut at {cut}");
        }
        let Ok(Step::Done { used, value }) = read(&[bytes, b"abc"].concat()) else { panic!("not done") };
        assert_eq!(used, bytes.len());
        value
    }

    #[test]
    fn messages_are_as_the_rfcs_print_them() {
        assert_eq!(greeting(None), [5, 1, 0]);
        assert_eq!(greeting(Some(&ann())), [5, 2, 0, 2]);
        assert_eq!(password(&ann()), b"\x01\x03ann\x06secret");
        let domain = target("example.test:443");
        assert_eq!(request(Command::Connect, &domain), b"\x05\x01\x00\x03\x0cexample.test\x01\xbb");
        assert_eq!(request4(&domain, b"ann").unwrap(), b"\x04\x01\x01\xbb\0\0\0\x01ann\0example.test\0");
        let ip = target("192.0.2.1:80");
        assert_eq!(request4(&ip, b"").unwrap(), b"\x04\x01\0\x50\xc0\0\x02\x01\0");
        assert_eq!(request4(&target("[2001:db8::1]:80"), b""), None);
    }

    #[test]
    fn server_of_ours_reads_what_the_client_says() {
        let Ok(Step::Done { value: Greeting::Socks5(methods), .. }) = read_greeting(&greeting(Some(&ann())))
        else {
            panic!("no greeting")
        };
        assert!(methods.offer(Method::Password) && methods.offer(Method::NoAuth));
        let Ok(Step::Done { value, .. }) = read_auth(&password(&ann())) else { panic!("no password") };
        assert_eq!(value, ann());
        for address in ["example.test:1", "192.0.2.1:65535", "[2001:db8::1]:443"] {
            let target = target(address);
            let Ok(Step::Done { value, .. }) = read_request(&request(Command::UdpAssociate, &target)) else {
                panic!("no request")
            };
            assert_eq!((value.command, value.target), (Command::UdpAssociate, target));
        }
    }

    #[test]
    fn answers_are_read_whole_and_no_further() {
        assert_eq!(whole(&[5, 0], |input| read_method(input, None)), Method::NoAuth);
        assert_eq!(whole(&[5, 2], |input| read_method(input, Some(&ann()))), Method::Password);
        whole(&[1, 0], read_password_answer);
        let bound = whole(&[5, 0, 0, 1, 192, 0, 2, 1, 0, 80], read_answer);
        assert_eq!(bound.to_string(), "192.0.2.1:80");
        assert_eq!(whole(&SOCKS5_CONNECT_ACCEPTED, read_answer).to_string(), "0.0.0.0:0");
        assert_eq!(whole(&[5, 0, 0, 3, 0, 0, 0], read_answer).to_string(), "0.0.0.0:0");
        assert_eq!(whole(b"\x05\0\0\x03\x01a\0\x01", read_answer).to_string(), "a:1");
        whole(&SOCKS4_GRANTED, read_answer4);
    }

    #[test]
    fn refusals_say_what_to_write() {
        let said = |refused: Refused| refused.to_string();
        let account = ann();
        assert!(said(read_method(&[5, 0xff], None).unwrap_err()).contains("\"users\""));
        assert_eq!(read_method(&[5, 0xff], Some(&account)).unwrap_err(), Refused::Methods);
        assert_eq!(read_password_answer(&[1, 1]).unwrap_err(), Refused::Account);
        assert!(!said(Refused::Account).contains("ann"));
        assert!(said(read_answer(&[5, 5]).unwrap_err()).contains("the target refuses"));
        assert!(said(read_method(b"HTTP/1.1 400", None).unwrap_err()).contains("\"http\""));
        assert!(said(read_method(&[0, 0x5b], None).unwrap_err()).contains("\"4a\""));
        assert_eq!(read_answer4(&[0, 0x5b]).unwrap_err(), Refused::Request4 { code: 0x5b });
    }
}
