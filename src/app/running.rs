//! A program that runs: what listens, who serves there, and how both change while it runs.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use wsray_config::{Diagnostic, Listen, ListenAt, Networks, SocketOptions, UnixAddress};
use wsray_vmess::UserId;

use super::{App, Lasting, browser, listening};
use crate::{
    inbound::{Connections, Inbound, Listener, SocketFile, serve},
    stream::Pool,
};

/// A program that runs. Dropping it cuts all its sessions.
#[derive(Debug)]
pub struct Running {
    places: HashMap<ListenOn, Served>,
    /// The page for browsers that make connections.
    browser: Option<browser::Served>,
    /// One a listener; one whose listener was closed runs until its connections have ended.
    tasks: JoinSet<()>,
    /// Every inbound that may still have sessions.
    inbounds: Vec<Weak<Inbound>>,
    connections: Connections,
    pool: Arc<Pool>,
    /// Listeners that the process was started with and that nothing uses yet.
    handed_over: Vec<Listener>,
}

/// What one listener listens on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ListenOn {
    Tcp(SocketAddr),
    /// Without a mode: that of its file can change.
    Unix(UnixAddress),
    Udp(SocketAddr),
}

/// A listener's inbound. When it is dropped, nothing more is accepted.
#[derive(Debug)]
struct Served {
    inbound: watch::Sender<Arc<Inbound>>,
    file: Option<SocketFile>,
}

/// A listener that nobody serves yet.
struct Opened {
    listener: Listener,
    file: Option<SocketFile>,
    origin: Origin,
}

/// Where a listener is from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Bound,
    HandedOver,
}

impl Opened {
    /// What cannot be opened again.
    fn give_back(self) -> Option<Listener> {
        (self.origin == Origin::HandedOver).then_some(self.listener)
    }
}

/// What [`Running::replace`] changed.
#[derive(Debug, Default)]
pub struct Changes {
    /// What is listened on now and was not before, in the configuration's order.
    pub opened: Vec<String>,
    /// The other way round.
    pub closed: Vec<String>,
    /// Where a person has to open the page for browsers from now on.
    pub page: Option<String>,
    /// How many VMess users are none any more.
    pub removed_users: usize,
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("running sessions go on, new ones use the new configuration")?;
        for address in &self.opened {
            write!(f, "; listening on {address}")?;
        }
        for address in &self.closed {
            write!(f, "; no longer listening on {address}")?;
        }
        if let Some(page) = &self.page {
            write!(f, "; open {page} in a browser, tabs do not find the new page by themselves")?;
        }
        match self.removed_users {
            0 => Ok(()),
            1 => f.write_str("; the sessions of 1 removed user end"),
            count => write!(f, "; the sessions of {count} removed users end"),
        }
    }
}

/// How long a stop waits for the sessions that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grace {
    /// As long as something moves, at most 10 s.
    WhileBusy,
    /// Until all have ended, at most this long.
    Whole(Duration),
}

/// A stop without a limit of its own waits no longer than this.
const BUSY_LIMIT: Duration = Duration::from_secs(10);

/// When nothing has moved for so long, there is nothing to wait for.
const QUIET: Duration = Duration::from_secs(1);

impl Running {
    /// Nothing runs yet. What of `handed_over` a configuration asks for is used instead of being bound.
    pub fn new(lasting: &Lasting, handed_over: Vec<Listener>) -> Self {
        Self {
            places: HashMap::new(),
            browser: None,
            tasks: JoinSet::new(),
            inbounds: Vec::new(),
            connections: Connections::default(),
            pool: Arc::clone(&lasting.pool),
            handed_over,
        }
    }

    /// Makes `app` what runs: binds what it listens on besides, closes what it does not. Connections that are there go on
    /// as before, except those of VMess users that it does not have.
    ///
    /// # Errors
    /// All addresses that cannot be had; then nothing has changed.
    pub fn replace(&mut self, app: &App) -> Result<Changes, Vec<Diagnostic>> {
        let (mut wrong, mut fresh, mut wanted) = (Vec::new(), Vec::new(), HashMap::new());
        for (listen, inbound) in &app.inbounds {
            for on in all_of(listen, inbound.networks()) {
                let options = &inbound.common().socket;
                if self.places.contains_key(&on) {
                    wrong.extend(listening::cannot_direct(listen, &on, options));
                } else {
                    match self.open(listen, &on, options) {
                        Ok(opened) => fresh.push((on.clone(), opened)),
                        Err(diagnostic) => wrong.push(diagnostic),
                    }
                }
                wanted.insert(on, Arc::clone(inbound));
            }
        }
        let page = app.browser.as_ref().and_then(|browser| {
            browser.open(self.browser.as_ref()).map_err(|diagnostic| wrong.push(diagnostic)).ok()?
        });
        if !wrong.is_empty() {
            self.handed_over.extend(fresh.into_iter().filter_map(|(_, opened)| opened.give_back()));
            return Err(wrong);
        }
        let mut changes = Changes::default();
        self.places.retain(|on, served| {
            let Some(inbound) = wanted.remove(on) else {
                changes.closed.push(on.to_string());
                return false;
            };
            served.inbound.send_replace(inbound);
            true
        });
        self.set_modes(app);
        for (on, opened) in fresh {
            let Some(inbound) = wanted.remove(&on) else { continue };
            changes.opened.push(opened.listener.to_string());
            self.serve(on, opened, inbound);
        }
        match (&app.browser, page) {
            (Some(browser), Some(listener)) => {
                changes.opened.push(listener.to_string());
                changes.closed.extend(self.browser.as_ref().map(browser::Served::to_string));
                changes.page = Some(browser.page().to_owned());
                self.browser = Some(browser.serve(listener));
            }
            (Some(_), None) => {}
            (None, _) => changes.closed.extend(self.browser.take().as_ref().map(browser::Served::to_string)),
        }
        changes.removed_users = self.take_over(app);
        Ok(changes)
    }

