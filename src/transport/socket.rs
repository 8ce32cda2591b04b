//! A TCP socket, read and written in batches with as few system calls as the kernel allows.

use std::{
    io::{self, IoSlice, IoSliceMut, Read as _},
    net::SocketAddr,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncWrite, Interest},
    net::TcpStream,
};

use crate::stream::Batch;

/// A connected stream socket.
#[derive(Debug)]
pub struct Socket {
    tcp: TcpStream,
    /// Closing it resets it: see [`Socket::reset_unless_complete`].
    resets: AtomicBool,
}

impl Socket {
    /// Wraps a connected socket: no delay, and keepalive probes so that a vanished peer is noticed.
    ///
    /// # Errors
    /// When the socket is gone already.
    pub fn new(tcp: TcpStream) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        SockRef::from(&tcp).set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEPALIVE_IDLE))?;
        Ok(Self { tcp, resets: AtomicBool::new(false) })
    }

    /// Who is on the other end.
    ///
    /// # Errors
    /// When the socket is gone already.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        self.tcp.peer_addr()
    }

    /// Our own address.
    ///
    /// # Errors
    /// When the socket is gone already.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Ready when a read would find bytes or an end.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp.poll_read_ready(cx)
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
        let tried = self.tcp.try_io(Interest::READABLE, || {
            let read = (&*SockRef::from(&self.tcp)).read_vectored(slots)?;
            got = Some(read);
            if read > 0 && read < wanted { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match (got, tried) {
            (Some(read), _) => Ok(read),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Writes the batch until it is empty.
    ///
    /// # Errors
    /// As write(2).
    pub fn poll_write(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<io::Result<()>> {
        while !batch.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let used = batch.slices(&mut slices);
            let written = ready!(Pin::new(&mut self.tcp).poll_write_vectored(cx, &slices[..used]))?;
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
            let written = ready!(Pin::new(&mut self.tcp).poll_write(cx, bytes))?;
            bytes.drain(..written);
        }
        *bytes = Vec::new();
        Poll::Ready(Ok(()))
    }

    /// Sends a FIN: we write no more.
    pub fn shutdown_write(&self) {
        // An error means that the connection is gone, which the reading side reports.
        let _ = SockRef::from(&self.tcp).shutdown(std::net::Shutdown::Write);
    }

    /// Whatever closes the socket from here on resets it, be it a dropped task or the death of the process: the peer
    /// cannot take what it got for the whole. Until [`Socket::close_cleanly`].
    pub fn reset_unless_complete(&self) {
        // An error means that the connection is gone, which the reading side reports.
        let _ = SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO));
        self.resets.store(true, Ordering::Relaxed);
    }

    /// The stream is complete: closing is an ordinary close.
    pub fn close_cleanly(&self) {
        // Called again and again while a goodbye is on its way, and for sockets that close so anyway.
        if self.resets.swap(false, Ordering::Relaxed) {
            let _ = SockRef::from(&self.tcp).set_linger(None);
        }
    }

    /// Appends what the socket has to `bytes`, at most `most`; 0 means the end. For handshakes.
    ///
    /// # Errors
    /// As read(2).
    pub async fn read_some(&self, bytes: &mut Vec<u8>, most: usize) -> io::Result<usize> {
        let before = bytes.len();
        loop {
            self.tcp.readable().await?;
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
        tokio::io::AsyncWriteExt::write_all(&mut self.tcp, bytes).await
    }
}

/// After this much silence the kernel asks whether the peer is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(45);

/// Pieces per write; a bulk batch has 16, a batch from a peer that sends 2 KiB chunks has 128.
const SLICES: usize = 128;
