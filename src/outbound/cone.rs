//! One socket for the packets to many targets, which all see the same source (full-cone): whoever knows it may send
//! back, and answers tell who gave them.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    task::JoinSet,
    time::{Instant, timeout},
};
use wsray_vmess::{Address, Target};

use super::udp::{self, Received};
use crate::{
    stream::{Batch, Cut, Endpoint, Layout, MAX_PACKET, Pool, Read},
    transport::{ConnectError, Dialer},
};

/// A socket a family, each made when it is needed.
pub(super) struct ConeEndpoint {
    dialer: Dialer,
    pool: Arc<Pool>,
    sockets: [Option<UdpSocket>; 2],
    binding: JoinSet<(Family, Result<UdpSocket, ConnectError>)>,
    /// Packets that wait for a socket.
    unbound: Vec<(SocketAddr, Vec<u8>)>,
    names: HashMap<Target, Name>,
    looking_up: JoinSet<(Target, Option<SocketAddr>)>,
    outgoing: Option<Batch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// What is known about a name.
enum Name {
    /// It is looked up, and packets wait for it.
    Asked(Vec<Vec<u8>>),
    /// Where it is (nowhere), and when that was found.
    Known(Option<SocketAddr>, Instant),
}

/// Packets that wait for a name or for a socket; further ones are dropped.
const WAITING_PACKETS: usize = 16;

/// The most names that are remembered; then all are looked up anew.
const MAX_NAMES: usize = 256;

/// How long an address of a name is used.
const NAME_LIFE: Duration = Duration::from_mins(1);

/// How long a look-up may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(16);

/// So many packets are read before other tasks have their turn.
const TURN: usize = 64;

impl ConeEndpoint {
    pub(super) fn new(dialer: Dialer, pool: Arc<Pool>) -> Self {
        Self {
            dialer,
            pool,
            sockets: [None, None],
            binding: JoinSet::new(),
            unbound: Vec::new(),
            names: HashMap::new(),
            looking_up: JoinSet::new(),
            outgoing: None,
        }
    }

    /// With a socket for the family of `first`, if that is an address.
    pub(super) async fn ready_for(mut self, first: &Target) -> Result<Self, ConnectError> {
        if let Address::Ip(ip) = first.address {
            let address = SocketAddr::new(ip, first.port);
            let socket = self.dialer.udp(address).await?;
            self.sockets[Family::of(address) as usize] = Some(socket);
        }
        Ok(self)
    }

    /// Sends a packet, or keeps it until that is possible.
    fn dispatch(&mut self, target: &Target, packet: &[u8]) {
        match &target.address {
            Address::Ip(ip) => self.send_to(SocketAddr::new(*ip, target.port), packet),
            Address::Domain(_) => self.send_to_name(target, packet),
        }
    }

    fn send_to_name(&mut self, target: &Target, packet: &[u8]) {
        if self.names.len() >= MAX_NAMES && !self.names.contains_key(target) {
            self.names.retain(|_, name| matches!(name, Name::Asked(_)));
        }
        let full = self.names.len() >= MAX_NAMES;
        match self.names.entry(target.clone()) {
            Entry::Occupied(mut known) => match known.get_mut() {
                Name::Asked(waiting) if waiting.len() < WAITING_PACKETS => waiting.push(packet.to_vec()),
                Name::Asked(_) => {}
                Name::Known(found, at) if at.elapsed() < NAME_LIFE => {
                    if let Some(address) = *found {
                        self.send_to(address, packet);
                    }
                }
                name @ Name::Known(..) => {
                    *name = Name::Asked(vec![packet.to_vec()]);
                    self.look_up(target.clone());
                }
            },
            Entry::Vacant(new) if !full => {
                new.insert(Name::Asked(vec![packet.to_vec()]));
                self.look_up(target.clone());
            }
            Entry::Vacant(_) => {}
        }
    }

    fn look_up(&mut self, target: Target) {
        let dialer = self.dialer.clone();
        self.looking_up.spawn(async move {
            let found = timeout(LOOKUP_TIMEOUT, Box::pin(dialer.resolve(&target))).await;
            let found = found.ok().and_then(Result::ok).unwrap_or_default();
            (target, found.first().copied())
        });
    }

