//! How a connection is made: names, addresses in turn, and the socket that comes of it.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::{
    net::{TcpSocket, TcpStream, UdpSocket},
    task::JoinSet,
    time::timeout,
};
use wsray_config::{DomainStrategy, Families, Family, HappyEyeballs, Otherwise, SocketOptions};
use wsray_vmess::{Address, Target};

use super::{
    ConnectError, Permitted, Socket,
    options::{Purpose, direct, stream_socket, tune},
};
use crate::names::Names;

/// How an outbound gets its sockets.
#[derive(Clone, Debug, Default)]
pub struct Dialer {
    /// Who knows the addresses of names.
    pub names: Arc<Names>,
    /// How names become addresses.
    pub strategy: DomainStrategy,
    /// What is set on sockets.
    pub options: Arc<SocketOptions>,
    /// The address to send from; `None`: the system chooses.
    pub send_through: Option<IpAddr>,
    /// How several addresses are tried.
    pub happy_eyeballs: HappyEyeballs,
    /// The outbound that streams go through; `None`: none.
    pub through: Option<Arc<dyn Through>>,
    /// Which addresses may be connected to.
    pub permitted: Permitted,
}

/// Another outbound, which lies above this layer.
pub trait Through: fmt::Debug + Send + Sync {
    /// A stream to `target` by way of it. That it cannot be reached is seen as a cut.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    fn open(&self, target: &Target) -> io::Result<Socket>;
}

impl Dialer {
    /// A stream to `target`: to the first of its addresses that takes it.
    ///
    /// # Errors
    /// [`ConnectError`]. There is no limit on time.
    pub async fn tcp(&self, target: &Target) -> Result<Socket, ConnectError> {
        if let Some(through) = &self.through {
            return through.open(target).map_err(ConnectError::Through);
        }
        self.tcp_any(&self.resolve(target).await?).await
    }

    /// A stream to the first of `addresses` that takes it.
    ///
    /// # Errors
    /// The last address's, when none takes it, and [`ConnectError::OwnService`]. There is no limit on time.
    pub async fn tcp_any(&self, addresses: &[SocketAddr]) -> Result<Socket, ConnectError> {
        if let Some(&address) = addresses.iter().find(|address| self.permitted.is_own(**address)) {
            return Err(ConnectError::OwnService { address });
        }
        let (address, tcp) = match addresses {
            &[address] => (address, self.start(address)?.connect(address).await),
            several => self.connect_any(several).await?,
        };
        let tcp = tcp.and_then(|tcp| Socket::with_probes(tcp, self.options.keep_alive));
        tcp.map_err(|source| ConnectError::Connect { address, source })
    }

    /// A socket for packets to `target`.
    ///
    /// # Errors
    /// When the system has none to give, or refuses what decides the way of packets.
    pub async fn udp(&self, target: SocketAddr) -> Result<UdpSocket, ConnectError> {
        let failed = |source| ConnectError::Connect { address: target, source };
        let any: SocketAddr = if target.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
        let source = self.source(target)?.unwrap_or(any);
        let socket = UdpSocket::bind(source).await;
        let socket = socket.map_err(|error| match self.send_through {
            Some(from) => ConnectError::Source { from, error },
            None => failed(error),
        })?;
        direct(&self.options, &socket)?;
        // What is refused has been told at the start.
        let _ = tune(&self.options, &socket, Purpose::Packets);
        Ok(socket)
    }

