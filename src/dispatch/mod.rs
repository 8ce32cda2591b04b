//! Brings a session and an outbound together: route, connect, relay, one line at the end.

mod packets;
mod questions;

pub use questions::Questions;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, timeout};
use wsray_config::{Families, Policy};
use wsray_route::{Balancer, Choice, Decision, Destination, Facts, Router, Sniffed};
use wsray_vmess::{Address, Network, Target};

use crate::{
    memory::{Admission, Full, Memory},
    names::Names,
    observe::{Access, Level, Log, Outcome},
    outbound::{Outbound, OutboundError, OutboundKind},
    relay::{Ending, FirstPayload, IdleTimeouts, cut, relay},
    session::{Mapping, Reach, Session},
    sniff::{overhear, patience},
    stream::{BoxEndpoint, PacketAddr, Pool},
};

/// What all sessions share.
#[derive(Debug)]
pub struct Dispatcher {
    /// The first is the default.
    pub outbounds: Vec<Arc<Outbound>>,
    /// Which sessions leave the default.
    pub router: Router,
    /// Who knows the addresses of names that rules ask for.
    pub names: Arc<Names>,
    /// What rules may name instead of an outbound.
    pub balancers: Vec<Balancer>,
    /// For each of them, how many sessions it has had: whose turn it is.
    pub turns: Vec<AtomicU64>,
    /// Timeouts by level.
    pub policy: Policy,
    /// Where to tell of it.
    pub log: Log,
    /// Where buffers come from.
    pub pool: Arc<Pool>,
    /// Whether there is room for another session.
    pub memory: Arc<Memory>,
    /// The number of the last session.
    pub last_id: Arc<AtomicU64>,
}

/// A session that is connected.
struct Begun {
    inbound: BoxEndpoint,
    outbound: BoxEndpoint,
    first: FirstPayload,
    timeouts: IdleTimeouts,
    about: About,
}

/// What is told of a session at its end.
struct About {
    id: u64,
    target: Target,
    started: Instant,
}

