//! A stream socket, read and written in batches with as few system calls as the kernel allows.

use std::{
    io::{self, IoSlice, IoSliceMut, Read as _},
    net::SocketAddr,
    os::fd::AsFd,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use nix::{
    libc, setsockopt_impl,
    sys::socket::{SetSockOpt as _, sockopt::SetUsize},
};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send, sockopt},
};
use socket2::SockRef;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt, Interest},
    net::{TcpStream, UnixStream},
};

use wsray_config::KeepAlive;

use super::options::keep_alive;
use crate::stream::Batch;

/// A connected stream socket, TCP or unix.
///
/// The kernel cannot reset a unix socket: whoever reads from one takes a cut for an end, unless the protocol inside
/// marks its ends, as VMess and TLS do.
#[derive(Debug)]
pub struct Socket(Kind);

/// Laid out so that an idle session is no larger for it.
#[derive(Debug)]
enum Kind {
    Tcp {
        tcp: TcpStream,
        /// Closing it resets it: see [`Socket::reset_unless_complete`].
        resets: AtomicBool,
    },
    Unix(UnixStream),
    Pair(Box<End>),
}

/// One end of a pair inside the process, where a cut can be told from an end.
#[derive(Debug)]
struct End {
    unix: UnixStream,
    /// Closing it is a cut: see [`Socket::reset_unless_complete`].
    resets: AtomicBool,
    /// Tells the other end that this one was cut.
    cut: Arc<AtomicBool>,
    /// Whether the other end was cut.
    was_cut: Arc<AtomicBool>,
}

impl Drop for End {
    fn drop(&mut self) {
        // Before the descriptor closes, so that who reads the end knows already.
        self.cut.store(self.resets.load(Ordering::Relaxed), Ordering::Release);
    }
}

/// The same for all kinds.
macro_rules! on_stream {
    (&mut $socket:expr, $stream:ident => $do:expr) => {
        match &mut $socket {
            Kind::Tcp { tcp: $stream, .. } => $do,
            Kind::Unix($stream) => $do,
            Kind::Pair(end) => {
                let $stream = &mut end.unix;
                $do
            }
        }
    };
    (&$socket:expr, $stream:ident => $do:expr) => {
        match &$socket {
            Kind::Tcp { tcp: $stream, .. } => $do,
            Kind::Unix($stream) => $do,
            Kind::Pair(end) => {
                let $stream = &end.unix;
                $do
            }
        }
    };
}

impl Socket {
    /// Wraps a connected TCP socket: no delay, and keepalive probes so that a vanished peer is noticed.
    ///
    /// # Errors
    /// When the socket is gone already.
    pub fn new(tcp: TcpStream) -> io::Result<Self> {
        Self::with_probes(tcp, KeepAlive::default())
    }

