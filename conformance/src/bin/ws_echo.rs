//! The echo peer from the command line: `ws_echo serve 127.0.0.1:9001` or `ws_echo drive 127.0.0.1:9002`.

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpListener},
    process::ExitCode,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "ws_echo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> io::Result<()> {
    let usage = || io::Error::other("usage: ws_echo serve|drive ADDRESS:PORT");
    let [command, address] = arguments else { return Err(usage()) };
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    match *command {
        "serve" => wsray_conformance::serve(&TcpListener::bind(address)?),
        "drive" => {
            let cases = wsray_conformance::drive(address)?;
            writeln!(io::stdout(), "{cases} cases run; the fuzzing server has the reports")
        }
        _ => Err(usage()),
    }
}
