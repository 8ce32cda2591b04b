//! Listening sockets.

mod unix;

use std::{fmt, future::poll_fn, io, net::SocketAddr, os::linux::net::SocketAddrExt as _, task::Poll};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use wsray_config::{KeepAlive, SocketOptions, Transparent};

use super::dokodemo::{PacketListener, be_transparent};
use crate::{
    session::Source,
    transport::{
        Socket,
        options::{OptionError, Purpose, direct, listen_fast, retune, stream_socket, tune},
    },
};

pub use unix::{BindUnixError, SocketFile, bind_unix};

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// For TCP.
    Tcp(TcpListener),
    /// For streams of programs on this machine.
    Unix {
        /// The socket.
        socket: UnixListener,
        /// Its name, as configured.
        name: String,
    },
    /// For packets.
    Udp(PacketListener),
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(socket) => match socket.local_addr() {
                Ok(address) => address.fmt(f),
                Err(_) => f.write_str("?"),
            },
            Self::Unix { name, .. } => f.write_str(name),
            Self::Udp(socket) => socket.fmt(f),
        }
    }
}

impl Listener {
    /// Sets what connections inherit.
    ///
    /// # Errors
    /// As setsockopt(2).
    pub fn prepare(&self, probes: KeepAlive) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => Socket::prepare_listener(socket, probes),
            Self::Unix { .. } | Self::Udp(_) => Ok(()),
        }
    }

    /// Makes it what `now` wants, as far as that can be changed; returns what cannot.
    pub fn retune(&self, before: &SocketOptions, now: &SocketOptions) -> Vec<OptionError> {
        let same_place = SocketOptions { place: now.place.clone(), ..before.clone() };
        match self {
            _ if same_place == *now => Vec::new(),
            Self::Tcp(socket) => retune(socket, before, now, Purpose::Listen),
            Self::Udp(socket) => socket.retune(before, now),
            // Nothing of it is for unix sockets.
            Self::Unix { .. } => Vec::new(),
        }
    }

    /// One that the process was started with.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_tcp(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self::Tcp(TcpListener::from_std(socket)?))
    }

    /// The same for a unix socket.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_unix(socket: std::os::unix::net::UnixListener) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let name = match (address.as_pathname(), address.as_abstract_name()) {
            (Some(path), _) => path.display().to_string(),
            (None, Some(name)) => format!("@{}", String::from_utf8_lossy(name).trim_end_matches('\0')),
            (None, None) => String::new(),
        };
        socket.set_nonblocking(true)?;
        Ok(Self::Unix { socket: UnixListener::from_std(socket)?, name })
    }

    /// Whether this is what somebody who wants to listen on `address` needs.
    pub fn is_on(&self, address: SocketAddr) -> bool {
        let Self::Tcp(socket) = self else { return false };
        socket.local_addr().is_ok_and(|own| {
            let (own_ip, wanted) = (own.ip().to_canonical(), address.ip().to_canonical());
            let both_wild = own_ip.is_unspecified() && wanted.is_unspecified();
            own.port() == address.port() && (own_ip == wanted || both_wild)
        })
    }

    /// The next connection and who made it.
    pub(super) async fn accept(&self) -> io::Result<(Accepted, Source)> {
        match self {
            Self::Tcp(listener) => {
                let (tcp, peer) = listener.accept().await?;
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                Ok((Accepted::Tcp(tcp), Source::Address(peer)))
            }
            Self::Unix { socket, .. } => Ok((Accepted::Unix(socket.accept().await?.0), Source::Unix)),
            Self::Udp(_) => std::future::pending().await,
        }
    }

    /// A connection that waits to be accepted, if there is one; other tasks of this thread do not run meanwhile.
    pub(super) async fn accept_now(&self) -> io::Result<Option<Accepted>> {
        let accepted = poll_fn(|cx| {
            Poll::Ready(match self {
                Self::Tcp(listener) => listener.poll_accept(cx).map_ok(|(tcp, _)| Accepted::Tcp(tcp)),
                Self::Unix { socket, .. } => socket.poll_accept(cx).map_ok(|(unix, _)| Accepted::Unix(unix)),
                Self::Udp(_) => Poll::Pending,
            })
        });
        match accepted.await {
            Poll::Ready(accepted) => accepted.map(Some),
            Poll::Pending => Ok(None),
        }
    }
}

