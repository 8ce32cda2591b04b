//! UDP ASSOCIATE: one UDP socket for a client, and a session for each of its own sockets, whatever targets it sends to.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    net::UdpSocket,
    sync::mpsc::{Receiver, Sender, channel, error::TrySendError},
    task::JoinSet,
};
use wsray_vmess::{Network, Target};

use super::{SocksInbound, SocksUdp};
use crate::{
    session::{Mapping, Reach, Source},
    socks as wire,
    stream::{Cut, Layout, MAX_PACKET, PacketSocket, Packets, Pool, Read, lossy},
    transport::Socket,
};

/// The most sockets of a client that use one association at a time; packets of further ones are dropped.
const MAX_CLIENTS: usize = 64;

/// Packets that wait for their session; further ones are dropped.
const WAITING_PACKETS: usize = 64;

/// What the header of most datagrams takes.
const HEADER_ROOM: usize = 22;

/// Relays until the client closes the TCP connection that asked for it (RFC 1928 section 6).
pub(super) async fn associate(
    inbound: &SocksInbound,
    settings: SocksUdp,
    mut control: Socket,
    user: Option<Arc<str>>,
    peer: Source,
) -> io::Result<()> {
    // A client on a unix socket is on this machine.
    let local = control.local()?.map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip());
    let socket = Arc::new(UdpSocket::bind(SocketAddr::new(local, 0)).await?);
    let port = socket.local_addr()?.port();
    let told = SocketAddr::new(settings.reply_address.unwrap_or(local).to_canonical(), port);
    control.write_all(&wire::reply(wire::Reply::Succeeded, Some(told))).await?;
    let association = Association { inbound, mapping: settings.mapping, socket, user, peer };
    tokio::select! {
        () = association.relay() => {}
        () = closed(&control) => {}
    }
    Ok(())
}

/// Until the client closes; what it says meanwhile means nothing.
async fn closed(control: &Socket) {
    let mut ignored = Vec::new();
    while control.read_some(&mut ignored, 512).await.is_ok_and(|read| read > 0) {
        ignored.clear();
    }
}

struct Association<'a> {
    inbound: &'a SocksInbound,
    mapping: Mapping,
    socket: Arc<UdpSocket>,
    user: Option<Arc<str>>,
    /// The client's address for TCP: only its host may send.
    peer: Source,
}

/// A packet of a client, and where it goes to.
type Packet = (Target, Vec<u8>);

impl Association<'_> {
    async fn relay(&self) {
        let mut clients: HashMap<SocketAddr, Sender<Packet>> = HashMap::new();
        let mut running = JoinSet::new();
        let mut packet = vec![0; MAX_PACKET];
        loop {
            tokio::select! {
                received = self.socket.recv_from(&mut packet) => {
                    let Ok((len, from)) = received else { continue };
                    if from.ip().to_canonical() == self.peer.speaker() {
                        self.forward(&packet[..len], from, &mut clients, &mut running);
                    }
                }
                Some(ended) = running.join_next() => {
                    // Another session may have taken the place of the one that has ended.
                    if let Ok(client) = ended
                        && clients.get(&client).is_some_and(Sender::is_closed)
                    {
                        clients.remove(&client);
                    }
                }
            }
        }
    }

    /// Gives a packet to its sender's session, which is started if there is none.
    fn forward(
        &self,
        packet: &[u8],
        from: SocketAddr,
        clients: &mut HashMap<SocketAddr, Sender<Packet>>,
        running: &mut JoinSet<SocketAddr>,
    ) {
        let Ok(datagram) = wire::read_datagram(packet) else { return };
        let packet = (datagram.target, datagram.payload.to_vec());
        let packet = match clients.get(&from).map(|client| client.try_send(packet.clone())) {
            Some(Ok(()) | Err(TrySendError::Full(_))) => return,
            Some(Err(TrySendError::Closed(packet))) => packet,
            None if clients.len() >= MAX_CLIENTS => return,
            None => packet,
        };
        let (sender, packets) = channel(WAITING_PACKETS);
        clients.insert(from, sender.clone());
        self.start(from, packet.0.clone(), packets, running);
        let _ = sender.try_send(packet);
    }

    fn start(
        &self,
        from: SocketAddr,
        first: Target,
        packets: Receiver<Packet>,
        running: &mut JoinSet<SocketAddr>,
    ) {
        let common = &self.inbound.common;
        let source = match self.peer {
            Source::Address(_) => Source::Address(SocketAddr::new(from.ip().to_canonical(), from.port())),
            Source::Unix => Source::Unix,
        };
        let mut session = common.session(source, self.user.clone(), Network::Udp, first);
        session.reach = Reach::Any(self.mapping);
        let client = Client {
            packets,
            address: from,
            socket: Arc::clone(&self.socket),
            pool: Arc::clone(&self.inbound.pool),
        };
        let dispatcher = Arc::clone(&common.dispatcher);
        running.spawn(async move {
            dispatcher.run(session, Box::new(Packets::new(client))).await;
            from
        });
    }
}

/// A client's packets, and back.
struct Client {
    packets: Receiver<Packet>,
    address: SocketAddr,
    socket: Arc<UdpSocket>,
    pool: Arc<Pool>,
}

impl PacketSocket for Client {
    fn poll_receive(&mut self, cx: &mut Context<'_>, layout: Layout) -> Poll<Result<Option<Read>, Cut>> {
        let Some((target, packet)) = ready!(self.packets.poll_recv(cx)) else {
            return Poll::Ready(Ok(Some(Read::End)));
        };
        Poll::Ready(Ok(self.pool.packet(layout, &packet, Some(&target)).map(Read::Data)))
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        payload: &[u8],
        peer: Option<&Target>,
    ) -> Poll<Result<(), Cut>> {
        let Some(peer) = peer else { return Poll::Ready(Ok(())) };
        let mut packet = Vec::with_capacity(payload.len() + HEADER_ROOM);
        wire::write_datagram_header(peer, &mut packet);
        packet.extend_from_slice(payload);
        lossy(self.socket.poll_send_to(cx, &packet, self.address))
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}