    fn send_to(&mut self, address: SocketAddr, packet: &[u8]) {
        let family = Family::of(address);
        if let Some(socket) = &self.sockets[family as usize] {
            // A packet that cannot be sent at once is lost, as on any way.
            let _ = socket.try_send_to(packet, address);
        } else if self.unbound.len() < WAITING_PACKETS {
            if !self.unbound.iter().any(|(waiting, _)| Family::of(*waiting) == family) {
                let dialer = self.dialer.clone();
                self.binding.spawn(async move { (family, dialer.udp(address).await) });
            }
            self.unbound.push((address, packet.to_vec()));
        }
    }

    /// What became of look-ups and of sockets that were asked for.
    fn poll_found(&mut self, cx: &mut Context<'_>) -> Result<(), ConnectError> {
        while let Poll::Ready(Some(found)) = self.looking_up.poll_join_next(cx) {
            let Ok((target, address)) = found else { continue };
            let known = Name::Known(address, Instant::now());
            let Some(Name::Asked(waiting)) = self.names.insert(target, known) else { continue };
            for packet in waiting {
                if let Some(address) = address {
                    self.send_to(address, &packet);
                }
            }
        }
        while let Poll::Ready(Some(bound)) = self.binding.poll_join_next(cx) {
            let Ok((family, socket)) = bound else { continue };
            let (now, later) = std::mem::take(&mut self.unbound)
                .into_iter()
                .partition(|(address, _)| Family::of(*address) == family);
            self.unbound = later;
            match socket {
                Ok(socket) => self.sockets[family as usize] = Some(socket),
                // The other family may serve.
                Err(_) if self.sockets.iter().any(Option::is_some) => continue,
                Err(error) => return Err(error),
            }
            let now: Vec<(SocketAddr, Vec<u8>)> = now;
            for (address, packet) in now {
                self.send_to(address, &packet);
            }
        }
        Ok(())
    }

    /// Receives one packet behind `layout`'s first head; `None`: dropped.
    fn poll_receive(
        &self,
        family: Family,
        cx: &mut Context<'_>,
        layout: Layout,
    ) -> Poll<io::Result<Option<Batch>>> {
        let Some(socket) = &self.sockets[family as usize] else { return Poll::Pending };
        let most = layout.payload.min(MAX_PACKET);
        let received = ready!(udp::receive(socket, &self.pool, cx, layout.head, most))?;
        Poll::Ready(Ok(received.map(|Received { mut batch, range, from }| {
            batch.push_packet(range, SocketAddr::new(from.ip().to_canonical(), from.port()).into());
            batch
        })))
    }
}

impl Family {
    fn of(address: SocketAddr) -> Self {
        match address.ip() {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Debug for ConeEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConeEndpoint").field("sockets", &self.sockets).finish_non_exhaustive()
    }
}

impl Endpoint for ConeEndpoint {
    fn layout(&self) -> Layout {
        Layout::FLAT
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, layout: Layout) -> Poll<Result<Read, Cut>> {
        self.poll_found(cx).map_err(|error| Cut::Io(io::Error::other(error)))?;
        for _ in 0..TURN {
            let mut waits = true;
            for family in [Family::V4, Family::V6] {
                match self.poll_receive(family, cx, layout) {
                    Poll::Ready(Ok(Some(batch))) => return Poll::Ready(Ok(Read::Data(batch))),
                    // Too large; or an ICMP answer to an earlier packet, the next one may get through.
                    Poll::Ready(Ok(None) | Err(_)) => waits = false,
                    Poll::Pending => {}
                }
            }
            if waits {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn send(&mut self, batch: Batch) -> Result<(), Cut> {
        self.outgoing = Some(batch);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        while let Some(batch) = &mut self.outgoing {
            let Some((packet, Some(target))) = batch.packets().next() else {
                self.outgoing = None;
                break;
            };
            if let Address::Ip(ip) = target.address
                && let Some(socket) = &self.sockets[Family::of(SocketAddr::new(ip, 0)) as usize]
            {
                // What is sent fast waits for its socket.
                let _ = ready!(socket.poll_send_to(cx, packet, SocketAddr::new(ip, target.port)));
                let length = packet.len();
                batch.advance(length);
                continue;
            }
            let (packet, target) = (packet.to_vec(), target.clone());
            batch.advance(packet.len());
            self.dispatch(&target, &packet);
        }
        // So that sockets and addresses that were asked for are awaited.
        self.poll_found(cx).map_err(|error| Cut::Io(io::Error::other(error)))?;
        Poll::Ready(Ok(()))
    }

    fn finish(&mut self) {}

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn abort(&mut self) {}
}