    /// The addresses of a target; at least one.
    ///
    /// # Errors
    /// When there is none, or none that [`Dialer::send_through`] can reach.
    pub async fn resolve(&self, target: &Target) -> Result<Vec<SocketAddr>, ConnectError> {
        let found = match &target.address {
            Address::Ip(ip) => vec![*ip],
            Address::Domain(domain) => self.lookup(domain.as_str()).await?,
        };
        let (permitted, closed): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|ip| self.permitted.allows(*ip));
        if let ([], [address, ..]) = (&permitted[..], &closed[..]) {
            return Err(ConnectError::NotPermitted { address: *address });
        }
        let found = permitted;
        let reachable = |ip: &IpAddr| self.send_through.is_none_or(|source| source.is_ipv4() == ip.is_ipv4());
        let reached: Vec<_> =
            found.iter().filter(|ip| reachable(ip)).map(|&ip| SocketAddr::new(ip, target.port)).collect();
        match (reached.is_empty(), self.send_through) {
            (true, Some(from)) => Err(ConnectError::Family { from, address: found[0] }),
            _ => Ok(reached),
        }
    }

    async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, ConnectError> {
        let failed = |source| ConnectError::Resolve { name: name.to_owned(), source };
        if let DomainStrategy::Lookup { families, otherwise } = self.strategy {
            match self.names.lookup(name, families).await {
                Ok(found) => return Ok(found),
                Err(error) if otherwise == Otherwise::Fail => return Err(failed(error)),
                Err(_) => {}
            }
        }
        Names::ask_system(name, Families::Any).await.map_err(failed)
    }

    /// Each address is tried a moment after the one before it, or as soon as that one fails (RFC 8305 section 5).
    async fn connect_any(
        &self,
        addresses: &[SocketAddr],
    ) -> Result<(SocketAddr, io::Result<TcpStream>), ConnectError> {
        let at_once = usize::try_from(self.happy_eyeballs.at_once.get()).unwrap_or(usize::MAX);
        let mut attempts = JoinSet::new();
        let mut failed = None;
        let mut waiting = in_turn(addresses, self.happy_eyeballs).into_iter();
        loop {
            if let Some(address) = waiting.next() {
                match self.start(address) {
                    Ok(socket) => {
                        attempts.spawn(async move { (address, socket.connect(address).await) });
                    }
                    Err(error) => failed = Some(Err(error)),
                }
            }
            loop {
                let joined = if waiting.len() > 0 && attempts.len() < at_once {
                    match timeout(self.happy_eyeballs.delay, attempts.join_next()).await {
                        Ok(joined) => joined,
                        // The next one begins.
                        Err(_) => break,
                    }
                } else {
                    attempts.join_next().await
                };
                match joined {
                    Some(Ok((address, Ok(tcp)))) => return Ok((address, Ok(tcp))),
                    Some(Ok((address, Err(error)))) => failed = Some(Ok((address, Err(error)))),
                    Some(Err(_)) | None => {}
                }
                if waiting.len() > 0 {
                    break;
                }
                if attempts.is_empty() {
                    let none = || ConnectError::Resolve {
                        name: String::new(),
                        source: io::ErrorKind::NotFound.into(),
                    };
                    return failed.unwrap_or_else(|| Err(none()));
                }
            }
        }
    }

    /// A socket that is ready to connect to `address`.
    fn start(&self, address: SocketAddr) -> Result<TcpSocket, ConnectError> {
        let failed = |source| ConnectError::Connect { address, source };
        let socket = if self.options.multipath {
            let socket = stream_socket(&self.options, address).map_err(failed)?;
            socket.set_nonblocking(true).map_err(failed)?;
            TcpSocket::from_std_stream(socket.into())
        } else if address.is_ipv4() {
            TcpSocket::new_v4().map_err(failed)?
        } else {
            TcpSocket::new_v6().map_err(failed)?
        };
        if *self.options != SocketOptions::default() {
            direct(&self.options, &socket)?;
            // What is refused has been told at the start.
            let _ = tune(&self.options, &socket, Purpose::Connect);
        }
        if let Some(source) = self.source(address)? {
            socket.bind(source).map_err(|error| ConnectError::Source { from: source.ip(), error })?;
        }
        Ok(socket)
    }

    /// What a socket that goes to `address` is bound to.
    fn source(&self, address: SocketAddr) -> Result<Option<SocketAddr>, ConnectError> {
        match self.send_through {
            Some(from) if from.is_ipv4() != address.is_ipv4() => {
                Err(ConnectError::Family { from, address: address.ip() })
            }
            from => Ok(from.map(|source| SocketAddr::new(source, 0))),
        }
    }
}

