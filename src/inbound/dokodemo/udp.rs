//! Packets through a door: a session for each client and target, and answers from where the client sent to.

use std::{
    collections::HashMap,
    fmt, io,
    net::SocketAddr,
    os::fd::AsRawFd,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg, setsockopt,
    sockopt::{Ipv4OrigDstAddr, Ipv6OrigDstAddr},
};
use socket2::{Domain, Protocol, Type};
use tokio::{
    io::Interest,
    net::UdpSocket,
    sync::{
        mpsc::{Receiver, Sender, channel, error::TrySendError},
        watch,
    },
    task::JoinSet,
    time::sleep,
};
use wsray_config::{SocketOptions, Transparent};
use wsray_vmess::{Network, Target};

use super::{DokodemoInbound, Door, Refusal};
use crate::{
    inbound::{Inbound, Listener, serve::prepare},
    session::Source,
    stream::{Cut, Layout, MAX_PACKET, PacketSocket, Packets, Pool, Read, lossy},
    transport::options::{OptionError, Purpose, direct, retune, tune},
};

/// The most clients and targets that exchange packets at a time; packets of further ones are dropped.
pub(super) const MAX_FLOWS: usize = 4096;

/// Packets that wait for a flow; further ones are dropped.
const WAITING_PACKETS: usize = 64;

/// Room for the control messages of one packet; the largest is an IPv6 address with its header.
const CONTROL_BYTES: usize = 256;

/// How long to wait when packets cannot be received.
const PAUSE: Duration = Duration::from_millis(50);

/// A socket that takes packets.
#[derive(Debug)]
pub struct PacketListener(Arc<UdpSocket>);

impl fmt::Display for PacketListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.local_addr() {
            Ok(address) => write!(f, "{address} (UDP)"),
            Err(_) => f.write_str("?"),
        }
    }
}

impl PacketListener {
    /// As [`Listener::retune`].
    pub(in crate::inbound) fn retune(&self, before: &SocketOptions, now: &SocketOptions) -> Vec<OptionError> {
        retune(&*self.0, before, now, Purpose::Packets)
    }
}

/// Binds a socket for packets. An unspecified address takes both families, as Go's does.
///
/// # Errors
/// When the address is in use or not ours, or transparency needs a capability.
pub fn bind_packets(address: SocketAddr, options: &SocketOptions) -> io::Result<PacketListener> {
    let wildcard = address.ip().is_unspecified() && !options.only_v6;
    let both = SocketAddr::from(([0u16; 8], address.port()));
    let socket = match socket_on(if wildcard { both } else { address }, options, wildcard) {
        // A machine without IPv6.
        Err(error) if wildcard && matches!(error.raw_os_error(), Some(97 | 99)) => {
            socket_on(address, options, false)
        }
        socket => socket,
    };
    UdpSocket::from_std(socket?.into()).map(|socket| PacketListener(Arc::new(socket)))
}

fn socket_on(
    address: SocketAddr,
    options: &SocketOptions,
    both_families: bool,
) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!both_families)?;
    }
    socket.set_nonblocking(true)?;
    direct(options, &socket).map_err(io::Error::other)?;
    let _ = tune(options, &socket, Purpose::Packets);
    if options.transparent == Transparent::Tproxy {
        be_transparent(&socket, address)?;
        if address.is_ipv6() {
            setsockopt(&socket, Ipv6OrigDstAddr, &true)?;
        }
        if address.is_ipv4() || both_families {
            setsockopt(&socket, Ipv4OrigDstAddr, &true)?;
        }
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Lets the socket have addresses that are not this machine's (ip(7), `IP_TRANSPARENT`).
pub(in crate::inbound) fn be_transparent(socket: &socket2::Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() { socket.set_ip_transparent_v6(true) } else { socket.set_ip_transparent_v4(true) }
}

/// A packet that came.
struct Received {
    length: usize,
    from: SocketAddr,
    /// Where it was going, if the kernel says so.
    original: Option<SocketAddr>,
}

fn receive(socket: &UdpSocket, packet: &mut [u8], control: &mut [u8]) -> io::Result<Received> {
    let mut pieces = [io::IoSliceMut::new(packet)];
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut pieces, Some(control), MsgFlags::empty())?;
    let original = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4OrigDstAddr(address) => Some(SocketAddr::from(SockaddrIn::from(address))),
        ControlMessageOwned::Ipv6OrigDstAddr(address) => Some(SocketAddr::from(SockaddrIn6::from(address))),
        _ => None,
    });
    let from = message.address.as_ref().and_then(|address| {
        let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from(*v4));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::from(*v6)))
    });
    let from = from.ok_or_else(|| io::Error::other("a packet without a sender"))?;
    Ok(Received { length: message.bytes, from, original })
}

