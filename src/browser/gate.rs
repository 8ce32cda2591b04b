//! Which requests are our own page's. Pure.
//!
//! Any web page in the browser can send requests here, so three things must hold. The Host is a name of this machine:
//! a page whose name somebody points at 127.0.0.1 (DNS rebinding) says its own name there. A WebSocket comes from our
//! own origin: browsers write that header themselves. And it brings the token that stands in the page, which no other
//! page can read.

use std::{fmt, net::IpAddr};

use data_encoding::BASE64URL_NOPAD;
use wsray_ws::{Request, printable};

/// What a request that is our own page's asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The page.
    Page,
    /// The lines between core and tab.
    Link,
    /// The tunnel with this number.
    Tunnel(u64),
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// DNS rebinding, or a name that nobody told us about; answered 403.
    #[error("the Host {found:?} is no name of this machine")]
    Host {
        /// What it says.
        found: String,
    },
    /// Another web page, or a program; answered 403.
    #[error("a WebSocket from {found} is not our page's")]
    Origin {
        /// Who asks.
        found: String,
    },
    /// Answered 403.
    #[error("the token is not this process's")]
    Token,
    /// Answered 404.
    #[error("nothing is at that path")]
    Path,
    /// Answered 405.
    #[error("the method is not GET")]
    Method,
}

/// What only our own page knows.
pub(super) struct Token(String);

impl Token {
    /// The text of 32 random bytes.
    pub(super) fn new(random: [u8; 32]) -> Self {
        Self(BASE64URL_NOPAD.encode(&random))
    }

    /// The text, for the page.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Compares in a time that tells nothing.
    fn is(&self, found: &str) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.0.as_bytes(), found.as_bytes()).is_ok()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// How much of a header a message shows, in characters.
const SHOWN_CHARS: usize = 60;

/// Decides on a request that came in on `local`.
pub(super) fn admit(request: &Request, local: IpAddr, token: &Token) -> Result<Wanted, Refused> {
    let shown = |name: &str| {
        let values: Vec<_> = request.values(name).collect();
        printable(&values.join(&b", "[..]), SHOWN_CHARS)
    };
    let host = request.header("Host").unwrap_or_default();
    if !is_this_machine(host, local) {
        return Err(Refused::Host { found: shown("Host") });
    }
    if request.method() != "GET" {
        return Err(Refused::Method);
    }
    let is_tunnel = match &*request.path() {
        b"/" => return Ok(Wanted::Page),
        b"/link" => false,
        b"/tunnel" => true,
        _ => return Err(Refused::Path),
    };
    let origins: Vec<_> = request.values("Origin").collect();
    if origins != [format!("http://{host}").as_bytes()] {
        let found = if origins.is_empty() { "a program".to_owned() } else { shown("Origin") };
        return Err(Refused::Origin { found });
    }
    let parameter = |name: &str| {
        let mut pairs = request.query().split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(own, _)| *own == name).map(|(_, value)| value)
    };
    if !token.is(parameter("token").unwrap_or_default()) {
        return Err(Refused::Token);
    }
    match parameter("id").and_then(|id| id.parse().ok()) {
        Some(number) if is_tunnel => Ok(Wanted::Tunnel(number)),
        None if is_tunnel => Err(Refused::Path),
        _ => Ok(Wanted::Link),
    }
}

