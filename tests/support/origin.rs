//! The servers at the far end, behind the proxies. What one does is told by the first line it gets:
//!
//! | first line | answer |
//! |---|---|
//! | `echo` | everything back, until the end |
//! | `send N SEED` | N bytes of [`pattern`], then waits for the other side to close |
//! | `give N SEED` | N bytes of [`pattern`], then closes at once |
//! | `later MS N SEED` | waits MS milliseconds, then as `give` |
//! | `take N` | reads N bytes, answers their hash |
//! | `late MS N` | reads to the end, waits MS milliseconds, answers the hash of it all and N bytes of pattern |
//! | `reset N` | N bytes of pattern, then a reset |
//! | `GET ...` | an HTTP answer whose body is the request head, then waits for the other side to close |

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use sha2::{Digest, Sha256};

/// A TCP origin on a port of its own; it lives as long as the test process.
#[derive(Debug, Clone)]
pub struct Origin {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Origin {
    /// On 127.0.0.1.
    pub fn start() -> Self {
        Self::on(Ipv4Addr::LOCALHOST.into(), |stream| drop(converse(&stream)))
    }

    /// On `::1`.
    pub fn start_v6() -> Self {
        Self::on(Ipv6Addr::LOCALHOST.into(), |stream| drop(converse(&stream)))
    }

    /// Speaks first, then echoes.
    pub fn with_banner(banner: &'static str) -> Self {
        Self::on(Ipv4Addr::LOCALHOST.into(), move |mut stream| {
            if stream.write_all(banner.as_bytes()).is_ok() {
                drop(echo(&mut BufReader::new(&stream)));
            }
        })
    }

    fn on(ip: IpAddr, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, serve) = (Arc::clone(&connections), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, SeqCst);
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(stream));
            }
        });
        Self { address, connections }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections came in so far.
    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

fn converse(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_mins(1)))?;
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let number =
        |index: usize| words.get(index).and_then(|word| word.parse::<u64>().ok()).unwrap_or_default();
    match words.first().copied() {
        Some("echo") => echo(&mut reader)?,
        Some("send") => {
            write_pattern(&mut writer, number(1), number(2))?;
            reader.read_line(&mut String::new())?;
        }
        Some("give") => write_pattern(&mut writer, number(1), number(2))?,
        Some("later") => {
            thread::sleep(Duration::from_millis(number(1)));
            write_pattern(&mut writer, number(2), number(3))?;
        }
        Some("take") => {
            let hash = hash_of(&mut reader.take(number(1)))?;
            writer.write_all(hash.as_bytes())?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            drop((&*stream).read(&mut [0; 1]));
        }
        Some("late") => {
            let hash = hash_of(&mut reader)?;
            thread::sleep(Duration::from_millis(number(1)));
            writer.write_all(hash.as_bytes())?;
            write_pattern(&mut writer, number(2), 0)?;
        }
        Some("reset") => {
            write_pattern(&mut writer, number(1), 0)?;
            socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
        }
        Some("GET") => answer_http(&mut reader, &mut writer, &line)?,
        _ => {}
    }
    Ok(())
}

fn echo(reader: &mut BufReader<&TcpStream>) -> std::io::Result<()> {
    let mut writer = reader.get_ref().try_clone()?;
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(());
        }
        let used = bytes.len();
        writer.write_all(bytes)?;
        reader.consume(used);
    }
}

fn answer_http(reader: &mut impl BufRead, writer: &mut impl Write, first: &str) -> std::io::Result<()> {
    let mut head = first.to_owned();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {}
    write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len())?;
    reader.read_line(&mut head).map(drop)
}

/// `length` bytes that look random and depend on `seed` alone.
pub fn pattern(length: u64, seed: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_pattern(&mut bytes, length, seed).unwrap();
    bytes
}

fn write_pattern(to: &mut impl Write, length: u64, seed: u64) -> std::io::Result<()> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut left = usize::try_from(length).unwrap();
    let mut block = vec![0; 64 * 1024];
    while left > 0 {
        for chunk in block.chunks_exact_mut(8) {
            // xorshift64, Marsaglia 2003
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            chunk.copy_from_slice(&state.to_le_bytes());
        }
        let now = left.min(block.len());
        to.write_all(&block[..now])?;
        left -= now;
    }
    Ok(())
}

/// SHA-256 of everything up to the end, as 64 hexadecimal digits.
pub fn hash_of(reader: &mut impl Read) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut block = vec![0; 64 * 1024];
    loop {
        match reader.read(&mut block)? {
            0 => break,
            length => hash.update(&block[..length]),
        }
    }
    Ok(hash.finalize().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
}

/// Sends every packet back to where it came from.
#[derive(Debug)]
pub struct UdpEcho {
    pub address: SocketAddr,
}

impl UdpEcho {
    pub fn start() -> Self {
        Self::on(Ipv4Addr::LOCALHOST.into())
    }

    /// On `::1`.
    pub fn start_v6() -> Self {
        Self::on(Ipv6Addr::LOCALHOST.into())
    }

    fn on(ip: IpAddr) -> Self {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                drop(socket.send_to(&buffer[..length], from));
            }
        });
        Self { address }
    }
}
