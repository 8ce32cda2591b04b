//! `sockopt`: what is set on a socket before it listens or connects.

use std::{io, net::SocketAddr, num::NonZeroU32, os::fd::AsFd, time::Duration};

use nix::{
    libc, setsockopt_impl,
    sys::socket::{
        SetSockOpt as _, setsockopt,
        sockopt::{SetUsize, TcpFastOpenConnect},
    },
};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use wsray_config::{BufferSizes, FastOpen, KeepAlive, SocketOptions, Transparent};

/// An option that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot set {option} on the socket: {source}{hint}", hint = hint(option, source))]
pub struct OptionError {
    /// Its name in `sockopt`, and its value.
    pub option: String,
    /// What the kernel says.
    pub source: io::Error,
}

fn hint(option: &str, error: &io::Error) -> &'static str {
    let is = |name| option.starts_with(name);
    match error.kind() {
        io::ErrorKind::PermissionDenied if is("mark") => " (it needs root or the capability CAP_NET_ADMIN)",
        io::ErrorKind::PermissionDenied if is("interface") => " (it needs the capability CAP_NET_RAW)",
        io::ErrorKind::PermissionDenied if is("tcpCongestion") => {
            " (it needs root, or a place in the sysctl net.ipv4.tcp_allowed_congestion_control)"
        }
        io::ErrorKind::NotFound if is("tcpCongestion") => {
            " (load its module, or write one of the sysctl net.ipv4.tcp_available_congestion_control)"
        }
        _ if is("interface") => " (ip link shows the devices that there are)",
        _ => "",
    }
}

/// Whom a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It listens for streams.
    Listen,
    /// It connects a stream.
    Connect,
    /// It sends and receives packets.
    Packets,
}

/// A stream socket for `address`, over several ways at once if that is wanted and the kernel can.
///
/// # Errors
/// When the system has none to give.
pub fn stream_socket(options: &SocketOptions, address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    if options.multipath
        && let Ok(socket) = Socket::new(domain, Type::STREAM, Some(Protocol::MPTCP))
    {
        return Ok(socket);
    }
    Socket::new(domain, Type::STREAM, Some(Protocol::TCP))
}

/// Sets what decides the way that packets take: without it they must not be sent.
///
/// # Errors
/// The first option that the kernel refuses.
pub fn direct(options: &SocketOptions, socket: &impl AsFd) -> Result<(), OptionError> {
    let socket = SockRef::from(socket);
    if let Some(mark) = options.mark {
        named(socket.set_mark(mark.get()), || format!("mark {mark}"))?;
    }
    if let Some(device) = &options.device {
        named(socket.bind_device(Some(device.as_bytes())), || format!("interface {device:?}"))?;
    }
    Ok(())
}

/// Sets what makes connections better or worse; what the kernel refuses is left as it was and returned.
pub fn tune(options: &SocketOptions, socket: &impl AsFd, purpose: Purpose) -> Vec<OptionError> {
    let fd = socket;
    let socket = SockRef::from(socket);
    let mut refused = Vec::new();
    let mut set = |result: io::Result<()>, name: &dyn Fn() -> String| {
        refused.extend(named(result, name).err());
    };
    let BufferSizes { receive, send, beyond_limit } = options.buffers;
    if let Some(bytes) = receive {
        set(buffer(&socket, bytes, Buffer::Receive, beyond_limit), &|| format!("rxBufSize {bytes}"));
    }
    if let Some(bytes) = send {
        set(buffer(&socket, bytes, Buffer::Send, beyond_limit), &|| format!("txBufSize {bytes}"));
    }
    if purpose == Purpose::Packets {
        return refused;
    }
    if let Some(name) = &options.congestion {
        set(socket.set_tcp_congestion(name.as_bytes()), &|| format!("tcpCongestion {name:?}"));
    }
    if options.user_timeout.is_some() {
        set(socket.set_tcp_user_timeout(options.user_timeout), &|| "tcpUserTimeout".to_owned());
    }
    if let Some(bytes) = options.max_segment {
        set(socket.set_tcp_mss(bytes.into()), &|| format!("tcpMaxSeg {bytes}"));
    }
    set(keep_alive(&socket, options.keep_alive), &|| "tcpKeepAliveIdle or tcpKeepAliveInterval".to_owned());
    if let (Purpose::Connect, Some(wanted)) = (purpose, options.fast_open) {
        let set_to = setsockopt(fd, TcpFastOpenConnect, &(wanted == FastOpen::On));
        set(set_to.map_err(io::Error::from), &|| "tcpFastOpen".to_owned());
    }
    refused
}

/// Whether a listener takes data in the first packet of a connection, and from how many at a time.
///
/// # Errors
/// When the kernel cannot.
pub fn listen_fast(listener: &impl AsFd, options: &SocketOptions) -> Result<(), OptionError> {
    let length = match options.fast_open {
        Some(FastOpen::On) => options.fast_open_queue.map_or(FAST_OPEN_QUEUE, NonZeroU32::get),
        Some(FastOpen::Off) | None => 0,
    };
    let set = FastOpenQueue.set(listener, &usize::try_from(length).unwrap_or(usize::MAX));
    named(set.map_err(io::Error::from), || "tcpFastOpen".to_owned())
}

/// `TCP_FASTOPEN`, see tcp(7).
#[derive(Clone, Copy, Debug)]
struct FastOpenQueue;
setsockopt_impl!(FastOpenQueue, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, usize, SetUsize);

/// How many connections may begin with data at a time.
const FAST_OPEN_QUEUE: u32 = 1024;

