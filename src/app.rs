//! From a configuration to a running program.

mod browser;
mod listening;
mod names;
mod outbounds;
mod routing;
mod running;

pub use routing::AssetFolders;
pub use running::{Changes, Grace, Running};

use std::{
    num::NonZeroU16,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize},
    },
    time::Duration,
};

use outbounds::{Way, Ways};
use tokio::sync::watch;
use wsray_config::{
    ClientStream, ClientWs, Config, Diagnostic, DoorTarget, Fallback, FallbackSite, ForwardedTrust,
    Heartbeat, InboundProtocol, MuxPackets, OutboundProtocol, PacketEncoding, ProxyProtocol, ServerStream,
    Transparent,
};
use wsray_route::IpSet;
use wsray_vmess::{Address, CmdKey, Replay, Target, Users};
use wsray_ws::{
    ClientOptions, ServerOptions,
    client::{Scheme, host_header},
};

use crate::{
    browser::Hub,
    dispatch::{Dispatcher, Questions},
    inbound::{
        Common, Inbound,
        accounts::Accounts,
        dokodemo::{DokodemoInbound, Door},
        http::HttpInbound,
        socks::{SocksInbound, SocksUdp},
        vmess::{UserName, VmessInbound},
    },
    memory::Memory,
    mux,
    observe::Log,
    outbound::{
        DnsOutbound, Freedom, Outbound, OutboundKind, Packets, ProxyKind, ProxyOutbound, ProxyServer,
        VmessOutbound, VmessServer, VmessUser,
    },
    session::{Credentials, Mapping, Quota, Sniffing},
    site::Site,
    stream::Pool,
    transport::{
        self, Acceptor, Connector, Dialer, Ready, Senders, TlsDial, Trust, Visitors, client_config,
        options::Purpose, server_config, server_name,
    },
    vmess::{EndMark, unix_seconds},
};

/// A program that is ready to listen: certificates are read, nothing is bound.
#[derive(Debug)]
pub struct App {
    inbounds: Vec<(wsray_config::Listen, Arc<Inbound>)>,
    browser: Option<browser::Wanted>,
    dispatcher: Arc<Dispatcher>,
}

/// What outlives a reload.
#[derive(Debug)]
pub struct Lasting {
    pool: Arc<Pool>,
    memory: Arc<Memory>,
    /// One for all inbounds: what was recorded at one passes at no other.
    replay: Arc<Mutex<Replay>>,
    last_id: Arc<AtomicU64>,
    browser: browser::LastingService,
}

impl Lasting {
    /// For a process that starts now.
    pub fn new() -> Self {
        Self {
            pool: Pool::new(),
            memory: Memory::new(),
            replay: Arc::new(Mutex::new(Replay::starting_at(unix_seconds()))),
            last_id: Arc::default(),
            browser: browser::LastingService::default(),
        }
    }
}

impl Default for Lasting {
    fn default() -> Self {
        Self::new()
    }
}

impl App {
    /// Reads the certificates, the files of lists in `folders`, and makes everything that does not need a socket.
    ///
    /// # Errors
    /// All that is wrong with files that the configuration names.
    pub fn build(
        config: &Config,
        folders: &AssetFolders,
        log: &Log,
        lasting: &Lasting,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut wrong = Vec::new();
        tell_refused_options(config, log);
        let pool = Arc::clone(&lasting.pool);
        let mut files = routing::Files::new(folders);
        let names =
            names::build_names(config.dns.as_ref(), &mut files).map_err(|refused| wrong.extend(refused));
        let names = Arc::new(names.unwrap_or_default());
        let browser = config.browser.as_ref().map(|service| lasting.browser.get(service, &pool, log));
        let hub = browser.as_ref().map(|browser| Arc::clone(browser.hub()));
        let page = config.browser.as_ref().map(browser::address);
        let ways = Ways {
            names: Arc::clone(&names),
            policy: &config.policy,
            hub,
            page,
            pool: Arc::clone(&pool),
            log,
        };
        let outbounds = ways.build(&config.outbounds, &mut wrong);
        let router =
            routing::build_router(&config.routing, &mut files).map_err(|refused| wrong.extend(refused));
        let dispatcher = Arc::new(Dispatcher {
            outbounds,
            router: router.unwrap_or_default(),
            names,
            turns: config.routing.balancers.iter().map(|_| AtomicU64::new(0)).collect(),
            balancers: config.routing.balancers.clone(),
            policy: config.policy.clone(),
            log: log.clone(),
            pool,
            memory: Arc::clone(&lasting.memory),
            last_id: Arc::clone(&lasting.last_id),
        });
        let mut sniffing: Vec<_> = Vec::new();
        for inbound in &config.inbounds {
            let built =
                inbound.sniffing.as_ref().map(|config| self::sniffing(config, &mut files)).transpose();
            sniffing.push(built.map_err(|refused| wrong.extend(refused)).unwrap_or_default());
        }
        drop(files);
        dispatcher.names.route_through(Arc::new(Questions::new(&dispatcher)));
        let inbounds = config.inbounds.iter().zip(sniffing).map(|(inbound, sniffing)| {
            let built = build_inbound(inbound, sniffing.as_ref(), &dispatcher, lasting)?;
            Ok((inbound.listen.clone(), Arc::new(built)))
        });
        let inbounds = keep(inbounds, &mut wrong);
        if wrong.is_empty() { Ok(Self { inbounds, browser, dispatcher }) } else { Err(wrong) }
    }

