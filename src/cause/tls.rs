//! What a failed TLS handshake tells.

use rustls::{AlertDescription, CertificateError, Error};

use super::Cause;

/// The cause of a TLS error on the client's side; `None` when the message says all there is.
pub fn of_tls(error: &Error) -> Option<Cause> {
    Some(match error {
        Error::InvalidCertificate(error) => return Some(of_certificate(error)),
        Error::InvalidMessage(_) => Cause::PortWithoutTls,
        Error::AlertReceived(AlertDescription::NoApplicationProtocol) | Error::NoApplicationProtocol => {
            Cause::Alpn
        }
        // The last is what rustls says where `rejectUnknownSni` leaves it without a certificate.
        Error::AlertReceived(
            AlertDescription::UnrecognisedName
            | AlertDescription::InternalError
            | AlertDescription::AccessDenied,
        ) => Cause::NoCertificate,
        Error::AlertReceived(
            AlertDescription::DecodeError
            | AlertDescription::UnexpectedMessage
            | AlertDescription::RecordOverflow,
        ) => Cause::TlsGarbled,
        Error::AlertReceived(_) => Cause::TlsRefused,
        Error::General(text) if text.contains("pinnedPeerCert") => Cause::CertificatePin,
        _ => return None,
    })
}

fn of_certificate(error: &CertificateError) -> Cause {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Cause::CertificateExpired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Cause::CertificateNotYetValid
        }
        CertificateError::NotValidForName => Cause::CertificateName { names: "others".to_owned() },
        CertificateError::NotValidForNameContext { presented, .. } => {
            Cause::CertificateName { names: names(presented) }
        }
        _ => Cause::CertificateIssuer,
    }
}

/// The most names of a certificate that are told.
const MAX_NAMES: usize = 6;

/// rustls writes names as `DnsName("example.org")`; people write `example.org`.
fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "no name at all".to_owned();
    }
    let plain = |name: &String| {
        let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
        let inside = inside.unwrap_or(name).trim_matches('"');
        wsray_ws::printable(inside.as_bytes(), 80)
    };
    let shown: Vec<_> = presented.iter().take(MAX_NAMES).map(plain).collect();
    let more = if presented.len() > MAX_NAMES { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}
