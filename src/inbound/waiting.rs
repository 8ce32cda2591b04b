//! Connections that nobody has vouched for yet: how many there may be, and who goes first when there are too many.
//!
//! A connection takes a [`Seat`] when it is accepted and gives it back once its client is known. When all seats are taken, or
//! all that one address may have, the connection that has waited longest is cut: a client who means it is known within
//! a second, one who only occupies seats is not (compare `MaxStartups` and `PerSourceMaxStartups` in `sshd_config(5)`).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::task::AbortHandle;

/// The connections of one listener that wait to be known.
#[derive(Debug)]
pub(super) struct Waiting {
    limits: Limits,
    table: Mutex<Table>,
}

/// How many connections may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// In all.
    pub(super) total: usize,
    /// From one address: an IPv4 address, or an IPv6 network of 64 bits. This machine's own are not limited, as a front end
    /// sends everybody's connections from there.
    pub(super) per_source: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { total: 8192, per_source: 1024 }
    }
}

impl Limits {
    /// The default, or less where the process may open few files: strangers may have a quarter of them.
    pub(super) fn of_this_process() -> Self {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Self::within(files.unwrap_or(u64::MAX))
    }

    fn within(open_files: u64) -> Self {
        let most = usize::try_from(open_files / 4).unwrap_or(usize::MAX).max(16);
        let default = Self::default();
        Self { total: default.total.min(most), per_source: default.per_source.min(most) }
    }
}

/// A connection's place in the table; dropping it gives the place back.
#[derive(Debug)]
pub struct Seat {
    number: u64,
    waiting: Arc<Waiting>,
}

#[derive(Debug, Default)]
struct Table {
    last: u64,
    /// By number, so the first one has waited longest.
    seats: BTreeMap<u64, Entry>,
    by_source: HashMap<IpAddr, BTreeSet<u64>>,
}

#[derive(Debug)]
struct Entry {
    source: Option<IpAddr>,
    task: Option<AbortHandle>,
}

/// Who had to go for a newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crowded {
    /// All seats were taken.
    Total,
    /// All that one address may have.
    Source,
}

impl Waiting {
    /// Nobody waits yet.
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, table: Mutex::default() })
    }

    /// A seat for a connection from `peer` (`None`: no address, a unix socket), and whether somebody had to go for it.
    pub(super) fn enter(self: &Arc<Self>, peer: Option<IpAddr>) -> (Seat, Option<Crowded>) {
        let source = peer.filter(|peer| !peer.is_loopback()).map(network);
        let mut table = self.lock();
        table.last += 1;
        let number = table.last;
        table.seats.insert(number, Entry { source, task: None });
        let of_source = source.map_or(0, |source| {
            let numbers = table.by_source.entry(source).or_default();
            numbers.insert(number);
            numbers.len()
        });
        let crowded = if of_source > self.limits.per_source {
            Some((Crowded::Source, source.and_then(|source| table.by_source[&source].first().copied())))
        } else if table.seats.len() > self.limits.total {
            Some((Crowded::Total, table.seats.keys().next().copied()))
        } else {
            None
        };
        let gone = crowded.and_then(|(_, oldest)| table.remove(oldest?));
        drop(table);
        if let Some(task) = gone.and_then(|entry| entry.task) {
            task.abort();
        }
        (Seat { number, waiting: Arc::clone(self) }, crowded.map(|(why, _)| why))
    }

    /// Cuts the connection that has waited longest, if there is one.
    pub(super) fn cut_oldest(&self) {
        let mut table = self.lock();
        let oldest = table.seats.keys().next().copied();
        let gone = oldest.and_then(|oldest| table.remove(oldest));
        drop(table);
        if let Some(task) = gone.and_then(|entry| entry.task) {
            task.abort();
        }
    }

    /// The task to abort when the connection with this number has to go.
    pub(super) fn runs(&self, number: u64, task: AbortHandle) {
        if let Some(entry) = self.lock().seats.get_mut(&number) {
            entry.task = Some(task);
        }
    }

    /// How many may wait.
    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// For [`Waiting::runs`].
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.waiting.lock().remove(self.number);
    }
}

impl Table {
    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.seats.remove(&number)?;
        if let Some(source) = entry.source
            && let Some(numbers) = self.by_source.get_mut(&source)
        {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_source.remove(&source);
            }
        }
        Some(entry)
    }
}

/// What one subscriber has: an IPv4 address, or the first 64 bits of an IPv6 one (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const FEW: Limits = Limits { total: 4, per_source: 2 };

    #[test]
    fn strangers_have_a_quarter_of_the_files() {
        assert_eq!(Limits::within(256), Limits { total: 64, per_source: 64 });
        assert_eq!(Limits::within(20_000), Limits { total: 5000, per_source: 1024 });
        assert_eq!(Limits::within(1 << 20), Limits::default());
        assert_eq!(Limits::within(4).total, 16);
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A connection that never becomes known.
    fn stuck(
        waiting: &Arc<Waiting>,
        from: impl Into<Option<IpAddr>>,
    ) -> (tokio::task::JoinHandle<()>, Option<Crowded>) {
        let (seat, crowded) = waiting.enter(from.into());
        let number = seat.number();
        let task = tokio::spawn(async move {
            let _seat = seat;
            pending::<()>().await;
        });
        waiting.runs(number, task.abort_handle());
        (task, crowded)
    }

    async fn is_cut(task: tokio::task::JoinHandle<()>) -> bool {
        tokio::time::timeout(std::time::Duration::from_millis(50), task).await.is_ok()
    }

    #[tokio::test]
    async fn the_longest_waiting_goes_when_all_seats_are_taken() {
        let waiting = Waiting::new(FEW);
        let mut tasks = Vec::new();
        for last in 1..=5 {
            let (task, crowded) = stuck(&waiting, address(&format!("192.0.2.{last}")));
            assert_eq!(crowded, (last == 5).then_some(Crowded::Total));
            tasks.push(task);
        }
        assert_eq!(waiting.lock().seats.len(), 4);
        let mut cut = Vec::new();
        for task in tasks {
            cut.push(is_cut(task).await);
        }
        assert_eq!(cut, [true, false, false, false, false]);
    }

    #[tokio::test]
    async fn an_address_that_takes_too_many_loses_its_own() {
        let waiting = Waiting::new(FEW);
        let (other, _) = stuck(&waiting, address("192.0.2.9"));
        let (first, _) = stuck(&waiting, address("2001:db8::1"));
        let (_second, _) = stuck(&waiting, address("2001:db8::2"));
        let (third, crowded) = stuck(&waiting, address("2001:db8::3"));
        assert_eq!(crowded, Some(Crowded::Source));
        assert!(is_cut(first).await);
        assert!(!is_cut(other).await);
        assert!(!is_cut(third).await);
    }

    #[tokio::test]
    async fn this_machine_and_unix_sockets_have_no_limit_of_their_own() {
        let waiting = Waiting::new(FEW);
        for from in [Some(address("127.0.0.1")), Some(address("127.0.0.1")), Some(address("::1")), None] {
            assert_eq!(stuck(&waiting, from).1, None);
        }
        assert_eq!(waiting.lock().seats.len(), 4);
    }

    #[tokio::test]
    async fn a_seat_that_is_given_back_is_free() {
        let waiting = Waiting::new(FEW);
        for _ in 0..100 {
            let (seat, crowded) = waiting.enter(Some(address("192.0.2.1")));
            assert_eq!(crowded, None);
            drop(seat);
        }
        assert!(waiting.lock().seats.is_empty());
        assert!(waiting.lock().by_source.is_empty());
    }
}
