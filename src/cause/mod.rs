//! Why a connection to a server fails, and what to write where: the knowledge behind the hints in the client's log and
//! behind `wsray doctor`. Pure: what was seen in, a cause out.

mod answer;
mod cure;
mod place;
#[cfg(test)]
mod tests;
mod tls;

use std::fmt;

pub use answer::{Seen, of_response};
pub use cure::Cure;
pub use place::{Front, Where};
pub use tls::of_tls;

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The server's name has no address.
    NameUnknown,
    /// Whoever knows names does not answer, or says that it cannot.
    ResolverFails,
    /// The resolver gave an address that no server on the internet has.
    NameFaked,
    /// Nothing listens on the port.
    PortClosed,
    /// No answer to TCP at all.
    NoRoute,
    /// This machine has no way to addresses of this family.
    NoNetwork {
        /// Whether it is IPv6, which many networks lack.
        v6: bool,
    },
    /// The outbound that this one goes through fails, or cannot reach the server.
    WayThrough {
        /// Its tag.
        tag: String,
    },
    /// TLS met a port that speaks something else.
    PortWithoutTls,
    /// The certificate is for other names.
    CertificateName {
        /// Its names, separated by commas.
        names: String,
    },
    /// The certificate is past its date.
    CertificateExpired,
    /// The certificate's time has not come, or our clock is behind.
    CertificateNotYetValid,
    /// The certificate is its own issuer.
    CertificateSelfSigned,
    /// The server sends its own certificate only.
    CertificateChain,
    /// An authority that is not trusted here.
    CertificateIssuer,
    /// None of the configured hashes fits.
    CertificatePin,
    /// The server speaks none of the protocols we offer by ALPN.
    Alpn,
    /// The server has no certificate for the name asked for, or none at all.
    NoCertificate,
    /// The server refuses TLS for another reason.
    TlsRefused,
    /// The connection ended in the middle of the TLS handshake.
    TlsCut,
    /// Nothing answers the TLS handshake.
    TlsUnanswered,
    /// Tried: another name in the handshake is answered.
    NameBlocked,
    /// The server could not read the TLS handshake.
    TlsGarbled,
    /// Plain HTTP met a TLS port.
    PortWithTls,
    /// The front end sent plain HTTP to a server that speaks TLS.
    TlsBehind,
    /// The server behind takes no HTTP/1.0.
    HttpVersion,
    /// Plain HTTP is redirected to HTTPS.
    RedirectToTls,
    /// HTTPS is redirected to where it came from.
    RedirectLoop,
    /// The path is redirected to the same with a slash behind it.
    RedirectToSlash,
    /// Redirected elsewhere.
    Redirect {
        /// Where to.
        location: String,
    },
    /// The server behind got the request without its upgrade headers.
    UpgradeNotForwarded,
    /// The same, behind a CDN.
    CdnWithoutWebSocket,
    /// The server behind could not read the request.
    RequestGarbled,
    /// The head was too long for the front end.
    HeadTooLong,
    /// 401, 407: somebody wants a password.
    PasswordWanted,
    /// 429: too many requests.
    TooMany,
    /// 511: the network wants somebody to log in.
    LoginFirst,
    /// Another 5xx than those below: whoever answers has failed.
    FrontFails {
        /// The status.
        status: u16,
    },
    /// 403 of a front end.
    Forbidden,
    /// 403 of a CDN.
    ForbiddenByCdn,
    /// A CDN does not serve the host at this address.
    CdnHost,
    /// The VMess server itself does not know the path.
    PathUnknownToServer,
    /// The front end does not know the path.
    PathUnknownToFront,
    /// The front end serves other hosts only.
    HostUnknown,
    /// An ordinary page.
    WebPage,
    /// The front end cannot reach the server behind it.
    ServerBehindDown {
        /// The status.
        status: u16,
    },
    /// A CDN cannot reach the origin.
    CdnOrigin {
        /// The status, 520 to 530.
        status: u16,
    },
    /// Another version of WebSocket, or no upgrade.
    VersionRefused,
    /// The port speaks HTTP/2 only.
    Http2Only,
    /// The answer is no HTTP.
    NotHttp,
    /// The connection ended before an answer.
    ClosedUnanswered,
    /// There was no answer in time.
    Unanswered,
    /// The answer was changed on its way.
    AnswerRewritten,
    /// The front end switched compression on.
    Extension,
    /// Tried: the request is answered when a PROXY protocol header goes before it.
    ProxyHeaderWanted,
    /// Tried: with this path it works.
    OtherPathWorks {
        /// The path.
        path: String,
    },
    /// Tried: with this Host header it works.
    OtherHostWorks {
        /// The host.
        host: String,
    },
    /// Tried: the port speaks TLS.
    TlsWorks,
    /// Tried: VMess without WebSocket works.
    TcpWorks,
    /// Early data is refused where the same request without it is not.
    EarlyDataRefused {
        /// In the path, rather than in a header.
        in_path: bool,
    },
    /// Early data of full length is refused, of little length is not.
    EarlyDataTooLong {
        /// How much was sent, in bytes of the request.
        bytes: usize,
    },
    /// Early data vanishes.
    EarlyDataLost {
        /// The header's name; `None`: the path.
        header: Option<String>,
    },
    /// The clocks are too far apart.
    Clock {
        /// By how many seconds ours is ahead.
        ahead: i64,
    },
    /// The server does not know the user.
    IdUnknown,
    /// VMess met an HTTP server.
    ServerWantsWebSocket,
    /// Whatever answers is no VMess server.
    NotVmess,
    /// The server cannot reach the target.
    TargetUnreachable,
    /// The upgrade takes long.
    UpgradeSlow,
    /// Answers come much later than the way back and forth takes.
    AnswerSlow,
    /// An inbound's port is another program's.
    PortTaken,
    /// An inbound's `listen` is no address of this machine.
    NotOurAddress,
    /// The system does not let this user listen on an inbound's port.
    PortForbidden,
    /// Something cuts idle connections.
    IdleCut {
        /// After how many seconds.
        seconds: u64,
    },
}

