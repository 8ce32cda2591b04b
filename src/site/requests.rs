//! Where requests begin in what a visitor sends to a web server behind us. Pure but for who judges.
//!
//! Each head gets a line that says whom it comes from; all else passes unchanged. What is not understood for certain
//! ends the looking: the rest passes as it is, and a web server has the last word about it.

use std::net::IpAddr;

use wsray_ws::{BodyLength, Request};

use crate::transport::{Judged, Upgrade};

/// Reads along.
#[derive(Debug)]
pub(super) struct Requests {
    state: State,
}

#[derive(Debug)]
enum State {
    /// The next request begins here; so much of its head has come.
    Head(Vec<u8>),
    /// So many bytes of body are left.
    Body(u64),
    /// Nothing more is looked at.
    Opaque,
}

/// A request for a tunnel, and what came behind its head.
pub(super) struct Found {
    pub(super) upgrade: Box<Upgrade>,
    pub(super) ahead: Vec<u8>,
}

impl Requests {
    pub(super) fn new() -> Self {
        Self { state: State::Head(Vec::new()) }
    }

    /// Whether a head has begun that is not there as a whole.
    pub(super) fn waits_for_head(&self) -> bool {
        matches!(&self.state, State::Head(head) if !head.is_empty())
    }

    /// Takes what came next and adds to `out` what is for the web server, until a request for a tunnel comes.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        speaker: IpAddr,
        judge: impl Fn(&[u8]) -> Judged,
        out: &mut Vec<u8>,
    ) -> Option<Found> {
        let mut rest = bytes.to_vec();
        while !rest.is_empty() {
            match &mut self.state {
                State::Opaque => out.append(&mut rest),
                State::Body(left) => {
                    let now = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    out.extend(rest.drain(..now));
                    *left -= now as u64;
                    if *left == 0 {
                        self.state = State::Head(Vec::new());
                    }
                }
                State::Head(head) => {
                    head.append(&mut rest);
                    match judge(head) {
                        Judged::Incomplete => {}
                        Judged::Tunnel(upgrade) => {
                            let ahead = head.split_off(upgrade.used);
                            return Some(Found { upgrade, ahead });
                        }
                        Judged::Other { used, request, .. } => {
                            rest = head.split_off(used);
                            name_speaker(head, speaker);
                            out.append(head);
                            self.state = behind(&request);
                        }
                        Judged::Garbage(_) => {
                            out.append(head);
                            self.state = State::Opaque;
                        }
                    }
                }
            }
        }
        None
    }

    /// The visitor sends no more: what is left of a head.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        match std::mem::replace(&mut self.state, State::Opaque) {
            State::Head(head) => head,
            State::Body(_) | State::Opaque => Vec::new(),
        }
    }
}

/// What follows a head. Whoever asks for another protocol may speak it next.
fn behind(request: &Request) -> State {
    let changes = request.method() == "CONNECT" || request.values("Upgrade").next().is_some();
    match request.body() {
        _ if changes => State::Opaque,
        BodyLength::Bytes(0) => State::Head(Vec::new()),
        BodyLength::Bytes(length) => State::Body(length),
        BodyLength::Unknown => State::Opaque,
    }
}

/// Adds `X-Forwarded-For` as the last line of a head. A list that stands there already goes on with it
/// (RFC 9110 section 5.3).
fn name_speaker(head: &mut Vec<u8>, speaker: IpAddr) {
    // The line that ends a head may end with a line feed alone.
    let blank = if head.ends_with(b"\r\n") { 2 } else { 1 };
    let at = head.len().saturating_sub(blank);
    let line = format!("X-Forwarded-For: {speaker}\r\n");
    head.splice(at..at, line.into_bytes());
}

#[cfg(test)]
mod tests {
    use wsray_ws::ServerOptions;

    use super::*;
    use crate::{
        stream::Pool,
        transport::{Acceptor, Senders, Trust, Visitors},
    };

    fn acceptor() -> Acceptor {
        Acceptor {
            proxy_protocol: Senders::Nobody,
            tls: None,
            ws: Some(ServerOptions { path: wsray_ws::Path::new("/ray").unwrap(), early_data: None }),
            trust: Trust::Nobody,
            heartbeat: wsray_config::Heartbeat::Off,
            visitors: Visitors::Welcome,
            pool: Pool::new(),
        }
    }

    const UPGRADE: &str = "GET /ray HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    /// What the web server gets, and what is ahead in the tunnel, of `input` in pieces of `piece` bytes.
    fn passed(input: &[u8], piece: usize) -> (String, Option<Vec<u8>>) {
        let (acceptor, mut requests, mut out) = (acceptor(), Requests::new(), Vec::new());
        for (n, bytes) in input.chunks(piece).enumerate() {
            let judge = |bytes: &[u8]| acceptor.judge(bytes);
            if let Some(found) = requests.take(bytes, [203, 0, 113, 7].into(), judge, &mut out) {
                let ahead = [&found.ahead[..], &input[((n + 1) * piece).min(input.len())..]].concat();
                return (String::from_utf8(out).unwrap(), Some(ahead));
            }
        }
        out.extend(requests.finish());
        (String::from_utf8_lossy(&out).into_owned(), None)
    }

    #[test]
    fn every_head_names_the_visitor_and_nothing_else_changes() {
        let input = "GET / HTTP/1.1\r\nhOST: h\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n\
            POST /form HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nGET /ray \r\nHEAD /b HTTP/1.0\r\n\r\n";
        let forwarded = "X-Forwarded-For: 203.0.113.7\r\n\r\n";
        let expected = format!(
            "GET / HTTP/1.1\r\nhOST: h\r\nX-Forwarded-For: 198.51.100.1\r\n{forwarded}\
            POST /form HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n{forwarded}GET /ray \r\nHEAD /b HTTP/1.0\r\n{forwarded}"
        );
        for piece in 1..=input.len() {
            assert_eq!(passed(input.as_bytes(), piece), (expected.clone(), None), "{piece}");
        }
    }

    #[test]
    fn tunnel_is_found_behind_other_requests() {
        let get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        let input = format!("{get}{UPGRADE}\u{2}frames");
        for piece in 1..=input.len() {
            let (out, ahead) = passed(input.as_bytes(), piece);
            assert!(out.starts_with("GET / ") && out.matches("GET").count() == 1, "{piece}: {out}");
            assert_eq!(ahead.unwrap(), b"\x02frames", "{piece}");
        }
    }

    #[test]
    fn what_is_not_understood_passes_as_it_is() {
        for opaque in [
            "\u{16}\u{3}\u{1}garbage\r\n\r\n".to_owned(),
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned() + UPGRADE,
            "GET / HTTP/9.9\r\n\r\n".to_owned() + UPGRADE,
            "GET /unfinished HTTP/1.1\r\nHos".to_owned(),
        ] {
            assert_eq!(passed(opaque.as_bytes(), 7), (opaque, None));
        }
    }

    #[test]
    fn nothing_in_a_body_or_another_protocol_is_taken_for_a_tunnel() {
        for head in [
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n",
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4000\r\n",
            "GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
        ] {
            let input = format!("{head}\r\n{UPGRADE}");
            let expected = format!("{head}X-Forwarded-For: 203.0.113.7\r\n\r\n{UPGRADE}");
            assert_eq!(passed(input.as_bytes(), 50), (expected, None));
        }
    }
}
