//! Requests written by hand, for what no well-behaved client would send.

use std::{
    io::{ErrorKind, Read, Result, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use super::apps;

/// An upgrade request for `target` as V2Ray writes it, with `more` header lines (each with its CRLF).
pub fn upgrade(target: &str, more: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: example.test\r\nUser-Agent: Go-http-client/1.1\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}Upgrade: websocket\r\n\r\n"
    )
}

/// What RFC 6455 section 1.3 says the answer to the key of [`upgrade`] is.
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Sends `bytes` to `port`; the connection.
pub fn send(port: u16, bytes: &[u8]) -> Result<TcpStream> {
    let mut stream = apps::connect(port)?;
    stream.write_all(bytes)?;
    Ok(stream)
}

/// Sends `bytes` and gives the head of the answer.
pub fn ask(port: u16, bytes: &[u8]) -> Result<String> {
    apps::read_head(&mut send(port, bytes)?)
}

/// A masked binary frame; the mask is all zeros, which is legal.
pub fn masked_frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x82];
    match u16::try_from(payload.len()) {
        Ok(length @ 0..=125) => frame.push(0x80 | u8::try_from(length).unwrap()),
        Ok(length) => {
            frame.push(0xfe);
            frame.extend(length.to_be_bytes());
        }
        Err(error) => panic!("a frame of the tests stays below 64 KiB: {error}"),
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// How a connection ended, and after how long.
#[derive(Debug)]
pub struct End {
    pub bytes: Vec<u8>,
    pub after: Duration,
    pub how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Fin,
    Reset,
    StillOpen,
}

/// Reads until the end, at most `limit` long.
pub fn read_to_end(stream: &mut TcpStream, limit: Duration) -> End {
    let start = Instant::now();
    let mut bytes = Vec::new();
    let mut block = vec![0; 64 * 1024];
    loop {
        let Some(left) = limit.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) else {
            return End { bytes, after: start.elapsed(), how: How::StillOpen };
        };
        stream.set_read_timeout(Some(left)).unwrap();
        match stream.read(&mut block) {
            Ok(0) => return End { bytes, after: start.elapsed(), how: How::Fin },
            Ok(length) => bytes.extend(&block[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return End { bytes, after: start.elapsed(), how: How::Reset },
        }
    }
}
