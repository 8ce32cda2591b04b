//! Questions and answers of DNS, as bytes (RFC 1035).

use std::{net::IpAddr, time::Duration};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        Name, RData, RecordType,
        rdata::opt::{ClientSubnet, EdnsOption},
    },
};

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    V4,
    V6,
}

/// A question on its way.
#[derive(Clone, Debug)]
pub(super) struct Question {
    query: Query,
    kind: Kind,
    edns: Option<Edns>,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// These addresses, none if the name has none of the kind, for so long.
    Found(Vec<IpAddr>, Duration),
    /// It did not fit: ask again over TCP.
    Truncated,
    /// The server cannot say.
    Failed(ResponseCode),
}

/// The largest answer over UDP that is asked for (DNS flag day 2020).
pub(super) const MAX_UDP_BYTES: u16 = 1232;

/// How long "there is none" is kept where the answer does not say; at most so long in any case (RFC 2308 section 5 has 3
/// hours; V2Ray keeps it 10 minutes, v2fly/v2ray-core `app/dns/dnscommon.go`).
const NEGATIVE: Duration = Duration::from_mins(1);
const LONGEST_NEGATIVE: Duration = Duration::from_mins(10);

/// How long addresses are kept at most.
const LONGEST: Duration = Duration::from_hours(24);

/// At most so many addresses of one answer are used.
const MAX_ADDRESSES: usize = 32;

impl Question {
    /// `None`: the name is none that DNS could know.
    pub(super) fn new(name: &str, kind: Kind, client: Option<IpAddr>) -> Option<Self> {
        let mut name = Name::from_utf8(name).ok()?;
        name.set_fqdn(true);
        let wanted = match kind {
            Kind::V4 => RecordType::A,
            Kind::V6 => RecordType::AAAA,
        };
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP_BYTES);
        if let Some(client) = client {
            // As much of it as V2Ray tells (v2fly/v2ray-core `app/dns/dnscommon.go`).
            let prefix = if client.is_ipv4() { 24 } else { 96 };
            edns.options_mut().insert(EdnsOption::Subnet(ClientSubnet::new(
                masked(client, prefix),
                prefix,
                0,
            )));
        }
        Some(Self { query: Query::query(name, wanted), kind, edns: Some(edns) })
    }

    /// The bytes to send.
    pub(super) fn bytes(&self, id: u16) -> Option<Vec<u8>> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.queries.push(self.query.clone());
        message.edns.clone_from(&self.edns);
        message.to_vec().ok()
    }

    /// What `bytes` answer; `None`: they do not answer this question.
    pub(super) fn answer(&self, id: u16, bytes: &[u8]) -> Option<Answer> {
        let message = Message::from_vec(bytes).ok()?;
        let is_answer = message.metadata.id == id && message.metadata.message_type == MessageType::Response;
        let same = |query: &Query| {
            query.query_type() == self.query.query_type()
                && query.name().to_lowercase() == self.query.name().to_lowercase()
        };
        if !is_answer || !message.queries.iter().all(same) || message.queries.len() != 1 {
            return None;
        }
        match message.metadata.response_code {
            _ if message.metadata.truncation => Some(Answer::Truncated),
            ResponseCode::NoError | ResponseCode::NXDomain => Some(self.found(&message)),
            other => Some(Answer::Failed(other)),
        }
    }

    fn found(&self, message: &Message) -> Answer {
        let mut addresses = Vec::new();
        let mut shortest = LONGEST;
        for record in &message.answers {
            let address = match (&record.data, self.kind) {
                (RData::A(a), Kind::V4) => Some(IpAddr::V4(a.0)),
                (RData::AAAA(a), Kind::V6) => Some(IpAddr::V6(a.0)),
                (RData::CNAME(_), _) => None,
                _ => continue,
            };
            shortest = shortest.min(Duration::from_secs(record.ttl.into()));
            addresses.extend(address.filter(|_| addresses.len() < MAX_ADDRESSES));
        }
        if !addresses.is_empty() {
            return Answer::Found(addresses, shortest);
        }
        let negative = message.authorities.iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(Duration::from_secs(record.ttl.min(soa.minimum).into())),
            _ => None,
        });
        Answer::Found(Vec::new(), negative.unwrap_or(NEGATIVE).min(LONGEST_NEGATIVE))
    }
}

/// What must hold for any answer; tests and the fuzz targets call it.
pub mod invariants {
    use wsray_vmess::Network;

    use super::{super::asked::Asked, Answer, Kind, LONGEST, MAX_ADDRESSES, Question};

    /// `bytes` as an answer to a question for each kind of address, whose number and name they may have: no panic, only
    /// addresses of the kind, no more and kept no longer than is promised, and none under another number. As a question,
    /// that it gets an answer under its own number.
    ///
    /// # Panics
    /// Where this does not hold.
    pub fn answers_are_bounded(bytes: &[u8], id: u16) {
        if let Some(asked) = Asked::read(bytes) {
            let answer = asked.answer(&Ok(Vec::new()), Network::Udp);
            assert!(answer.is_none_or(|answer| answer.get(..2) == bytes.get(..2)), "another number");
        }
        for kind in [Kind::V4, Kind::V6] {
            let Some(question) = Question::new("a.test", kind, None) else { continue };
            let answer = question.answer(id, bytes);
            let same = bytes.get(..2) == Some(&id.to_be_bytes());
            assert!(same || answer.is_none(), "an answer to another question was taken");
            if let Some(Answer::Found(addresses, lifetime)) = answer {
                assert!(addresses.len() <= MAX_ADDRESSES && lifetime <= LONGEST);
                let wanted = addresses.iter().all(|address| address.is_ipv4() == (kind == Kind::V4));
                assert!(wanted, "{kind:?}: {addresses:?}");
            }
        }
    }

    /// The bytes of the question that [`answers_are_bounded`] asks, for a fuzzer to begin with.
    pub fn question(id: u16, v6: bool) -> Vec<u8> {
        let kind = if v6 { Kind::V6 } else { Kind::V4 };
        Question::new("a.test", kind, None).and_then(|question| question.bytes(id)).unwrap_or_default()
    }
}

/// The first `prefix` bits of an address.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) & (u32::MAX << (32 - prefix.min(31)))).into()),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & (u128::MAX << (128 - prefix.min(127)))).into()),
    }
}
