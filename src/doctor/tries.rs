//! What else is tried when a handshake fails, so that the cause is shown rather than guessed. Nothing that was said over
//! TLS is ever tried without it.

use std::{pin::Pin, time::Duration};

use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout};
use wsray_vmess::Address;
use wsray_ws::{ClientOptions, Path};

use super::{
    probe::{self, Early, Exchange, Heard, NoUpgrade},
    walk::{SESSION, Subject, trusting, with_tls},
};
use crate::{
    cause::Cause,
    transport::{ConnectError, Connector, HandshakeError},
    vmess::unix_seconds,
};

/// A PROXY protocol header that names nobody (`doc/proxy-protocol.txt` of haproxy/haproxy, section 2.1).
const PROXY_HEADER: &[u8] = b"PROXY UNKNOWN\r\n";

/// How long each may take.
const LIMIT: Duration = Duration::from_secs(3);

/// Whether TLS works behind a PROXY protocol header.
pub(super) async fn proxy_header_helps_tls(connector: &Connector) -> bool {
    let tried = probe::connect(connector, PROXY_HEADER, Instant::now() + LIMIT).await;
    // Whatever the certificate is worth: TLS came about.
    match tried {
        Ok(_) => true,
        Err(ConnectError::Tls(HandshakeError::Tls(error))) => {
            matches!(error, rustls::Error::InvalidCertificate(_))
        }
        Err(_) => false,
    }
}

/// A name that nobody has a reason to block (RFC 2606).
const HARMLESS_NAME: &str = "example.com";

/// Whether a handshake that is cut or not answered is answered when it asks for another name.
pub(super) async fn other_name_helps_tls(subject: &Subject<'_>) -> bool {
    let Some(mut connector) = with_tls(subject.connector, &trusting(&nowhere())) else { return false };
    let Ok(name) = HARMLESS_NAME.try_into() else { return false };
    match &mut connector.tls {
        Some(tls) if matches!(tls.name, ServerName::DnsName(_)) => tls.name = name,
        _ => return false,
    }
    match probe::connect(&connector, subject.lead, Instant::now() + LIMIT).await {
        Ok(_) => true,
        // Whoever says no has read the name.
        Err(ConnectError::Tls(HandshakeError::Tls(error))) => {
            matches!(error, rustls::Error::AlertReceived(_) | rustls::Error::InvalidCertificate(_))
        }
        Err(_) => false,
    }
}

/// The place in no file.
fn nowhere() -> wsray_config::Place {
    wsray_config::Place { file: "".into(), line: 1, column: 1, path: "".into() }
}

/// The first change that makes the upgrade work.
pub(super) async fn after_upgrade(
    subject: &Subject<'_>,
    options: &ClientOptions,
    exchange: &Exchange,
    causes: &[Cause],
) -> Option<Cause> {
    let connector = subject.connector;
    if causes == [Cause::PortWithTls] {
        // Whoever says so may stand behind a front end that speaks none.
        return by_tls(subject).await.is_none().then_some(Cause::TlsBehind);
    }
    let mut tries: Vec<Pin<Box<dyn Future<Output = Option<Cause>> + '_>>> = Vec::new();
    match &exchange.outcome {
        Ok(_) => return None,
        Err(NoUpgrade::Answer(wsray_ws::ResponseError::Refused(_))) => {
            let settled = causes.iter().any(is_settled);
            if settled {
                return None;
            }
            if causes.contains(&Cause::RequestGarbled) {
                tries.push(Box::pin(asked(
                    connector,
                    PROXY_HEADER,
                    options.clone(),
                    Cause::ProxyHeaderWanted,
                )));
            }
            if let Some(other) = other_slash(options) {
                let path = other.path.as_str().to_owned();
                tries.push(Box::pin(asked(connector, subject.lead, other, Cause::OtherPathWorks { path })));
            }
            for other in other_hosts(connector, options) {
                let host = other.host.clone();
                tries.push(Box::pin(asked(connector, subject.lead, other, Cause::OtherHostWorks { host })));
            }
        }
        Err(_) => {
            tries.push(Box::pin(asked(connector, PROXY_HEADER, options.clone(), Cause::ProxyHeaderWanted)));
            tries.push(Box::pin(without_websocket(subject)));
            // nginx's `return 444` for hosts that it does not serve.
            for other in other_hosts(connector, options) {
                let host = other.host.clone();
                tries.push(Box::pin(asked(connector, subject.lead, other, Cause::OtherHostWorks { host })));
            }
        }
    }
    if connector.tls.is_none() && subject.lead.is_empty() {
        tries.push(Box::pin(by_tls(subject)));
    }
    probe::first(tries).await
}

/// Nothing that is tried could tell more.
fn is_settled(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::TlsBehind
            | Cause::HttpVersion
            | Cause::RedirectToTls
            | Cause::UpgradeNotForwarded
            | Cause::CdnWithoutWebSocket
            | Cause::HeadTooLong
            | Cause::ServerBehindDown { .. }
            | Cause::CdnOrigin { .. }
            | Cause::ForbiddenByCdn
    )
}

async fn asked(connector: &Connector, lead: &[u8], options: ClientOptions, cause: Cause) -> Option<Cause> {
    let ask = async {
        let mut channel = probe::connect(connector, lead, Instant::now() + LIMIT).await.ok()?;
        let (exchange, _) = probe::upgrade(&mut channel, &options, &[], LIMIT).await;
        exchange.outcome.ok().map(|_| cause)
    };
    timeout(LIMIT, ask).await.ok().flatten()
}

/// With a slash at the path's end, or without.
fn other_slash(options: &ClientOptions) -> Option<ClientOptions> {
    let text = options.path.as_str();
    let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
    let other = match path.strip_suffix('/') {
        Some("") => return None,
        Some(bare) => bare.to_owned(),
        None => format!("{path}/"),
    };
    let other = query.map_or(other.clone(), |query| format!("{other}?{query}"));
    Some(ClientOptions { path: Path::new(&other).ok()?, ..options.clone() })
}

/// With the names that the client knows of the server.
fn other_hosts(connector: &Connector, options: &ClientOptions) -> Vec<ClientOptions> {
    let mut hosts = Vec::new();
    if let Some(tls) = &connector.tls {
        hosts.push(tls.name.to_str().into_owned());
    }
    if let Address::Domain(name) = &connector.server.address {
        hosts.push(name.as_str().to_owned());
    }
    let bare = options.host.split(':').next().unwrap_or_default().to_owned();
    hosts.retain(|host| !host.eq_ignore_ascii_case(&bare));
    hosts.dedup();
    hosts.into_iter().map(|host| ClientOptions { host, ..options.clone() }).collect()
}

/// VMess without WebSocket.
async fn without_websocket(subject: &Subject<'_>) -> Option<Cause> {
    let mut connector = subject.connector.clone();
    connector.ws = None;
    let nobody = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 1));
    let words = probe::Words { target: nobody.into(), payload: b"x".to_vec(), unix_seconds: unix_seconds() };
    let (_, heard) =
        probe::session(&connector, subject.lead, subject.user?, &words, Early::No, SESSION).await;
    matches!(heard, Heard::Answered { .. }).then_some(Cause::TcpWorks)
}

/// TLS on a port that was spoken to without.
async fn by_tls(subject: &Subject<'_>) -> Option<Cause> {
    let connector = subject.connector;
    let connector = with_tls(connector, &trusting(&nowhere()))?;
    let opened = probe::connect(&connector, &[], Instant::now() + LIMIT).await;
    opened.is_ok().then_some(Cause::TlsWorks)
}
