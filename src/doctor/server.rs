//! An inbound of ours, seen from this machine: is its port there, and does a client that fits get through?

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use wsray_config::{
    ClientTls, Heartbeat, PemSource, ProxyProtocol, ServerTls, SocketOptions, Udp443, VmessInbound,
};
use wsray_route::IpSet;
use wsray_vmess::{Address, CmdKey, SecurityChoice, Target};
use wsray_ws::ClientOptions;

use super::{
    PATH, PORT, facts, finish, go, new_check,
    report::{Check, Status, Step},
    scheme,
    walk::{Subject, trusting},
};
use crate::{
    cause::Cause,
    cli::Doctor,
    inbound::{self, Connections, Inbound, Listener},
    outbound::{Packets, VmessUser},
    stream::Pool,
    transport::{Connector, Dialer, TlsDial, client_config, server_name},
    vmess::EndMark,
};

/// What is never seen from the server's own machine.
const UNSEEN: &str = "the firewall, the front end and the way to this machine are not seen from here: run wsray doctor \
    with the client's configuration on the client's machine as well";

/// The PROXY protocol header of somebody on this machine.
const LEAD: &[u8] = b"PROXY TCP4 127.0.0.1 127.0.0.1 40000 443\r\n";

pub(super) async fn examine(
    doctor: &Doctor,
    config: &wsray_config::Inbound,
    vmess: &VmessInbound,
    inbound: &Arc<Inbound>,
) -> Check {
    let stream = &vmess.stream;
    let listen = &config.listen;
    let address = listen.address().zip(listen.ports());
    let address = address.map(|(address, ports)| SocketAddr::new(address, ports.first()));
    let port = address.map(|address| address.port());
    let at = address.map_or_else(|| "unix socket".to_owned(), |address| address.to_string());
    let path = stream.ws.as_ref().map_or("", |ws| ws.path.as_str());
    let user = vmess.users.first().map_or(String::new(), |user| format!(", user {:?}", user.id));
    let title = format!("{}://{at}{path}{user}", scheme(stream.tls.is_some(), stream.ws.is_some()));
    let mut check = new_check(doctor, "inbound", config.tag.clone(), title);
    check.notes.push(UNSEEN);
    check.known.push((PATH, path.split('?').next().unwrap_or_default().to_owned()));
    check.known.extend(port.map(|port| (PORT, port.to_string())));
    if let ProxyProtocol::From(senders) = &stream.accept_proxy_protocol
        && !IpSet::new(senders.iter().copied()).contains(IpAddr::V4(Ipv4Addr::LOCALHOST))
    {
        let text = "only the senders of the PROXY protocol get in, and this machine is none of them";
        check.push(Step::new("port", Status::Warn, text));
    } else if let Some((target, serving)) = there(&mut check, address, &config.socket, inbound).await {
        let tls = stream.tls.as_ref();
        let tls = tls.map(|tls| ClientTls { server_name: wanted_name(tls), ..trusting(&tls.place) });
        let user = vmess.users.first().map(|user| VmessUser {
            cmd_key: CmdKey::new(&user.id),
            security: SecurityChoice::Auto,
            authenticated_length: false,
            end_mark: EndMark::Sent,
            mux: None,
            packets: Packets::AsStreams,
            udp_443: Udp443::Allow,
        });
        if let Some(connector) = connector(vmess, target, tls.as_ref()) {
            let subject = Subject {
                connector: &connector,
                through: None,
                tls: tls.as_ref(),
                lead: if stream.accept_proxy_protocol == ProxyProtocol::Off { &[] } else { LEAD },
                user: user.as_ref(),
                target: doctor.target.as_ref(),
                idle: doctor.idle,
            };
            go(&mut check, &subject).await;
        }
        if serving.0.is_none() {
            suspect_others(&mut check);
        }
    }
    finish(&check);
    check
}