    /// The inbounds, in the configuration's order.
    pub fn inbounds(&self) -> impl ExactSizeIterator<Item = &Arc<Inbound>> {
        self.inbounds.iter().map(|(_, inbound)| inbound)
    }

    /// The page that a person has to open in a browser, if a browser makes connections.
    pub fn browser_page(&self) -> Option<&str> {
        self.browser.as_ref().map(browser::Wanted::page)
    }

    /// The outbounds, in the configuration's order.
    pub fn outbounds(&self) -> &[Arc<Outbound>] {
        &self.dispatcher.outbounds
    }
}

/// The good ones; what is wrong with the others is collected.
fn keep<T>(results: impl Iterator<Item = Result<T, Diagnostic>>, wrong: &mut Vec<Diagnostic>) -> Vec<T> {
    results.filter_map(|result| result.map_err(|diagnostic| wrong.push(diagnostic)).ok()).collect()
}

fn sniffing(
    config: &wsray_config::Sniffing,
    files: &mut routing::Files<'_>,
) -> Result<Arc<Sniffing>, Vec<Diagnostic>> {
    let excluded = routing::domain_set(&config.excluded, files)?;
    Ok(Arc::new(Sniffing { http: config.http, tls: config.tls, route_only: config.route_only, excluded }))
}

fn target(address: &Address, port: NonZeroU16) -> Target {
    Target { address: address.clone(), port: port.get() }
}

fn tag(tag: Option<&String>) -> Option<Arc<str>> {
    tag.map(|tag| tag.as_str().into())
}

fn build_inbound(
    config: &wsray_config::Inbound,
    sniffing: Option<&Arc<Sniffing>>,
    dispatcher: &Arc<Dispatcher>,
    lasting: &Lasting,
) -> Result<Inbound, Diagnostic> {
    let pool = Arc::clone(&dispatcher.pool);
    let common = |level: u32| Common {
        tag: tag(config.tag.as_ref()),
        dispatcher: Arc::clone(dispatcher),
        sniffing: sniffing.cloned(),
        level,
        handshake: dispatcher.policy.timeouts(0).handshake,
        socket: Arc::new(config.socket.clone()),
    };
    Ok(match &config.protocol {
        InboundProtocol::Vmess(vmess) => Inbound::Vmess(Box::new(VmessInbound {
            common: common(0),
            acceptor: build_acceptor(&vmess.stream, pool)?,
            site: fallback(&vmess.stream).map(build_site).transpose()?,
            disbelieved: AtomicU64::new(0),
            users: Users::new(vmess.users.iter().map(|user| user.id)),
            names: vmess.users.iter().map(user_name).collect(),
            replay: Arc::clone(&lasting.replay),
            require_encryption: vmess.require_encryption,
        })),
        InboundProtocol::Socks(socks) => Inbound::Socks(build_socks(socks, common(socks.level), pool)),
        InboundProtocol::Http(http) => Inbound::Http(HttpInbound {
            common: common(http.level),
            accounts: accounts(&http.accounts),
            idle_timeout: http.idle_timeout,
            pool,
        }),
        InboundProtocol::Dokodemo(door) => Inbound::Dokodemo(Box::new(DokodemoInbound {
            common: common(door.level),
            door: match (&door.target, config.socket.transparent) {
                (DoorTarget::Fixed(address, port), _) => Door::Fixed(target(address, *port)),
                (DoorTarget::Original { otherwise }, way) => {
                    let otherwise = otherwise.as_ref().map(|(address, port)| target(address, *port));
                    match way {
                        Transparent::Tproxy => Door::Tproxied { otherwise },
                        Transparent::Redirect | Transparent::Off => Door::Redirected { otherwise },
                    }
                }
            },
            networks: door.networks,
            ports: config.listen.ports(),
            idle_timeout: door.idle_timeout,
            pool,
        })),
        InboundProtocol::Mixed(mixed) => Inbound::Mixed(
            build_socks(mixed, common(mixed.level), Arc::clone(&pool)),
            HttpInbound {
                common: common(mixed.level),
                accounts: accounts(&mixed.accounts),
                idle_timeout: None,
                pool,
            },
        ),
    })
}

