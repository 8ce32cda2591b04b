//! packetaddr around an endpoint that carries packets: each has its peer's address in front of it.

use std::{
    net::SocketAddr,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::Instant;
use wsray_vmess::{Address, MAX_PACKET_ADDR, Target, encode_packet_addr, split_packet_addr};

use super::{Batch, BoxEndpoint, Cut, Endpoint, Layout, Read};

/// Takes addresses off what `below` brings and puts them in front of what it is given.
pub struct PacketAddr {
    below: BoxEndpoint,
}

impl PacketAddr {
    /// Around `below`, whose packets go to or come from [`wsray_vmess::PACKET_ADDR_NAME`].
    pub fn new(below: BoxEndpoint) -> Self {
        Self { below }
    }

    /// How `below` is asked for packets that are wanted in `layout`: the address comes in front of what fits there.
    fn with_address(layout: Layout) -> Layout {
        match layout {
            Layout::FLAT => layout,
            _ => Layout { payload: layout.payload + MAX_PACKET_ADDR, ..layout },
        }
    }
}

/// The address in front of each piece becomes its peer. What has none is dropped, and so is what is larger than
/// `most`; `None`: nothing is left.
fn take_addresses(mut batch: Batch, most: usize) -> Option<Batch> {
    let (bytes, ranges) = batch.parts();
    let mut packets = Vec::with_capacity(ranges.len());
    for range in ranges.drain(..) {
        if let Some((peer, used)) = split_packet_addr(&bytes[range.clone()])
            && range.len() - used <= most
        {
            packets.push((range.start + used..range.end, Target::from(peer)));
        }
    }
    for (range, peer) in packets {
        batch.push_packet(range, peer);
    }
    Some(batch).filter(|batch| !batch.is_empty())
}

/// Each packet's peer comes in front of it. Names have no form there, and their packets are dropped; `None`: nothing is
/// left. There must be [`MAX_PACKET_ADDR`] bytes of room in front of each.
fn put_addresses(mut batch: Batch) -> Option<Batch> {
    let peers = batch.take_peers();
    let (bytes, ranges) = batch.parts();
    let mut peers = peers.into_iter();
    let mut address = Vec::with_capacity(MAX_PACKET_ADDR);
    ranges.retain_mut(|range| {
        let Some(Target { address: Address::Ip(ip), port }) = peers.next() else { return false };
        address.clear();
        encode_packet_addr(SocketAddr::new(ip, port), &mut address);
        let start = range.start - address.len();
        bytes[start..range.start].copy_from_slice(&address);
        range.start = start;
        true
    });
    Some(batch).filter(|batch| !batch.is_empty())
}

impl Endpoint for PacketAddr {
    fn layout(&self) -> Layout {
        let below = self.below.layout();
        Layout {
            head: below.head + MAX_PACKET_ADDR,
            payload: below.payload.min(MAX_DATAGRAM) - MAX_PACKET_ADDR,
            tail: below.tail,
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, layout: Layout) -> Poll<Result<Read, Cut>> {
        loop {
            match ready!(self.below.poll_read(cx, Self::with_address(layout)))? {
                Read::End => return Poll::Ready(Ok(Read::End)),
                Read::Data(batch) => {
                    if let Some(batch) = take_addresses(batch, layout.payload) {
                        return Poll::Ready(Ok(Read::Data(batch)));
                    }
                }
            }
        }
    }

    fn send(&mut self, batch: Batch) -> Result<(), Cut> {
        put_addresses(batch).map_or(Ok(()), |batch| self.below.send(batch))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        self.below.poll_flush(cx)
    }

    fn finish(&mut self) {
        self.below.finish();
    }

    fn half_open_limit(&self) -> Option<Duration> {
        self.below.half_open_limit()
    }

    fn next_beat(&self, moved: Instant) -> Option<Instant> {
        self.below.next_beat(moved)
    }

    fn beat(&mut self) -> Result<(), Cut> {
        self.below.beat()
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.below.poll_gone(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.below.poll_close(cx)
    }

    fn abort(&mut self) {
        self.below.abort();
    }
}

/// The most bytes of a packet that is carried in a chunk or a frame: their length has two bytes.
const MAX_DATAGRAM: usize = u16::MAX as usize;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Pool;

    fn batch(packets: &[(&[u8], Option<&str>)]) -> Batch {
        let mut batch = Pool::new().batch(1000);
        let mut at = 0;
        for (packet, peer) in packets {
            at += MAX_PACKET_ADDR;
            let range = at..at + packet.len();
            batch.bytes()[range.clone()].copy_from_slice(packet);
            at += packet.len();
            match peer {
                Some(peer) => batch.push_packet(range, peer.parse::<SocketAddr>().unwrap().into()),
                None => batch.push(range),
            }
        }
        batch
    }

    fn shown(batch: &Batch) -> Vec<(Vec<u8>, String)> {
        let text = |peer: Option<&Target>| peer.map_or_else(String::new, ToString::to_string);
        batch.packets().map(|(packet, peer)| (packet.to_vec(), text(peer))).collect()
    }

    #[test]
    fn addresses_become_peers_and_peers_addresses() {
        let peers = [(&b"one"[..], Some("127.0.0.1:53")), (b"two", Some("[::1]:443"))];
        let wire = put_addresses(batch(&peers)).unwrap();
        let expected =
            [b"\x01\x7f\0\0\x01\0\x35one".to_vec(), [b"\x02", &[0; 15][..], b"\x01\x01\xbbtwo"].concat()];
        assert_eq!(shown(&wire), expected.map(|packet| (packet, String::new())));
        let back = take_addresses(wire, 3).unwrap();
        let expected = [(b"one".to_vec(), "127.0.0.1:53".to_owned()), (b"two".to_vec(), "[::1]:443".into())];
        assert_eq!(shown(&back), expected);
    }

    #[test]
    fn packets_without_an_address_or_too_large_are_dropped() {
        let sent =
            batch(&[(b"\x01\x7f\0\0\x01\0\x35four", None), (b"\x03four", None), (b"\x01\x7f\0\0", None)]);
        assert!(take_addresses(sent, 3).is_none());
    }

    #[test]
    fn packets_to_names_are_dropped() {
        let mut named = batch(&[(b"kept", Some("10.0.0.1:1"))]);
        named.bytes()[100..104].copy_from_slice(b"lost");
        named.push_packet(100..104, Target { address: "example.com".parse().unwrap(), port: 1 });
        let wire = put_addresses(named).unwrap();
        assert_eq!(shown(&wire), [(b"\x01\x0a\0\0\x01\0\x01kept".to_vec(), String::new())]);
    }
}