/// A name of the first certificate, where clients that ask for none are refused.
fn wanted_name(tls: &ServerTls) -> Option<Address> {
    let pem = &tls.certificates.first().filter(|_| tls.reject_unknown_sni)?.certificate;
    let text = match &pem.source {
        PemSource::File(path) => std::fs::read(path).ok()?,
        PemSource::Inline(text) => text.clone().into_bytes(),
    };
    let first = CertificateDer::pem_slice_iter(&text).next()?.ok()?;
    let name = facts::certificate(&[first])?.names.first()?.replace('*', "www");
    name.parse().ok()
}

/// Whoever listens on the port may not be this inbound at all: likely where the answer is none that a VMess server gives.
fn suspect_others(check: &mut Check) {
    let failed = check.steps.iter_mut().find(|step| step.status == Status::Fail);
    let Some(causes) = failed.map(|step| &mut step.causes) else { return };
    let is_foreign = matches!(
        causes.first(),
        Some(
            Cause::WebPage
                | Cause::NotHttp
                | Cause::NotVmess
                | Cause::PathUnknownToFront
                | Cause::Redirect { .. }
                | Cause::Forbidden
                | Cause::PasswordWanted
                | Cause::FrontFails { .. }
        )
    );
    if is_foreign {
        *causes = vec![Cause::PortTaken];
    } else {
        causes.push(Cause::PortTaken);
    }
}

/// Why the system gives an inbound no socket; `None` when the message says all there is.
fn of_bind(error: &std::io::Error) -> Option<Cause> {
    match error.kind() {
        std::io::ErrorKind::AddrNotAvailable => Some(Cause::NotOurAddress),
        std::io::ErrorKind::PermissionDenied => Some(Cause::PortForbidden),
        _ => None,
    }
}

/// Stops serving when dropped.
struct Serving(Option<(JoinHandle<()>, watch::Sender<Arc<Inbound>>)>);

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some((task, _)) = &self.0 {
            task.abort();
        }
    }
}

/// Where the inbound can be reached: where it runs already, else in this process, on loopback only.
async fn there(
    check: &mut Check,
    address: Option<SocketAddr>,
    options: &SocketOptions,
    inbound: &Arc<Inbound>,
) -> Option<(SocketAddr, Serving)> {
    let Some(address) = address else {
        let text = "not examined; the inbound is tried in this process";
        check.push(Step::new("unix socket", Status::Ok, text));
        return here(inbound).await;
    };
    match inbound::bind(address, options) {
        Ok(listener) => drop(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let text = format!("somebody listens on {address}; it is taken for this inbound");
            check.push(Step::new("port", Status::Ok, text));
            return Some((reachable(address), Serving(None)));
        }
        Err(error) => {
            let text = format!("cannot listen on {address}: {error}");
            check.push(Step::new("port", Status::Fail, text).causes(of_bind(&error)));
            return None;
        }
    }
    let text = format!("{address} is free; the inbound is tried in this process, on loopback");
    check.push(Step::new("port", Status::Ok, text));
    here(inbound).await
}

/// The inbound on a free port of the loopback interface.
async fn here(inbound: &Arc<Inbound>) -> Option<(SocketAddr, Serving)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?;
    let here = listener.local_addr().ok()?;
    let (sender, receiver) = watch::channel(Arc::clone(inbound));
    let serving = tokio::spawn(inbound::serve(
        Listener::Tcp(listener),
        Arc::default(),
        receiver,
        Connections::default(),
    ));
    Some((here, Serving(Some((serving, sender)))))
}

/// Where this machine reaches what listens on `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The connector of a client that fits the inbound.
fn connector(vmess: &VmessInbound, address: SocketAddr, tls: Option<&ClientTls>) -> Option<Connector> {
    let server = Target::from(address);
    let tls = match tls {
        Some(tls) => {
            let name = server_name(tls, &server.address).ok()?;
            Some(TlsDial { config: client_config(tls).ok()?, name, early_data: false })
        }
        None => None,
    };
    let ws = vmess.stream.ws.as_ref().map(|ws| ClientOptions {
        path: ws.path.clone(),
        host: server.to_string(),
        headers: wsray_ws::Headers::default(),
        early_data: ws.early_data.clone(),
    });
    Some(Connector {
        server,
        dialer: Dialer::default(),
        tls,
        ws,
        heartbeat: Heartbeat::Off,
        pool: Pool::new(),
    })
}
