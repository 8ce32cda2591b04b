//! From what was seen to its cause. Pure: `cause` knows what a single answer means, this knows what several together do.

use super::{
    facts::Certificate,
    probe::{Exchange, Heard, NoUpgrade},
};
use crate::{
    cause::{self, Cause},
    transport::{ConnectError, HandshakeError},
};

/// Why TCP did not come about; `None` when the message says all there is.
pub(super) fn of_connect(error: &ConnectError) -> Option<Cause> {
    use std::io::ErrorKind::{ConnectionRefused, NetworkUnreachable};
    match error {
        ConnectError::Resolve { source, .. } if is_no_such_name(source) => Some(Cause::NameUnknown),
        ConnectError::Resolve { .. } => Some(Cause::ResolverFails),
        ConnectError::Connect { source, .. } if source.kind() == ConnectionRefused => Some(Cause::PortClosed),
        ConnectError::Connect { address, source } if source.kind() == NetworkUnreachable => {
            Some(Cause::NoNetwork { v6: address.is_ipv6() })
        }
        ConnectError::Connect { .. } | ConnectError::Timeout { .. } => Some(Cause::NoRoute),
        _ => None,
    }
}

/// Whether somebody knows that there is no such name, or no address, rather than that nobody could be asked. The texts
/// are those of `getaddrinfo` for `EAI_NONAME` and `EAI_NODATA` in glibc, musl and the BSDs.
fn is_no_such_name(error: &std::io::Error) -> bool {
    const TEXTS: [&str; 4] =
        ["not known", "No address associated", "does not resolve", "has no usable address"];
    let text = error.to_string();
    error.kind() == std::io::ErrorKind::NotFound || TEXTS.iter().any(|known| text.contains(known))
}

/// Why TLS did not come about for the name `asked`; `seen` is the certificate when it was looked at without checking it.
pub(super) fn of_tls(error: &ConnectError, seen: Option<&Certificate>, asked: &str) -> Vec<Cause> {
    let ConnectError::Tls(error) = error else { return vec![Cause::TlsUnanswered] };
    let cause = match error {
        HandshakeError::Tls(error) => cause::of_tls(error),
        _ => Some(Cause::TlsCut),
    };
    match (cause, seen) {
        (Some(Cause::CertificateIssuer), Some(seen)) if seen.self_signed => {
            let mut causes = vec![Cause::CertificateSelfSigned];
            // Nobody should be told to trust whoever answers in the server's place.
            if !seen.covers(asked) {
                causes.push(Cause::CertificateName { names: seen.names_text() });
            }
            causes
        }
        (Some(Cause::CertificateIssuer), Some(seen)) if seen.chain == 1 => {
            let public = seen.is_public();
            let mut causes = vec![Cause::CertificateIssuer, Cause::CertificateChain];
            if public {
                causes.reverse();
            }
            causes
        }
        (Some(Cause::CertificateName { .. }), Some(seen)) => {
            vec![Cause::CertificateName { names: seen.names_text() }]
        }
        (Some(cause), _) => vec![cause],
        (None, _) => vec![Cause::TlsRefused],
    }
}

/// What was agreed upon below HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secured {
    /// No TLS.
    No,
    /// TLS, and the server named no protocol.
    WithoutAlpn,
    /// TLS, and a protocol.
    WithAlpn,
}

/// Why there is no WebSocket.
pub(super) fn of_upgrade(exchange: &Exchange, secured: Secured, path: &str) -> Vec<Cause> {
    match &exchange.outcome {
        Ok(_) => Vec::new(),
        Err(NoUpgrade::Answer(error)) => {
            let start = super::facts::head(&exchange.heard).map_or(exchange.heard.len(), |head| head.body);
            let body = String::from_utf8_lossy(exchange.heard.get(start..).unwrap_or_default());
            let over_tls = secured != Secured::No;
            let seen = cause::Seen { error, body: &body, over_tls, path };
            cause::of_response(&seen).into_iter().collect()
        }
        Err(NoUpgrade::Closed | NoUpgrade::Failed(_)) if secured == Secured::WithoutAlpn => {
            vec![Cause::ClosedUnanswered, Cause::Http2Only]
        }
        Err(NoUpgrade::Closed | NoUpgrade::Failed(_)) => vec![Cause::ClosedUnanswered],
        Err(NoUpgrade::TimedOut) => vec![Cause::Unanswered],
    }
}

