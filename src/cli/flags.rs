//! The flags, in our spelling and in V2Ray 4's.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{
    CommandFactory as _, Parser,
    error::{ContextKind, ErrorKind},
};
use wsray_config::Format;
use wsray_vmess::{Address, Target};

use super::{Afterwards, Command, Demo, Doctor, Environment, Named, ReportForm, Run, Sources, Stop, Watch};

/// The name of a configuration file that nobody named.
const DEFAULT_FILE: &str = "config.json";

/// The names of standard input for `-c`. Source: V2Ray 4 (`main/main.go`) for the first.
const STDIN: [&str; 2] = ["stdin:", "-"];

/// Long flags that V2Ray users write with one dash.
const LONG_FLAGS: [&str; 14] = [
    "config",
    "confdir",
    "format",
    "test",
    "grace",
    "no-watch",
    "version",
    "help",
    "once",
    "socks-port",
    "outbound",
    "target",
    "idle",
    "json",
];

const EXAMPLES: &str = "\
Examples:
  wsray demo                    try everything on this machine, without a configuration
  wsray run -c config.json      run a V2Ray configuration
  wsray test -c config.json     say whether it would run
  wsray doctor -c config.json   say where the way to its server breaks, and what to change
  wsray -config=config.json     V2Ray 4's spellings work, too: -config, -test, -version

Without -c: ./config.json, then config.json in $V2RAY_LOCATION_CONFIG (or beside the program), then
standard input. Exit codes: 0 done, 2 wrong arguments, 23 configuration refused, 1 anything else.";

/// V2Ray's WebSocket transport and VMess, client and server, run from V2Ray's own configuration.
#[derive(Parser)]
#[command(name = "wsray", after_help = EXAMPLES, args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Flags {
    #[command(subcommand)]
    command: Option<Subcommand>,
    #[command(flatten)]
    run: RunFlags,
    /// Print the version.
    #[arg(long)]
    version: bool,
}

#[derive(clap::Subcommand)]
enum Subcommand {
    /// Run a configuration.
    Run(RunFlags),
    /// Say whether a configuration would run: `Configuration OK.`, or what to write instead.
    Test(SourceFlags),
    /// Print the version.
    Version,
    /// Print a new user id.
    Uuid,
    /// Run client and server on this machine, send data through both, say what to try.
    Demo(DemoFlags),
    /// Go the way to every VMess server of a configuration, or to its VMess inbounds: name, TCP, TLS, upgrade, clock,
    /// VMess, early data. Says which step fails, why, and what to write where. Exit codes: 0 all is well, 1 something
    /// is not, 2 wrong arguments or configuration.
    Doctor(DoctorFlags),
}

#[derive(clap::Args)]
struct RunFlags {
    #[command(flatten)]
    sources: SourceFlags,
    /// Only say whether the configuration would run.
    #[arg(long)]
    test: bool,
    /// When stopped (SIGTERM, Ctrl-C), wait up to so many seconds for all sessions to end; a second signal ends them at
    /// once [default: as long as something moves, at most 10].
    #[arg(long, value_name = "SECONDS")]
    grace: Option<u16>,
    /// Read the configuration and certificates again only at SIGHUP, not when their files change.
    #[arg(long)]
    no_watch: bool,
}

#[derive(clap::Args)]
struct SourceFlags {
    /// A configuration file; `stdin:` is standard input. May be given again: a later one replaces the blocks it
    /// has, a single inbound or outbound in it joins the others.
    #[arg(short, long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// A directory: every configuration file in it, by name. May be given again.
    #[arg(short = 'd', long, value_name = "DIR")]
    confdir: Vec<PathBuf>,
    /// The format: auto (by the file's name), json (V2Ray 4's), jsonv5 (V2Ray 5's own), yaml or toml.
    #[arg(long, value_name = "FORMAT", default_value = "auto", value_parser = parse_format)]
    format: Format,
}

#[derive(clap::Args)]
struct DemoFlags {
    /// Exit after the check instead of serving until stopped.
    #[arg(long)]
    once: bool,
    /// The port of the local SOCKS and HTTP proxy [default: a free one].
    #[arg(long, value_name = "PORT")]
    socks_port: Option<u16>,
}

#[derive(clap::Args)]
struct DoctorFlags {
    #[command(flatten)]
    sources: SourceFlags,
    /// Examine only the outbound with this tag.
    #[arg(long, value_name = "TAG")]
    outbound: Option<String>,
    /// Where the tunnel is tried to [default: the server itself].
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_target)]
    target: Option<Target>,
    /// Watch an idle connection for so long, to see whether something cuts it.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    idle: Option<u64>,
    /// Tell everything as one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &Environment,
) -> Result<Command, Stop> {
    let flags = Flags::try_parse_from(with_two_dashes(arguments)).map_err(|error| stop(&error))?;
    match flags.command {
        _ if flags.version => Ok(Command::Version),
        None => flags.run.command(environment),
        Some(Subcommand::Run(run)) => run.command(environment),
        Some(Subcommand::Test(sources)) => sources.sources(environment).map(Command::Test),
        Some(Subcommand::Version) => Ok(Command::Version),
        Some(Subcommand::Uuid) => Ok(Command::Uuid),
        Some(Subcommand::Demo(DemoFlags { once, socks_port })) => {
            let afterwards = if once { Afterwards::Exit } else { Afterwards::Serve };
            Ok(Command::Demo(Demo { afterwards, socks_port }))
        }
        Some(Subcommand::Doctor(doctor)) => doctor.command(environment),
    }
}

