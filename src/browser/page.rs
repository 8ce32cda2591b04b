//! The page's bytes, and the answers to those who do not get it. Pure.

use data_encoding::BASE64URL_NOPAD;

use super::gate::Refused;

/// Everything is in this one file.
const PAGE: &str = include_str!("page.html");

/// On every answer: nobody keeps it, guesses its type, shows it in a frame, or learns where it came from.
const HEADERS: &str = "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n\
    Referrer-Policy: no-referrer\r\nCross-Origin-Opener-Policy: same-origin\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\nConnection: close\r\n";

/// The answer that holds the page. `random` makes the nonce: no script and no style runs but the page's own, and it
/// reaches nothing but servers of WebSocket, and what it asks when one fails.
pub(super) fn page(token: &str, random: [u8; 16]) -> Vec<u8> {
    let nonce = BASE64URL_NOPAD.encode(&random);
    let body = PAGE
        .replace("{nonce}", &nonce)
        .replace("{token}", token)
        .replace("{version}", env!("CARGO_PKG_VERSION"));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; \
         connect-src 'self' ws: wss: http: https:; worker-src blob:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
         Content-Security-Policy: {policy}\r\n{HEADERS}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The answer to a request that is not our page's.
pub(super) fn refusal(refused: &Refused) -> Vec<u8> {
    let status = match refused {
        Refused::Host { .. } | Refused::Origin { .. } | Refused::Token => "403 Forbidden",
        Refused::Path => "404 Not Found",
        Refused::Method => "405 Method Not Allowed\r\nAllow: GET",
    };
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n{HEADERS}\r\n").into_bytes()
}