impl Dispatcher {
    /// A number for a session.
    pub fn new_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Runs a session to its end.
    ///
    /// It may be idle for hours: what it needs only until it is connected goes with the box of `begin`.
    pub fn run(
        self: &Arc<Self>,
        session: Session,
        inbound: BoxEndpoint,
    ) -> impl Future<Output = ()> + Send + '_ {
        let begin = Box::pin(self.begin(session, inbound));
        async move {
            let Some((begun, _admission)) = begin.await else { return };
            let Begun { inbound, outbound, first, timeouts, about } = begun;
            let outcome = relay(inbound, outbound, first, timeouts).await;
            self.tell_ended(&about, &outcome);
        }
    }

    /// Routes a session and connects it, if there is room for it; `None`: it is over already.
    async fn begin(
        self: &Arc<Self>,
        mut session: Session,
        mut inbound: BoxEndpoint,
    ) -> Option<(Begun, Admission)> {
        let admission = match self.memory.admit(self.pool.held()) {
            Ok(admission) => admission,
            Err(full) => {
                self.tell_full(&session, full);
                cut(inbound).await;
                return None;
            }
        };
        if session.network == Network::Udp && session.target.is_packet_addr() {
            inbound = Box::new(PacketAddr::new(inbound));
            session.reach = Reach::Any(Mapping::PacketAddr);
        }
        if let Reach::Any(mapping) = session.reach {
            Box::pin(packets::run(self, session, mapping, inbound)).await;
            return None;
        }
        let mut heard = session.said.take();
        let sniffing = session.sniffing.take().filter(|_| session.network == Network::Tcp);
        if heard.is_none() && sniffing.is_some() {
            match Box::pin(overhear(inbound, &self.pool, patience(session.target.port))).await {
                Ok((overheard, sniffed)) => {
                    heard = Some(Box::new(sniffed));
                    inbound = Box::new(overheard);
                }
                Err(cut) => {
                    self.log.debug(Some(session.id), "dispatch", format_args!("cut while sniffing: {cut}"));
                    return None;
                }
            }
        }
        if let (Some(heard), Some(sniffing)) = (&heard, &sniffing) {
            session.learn(heard, sniffing);
        }
        let outbound = &self.outbounds[Box::pin(self.route(&session, heard.as_deref())).await];
        self.tell_accepted(&session, outbound);
        Some((self.connect(session, inbound, outbound).await?, admission))
    }

    fn tell_full(&self, session: &Session, full: Full) {
        let text = format_args!("{} refused: {full}", session.target);
        self.log.limited(Level::Warning, "refused sessions", Some(session.id), "dispatch", text);
    }

    /// Connects a session and relays it to its end.
    async fn carry(&self, session: Session, inbound: BoxEndpoint, outbound: &Outbound) {
        let connect = Box::pin(self.connect(session, inbound, outbound));
        let Some(Begun { inbound, outbound, first, timeouts, about }) = connect.await else { return };
        let outcome = relay(inbound, outbound, first, timeouts).await;
        self.tell_ended(&about, &outcome);
    }

    /// Connects a session, or refuses it.
    async fn connect(
        &self,
        session: Session,
        mut inbound: BoxEndpoint,
        outbound: &Outbound,
    ) -> Option<Begun> {
        let started = Instant::now();
        let connected = match Box::pin(outbound.connect(&session, &mut *inbound)).await {
            Ok(connected) => connected,
            Err(error) => {
                self.refuse(&session, outbound, inbound, error).await;
                return None;
            }
        };
        if let Some(how) = connected.how {
            self.log.debug(
                Some(session.id),
                "outbound",
                format_args!("connected after {} ms: {how}", started.elapsed().as_millis()),
            );
        }
        let timeouts = self.idle_timeouts(&session);
        let about = About { id: session.id, target: session.target, started };
        Some(Begun { inbound, outbound: connected.endpoint, first: connected.first, timeouts, about })
    }

    fn tell_ended(&self, about: &About, outcome: &crate::relay::Outcome) {
        let level = match outcome.ending {
            Ending::Cut(..) => Level::Info,
            _ => Level::Debug,
        };
        self.log.limited(
            level,
            "sessions ended",
            Some(about.id),
            "dispatch",
            format_args!(
                "{} ended after {:.1} s, {} bytes up, {} bytes down: {}",
                about.target,
                about.started.elapsed().as_secs_f32(),
                outcome.up,
                outcome.down,
                outcome.ending
            ),
        );
    }

    /// The outbound's index; names are looked up only where a rule depends on it.
    async fn route(&self, session: &Session, heard: Option<&Sniffed>) -> usize {
        let mut facts = session.facts();
        facts.protocol = heard.and_then(Sniffed::protocol);
        if let Some(Sniffed::Http { attributes, .. }) = heard {
            facts.attributes = Some(attributes);
        }
        let mut decision = self.router.route(&facts);
        let found: Vec<_>;
        if decision == Decision::NeedIps {
            found = self.lookup(&session.target.address).await;
            facts.resolved = Some(&found);
            decision = self.router.route(&facts);
        }
        let mut outbound = self.chosen(decision);
        for _ in 0..MOST_LOOPS {
            let OutboundKind::Loopback { inbound } = &self.outbounds[outbound].kind else { break };
            // As in V2Ray, names are not looked up any more (v2fly/v2ray-core `proxy/loopback/loopback.go`).
            facts = Facts { inbound: Some(&**inbound), resolved: Some(&[]), ..facts };
            outbound = self.chosen(self.router.route(&facts));
        }
        outbound
    }

    fn chosen(&self, decision: Decision) -> usize {
        match decision {
            Decision::Rule { to: Destination::Outbound(outbound), .. } => outbound,
            Decision::Rule { to: Destination::Balancer(balancer), .. } => {
                let number = match self.balancers[balancer].choice() {
                    Choice::Random => rand::random(),
                    Choice::InTurn => self.turns[balancer].fetch_add(1, Ordering::Relaxed),
                };
                self.balancers[balancer].pick(number, |_| true).unwrap_or(0)
            }
            Decision::Default | Decision::NeedIps => 0,
        }
    }

    /// A name's addresses; none if they cannot be had in time.
    async fn lookup(&self, address: &Address) -> Vec<IpAddr> {
        let Address::Domain(domain) = address else { return Vec::new() };
        let found = timeout(LOOKUP_TIMEOUT, self.names.lookup(domain.as_str(), Families::Any)).await;
        found.into_iter().flatten().flatten().collect()
    }

    fn tell_accepted(&self, session: &Session, outbound: &Outbound) {
        if !self.log.has_access() {
            return;
        }
        let detour = outbound.tag.as_deref().unwrap_or_default();
        self.log.access(&Access {
            source: &session.source,
            outcome: Outcome::Accepted { network: session.network, target: &session.target, detour },
            email: session.user.as_deref().unwrap_or_default(),
        });
    }

    /// There is no other side: the application sees a reset, or a blackhole's answer.
    async fn refuse(
        &self,
        session: &Session,
        outbound: &Outbound,
        inbound: BoxEndpoint,
        error: OutboundError,
    ) {
        if let OutboundKind::Blackhole { http_response } = outbound.kind {
            return self.swallow(inbound, http_response).await;
        }
        let tag = outbound.tag.as_deref().unwrap_or("outbound");
        self.log.limited(
            Level::Warning,
            "failed connections",
            Some(session.id),
            "outbound",
            format_args!("[{tag}] {}:{}: {error}", session.network, session.target),
        );
        cut(inbound).await;
    }

    async fn swallow(&self, mut inbound: BoxEndpoint, http_response: bool) {
        let answered = async {
            if http_response {
                let layout = inbound.layout();
                let mut batch = self.pool.batch(FORBIDDEN.len());
                batch.bytes()[..FORBIDDEN.len()].copy_from_slice(FORBIDDEN);
                batch.push(0..FORBIDDEN.len());
                inbound.flush().await?;
                inbound.send(batch.laid_out(layout))?;
            }
            inbound.finish();
            inbound.flush().await?;
            std::future::poll_fn(|cx| inbound.poll_close(cx)).await;
            Ok::<_, crate::stream::Cut>(())
        };
        let _ = timeout(REFUSAL_TIMEOUT, answered).await;
    }

    fn idle_timeouts(&self, session: &Session) -> IdleTimeouts {
        let timeouts = self.policy.timeouts(session.level);
        IdleTimeouts {
            both: session.idle_timeout.unwrap_or(timeouts.connection_idle),
            uplink_only: timeouts.uplink_only,
            downlink_only: timeouts.downlink_only,
        }
    }
}

/// How long a name may be looked up for rules on addresses; they fail for it then. As long as the system waits for its
/// first name server (`resolv.conf(5)`).
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a session may come to a loopback outbound; then it is refused.
const MOST_LOOPS: usize = 16;

/// How long telling a peer that there is nothing may take.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// What a blackhole with `response.type` `http` answers (v2fly/v2ray-core `proxy/blackhole/config.go`).
const FORBIDDEN: &[u8] =
    b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nCache-Control: max-age=3600, public\r\n\
    Content-Length: 0\r\n\r\n\r\n";
