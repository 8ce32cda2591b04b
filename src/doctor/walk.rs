//! The way to one server, step by step, as the client goes it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    time::Duration,
};

use rand::RngExt;
use tokio::time::{Instant, timeout};
use wsray_config::{ClientTls, Udp443};
use wsray_vmess::{Address, CmdKey, Target, UserId};
use wsray_ws::{ClientOptions, EarlyDataPlace};

use super::{
    facts::{self, Certificate, ahead},
    probe::{self, Early, Heard, NoUpgrade, Words},
    report::{Check, Status, Step},
    steps::{
        dns_step, early_step, filled, heard_text, plain, secured_step, skew_text, with_body, with_certificate,
    },
    tries,
    verdict::{self, EarlySeen, Secured, VmessSeen},
};
use crate::{
    cause::{Cause, Front},
    outbound::{Packets, VmessUser},
    transport::{Channel, ConnectError, Connector, Socket, TlsDial, client_config},
    vmess::{EndMark, unix_seconds},
};

/// What is examined.
pub(super) struct Subject<'a> {
    pub(super) connector: &'a Connector,
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
const UPGRADE: Duration = Duration::from_secs(5);
pub(super) const SESSION: Duration = Duration::from_secs(3);
const PAGE: Duration = Duration::from_secs(3);

/// An upgrade that takes longer is worth a warning.
const SLOW_UPGRADE: Duration = Duration::from_secs(2);

