//! The tabs, and the dials that are dealt out among them.

use std::{
    cmp::Reverse,
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, timeout_at},
};

use super::{
    lines::{Command, Failure, Flow},
    wish::{BrowserError, Wish},
};
use crate::transport::{Ahead, Channel, Credit, TabPlace, ThroughTab};

/// Knows the tabs.
pub struct Hub {
    /// Where a person opens the page.
    address: String,
    state: Mutex<State>,
    /// A tab came, went or woke up, or a tunnel ended.
    changed: Notify,
}

#[derive(Default)]
struct State {
    tabs: Vec<Arc<Tab>>,
    dials: HashMap<u64, Dial>,
    last_number: u64,
}

/// A dial that a tab works on.
struct Dial {
    tab: u64,
    server: Arc<str>,
    news: mpsc::Sender<News>,
}

/// What a dial waits for.
pub(super) enum News {
    /// The tab has begun.
    Started,
    /// The browser connects to the server.
    Dialling,
    /// The server has answered.
    Opened,
    /// It has not.
    Failed(Failure),
    /// The tunnel is here.
    Arrived(Box<Channel>),
    /// The tab has gone.
    Gone,
}

/// A tab that has our page open.
pub(super) struct Tab {
    pub(super) number: u64,
    browser: String,
    flow: Flow,
    commands: mpsc::Sender<Command>,
    tunnels: AtomicUsize,
    awake: AtomicBool,
    credits: Mutex<HashMap<u64, Arc<Credit>>>,
}

/// Room for a tunnel in a tab; a tunnel ends where this is dropped.
pub(super) struct Place {
    hub: Arc<Hub>,
    tab: Arc<Tab>,
    tunnel: u64,
}

/// How long a dial waits for a tab with room: as long as a server may take that is dialled directly.
const TAB_TIMEOUT: Duration = Duration::from_secs(8);

/// How long a tab may take to connect, and so the server behind it
/// (v2fly/v2ray-core `transport/internet/websocket/dialer.go`).
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(8);

/// How long a dial may wait for its turn in the tab: browsers connect to one server one connection after the other
/// (RFC 6455 section 4.1).
pub(super) const TURN_TIMEOUT: Duration = Duration::from_secs(24);

/// A page that runs begins with a dial within milliseconds; after this it counts as asleep.
const STALL: Duration = Duration::from_secs(1);

/// Tabs that may take a dial over from one another.
const MOST_ATTEMPTS: usize = 4;

/// Chromium has 255 sockets of WebSocket for a page and 256 a browser profile, all tabs together (chromium/src
/// `services/network/websocket_factory.cc`, `net/socket/client_socket_pool_manager.cc`); a tunnel takes two, a tab one.
pub(super) const MOST_TUNNELS: usize = 120;

/// More tabs than any person has open.
const MOST_TABS: usize = 64;

/// Commands that wait for a tab to read them; one that lets so many pile up is asleep.
const MOST_COMMANDS: usize = 1024;

/// A dial gets four at most.
const MOST_NEWS: usize = 8;

impl Hub {
    /// Without tabs. `address` is the page's.
    pub fn new(address: String) -> Arc<Self> {
        Arc::new(Self { address, state: Mutex::default(), changed: Notify::new() })
    }

    /// Where a person opens the page.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A connection that a tab makes; its bytes go through the tab from here on.
    pub(super) async fn dial(self: &Arc<Self>, wish: &Wish) -> Result<Channel, BrowserError> {
        let mut attempts = 1..MOST_ATTEMPTS;
        loop {
            let place = self.place().await?;
            match self.attempt(place, wish).await {
                Err(Unmade::Elsewhere(_)) if attempts.next().is_some() => {}
                Err(Unmade::Elsewhere(error) | Unmade::Final(error)) => return Err(error),
                Ok(channel) => return Ok(channel),
            }
        }
    }

    /// Waits until a tab is here that has room.
    ///
    /// # Errors
    /// When none is here in time.
    pub(super) async fn wait_for_tab(self: &Arc<Self>) -> Result<(), BrowserError> {
        self.place().await.map(drop)
    }

    /// Whether a tab is just connecting to `server`, so that a session to the same one may be that tab's own.
    pub(super) fn is_dialling(&self, server: &str) -> bool {
        self.state().dials.values().any(|dial| &*dial.server == server)
    }

