//! The way to one server, step by step, as the client goes it.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use wsray_config::{ClientTls, Place, Resumption};
use wsray_vmess::{Address, Target};
use wsray_ws::ClientOptions;

use super::{
    facts::{self, Certificate, ahead},
    probe::{self, NoUpgrade},
    report::{Check, Status, Step},
    steps::{dns_step, plain, secured_step, skew_text, with_body, with_certificate},
    tries,
    verdict::{self, Secured},
};
use crate::{
    cause::Cause,
    outbound::VmessUser,
    transport::{Channel, ConnectError, Connector, Socket, TlsDial, client_config},
    vmess::unix_seconds,
};

/// What is examined.
pub(super) struct Subject<'a> {
    pub(super) connector: &'a Connector,
    /// The tag of the outbound that all of it goes through.
    pub(super) through: Option<&'a str>,
    /// Its TLS as configured, to look at a certificate that is refused.
    pub(super) tls: Option<&'a ClientTls>,
    /// Bytes before everything else: a PROXY protocol header.
    pub(super) lead: &'a [u8],
    pub(super) user: Option<&'a VmessUser>,
    /// Where the tunnel is tried to; `None`: the server itself.
    pub(super) target: Option<&'a Target>,
    /// How long an idle connection is watched.
    pub(super) idle: Option<Duration>,
}

/// How long each stage may take.
const RESOLVE: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(5);
const SECURE: Duration = Duration::from_secs(5);
/// The client gives up 8 seconds after it began to connect.
pub(super) const UPGRADE: Duration = Duration::from_secs(5);
pub(super) const SESSION: Duration = Duration::from_secs(3);
pub(super) const PAGE: Duration = Duration::from_secs(3);

/// An upgrade that takes longer is worth a warning.
const SLOW_UPGRADE: Duration = Duration::from_secs(2);

/// Clocks that differ by more are worth a warning, in seconds.
const SKEW_WORTH_TELLING: i64 = 60;