impl Cause {
    /// A name for programs; it never changes.
    #[expect(clippy::too_many_lines, reason = "one line a cause")]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NameUnknown => "dns-no-address",
            Self::ResolverFails => "dns-no-answer",
            Self::NameFaked => "dns-faked",
            Self::PortClosed => "tcp-refused",
            Self::NoRoute => "tcp-no-answer",
            Self::NoNetwork { .. } => "tcp-no-network",
            Self::WayThrough { .. } => "way-through",
            Self::PortWithoutTls => "tls-to-plain-port",
            Self::CertificateName { .. } => "certificate-name",
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateNotYetValid => "certificate-not-yet-valid",
            Self::CertificateSelfSigned => "certificate-self-signed",
            Self::CertificateChain => "certificate-chain",
            Self::CertificateIssuer => "certificate-issuer",
            Self::CertificatePin => "certificate-pin",
            Self::Alpn => "alpn",
            Self::NoCertificate => "tls-no-certificate",
            Self::TlsRefused => "tls-refused",
            Self::TlsCut => "tls-cut",
            Self::TlsUnanswered => "tls-unanswered",
            Self::NameBlocked => "tls-name-blocked",
            Self::TlsGarbled => "tls-garbled",
            Self::PortWithTls => "plain-to-tls-port",
            Self::TlsBehind => "tls-behind-front-end",
            Self::HttpVersion => "http-version",
            Self::RedirectToTls => "redirect-to-https",
            Self::RedirectLoop => "redirect-loop",
            Self::RedirectToSlash => "redirect-to-slash",
            Self::Redirect { .. } => "redirect",
            Self::UpgradeNotForwarded => "upgrade-not-forwarded",
            Self::CdnWithoutWebSocket => "cdn-websocket-off",
            Self::RequestGarbled => "request-garbled",
            Self::HeadTooLong => "head-too-long",
            Self::PasswordWanted => "password-wanted",
            Self::TooMany => "too-many-requests",
            Self::LoginFirst => "login-first",
            Self::FrontFails { .. } => "front-end-fails",
            Self::Forbidden => "forbidden",
            Self::ForbiddenByCdn => "cdn-forbidden",
            Self::CdnHost => "cdn-host-unknown",
            Self::PathUnknownToServer => "path-unknown-to-server",
            Self::PathUnknownToFront => "path-unknown-to-front-end",
            Self::HostUnknown => "host-unknown",
            Self::WebPage => "web-page",
            Self::ServerBehindDown { .. } => "server-behind-down",
            Self::CdnOrigin { .. } => "cdn-origin",
            Self::VersionRefused => "version-refused",
            Self::Http2Only => "http2-only",
            Self::NotHttp => "not-http",
            Self::ClosedUnanswered => "closed-unanswered",
            Self::Unanswered => "unanswered",
            Self::AnswerRewritten => "answer-rewritten",
            Self::Extension => "extension",
            Self::ProxyHeaderWanted => "proxy-header-wanted",
            Self::OtherPathWorks { .. } => "other-path-works",
            Self::OtherHostWorks { .. } => "other-host-works",
            Self::TlsWorks => "tls-works",
            Self::TcpWorks => "tcp-works",
            Self::EarlyDataRefused { .. } => "early-data-refused",
            Self::EarlyDataTooLong { .. } => "early-data-too-long",
            Self::EarlyDataLost { .. } => "early-data-lost",
            Self::Clock { .. } => "clock",
            Self::IdUnknown => "id-unknown",
            Self::ServerWantsWebSocket => "server-wants-websocket",
            Self::NotVmess => "not-vmess",
            Self::TargetUnreachable => "target-unreachable",
            Self::UpgradeSlow => "upgrade-slow",
            Self::AnswerSlow => "answer-slow",
            Self::PortTaken => "port-taken",
            Self::NotOurAddress => "listen-not-here",
            Self::PortForbidden => "port-forbidden",
            Self::IdleCut { .. } => "idle-cut",
        }
    }

    /// One line for a log: the cause and the first thing to do about it.
    pub fn hint(&self, front: Option<Front>) -> String {
        match self.cures(front).first() {
            Some(cure) => format!("{self}; {}: {}", cure.place, cure.lines.join("; ")),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for Cause {
    #[expect(clippy::too_many_lines, reason = "one line a cause")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NameUnknown => "the server's name has no address",
            Self::ResolverFails => "the name server does not answer, or says that it cannot: whether the name is right is not \
                known",
            Self::NameFaked => "the server's name leads to an address that is no server's on the internet: a faked answer, \
                or another proxy program on this machine",
            Self::PortClosed => "nothing listens on the server's port, or a firewall refuses it",
            Self::NoRoute => "the server's address does not answer: wrong address, a firewall, or the server is down",
            Self::NoNetwork { v6: true } => "the server's address is IPv6, and this machine has no way to IPv6 addresses",
            Self::NoNetwork { v6: false } => "this machine has no way to the server's address: it is not connected to the \
                internet",
            Self::WayThrough { tag } => {
                return write!(f, "the outbound {tag:?}, which this one goes through, fails or cannot reach the server");
            }
            Self::PortWithoutTls => "the server does not speak TLS on this port",
            Self::CertificateName { names } => {
                return write!(f, "the certificate is not for the name asked for, but for {names}");
            }
            Self::CertificateExpired => "the certificate has expired",
            Self::CertificateNotYetValid => "the certificate is not valid yet, or the clock of this machine is behind",
            Self::CertificateSelfSigned => "the certificate is self-signed: no authority vouches for it",
            Self::CertificateChain => "the server does not send the intermediate certificate that its own needs",
            Self::CertificateIssuer => "the certificate comes from an authority that is not trusted here",
            Self::CertificatePin => "the server's certificates have none of the pinned hashes",
            Self::Alpn => "the server takes none of the protocols offered by ALPN: it probably speaks HTTP/2 only",
            Self::NoCertificate => "the server has no certificate for the name asked for",
            Self::TlsRefused => "the server refused the TLS handshake",
            Self::TlsCut => "the connection was closed in the middle of the TLS handshake: something on the way cuts it, or \
                this port does not speak TLS",
            Self::TlsUnanswered => "nothing answers the TLS handshake: this port does not speak TLS, or something on the way \
                swallows it, often because of the name in it",
            Self::NameBlocked => "the TLS handshake is answered with another name in it: something on the way blocks this one",
            Self::TlsGarbled => "the server could not read the TLS handshake: something stands in front of it, such as a PROXY \
                protocol header",
            Self::PortWithTls => "plain HTTP was sent to a port that speaks TLS",
            Self::TlsBehind => "the front end sends plain HTTP to a server that speaks TLS: TLS is on at both",
            Self::HttpVersion => "the front end asks the server by HTTP/1.0, which knows no upgrade",
            Self::RedirectToTls => "plain HTTP is redirected to HTTPS: the server wants TLS",
            Self::RedirectLoop => "HTTPS is redirected to HTTPS: a CDN asks the server behind it by plain HTTP",
            Self::RedirectToSlash => "the path is redirected to the same path with a slash behind it",
            Self::Redirect { location } => return write!(f, "the request is redirected to {location}"),
            Self::UpgradeNotForwarded => "the request reached the server without its upgrade headers: the front end does not \
                forward them",
            Self::CdnWithoutWebSocket => "the CDN does not forward the upgrade: WebSockets are switched off there",
            Self::RequestGarbled => "the server could not read the request: something stands in front of it, such as a PROXY \
                protocol header",
            Self::HeadTooLong => "the request's head is too long for the front end: too much early data",
            Self::PasswordWanted => "a password is asked for",
            Self::TooMany => "the front end or the CDN has had too many requests from this address",
            Self::LoginFirst => "the network that this machine is in wants somebody to log in first",
            Self::FrontFails { status } => {
                return write!(f, "whoever answers has failed ({status}): only its own log tells why");
            }
            Self::Forbidden => "the front end forbids the request",
            Self::ForbiddenByCdn => "the CDN forbids the request",
            Self::CdnHost => "the CDN does not serve this host at this address",
            Self::PathUnknownToServer => "the request reached the server, but with a path that is not the server's",
            Self::PathUnknownToFront => "the front end does not know the path, or answers for another host",
            Self::HostUnknown => "the front end does not serve this host",
            Self::WebPage => "an ordinary web page answered instead of a WebSocket server",
            Self::ServerBehindDown { status } => {
                return write!(f, "the front end cannot reach the server behind it ({status})");
            }
            Self::CdnOrigin { status } => return write!(f, "the CDN {} ({status})", cdn_says(*status)),
            Self::VersionRefused => "the server speaks another WebSocket version, or did not get the upgrade headers",
            Self::Http2Only => "the port speaks HTTP/2 only, where WebSocket needs HTTP/1.1",
            Self::NotHttp => "the answer is not HTTP: this is no WebSocket server",
            Self::ClosedUnanswered => "the connection was closed without an answer",
            Self::Unanswered => "the request was not answered in time",
            Self::AnswerRewritten => "something between rewrites the handshake, or the server at this path is no WebSocket \
                server",
            Self::Extension => "the front end switches on a WebSocket extension that nobody asked for",
            Self::ProxyHeaderWanted => "the server wants a PROXY protocol header first (acceptProxyProtocol), and nothing \
                sends one",
            Self::OtherPathWorks { path } => return write!(f, "the path is wrong: it works with {path:?}"),
            Self::OtherHostWorks { host } => return write!(f, "the Host header is wrong: it works with {host:?}"),
            Self::TlsWorks => "the port speaks TLS, the client does not",
            Self::TcpWorks => "the server speaks VMess without WebSocket",
            Self::EarlyDataRefused { in_path: true } => "early data behind the path is refused: the front end or the server \
                takes the exact path only",
            Self::EarlyDataRefused { in_path: false } => "early data in this header is refused",
            Self::EarlyDataTooLong { bytes } => {
                return write!(f, "a request of {bytes} bytes is refused, a short one is not: too much early data");
            }
            Self::EarlyDataLost { header: Some(header) } => {
                return write!(f, "early data in {header} does not reach the server, which takes none there or never gets it");
            }
            Self::EarlyDataLost { header: None } => "early data behind the path does not reach the server",
            Self::Clock { ahead } => return write_clock(f, *ahead),
            Self::IdUnknown => "the server does not know this user id",
            Self::ServerWantsWebSocket => "the server speaks HTTP here: it expects WebSocket, the client speaks plain VMess",
            Self::NotVmess => "what answers is no VMess server",
            Self::TargetUnreachable => "the server knows the user, but cannot reach the target",
            Self::UpgradeSlow => "the upgrade takes long",
            Self::AnswerSlow => "answers come much later than the way there and back takes: something buffers them",
            Self::PortTaken => "another program has the inbound's port, or an older run of this one",
            Self::NotOurAddress => "this machine does not have the address in \"listen\"",
            Self::PortForbidden => "this user may not listen on the port: below 1024 that is a privilege",
            Self::IdleCut { seconds } => return write!(f, "something cuts connections that are idle for {seconds} s"),
        })
    }
}

/// What Cloudflare's statuses say (developers.cloudflare.com, "Cloudflare 5xx errors").
fn cdn_says(status: u16) -> &'static str {
    match status {
        520 => "got an answer from the server that it does not understand",
        521 => "was refused by the server: nothing listens there, or a firewall keeps the CDN out",
        522 => "got no answer from the server to its connection",
        523 => "has no way to the server's address",
        524 => "waited too long for the server's answer",
        525 => "could not shake hands with the server by TLS",
        526 => "does not trust the server's certificate",
        530 => "cannot resolve or reach the server's name",
        _ => "cannot reach the server",
    }
}

/// `ahead`: by how many seconds our clock is ahead of the server's.
fn write_clock(f: &mut fmt::Formatter<'_>, ahead: i64) -> fmt::Result {
    let side = if ahead < 0 { "behind" } else { "ahead of" };
    let seconds = ahead.unsigned_abs();
    let amount = if seconds < 180 { format!("{seconds} s") } else { format!("{} min", (seconds + 30) / 60) };
    write!(f, "the clock of this machine is about {amount} {side} the server's, where VMess allows 2 minutes")
}
