//! The memory that the process may take. Above it new sessions are refused, so that those that run go on.
//!
//! What counts is resident anonymous memory: the rest of a process (its code, mapped files) the kernel can drop and read
//! again. It is read at most ten times a second.
//!
//! What sessions have given back stays resident for a while, as an allocator keeps it for the next ones. So once the budget
//! is reached, what runs at that moment is remembered, and new sessions are admitted again when a quarter of it has ended,
//! even if the process has not become smaller.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use wsray_config::MemoryBudget;

/// The memory of this process, and how much of it sessions may fill.
#[derive(Debug)]
pub struct Memory(Mutex<State>);

#[derive(Debug)]
struct State {
    /// In bytes; `None`: no limit.
    budget: Option<u64>,
    resident: u64,
    read_at: Option<Instant>,
    /// How many sessions run.
    sessions: u64,
    /// What ran when the budget was reached, see [`load`].
    full: Option<u64>,
}

/// A session that counts until this is dropped.
#[derive(Debug)]
pub struct Admission(Arc<Memory>);

/// There is no room for another session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} MiB of memory are taken and {} may be (policy.system.memoryBudget): new sessions are refused until others end",
    taken >> 20,
    budget >> 20
)]
pub struct Full {
    /// Resident anonymous memory, in bytes.
    taken: u64,
    /// In bytes.
    budget: u64,
}

/// How old a reading may be.
const MOST_AGE: Duration = Duration::from_millis(100);

/// What a session is taken to hold beside its buffers: an idle one in TLS holds about so much.
const SESSION_BYTES: u64 = 16 * 1024;

/// So much always runs (64 sessions), or a budget that the program alone exceeds would serve nobody.
const LEAST_LOAD: u64 = 64 * SESSION_BYTES;

impl Memory {
    /// Nothing runs yet, and there is no budget.
    pub fn new() -> Arc<Self> {
        let state = State { budget: None, resident: 0, read_at: None, sessions: 0, full: None };
        Arc::new(Self(Mutex::new(state)))
    }

    /// From now on.
    pub fn set_budget(&self, budget: MemoryBudget) {
        let mut state = self.lock();
        state.full = None;
        state.budget = match budget {
            MemoryBudget::Unlimited => None,
            MemoryBudget::Bytes(bytes) => Some(bytes.get()),
            MemoryBudget::ThreeQuarters => available().map(|bytes| bytes / 4 * 3),
        };
    }

    /// A place for a session, while `buffers` bytes are lent to those that run.
    ///
    /// # Errors
    /// [`Full`] when the budget is reached.
    pub fn admit(self: &Arc<Self>, buffers: u64) -> Result<Admission, Full> {
        let mut state = self.lock();
        state.has_room(buffers, resident)?;
        state.sessions += 1;
        Ok(Admission(Arc::clone(self)))
    }

    /// Whether a session would be admitted.
    ///
    /// # Errors
    /// As [`Memory::admit`].
    pub fn has_room(&self, buffers: u64) -> Result<(), Full> {
        self.lock().has_room(buffers, resident)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&mut self, buffers: u64, resident: impl Fn() -> Option<u64>) -> Result<(), Full> {
        let Some(budget) = self.budget else { return Ok(()) };
        if self.read_at.is_none_or(|at| at.elapsed() >= MOST_AGE) {
            self.read_at = Some(Instant::now());
            // Where it cannot be read there is no budget.
            self.resident = resident().unwrap_or(0);
        }
        if self.resident <= budget {
            self.full = None;
            return Ok(());
        }
        let load = buffers + self.sessions * SESSION_BYTES;
        let full = *self.full.get_or_insert(load.max(LEAST_LOAD));
        if load < full / 4 * 3 { Ok(()) } else { Err(Full { taken: self.resident, budget }) }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.lock().sessions -= 1;
    }
}

/// Resident anonymous memory of this process in bytes (`proc_pid_statm(5)`): resident pages that are not shared.
fn resident() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = text.split(' ').skip(1).map(|pages| pages.parse::<u64>().ok());
    let (resident, shared) = (pages.next()??, pages.next()??);
    Some(resident.saturating_sub(shared) * u64::try_from(rustix::param::page_size()).ok()?)
}

/// The memory that this process may have at most, in bytes: that of its cgroup, of one above it, or of the machine.
fn available() -> Option<u64> {
    least_limit(|path| fs::read_to_string(path).ok())
}

fn least_limit(read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let cgroups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let of_cgroups = cgroups.lines().filter_map(limit_files).flatten().filter_map(|file| {
        // "max" in version 2; version 1 says a number larger than any machine.
        read(&file)?.trim().parse().ok()
    });
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    });
    of_cgroups.chain(machine).min()
}

