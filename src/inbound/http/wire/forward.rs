//! From a client's parsed head to the request, and for a plain request to the head for the origin.

use data_encoding::BASE64;
use wsray_vmess::Target;

use super::{BodyLimit, Credentials, HttpError, Kind, Request};

/// The port of a plain URL without one. Source: RFC 9110, section 4.2.1.
const HTTP_PORT: u16 = 80;

/// Headers that are for the proxy alone, beside those that `Connection` names and all `Proxy-*`.
/// `Host` and the framing headers are left out too: they are written anew.
/// Sources: RFC 9110, section 7.6.1; RFC 7540, section 3.2.1 for HTTP2-Settings.
const NOT_FORWARDED: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

pub(super) fn read_request(parsed: &httparse::Request<'_, '_>) -> Result<Request, HttpError> {
    let (Some(method), Some(uri), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(HttpError::Head { reason: "bad request line" });
    };
    let headers = Headers(&*parsed.headers);
    if headers.values("host").count() > 1 {
        return Err(HttpError::Head { reason: "more than one Host" });
    }
    let framing = headers.framing(version)?;
    let credentials = headers.credentials();
    if method == "CONNECT" {
        if framing != Framing::None && framing != Framing::Length(0) {
            return Err(HttpError::Framing { reason: "CONNECT with a body" });
        }
        return Ok(Request { target: parse_authority(uri, None)?, credentials, kind: Kind::Connect });
    }
    let url = Url::parse(method, uri)?;
    let target = parse_authority(url.authority, Some(HTTP_PORT))?;
    let is_upgrade = method == "GET" && framing == Framing::None && headers.ask_for_websocket();
    let mut head =
        format!("{method} {} HTTP/1.{version}\r\nHost: {}\r\n", url.origin_form, url.authority).into_bytes();
    headers.write_forwarded(&mut head);
    framing.write(&mut head);
    head.extend_from_slice(if is_upgrade {
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    } else {
        b"Connection: close\r\n\r\n"
    });
    let body = if is_upgrade { BodyLimit::unlimited() } else { framing.limit() };
    Ok(Request { target, credentials, kind: Kind::Forward { head, body } })
}

/// A plain URL, taken apart.
struct Url<'a> {
    /// Host and, if written, port.
    authority: &'a str,
    /// What the origin is asked for.
    origin_form: String,
}

impl<'a> Url<'a> {
    fn parse(method: &str, uri: &'a str) -> Result<Self, HttpError> {
        if uri.starts_with('/') || uri == "*" {
            return Err(HttpError::NotForProxy);
        }
        let (scheme, rest) = uri.split_once("://").ok_or(HttpError::Scheme)?;
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(HttpError::Scheme);
        }
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        // A fragment is not for the origin.
        let tail = tail.split('#').next().unwrap_or_default();
        let origin_form = match tail {
            // Source: RFC 9112, section 3.2.4.
            "" if method == "OPTIONS" => "*".into(),
            "" => "/".into(),
            _ if tail.starts_with('?') => format!("/{tail}"),
            _ => tail.into(),
        };
        Ok(Self { authority, origin_form })
    }
}

/// `host`, `host:port` or the same with an IPv6 address in brackets. User information is refused.
fn parse_authority(text: &str, default_port: Option<u16>) -> Result<Target, HttpError> {
    let host_end = if text.starts_with('[') { text.find(']').map(|at| at + 1) } else { text.find(':') };
    let (host, rest) = text.split_at_checked(host_end.unwrap_or(text.len())).ok_or(HttpError::Authority)?;
    let port = match rest.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
        None if rest.is_empty() => default_port,
        _ => None,
    };
    match (host.parse(), port) {
        (Ok(address), Some(port @ 1..)) => Ok(Target { address, port }),
        _ => Err(HttpError::Authority),
    }
}

/// How the end of the body is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    None,
    Length(u64),
    Chunked,
}

impl Framing {
    fn limit(self) -> BodyLimit {
        match self {
            Self::None => BodyLimit::none(),
            Self::Length(bytes) => BodyLimit::length(bytes),
            Self::Chunked => BodyLimit::chunked(),
        }
    }

    fn write(self, head: &mut Vec<u8>) {
        match self {
            Self::None => {}
            Self::Length(bytes) => head.extend_from_slice(format!("Content-Length: {bytes}\r\n").as_bytes()),
            Self::Chunked => head.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        }
    }
}

struct Headers<'a>(&'a [httparse::Header<'a>]);

impl<'a> Headers<'a> {
    fn values(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    /// The elements of a list header, trimmed.
    fn elements(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.values(name).flat_map(|value| value.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii)
    }

    /// Source: RFC 9112, section 6.3, and refusing where it lets a proxy choose.
    fn framing(&self, version: u8) -> Result<Framing, HttpError> {
        let mut framing = Framing::None;
        for value in self.values("content-length") {
            let text =
                str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let bytes = text.and_then(|text| text.parse().ok());
            let bytes = bytes.ok_or(HttpError::Framing { reason: "Content-Length is no number" })?;
            if framing != Framing::None && framing != Framing::Length(bytes) {
                return Err(HttpError::Framing { reason: "two different Content-Length" });
            }
            framing = Framing::Length(bytes);
        }
        let mut codings = self.values("transfer-encoding");
        match (codings.next(), codings.next()) {
            (None, _) => Ok(framing),
            (Some(_), _) if framing != Framing::None => {
                Err(HttpError::Framing { reason: "both Content-Length and Transfer-Encoding" })
            }
            (Some(_), _) if version == 0 => {
                Err(HttpError::Framing { reason: "Transfer-Encoding in HTTP/1.0" })
            }
            (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
            _ => Err(HttpError::TransferCoding),
        }
    }

    /// Source: RFC 7617, section 2.
    fn credentials(&self) -> Option<Credentials> {
        let value = self.values("proxy-authorization").next()?;
        let (scheme, token) = value.split_at_checked(value.iter().position(|&byte| byte == b' ')?)?;
        let decoded =
            BASE64.decode(token.trim_ascii()).ok().filter(|_| scheme.eq_ignore_ascii_case(b"basic"))?;
        let colon = decoded.iter().position(|&byte| byte == b':')?;
        Some(Credentials {
            user: decoded.get(..colon)?.to_vec(),
            password: decoded.get(colon + 1..)?.to_vec(),
        })
    }

    fn ask_for_websocket(&self) -> bool {
        self.elements("connection").any(|name| name.eq_ignore_ascii_case(b"upgrade"))
            && self.elements("upgrade").any(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
    }

    fn write_forwarded(&self, head: &mut Vec<u8>) {
        const PROXY: &str = "proxy-";
        for header in self.0 {
            let is_ours = NOT_FORWARDED.iter().any(|name| header.name.eq_ignore_ascii_case(name))
                || header.name.get(..PROXY.len()).is_some_and(|start| start.eq_ignore_ascii_case(PROXY))
                || self.elements("connection").any(|name| name.eq_ignore_ascii_case(header.name.as_bytes()));
            if !is_ours {
                head.extend_from_slice(header.name.as_bytes());
                head.extend_from_slice(b": ");
                head.extend_from_slice(header.value);
                head.extend_from_slice(b"\r\n");
            }
        }
    }
}
