//! A CDN between client and server: an HTTP/1.1 reverse proxy with the habits of such.

use std::{
    io::{BufReader, ErrorKind, Read, Result, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{
    apps::read_head,
    reframe::{From, frame, read_frame},
};

/// What it does with what passes.
#[derive(Debug, Clone, Copy)]
pub struct Habits {
    pub heads: Heads,
    pub frames: Frames,
    pub answer: Answer,
    /// Cuts a connection on which nothing has moved for so long.
    pub idle: Option<Duration>,
    /// Bytes a second, both ways and over all connections together.
    pub rate: Option<u32>,
    /// Flips the lowest bit of this byte behind the head of what comes from there.
    pub flip: Option<(Side, usize)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heads {
    AsTheyAre,
    /// Names in small letters, in another order, and headers of its own.
    Rewritten,
    /// To the server in HTTP/1.0, as nginx does by default.
    Old,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frames {
    AsTheyAre,
    /// The same bytes in pieces of odd sizes.
    Rechunked,
    /// What comes together is one message.
    Merged,
    /// Every message in fragments, with pings of its own between them.
    FragmentedWithPings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Passed,
    /// A 101 comes so much later.
    Late(Duration),
    /// Nothing ever comes.
    Never,
    /// This instead; the server is not asked.
    Page(&'static [u8]),
    /// `Connection: close` on a 101.
    Closing,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            heads: Heads::AsTheyAre,
            frames: Frames::AsTheyAre,
            answer: Answer::Passed,
            idle: None,
            rate: None,
            flip: None,
        }
    }
}

/// A running CDN.
#[derive(Debug, Clone)]
pub struct Cdn {
    pub port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Cdn {
    pub fn before(server: u16, habits: Habits) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        if habits.rate.is_some() {
            // What waits in the kernel waits for everybody behind it.
            socket2::SockRef::from(&listener).set_recv_buffer_size(32 * 1024).unwrap();
        }
        let port = listener.local_addr().unwrap().port();
        let open = Arc::new(Mutex::new(Vec::new()));
        let (list, link) = (Arc::clone(&open), Arc::new(Mutex::new(Instant::now())));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (list, link) = (Arc::clone(&list), Arc::clone(&link));
                thread::spawn(move || drop(connection(client, server, habits, &list, &link)));
            }
        });
        Self { port, open }
    }

    /// Cuts all connections at once, as a machine that dies does.
    pub fn cut_all(&self) -> usize {
        let streams = std::mem::take(&mut *self.open.lock().unwrap());
        for stream in &streams {
            drop(socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)));
            drop(stream.shutdown(Shutdown::Both));
        }
        streams.len()
    }
}

/// When the shared link is free again.
type Link = Mutex<Instant>;

fn connection(
    mut client: TcpStream,
    server: u16,
    habits: Habits,
    open: &Mutex<Vec<TcpStream>>,
    link: &Arc<Link>,
) -> Result<()> {
    let request = read_head(&mut client)?;
    match habits.answer {
        Answer::Page(page) => {
            client.write_all(page)?;
            client.shutdown(Shutdown::Write)?;
            return client.read_to_end(&mut Vec::new()).map(drop);
        }
        Answer::Never => return client.read_to_end(&mut Vec::new()).map(drop),
        _ => {}
    }
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    if habits.rate.is_some() {
        socket.set_recv_buffer_size(32 * 1024)?;
    }
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, server)).into())?;
    let mut server: TcpStream = socket.into();
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(habits.idle)?;
        open.lock().unwrap().push(stream.try_clone()?);
    }
    server.write_all(rewrite_request(&request, habits.heads).as_bytes())?;
    let answer = read_head(&mut server)?;
    if let Answer::Late(delay) = habits.answer {
        thread::sleep(delay);
    }
    client.write_all(rewrite_answer(&answer, habits).as_bytes())?;
    let (up, down) = ((client.try_clone()?, server.try_clone()?), (server, client));
    let moved = Arc::new(Mutex::new(Instant::now()));
    let passes = [(up, Side::Client), (down, Side::Server)].map(|((from, to), side)| {
        let (link, moved) = (Arc::clone(link), Arc::clone(&moved));
        thread::spawn(move || Pass { to, side, habits, link, moved, seen: 0 }.run(&from))
    });
    for pass in passes {
        drop(pass.join());
    }
    Ok(())
}

/// The first line, and the headers.
fn parts(head: &str) -> (&str, Vec<(String, String)>) {
    let mut lines = head.trim_end().split("\r\n");
    let first = lines.next().unwrap_or_default();
    let header =
        |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    (first, lines.filter_map(header).collect())
}

fn join(first: &str, headers: &[(String, String)]) -> String {
    let lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{first}\r\n{}\r\n", lines.concat())
}

fn in_another_order(headers: Vec<(String, String)>, own: &[(&str, &str)]) -> Vec<(String, String)> {
    let small = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
    let own = own.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    let mut all: Vec<_> = small.chain(own).collect();
    all.sort();
    all.reverse();
    all
}

