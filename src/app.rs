//! From a configuration to a running program.

mod browser;
mod inbound;
mod listening;
mod names;
mod outbound;
mod outbounds;
mod routing;
mod running;

pub use routing::AssetFolders;
pub use running::{Changes, Grace, Running};

use std::{
    num::NonZeroU16,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use inbound::build_inbound;
use outbounds::Ways;
use wsray_config::{Config, Diagnostic};
use wsray_vmess::{Address, Replay, Target};

use crate::{
    dispatch::{Dispatcher, Questions},
    inbound::Inbound,
    memory::Memory,
    observe::Log,
    outbound::Outbound,
    stream::Pool,
    transport::{self, options::Purpose},
    vmess::unix_seconds,
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
                inbound.sniffing.as_ref().map(|config| inbound::sniffing(config, &mut files)).transpose();
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

fn target(address: &Address, port: NonZeroU16) -> Target {
    Target { address: address.clone(), port: port.get() }
}

fn tag(tag: Option<&String>) -> Option<Arc<str>> {
    tag.map(|tag| tag.as_str().into())
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

/// How long stopping may take.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);
