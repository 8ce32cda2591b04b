//! The applications in front of the proxies: SOCKS 4, 4a and 5, HTTP CONNECT and plain HTTP, and UDP over SOCKS 5.

use std::{
    io::{Error, Read, Result, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use super::PATIENCE;

/// Where an application wants to go.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    Address(SocketAddr),
    Name(&'a str, u16),
}

impl From<SocketAddr> for Target<'_> {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl std::fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// User and password.
pub type Account<'a> = Option<(&'a str, &'a str)>;

pub fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection to `target` through the SOCKS 5 proxy at `port` (RFC 1928, RFC 1929).
pub fn socks5(port: u16, target: Target, account: Account) -> Result<TcpStream> {
    let (stream, _) = socks5_request(port, 1, target, account)?;
    Ok(stream)
}

fn socks5_request(
    port: u16,
    command: u8,
    target: Target,
    account: Account,
) -> Result<(TcpStream, SocketAddr)> {
    let mut stream = connect(port)?;
    let method = if account.is_some() { 2 } else { 0 };
    stream.write_all(&[5, 1, method])?;
    let chosen: [u8; 2] = read_array(&mut stream)?;
    if chosen != [5, method] {
        return Err(Error::other(format!("method refused: {chosen:?}")));
    }
    if let Some((user, password)) = account {
        let mut message = vec![1, byte(user.len())];
        message.extend(user.bytes());
        message.push(byte(password.len()));
        message.extend(password.bytes());
        stream.write_all(&message)?;
        let status: [u8; 2] = read_array(&mut stream)?;
        if status[1] != 0 {
            return Err(Error::other(format!("account refused: {status:?}")));
        }
    }
    let mut request = vec![5, command, 0];
    write_socks5_address(&mut request, target);
    stream.write_all(&request)?;
    let [version, reply, _, kind]: [u8; 4] = read_array(&mut stream)?;
    if version != 5 || reply != 0 {
        return Err(Error::other(format!("refused: {version} {reply}")));
    }
    let ip: IpAddr = match kind {
        1 => read_array::<4>(&mut stream)?.into(),
        4 => read_array::<16>(&mut stream)?.into(),
        _ => return Err(Error::other(format!("address type {kind} in the answer"))),
    };
    let bound = u16::from_be_bytes(read_array(&mut stream)?);
    Ok((stream, SocketAddr::new(ip, bound)))
}

/// SOCKS 4; the target is an IPv4 address.
pub fn socks4(port: u16, target: SocketAddr) -> Result<TcpStream> {
    let IpAddr::V4(ip) = target.ip() else { return Err(Error::other("SOCKS 4 knows IPv4 alone")) };
    socks4_request(port, target.port(), ip, None)
}

/// SOCKS 4a; the proxy resolves the name.
pub fn socks4a(port: u16, name: &str, target_port: u16) -> Result<TcpStream> {
    socks4_request(port, target_port, Ipv4Addr::new(0, 0, 0, 1), Some(name))
}

fn socks4_request(port: u16, target_port: u16, ip: Ipv4Addr, name: Option<&str>) -> Result<TcpStream> {
    let mut stream = connect(port)?;
    let mut request = vec![4, 1];
    request.extend(target_port.to_be_bytes());
    request.extend(ip.octets());
    request.extend(b"somebody\0");
    if let Some(name) = name {
        request.extend(name.bytes());
        request.push(0);
    }
    stream.write_all(&request)?;
    let reply: [u8; 8] = read_array(&mut stream)?;
    if reply[..2] != [0, 90] {
        return Err(Error::other(format!("refused: {reply:?}")));
    }
    Ok(stream)
}

/// HTTP CONNECT.
pub fn http_connect(port: u16, target: Target, account: Account) -> Result<TcpStream> {
    let mut stream = connect(port)?;
    let authorization = authorization(account);
    stream.write_all(
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n").as_bytes(),
    )?;
    let head = read_head(&mut stream)?;
    if !head.starts_with("HTTP/1.1 200") && !head.starts_with("HTTP/1.0 200") {
        return Err(Error::other(head));
    }
    Ok(stream)
}

/// A plain GET through the proxy; head and body of the answer. The proxy may keep the connection open.
pub fn http_get(port: u16, target: Target, account: Account) -> Result<String> {
    let mut stream = connect(port)?;
    let authorization = authorization(account);
    stream.write_all(
        format!(
            "GET http://{target}/page?q=1 HTTP/1.1\r\nHost: {target}\r\n{authorization}Proxy-Connection: keep-alive\r\n\
             Connection: close\r\n\r\n"
        )
        .as_bytes(),
    )?;
    let head = read_head(&mut stream)?;
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok(head + &String::from_utf8_lossy(&body))
}

fn authorization(account: Account) -> String {
    account.map_or_else(String::new, |(user, password)| {
        let code = data_encoding::BASE64.encode(format!("{user}:{password}").as_bytes());
        format!("Proxy-Authorization: Basic {code}\r\n")
    })
}

/// An HTTP head up to the empty line, read byte by byte so that nothing behind it is lost.
pub fn read_head(stream: &mut impl Read) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 16_384 {
        head.push(read_array::<1>(stream)?[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

pub fn read_array<const N: usize>(stream: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Says `line` and reads exactly `length` bytes of answer.
pub fn ask(mut stream: &TcpStream, line: &str, length: usize) -> Result<Vec<u8>> {
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// Sends `echo` and some text to the origin and checks that it comes back.
pub fn check_echo(mut stream: &TcpStream) -> Result<()> {
    let text = format!("hello {}", super::random());
    stream.write_all(format!("echo\n{text}").as_bytes())?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer)?;
    if answer == text.as_bytes() { Ok(()) } else { Err(Error::other(format!("wrong echo: {answer:?}"))) }
}

/// A UDP association of SOCKS 5; it lives as long as this value.
#[derive(Debug)]
pub struct Association {
    control: TcpStream,
    socket: UdpSocket,
    relay: SocketAddr,
}

impl Association {
    pub fn open(port: u16) -> Result<Self> {
        Self::open_as(port, None)
    }

    pub fn open_as(port: u16, account: Account) -> Result<Self> {
        let anywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let (control, mut relay) = socks5_request(port, 3, anywhere.into(), account)?;
        if relay.ip().is_unspecified() {
            relay.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(3)))?;
        Ok(Self { control, socket, relay })
    }

    /// The same association, used from another socket of the application.
    pub fn another_socket(&self, patience: Duration) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(patience))?;
        Ok(Self { control: self.control.try_clone()?, socket, relay: self.relay })
    }

    pub fn send(&self, target: Target, payload: &[u8]) -> Result<()> {
        let mut packet = vec![0, 0, 0];
        write_socks5_address(&mut packet, target);
        packet.extend(payload);
        self.socket.send_to(&packet, self.relay).map(drop)
    }

    /// The payload of the next packet and who sent it, as the proxy tells it.
    pub fn receive(&self) -> Result<(Vec<u8>, String)> {
        let mut buffer = vec![0; 65_536];
        let length = self.socket.recv(&mut buffer)?;
        let mut rest = &buffer[..length];
        let [_, _, fragment, kind]: [u8; 4] = read_array(&mut rest)?;
        if fragment != 0 {
            return Err(Error::other("a fragment"));
        }
        let host = match kind {
            1 => IpAddr::from(read_array::<4>(&mut rest)?).to_string(),
            4 => IpAddr::from(read_array::<16>(&mut rest)?).to_string(),
            _ => {
                let [length] = read_array(&mut rest)?;
                let mut name = vec![0; length.into()];
                rest.read_exact(&mut name)?;
                String::from_utf8_lossy(&name).into_owned()
            }
        };
        let port = u16::from_be_bytes(read_array(&mut rest)?);
        Ok((rest.to_vec(), format!("{host}:{port}")))
    }

    /// Sends until an answer comes, three times at most: UDP may lose a packet.
    pub fn round_trip(&self, target: Target, payload: &[u8]) -> Result<Vec<u8>> {
        let mut last = Error::other("not tried");
        for _ in 0..3 {
            self.send(target, payload)?;
            match self.receive() {
                Ok((answer, _)) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn write_socks5_address(to: &mut Vec<u8>, target: Target) {
    let port = match target {
        Target::Address(SocketAddr::V4(address)) => {
            to.push(1);
            to.extend(address.ip().octets());
            address.port()
        }
        Target::Address(SocketAddr::V6(address)) => {
            to.push(4);
            to.extend(address.ip().octets());
            address.port()
        }
        Target::Name(name, port) => {
            to.extend([3, byte(name.len())]);
            to.extend(name.bytes());
            port
        }
    };
    to.extend(port.to_be_bytes());
}

fn byte(length: usize) -> u8 {
    u8::try_from(length).expect("a name below 256 bytes")
}