    async fn place(self: &Arc<Self>) -> Result<Place, BrowserError> {
        let deadline = Instant::now() + TAB_TIMEOUT;
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            match self.reserve() {
                Ok(place) => return Ok(place),
                Err(error) if timeout_at(deadline, changed).await.is_err() => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Room in the tab that has the fewest tunnels; the newest of equal ones.
    fn reserve(self: &Arc<Self>) -> Result<Place, BrowserError> {
        let mut state = self.state();
        let address = || self.address.clone();
        if state.tabs.is_empty() {
            return Err(BrowserError::NoTab { address: address() });
        }
        let awake = state.tabs.iter().filter(|tab| tab.awake.load(Relaxed));
        let mut awake = awake.peekable();
        if awake.peek().is_none() {
            return Err(BrowserError::Asleep { address: address() });
        }
        let has_room = |tab: &&Arc<Tab>| state.tunnels_of(&tab.browser) < MOST_TUNNELS;
        let least = awake.filter(has_room).min_by_key(|tab| (tab.tunnels(), Reverse(tab.number)));
        let tab = Arc::clone(least.ok_or_else(|| BrowserError::Full { address: address() })?);
        tab.tunnels.fetch_add(1, Relaxed);
        let tunnel = state.next_number();
        Ok(Place { hub: Arc::clone(self), tab, tunnel })
    }

    async fn attempt(&self, place: Place, wish: &Wish) -> Result<Channel, Unmade> {
        let mut deadline = Instant::now() + TURN_TIMEOUT;
        let (mut expected, mut news) = self.expect(&place, wish);
        let tab = &place.tab;
        let asleep = || BrowserError::Asleep { address: self.address.clone() };
        let command =
            Command::Dial { tunnel: place.tunnel, url: wish.url.clone(), protocol: wish.protocol.clone() };
        if !tab.tell(command) {
            return Err(Unmade::Elsewhere(asleep()));
        }
        let given_up_at = Instant::now() + DIAL_TIMEOUT;
        let mut stalls_at = Instant::now() + STALL;
        let (mut started, mut dialling, mut opened, mut tunnel) = (false, false, false, None);
        loop {
            let until = if started { deadline } else { stalls_at.min(deadline) };
            match timeout_at(until, news.recv()).await {
                Ok(Some(News::Started)) => started = true,
                Ok(Some(News::Dialling)) => {
                    (started, dialling) = (true, true);
                    deadline = Instant::now() + DIAL_TIMEOUT;
                }
                Ok(Some(News::Opened)) => (started, opened) = (true, true),
                Ok(Some(News::Arrived(channel))) => tunnel = Some(channel),
                Ok(Some(News::Failed(Failure::Full))) => {
                    return Err(Unmade::Elsewhere(BrowserError::Full { address: self.address.clone() }));
                }
                Ok(Some(News::Failed(why))) => return Err(Unmade::Final(wish.failed(why))),
                Ok(Some(News::Gone) | None) if dialling && wish.early_data => {
                    return Err(Unmade::Final(BrowserError::TabGone));
                }
                Ok(Some(News::Gone) | None) => return Err(Unmade::Elsewhere(BrowserError::TabGone)),
                Err(_) if started => return Err(Unmade::Final(wish.late(dialling))),
                Err(_) => {
                    tab.doze();
                    if Instant::now() >= given_up_at {
                        return Err(Unmade::Final(asleep()));
                    }
                    if self.state().tabs.iter().any(|other| other.awake.load(Relaxed)) {
                        return Err(Unmade::Elsewhere(asleep()));
                    }
                    stalls_at += STALL;
                }
            }
            if let Some(channel) = tunnel.take_if(|_| opened) {
                expected.is_done = true;
                drop(expected);
                return Ok(carried(*channel, place));
            }
        }
    }

    /// Waits for news of a dial, until the guard is dropped.
    fn expect(&self, place: &Place, wish: &Wish) -> (Expected<'_>, mpsc::Receiver<News>) {
        let (sender, news) = mpsc::channel(MOST_NEWS);
        let dial = Dial { tab: place.tab.number, server: Arc::clone(&wish.server), news: sender };
        self.state().dials.insert(place.tunnel, dial);
        let expected =
            Expected { hub: self, tab: Arc::clone(&place.tab), tunnel: place.tunnel, is_done: false };
        (expected, news)
    }

    /// Tells the dial of `tunnel`, if it is still waited for, and if it is that tab's.
    pub(super) fn tell(&self, tunnel: u64, from: Option<&Tab>, news: News) {
        let state = self.state();
        let Some(dial) = state.dials.get(&tunnel) else { return };
        if from.is_none_or(|tab| tab.number == dial.tab) {
            // A tab that says more than there is to say is not listened to.
            let _ = dial.news.try_send(news);
        }
    }

    /// Whether somebody waits for this tunnel.
    pub(super) fn expects(&self, tunnel: u64) -> bool {
        self.state().dials.contains_key(&tunnel)
    }

    /// A tab is here; `None`: there are too many. What it is told comes out of the receiver.
    pub(super) fn join(&self, browser: String, flow: Flow) -> Option<(Arc<Tab>, mpsc::Receiver<Command>)> {
        let mut state = self.state();
        if state.tabs.len() >= MOST_TABS {
            return None;
        }
        let (sender, commands) = mpsc::channel(MOST_COMMANDS);
        let tab = Arc::new(Tab {
            number: state.next_number(),
            browser,
            flow,
            commands: sender,
            tunnels: AtomicUsize::new(0),
            awake: AtomicBool::new(true),
            credits: Mutex::default(),
        });
        state.tabs.push(Arc::clone(&tab));
        drop(state);
        self.changed.notify_waiters();
        Some((tab, commands))
    }

    /// A tab has gone; what it was asked for goes to others.
    pub(super) fn leave(&self, tab: &Tab) {
        let mut state = self.state();
        state.tabs.retain(|other| other.number != tab.number);
        for dial in state.dials.values().filter(|dial| dial.tab == tab.number) {
            let _ = dial.news.try_send(News::Gone);
        }
        drop(state);
        // Its tunnels may outlive the link. What it counts, and what it was asked, it cannot say any more.
        for credit in tab.credits().values() {
            credit.give_up();
        }
    }

    /// A tab has said something.
    pub(super) fn woke(&self, tab: &Tab) {
        if !tab.awake.swap(true, Relaxed) {
            self.changed.notify_waiters();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn tunnels_of(&self, browser: &str) -> usize {
        self.tabs.iter().filter(|tab| tab.browser == browser).map(|tab| tab.tunnels()).sum()
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Why an attempt made no connection.
enum Unmade {
    /// Another tab may.
    Elsewhere(BrowserError),
    Final(BrowserError),
}

/// A dial that is waited for. One that is given up is taken back from the tab.
struct Expected<'a> {
    hub: &'a Hub,
    tab: Arc<Tab>,
    tunnel: u64,
    is_done: bool,
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.hub.state().dials.remove(&self.tunnel);
        if !self.is_done {
            self.tab.tell(Command::Cancel(self.tunnel));
        }
    }
}

/// The tunnel keeps its place, and obeys the tab's credit where the browser has no backpressure.
fn carried(mut channel: Channel, place: Place) -> Channel {
    let credit = Arc::new(Credit::default());
    place.tab.credits().insert(place.tunnel, Arc::clone(&credit));
    let ahead = match place.tab.flow {
        Flow::Browser => Ahead::Unlimited,
        Flow::Credit => Ahead::COUNTED,
    };
    channel.through(ThroughTab::new(credit, ahead, place));
    channel
}

impl TabPlace for Place {
    fn ask(&self, bytes: u64) -> bool {
        self.tab.tell(Command::Finish { tunnel: self.tunnel, bytes })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tab.credits().remove(&self.tunnel);
        self.tab.tunnels.fetch_sub(1, Relaxed);
        self.hub.changed.notify_waiters();
    }
}

impl Tab {
    /// Whether the command will reach it once it reads.
    pub(super) fn tell(&self, command: Command) -> bool {
        self.commands.try_send(command).is_ok()
    }

    /// It does not answer. What it answers to the ping wakes it up.
    pub(super) fn doze(&self) {
        if self.awake.swap(false, Relaxed) {
            self.tell(Command::Ping);
        }
    }

    /// The page has passed on bytes of a tunnel.
    pub(super) fn passed(&self, tunnel: u64, bytes: u64) {
        if let Some(credit) = self.credits().get(&tunnel) {
            credit.add(bytes);
        }
    }

    fn tunnels(&self) -> usize {
        self.tunnels.load(Relaxed)
    }

    fn credits(&self) -> MutexGuard<'_, HashMap<u64, Arc<Credit>>> {
        self.credits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
