//! An outbound, from what its configuration says and from its way to others.

use std::{
    num::NonZeroU16,
    sync::{Arc, atomic::AtomicUsize},
};

use wsray_config::{ClientStream, ClientWs, Diagnostic, Heartbeat, MuxPackets, OutboundProtocol};
use wsray_vmess::{Address, CmdKey};
use wsray_ws::{
    ClientOptions,
    client::{Scheme, host_header},
};

use super::{browser, outbounds::Way, tag, target};
use crate::{
    browser::Hub,
    mux,
    outbound::{
        DnsOutbound, Freedom, Outbound, OutboundKind, Packets, ProxyKind, ProxyOutbound, ProxyServer,
        VmessOutbound, VmessServer, VmessUser,
    },
    session::Credentials,
    stream::Pool,
    transport::{Connector, Dialer, Ready, TlsDial, client_config, server_name},
    vmess::EndMark,
};

pub(super) fn build_outbound(
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

pub(super) fn scheme(stream: &ClientStream) -> Scheme {
    if stream.tls.is_some() { Scheme::Wss } else { Scheme::Ws }
}

pub(super) fn client_options(
    ws: &ClientWs,
    address: &Address,
    port: NonZeroU16,
    scheme: Scheme,
) -> ClientOptions {
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
