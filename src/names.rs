//! From names to addresses: `hosts`, and servers as the `dns` block has them, or the system.

mod asked;
mod cache;
mod exchange;
mod message;

use std::{
    fmt, io,
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustls::ClientConfig;
use tokio::{
    net::{UnixDatagram, UnixStream, lookup_host},
    sync::Mutex,
    time::timeout,
};
use wsray_config::{Families, HostTarget, NameServerAddress, NameServerFallback};
use wsray_route::{DomainSet, IpSet};
use wsray_vmess::{Address, Target};

pub use asked::Asked;
use cache::{Cache, Key, Known};
use exchange::Exchange;
pub use message::invariants;
use message::{Answer, Kind, Question};

/// Where the addresses of names come from. `Default`: the system's resolver.
#[derive(Debug, Default)]
pub struct Names {
    /// The labels are indices of `hosts`.
    in_hosts: Option<DomainSet>,
    hosts: Vec<HostTarget>,
    /// The labels are indices of `servers`.
    domains: Option<DomainSet>,
    /// None: the system.
    servers: Vec<Server>,
    cache: Cache,
    routes: OnceLock<Arc<dyn Routes>>,
}

/// A way for questions through routing, which lies above this layer.
pub trait Routes: fmt::Debug + Send + Sync {
    /// A stream to `target`, as a session of the inbound `tag`.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    fn stream(&self, target: &Target, tag: Option<&Arc<str>>) -> io::Result<UnixStream>;

    /// The same for packets.
    ///
    /// # Errors
    /// As there.
    fn packets(&self, target: &Target, tag: Option<&Arc<str>>) -> io::Result<UnixDatagram>;
}

/// What is needed to make [`Names`].
#[derive(Debug)]
pub struct NamesSettings<'a> {
    /// The block.
    pub dns: &'a wsray_config::Dns,
    /// Which names `hosts` has; the labels are indices.
    pub host_names: DomainSet,
    /// Which names the servers' `domains` have; the labels are indices.
    pub domains: DomainSet,
    /// Which addresses each server may answer; `None`: all.
    pub expected: Vec<Option<IpSet>>,
    /// What servers over HTTPS must show.
    pub tls: Option<Arc<ClientConfig>>,
}

#[derive(Debug)]
struct Server {
    exchange: Exchange,
    expected: Option<IpSet>,
    client: Option<IpAddr>,
    families: Families,
    cache: wsray_config::Cache,
    fallback: NameServerFallback,
}

/// How long one server has (v2fly/v2ray-core `app/dns/nameserver.go`).
const SERVER_TIMEOUT: Duration = Duration::from_secs(4);

/// How often a name of `hosts` may lead to another (v2fly/v2ray-core `app/dns/hosts.go`).
const MOST_REPLACEMENTS: usize = 5;

/// What one server says of a name.
enum Said {
    /// At least one address.
    Addresses(Vec<IpAddr>),
    /// There is none: nobody else is asked.
    None,
    /// The next server is asked.
    Unknown(String),
}

impl Names {
    /// The system's resolver.
    pub fn system() -> Self {
        Self::default()
    }

    /// What the block says. Questions need [`Names::route_through`] first.
    pub fn new(settings: NamesSettings<'_>) -> Self {
        let servers = settings.dns.servers.iter().zip(settings.expected);
        let servers = servers.map(|(server, expected)| Server {
            exchange: Exchange {
                address: server.address.clone(),
                tag: server.tag.as_deref().map(Into::into),
                tls: settings.tls.clone(),
                https: Mutex::default(),
            },
            expected,
            client: server.client,
            families: server.families,
            cache: server.cache,
            fallback: server.fallback,
        });
        Self {
            in_hosts: Some(settings.host_names),
            hosts: settings.dns.hosts.iter().map(|host| host.to.clone()).collect(),
            domains: Some(settings.domains),
            servers: servers.collect(),
            cache: Cache::default(),
            routes: OnceLock::new(),
        }
    }

    /// Where questions go that are not for `+local` servers.
    pub fn route_through(&self, routes: Arc<dyn Routes>) {
        // There is one, and it is set once.
        let _ = self.routes.set(routes);
    }