impl Subject<'_> {
    /// Goes all the way, or as far as it leads.
    pub(super) async fn walk(&self, check: &mut Check) {
        let Some(mut channel) = self.reach(check).await else {
            return self.skip(check, &["tls", "upgrade", "vmess"]);
        };
        if self.connector.tls.is_some() && !self.secure(check, &mut channel).await {
            return self.skip(check, &["upgrade", "vmess"]);
        }
        let mut seen = Seen::default();
        if let Some(options) = &self.connector.ws {
            if !self.upgrade(check, &mut channel, options, &mut seen).await {
                if seen.answered {
                    self.clock(check, options, &mut seen).await;
                }
                return self.skip(check, &["vmess"]);
            }
            self.clock(check, options, &mut seen).await;
        }
        drop(channel);
        let Some(words) = self.vmess(check, &seen).await else { return };
        if let Some(options) = &self.connector.ws
            && options.early_data.is_some()
        {
            self.early_data(check, options, &words).await;
        }
        if let Some(limit) = self.idle {
            self.idle(check, limit).await;
        }
    }

    fn skip(&self, check: &mut Check, names: &[&'static str]) {
        for &name in names {
            let exists = match name {
                "tls" => self.connector.tls.is_some(),
                "upgrade" => self.connector.ws.is_some(),
                _ => true,
            };
            if exists {
                check.push(Step::new(name, Status::Skipped, "not tried"));
            }
        }
    }

    /// Name and TCP.
    async fn reach(&self, check: &mut Check) -> Option<Channel> {
        let server = &self.connector.server;
        if let Some(tag) = self.through {
            return self.reach_through(check, tag).await;
        }
        let started = Instant::now();
        let resolved = timeout(RESOLVE, self.connector.dialer.resolve(server)).await;
        let addresses = match resolved {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => {
                let cause = verdict::of_connect(&error);
                check.push(Step::new("dns", Status::Fail, error.to_string()).causes(cause));
                check.push(Step::new("tcp", Status::Skipped, "not tried"));
                return None;
            }
            Err(_) => {
                let text = format!("the resolver did not answer within {} s", RESOLVE.as_secs());
                check.push(Step::new("dns", Status::Fail, text).causes([Cause::ResolverFails]));
                check.push(Step::new("tcp", Status::Skipped, "not tried"));
                return None;
            }
        };
        if let Address::Domain(name) = &server.address {
            check.push(dns_step(name.as_str(), &addresses).took(started.elapsed()));
        }
        let started = Instant::now();
        let connected = timeout(CONNECT, self.connector.dialer.tcp_any(&addresses)).await;
        let took = started.elapsed();
        let limit = CONNECT;
        let connected = connected.unwrap_or(Err(ConnectError::Timeout { stage: "connecting", limit }));
        let where_to = match &addresses[..] {
            [one] => one.to_string(),
            several => format!("one of {} addresses, port {}", several.len(), server.port),
        };
        self.connected(check, connected, where_to, took).await
    }

    /// By way of another outbound, which finds the name and connects.
    async fn reach_through(&self, check: &mut Check, tag: &str) -> Option<Channel> {
        match self.connector.dialer.tcp(&self.connector.server).await {
            Ok(socket) => {
                let text =
                    format!("by way of the outbound {tag:?}: whether it gets there shows in what follows");
                check.push(Step::new("tcp", Status::Skipped, text));
                self.led(socket).await
            }
            Err(error) => {
                let cause = Cause::WayThrough { tag: tag.to_owned() };
                check.push(Step::new("tcp", Status::Fail, error.to_string()).causes([cause]));
                None
            }
        }
    }

    /// A fresh connection, with what goes before everything else sent.
    async fn led(&self, socket: Socket) -> Option<Channel> {
        let mut channel = Channel::new(socket, self.connector.pool.clone());
        let led = self.lead.is_empty() || channel.write_all(self.lead).await.is_ok();
        led.then_some(channel)
    }

    /// Where nothing was answered and another outbound lies on the way, that is the first to suspect.
    fn suspect_way(&self, causes: &mut Vec<Cause>) {
        let unanswered = [Cause::ClosedUnanswered, Cause::Unanswered, Cause::TlsCut, Cause::TlsUnanswered];
        if let (Some(tag), Some(first)) = (self.through, causes.first())
            && unanswered.contains(first)
        {
            causes.insert(0, Cause::WayThrough { tag: tag.to_owned() });
        }
    }

    async fn connected(
        &self,
        check: &mut Check,
        connected: Result<Socket, ConnectError>,
        where_to: String,
        took: Duration,
    ) -> Option<Channel> {
        match connected {
            Ok(socket) => {
                check.push(Step::new("tcp", Status::Ok, where_to).took(took));
                self.led(socket).await
            }
            Err(error) => {
                let cause = verdict::of_connect(&error);
                check.push(Step::new("tcp", Status::Fail, error.to_string()).took(took).causes(cause));
                None
            }
        }
    }

    async fn secure(&self, check: &mut Check, channel: &mut Channel) -> bool {
        let started = Instant::now();
        let secured = self.connector.secure(channel, started + SECURE).await;
        let took = started.elapsed();
        let name = self.connector.tls.as_ref().map_or(String::new(), |tls| tls.name.to_str().into_owned());
        match secured {
            Ok(()) => {
                let version = channel.tls_version().map_or(String::new(), |version| format!("{version:?}"));
                let cipher = channel.cipher_suite().map_or(String::new(), |suite| format!("{suite:?}"));
                let alpn = channel.alpn().map_or("none".to_owned(), |alpn| wsray_ws::printable(alpn, 20));
                let summary = format!("{}, {cipher}, ALPN {alpn}, name {name}", version.replace('_', "."));
                let seen = facts::certificate(channel.peer_certificates());
                check.push(secured_step(Step::new("tls", Status::Ok, summary).took(took), seen.as_ref()));
                true
            }
            Err(error) => {
                let seen = self.look(&error).await;
                let mut causes = verdict::of_tls(&error, seen.as_ref(), &name);
                if causes == [Cause::TlsCut] && tries::proxy_header_helps_tls(self.connector).await {
                    causes = vec![Cause::ProxyHeaderWanted];
                } else if matches!(causes[..], [Cause::TlsCut | Cause::TlsUnanswered])
                    && self.through.is_none()
                    && tries::other_name_helps_tls(self).await
                {
                    causes = vec![Cause::NameBlocked];
                }
                self.suspect_way(&mut causes);
                let text = match &error {
                    ConnectError::Timeout { .. } => {
                        format!("no answer to the TLS handshake within {} s", SECURE.as_secs())
                    }
                    error => plain(error),
                };
                let mut step = Step::new("tls", Status::Fail, text).took(took).detail("name asked for", name);
                if let Some(seen) = &seen {
                    step = with_certificate(step, seen);
                }
                check.push(step.causes(causes));
                false
            }
        }
    }

    /// The certificate that was refused, by a handshake that checks nothing and sends nothing after it.
    async fn look(&self, error: &ConnectError) -> Option<Certificate> {
        use crate::transport::HandshakeError;
        let ConnectError::Tls(HandshakeError::Tls(
            rustls::Error::InvalidCertificate(_) | rustls::Error::General(_),
        )) = error
        else {
            return None;
        };
        let connector = with_tls(self.connector, &unchecked(self.tls?))?;
        let channel = probe::connect(&connector, self.lead, Instant::now() + SECURE).await.ok()?;
        facts::certificate(channel.peer_certificates())
    }

    async fn upgrade(
        &self,
        check: &mut Check,
        channel: &mut Channel,
        options: &ClientOptions,
        seen: &mut Seen,
    ) -> bool {
        let (exchange, _) = probe::upgrade(channel, options, &[], UPGRADE).await;
        let head = facts::head(&exchange.heard);
        check.front = exchange.front();
        seen.upgrade = exchange.took;
        seen.answered = head.is_some();
        seen.date = head.as_ref().and_then(|head| head.date);
        let path = options.path.as_str();
        let shown = path.split('?').next().unwrap_or_default();
        let by = head.as_ref().and_then(|head| head.server.clone());
        let by = by.map_or(String::new(), |server| format!(", Server: {server}"));
        let Err(refused) = &exchange.outcome else {
            let mut step =
                Step::new("upgrade", Status::Ok, format!("101 for {shown}{by}")).took(exchange.took);
            if exchange.took > SLOW_UPGRADE {
                step.status = Status::Warn;
                step = step.causes([Cause::UpgradeSlow]);
            }
            check.push(step);
            return true;
        };
        let secured = match channel.alpn() {
            _ if self.connector.tls.is_none() => Secured::No,
            None => Secured::WithoutAlpn,
            Some(_) => Secured::WithAlpn,
        };
        let mut causes = verdict::of_upgrade(&exchange, secured, path);
        let tried = tries::after_upgrade(self, options, &exchange, &causes).await;
        if let Some(tried) = tried {
            causes = vec![tried];
        }
        self.suspect_way(&mut causes);
        let text = match refused {
            NoUpgrade::Answer(error) => error.to_string(),
            NoUpgrade::Closed => "the connection was closed without an answer".to_owned(),
            NoUpgrade::Failed(error) => error.clone(),
            NoUpgrade::TimedOut => format!("no answer within {} s", UPGRADE.as_secs()),
        };
        let step = Step::new("upgrade", Status::Fail, text).took(exchange.took);
        let step = step.detail("asked for", format!("{shown}, Host {}", options.host));
        check.push(with_body(step, &exchange, head.as_ref()).causes(causes));
        false
    }

    /// What HTTP says of the time there.
    async fn clock(&self, check: &mut Check, options: &ClientOptions, seen: &mut Seen) {
        let mut ours = unix_seconds();
        if seen.date.is_none() {
            let heard = probe::page(self.connector, self.lead, &options.host, PAGE).await;
            ours = unix_seconds();
            seen.date = facts::head(&heard).and_then(|head| head.date);
        }
        let Some(date) = seen.date else { return };
        let skew = ahead(ours, date);
        seen.ahead = Some(skew);
        let (status, text) = match skew {
            -2..=2 => (Status::Ok, "the same as the server's".to_owned()),
            _ if skew.abs() <= SKEW_WORTH_TELLING => (Status::Ok, skew_text(skew)),
            _ => (Status::Warn, format!("{}; VMess allows 120 s", skew_text(skew))),
        };
        check.push(Step::new("clock", status, text));
    }
}