type FlowKey = (SocketAddr, Target);

/// Serves packets for the inbound of the moment until its sender is gone.
pub(in crate::inbound) async fn serve_packets(
    listener: Listener,
    mut set_up: Arc<SocketOptions>,
    mut inbound: watch::Receiver<Arc<Inbound>>,
) {
    let Listener::Udp(PacketListener(socket)) = &listener else { return };
    let mut flows: HashMap<FlowKey, Sender<Vec<u8>>> = HashMap::new();
    let mut running = JoinSet::new();
    let (mut packet, mut control) = (vec![0; MAX_PACKET], vec![0; CONTROL_BYTES]);
    loop {
        tokio::select! {
            received = socket.async_io(Interest::READABLE, || receive(socket, &mut packet, &mut control)) => {
                let Ok(received) = received else {
                    sleep(PAUSE).await;
                    continue;
                };
                let inbound = Arc::clone(&inbound.borrow());
                let Inbound::Dokodemo(door) = &*inbound else { continue };
                door.forward(&packet[..received.length], &received, socket, &mut flows, &mut running);
            }
            Some(ended) = running.join_next() => {
                // Another flow may have taken the place of the one that has ended.
                if let Ok(key) = ended
                    && flows.get(&key).is_some_and(Sender::is_closed)
                {
                    flows.remove(&key);
                }
            }
            changed = inbound.changed() => match changed {
                Ok(()) => prepare(&listener, &mut set_up, &inbound.borrow()),
                Err(_) => return,
            },
        }
    }
}

impl DokodemoInbound {
    /// Gives a packet to its flow, which is started if there is none.
    fn forward(
        &self,
        packet: &[u8],
        received: &Received,
        socket: &Arc<UdpSocket>,
        flows: &mut HashMap<FlowKey, Sender<Vec<u8>>>,
        running: &mut JoinSet<FlowKey>,
    ) {
        let from = received.from;
        let source = Source::Address(canonical(from));
        let target = match &self.door {
            Door::Fixed(target) => Ok(target.clone()),
            Door::Redirected { otherwise } | Door::Tproxied { otherwise } => {
                self.followed(received.original, otherwise.as_ref())
            }
        };
        let target = match target {
            Ok(target) => target,
            Err(refusal) => return self.tell(source, &refusal),
        };
        let key = (from, target);
        match place(packet, &key, flows) {
            Place::Taken => return,
            Place::Crowded => return self.tell(source, &Refusal::Crowded),
            Place::Free => {}
        }
        // Not what was sent to this inbound itself, and went elsewhere for that reason.
        let original = received.original.map(canonical).filter(|&original| key.1 == Target::from(original));
        let original = original.filter(|_| matches!(self.door, Door::Tproxied { .. }));
        let (client, answers) = match original.map(|original| self.transparent(original)) {
            None => (from, Arc::clone(socket)),
            Some(Ok(answers)) => (canonical(from), Arc::new(answers)),
            Some(Err(error)) => return self.tell(source, &error.into()),
        };
        let (sender, packets) = channel(WAITING_PACKETS);
        let _ = sender.try_send(packet.to_vec());
        flows.insert(key.clone(), sender);
        let mut session = self.common.session(source, None, Network::Udp, key.1.clone());
        session.idle_timeout = self.idle_timeout;
        let flow = Flow { packets, client, answers, pool: Arc::clone(&self.pool) };
        let dispatcher = Arc::clone(&self.common.dispatcher);
        running.spawn(async move {
            dispatcher.run(session, Box::new(Packets::new(flow))).await;
            key
        });
    }

