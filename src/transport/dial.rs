//! How a connection is made: names, addresses in turn, and the socket that comes of it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpStream, UdpSocket},
    time::timeout,
};
use wsray_vmess::{Address, Target};

use super::{ConnectError, Socket};
use crate::names::Names;

/// How an outbound gets its sockets.
#[derive(Clone, Debug, Default)]
pub struct Dialer {
    /// Who knows the addresses of names.
    pub names: Arc<Names>,
}

impl Dialer {
    /// A stream to `target`: to the first of its addresses that takes it.
    ///
    /// # Errors
    /// [`ConnectError`]. There is no limit on time.
    pub async fn tcp(&self, target: &Target) -> Result<Socket, ConnectError> {
        self.tcp_any(&self.resolve(target).await?).await
    }

    /// A stream to the first of `addresses` that takes it.
    ///
    /// # Errors
    /// The last address's, when none takes it. There is no limit on time.
    pub async fn tcp_any(&self, addresses: &[SocketAddr]) -> Result<Socket, ConnectError> {
        let tcp = connect_any(addresses).await?;
        let address = tcp.peer_addr();
        Socket::new(tcp).map_err(|source| failed(address.unwrap_or(addresses[0]), source))
    }

    /// A socket for packets to `target`.
    ///
    /// # Errors
    /// When the system has none to give.
    pub async fn udp(&self, target: SocketAddr) -> Result<UdpSocket, ConnectError> {
        let any: SocketAddr = if target.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
        UdpSocket::bind(any).await.map_err(|source| failed(target, source))
    }

    /// The addresses of a target; at least one.
    ///
    /// # Errors
    /// When there is none.
    pub async fn resolve(&self, target: &Target) -> Result<Vec<SocketAddr>, ConnectError> {
        let domain = match &target.address {
            Address::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, target.port)]),
            Address::Domain(domain) => domain.as_str(),
        };
        let found = self.names.lookup(domain).await;
        let found = found.map_err(|source| ConnectError::Resolve { name: domain.to_owned(), source })?;
        Ok(found.into_iter().map(|ip| SocketAddr::new(ip, target.port)).collect())
    }
}

fn failed(address: SocketAddr, source: io::Error) -> ConnectError {
    ConnectError::Connect { address, source }
}

/// A connection to the first of the addresses that takes one: each is tried a quarter second after the one before
/// it, or as soon as that one fails (RFC 8305 section 5).
///
/// # Errors
/// The last address's, when none takes it.
async fn connect_any(addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
    if let &[address] = addresses {
        return TcpStream::connect(address).await.map_err(|source| ConnectError::Connect { address, source });
    }
    let mut attempts = tokio::task::JoinSet::new();
    let mut failed = None;
    for &address in &interleaved(addresses) {
        attempts.spawn(async move { (address, TcpStream::connect(address).await) });
        while let Ok(Some(joined)) = timeout(NEXT_ATTEMPT, attempts.join_next()).await {
            match joined {
                Ok((_, Ok(tcp))) => return Ok(tcp),
                Ok((address, Err(source))) => failed = Some(ConnectError::Connect { address, source }),
                Err(_) => {}
            }
        }
    }
    while let Some(joined) = attempts.join_next().await {
        match joined {
            Ok((_, Ok(tcp))) => return Ok(tcp),
            Ok((address, Err(source))) => failed = Some(ConnectError::Connect { address, source }),
            Err(_) => {}
        }
    }
    Err(failed
        .unwrap_or(ConnectError::Resolve { name: String::new(), source: io::ErrorKind::NotFound.into() }))
}

/// The pause before the next address is tried as well (RFC 8305 section 8).
const NEXT_ATTEMPT: Duration = Duration::from_millis(250);

/// The families in turn, in the resolver's order otherwise (RFC 8305 section 4).
fn interleaved(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let Some(first) = addresses.first() else { return Vec::new() };
    let (mut same, mut other): (Vec<_>, Vec<_>) =
        addresses.iter().copied().partition(|address| address.is_ipv4() == first.is_ipv4());
    same.reverse();
    other.reverse();
    let mut out = Vec::with_capacity(addresses.len());
    while let Some(address) = same.pop() {
        out.push(address);
        out.extend(other.pop());
    }
    other.reverse();
    out.extend(other);
    out
}