/// An answer that takes so much longer than the upgrade did is worth a warning.
const SLOW_ANSWER: Duration = Duration::from_secs(1);

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
        if self.connector.dialer.through.is_some() {
            return self.reach_through(check).await;
        }
        let started = Instant::now();
        let resolved = timeout(RESOLVE, self.connector.dialer.resolve(server)).await;
        let addresses = match resolved {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => {
                check.push(Step::new("dns", Status::Fail, error.to_string()).causes([Cause::NameUnknown]));
                check.push(Step::new("tcp", Status::Skipped, "not tried"));
                return None;
            }
            Err(_) => {
                let text = format!("the resolver did not answer within {} s", RESOLVE.as_secs());
                check.push(Step::new("dns", Status::Fail, text).causes([Cause::NameUnknown]));
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
    async fn reach_through(&self, check: &mut Check) -> Option<Channel> {
        let server = &self.connector.server;
        let started = Instant::now();
        let connected = self.connector.dialer.tcp(server).await;
        let where_to = format!("{server}, by way of another outbound, which is not examined here");
        self.connected(check, connected, where_to, started.elapsed()).await
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
                let mut channel = Channel::new(socket, self.connector.pool.clone());
                let led = self.lead.is_empty() || channel.write_all(self.lead).await.is_ok();
                led.then_some(channel)
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
                let mut causes = verdict::of_tls(&error, seen.as_ref());
                if causes == [Cause::TlsCut] && tries::proxy_header_helps_tls(self.connector).await {
                    causes = vec![Cause::ProxyHeaderWanted];
                }
                let text = plain(&error);
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
        check.front = Front::of(head.as_ref().and_then(|head| head.server.as_deref()));
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

    /// Whether the server knows the user; what was said when it did.
    async fn vmess(&self, check: &mut Check, seen: &Seen) -> Option<Words> {
        let Some(user) = self.user else {
            check.push(Step::new("vmess", Status::Warn, "there is no user to try it with"));
            return None;
        };
        let words = self.words();
        let tries = words.iter().map(|words| self.session(user, words));
        let own = probe::all(tries.collect()).await;
        let answered = own.iter().position(|heard| matches!(heard, Heard::Answered { .. }));
        if let Some(at) = answered {
            self.push_answered(check, seen, &words, &own);
            return words.get(at).cloned();
        }
        let mut facts = VmessSeen { own, ahead: seen.ahead, ..VmessSeen::default() };
        facts.own.splice(0..0, self.speaks_http(&facts.own).await);
        if !facts.own.iter().any(|heard| matches!(heard, Heard::Foreign { .. })) {
            self.compare(user, words.first()?, &mut facts).await;
        }
        let causes = verdict::of_vmess(&facts);
        let text = facts.own.first().map_or(String::new(), heard_text);
        let unreachable = causes.first() == Some(&Cause::TargetUnreachable) && self.target.is_none();
        let status = if unreachable { Status::Warn } else { Status::Fail };
        check.push(Step::new("vmess", status, text).causes(causes));
        None
    }

    fn push_answered(&self, check: &mut Check, seen: &Seen, words: &[Words], own: &[Heard]) {
        let mut answers = words.iter().zip(own).filter_map(|(words, heard)| match heard {
            Heard::Answered { took, data } => Some((words, *took, *data)),
            _ => None,
        });
        let all: Vec<_> = answers.by_ref().collect();
        let best = all.iter().find(|(_, _, data)| *data).or(all.first());
        let Some((words, took, data)) = best else { return };
        let what =
            if *data { format!("{} answered through the tunnel", words.target) } else { String::new() };
        let text = if *data {
            format!("the server knows the user, and {what}")
        } else {
            "the server knows the user".to_owned()
        };
        let mut step = Step::new("vmess", Status::Ok, text).took(*took);
        if !data && self.target.is_some() {
            step.status = Status::Fail;
            step.summary = format!("the server knows the user, but nothing came from {}", words.target);
            step = step.causes([Cause::TargetUnreachable]);
        } else if *data && *took > SLOW_ANSWER + 4 * seen.upgrade && self.connector.ws.is_some() {
            step.status = Status::Warn;
            step = step.causes([Cause::AnswerSlow]);
        }
        check.push(step);
    }

    /// What is said in the tunnel. The server itself is there and answers; a port where nobody listens makes a server
    /// that knows the user say so and close.
    fn words(&self) -> Vec<Words> {
        let itself = &self.connector.server;
        let nobody = Target::from(SocketAddr::from((Ipv4Addr::LOCALHOST, NOBODYS_PORT)));
        let targets = match self.target {
            Some(target) => vec![target.clone()],
            None => vec![itself.clone(), nobody],
        };
        let words = |target: Target| Words {
            payload: format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", target.address)
                .into_bytes(),
            target,
            unix_seconds: unix_seconds(),
        };
        targets.into_iter().map(words).collect()
    }

    fn session<'b>(
        &'b self,
        user: &'b VmessUser,
        words: &'b Words,
    ) -> Pin<Box<dyn Future<Output = Heard> + 'b>> {
        Box::pin(
            async move { probe::session(self.connector, self.lead, user, words, Early::No, SESSION).await.1 },
        )
    }

    /// A web server answers a request. An opening, which is random bytes, makes it wait where no line ends in it.
    async fn speaks_http(&self, heard: &[Heard]) -> Option<Heard> {
        if self.connector.ws.is_some() || heard.iter().any(|heard| matches!(heard, Heard::Foreign { .. })) {
            return None;
        }
        let start = probe::page(self.connector, self.lead, "localhost", PAGE).await;
        start.starts_with(b"HTTP/").then_some(Heard::Foreign { start })
    }

    /// What a stranger would see, and what we would with another clock.
    async fn compare(&self, user: &VmessUser, words: &Words, facts: &mut VmessSeen) {
        let stranger = stranger(user);
        let shifts = match facts.ahead {
            Some(ahead) if ahead.abs() <= 5 => vec![],
            Some(ahead) => vec![-ahead],
            None => SHIFTS.to_vec(),
        };
        let shifted: Vec<_> = shifts
            .iter()
            .map(|shift| Words {
                unix_seconds: words.unix_seconds.saturating_add_signed(*shift),
                ..words.clone()
            })
            .collect();
        let mut tries = vec![self.session(&stranger, words)];
        tries.extend(shifted.iter().map(|words| self.session(user, words)));
        let mut heard = probe::all(tries).await.into_iter();
        facts.stranger = heard.next();
        facts.shifted = shifts.into_iter().zip(heard).collect();
    }

    async fn early_data(&self, check: &mut Check, options: &ClientOptions, words: &Words) {
        let (Some(user), Some(early)) = (self.user, &options.early_data) else { return };
        let most = usize::try_from(early.max_bytes.get()).unwrap_or(usize::MAX);
        let most = most.min(wsray_ws::client::MAX_CARRIED_EARLY_DATA);
        let full = Words { payload: filled(&words.payload, most), ..words.clone() };
        let full = probe::session(self.connector, self.lead, user, &full, Early::Yes, SESSION).await;
        let header = match &early.place {
            EarlyDataPlace::Path => None,
            EarlyDataPlace::Header(name) => Some(name.as_str().to_owned()),
        };
        let mut seen = EarlySeen { full, small: None, header };
        if !matches!(seen.full.1, Heard::Answered { .. }) {
            let small = probe::session(self.connector, self.lead, user, words, Early::Yes, SESSION).await;
            seen.small = Some(small);
        }
        check.push(early_step(&seen, most));
    }

    /// Watches a connection on which nothing is said.
    async fn idle(&self, check: &mut Check, limit: Duration) {
        let deadline = Instant::now() + UPGRADE;
        let Ok(mut channel) = probe::connect(self.connector, self.lead, deadline).await else { return };
        if let Some(options) = &self.connector.ws {
            let (exchange, _) = probe::upgrade(&mut channel, options, &[], UPGRADE).await;
            if exchange.outcome.is_err() {
                return;
            }
        }
        let started = Instant::now();
        let mut heard = Vec::new();
        let ended =
            timeout(limit, async { while probe::read(&mut channel, &mut heard).await.is_ok() {} }).await;
        let seconds = started.elapsed().as_secs();
        check.push(match ended {
            Err(_) => Step::new("idle", Status::Ok, format!("open after {seconds} s of silence")),
            Ok(()) => Step::new("idle", Status::Warn, format!("closed after {seconds} s of silence"))
                .detail("heartbeat", format!("{:?}", self.connector.heartbeat))
                .causes([Cause::IdleCut { seconds }]),
        });
    }
}