pub(super) fn help_text() -> String {
    Flags::command().render_help().to_string()
}

impl RunFlags {
    fn command(self, environment: &Environment) -> Result<Command, Stop> {
        let sources = self.sources.sources(environment)?;
        if self.test {
            return Ok(Command::Test(sources));
        }
        let grace = self.grace.map(|seconds| Duration::from_secs(seconds.into()));
        let watch = if self.no_watch { Watch::Nothing } else { Watch::Files };
        Ok(Command::Run(Run { sources, grace, watch }))
    }
}

impl DoctorFlags {
    fn command(self, environment: &Environment) -> Result<Command, Stop> {
        Ok(Command::Doctor(Doctor {
            sources: self.sources.sources(environment)?,
            outbound: self.outbound,
            target: self.target,
            idle: self.idle.map(Duration::from_secs),
            form: if self.json { ReportForm::Json } else { ReportForm::Text },
        }))
    }
}

impl SourceFlags {
    fn sources(self, environment: &Environment) -> Result<Sources, Stop> {
        let named: Result<_, _> = self.config.into_iter().map(parse_name).collect();
        // A directory on the command line wins over one in the environment.
        let environment_directory = environment.confdir.clone().filter(|_| self.confdir.is_empty());
        let beside = environment.config_dir.as_ref().or(environment.program_dir.as_ref());
        let lookup = [Some(PathBuf::from(DEFAULT_FILE)), beside.map(|dir| dir.join(DEFAULT_FILE))];
        Ok(Sources {
            named: named?,
            directories: self.confdir,
            environment_directory,
            format: self.format,
            lookup: lookup.into_iter().flatten().collect(),
        })
    }
}

fn parse_name(name: PathBuf) -> Result<Named, Stop> {
    if STDIN.iter().any(|stdin| name.as_os_str() == *stdin) {
        return Ok(Named::Stdin);
    }
    let text = name.to_string_lossy();
    if text.starts_with("http://") || text.starts_with("https://") {
        let message =
            "error: a configuration is not loaded from a URL\n  help: download it, then name the file\n";
        return Err(Stop::Usage(message.into()));
    }
    Ok(Named::File(name))
}

fn parse_target(text: &str) -> Result<Target, String> {
    let (host, port) = text.rsplit_once(':').ok_or("expected host:port")?;
    let address = host.parse::<Address>().map_err(|error| error.to_string())?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or("expected a port from 1 to 65535")?;
    Ok(Target { address, port })
}

fn parse_format(format: &str) -> Result<Format, String> {
    match format.to_ascii_lowercase().as_str() {
        "auto" => Ok(Format::Auto),
        "json" | "jsonc" => Ok(Format::Json),
        "jsonv5" => Ok(Format::JsonV5),
        "yaml" | "yml" => Ok(Format::Yaml),
        "toml" => Ok(Format::Toml),
        "pb" | "protobuf" | "v2jsonpb" => {
            Err("expected auto, json, jsonv5, yaml or toml: write the configuration as text".into())
        }
        _ => Err("expected auto, json, jsonv5, yaml or toml".into()),
    }
}

/// Gives long flags with one dash, as V2Ray 4 spells them, their second one.
fn with_two_dashes(arguments: impl IntoIterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut is_rest = false;
    arguments.into_iter().map(move |argument| {
        is_rest |= argument == "--";
        let text = argument.to_str().unwrap_or_default();
        let name = text.strip_prefix('-').and_then(|flag| flag.split('=').next()).unwrap_or_default();
        if is_rest || !LONG_FLAGS.contains(&name) { argument } else { format!("-{text}").into() }
    })
}

fn stop(error: &clap::Error) -> Stop {
    let text = error.to_string();
    if error.kind() == ErrorKind::DisplayHelp {
        return Stop::Help(text);
    }
    let file = |kind| error.get(kind).map(ToString::to_string).filter(|name| is_configuration(name.as_ref()));
    Stop::Usage(if let Some(file) = file(ContextKind::InvalidSubcommand) {
        format!("error: {file} is no command\n  help: write wsray run -c {file}\n")
    } else if let Some(file) = file(ContextKind::InvalidArg) {
        format!("error: {file} has no -c before it\n  help: write -c {file}\n")
    } else {
        text
    })
}

fn is_configuration(name: &Path) -> bool {
    name.extension()
        .map(OsStr::to_ascii_lowercase)
        .is_some_and(|end| ["json", "jsonc", "yaml", "yml", "toml"].iter().any(|format| end == *format))
}
