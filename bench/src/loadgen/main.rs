//! The load, and the far end, of `bench/run`. Each command prints one JSON object.
//!
//! Everything is blocking threads of the standard library: what loads must not share a fault with what is loaded.

mod endpoint;
mod hop;
mod load;
mod pattern;
mod relay;
mod socks;

use std::{
    collections::HashMap,
    io::{self, Write as _},
    net::SocketAddr,
    process::ExitCode,
    str::FromStr,
};

const USAGE: &str = "\
loadgen COMMAND --option value ...
  endpoint --echo ADDRESS --bulk ADDRESS    the far ends; runs until killed
  relay    --listen ADDRESS [--to ADDRESS]  with --to: SOCKS 5 in, a target prefix out; without: the other end of it
  hop      --listen ADDRESS --to ADDRESS [--round-trip-ms N]   passes bytes on, counts them, and may be long
  bulk     --to ADDRESS --direction down|up --streams N --bytes B [--proxy ADDRESS]
  tunnels  --to ADDRESS --workers N --seconds S [--most N] [--pause-ms N] [--proxy ADDRESS]
  ping     --to ADDRESS --rounds N --size B [--proxy ADDRESS]
  idle     --to ADDRESS --tunnels N [--proxy ADDRESS]   holds them until standard input ends";

#[expect(clippy::print_stderr, reason = "a tool on a terminal")]
fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let done = Arguments::parse(words).and_then(|arguments| match command.as_str() {
        "endpoint" => endpoint::run(&arguments),
        "relay" => relay::run(&arguments),
        "hop" => hop::run(&arguments),
        "bulk" => load::bulk(&arguments),
        "tunnels" => load::tunnels(&arguments),
        "ping" => load::ping(&arguments),
        "idle" => load::idle(&arguments),
        _ => Err(wrong(USAGE)),
    });
    match done {
        // Whoever asked may have gone.
        Ok(json) => writeln!(io::stdout(), "{json}").map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// `--name value` pairs.
struct Arguments(HashMap<String, String>);

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> io::Result<Self> {
        let mut found = HashMap::new();
        while let Some(word) = words.next() {
            let (Some(name), Some(value)) = (word.strip_prefix("--"), words.next()) else {
                return Err(wrong(&format!("{word}: expected --name value")));
            };
            found.insert(name.to_owned(), value);
        }
        Ok(Self(found))
    }

    fn optional<T: FromStr>(&self, name: &str) -> io::Result<Option<T>> {
        let parse =
            |text: &String| text.parse().map_err(|_| wrong(&format!("--{name}: {text:?} is not allowed")));
        self.0.get(name).map(parse).transpose()
    }

    fn needed<T: FromStr>(&self, name: &str) -> io::Result<T> {
        self.optional(name)?.ok_or_else(|| wrong(&format!("--{name} is missing")))
    }

    /// Where to connect, and through which proxy.
    fn route(&self) -> io::Result<socks::Route> {
        Ok(socks::Route { proxy: self.optional::<SocketAddr>("proxy")?, to: self.needed("to")? })
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