    /// A socket that answers as the one that the client sent to.
    fn transparent(&self, original: SocketAddr) -> io::Result<UdpSocket> {
        let socket = socket2::Socket::new(Domain::for_address(original), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        // Every client of one target has one.
        socket.set_reuse_address(true)?;
        be_transparent(&socket, original)?;
        direct(&self.common.socket, &socket).map_err(io::Error::other)?;
        socket.bind(&original.into())?;
        UdpSocket::from_std(socket.into())
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// What becomes of a packet.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Its flow has it, or has lost it for want of room.
    Taken,
    /// It starts a flow.
    Free,
    /// It would start one flow too many.
    Crowded,
}

/// Gives a packet to its flow, if there is one.
fn place(packet: &[u8], key: &FlowKey, flows: &HashMap<FlowKey, Sender<Vec<u8>>>) -> Place {
    match flows.get(key).map(|flow| flow.try_send(packet.to_vec())) {
        Some(Ok(()) | Err(TrySendError::Full(_))) => Place::Taken,
        None if flows.len() >= MAX_FLOWS => Place::Crowded,
        Some(Err(TrySendError::Closed(_))) | None => Place::Free,
    }
}

/// A client's packets to one target, and back.
struct Flow {
    packets: Receiver<Vec<u8>>,
    client: SocketAddr,
    answers: Arc<UdpSocket>,
    pool: Arc<Pool>,
}

impl PacketSocket for Flow {
    fn poll_receive(&mut self, cx: &mut Context<'_>, layout: Layout) -> Poll<Result<Option<Read>, Cut>> {
        let Some(packet) = ready!(self.packets.poll_recv(cx)) else {
            return Poll::Ready(Ok(Some(Read::End)));
        };
        Poll::Ready(Ok(self.pool.packet(layout, &packet, None).map(Read::Data)))
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        payload: &[u8],
        _: Option<&Target>,
    ) -> Poll<Result<(), Cut>> {
        lossy(self.answers.poll_send_to(cx, payload, self.client))
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> FlowKey {
        let [.., high, low] = number.to_be_bytes();
        let target = SocketAddr::from(([192, 0, 2, 1], 53));
        (SocketAddr::from(([198, 51, high, low], 1024)), target.into())
    }

    #[test]
    fn there_are_4096_flows_at_a_time_and_no_more() {
        let (mut flows, mut packets) = (HashMap::new(), Vec::new());
        for number in 0..4096 {
            assert_eq!(place(b"first", &key(number), &flows), Place::Free, "flow {number}");
            let (sender, receiver) = channel(1);
            flows.insert(key(number), sender);
            packets.push(receiver);
        }
        assert_eq!(place(b"first", &key(4096), &flows), Place::Crowded);
        assert_eq!(place(b"second", &key(4095), &flows), Place::Taken, "a flow that runs");
        assert_eq!(packets[4095].try_recv().unwrap(), b"second");
        // One that has ended makes room for its own client at once, for others when it is removed.
        packets.swap_remove(7);
        assert_eq!(place(b"again", &key(7), &flows), Place::Free);
        assert_eq!(place(b"first", &key(4096), &flows), Place::Crowded);
        flows.remove(&key(7));
        assert_eq!(place(b"first", &key(4096), &flows), Place::Free);
    }

    #[test]
    fn a_flow_that_is_full_loses_packets_and_starts_no_second_one() {
        let (sender, mut receiver) = channel(1);
        let flows = HashMap::from([(key(1), sender)]);
        assert_eq!(place(b"one", &key(1), &flows), Place::Taken);
        assert_eq!(place(b"two", &key(1), &flows), Place::Taken);
        assert_eq!(receiver.try_recv().unwrap(), b"one");
        assert!(receiver.try_recv().is_err());
    }
}