/// What was seen of VMess.
#[derive(Clone, Debug, Default)]
pub(super) struct VmessSeen {
    /// What the user's own openings came to.
    pub(super) own: Vec<Heard>,
    /// What that of a user who does not exist came to.
    pub(super) stranger: Option<Heard>,
    /// What the user's own came to that was like it in all else.
    pub(super) beside: Option<Heard>,
    /// What the user's came to with a clock that is so many seconds ahead of ours.
    pub(super) shifted: Vec<(i64, Heard)>,
    /// By how many seconds our clock is ahead of the one that HTTP told.
    pub(super) ahead: Option<i64>,
}

/// The most that clocks may differ, in seconds.
const MAX_SKEW: i64 = wsray_vmess::MAX_CLOCK_SKEW_SECS.cast_signed();

/// Two ends within this are alike.
const ALIKE: std::time::Duration = std::time::Duration::from_millis(700);

/// Why the server does not answer; nothing when it does.
pub(super) fn of_vmess(seen: &VmessSeen) -> Vec<Cause> {
    let answered = |heard: &Heard| matches!(heard, Heard::Answered { .. });
    if seen.own.iter().any(answered) {
        return Vec::new();
    }
    if let Some(start) = seen.own.iter().find_map(foreign) {
        let http = start.starts_with(b"HTTP/") || start.starts_with(b"<");
        return vec![if http { Cause::ServerWantsWebSocket } else { Cause::NotVmess }];
    }
    if let Some((shift, _)) = seen.shifted.iter().find(|(_, heard)| answered(heard)) {
        return vec![Cause::Clock { ahead: -shift }];
    }
    if let Some(ahead) = seen.ahead.filter(|ahead| ahead.abs() > MAX_SKEW) {
        return vec![Cause::Clock { ahead }, Cause::IdUnknown];
    }
    let is_held = seen.own.contains(&Heard::Silence);
    match (&seen.stranger, &seen.beside) {
        (Some(stranger), Some(own)) if !alike(own, stranger) => {
            vec![Cause::TargetUnreachable, Cause::IdUnknown]
        }
        (Some(Heard::Closed { took, .. }), _) if *took < ALIKE && !is_held => {
            vec![Cause::IdUnknown, Cause::NotVmess]
        }
        _ => vec![Cause::IdUnknown],
    }
}

fn foreign(heard: &Heard) -> Option<&[u8]> {
    match heard {
        Heard::Foreign { start } => Some(start),
        _ => None,
    }
}

fn alike(one: &Heard, other: &Heard) -> bool {
    match (one, other) {
        (Heard::Closed { took: one, .. }, Heard::Closed { took: other, .. }) => one.abs_diff(*other) < ALIKE,
        (Heard::NoConnection(_), _) | (_, Heard::NoConnection(_)) => true,
        _ => std::mem::discriminant(one) == std::mem::discriminant(other),
    }
}

/// What was seen of early data, where both the upgrade and VMess work without it.
#[derive(Debug)]
pub(super) struct EarlySeen {
    /// With as much as the configuration allows.
    pub(super) full: (Option<Exchange>, Heard),
    /// With little, when the full one was refused.
    pub(super) small: Option<(Option<Exchange>, Heard)>,
    /// The header; `None`: the path.
    pub(super) header: Option<String>,
}

/// Why early data does not work; nothing when it does.
pub(super) fn of_early(seen: &EarlySeen) -> Vec<Cause> {
    let works = |(_, heard): &(Option<Exchange>, Heard)| matches!(heard, Heard::Answered { .. });
    let refused = |(exchange, _): &(Option<Exchange>, Heard)| {
        exchange.as_ref().is_some_and(|exchange| exchange.outcome.is_err())
    };
    let lost = Cause::EarlyDataLost { header: seen.header.clone() };
    if works(&seen.full) {
        return Vec::new();
    }
    let bytes = seen.full.0.as_ref().map_or(0, |exchange| exchange.sent);
    match &seen.small {
        Some(small) if refused(&seen.full) && !refused(small) => vec![Cause::EarlyDataTooLong { bytes }],
        Some(small) if works(small) => vec![Cause::EarlyDataTooLong { bytes }],
        Some(small) if refused(small) => vec![Cause::EarlyDataRefused { in_path: seen.header.is_none() }],
        None if refused(&seen.full) => vec![Cause::EarlyDataRefused { in_path: seen.header.is_none() }],
        _ => vec![lost],
    }
}