    /// The same with other probes.
    ///
    /// # Errors
    /// As there.
    pub fn with_probes(tcp: TcpStream, probes: KeepAlive) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        keep_alive(&SockRef::from(&tcp), probes)?;
        Ok(Self(Kind::Tcp { tcp, resets: AtomicBool::new(false) }))
    }

    /// Wraps a socket from a listener that was [`Socket::prepare_listener`]'s: on Linux it is set up already.
    ///
    /// # Errors
    /// As [`Socket::new`].
    pub fn accepted(tcp: TcpStream, probes: KeepAlive) -> io::Result<Self> {
        if !cfg!(target_os = "linux") {
            return Self::with_probes(tcp, probes);
        }
        Ok(Self(Kind::Tcp { tcp, resets: AtomicBool::new(false) }))
    }

    /// Sets what connections inherit from a listener on Linux, which saves three system calls for each.
    ///
    /// # Errors
    /// As setsockopt(2).
    pub fn prepare_listener(listener: &impl AsFd, probes: KeepAlive) -> io::Result<()> {
        let listener = SockRef::from(listener);
        listener.set_tcp_nodelay(true)?;
        keep_alive(&listener, probes)
    }

    /// Wraps a connected unix socket.
    pub fn unix(unix: UnixStream) -> Self {
        Self(Kind::Unix(unix))
    }

    /// Two sockets connected with each other, inside the process. Each sees a cut of the other as a reset.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = UnixStream::pair()?;
        let cuts = [Arc::<AtomicBool>::default(), Arc::default()];
        let end = |unix, cut: &Arc<AtomicBool>, was_cut: &Arc<AtomicBool>| {
            let (cut, was_cut) = (Arc::clone(cut), Arc::clone(was_cut));
            Self(Kind::Pair(Box::new(End { unix, resets: AtomicBool::new(false), cut, was_cut })))
        };
        Ok((end(one, &cuts[0], &cuts[1]), end(other, &cuts[1], &cuts[0])))
    }

    /// Our own address; `None`: it is a unix socket.
    ///
    /// # Errors
    /// When the socket is gone already.
    pub fn local(&self) -> io::Result<Option<SocketAddr>> {
        match &self.0 {
            Kind::Tcp { tcp, .. } => tcp.local_addr().map(Some),
            Kind::Unix(_) | Kind::Pair(_) => Ok(None),
        }
    }

    /// Who is on the other end; `None`: it is a unix socket.
    ///
    /// # Errors
    /// When the socket is gone already.
    pub fn peer(&self) -> io::Result<Option<SocketAddr>> {
        match &self.0 {
            Kind::Tcp { tcp, .. } => tcp.peer_addr().map(Some),
            Kind::Unix(_) | Kind::Pair(_) => Ok(None),
        }
    }

    /// Where the peer was going before the firewall's `REDIRECT` sent it here; `None`: nothing did.
    ///
    /// # Errors
    /// When the socket is gone already.
    pub fn original_destination(&self) -> io::Result<Option<SocketAddr>> {
        let Kind::Tcp { tcp, .. } = &self.0 else { return Ok(None) };
        let found = if tcp.local_addr()?.ip().to_canonical().is_ipv4() {
            sockopt::ip_original_dst(tcp).map(SocketAddr::V4)
        } else {
            sockopt::ipv6_original_dst(tcp).map(SocketAddr::V6)
        };
        match found {
            Ok(address) => Ok(Some(address)),
            // No such connection, or nothing that follows connections at all.
            Err(Errno::NOENT | Errno::NOPROTOOPT | Errno::OPNOTSUPP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The first byte that a read would find, left where it is; `None`: the end.
    ///
    /// # Errors
    /// As recv(2).
    pub async fn peek(&self) -> io::Result<Option<u8>> {
        let mut first = [0];
        loop {
            let peeked = on_stream!(&self.0, stream => {
                stream.readable().await?;
                stream.try_io(Interest::READABLE, || Ok(recv(stream, &mut first, RecvFlags::PEEK)?.0))
            });
            match peeked {
                Ok(read) => return Ok((read > 0).then_some(first[0])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Ready when a read would find bytes or an end.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(&self.0, stream => stream.poll_read_ready(cx))
    }

    /// Reads into `slots`; 0 means the end. `WouldBlock` when there was nothing after all.
    ///
    /// A read that does not fill the slots has emptied the socket, so readiness is cleared at once and the next
    /// poll waits, without the system call that would only say "nothing there".
    ///
    /// # Errors
    /// As read(2).
    pub fn try_read(&self, slots: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let wanted: usize = slots.iter().map(|slot| slot.len()).sum();
        let mut got = None;
        let mut read = |socket: SockRef<'_>| {
            let read = (&*socket).read_vectored(slots)?;
            got = Some(read);
            if read > 0 && read < wanted { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        };
        let tried = on_stream!(&self.0, stream => {
            stream.try_io(Interest::READABLE, || read(SockRef::from(stream)))
        });
        match (got, tried) {
            (Some(0), _) if self.was_cut() => Err(io::ErrorKind::ConnectionReset.into()),
            (Some(read), _) => Ok(read),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// As [`Socket::try_read`], but asks the kernel whether there is something.
    ///
    /// # Errors
    /// As read(2).
    pub fn read_now(&self, slots: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let read = on_stream!(&self.0, stream => (&*SockRef::from(stream)).read_vectored(slots))?;
        if read == 0 && self.was_cut() { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(read) }
    }

    /// The socket becomes readable only when so many bytes, an end or an error have come.
    ///
    /// # Errors
    /// As setsockopt(2); `Unsupported`: only TCP can.
    pub fn gather(&self, bytes: usize) -> io::Result<()> {
        match &self.0 {
            Kind::Tcp { tcp, .. } => Ok(ReceiveLowWater.set(tcp, &bytes)?),
            Kind::Unix(_) | Kind::Pair(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn was_cut(&self) -> bool {
        matches!(&self.0, Kind::Pair(end) if end.was_cut.load(Ordering::Acquire))
    }

    /// Writes the batch until it is empty.
    ///
    /// # Errors
    /// As write(2).
    pub fn poll_write(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<io::Result<()>> {
        while !batch.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let used = batch.slices(&mut slices);
            let written = ready!(on_stream!(&mut self.0, stream => {
                Pin::new(stream).poll_write_vectored(cx, &slices[..used])
            }))?;
            batch.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes and takes `bytes` from the front until they are empty.
    ///
    /// # Errors
    /// As write(2).
    pub fn poll_write_bytes(&mut self, cx: &mut Context<'_>, bytes: &mut Vec<u8>) -> Poll<io::Result<()>> {
        while !bytes.is_empty() {
            let written = ready!(on_stream!(&mut self.0, stream => Pin::new(stream).poll_write(cx, bytes)))?;
            bytes.drain(..written);
        }
        *bytes = Vec::new();
        Poll::Ready(Ok(()))
    }

    /// As [`Socket::poll_write_bytes`], for bytes that a FIN follows at once: the kernel sends both in one packet.
    ///
    /// # Errors
    /// As send(2).
    pub fn poll_write_last(&mut self, cx: &mut Context<'_>, bytes: &mut Vec<u8>) -> Poll<io::Result<()>> {
        while !bytes.is_empty() {
            ready!(on_stream!(&self.0, stream => stream.poll_write_ready(cx)))?;
            let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
            let written = on_stream!(&self.0, stream => {
                stream.try_io(Interest::WRITABLE, || Ok(send(stream, bytes, flags)?))
            });
            match written {
                Ok(written) => drop(bytes.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        *bytes = Vec::new();
        Poll::Ready(Ok(()))
    }

    /// Lets little wait in the kernel behind what is on its way: of many sessions that share a connection a quiet one
    /// would wait for all of it. Costs a bulk sender some wake-ups.
    pub fn share(&self) {
        #[cfg(any(target_os = "linux", target_os = "android", target_os = "macos", target_os = "freebsd"))]
        if let Kind::Tcp { tcp, .. } = &self.0 {
            // Without it the connection is only slower to answer.
            let _ = SockRef::from(tcp).set_tcp_notsent_lowat(SHARED_UNSENT);
        }
    }

    /// Sends a FIN: we write no more.
    pub fn shutdown_write(&self) {
        // An error means that the connection is gone, which the reading side reports.
        let _ = on_stream!(&self.0, stream => SockRef::from(stream).shutdown(std::net::Shutdown::Write));
    }

    /// Whatever closes a TCP socket or one of a pair from here on resets it, be it a dropped task or the death of the process: the peer
    /// cannot take what it got for the whole. Until [`Socket::close_cleanly`].
    pub fn reset_unless_complete(&self) {
        match &self.0 {
            Kind::Tcp { tcp, resets } => {
                // An error means that the connection is gone, which the reading side reports.
                let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
                resets.store(true, Ordering::Relaxed);
            }
            Kind::Pair(end) => end.resets.store(true, Ordering::Relaxed),
            Kind::Unix(_) => {}
        }
    }

    /// The stream is complete: closing is an ordinary close.
    pub fn close_cleanly(&self) {
        // Called again and again while a goodbye is on its way, and for sockets that close so anyway.
        match &self.0 {
            Kind::Tcp { tcp, resets } => {
                if resets.swap(false, Ordering::Relaxed) {
                    let _ = SockRef::from(tcp).set_linger(None);
                }
            }
            Kind::Pair(end) => end.resets.store(false, Ordering::Relaxed),
            Kind::Unix(_) => {}
        }
    }

    /// Appends what the socket has to `bytes`, at most `most`; 0 means the end. For handshakes.
    ///
    /// # Errors
    /// As read(2).
    pub async fn read_some(&self, bytes: &mut Vec<u8>, most: usize) -> io::Result<usize> {
        let before = bytes.len();
        loop {
            // Who waits does so without the room that a read left.
            bytes.shrink_to_fit();
            on_stream!(&self.0, stream => stream.readable().await)?;
            bytes.resize(before + most, 0);
            let read = self.try_read(&mut [IoSliceMut::new(&mut bytes[before..])]);
            bytes.truncate(before + read.as_ref().map_or(0, |&n| n));
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }

    /// Writes all of `bytes`. For handshakes.
    ///
    /// # Errors
    /// As write(2).
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        on_stream!(&mut self.0, stream => stream.write_all(bytes).await)
    }
}

/// `SO_RCVLOWAT`, see socket(7).
#[derive(Clone, Copy, Debug)]
struct ReceiveLowWater;
setsockopt_impl!(ReceiveLowWater, libc::SOL_SOCKET, libc::SO_RCVLOWAT, usize, SetUsize);

/// What may wait unsent on a shared connection, in bytes: 50 ms of 10 Mbit/s.
const SHARED_UNSENT: u32 = 64 * 1024;

/// Pieces per write; a bulk batch has 16, a batch from a peer that sends 2 KiB chunks has 128.
const SLICES: usize = 128;

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::*;

    #[test]
    fn socket_takes_no_more_room_than_tcp_alone() {
        assert_eq!(size_of::<Socket>(), size_of::<(TcpStream, AtomicBool)>());
    }

    #[tokio::test]
    async fn gathering_socket_is_readable_by_so_many_bytes_or_by_the_end() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (far, near) = tokio::join!(connecting, listener.accept());
        let (mut far, near) = (far.unwrap(), Socket::new(near.unwrap().0).unwrap());
        let readable = || async {
            let waiting = std::future::poll_fn(|cx| near.poll_readable(cx));
            tokio::time::timeout(Duration::from_millis(100), waiting).await.is_ok()
        };
        // A fresh socket counts as readable until a read has found nothing.
        assert!(near.try_read(&mut [IoSliceMut::new(&mut [0; 8])]).is_err());
        near.gather(5000).unwrap();
        far.write_all(&[1; 4000]).await.unwrap();
        assert!(!readable().await);
        let mut bytes = [0; 3000];
        assert_eq!(near.read_now(&mut [IoSliceMut::new(&mut bytes)]).unwrap(), 3000);
        far.write_all(&[1; 4000]).await.unwrap();
        assert!(readable().await);
        assert_eq!(near.try_read(&mut [IoSliceMut::new(&mut [0; 8000])]).unwrap(), 5000);
        let nothing = near.read_now(&mut [IoSliceMut::new(&mut bytes)]).map_err(|error| error.kind());
        assert_eq!(nothing, Err(io::ErrorKind::WouldBlock));
        far.write_all(&[1]).await.unwrap();
        assert!(!readable().await);
        // The end does not wait for more.
        far.shutdown().await.unwrap();
        assert!(readable().await);
    }

    #[tokio::test]
    async fn pair_shows_a_cut_as_a_reset_after_what_came_before_it() {
        for complete in [false, true] {
            let (mut one, other) = Socket::pair().unwrap();
            one.write_all(b"half").await.unwrap();
            one.reset_unless_complete();
            if complete {
                one.close_cleanly();
            }
            drop(one);
            let mut read = Vec::new();
            assert_eq!(other.read_some(&mut read, 64).await.unwrap(), 4);
            let end = other.read_some(&mut read, 64).await.map_err(|error| error.kind());
            assert_eq!(end, if complete { Ok(0) } else { Err(io::ErrorKind::ConnectionReset) });
        }
    }

    #[tokio::test]
    async fn pair_carries_bytes_and_the_end_of_each_direction() {
        let (mut one, mut other) = Socket::pair().unwrap();
        one.write_all(b"there").await.unwrap();
        one.shutdown_write();
        other.write_all(b"and back").await.unwrap();
        assert_eq!(other.peek().await.unwrap(), Some(b't'));
        for (socket, expected) in [(&other, &b"there"[..]), (&one, b"and back")] {
            let mut read = Vec::new();
            assert_eq!(socket.read_some(&mut read, 64).await.unwrap(), expected.len());
            assert_eq!(read, expected);
        }
        assert_eq!(other.peek().await.unwrap(), None);
        assert_eq!(other.read_some(&mut Vec::new(), 64).await.unwrap(), 0);
        assert_eq!(one.local().unwrap(), None);
        drop(other);
        assert_eq!(one.read_some(&mut Vec::new(), 64).await.unwrap(), 0);
    }
}
