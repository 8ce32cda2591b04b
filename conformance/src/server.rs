//! The echo server: what `kosoku -m fuzzingclient` tests.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use wsray_ws::{Role, ServerOptions, Step, server};

use crate::Echo;

/// How long a silent peer is kept, and how long we wait for its end after our close frame.
const PATIENCE: Duration = Duration::from_mins(1);

/// The Date of refusals; a test needs no clock for it.
const DATE: &str = "Thu, 01 Jan 1970 00:00:00 GMT";

/// Accepts connections until the listener fails; each one has a thread.
///
/// # Errors
/// When accepting fails.
pub fn serve(listener: &TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        // A connection that ends badly is the peer's business: the cases end many that way.
        thread::spawn(move || connection(stream));
    }
}

/// One connection from its request to its end.
fn connection(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut buf = vec![0; 64 * 1024];
    let Some(mut rest) = handshake(&mut stream, &mut buf)? else { return Ok(()) };
    let (mut echo, mut out) = (Echo::new(Role::Server), Vec::new());
    loop {
        echo.receive(&mut rest, &mut out, |_| true)?;
        stream.write_all(&out)?;
        out.clear();
        if echo.is_closing() {
            return linger(&mut stream, &mut buf);
        }
        let got = stream.read(&mut buf)?;
        if got == 0 {
            return Ok(());
        }
        rest.clear();
        rest.extend_from_slice(&buf[..got]);
    }
}

/// Reads the request and answers it; the bytes behind the head, or nothing when it was refused.
fn handshake(stream: &mut TcpStream, buf: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
    let options = ServerOptions::default();
    let mut head = Vec::new();
    loop {
        let got = stream.read(buf)?;
        if got == 0 {
            return Ok(None);
        }
        head.extend_from_slice(&buf[..got]);
        match server::request(&head, options.head_limits()) {
            Ok(Step::NeedMore) => {}
            Ok(Step::Done { used, value }) => match options.accept(&value, DATE) {
                Ok(accepted) => {
                    stream.write_all(&accepted.response)?;
                    return Ok(Some(head.split_off(used)));
                }
                Err(refusal) => return stream.write_all(&refusal.response).map(|()| None),
            },
            Err(error) => return stream.write_all(&error.response()).map(|()| None),
        }
    }
}

/// Sends our end and waits for the peer's, so that nothing on the way to it is lost to a reset.
fn linger(stream: &mut TcpStream, buf: &mut [u8]) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    while stream.read(buf)? > 0 {}
    Ok(())
}
