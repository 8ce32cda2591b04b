//! What bytes say: the head of an answer, the fields of a certificate, a clock. Pure.

use rustls::pki_types::CertificateDer;
use x509_parser::{extensions::GeneralName, prelude::X509Certificate};

/// The head of an HTTP answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) server: Option<String>,
    pub(super) date: Option<u64>,
    /// The protocol that it names for the WebSocket.
    pub(super) protocol: bool,
    /// Where the body starts.
    pub(super) body: usize,
}

/// How much of a foreign text is told.
const SHOWN: usize = 100;

/// Reads the last head in `heard`, interim answers skipped.
pub(super) fn head(heard: &[u8]) -> Option<Head> {
    let mut at = 0;
    loop {
        let mut headers = [httparse::EMPTY_HEADER; wsray_ws::MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(used) = response.parse(heard.get(at..)?).ok()? else { return None };
        at += used;
        let status = response.code?;
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let value = |name: &str| {
            let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            header.map(|header| wsray_ws::printable(header.value, SHOWN))
        };
        let date = value("Date").and_then(|date| httpdate::parse_http_date(&date).ok());
        let date = date.and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok());
        return Some(Head {
            status,
            server: value("Server"),
            date: date.map(|date| date.as_secs()),
            protocol: value("Sec-WebSocket-Protocol").is_some(),
            body: at,
        });
    }
}

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) names: Vec<String>,
    pub(super) issuer: String,
    /// Unix seconds.
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    pub(super) self_signed: bool,
    /// How many certificates the server sent.
    pub(super) chain: usize,
}

/// The first certificate of a chain.
pub(super) fn certificate(chain: &[CertificateDer<'_>]) -> Option<Certificate> {
    let (_, parsed) = x509_parser::parse_x509_certificate(chain.first()?).ok()?;
    Some(Certificate {
        names: names(&parsed),
        issuer: wsray_ws::printable(parsed.issuer().to_string().as_bytes(), SHOWN),
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
        self_signed: parsed.issuer() == parsed.subject(),
        chain: chain.len(),
    })
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let names = alternatives.iter().flat_map(|names| &names.value.general_names);
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(wsray_ws::printable(name.as_bytes(), SHOWN)),
        GeneralName::IPAddress(bytes) => match **bytes {
            [a, b, c, d] => Some(std::net::Ipv4Addr::new(a, b, c, d).to_string()),
            ref long => <[u8; 16]>::try_from(long).ok().map(|ip| std::net::Ipv6Addr::from(ip).to_string()),
        },
        _ => None,
    };
    names.filter_map(text).collect()
}

impl Certificate {
    /// The names as one text.
    pub(super) fn names_text(&self) -> String {
        let most = 6;
        let more = if self.names.len() > most { ", …" } else { "" };
        match self.names.len() {
            0 => "no name".to_owned(),
            _ => format!("{}{more}", self.names[..self.names.len().min(most)].join(", ")),
        }
    }

    /// Whether it is for this name, with `*` for one label (RFC 6125 section 6.4.3).
    pub(super) fn covers(&self, name: &str) -> bool {
        let below = name.split_once('.').map(|(_, below)| below);
        self.names.iter().any(|own| match own.strip_prefix("*.") {
            Some(own) => below.is_some_and(|below| below.eq_ignore_ascii_case(own)),
            None => own.eq_ignore_ascii_case(name),
        })
    }

    /// Whether a well-known authority issued it.
    pub(super) fn is_public(&self) -> bool {
        PUBLIC_AUTHORITIES.iter().any(|name| self.issuer.contains(name))
    }

    /// Whole days until it ends, from `now` in Unix seconds; negative when it has ended.
    pub(super) fn days_left(&self, now: i64) -> i64 {
        (self.not_after - now).div_euclid(SECONDS_A_DAY)
    }
}

/// Authorities whose certificates are never issued by a root itself: one that comes alone lacks its intermediate.
const PUBLIC_AUTHORITIES: [&str; 12] = [
    "Let's Encrypt",
    "ZeroSSL",
    "Google Trust Services",
    "DigiCert",
    "Sectigo",
    "GlobalSign",
    "Amazon",
    "TrustAsia",
    "Buypass",
    "SSL Corporation",
    "GoDaddy",
    "Microsoft",
];

const SECONDS_A_DAY: i64 = 86_400;

/// A day as `2026-11-22`.
pub(super) fn day(unix_seconds: i64) -> String {
    tz::UtcDateTime::from_timespec(unix_seconds, 0).map_or_else(
        |_| "?".to_owned(),
        |time| format!("{}-{:02}-{:02}", time.year(), time.month(), time.month_day()),
    )
}

/// By how many seconds a clock that says `ours` is ahead of one that said `theirs` in whole seconds.
pub(super) fn ahead(ours: u64, theirs: u64) -> i64 {
    i64::try_from(ours).unwrap_or(i64::MAX) - i64::try_from(theirs).unwrap_or(i64::MAX)
}