fn build_socks(config: &wsray_config::SocksInbound, common: Common, pool: Arc<Pool>) -> SocksInbound {
    let udp = config.udp.as_ref().map(|udp| SocksUdp {
        reply_address: udp.reply_address,
        mapping: match udp.packet_encoding {
            PacketEncoding::None => Mapping::PerTarget,
            PacketEncoding::Packet => Mapping::PacketAddr,
        },
    });
    SocksInbound { common, accounts: accounts(&config.accounts), udp, pool }
}

fn user_name(user: &wsray_config::VmessUser) -> UserName {
    UserName {
        id: user.id,
        email: tag(user.email.as_ref()),
        level: user.level,
        muxed: Quota::default(),
        dismissed: watch::Sender::new(false),
    }
}

fn accounts(accounts: &[wsray_config::Account]) -> Accounts {
    Accounts::new(accounts.iter().map(|account| (account.user.as_str(), account.password.as_str())))
}

fn build_acceptor(stream: &ServerStream, pool: Arc<Pool>) -> Result<Acceptor, Diagnostic> {
    Ok(Acceptor {
        proxy_protocol: match &stream.accept_proxy_protocol {
            ProxyProtocol::Off => Senders::Nobody,
            ProxyProtocol::FromAnybody => Senders::Anybody,
            ProxyProtocol::From(networks) => Senders::Only(IpSet::new(networks.iter().copied())),
        },
        tls: stream.tls.as_ref().map(server_config).transpose()?,
        ws: stream
            .ws
            .as_ref()
            .map(|ws| ServerOptions { path: ws.path.clone(), early_data: ws.early_data.clone() }),
        trust: stream.ws.as_ref().map_or(Trust::Nobody, |ws| trust(&ws.forwarded)),
        heartbeat: stream.ws.as_ref().map_or(Heartbeat::Off, |ws| ws.heartbeat),
        visitors: if fallback(stream).is_some() { Visitors::Welcome } else { Visitors::Refused },
        pool,
    })
}

fn fallback(stream: &ServerStream) -> Option<&Fallback> {
    stream.ws.as_ref()?.fallback.as_ref()
}

fn build_site(config: &Fallback) -> Result<Site, Diagnostic> {
    match &config.site {
        FallbackSite::Server(target) => Ok(Site::server(target.clone())),
        FallbackSite::Unix(path) => Ok(Site::unix(path.clone())),
        FallbackSite::Folder(path) => Site::folder(Path::new(path)).map_err(|error| {
            let message = format!("cannot serve the folder {path:?}: {error}");
            Diagnostic::at(&config.place, message).help(
                "write a folder that this user can read, or \"127.0.0.1:8080\" or \"unix:/run/site.sock\" for a web \
                 server",
            )
        }),
    }
}

fn trust(config: &ForwardedTrust) -> Trust {
    match config {
        ForwardedTrust::Nobody => Trust::Nobody,
        ForwardedTrust::ThisMachineAnd(networks) => Trust::this_machine_and(networks.iter().copied()),
    }
}

fn build_outbound(
    config: &wsray_config::Outbound,
    way: &Way,
    pool: &Arc<Pool>,
) -> Result<Outbound, Diagnostic> {
    let Way { dialer, through, target, hub } = way;
    let kind = match &config.protocol {
        OutboundProtocol::Vmess(vmess) => {
            let servers = vmess.servers.iter();
            let servers = servers.map(|server| build_server(server, vmess, dialer, pool, hub.as_ref()));
            OutboundKind::Vmess(VmessOutbound {
                servers: servers.collect::<Result<_, _>>()?,
                next: AtomicUsize::new(0),
            })
        }
        OutboundProtocol::Proxy(proxy) => {
            let servers = proxy.servers.iter().map(|server| {
                let place = (&server.address, server.port);
                Ok(ProxyServer {
                    connector: build_connector(place, &proxy.stream, dialer, pool)?,
                    accounts: server.accounts.iter().map(credentials).collect(),
                })
            });
            OutboundKind::Proxy(ProxyOutbound {
                protocol: proxy_kind(&proxy.protocol),
                servers: servers.collect::<Result<_, _>>()?,
                next: AtomicUsize::new(0),
            })
        }
        OutboundProtocol::Dns(dns) => OutboundKind::Dns(DnsOutbound {
            names: Arc::clone(&dialer.names),
            way: Arc::new(Freedom {
                dialer: dialer.clone(),
                through: through.clone(),
                redirect: None,
                pool: Arc::clone(pool),
            }),
            server: dns.clone(),
        }),
        OutboundProtocol::Freedom(freedom) => OutboundKind::Freedom(Freedom {
            dialer: dialer.clone(),
            through: through.clone(),
            redirect: freedom.redirect.clone(),
            pool: Arc::clone(pool),
        }),
        OutboundProtocol::Blackhole(blackhole) => {
            OutboundKind::Blackhole { http_response: blackhole.http_response }
        }
        OutboundProtocol::Loopback(loopback) => {
            OutboundKind::Loopback { inbound: loopback.inbound.as_str().into() }
        }
    };
    Ok(Outbound { tag: tag(config.tag.as_ref()), target: target.clone(), kind })
}

