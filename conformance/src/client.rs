//! The echo client: what `kosoku -m fuzzingserver` tests.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use wsray_ws::{
    ClientOptions, Headers, Path, Role, Step,
    client::{Scheme, host_header, response},
};

use crate::Echo;

/// How long a case may stay silent.
const PATIENCE: Duration = Duration::from_mins(1);

/// The name under which the reports are filed.
const AGENT: &str = "wsray";

/// Runs every case the fuzzing server at `address` has, then has it write its reports. Returns their number.
///
/// # Errors
/// When the server does not answer, or its number of cases is no number. A case that ends badly is no error: the
/// report says so.
pub fn drive(address: SocketAddr) -> io::Result<usize> {
    let mut answer = Vec::new();
    let ended = run(address, "/getCaseCount", |message| {
        answer = message.to_vec();
        false
    });
    // kosoku may reset the connection behind its answer: only without one that is an error.
    if answer.is_empty() {
        ended?;
    }
    let count = std::str::from_utf8(&answer).ok().and_then(|text| text.trim().parse().ok());
    let count: usize = count.ok_or_else(|| io::Error::other("the case count is no number"))?;
    for case in 1..=count {
        let _ = run(address, &format!("/runCase?case={case}&agent={AGENT}"), |_| true);
    }
    // How this connection ends says nothing either: whether the reports were written is for the caller to see.
    let _ = run(address, &format!("/updateReports?agent={AGENT}"), |_| false);
    Ok(count)
}

/// One connection from its request to its end.
fn run(address: SocketAddr, path: &str, mut on_message: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut rest = handshake(&mut stream, address, path)?;
    let (mut echo, mut out, mut buf) = (Echo::new(Role::Client), Vec::new(), vec![0; 64 * 1024]);
    loop {
        echo.receive(&mut rest, &mut out, &mut on_message)?;
        stream.write_all(&out)?;
        out.clear();
        // The server closes the connection first (RFC 6455 section 7.1.1): what comes until then is dropped.
        let got = stream.read(&mut buf)?;
        if got == 0 {
            return Ok(());
        }
        rest.clear();
        rest.extend_from_slice(&buf[..got]);
    }
}

/// Asks for the upgrade; the bytes behind the answer.
fn handshake(stream: &mut TcpStream, address: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let headers = Headers::default();
    let options = ClientOptions {
        path: Path::new(path).map_err(io::Error::other)?,
        host: host_header(&headers, &address.ip().to_string(), address.port(), Scheme::Ws),
        headers,
        early_data: None,
    };
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    stream.write_all(&options.request(key, &[]).0)?;
    let (mut head, mut buf) = (Vec::new(), [0; 4096]);
    loop {
        let got = stream.read(&mut buf)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&buf[..got]);
        if let Step::Done { used, .. } = response(&head, key).map_err(io::Error::other)? {
            return Ok(head.split_off(used));
        }
    }
}
