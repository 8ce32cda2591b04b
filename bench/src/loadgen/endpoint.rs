//! The far ends. Echo: what comes goes back. Bulk: 17 bytes come (`D` or `U`, length, offset in the pattern, both
//! little-endian); down, that much of the pattern follows; up, it is read and judged with one byte, `1` or `0`.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use crate::{Arguments, pattern};

/// Thousands of these threads stand idle at once.
const STACK: usize = 64 * 1024;

pub(crate) fn run(arguments: &Arguments) -> io::Result<String> {
    let (echo_at, bulk_at): (SocketAddr, SocketAddr) = (arguments.needed("echo")?, arguments.needed("bulk")?);
    let (echo_listener, bulk_listener) = (TcpListener::bind(echo_at)?, TcpListener::bind(bulk_at)?);
    let echoing = thread::spawn(move || serve(&echo_listener, echo));
    serve(&bulk_listener, bulk);
    let _ = echoing.join();
    Ok("{}".to_owned())
}

/// Gives each connection a thread.
pub(crate) fn serve(
    listener: &TcpListener,
    each: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static,
) {
    for accepted in listener.incoming() {
        let Ok(stream) = accepted else {
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        let each = each.clone();
        let _ = thread::Builder::new().stack_size(STACK).spawn(move || {
            // Whoever leaves early is the load's business.
            let _ = stream.set_nodelay(true);
            let _ = each(stream);
        });
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buf = [0; 4096];
    loop {
        match stream.read(&mut buf)? {
            0 => return Ok(()),
            read => stream.write_all(&buf[..read])?,
        }
    }
}

fn bulk(mut stream: TcpStream) -> io::Result<()> {
    let (mut kind, mut length, mut offset) = ([0], [0; 8], [0; 8]);
    stream.read_exact(&mut kind)?;
    stream.read_exact(&mut length)?;
    stream.read_exact(&mut offset)?;
    let number = |bytes| usize::try_from(u64::from_le_bytes(bytes)).unwrap_or(usize::MAX);
    if kind == *b"D" {
        return pattern::send(&mut stream, number(offset), number(length));
    }
    let right = pattern::receive(&mut stream, number(offset), number(length))?;
    stream.write_all(if right { b"1" } else { b"0" })
}
