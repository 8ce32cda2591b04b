//! What an answer to the upgrade request tells, from its status, its headers and its page.

use wsray_ws::{RefusedResponse, ResponseError};

use super::{Cause, Front};

/// An answer that is no upgrade, and what was asked.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// What is wrong with it.
    pub error: &'a ResponseError,
    /// The start of its body, as it came or made fit to print.
    pub body: &'a str,
    /// Whether the request went over TLS.
    pub over_tls: bool,
    /// The path asked for.
    pub path: &'a str,
}

/// The cause; `None` when the message says all there is.
pub fn of_response(seen: &Seen<'_>) -> Option<Cause> {
    Some(match seen.error {
        ResponseError::Refused(answer) => return of_refusal(answer, seen),
        ResponseError::NotHttp { start } => of_garbage(start, seen.over_tls),
        ResponseError::Accept | ResponseError::Upgrade { .. } | ResponseError::Connection { .. } => {
            Cause::AnswerRewritten
        }
        ResponseError::Extension { .. } => Cause::Extension,
        _ => return None,
    })
}

/// `start` is escaped: a TLS record of an alert begins with 0x15 0x03 (RFC 8446 section 5.1), an HTTP/2 server's first
/// frame with a length below 65536 (RFC 9113 section 4.1).
fn of_garbage(start: &str, over_tls: bool) -> Cause {
    match start {
        start if start.starts_with(r"\u{15}\u{3}") => plain_to_tls(over_tls),
        start if start.starts_with(r"\u{0}\u{0}") => Cause::Http2Only,
        _ => Cause::NotHttp,
    }
}

/// What front ends and servers write into their pages. Sources: nginx `src/http/ngx_http_special_response.c`, Apache
/// `modules/ssl/ssl_engine_kernel.c`, Go `net/http/server.go`.
const PLAIN_TO_TLS: [&str; 3] =
    ["sent to HTTPS port", "HTTP request to an HTTPS server", "plain HTTP to an SSL-enabled server port"];
const TOO_LARGE: [&str; 2] = ["Header Or Cookie Too Large", "header field exceeds server limit"];

/// Go's HTTP server, when it cannot read a request (golang/go `net/http/server.go`); V2Ray's answers have other bodies.
const UNREADABLE: [&str; 2] = ["400 Bad Request", "505 HTTP Version Not Supported"];

/// nginx's own page for 400, where the server behind it would have another (nginx `ngx_http_special_response.c`).
const NGINX_PAGE: &str = "<center><h1>400 Bad Request</h1></center>";

/// The page that Cloudflare shows a client to see whether it is a browser.
const CHALLENGES: [&str; 2] = ["Just a moment...", "Attention Required!"];

/// Cloudflare's error numbers for hosts that it does not serve where they were asked for
/// (developers.cloudflare.com, "Cloudflare 1xxx errors").
const UNKNOWN_HOSTS: [u16; 9] = [1000, 1001, 1002, 1003, 1004, 1014, 1018, 1023, 1034];
const RATE_LIMITED: u16 = 1015;

fn of_refusal(answer: &RefusedResponse, seen: &Seen<'_>) -> Option<Cause> {
    let front = Front::of(answer.server.as_deref());
    let says = |texts: &[&str]| texts.iter().any(|text| seen.body.contains(text));
    let body = seen.body.trim();
    if front == Some(Front::Cdn)
        && let Some(cause) = of_cdn(body)
    {
        return Some(cause);
    }
    Some(match answer.status {
        200..=299 if body.is_empty() && front == Some(Front::Caddy) => Cause::HostUnknown,
        300..=399 => of_redirect(answer.location.as_deref().unwrap_or_default(), seen),
        400 | 497 if says(&PLAIN_TO_TLS) => plain_to_tls(seen.over_tls),
        400 | 494 if says(&TOO_LARGE) => Cause::HeadTooLong,
        400 | 505 if UNREADABLE.iter().any(|text| body.starts_with(text)) => Cause::RequestGarbled,
        400 if front != Some(Front::Cdn) && body.contains(NGINX_PAGE) => Cause::RequestGarbled,
        400 if front == Some(Front::Cdn) => Cause::CdnWithoutWebSocket,
        400 => Cause::UpgradeNotForwarded,
        401 | 407 => Cause::PasswordWanted,
        403 if front == Some(Front::Cdn) => Cause::ForbiddenByCdn,
        403 | 451 => Cause::Forbidden,
        404 if body.is_empty() => Cause::PathUnknownToServer,
        404 | 410 => Cause::PathUnknownToFront,
        405 | 426 => Cause::VersionRefused,
        413 | 414 | 431 => Cause::HeadTooLong,
        421 => Cause::HostUnknown,
        429 => Cause::TooMany,
        200..=299 | 402..=499 => Cause::WebPage,
        505 => Cause::HttpVersion,
        511 => Cause::LoginFirst,
        status @ 502..=504 => Cause::ServerBehindDown { status },
        status @ 520..=530 => Cause::CdnOrigin { status },
        status @ 500..=599 => Cause::FrontFails { status },
        _ => return None,
    })
}

/// What the page of a CDN says beyond its status.
fn of_cdn(body: &str) -> Option<Cause> {
    if CHALLENGES.iter().any(|text| body.contains(text)) {
        return Some(Cause::ForbiddenByCdn);
    }
    let number = ["error code: ", "cf-error-code\">"].iter().find_map(|before| {
        let (_, rest) = body.split_once(before)?;
        rest.get(..4)?.parse::<u16>().ok()
    })?;
    match number {
        RATE_LIMITED => Some(Cause::TooMany),
        number if UNKNOWN_HOSTS.contains(&number) => Some(Cause::CdnHost),
        _ => None,
    }
}

/// What was sent in TLS and met TLS again left it on the way.
fn plain_to_tls(over_tls: bool) -> Cause {
    if over_tls { Cause::TlsBehind } else { Cause::PortWithTls }
}

fn of_redirect(location: &str, seen: &Seen<'_>) -> Cause {
    let path_of = |url: &str| match url.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/".to_owned(), |at| rest[at..].to_owned()),
        None => url.to_owned(),
    };
    let until_query = |path: &str| path.split(['?', '#']).next().unwrap_or_default().to_owned();
    let (to, from) = (until_query(&path_of(location)), until_query(seen.path));
    if to == format!("{from}/") {
        Cause::RedirectToSlash
    } else if location.starts_with("https:") && !seen.over_tls {
        Cause::RedirectToTls
    } else if to == from {
        Cause::RedirectLoop
    } else {
        Cause::Redirect { location: until_query(location) }
    }
}