/// What one step leaves for the next.
#[derive(Debug, Default)]
struct Seen {
    upgrade: Duration,
    /// The upgrade was answered by HTTP.
    answered: bool,
    date: Option<u64>,
    ahead: Option<i64>,
}

/// Nobody listens there, by convention (TCPMUX, RFC 7805 calls it historic).
const NOBODYS_PORT: u16 = 1;

/// Clocks that are tried when HTTP tells no time, in seconds ahead of ours: a few minutes, and hours that time zones
/// make.
const SHIFTS: [i64; 10] = [-240, 240, -480, 480, -3600, 3600, -7200, 7200, -28_800, 28_800];

/// Somebody whom no server knows, otherwise like `user`.
fn stranger(user: &VmessUser) -> VmessUser {
    VmessUser {
        cmd_key: CmdKey::new(&UserId::from_bytes(rand::rng().random())),
        security: user.security,
        authenticated_length: user.authenticated_length,
        end_mark: EndMark::Sent,
        mux: None,
        packets: Packets::AsStreams,
        udp_443: Udp443::Allow,
    }
}

/// The configuration without any check of the server.
fn unchecked(tls: &ClientTls) -> ClientTls {
    ClientTls { allow_insecure: true, pinned_chain_sha256: Vec::new(), ..tls.clone() }
}

/// The same connector with another TLS.
pub(super) fn with_tls(connector: &Connector, tls: &ClientTls) -> Option<Connector> {
    let mut changed = connector.clone();
    let name = crate::transport::server_name(tls, &connector.server.address).ok()?;
    let name = connector.tls.as_ref().map_or(name, |tls| tls.name.clone());
    changed.tls = Some(TlsDial { config: client_config(tls).ok()?, name, early_data: false });
    Some(changed)
}
