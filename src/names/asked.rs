//! Questions that others ask us, and what we answer: as a name server does, for addresses only.

use std::{io, net::IpAddr};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, ResponseCode},
    rr::{
        DNSClass, RData, Record, RecordType,
        rdata::{A, AAAA},
    },
};
use wsray_config::Families;
use wsray_vmess::Network;

use super::message::MAX_UDP_BYTES;

/// A question for the addresses of a name.
#[derive(Clone, Debug)]
pub struct Asked {
    message: Message,
    name: String,
    families: Families,
}

/// How long an answer may be kept, in seconds. We answer again from what we know; V2Ray says 600
/// (v2fly/v2ray-core `proxy/dns/dns.go`), which outlives what many names say themselves.
const LIFETIME: u32 = 60;

impl Asked {
    /// `None`: it is no question for addresses.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let message = Message::from_vec(bytes).ok()?;
        let [query] = &message.queries[..] else { return None };
        let is_question =
            message.metadata.message_type == MessageType::Query && message.metadata.op_code == OpCode::Query;
        let families = match query.query_type() {
            RecordType::A => Families::OnlyV4,
            RecordType::AAAA => Families::OnlyV6,
            _ => return None,
        };
        let name = query.name().to_ascii();
        (is_question && query.query_class() == DNSClass::IN).then_some(Self { message, name, families })
    }

    /// Whose addresses.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which addresses.
    pub fn families(&self) -> Families {
        self.families
    }

    /// The answer; in a packet, with no more addresses than whoever asks takes in one.
    pub fn answer(&self, found: &io::Result<Vec<IpAddr>>, network: Network) -> Option<Vec<u8>> {
        let (id, code) = (self.message.metadata.id, code(found));
        let mut answer = Message::new(id, MessageType::Response, OpCode::Query);
        answer.metadata.response_code = code;
        answer.metadata.recursion_desired = self.message.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.queries.clone_from(&self.message.queries);
        answer.edns = self.message.edns.is_some().then(|| {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_UDP_BYTES);
            edns
        });
        let name = self.message.queries.first()?.name();
        let record = |address: &IpAddr| {
            let data = match *address {
                IpAddr::V4(v4) => RData::A(A(v4)),
                IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
            };
            Record::from_rdata(name.clone(), LIFETIME, data)
        };
        answer.answers = found.iter().flatten().map(record).collect();
        let most = match network {
            Network::Udp => self.message.max_payload(),
            Network::Tcp => u16::MAX,
        };
        loop {
            let bytes = answer.to_vec().ok()?;
            if bytes.len() <= usize::from(most) || answer.answers.pop().is_none() {
                return Some(bytes);
            }
        }
    }
}

/// That a name has no such address is an answer, that nobody knows is none.
fn code(found: &io::Result<Vec<IpAddr>>) -> ResponseCode {
    match found {
        Ok(_) => ResponseCode::NoError,
        Err(error) if error.kind() == io::ErrorKind::NotFound => ResponseCode::NoError,
        Err(_) => ResponseCode::ServFail,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    /// RFC 1035 section 4.1: `example.com`, of this type and class.
    fn question(kind: u16, class: u16) -> Vec<u8> {
        let head = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let name = b"\x07example\x03com\x00";
        [&head[..], name, &kind.to_be_bytes(), &class.to_be_bytes()].concat()
    }

    #[test]
    fn questions_for_addresses_of_the_internet_are_read_and_no_others() {
        let asked = Asked::read(&question(1, 1)).unwrap();
        assert_eq!((asked.name(), asked.families()), ("example.com.", Families::OnlyV4));
        assert_eq!(Asked::read(&question(28, 1)).unwrap().families(), Families::OnlyV6);
        // MX, ANY; the class CHAOS.
        for (kind, class) in [(15, 1), (255, 1), (1, 3)] {
            assert!(Asked::read(&question(kind, class)).is_none(), "{kind} {class}");
        }
        let mut answer = question(1, 1);
        answer[2] |= 0x80;
        assert!(Asked::read(&answer).is_none());
        let whole = question(1, 1);
        assert!((0..whole.len()).all(|length| Asked::read(&whole[..length]).is_none()));
    }

    #[test]
    fn answer_in_a_packet_has_no_more_addresses_than_fit() {
        let asked = Asked::read(&question(28, 1)).unwrap();
        let found = Ok((0..100).map(|host| Ipv6Addr::from(host).into()).collect());
        let count = |answer: &[u8]| u16::from_be_bytes([answer[6], answer[7]]);
        // 12 bytes of header, 17 of question; 28 for each address, whose name is a pointer (RFC 1035 section 4.1.4).
        let packet = asked.answer(&found, Network::Udp).unwrap();
        assert_eq!((packet.len(), count(&packet)), (29 + 17 * 28, 17));
        let whole = asked.answer(&found, Network::Tcp).unwrap();
        assert_eq!((whole.len(), count(&whole)), (29 + 100 * 28, 100));
        // RFC 6891 section 6.1.2: an OPT record that says 1232.
        let mut more = question(28, 1);
        more[11] = 1;
        more.extend([0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
        let packet = Asked::read(&more).unwrap().answer(&found, Network::Udp).unwrap();
        assert_eq!(count(&packet), (1232 - 29 - 11) / 28);
    }
}
