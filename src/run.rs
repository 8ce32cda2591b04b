//! What the commands do.

use std::io::{self, Write};

use tokio::signal::unix::{SignalKind, signal};
use wsray_config::{Config, Diagnostic, Options, Source};

use crate::{
    app::{App, AssetFolders, STOP_TIMEOUT},
    cli::{self, Command, Environment, Exit, Sources},
    demo,
    observe::{Log, LogSettings, Zone},
};

/// Does what was asked for.
pub fn run(command: Command, environment: &Environment) -> Exit {
    match command {
        Command::Run(sources) => run_configuration(&sources, environment),
        Command::Test(sources) => test_configuration(&sources, environment),
        Command::Version => say(&cli::version_text()),
        Command::Uuid => say(&cli::uuid_text(rand::random())),
        Command::Demo(demo) => demo::run(demo),
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

/// Reads and checks everything short of listening: what `test` accepts, `run` accepts.
fn load(sources: &Sources) -> Result<Config, Exit> {
    let texts = cli::read_sources(sources).map_err(|error| {
        complain(&error);
        Exit::Config
    })?;
    let format = sources.format;
    let sources: Vec<_> =
        texts.iter().map(|source| Source { format, ..Source::new(&source.name, &source.text) }).collect();
    match wsray_config::load(&sources, &Options { variable: &Environment::variable }) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                complain(&format_args!("warning: {warning}"));
            }
            Ok(loaded.config)
        }
        Err(wrong) => Err(refuse(&wrong)),
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
    let config = match load(sources) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    match App::build(&config, &asset_folders(environment), &Log::off()) {
        Ok(_) => say("Configuration OK."),
        Err(wrong) => refuse(&wrong),
    }
}

fn run_configuration(sources: &Sources, environment: &Environment) -> Exit {
    say(&cli::version_text());
    let config = match load(sources) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let log = match open_log(&config.log, environment) {
        Ok(log) => log,
        Err(wrong) => return refuse(&[wrong]),
    };
    let app = match App::build(&config, &asset_folders(environment), &log) {
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
    let exit = runtime.block_on(serve(app, &log));
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

async fn serve(app: App, log: &Log) -> Exit {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        complain(&"wsray: cannot listen to signals");
        return Exit::Failed;
    };
    let listening = match app.bind() {
        Ok(listening) => listening,
        Err(wrong) => {
            for diagnostic in &wrong {
                complain(&format_args!("error: {diagnostic}"));
            }
            return Exit::Failed;
        }
    };
    for address in listening.addresses() {
        log.info(None, "app", format_args!("listening on {address}"));
    }
    log.warning(None, "app", format_args!("wsray {} started", env!("CARGO_PKG_VERSION")));
    tokio::select! {
        () = listening.serve() => {}
        _ = interrupt.recv() => log.info(None, "app", format_args!("stopped by SIGINT")),
        _ = terminate.recv() => log.info(None, "app", format_args!("stopped by SIGTERM")),
    }
    Exit::Done
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
