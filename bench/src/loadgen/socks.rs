//! Connections, straight or through a SOCKS 5 proxy without passwords (RFC 1928).

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

/// After this a tunnel counts as lost.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where to, and by which way.
#[derive(Clone, Copy)]
pub(crate) struct Route {
    pub(crate) proxy: Option<SocketAddr>,
    pub(crate) to: SocketAddr,
}

impl Route {
    pub(crate) fn open(&self) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.proxy.unwrap_or(self.to))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        if self.proxy.is_some() {
            ask(&mut stream, self.to)?;
        }
        Ok(stream)
    }
}

fn ask(stream: &mut TcpStream, to: SocketAddr) -> io::Result<()> {
    stream.write_all(&[5, 1, 0])?;
    let mut method = [0; 2];
    stream.read_exact(&mut method)?;
    if method != [5, 0] {
        return Err(io::Error::other("the proxy refused the method"));
    }
    let mut request = vec![5, 1, 0];
    match to.ip() {
        IpAddr::V4(ip) => {
            request.push(1);
            request.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            request.push(4);
            request.extend(ip.octets());
        }
    }
    request.extend(to.port().to_be_bytes());
    stream.write_all(&request)?;
    let mut head = [0; 4];
    stream.read_exact(&mut head)?;
    let rest = match head {
        [5, 0, _, 1] => 6,
        [5, 0, _, 4] => 18,
        _ => return Err(io::Error::other(format!("the proxy answered {head:?}"))),
    };
    stream.read_exact(&mut [0; 18][..rest])
}