/// Whether `host` (with or without a port) is `localhost`, a loopback address, or the address that the connection
/// came in on. The port may be another than ours: one that is forwarded here. The Origin must have the same.
fn is_this_machine(host: &str, local: IpAddr) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, "")) => (name, ""),
            Some((name, port)) => (name, port.strip_prefix(':').unwrap_or("x")),
            None => return false,
        },
        None => host.split_once(':').unwrap_or((host, "")),
    };
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let is_bracketed = host.starts_with('[');
    match name.parse::<IpAddr>() {
        Ok(ip) => ip.is_ipv6() == is_bracketed && (ip.is_loopback() || ip == local),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use wsray_ws::{HeadLimits, Step, server};

    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn token() -> Token {
        Token::new([7; 32])
    }

    fn ask(target: &str, headers: &str) -> Result<Wanted, Refused> {
        let head = format!("GET {target} HTTP/1.1\r\n{headers}\r\n");
        let parsed = server::request(head.as_bytes(), HeadLimits::default());
        let Ok(Step::Done { value, .. }) = parsed else { panic!("{head}: {parsed:?}") };
        admit(&value, LOCAL, &token())
    }

    fn link(headers: &str) -> Result<Wanted, Refused> {
        ask(&format!("/link?token={}", token().as_str()), headers)
    }

    #[test]
    fn our_own_page_is_admitted() {
        let ours = "Host: 127.0.0.1:8080\r\nOrigin: http://127.0.0.1:8080\r\n";
        assert_eq!(ask("/", "Host: 127.0.0.1:8080\r\n"), Ok(Wanted::Page));
        assert_eq!(ask("/?x", "Host: localhost\r\n"), Ok(Wanted::Page));
        assert_eq!(link(ours), Ok(Wanted::Link));
        let tunnel = format!("/tunnel?token={}&id=12", token().as_str());
        assert_eq!(ask(&tunnel, ours), Ok(Wanted::Tunnel(12)));
        for host in ["localhost:8080", "[::1]:8080", "127.0.0.1", "LocalHost:9"] {
            let headers = format!("Host: {host}\r\nOrigin: http://{host}\r\n");
            assert_eq!(link(&headers), Ok(Wanted::Link), "{host}");
        }
    }

    #[test]
    fn names_of_others_are_refused() {
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example:8080",
            "127.0.0.1.evil.example",
            "192.168.1.5:8080",
            "10.0.0.1",
            "[fe80::1]:8080",
            "::1",
            "[127.0.0.1]:8080",
            "[::1]8080",
            "[::1",
            "127.0.0.1:8080@evil.example",
            "2130706433:8080",
            "0x7f.1",
            "",
        ] {
            for target in ["/", &format!("/link?token={}", token().as_str()), "/nothing"] {
                let headers = format!("Host: {host}\r\nOrigin: http://{host}\r\n");
                let refused = ask(target, &headers);
                assert!(matches!(refused, Err(Refused::Host { .. })), "{host}: {refused:?}");
            }
        }
    }

    #[test]
    fn websockets_of_other_pages_are_refused() {
        for origin in [
            "",
            "Origin: null\r\n",
            "Origin: https://evil.example\r\n",
            "Origin: http://127.0.0.1\r\n",
            "Origin: http://127.0.0.1:8081\r\n",
            "Origin: https://127.0.0.1:8080\r\n",
            "Origin: http://localhost:8080\r\n",
            "Origin: http://127.0.0.1:8080.evil.example\r\n",
            "Origin: http://127.0.0.1:8080/\r\n",
            "Origin: http://127.0.0.1:8080\r\nOrigin: https://evil.example\r\n",
            "Origin: \r\n",
        ] {
            let refused = link(&format!("Host: 127.0.0.1:8080\r\n{origin}"));
            assert!(matches!(refused, Err(Refused::Origin { .. })), "{origin}: {refused:?}");
        }
    }

    #[test]
    fn only_the_token_of_this_process_is_taken() {
        let ours = "Host: 127.0.0.1:8080\r\nOrigin: http://127.0.0.1:8080\r\n";
        let token = token();
        let right = token.as_str();
        for query in [
            "",
            "?",
            "?token=",
            "?token=x",
            &format!("?Token={right}"),
            &format!("?token={right}A"),
            &format!("?token={}", &right[1..]),
        ] {
            for path in ["/link", "/tunnel"] {
                assert_eq!(ask(&format!("{path}{query}"), ours), Err(Refused::Token), "{path}{query}");
            }
        }
        let debug = format!("{token:?}");
        assert!(!debug.contains(right), "{debug}");
    }

    #[test]
    fn other_paths_and_methods_lead_nowhere() {
        let ours = "Host: 127.0.0.1:8080\r\nOrigin: http://127.0.0.1:8080\r\n";
        for target in ["/index.js", "/link/", "//", "/favicon.ico", "/link%20"] {
            assert_eq!(ask(target, ours), Err(Refused::Path), "{target}");
        }
        let tunnel = format!("/tunnel?token={}&id=", token().as_str());
        for id in ["", "x", "-1", "18446744073709551616"] {
            assert_eq!(ask(&format!("{tunnel}{id}"), ours), Err(Refused::Path), "{id}");
        }
        let head = format!("POST / HTTP/1.1\r\n{ours}\r\n");
        let Ok(Step::Done { value, .. }) = server::request(head.as_bytes(), HeadLimits::default()) else {
            panic!()
        };
        assert_eq!(admit(&value, LOCAL, &token()), Err(Refused::Method));
    }

    #[test]
    fn address_the_connection_came_in_on_is_a_name_of_this_machine() {
        let local: IpAddr = "192.168.1.5".parse().unwrap();
        assert!(is_this_machine("192.168.1.5:8080", local));
        assert!(is_this_machine("127.0.0.1:8080", local));
        assert!(!is_this_machine("192.168.1.6:8080", local));
        assert!(is_this_machine("[2001:db8::1]:8080", "2001:db8::1".parse().unwrap()));
    }
}
