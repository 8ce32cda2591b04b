//! What is told of a step, from what was seen. Pure, but for the clock that certificates are held against.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{
    facts::{self, Certificate, day},
    probe::{Exchange, Heard, NoUpgrade},
    report::{Status, Step},
    verdict::{self, EarlySeen},
    walk::SESSION,
};
use crate::{cause::Cause, transport::ConnectError, vmess::unix_seconds};

/// A certificate that ends sooner than this is worth a warning, in days.
const SOON: i64 = 14;

pub(super) fn dns_step(name: &str, addresses: &[SocketAddr]) -> Step {
    let list: Vec<_> = addresses.iter().take(4).map(|address| address.ip().to_string()).collect();
    let step = Step::new("dns", Status::Ok, format!("{name}: {}", list.join(", ")));
    let faked = addresses.iter().any(|address| is_faked(address.ip()));
    if faked && name != "localhost" {
        return Step { status: Status::Warn, ..step }.causes([Cause::NameFaked]);
    }
    step
}

/// Addresses that no public server has: this machine's, nobody's, and those that proxy programs make up (RFC 2544).
pub(super) fn is_faked(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.octets()[0] == 198 && matches!(ip.octets()[1], 18 | 19)
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified(),
    }
}

pub(super) fn secured_step(step: Step, seen: Option<&Certificate>) -> Step {
    let Some(seen) = seen else { return step };
    let mut step = with_certificate(step, seen);
    let now = unix_seconds().cast_signed();
    if seen.not_after < now {
        step.status = Status::Fail;
        step = step.causes([Cause::CertificateExpired]);
    } else if seen.not_before > now {
        step.status = Status::Fail;
        step = step.causes([Cause::CertificateNotYetValid]);
    } else if seen.days_left(now) < SOON {
        step.status = Status::Warn;
    } else if seen.chain == 1 && !seen.self_signed && seen.is_public() {
        // Only who has the intermediate certificate from elsewhere gets in.
        step.status = Status::Warn;
        step = step.causes([Cause::CertificateChain]);
    }
    step
}

pub(super) fn with_certificate(step: Step, seen: &Certificate) -> Step {
    let left = seen.days_left(unix_seconds().cast_signed());
    let dates = format!("{} to {}, {left} days left", day(seen.not_before), day(seen.not_after));
    let by = if seen.self_signed { "itself".to_owned() } else { seen.issuer.clone() };
    step.detail(
        "certificate",
        format!("{}; issued by {by}; {dates}; chain of {}", seen.names_text(), seen.chain),
    )
}

pub(super) fn with_body(step: Step, exchange: &Exchange, head: Option<&facts::Head>) -> Step {
    let start = head.map_or(exchange.heard.len(), |head| head.body);
    let body = exchange.heard.get(start..).unwrap_or_default().trim_ascii();
    if body.is_empty() {
        step
    } else {
        step.detail("body", format!("\"{}\"", wsray_ws::printable(body, 120)))
    }
}

/// The error without the hint that it carries in a log.
pub(super) fn plain(error: &ConnectError) -> String {
    match error {
        ConnectError::Tls(error) => error.to_string(),
        error => error.to_string(),
    }
}

pub(super) fn skew_text(skew: i64) -> String {
    let side = if skew < 0 { "behind" } else { "ahead of" };
    format!("this machine's is {} s {side} the server's", skew.abs())
}

pub(super) fn heard_text(heard: &Heard) -> String {
    match heard {
        Heard::Answered { .. } => "answered".to_owned(),
        Heard::Foreign { start } => {
            format!("the answer is not VMess; it starts with \"{}\"", wsray_ws::printable(start, 40))
        }
        Heard::Closed { took, how } => {
            format!("the server closed without an answer after {:.1} s ({how})", took.as_secs_f64())
        }
        Heard::Silence => format!("no answer within {} s", SESSION.as_secs()),
        Heard::NoConnection(error) => error.clone(),
    }
}

/// An HTTP request with a header that makes it `most` bytes long, less what VMess puts in front.
pub(super) fn filled(payload: &[u8], most: usize) -> Vec<u8> {
    let mut out = payload.to_vec();
    if out.ends_with(b"\r\n\r\n") && out.len() < most {
        out.truncate(out.len() - 2);
        out.extend_from_slice(b"X-Fill: ");
        out.resize(most.max(out.len()), b'x');
        out.extend_from_slice(b"\r\n\r\n");
    }
    out
}

pub(super) fn early_step(seen: &EarlySeen, most: usize) -> Step {
    let causes = verdict::of_early(seen);
    let place = seen.header.as_ref().map_or("behind the path".to_owned(), |header| format!("in {header}"));
    let echoed = seen.full.0.as_ref().and_then(|exchange| facts::head(&exchange.heard));
    if causes.is_empty() {
        let took = match &seen.full.1 {
            Heard::Answered { took, .. } => *took,
            _ => Duration::ZERO,
        };
        let step = Step::new("early data", Status::Ok, format!("{most} bytes {place} arrive")).took(took);
        return match (&seen.header, echoed) {
            (Some(header), Some(head))
                if header.eq_ignore_ascii_case("Sec-WebSocket-Protocol") && !head.protocol =>
            {
                step.detail("sub-protocol", "not echoed, which only browsers mind")
            }
            _ => step,
        };
    }
    let text = match &seen.full.0 {
        Some(Exchange { outcome: Err(NoUpgrade::Answer(error)), sent, .. }) => {
            format!("a request of {sent} bytes: {error}")
        }
        _ => format!("data {place} does not arrive: {}", heard_text(&seen.full.1)),
    };
    Step::new("early data", Status::Fail, text).causes(causes)
}