/// The files with the limits of a cgroup and of those above it, by its line in `/proc/self/cgroup` (`cgroups(7)`).
fn limit_files(line: &str) -> Option<impl Iterator<Item = PathBuf>> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    let (root, name) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        of_version_1 if of_version_1.split(',').any(|controller| controller == "memory") => {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let folder = Path::new(root).join(path.trim_start_matches('/'));
    let above: Vec<_> = folder.ancestors().take_while(|folder| folder.starts_with(root)).collect();
    Some(above.into_iter().map(|folder| folder.join(name)).collect::<Vec<_>>().into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn state(budget: Option<u64>) -> State {
        State { budget, resident: 0, read_at: None, sessions: 0, full: None }
    }

    /// As if the last reading were old.
    fn asked(state: &mut State, sessions: u64, buffers: u64, resident: u64) -> bool {
        state.sessions = sessions;
        state.read_at = None;
        state.has_room(buffers, || Some(resident)).is_ok()
    }

    #[test]
    fn sessions_are_refused_above_the_budget_and_admitted_below_it() {
        let mut state = state(Some(100 * MIB));
        assert!(asked(&mut state, 1000, 0, 100 * MIB));
        assert!(!asked(&mut state, 1000, 0, 101 * MIB));
        assert!(!asked(&mut state, 1000, 0, 400 * MIB));
        assert!(asked(&mut state, 1000, 0, 99 * MIB));
    }

    #[test]
    fn what_ended_sessions_left_is_for_new_ones() {
        let mut state = state(Some(100 * MIB));
        assert!(!asked(&mut state, 1000, 20 * MIB, 101 * MIB));
        assert!(!asked(&mut state, 999, 20 * MIB, 101 * MIB));
        // The buffers have come back, or the sessions have ended; the process is as large as before.
        assert!(asked(&mut state, 1000, 5 * MIB, 101 * MIB));
        assert!(!asked(&mut state, 1000, 20 * MIB, 101 * MIB));
        assert!(asked(&mut state, 200, 20 * MIB, 101 * MIB));
    }

    #[test]
    fn some_sessions_run_within_any_budget() {
        let mut state = state(Some(MIB));
        assert!(asked(&mut state, 0, 0, 10 * MIB));
        assert!(asked(&mut state, 47, 0, 10 * MIB));
        assert!(!asked(&mut state, 64, 0, 10 * MIB));
    }

    #[test]
    fn without_a_budget_or_a_reading_all_are_admitted() {
        assert!(asked(&mut state(None), 100_000, 0, 1 << 40));
        let mut blind = state(Some(MIB));
        blind.sessions = 100_000;
        assert!(blind.has_room(0, || None).is_ok());
    }

    #[test]
    fn an_ended_session_counts_no_more() {
        let memory = Memory::new();
        let one = memory.admit(0).unwrap();
        assert_eq!(memory.lock().sessions, 1);
        drop(one);
        assert_eq!(memory.lock().sessions, 0);
    }

    fn least(files: &[(&str, &str)]) -> Option<u64> {
        least_limit(|path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path)?;
            Some(found.1.to_owned())
        })
    }

    #[test]
    fn the_least_limit_of_machine_and_cgroups_counts() {
        let machine = ("/proc/meminfo", "MemTotal:        2048 kB\nMemFree:         1024 kB\n");
        assert_eq!(least(&[machine]), Some(2048 * 1024));
        let cgroup = ("/proc/self/cgroup", "0::/system.slice/wsray.service\n");
        let own = ("/sys/fs/cgroup/system.slice/wsray.service/memory.max", "max\n");
        let above = ("/sys/fs/cgroup/system.slice/memory.max", "1000000\n");
        assert_eq!(least(&[machine, cgroup, own]), Some(2048 * 1024));
        assert_eq!(least(&[machine, cgroup, own, above]), Some(1_000_000));
        // A container of its own.
        let inside = [("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/memory.max", "500000\n"), machine];
        assert_eq!(least(&inside), Some(500_000));
        let version_1 = [
            ("/proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/docker/ab\n"),
            ("/sys/fs/cgroup/memory/docker/ab/memory.limit_in_bytes", "300000\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            machine,
        ];
        assert_eq!(least(&version_1), Some(300_000));
        assert_eq!(least(&[]), None);
    }

    #[test]
    fn this_process_has_memory() {
        let taken = resident().unwrap();
        assert!((64 * 1024..1 << 40).contains(&taken), "{taken}");
        assert!(available().unwrap() > taken);
    }
}