fn rewrite_request(head: &str, heads: Heads) -> String {
    let (first, headers) = parts(head);
    match heads {
        Heads::AsTheyAre => head.to_owned(),
        Heads::Rewritten => {
            let own = [
                ("CF-Connecting-IP", "203.0.113.7"),
                ("X-Forwarded-For", "198.51.100.66, 203.0.113.7"),
                ("CF-Ray", "8f2e0a1b2c3d4e5f-FRA"),
                ("CF-IPCountry", "DE"),
                ("CF-Visitor", "{\"scheme\":\"https\"}"),
                ("CDN-Loop", "cloudflare; loops=1"),
                ("X-Forwarded-Proto", "https"),
                ("Accept-Encoding", "gzip, br"),
            ];
            join(first, &in_another_order(headers, &own))
                .replace("connection: Upgrade", "connection: upgrade")
        }
        Heads::Old => {
            let kept = |(name, _): &(String, String)| !matches!(name.as_str(), "Connection" | "Upgrade");
            let mut headers: Vec<_> = headers.into_iter().filter(kept).collect();
            headers.push(("Connection".to_owned(), "close".to_owned()));
            join(&first.replace("HTTP/1.1", "HTTP/1.0"), &headers)
        }
    }
}

fn rewrite_answer(head: &str, habits: Habits) -> String {
    let (first, headers) = parts(head);
    if habits.answer == Answer::Closing {
        return head.replace("Connection: Upgrade", "Connection: close");
    }
    if habits.heads != Heads::Rewritten {
        return head.to_owned();
    }
    let own = [
        ("Server", "cloudflare"),
        ("CF-RAY", "8f2e0a1b2c3d4e5f-FRA"),
        ("CF-Cache-Status", "DYNAMIC"),
        ("Alt-Svc", "h3=\":443\"; ma=86400"),
        ("NEL", "{\"report_to\":\"cf-nel\",\"max_age\":604800}"),
        ("Date", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ];
    join(first, &in_another_order(headers, &own))
}

/// One direction of a connection.
struct Pass {
    to: TcpStream,
    side: Side,
    habits: Habits,
    link: Arc<Link>,
    moved: Arc<Mutex<Instant>>,
    seen: usize,
}

impl Pass {
    fn run(mut self, from: &TcpStream) {
        let raw = matches!(self.habits.frames, Frames::AsTheyAre | Frames::Rechunked);
        let outcome = if raw { self.bytes(from) } else { self.frames(from) };
        // An end is passed on as one, all else as a cut.
        if outcome.is_err() {
            for stream in [from, &self.to] {
                drop(socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)));
                drop(stream.shutdown(Shutdown::Both));
            }
        }
        drop(self.to.shutdown(Shutdown::Write));
    }

    fn bytes(&mut self, mut from: &TcpStream) -> Result<()> {
        let mut block = vec![0; 8 * 1024];
        loop {
            let read = match from.read(&mut block) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    // Silence of one direction alone is none.
                    let moved = *self.moved.lock().unwrap();
                    if self.habits.idle.is_some_and(|idle| moved.elapsed() >= idle) {
                        return Err(error);
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            *self.moved.lock().unwrap() = Instant::now();
            if let Some((side, at)) = self.habits.flip
                && side == self.side
                && (self.seen..self.seen + read).contains(&at)
            {
                block[at - self.seen] ^= 1;
            }
            self.seen += read;
            self.write(&block[..read])?;
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.habits.frames == Frames::Rechunked {
            for (n, piece) in bytes.chunks(1 + self.seen % 1399).enumerate() {
                self.to.write_all(piece)?;
                if n % 16 == 0 {
                    thread::yield_now();
                }
            }
            return Ok(());
        }
        if let Some(rate) = self.habits.rate {
            let cost = Duration::from_secs(1) * u32::try_from(bytes.len()).unwrap() / rate;
            let turn = {
                let mut free = self.link.lock().unwrap_or_else(PoisonError::into_inner);
                *free = (*free).max(Instant::now()) + cost;
                *free
            };
            thread::sleep(turn.saturating_duration_since(Instant::now()));
        }
        self.to.write_all(bytes)
    }

    fn frames(&mut self, from: &TcpStream) -> Result<()> {
        let who = if self.side == Side::Client { From::Client } else { From::Server };
        let mut from = BufReader::with_capacity(64 * 1024, from);
        loop {
            let (opcode, mut payload) = match read_frame(&mut from) {
                Ok(frame) => frame,
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            };
            if opcode > 2 {
                self.to.write_all(&frame(0x80 | opcode, &payload, who))?;
                continue;
            }
            if self.habits.frames == Frames::Merged {
                let mut control = Vec::new();
                while !from.buffer().is_empty() && payload.len() < 300_000 {
                    let (opcode, more) = read_frame(&mut from)?;
                    if opcode > 2 {
                        control.extend(frame(0x80 | opcode, &more, who));
                        break;
                    }
                    payload.extend(more);
                }
                let merged = [frame(0x82, &payload, who), control].concat();
                self.to.write_all(&merged)?;
                continue;
            }
            let pieces: Vec<_> = payload.chunks(1000).collect();
            let last = pieces.len().saturating_sub(1);
            for (n, piece) in pieces.iter().enumerate() {
                let opcode = if n == 0 { 2 } else { 0 };
                let end = if n == last { 0x80 } else { 0 };
                let mut bytes = frame(opcode | end, piece, who);
                if n % 50 == 0 {
                    bytes.extend(frame(0x89, b"cdn", who));
                }
                self.to.write_all(&bytes)?;
            }
        }
    }
}