/// Tells what the kernel refuses of `sockopt`: once, not with every connection.
fn tell_refused_options(config: &Config, log: &Log) {
    let inbounds = config.inbounds.iter().map(|inbound| (&inbound.socket, Purpose::Listen));
    let outbounds = config.outbounds.iter().map(|outbound| (&outbound.dial.socket, Purpose::Connect));
    for (options, purpose) in inbounds.chain(outbounds) {
        let Some(place) = &options.place else { continue };
        for error in transport::options::refused(options, purpose) {
            log.warning(None, "app", format_args!("{}", Diagnostic::at(place, error.to_string())));
        }
    }
}

fn build_server(
    server: &wsray_config::VmessServer,
    outbound: &wsray_config::VmessOutbound,
    dialer: &Dialer,
    pool: &Arc<Pool>,
    hub: Option<&Arc<Hub>>,
) -> Result<VmessServer, Diagnostic> {
    let users = server.users.iter().map(|user| VmessUser {
        cmd_key: CmdKey::new(&user.id),
        security: user.security,
        authenticated_length: user.authenticated_length,
        end_mark: if user.no_end_mark { EndMark::Omitted } else { EndMark::Sent },
        mux: outbound.mux.sessions.map(mux::Client::new),
        packets: match outbound.mux.packets {
            MuxPackets::AsStreams => Packets::AsStreams,
            MuxPackets::Separate => Packets::Separate,
            MuxPackets::Xudp(most) => Packets::Xudp(mux::Client::new(most.get())),
        },
        udp_443: outbound.mux.udp_443,
    });
    let stream = &outbound.stream;
    let connector = build_connector((&server.address, server.port), stream, dialer, pool)?;
    let browser = hub.and_then(|hub| browser::dialer(server, stream, hub));
    let preconnect = stream.ws.as_ref().and_then(|ws| ws.preconnect).filter(|_| browser.is_none());
    Ok(VmessServer {
        ready: preconnect.map(|settings| Ready::new(connector.clone(), settings)),
        connector,
        browser,
        users: users.collect(),
        habits: Arc::default(),
    })
}

fn proxy_kind(config: &wsray_config::ProxyKind) -> ProxyKind {
    match config {
        wsray_config::ProxyKind::Socks5 => ProxyKind::Socks5,
        wsray_config::ProxyKind::Socks4 => ProxyKind::Socks4,
        wsray_config::ProxyKind::Socks4a => ProxyKind::Socks4a,
        wsray_config::ProxyKind::Http(headers) => ProxyKind::Http(headers.clone()),
    }
}

fn credentials(account: &wsray_config::Account) -> Credentials {
    Credentials { user: account.user.clone().into(), password: account.password.clone().into() }
}

fn build_connector(
    (address, port): (&Address, NonZeroU16),
    stream: &ClientStream,
    dialer: &Dialer,
    pool: &Arc<Pool>,
) -> Result<Connector, Diagnostic> {
    let tls = stream.tls.as_ref().map(|tls| {
        Ok::<_, Diagnostic>(TlsDial {
            config: client_config(tls)?,
            early_data: tls.resumption == wsray_config::Resumption::WithEarlyData,
            name: server_name(tls, address)?,
        })
    });
    let ws = stream.ws.as_ref().map(|ws| client_options(ws, address, port, scheme(stream)));
    Ok(Connector {
        server: target(address, port),
        dialer: dialer.clone(),
        tls: tls.transpose()?,
        ws,
        heartbeat: stream.ws.as_ref().map_or(Heartbeat::Off, |ws| ws.heartbeat),
        pool: Arc::clone(pool),
    })
}

fn scheme(stream: &ClientStream) -> Scheme {
    if stream.tls.is_some() { Scheme::Wss } else { Scheme::Ws }
}

fn client_options(ws: &ClientWs, address: &Address, port: NonZeroU16, scheme: Scheme) -> ClientOptions {
    ClientOptions {
        path: ws.path.clone(),
        host: host(&ws.headers, address, port, scheme),
        headers: ws.headers.clone(),
        early_data: ws.early_data.clone(),
    }
}

fn host(headers: &wsray_ws::Headers, address: &Address, port: NonZeroU16, scheme: Scheme) -> String {
    let address = address.to_string();
    host_header(headers, address.trim_matches(['[', ']']), port.get(), scheme)
}

/// How long stopping may take.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);
