//! What holds for the addresses of packetaddr.

use crate::{encode_packet_addr, split_packet_addr};

/// Any bytes as a packet: reading never panics, takes no more than there is, and what it gives comes back when it is
/// written and read again. A prefix gives the same address or none.
pub fn packet_addresses_come_back(packet: &[u8]) {
    let whole = split_packet_addr(packet);
    if let Some((peer, used)) = whole {
        assert!(used <= packet.len(), "took more than there was");
        let mut again = Vec::new();
        encode_packet_addr(peer, &mut again);
        assert_eq!(
            split_packet_addr(&again),
            Some((peer, again.len())),
            "writing and reading is no identity"
        );
    }
    for cut in 0..packet.len() {
        let part = split_packet_addr(&packet[..cut]);
        assert!(part.is_none() || part == whole, "cutting changed the address");
    }
}
