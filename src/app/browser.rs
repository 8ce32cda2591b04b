//! The browser that makes connections: its service, and how outbounds reach it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::task::JoinSet;
use wsray_config::{BrowserService, ClientStream, Diagnostic, SocketOptions, VmessServer};
use wsray_vmess::Target;

use super::{
    listening::cannot_listen,
    outbound::{client_options, scheme},
};
use crate::{
    browser::{BrowserDialer, Hub, Service},
    inbound::{Listener, bind},
    observe::Log,
    stream::Pool,
};

/// The service of the configuration that runs; the same one after a reload, so that tabs stay.
#[derive(Debug, Default)]
pub(super) struct LastingService(Mutex<Option<(SocketAddr, Arc<Service>)>>);

/// What a configuration asks for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    config: BrowserService,
    service: Arc<Service>,
}

/// The service's listener. When it is dropped, so are the tabs.
#[derive(Debug)]
pub(super) struct Served {
    address: SocketAddr,
    _task: JoinSet<()>,
}

impl LastingService {
    /// The one that listens where `config` says.
    pub(super) fn get(&self, config: &BrowserService, pool: &Arc<Pool>, log: &Log) -> Wanted {
        let address = address(config);
        let mut lasting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let service = match &*lasting {
            Some((own, service)) if *own == address => Arc::clone(service),
            _ => {
                let hub = Hub::new(page_address(address));
                let service = Service::new(hub, Arc::clone(pool), log.clone());
                *lasting = Some((address, Arc::clone(&service)));
                service
            }
        };
        Wanted { config: config.clone(), service }
    }
}

impl Wanted {
    pub(super) fn hub(&self) -> &Arc<Hub> {
        self.service.hub()
    }

    /// Where a person opens the page.
    pub(super) fn page(&self) -> &str {
        self.service.address()
    }

    /// Listens, unless `old` does so already.
    pub(super) fn open(&self, old: Option<&Served>) -> Result<Option<Listener>, Diagnostic> {
        let address = address(&self.config);
        if old.is_some_and(|old| old.address == address) {
            return Ok(None);
        }
        let options = SocketOptions::default();
        match bind(address, &options) {
            Ok(listener) => Ok(Some(listener)),
            Err(error) => Err(cannot_listen(&self.config.place, address, &options, &error)),
        }
    }

    pub(super) fn serve(&self, listener: Listener) -> Served {
        let mut task = JoinSet::new();
        if let Listener::Tcp(listener) = listener {
            task.spawn(Arc::clone(&self.service).serve(listener));
        }
        Served { address: address(&self.config), _task: task }
    }
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// Where the page is.
pub(super) fn address(config: &BrowserService) -> SocketAddr {
    SocketAddr::new(config.address, config.port.get())
}

/// Where a browser on this machine finds the page.
fn page_address(listens: SocketAddr) -> String {
    let address = match listens.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}/", SocketAddr::new(address, listens.port()))
}

/// The browser that dials in our place, if the outbound says so.
pub(super) fn dialer(server: &VmessServer, stream: &ClientStream, hub: &Arc<Hub>) -> Option<BrowserDialer> {
    let ws = stream.ws.as_ref().filter(|ws| ws.browser_forwarding.is_some())?;
    let address = stream.browser_host(&server.address).ok()?;
    let host = Target { address, port: server.port.get() };
    let options = client_options(ws, &server.address, server.port, scheme(stream));
    Some(BrowserDialer::new(Arc::clone(hub), scheme(stream), host, options))
}