/// The families in turn, in the resolver's order otherwise (RFC 8305 section 4).
fn in_turn(addresses: &[SocketAddr], wanted: HappyEyeballs) -> Vec<SocketAddr> {
    let Some(first) = addresses.first() else { return Vec::new() };
    let v4_first = wanted.first.map_or(first.is_ipv4(), |family| family == Family::V4);
    let (one, other): (Vec<_>, Vec<_>) =
        addresses.iter().copied().partition(|address| address.is_ipv4() == v4_first);
    let run = usize::try_from(wanted.interleave.get()).unwrap_or(usize::MAX);
    let (mut one, mut other) = (one.chunks(run), other.chunks(run));
    let mut out = Vec::with_capacity(addresses.len());
    loop {
        let (a, b) = (one.next(), other.next());
        out.extend(a.into_iter().chain(b).flatten().copied());
        if a.is_none() && b.is_none() {
            return out;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Instant};

    use socket2::SockRef;
    use tokio::net::TcpListener;

    use super::*;

    fn ip(text: &str) -> SocketAddr {
        format!("{text}:80").parse().unwrap()
    }

    #[test]
    fn families_have_their_turns() {
        let addresses = ["1.0.0.1", "1.0.0.2", "1.0.0.3", "[::1]", "[::2]"].map(ip);
        let order = |first, interleave| {
            let wanted = HappyEyeballs {
                first,
                interleave: NonZeroU32::new(interleave).unwrap(),
                ..HappyEyeballs::default()
            };
            in_turn(&addresses, wanted).iter().map(|address| address.ip().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(order(None, 1), ["1.0.0.1", "::1", "1.0.0.2", "::2", "1.0.0.3"]);
        assert_eq!(order(Some(Family::V6), 1), ["::1", "1.0.0.1", "::2", "1.0.0.2", "1.0.0.3"]);
        assert_eq!(order(Some(Family::V4), 2), ["1.0.0.1", "1.0.0.2", "::1", "::2", "1.0.0.3"]);
    }

    /// An address whose backlog is full, so that it does not answer.
    fn silent() -> (SocketAddr, Vec<socket2::Socket>) {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = stream_socket(&SocketOptions::default(), address).unwrap();
        listener.bind(&address.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut held = vec![listener];
        for _ in 0..3 {
            let filler = stream_socket(&SocketOptions::default(), address).unwrap();
            filler.set_nonblocking(true).unwrap();
            let _ = filler.connect(&address.into());
            held.push(filler);
        }
        (address, held)
    }

    #[tokio::test]
    async fn address_that_is_silent_holds_up_for_a_moment_only() {
        let (silent, _held) = silent();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let start = Instant::now();
        Dialer::default().tcp_any(&[silent, good]).await.unwrap();
        let took = start.elapsed();
        assert!(took.as_millis() >= 240 && took.as_millis() < 2000, "{took:?}");
        listener.accept().await.unwrap();
    }

    #[tokio::test]
    async fn address_that_refuses_does_not_hold_up() {
        let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let start = Instant::now();
        Dialer::default().tcp_any(&[refusing, listener.local_addr().unwrap()]).await.unwrap();
        assert!(start.elapsed().as_millis() < 200);
        assert!(matches!(
            Dialer::default().tcp_any(&[refusing, refusing]).await,
            Err(ConnectError::Connect { address, .. }) if address == refusing
        ));
    }

    #[tokio::test]
    async fn options_are_on_the_socket_before_it_connects() {
        let options = SocketOptions {
            congestion: Some("reno".to_owned()),
            user_timeout: Some(std::time::Duration::from_secs(7)),
            max_segment: Some(1000),
            fast_open: Some(wsray_config::FastOpen::On),
            keep_alive: wsray_config::KeepAlive::On {
                idle: Some(std::time::Duration::from_secs(20)),
                interval: Some(std::time::Duration::from_secs(3)),
            },
            ..SocketOptions::default()
        };
        let dialer = Dialer { options: Arc::new(options), ..Dialer::default() };
        let tcp = dialer.start(ip("127.0.0.1")).unwrap();
        let socket = SockRef::from(&tcp);
        assert!(socket.tcp_congestion().unwrap().starts_with(b"reno"));
        assert_eq!(socket.tcp_user_timeout().unwrap().unwrap().as_secs(), 7);
        assert_eq!(socket.tcp_mss().unwrap(), 1000);
        assert_eq!(socket.tcp_keepalive_time().unwrap().as_secs(), 20);
        assert_eq!(socket.tcp_keepalive_interval().unwrap().as_secs(), 3);
        assert!(socket.keepalive().unwrap());
        let fast = nix::sys::socket::getsockopt(&tcp, nix::sys::socket::sockopt::TcpFastOpenConnect);
        assert!(fast.unwrap());
    }

    #[tokio::test]
    async fn mark_is_on_the_socket_or_there_is_no_socket() {
        let options = SocketOptions { mark: NonZeroU32::new(255), ..SocketOptions::default() };
        let dialer = Dialer { options: Arc::new(options), ..Dialer::default() };
        match dialer.start(ip("127.0.0.1")) {
            Ok(tcp) => assert_eq!(SockRef::from(&tcp).mark().unwrap(), 255),
            Err(error) => assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}"),
        }
    }
}
