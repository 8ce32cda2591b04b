//! What the commands do.

mod files;
mod secrets;
mod service;

use std::io::{self, Write};

use wsray_config::{Config, Diagnostic, Options, Source};

use self::{
    files::Files,
    service::{Service, Signals},
};
use crate::{
    app::{App, AssetFolders, Lasting, STOP_TIMEOUT},
    cli::{self, Command, Doctor, Environment, Exit, Run, SourceText, Sources},
    demo, doctor,
    observe::{Log, LogSettings, Zone},
};

/// Does what was asked for.
pub fn run(command: Command, environment: &Environment) -> Exit {
    match command {
        Command::Run(run) => run_configuration(&run, environment),
        Command::Test(sources) => test_configuration(&sources, environment),
        Command::Version => say(&cli::version_text()),
        Command::Uuid => say(&cli::uuid_text(rand::random())),
        Command::Demo(demo) => demo::run(demo),
        Command::Doctor(doctor) => examine(&doctor, environment),
    }
}

/// Prints to standard output; somebody who closes it early has seen enough.
fn say(text: &str) -> Exit {
    let _ = writeln!(io::stdout().lock(), "{text}");
    Exit::Done
}

fn complain(text: &dyn std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A configuration that was accepted.
struct Loaded {
    config: Config,
    warnings: Vec<Diagnostic>,
    texts: Vec<SourceText>,
}

impl Loaded {
    /// What came from standard input, which cannot be read again.
    fn standard_input(&self) -> Option<&SourceText> {
        self.texts.iter().find(|text| text.is_standard_input())
    }
}

/// Why a configuration was not loaded.
enum NotLoaded {
    Unread(cli::ReadError),
    Wrong(Vec<Diagnostic>),
}

/// Reads and checks everything short of listening: what `test` accepts, `run` accepts. Standard input is `kept`, if it was
/// read before.
fn load(sources: &Sources, kept: Option<&SourceText>) -> Result<Loaded, NotLoaded> {
    let texts = cli::read_sources(sources, kept).map_err(NotLoaded::Unread)?;
    let format = sources.format;
    let parts: Vec<_> =
        texts.iter().map(|source| Source { format, ..Source::new(&source.name, &source.text) }).collect();
    let loaded = wsray_config::load(&parts, &Options { variable: &Environment::variable });
    let loaded = loaded.map_err(NotLoaded::Wrong)?;
    Ok(Loaded { config: loaded.config, warnings: loaded.warnings, texts })
}

/// [`load`] at the start, where people read what is wrong on standard error.
fn load_first(sources: &Sources) -> Result<Loaded, Exit> {
    match load(sources, None) {
        Ok(loaded) => {
            for warning in loaded.warnings.iter().chain(&secrets::readable_by_everybody(&loaded.config)) {
                complain(&format_args!("warning: {warning}"));
            }
            Ok(loaded)
        }
        Err(NotLoaded::Unread(error)) => {
            complain(&error);
            Err(Exit::Config)
        }
        Err(NotLoaded::Wrong(wrong)) => Err(refuse(&wrong)),
    }
}

fn asset_folders(environment: &Environment) -> AssetFolders {
    AssetFolders::new(environment.asset_dir.as_deref(), environment.program_dir.as_deref())
}

fn refuse(wrong: &[Diagnostic]) -> Exit {
    for diagnostic in wrong {
        complain(&format_args!("error: {diagnostic}"));
    }
    let s = if wrong.len() == 1 { "" } else { "s" };
    complain(&format_args!("wsray: the configuration is refused ({} error{s})", wrong.len()));
    Exit::Config
}

fn test_configuration(sources: &Sources, environment: &Environment) -> Exit {
    let loaded = match load_first(sources) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    match App::build(&loaded.config, &asset_folders(environment), &Log::off(), &Lasting::new()) {
        Ok(_) => {
            for advice in loaded.config.advice() {
                complain(&format_args!("note: {advice}"));
            }
            say("Configuration OK.")
        }
        Err(wrong) => refuse(&wrong),
    }
}

/// A configuration that cannot be used is a wrong argument here.
fn examine(doctor: &Doctor, environment: &Environment) -> Exit {
    let Ok(loaded) = load_first(&doctor.sources) else { return Exit::Usage };
    match App::build(&loaded.config, &asset_folders(environment), &Log::off(), &Lasting::new()) {
        Ok(app) => doctor::run(doctor, &loaded.config, &app),
        Err(wrong) => {
            refuse(&wrong);
            Exit::Usage
        }
    }
}

fn run_configuration(run: &Run, environment: &Environment) -> Exit {
    say(&cli::version_text());
    let loaded = match load_first(&run.sources) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let log = match open_log(&loaded.config.log, environment) {
        Ok(log) => log,
        Err(wrong) => return refuse(&[wrong]),
    };
    let lasting = Lasting::new();
    let app = match App::build(&loaded.config, &asset_folders(environment), &log, &lasting) {
        Ok(app) => app,
        Err(wrong) => return refuse(&wrong),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format_args!("wsray: cannot start: {error}"));
            return Exit::Failed;
        }
    };
    raise_file_limit();
    let exit = runtime.block_on(async {
        let Ok(signals) = Signals::new() else {
            complain(&"wsray: cannot listen to signals");
            return Exit::Failed;
        };
        match Service::start(run, environment, loaded, &app, lasting, log.clone()) {
            Ok(service) => {
                log.warning(None, "app", format_args!("wsray {} started", env!("CARGO_PKG_VERSION")));
                if let Some(page) = app.browser_page() {
                    let what = format_args!(
                        "open {page} in a browser and keep that tab open: it makes the connections"
                    );
                    log.warning(None, "browser", what);
                }
                service.serve(signals).await;
                Exit::Done
            }
            Err(wrong) => {
                for diagnostic in &wrong {
                    complain(&format_args!("error: {diagnostic}"));
                }
                Exit::Failed
            }
        }
    });
    // Sessions that were running are reset, so that nobody takes what came for the whole.
    runtime.shutdown_timeout(STOP_TIMEOUT);
    // A log that cannot be written any more must not keep us.
    let _ = log.flush();
    exit
}

/// Lets the process open as many files as it may: each session takes two, and services start with 1,024. Go's runtime,
/// and so V2Ray, does the same (golang/go `src/os/rlimit.go`).
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // Where it may not be raised, it stays.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

fn open_log(log: &wsray_config::Log, environment: &Environment) -> Result<Log, Diagnostic> {
    let settings = LogSettings::from_config(log, Zone::from_tz(environment.tz.as_deref()));
    Log::open(settings).map_err(|error| {
        let source =
            std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
        Diagnostic::general(format!("{error}{source}"))
            .help("make the folder, and give the user that wsray runs as the right to write there")
    })
}
