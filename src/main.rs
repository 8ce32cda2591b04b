//! The wsray program: see the library's documentation for the map.

use std::{io::Write as _, process::ExitCode};

use wsray::cli::{self, Environment, Exit, Stop};

fn main() -> ExitCode {
    let environment = Environment::read();
    match cli::parse(std::env::args_os(), &environment) {
        Ok(command) => wsray::run::run(command, &environment).into(),
        Err(stop) => {
            let (Stop::Help(text) | Stop::Usage(text)) = &stop;
            // A reader who has gone has seen enough.
            let _ = match stop.exit() {
                Exit::Done => writeln!(std::io::stdout().lock(), "{text}"),
                _ => writeln!(std::io::stderr().lock(), "{text}"),
            };
            stop.exit().into()
        }
    }
}
