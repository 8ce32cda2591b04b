//! What goes through the connection once it is there: VMess, early data, silence.

use std::{
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    time::Duration,
};

use rand::RngExt;
use tokio::time::{Instant, timeout};
use wsray_config::Udp443;
use wsray_vmess::{CmdKey, Target, UserId};
use wsray_ws::{ClientOptions, EarlyDataPlace};

use super::{
    probe::{self, Early, Heard, Words},
    report::{Check, Status, Step},
    steps::{early_step, filled, heard_text},
    verdict::{self, EarlySeen, VmessSeen},
    walk::{PAGE, SESSION, Seen, Subject, UPGRADE},
};
use crate::{
    cause::Cause,
    outbound::{Packets, VmessUser},
    vmess::{EndMark, unix_seconds},
};

/// An answer that takes so much longer than the upgrade did is worth a warning.
const SLOW_ANSWER: Duration = Duration::from_secs(1);

/// Nobody listens there, by convention (TCPMUX, RFC 7805 calls it historic).
const NOBODYS_PORT: u16 = 1;

/// More than V2Ray reads of a stranger's opening before it closes, 54 + 3266 + 64 bytes (v2fly/v2ray-core
/// `proxy/vmess/encoding/server.go`, `common/drain/drainer.go`).
const ENOUGH: usize = 4096;

/// Clocks that are tried when HTTP tells no time, in seconds ahead of ours: a few minutes, and hours that time zones
/// make.
const SHIFTS: [i64; 10] = [-240, 240, -480, 480, -3600, 3600, -7200, 7200, -28_800, 28_800];

impl Subject<'_> {
    /// Whether the server knows the user; what was said when it did.
    pub(super) async fn vmess(&self, check: &mut Check, seen: &Seen) -> Option<Words> {
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
        // V2Ray reads a stranger's bytes up to a number that is not the same each time, and closes: both say enough for that.
        let long = Words { payload: filled(&words.payload, ENOUGH), ..words.clone() };
        let mut tries = vec![self.session(&stranger, &long), self.session(user, &long)];
        tries.extend(shifted.iter().map(|words| self.session(user, words)));
        let mut heard = probe::all(tries).await.into_iter();
        facts.stranger = heard.next();
        facts.beside = heard.next();
        facts.shifted = shifts.into_iter().zip(heard).collect();
    }

    pub(super) async fn early_data(&self, check: &mut Check, options: &ClientOptions, words: &Words) {
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
        check.front = check.front.or_else(|| seen.full.0.as_ref()?.front());
        check.push(early_step(&seen, most));
    }

    /// Watches a connection on which nothing is said.
    pub(super) async fn idle(&self, check: &mut Check, limit: Duration) {
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