/// What one step leaves for the next.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) upgrade: Duration,
    /// The upgrade was answered by HTTP.
    answered: bool,
    date: Option<u64>,
    pub(super) ahead: Option<i64>,
}

/// The configuration without any check of the server.
fn unchecked(tls: &ClientTls) -> ClientTls {
    ClientTls {
        allow_insecure: true,
        pinned_chain_sha256: Vec::new(),
        pinned_sha256: Vec::new(),
        ..tls.clone()
    }
}

/// A client that takes any certificate: the dates and names are looked at.
pub(super) fn trusting(place: &Place) -> ClientTls {
    ClientTls {
        place: place.clone(),
        server_name: None,
        alpn: vec!["http/1.1".to_owned()],
        allow_insecure: true,
        disable_system_root: true,
        extra_roots: Vec::new(),
        pinned_chain_sha256: Vec::new(),
        pinned_sha256: Vec::new(),
        verified_names: Vec::new(),
        resumption: Resumption::Off,
    }
}

/// The same connector with another TLS.
pub(super) fn with_tls(connector: &Connector, tls: &ClientTls) -> Option<Connector> {
    let mut changed = connector.clone();
    let name = crate::transport::server_name(tls, &connector.server.address).ok()?;
    let name = connector.tls.as_ref().map_or(name, |tls| tls.name.clone());
    changed.tls = Some(TlsDial { config: client_config(tls).ok()?, name, early_data: false });
    Some(changed)
}
