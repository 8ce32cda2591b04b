//! A middle box that cuts the same WebSocket stream into other frames, all of them legal.

use std::{
    io::{Read, Result, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use super::apps::{read_array, read_head};

/// How data frames are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// As text messages, whatever is in them.
    Text,
    /// A message for every byte.
    SingleBytes,
    /// Every message in three fragments with a ping and an empty fragment between them.
    Fragments,
    /// Empty messages and unasked pongs in between.
    Interspersed,
    /// The length in 64 bits however short.
    LongLength,
    /// One message without end: a first fragment, then nothing but continuations.
    Endless,
}

pub const SHAPES: [Shape; 6] = [
    Shape::Text,
    Shape::SingleBytes,
    Shape::Fragments,
    Shape::Interspersed,
    Shape::LongLength,
    Shape::Endless,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Client,
    Server,
}

/// The port of a middle box before `server` that reshapes both directions.
pub fn before(server: u16, shape: Shape) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, server))) else {
                continue;
            };
            for stream in [&client, &server] {
                stream.set_nodelay(true).unwrap();
            }
            let (client_too, server_too) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || pass(client, server, shape, From::Client));
            thread::spawn(move || pass(server_too, client_too, shape, From::Server));
        }
    });
    port
}

fn pass(mut from: TcpStream, mut to: TcpStream, shape: Shape, who: From) {
    if let Ok(head) = read_head(&mut from)
        && to.write_all(head.as_bytes()).is_ok()
    {
        let mut first = true;
        while let Ok((opcode, payload)) = read_frame(&mut from) {
            let bytes = match opcode {
                0..=2 => reshape(&payload, shape, who, &mut first),
                _ => frame(0x80 | opcode, &payload, who),
            };
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
    }
    drop(to.shutdown(Shutdown::Write));
}

fn reshape(payload: &[u8], shape: Shape, who: From, first: &mut bool) -> Vec<u8> {
    const PING: u8 = 0x89;
    const PONG: u8 = 0x8a;
    match shape {
        Shape::Text => frame(0x81, payload, who),
        Shape::SingleBytes => payload.iter().flat_map(|byte| frame(0x82, &[*byte], who)).collect(),
        Shape::Fragments => {
            let (start, rest) = payload.split_at(payload.len() / 3);
            let (middle, end) = rest.split_at(rest.len() / 2);
            let pieces =
                [frame(2, start, who), frame(PING, b"?", who), frame(0, middle, who), frame(0, b"", who)];
            [pieces.concat(), frame(0x80, end, who)].concat()
        }
        Shape::Interspersed => {
            [frame(0x82, b"", who), frame(PONG, b"unasked", who), frame(0x82, payload, who)].concat()
        }
        Shape::LongLength => long_frame(0x82, payload, who),
        Shape::Endless => frame(if std::mem::take(first) { 2 } else { 0 }, payload, who),
    }
}

pub(super) fn read_frame(from: &mut impl Read) -> Result<(u8, Vec<u8>)> {
    let [first, second]: [u8; 2] = read_array(from)?;
    let length = match second & 0x7f {
        126 => u64::from(u16::from_be_bytes(read_array(from)?)),
        127 => u64::from_be_bytes(read_array(from)?),
        short => short.into(),
    };
    let mask = if second & 0x80 == 0 { [0; 4] } else { read_array(from)? };
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    from.read_exact(&mut payload)?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok((first & 0x0f, payload))
}

/// Masked for a server; the mask is all zeros, which is legal.
pub(super) fn frame(first: u8, payload: &[u8], who: From) -> Vec<u8> {
    let bit = if who == From::Client { 0x80 } else { 0 };
    let mut bytes = match u16::try_from(payload.len()) {
        Ok(length @ 0..=125) => vec![first, bit | u8::try_from(length).unwrap()],
        Ok(length) => [&[first, bit | 0x7e], &length.to_be_bytes()[..]].concat(),
        Err(_) => return long_frame(first, payload, who),
    };
    finish(&mut bytes, payload, who);
    bytes
}

fn long_frame(first: u8, payload: &[u8], who: From) -> Vec<u8> {
    let bit = if who == From::Client { 0x80 } else { 0 };
    let mut bytes = vec![first, bit | 0x7f];
    bytes.extend((payload.len() as u64).to_be_bytes());
    finish(&mut bytes, payload, who);
    bytes
}

fn finish(bytes: &mut Vec<u8>, payload: &[u8], who: From) {
    if who == From::Client {
        bytes.extend([0; 4]);
    }
    bytes.extend(payload);
}
