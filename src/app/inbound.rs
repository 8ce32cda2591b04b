//! An inbound, from what its configuration says.

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

use tokio::sync::watch;
use wsray_config::{
    Diagnostic, DoorTarget, Fallback, FallbackSite, ForwardedTrust, Heartbeat, InboundProtocol,
    PacketEncoding, ProxyProtocol, ServerStream, Transparent,
};
use wsray_route::IpSet;
use wsray_vmess::Users;
use wsray_ws::ServerOptions;

use super::{Lasting, routing, tag, target};
use crate::{
    dispatch::Dispatcher,
    inbound::{
        Common, Inbound,
        accounts::Accounts,
        dokodemo::{DokodemoInbound, Door},
        http::HttpInbound,
        socks::{SocksInbound, SocksUdp},
        vmess::{UserName, VmessInbound},
    },
    session::{Mapping, Quota, Sniffing},
    site::Site,
    stream::Pool,
    transport::{Acceptor, Senders, Trust, Visitors, server_config},
};

pub(super) fn build_inbound(
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

pub(super) fn sniffing(
    config: &wsray_config::Sniffing,
    files: &mut routing::Files<'_>,
) -> Result<Arc<Sniffing>, Vec<Diagnostic>> {
    let excluded = routing::domain_set(&config.excluded, files)?;
    Ok(Arc::new(Sniffing { http: config.http, tls: config.tls, route_only: config.route_only, excluded }))
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