    /// Gives the files of sockets that stay the modes that they have now.
    fn set_modes(&self, app: &App) {
        for (listen, inbound) in &app.inbounds {
            let ListenAt::Unix(UnixAddress::File { mode: Some(mode), .. }) = listen.at else { continue };
            for on in all_of(listen, inbound.networks()) {
                if let Some(file) = self.places.get(&on).and_then(|served| served.file.as_ref()) {
                    file.set_mode(mode);
                }
            }
        }
    }

    /// The listeners that the process was started with and that nothing uses.
    pub fn unused(&self) -> impl Iterator<Item = String> {
        self.handed_over.iter().map(ToString::to_string)
    }

    fn open(
        &mut self,
        listen: &Listen,
        on: &ListenOn,
        options: &SocketOptions,
    ) -> Result<Opened, Diagnostic> {
        if let Some(index) = self.handed_over.iter().position(|listener| on.is(listener)) {
            let listener = self.handed_over.swap_remove(index);
            return Ok(Opened { listener, file: None, origin: Origin::HandedOver });
        }
        let (listener, file) = listening::open(listen, on, options)?;
        Ok(Opened { listener, file, origin: Origin::Bound })
    }

    fn serve(&mut self, on: ListenOn, opened: Opened, inbound: Arc<Inbound>) {
        let (sender, receiver) = watch::channel(inbound);
        // Those of listeners that were closed before.
        while self.tasks.try_join_next().is_some() {}
        let set_up = match opened.origin {
            Origin::Bound => Arc::clone(&receiver.borrow().common().socket),
            Origin::HandedOver => Arc::default(),
        };
        self.tasks.spawn(serve(opened.listener, set_up, receiver, self.connections.clone()));
        self.places.insert(on, Served { inbound: sender, file: opened.file });
    }

    /// Ends the sessions of users that `app` does not have; returns how many such users there are.
    fn take_over(&mut self, app: &App) -> usize {
        app.dispatcher.memory.set_budget(app.dispatcher.policy.memory_budget);
        let users: HashSet<UserId> =
            app.inbounds.iter().flat_map(|(_, inbound)| inbound.user_ids()).collect();
        let mut removed = HashSet::new();
        self.inbounds.retain(|old| {
            let Some(old) = old.upgrade() else { return false };
            removed.extend(old.dismiss_all_but(&users));
            true
        });
        for (_, inbound) in &app.inbounds {
            self.inbounds.push(Arc::downgrade(inbound));
        }
        removed.len()
    }

    /// Accepts nothing more and waits for the connections to end: as `grace` says, or until `hurry`. Cuts those that
    /// are left and returns how many they are.
    pub async fn stop(mut self, grace: Grace, hurry: impl Future<Output = ()>) -> usize {
        self.places.clear();
        let pool = Arc::clone(&self.pool);
        let limit = async {
            match grace {
                Grace::Whole(limit) => sleep(limit).await,
                Grace::WhileBusy => drop(timeout(BUSY_LIMIT, quiet(&pool)).await),
            }
        };
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        tokio::select! {
            () = ended => {}
            () = limit => {}
            () = hurry => {}
        }
        self.connections.len()
    }
}

/// Ready when nothing has moved for [`QUIET`].
async fn quiet(pool: &Pool) {
    let mut before = pool.lent();
    loop {
        sleep(QUIET).await;
        let now = pool.lent();
        if now == before {
            return;
        }
        before = now;
    }
}

fn all_of(listen: &Listen, networks: Networks) -> Vec<ListenOn> {
    match &listen.at {
        ListenAt::Ports { address, ports } => {
            let addresses = ports.iter().map(|port| SocketAddr::new(*address, port));
            let both = addresses.flat_map(|address| [ListenOn::Tcp(address), ListenOn::Udp(address)]);
            let wanted = |on: &ListenOn| match on {
                ListenOn::Udp(_) => networks.has_udp(),
                _ => networks.has_tcp(),
            };
            both.filter(wanted).collect()
        }
        ListenAt::Unix(UnixAddress::File { path, .. }) => {
            vec![ListenOn::Unix(UnixAddress::File { path: path.clone(), mode: None })]
        }
        ListenAt::Unix(address) => vec![ListenOn::Unix(address.clone())],
    }
}

impl ListenOn {
    fn is(&self, listener: &Listener) -> bool {
        match self {
            Self::Tcp(address) => listener.is_on(*address),
            Self::Udp(_) => false,
            Self::Unix(UnixAddress::File { path, .. }) => listener.to_string() == *path,
            Self::Unix(UnixAddress::Abstract { name, .. }) => listener.to_string() == format!("@{name}"),
        }
    }
}

impl fmt::Display for ListenOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Udp(address) => write!(f, "{address} (UDP)"),
            Self::Unix(address) => address.fmt(f),
        }
    }
}