/// A connection whose options are not set yet.
pub(super) enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Accepted {
    /// Closes it so that its peer knows that it was refused; a unix socket just closes.
    pub(super) fn reset(self) {
        if let Self::Tcp(tcp) = &self {
            // An error means that the peer has left.
            let _ = socket2::SockRef::from(tcp).set_linger(Some(std::time::Duration::ZERO));
        }
    }

    /// Ready to be used; fails when it is gone already.
    pub(super) fn socket(self, probes: KeepAlive) -> io::Result<Socket> {
        match self {
            Self::Tcp(tcp) => Socket::accepted(tcp, probes),
            Self::Unix(unix) => Ok(Socket::unix(unix)),
        }
    }
}

/// Binds a listening socket. Unlike V2Ray it never shares a port that somebody else listens on. An unspecified
/// address takes both families, as Go's does.
///
/// # Errors
/// When the address is in use or not ours, or the port needs privileges.
pub fn bind(address: SocketAddr, options: &SocketOptions) -> io::Result<Listener> {
    let wildcard = address.ip().is_unspecified() && !options.only_v6;
    let both = SocketAddr::from(([0u16; 8], address.port()));
    let listener = match listen_on(if wildcard { both } else { address }, options, wildcard) {
        // A machine without IPv6.
        Err(error) if wildcard && is_unsupported(&error) => listen_on(address, options, false),
        listener => listener,
    };
    listener.map(Listener::Tcp)
}

fn is_unsupported(error: &io::Error) -> bool {
    /// "Address family not supported by protocol" and "Cannot assign requested address" (Linux).
    const NO_IPV6: [i32; 2] = [97, 99];
    error.raw_os_error().is_some_and(|code| NO_IPV6.contains(&code))
}

fn listen_on(address: SocketAddr, options: &SocketOptions, both_families: bool) -> io::Result<TcpListener> {
    let socket = stream_socket(options, address)?;
    if address.is_ipv6() {
        socket.set_only_v6(!both_families)?;
    }
    // Without it a restart within a minute finds its own closed connections in the way.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    direct(options, &socket).map_err(io::Error::other)?;
    if options.transparent == Transparent::Tproxy {
        be_transparent(&socket, address)?;
    }
    // What is refused has been told at the start.
    let _ = tune(options, &socket, Purpose::Listen);
    Socket::prepare_listener(&socket, options.keep_alive)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    if options.fast_open.is_some() {
        let _ = listen_fast(&listener, options);
    }
    Ok(listener)
}

/// Connections the kernel holds before we accept them.
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    fn port(listener: &Listener) -> u16 {
        listener.to_string().parse::<SocketAddr>().unwrap().port()
    }

    #[tokio::test]
    async fn wildcard_takes_connections_of_both_families() {
        let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
        for wildcard in ["0.0.0.0:0", "[::]:0"] {
            let listener = bind(wildcard.parse().unwrap(), &SocketOptions::default()).unwrap();
            let port = port(&listener);
            TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            if has_ipv6 {
                TcpStream::connect(("::1", port)).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn address_takes_no_connections_to_others() {
        let listener = bind("127.0.0.1:0".parse().unwrap(), &SocketOptions::default()).unwrap();
        let port = port(&listener);
        TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        for other in ["127.0.0.2", "::1"] {
            assert!(TcpStream::connect((other, port)).await.is_err(), "{other}");
        }
    }

    #[tokio::test]
    async fn accepted_connections_are_sent_without_delay_and_probed_when_silent() {
        let listener = bind("127.0.0.1:0".parse().unwrap(), &SocketOptions::default()).unwrap();
        let _near = TcpStream::connect(("127.0.0.1", port(&listener))).await.unwrap();
        let Accepted::Tcp(far) = listener.accept().await.unwrap().0 else { panic!("a unix socket") };
        let far = socket2::SockRef::from(&far);
        assert!(far.tcp_nodelay().unwrap());
        assert!(far.keepalive().unwrap());
        assert_eq!(far.tcp_keepalive_time().unwrap(), std::time::Duration::from_secs(45));
    }
}