/// Makes an open listener, which was set up for `before`, what `now` wants. Returns what the kernel refuses, and what
/// only a new listener can have.
pub fn retune(
    socket: &impl AsFd,
    before: &SocketOptions,
    now: &SocketOptions,
    purpose: Purpose,
) -> Vec<OptionError> {
    let fd = socket;
    let socket = SockRef::from(socket);
    let mut refused = Vec::new();
    if before.mark != now.mark {
        let mark = now.mark.map_or(0, NonZeroU32::get);
        refused.extend(named(socket.set_mark(mark), || format!("mark {mark}")).err());
    }
    if before.device != now.device {
        let device = now.device.as_deref();
        let bound = socket.bind_device(device.map(str::as_bytes));
        refused.extend(named(bound, || format!("interface {:?}", device.unwrap_or_default())).err());
    }
    if purpose == Purpose::Listen {
        let unset = unset(before, now, &socket);
        refused
            .extend(unset.into_iter().filter_map(|(result, name)| named(result, || name.to_owned()).err()));
        if (before.fast_open, before.fast_open_queue) != (now.fast_open, now.fast_open_queue) {
            refused.extend(listen_fast(fd, now).err());
        }
    }
    // What is refused has been told.
    let _ = tune(now, fd, purpose);
    refused.extend(only_anew(before, now).into_iter().map(|option| OptionError {
        option: option.to_owned(),
        source: io::Error::new(io::ErrorKind::Unsupported, ONLY_ANEW),
    }));
    refused
}

/// Takes back what is not wanted any more.
fn unset(
    before: &SocketOptions,
    now: &SocketOptions,
    socket: &SockRef<'_>,
) -> Vec<(io::Result<()>, &'static str)> {
    let mut done = Vec::new();
    if before.congestion.is_some() && now.congestion.is_none() {
        done.push((default_congestion(socket), "tcpCongestion"));
    }
    if before.user_timeout.is_some() && now.user_timeout.is_none() {
        done.push((socket.set_tcp_user_timeout(None), "tcpUserTimeout"));
    }
    if before.max_segment.is_some() && now.max_segment.is_none() {
        done.push((socket.set_tcp_mss(0), "tcpMaxSeg"));
    }
    done
}

/// The congestion control of sockets that ask for none.
fn default_congestion(socket: &SockRef<'_>) -> io::Result<()> {
    let name = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?.tcp_congestion()?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    socket.set_tcp_congestion(name)
}

/// The options that an open listener keeps.
fn only_anew(before: &SocketOptions, now: &SocketOptions) -> Vec<&'static str> {
    let BufferSizes { receive, send, .. } = now.buffers;
    let changed = [
        ("V6Only", before.only_v6 != now.only_v6),
        ("mptcp", before.multipath != now.multipath),
        ("tproxy", (before.transparent == Transparent::Tproxy) != (now.transparent == Transparent::Tproxy)),
        ("rxBufSize", before.buffers.receive.is_some() && receive.is_none()),
        ("txBufSize", before.buffers.send.is_some() && send.is_none()),
    ];
    changed.into_iter().filter_map(|(name, changed)| changed.then_some(name)).collect()
}

const ONLY_ANEW: &str = "it is open already, and goes on as it is until wsray is started anew";

/// What the kernel refuses of `options`, tried on a socket of its own.
pub fn refused(options: &SocketOptions, purpose: Purpose) -> Vec<OptionError> {
    let any = SocketAddr::from(([0; 4], 0));
    let socket = match stream_socket(options, any) {
        Ok(socket) => socket,
        Err(source) => return vec![OptionError { option: "anything".to_owned(), source }],
    };
    let mut refused: Vec<_> = direct(options, &socket).err().into_iter().collect();
    refused.extend(tune(options, &socket, purpose));
    if options.multipath && socket.protocol().is_ok_and(|protocol| protocol != Some(Protocol::MPTCP)) {
        let source = io::Error::new(io::ErrorKind::Unsupported, "the kernel has no MPTCP");
        refused.push(OptionError { option: "mptcp".to_owned(), source });
    }
    refused
}

/// Probes on a connected socket: what `sockopt` says, else after 45 seconds of silence.
///
/// # Errors
/// When the socket is gone already.
pub fn keep_alive(socket: &SockRef<'_>, wanted: KeepAlive) -> io::Result<()> {
    let KeepAlive::On { idle, interval } = wanted else { return socket.set_keepalive(false) };
    let probes = TcpKeepalive::new().with_time(idle.unwrap_or(KEEPALIVE_IDLE));
    socket.set_tcp_keepalive(&match interval {
        Some(interval) => probes.with_interval(interval),
        None => probes,
    })
}

/// After this much silence the kernel asks whether the peer is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(45);

#[derive(Clone, Copy)]
enum Buffer {
    Receive,
    Send,
}

fn buffer(socket: &SockRef<'_>, bytes: u32, buffer: Buffer, beyond_limit: bool) -> io::Result<()> {
    use rustix::net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force};
    let size = usize::try_from(bytes).unwrap_or(usize::MAX);
    match (buffer, beyond_limit) {
        (Buffer::Receive, false) => socket.set_recv_buffer_size(size),
        (Buffer::Send, false) => socket.set_send_buffer_size(size),
        (Buffer::Receive, true) => Ok(set_socket_recv_buffer_size_force(socket.as_fd(), size)?),
        (Buffer::Send, true) => Ok(set_socket_send_buffer_size_force(socket.as_fd(), size)?),
    }
}

fn named(result: io::Result<()>, name: impl FnOnce() -> String) -> Result<(), OptionError> {
    result.map_err(|source| OptionError { option: name(), source })
}
