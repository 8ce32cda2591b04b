//! The command line: what was asked for, and the text of the configuration. Running it is `app`'s.
//!
//! [`parse`] is pure: arguments and [`Environment`] in, [`Command`] out. [`Environment::read`] is the only place
//! of the program that reads environment variables, [`read_sources`] the only one that looks for
//! configuration files.

use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use wsray_config::Format;
use wsray_vmess::Target;

mod environment;
mod flags;
mod sources;
#[cfg(test)]
mod tests;

pub use environment::{Environment, HandedOver};
pub use sources::{MAX_SOURCE_BYTES, ReadError, SourceText, read_sources};

/// What the user wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run this configuration.
    Run(Run),
    /// Say whether this configuration would run.
    Test(Sources),
    /// Print [`version_text`].
    Version,
    /// Print a new user id: [`uuid_text`].
    Uuid,
    /// Run client and server in one process and try them.
    Demo(Demo),
    /// Go the way to the servers of a configuration and say where it breaks.
    Doctor(Doctor),
}

/// What is examined, and how it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doctor {
    /// The configuration.
    pub sources: Sources,
    /// The tag of the only outbound to examine; `None`: all, and the inbounds.
    pub outbound: Option<String>,
    /// Where the tunnel is tried to; `None`: the server itself.
    pub target: Option<Target>,
    /// How long an idle connection is watched; `None`: not at all.
    pub idle: Option<Duration>,
    /// How it is told.
    pub form: ReportForm,
}

/// How findings are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportForm {
    /// Lines for people, as they come.
    Text,
    /// One JSON object at the end (`--json`).
    Json,
}

/// How a configuration runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Where it is.
    pub sources: Sources,
    /// How long a stop (SIGTERM, SIGINT) waits for all sessions to end (`--grace SECONDS`); `None`: as long as something
    /// moves, and not for long.
    pub grace: Option<Duration>,
    /// Whether it is read again when its files change.
    pub watch: Watch,
}

/// Whether files are watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Watch {
    /// A change is taken up by itself, as after SIGHUP.
    #[default]
    Files,
    /// SIGHUP alone (`--no-watch`).
    Nothing,
}

/// Where the configuration is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Named by `-c`, in order.
    pub named: Vec<Named>,
    /// Named by `-confdir`: every file in them whose name ends as the format's do, by name.
    pub directories: Vec<PathBuf>,
    /// The same, named by the environment: nothing where it does not exist.
    pub environment_directory: Option<PathBuf>,
    /// What all of them are written in.
    pub format: Format,
    /// Looked for in this order where there is nothing else; then standard input.
    pub lookup: Vec<PathBuf>,
}

/// A source named by `-c`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A file.
    File(PathBuf),
    /// `stdin:`
    Stdin,
}

/// How the demonstration runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demo {
    /// What happens after the check.
    pub afterwards: Afterwards,
    /// The port of the local proxy on 127.0.0.1; `None`: a free one.
    pub socks_port: Option<u16>,
}

/// What the demonstration does after its check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// Serve until stopped.
    Serve,
    /// Exit (`--once`).
    Exit,
}

/// Nothing to run: a text to print instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The user asked for help: to standard output.
    Help(String),
    /// The arguments are wrong: to standard error.
    Usage(String),
}

impl Stop {
    /// What the program exits with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Help(_) => Exit::Done,
            Self::Usage(_) => Exit::Usage,
        }
    }
}

/// What the program exits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All went well.
    Done = 0,
    /// Anything that fits no other.
    Failed = 1,
    /// Wrong arguments.
    Usage = 2,
    /// The configuration was refused or is not there. Source: V2Ray's `main/main.go`; service files name
    /// it in `RestartPreventExitStatus`.
    Config = 23,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Reads the arguments, the program's name first. V2Ray 4's spellings work too: `-config f`, `-test`,
/// `-version`; and no arguments at all run the configuration that is found.
///
/// # Errors
/// [`Stop`]: help was asked for, or the arguments are wrong.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &Environment,
) -> Result<Command, Stop> {
    flags::parse(arguments, environment)
}

/// The short help, for a user who gave no configuration and has none.
pub fn help_text() -> String {
    flags::help_text()
}

/// What `version` prints, shaped like V2Ray's first line: name, version, what it is, for which system.
pub fn version_text() -> String {
    format!(
        "{} {} (V2Ray's WebSocket transport and VMess) Rust {}/{}",
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}

/// A user id made of 16 random bytes: a UUID of version 4. Source: RFC 9562, section 5.4.
pub fn uuid_text(random: [u8; 16]) -> String {
    let mut number = u128::from_be_bytes(random);
    number = number & !(0xf << 76) | 4 << 76;
    number = number & !(0b11 << 62) | 0b10 << 62;
    let digits = format!("{number:032x}");
    let groups = [0..8, 8..12, 12..16, 16..20, 20..32];
    groups.map(|group| digits.get(group).unwrap_or_default()).join("-")
}