    /// The addresses of a name, in the resolver's order; at least one.
    ///
    /// # Errors
    /// When there is none of these families, or nobody who knows.
    pub async fn lookup(&self, name: &str, families: Families) -> io::Result<Vec<IpAddr>> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if let Ok(ip) = name.parse() {
            return some(wanted(vec![ip], families));
        }
        let name = match self.in_hosts(name) {
            Ok(found) => return some(wanted(found, families)),
            Err(name) => name,
        };
        if self.servers.is_empty() || self.is_own(&name) {
            return Self::ask_system(&name, families).await;
        }
        let mut told = Vec::new();
        for index in self.in_turn(&name) {
            match Box::pin(self.ask(index, &name.as_str().into(), families)).await {
                Said::Addresses(found) => return some(wanted(found, families)),
                Said::None => return some(Vec::new()),
                Said::Unknown(why) => told.push(why),
            }
        }
        let message = if told.is_empty() { "no name server is for it".to_owned() } else { told.join("; ") };
        Err(io::Error::other(message))
    }

    /// The same, always by the system's resolver.
    ///
    /// # Errors
    /// As there.
    pub async fn ask_system(name: &str, families: Families) -> io::Result<Vec<IpAddr>> {
        some(wanted(lookup_host((name, 0)).await?.map(|address| address.ip()).collect(), families))
    }

    /// The addresses that `hosts` has for a name, else the name to look up.
    fn in_hosts(&self, mut name: String) -> Result<Vec<IpAddr>, String> {
        let Some(set) = &self.in_hosts else { return Err(name) };
        for _ in 0..=MOST_REPLACEMENTS {
            let targets: Vec<_> =
                set.labels(&name).into_iter().filter_map(|label| self.hosts.get(label as usize)).collect();
            let addresses: Vec<IpAddr> = targets
                .iter()
                .flat_map(|target| match target {
                    HostTarget::Addresses(addresses) => addresses.as_slice(),
                    HostTarget::Name(_) => &[],
                })
                .copied()
                .collect();
            if !addresses.is_empty() {
                return Ok(addresses);
            }
            match targets.first() {
                Some(HostTarget::Name(other)) if other.as_str() != name => {
                    name = other.as_str().to_ascii_lowercase();
                }
                _ => return Err(name),
            }
        }
        Err(name)
    }

    /// Whether it is the name of a server, who cannot be asked for it.
    fn is_own(&self, name: &str) -> bool {
        self.servers.iter().any(|server| match &server.exchange.address {
            NameServerAddress::System => false,
            NameServerAddress::Udp(target)
            | NameServerAddress::Tcp(target, _)
            | NameServerAddress::Https { target, .. } => {
                matches!(&target.address, Address::Domain(own) if own.as_str().eq_ignore_ascii_case(name))
            }
        })
    }

    /// The servers in the order in which they are asked for a name.
    fn in_turn(&self, name: &str) -> Vec<usize> {
        let matched = self.domains.as_ref().map(|set| set.labels(name)).unwrap_or_default();
        let mut order: Vec<usize> = matched.into_iter().map(|label| label as usize).collect();
        order.sort_unstable();
        order.dedup();
        let has_match = !order.is_empty();
        for (index, server) in self.servers.iter().enumerate() {
            let asked = match server.fallback {
                NameServerFallback::Always => true,
                NameServerFallback::UnlessMatched => !has_match,
                NameServerFallback::Never => false,
            };
            if asked && !order.contains(&index) {
                order.push(index);
            }
        }
        order
    }

    async fn ask(&self, index: usize, name: &Arc<str>, families: Families) -> Said {
        let server = &self.servers[index];
        let kinds: Vec<Kind> = [Kind::V4, Kind::V6]
            .into_iter()
            .filter(|kind| has(families, *kind) && has(server.families, *kind))
            .collect();
        let answers = match &kinds[..] {
            [] => return Said::None,
            [kind] => vec![self.known(index, name, *kind).await],
            _ => {
                let (v4, v6) =
                    tokio::join!(self.known(index, name, Kind::V4), self.known(index, name, Kind::V6));
                vec![v4, v6]
            }
        };
        let failed = answers.iter().find_map(|answer| answer.as_ref().err()).map(ToString::to_string);
        let found: Vec<IpAddr> = answers.into_iter().flatten().flat_map(|found| found.to_vec()).collect();
        match (found.is_empty(), failed, &server.expected) {
            (true, Some(why), _) => Said::Unknown(why),
            (true, None, _) => Said::None,
            (false, _, None) => Said::Addresses(found),
            (false, _, Some(expected)) => {
                let kept: Vec<_> = found.into_iter().filter(|ip| expected.contains(*ip)).collect();
                if kept.is_empty() {
                    Said::Unknown(format!("{server} answered none of expectIPs"))
                } else {
                    Said::Addresses(kept)
                }
            }
        }
    }

    /// What a server says of one kind of addresses, now or not long ago.
    async fn known(&self, index: usize, name: &Arc<str>, kind: Kind) -> Known {
        let key = Key { server: index, name: Arc::clone(name), kind };
        let keeps = self.servers[index].cache == wsray_config::Cache::On;
        if keeps && let Some(known) = self.cache.get(&key) {
            return Ok(known);
        }
        let asking = async {
            let (addresses, lifetime) = self.servers[index].ask(name, kind, self.routes.get()).await?;
            let addresses: Arc<[IpAddr]> = addresses.into();
            if keeps {
                self.cache.put(key.clone(), Arc::clone(&addresses), lifetime);
            }
            Ok(addresses)
        };
        self.cache.ask(&key, asking).await
    }
}

