//! HTTP/1 requests (RFC 9112).

use super::{Rest, Sniffed, domain};
use crate::Attributes;
use std::net::IpAddr;

/// The methods that V2Ray knows (`common/protocol/http/sniff.go`), in any case as there.
const METHODS: [&str; 9] = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "PATCH", "TRACE"];

/// How many headers are looked at.
const MAX_HEADERS: usize = 128;

/// Answers when the head's last line is there, or no more can come: then the lines that are there count.
pub(super) fn sniff(input: &[u8], rest: Rest) -> Sniffed {
    let method = match method(input) {
        Ok(method) => method,
        Err(undecided) => return undecided,
    };
    let mut lines = Lines(input);
    let Some(line) = lines.next() else { return Sniffed::NeedMore };
    let Some(target) = target(line, method.len()) else { return Sniffed::Nothing };
    let mut attributes = Attributes::default();
    attributes.add(":method", method);
    attributes.add(":path", path(target));
    let mut host = Host::default();
    for _ in 0..MAX_HEADERS {
        match lines.next() {
            None if rest == Rest::MayCome => return Sniffed::NeedMore,
            None | Some(b"") => break,
            Some(line) => header(line, &mut attributes, &mut host),
        }
    }
    Sniffed::Http { host: host.name(), attributes }
}

/// The method in front of a space.
fn method(input: &[u8]) -> Result<&'static str, Sniffed> {
    let mut undecided = Sniffed::Nothing;
    for method in METHODS {
        let len = method.len().min(input.len());
        if !input[..len].eq_ignore_ascii_case(&method.as_bytes()[..len]) {
            continue;
        }
        match input.get(method.len()) {
            Some(b' ') => return Ok(method),
            Some(_) => {}
            None => undecided = Sniffed::NeedMore,
        }
    }
    Err(undecided)
}

/// What is requested, if the line is a request's.
fn target(line: &[u8], method_len: usize) -> Option<&[u8]> {
    let line = line.get(method_len + 1..)?;
    let target = line.strip_suffix(b" HTTP/1.1").or_else(|| line.strip_suffix(b" HTTP/1.0"))?;
    let clean = !target.is_empty() && target.iter().all(|b| b.is_ascii_graphic() || *b >= 0x80);
    clean.then_some(target)
}

/// The path without scheme, host and query, percent signs decoded (Go's `URL.Path`, which V2Ray takes).
fn path(target: &[u8]) -> String {
    let target = String::from_utf8_lossy(target);
    let behind = match target.split_once("://") {
        Some((scheme, behind)) if !scheme.contains(['/', '?']) => {
            behind.find(['/', '?']).map_or("", |at| &behind[at..])
        }
        _ => &*target,
    };
    let path = behind.split(['?', '#']).next().unwrap_or_default();
    decoded(path).unwrap_or_else(|| path.to_owned())
}

fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, tail) = tail.split_at_checked(2)?;
        let digit = |b: u8| char::from(b).to_digit(16).and_then(|value| u8::try_from(value).ok());
        bytes.push(digit(digits[0])? << 4 | digit(digits[1])?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

fn header(line: &[u8], attributes: &mut Attributes, host: &mut Host) {
    let Some(colon) = line.iter().position(|&b| b == b':') else { return };
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    // A name with a space in it, or nothing: a folded line, or no HTTP.
    let Some(name) = str::from_utf8(name).ok().filter(|name| is_token(name)) else { return };
    if name.eq_ignore_ascii_case("host") {
        host.add(value);
    }
    attributes.add(name, String::from_utf8_lossy(value));
}

/// RFC 9110 section 5.6.2.
fn is_token(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(allowed)
}

/// The `Host` headers so far.
#[derive(Default)]
enum Host {
    #[default]
    Absent,
    Named(String),
    /// No name, or two that differ.
    Useless,
}

impl Host {
    fn add(&mut self, value: &[u8]) {
        *self = match (&self, host_name(value)) {
            (Self::Absent, Some(name)) => Self::Named(name),
            (Self::Named(same), Some(name)) if *same == name => Self::Named(name),
            _ => Self::Useless,
        };
    }

    fn name(self) -> Option<String> {
        match self {
            Self::Named(name) => Some(name),
            Self::Absent | Self::Useless => None,
        }
    }
}

/// `example.com`, `example.com:80`, `1.2.3.4:80` or `[::1]:80` without its port.
fn host_name(value: &[u8]) -> Option<String> {
    let value = str::from_utf8(value).ok()?;
    if let Some(inner) = value.strip_prefix('[') {
        let (address, port) = inner.split_once(']')?;
        let address: IpAddr = address.parse().ok()?;
        return (port.is_empty() || is_port(port.strip_prefix(':')?)).then(|| address.to_string());
    }
    let name = match value.split_once(':') {
        Some((name, port)) => Some(name).filter(|_| is_port(port))?,
        None => value,
    };
    match name.parse::<IpAddr>() {
        Ok(address) => Some(address.to_string()),
        Err(_) => domain(name.strip_suffix('.').unwrap_or(name).as_bytes()),
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && (text.is_empty() || text.parse::<u16>().is_ok())
}

/// The lines that are there whole, without their ends.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|&b| b == b'\n')?;
        let line = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}
