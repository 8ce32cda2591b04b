//! Serves a configuration until it is told to stop: signals, changed files, the end.

use std::{future::pending, path::PathBuf, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Interval, MissedTickBehavior, interval},
};
use wsray_config::{Config, Diagnostic};

use super::{Files, Loaded, NotLoaded, asset_folders, load, open_log};
use crate::{
    app::{App, Grace, Lasting, Running},
    cli::{Environment, HandedOver, Run, SourceText, Watch},
    inbound::Listener,
    observe::Log,
};

/// A program that runs, and what it was read from.
pub(super) struct Service<'a> {
    asked: &'a Run,
    environment: &'a Environment,
    loaded: Loaded,
    log: Log,
    lasting: Lasting,
    running: Running,
    files: Files,
}

/// What a reload did.
enum Reloaded {
    Yes,
    /// Nothing changed, for these reasons.
    No(Vec<String>),
}

/// How often watched files are looked at. A change is taken up at the second look after it.
const LOOK: Duration = Duration::from_secs(2);

impl<'a> Service<'a> {
    /// Binds everything.
    ///
    /// # Errors
    /// All addresses that cannot be had.
    pub(super) fn start(
        asked: &'a Run,
        environment: &'a Environment,
        loaded: Loaded,
        app: &App,
        lasting: Lasting,
        log: Log,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut running = Running::new(&lasting, handed_over(&log));
        let changes = running.replace(app)?;
        for unused in running.unused() {
            log.warning(
                None,
                "app",
                format_args!("the listener on {unused} that wsray was started with is used by no inbound"),
            );
        }
        for address in changes.opened {
            log.info(None, "app", format_args!("listening on {address}"));
        }
        let files = watched(&loaded.texts, asked, &loaded.config);
        Ok(Self { asked, environment, loaded, log, lasting, running, files })
    }

    /// Serves until a signal says stop, and then for as long as sessions are waited for.
    pub(super) async fn serve(mut self, mut signals: Signals) {
        loop {
            match signals.next(self.asked.watch).await {
                Event::Hangup => self.reload("SIGHUP"),
                Event::Reopen => self.reopen_log(),
                Event::Look => {
                    if let Some(path) = self.files.changed() {
                        let why = format!("{} has changed", path.display());
                        self.reload(&why);
                    }
                }
                Event::Stop(name) => {
                    self.log.info(None, "app", format_args!("stopped by {name}"));
                    break;
                }
            }
        }
        let grace = self.asked.grace.map_or(Grace::WhileBusy, Grace::Whole);
        let cut = self.running.stop(grace, signals.hurry()).await;
        if cut > 0 {
            self.log.info(None, "app", format_args!("{cut} connections were cut"));
        }
    }

    fn reload(&mut self, why: &str) {
        match self.try_reload() {
            Reloaded::Yes => {}
            Reloaded::No(reasons) => {
                for reason in &reasons {
                    self.log.error(None, "app", format_args!("{reason}"));
                }
                self.log.error(
                    None,
                    "app",
                    format_args!("not reloaded ({why}): what ran before goes on running"),
                );
            }
        }
        // What was wrong is not read again before it changes.
        self.files = watched(&self.loaded.texts, self.asked, &self.loaded.config);
    }

    fn try_reload(&mut self) -> Reloaded {
        let loaded = match load(&self.asked.sources, self.loaded.standard_input()) {
            Ok(loaded) => loaded,
            Err(NotLoaded::Unread(error)) => return Reloaded::No(vec![error.to_string()]),
            Err(NotLoaded::Wrong(wrong)) => return refused(&wrong),
        };
        let log = match self.new_log(&loaded.config) {
            Ok(log) => log,
            Err(wrong) => return refused(&[wrong]),
        };
        let folders = asset_folders(self.environment);
        let app = match App::build(&loaded.config, &folders, &log, &self.lasting) {
            Ok(app) => app,
            Err(wrong) => return refused(&wrong),
        };
        let changes = match self.running.replace(&app) {
            Ok(changes) => changes,
            Err(wrong) => return refused(&wrong),
        };
        for warning in &loaded.warnings {
            log.warning(None, "app", format_args!("{}", one_line(warning)));
        }
        log.warning(None, "app", format_args!("reloaded: {changes}"));
        self.log = log;
        self.loaded = loaded;
        Reloaded::Yes
    }

    /// The log that a configuration wants: the one that is open, its files opened again, if nothing else is wanted.
    fn new_log(&self, config: &Config) -> Result<Log, Diagnostic> {
        if config.log != self.loaded.config.log {
            return open_log(&config.log, self.environment);
        }
        self.reopen_log();
        Ok(self.log.clone())
    }

    fn reopen_log(&self) {
        if let Err(error) = self.log.reopen() {
            self.log.error(None, "app", format_args!("{error}; the old one stays in use"));
        }
    }
}

fn refused(wrong: &[Diagnostic]) -> Reloaded {
    Reloaded::No(wrong.iter().map(one_line).collect())
}

/// A message and its help, for a log.
fn one_line(diagnostic: &Diagnostic) -> String {
    let text = diagnostic.to_string();
    let parts: Vec<_> = text.lines().map(str::trim).collect();
    parts.join("; ")
}

/// What a supervisor such as systemd listens on for us.
fn handed_over(log: &Log) -> Vec<Listener> {
    let listener = |handed| match handed {
        HandedOver::Tcp(socket) => Listener::from_tcp(socket),
        HandedOver::Unix(socket) => Listener::from_unix(socket),
    };
    let usable = HandedOver::all().into_iter().map(listener).filter_map(|listener| {
        listener
            .map_err(|error| {
                log.warning(
                    None,
                    "app",
                    format_args!("a socket wsray was started with is of no use: {error}"),
                );
            })
            .ok()
    });
    usable.collect()
}

/// Everything whose change matters.
fn watched(texts: &[SourceText], asked: &Run, config: &Config) -> Files {
    let sources = texts.iter().filter(|text| !text.is_standard_input()).map(|text| PathBuf::from(&text.name));
    let folders = asked.sources.directories.iter().chain(&asked.sources.environment_directory).cloned();
    let certificates = config.certificate_files().map(PathBuf::from);
    Files::new(sources.chain(folders).chain(certificates))
}

/// The signals that a service listens to, and the clock of its looks at files.
pub(super) struct Signals {
    hangup: Signal,
    reopen: Signal,
    interrupt: Signal,
    terminate: Signal,
    clock: Interval,
}

impl Signals {
    /// From here on none of them ends the process by itself.
    pub(super) fn new() -> std::io::Result<Self> {
        let mut clock = interval(LOOK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            clock,
        })
    }

    /// What comes next.
    async fn next(&mut self, watch: Watch) -> Event {
        let look = async {
            match watch {
                Watch::Files => drop(self.clock.tick().await),
                Watch::Nothing => pending().await,
            }
        };
        tokio::select! {
            _ = self.hangup.recv() => Event::Hangup,
            _ = self.reopen.recv() => Event::Reopen,
            _ = self.interrupt.recv() => Event::Stop("SIGINT"),
            _ = self.terminate.recv() => Event::Stop("SIGTERM"),
            () = look => Event::Look,
        }
    }

    /// Ready when stop is said once more.
    async fn hurry(&mut self) {
        while !matches!(self.next(Watch::Nothing).await, Event::Stop(_)) {}
    }
}

/// What a service reacts to.
enum Event {
    /// Reload.
    Hangup,
    /// Open the log's files again.
    Reopen,
    /// It is time to look at the files.
    Look,
    /// Stop, by the signal of this name.
    Stop(&'static str),
}