impl Server {
    async fn ask(
        &self,
        name: &str,
        kind: Kind,
        routes: Option<&Arc<dyn Routes>>,
    ) -> Result<(Vec<IpAddr>, Duration), Arc<str>> {
        let told = |why: String| Arc::from(format!("{self}: {why}"));
        if self.exchange.address == NameServerAddress::System {
            let families = if kind == Kind::V4 { Families::OnlyV4 } else { Families::OnlyV6 };
            let found = timeout(SERVER_TIMEOUT, Names::ask_system(name, families)).await;
            return match found {
                Ok(Ok(found)) => Ok((found, Duration::ZERO)),
                Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok((Vec::new(), Duration::ZERO)),
                Ok(Err(error)) => Err(told(error.to_string())),
                Err(_) => Err(told(late())),
            };
        }
        let routes = routes.ok_or_else(|| told("there is no way to it".to_owned()))?;
        let question = Question::new(name, kind, self.client);
        let question = question.ok_or_else(|| told("this is no name that DNS could know".to_owned()))?;
        match timeout(SERVER_TIMEOUT, Box::pin(self.exchange.ask(&question, &**routes))).await {
            Ok(Ok(Answer::Found(addresses, lifetime))) => Ok((addresses, lifetime)),
            Ok(Ok(Answer::Truncated)) => Err(told("its answer is cut off".to_owned())),
            Ok(Ok(Answer::Failed(code))) => Err(told(format!("it answered {code}"))),
            Ok(Err(error)) => Err(told(error.to_string())),
            Err(_) => Err(told(late())),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.exchange.address {
            NameServerAddress::System => f.write_str("the system"),
            NameServerAddress::Udp(target) => write!(f, "name server {target}"),
            NameServerAddress::Tcp(target, _) => write!(f, "name server tcp://{target}"),
            NameServerAddress::Https { target, .. } => write!(f, "name server https://{target}"),
        }
    }
}

fn late() -> String {
    format!("no answer in {} s", SERVER_TIMEOUT.as_secs())
}

fn has(families: Families, kind: Kind) -> bool {
    match families {
        Families::Any | Families::PreferV4 | Families::PreferV6 => true,
        Families::OnlyV4 => kind == Kind::V4,
        Families::OnlyV6 => kind == Kind::V6,
    }
}

fn some(found: Vec<IpAddr>) -> io::Result<Vec<IpAddr>> {
    if found.is_empty() {
        Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address that is wanted"))
    } else {
        Ok(found)
    }
}

/// Those of `found` that are wanted.
fn wanted(mut found: Vec<IpAddr>, families: Families) -> Vec<IpAddr> {
    let has = |v4: bool| found.iter().any(|ip| ip.is_ipv4() == v4);
    let only = match families {
        Families::Any => None,
        Families::OnlyV4 => Some(true),
        Families::OnlyV6 => Some(false),
        Families::PreferV4 => has(true).then_some(true),
        Families::PreferV6 => has(false).then_some(false),
    };
    if let Some(v4) = only {
        found.retain(|ip| ip.is_ipv4() == v4);
    }
    found
}
