//! UDP ASSOCIATE: one UDP socket for a client, one session for each target it sends to.

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

use super::{SocksInbound, SocksUdp, wire};
use crate::{
    session::Source,
    stream::{Batch, Cut, Endpoint, LARGE_BYTES, Layout, Pool, Read},
    transport::Socket,
};

/// The most targets one association talks to at a time; packets to further ones are dropped.
const MAX_FLOWS: usize = 256;

/// Packets that wait for a flow; further ones are dropped.
const WAITING_PACKETS: usize = 64;

/// The largest UDP payload (RFC 768).
const MAX_PACKET: usize = 65_507;

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
    let association = Association { inbound, socket, user, peer };
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
    socket: Arc<UdpSocket>,
    user: Option<Arc<str>>,
    /// The client on TCP: only its host may send.
    peer: Source,
}

type FlowKey = (SocketAddr, Target);

impl Association<'_> {
    async fn relay(&self) {
        let mut flows: HashMap<FlowKey, Sender<Vec<u8>>> = HashMap::new();
        let mut running = JoinSet::new();
        let mut packet = vec![0; MAX_PACKET];
        loop {
            tokio::select! {
                received = self.socket.recv_from(&mut packet) => {
                    let Ok((len, from)) = received else { continue };
                    if from.ip().to_canonical() == self.peer.speaker() {
                        self.forward(&packet[..len], from, &mut flows, &mut running);
                    }
                }
                Some(ended) = running.join_next() => {
                    // Another flow may have taken the place of the one that has ended.
                    if let Ok(key) = ended
                        && flows.get(&key).is_some_and(Sender::is_closed)
                    {
                        flows.remove(&key);
                    }
                }
            }
        }
    }

    /// Gives a packet to its flow, which is started if there is none.
    fn forward(
        &self,
        packet: &[u8],
        from: SocketAddr,
        flows: &mut HashMap<FlowKey, Sender<Vec<u8>>>,
        running: &mut JoinSet<FlowKey>,
    ) {
        let Ok(datagram) = wire::read_datagram(packet) else { return };
        let key = (from, datagram.target);
        let payload = datagram.payload.to_vec();
        if let Some(flow) = flows.get(&key) {
            match flow.try_send(payload) {
                Ok(()) | Err(TrySendError::Full(_)) => return,
                Err(TrySendError::Closed(_)) => {}
            }
        } else if flows.len() >= MAX_FLOWS {
            return;
        }
        let (sender, packets) = channel(WAITING_PACKETS);
        let _ = sender.try_send(datagram.payload.to_vec());
        flows.insert(key.clone(), sender);
        self.start(key, packets, running);
    }

    fn start(&self, key: FlowKey, packets: Receiver<Vec<u8>>, running: &mut JoinSet<FlowKey>) {
        let common = &self.inbound.common;
        let session = common.session(self.peer, self.user.clone(), Network::Udp, key.1.clone());
        let mut header = Vec::new();
        wire::write_datagram_header(&key.1, &mut header);
        let endpoint = Flow {
            packets,
            client: key.0,
            header,
            socket: Arc::clone(&self.socket),
            pool: Arc::clone(&self.inbound.pool),
            outgoing: None,
        };
        let dispatcher = Arc::clone(&common.dispatcher);
        running.spawn(async move {
            dispatcher.run(session, Box::new(endpoint)).await;
            key
        });
    }
}

/// A client's packets to one target, and back.
struct Flow {
    packets: Receiver<Vec<u8>>,
    client: SocketAddr,
    /// What stands in front of each packet to the client.
    header: Vec<u8>,
    socket: Arc<UdpSocket>,
    pool: Arc<Pool>,
    outgoing: Option<Batch>,
}

impl Endpoint for Flow {
    fn layout(&self) -> Layout {
        Layout::FLAT
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, layout: Layout) -> Poll<Result<Read, Cut>> {
        loop {
            let Some(packet) = ready!(self.packets.poll_recv(cx)) else { return Poll::Ready(Ok(Read::End)) };
            let mut batch = self.pool.batch(LARGE_BYTES);
            if packet.is_empty() || packet.len() > layout.payload {
                continue;
            }
            let Some(slot) = layout.slot(0, batch.capacity()) else { continue };
            let range = slot.start..slot.start + packet.len();
            batch.bytes()[range.clone()].copy_from_slice(&packet);
            batch.push(range);
            return Poll::Ready(Ok(Read::Data(batch)));
        }
    }

    fn send(&mut self, batch: Batch) -> Result<(), Cut> {
        self.outgoing = Some(batch);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        while let Some(batch) = &mut self.outgoing {
            let Some(payload) = batch.pieces().next() else {
                self.outgoing = None;
                break;
            };
            let packet = [&self.header[..], payload].concat();
            let len = payload.len();
            // A packet that cannot be sent is lost, as on any way.
            let _ = ready!(self.socket.poll_send_to(cx, &packet, self.client));
            batch.advance(len);
        }
        Poll::Ready(Ok(()))
    }

    fn finish(&mut self) {}

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn abort(&mut self) {}
}
