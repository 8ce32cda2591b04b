//! The services by which panels ask V2Ray for statistics: `api`, and Xray's `metrics`.
//!
//! wsray has none of them. What leads to one in nearly every panel's configuration, an inbound on the loopback address and a
//! rule from it, must not keep the rest from running: nothing listens for it, and nothing else passes.
//!
//! Source: v2fly/v2ray-core 4.45.2 `app/commander/commander.go` (the service is an outbound with its tag).

use crate::{
    Blackhole, Dial, Outbound, OutboundProtocol, keys,
    node::{Dialect, Node},
};

/// The services that a document names.
pub(super) struct Services<'a> {
    /// Their tags, each with where it is written.
    tags: Vec<(Node<'a>, &'a str)>,
    /// The tags of the inbounds that lead there.
    inbounds: Vec<&'a str>,
}

impl<'a> Services<'a> {
    /// What the document says about them, without a complaint: those are for who reads the parts.
    pub(super) fn of(document: &Node<'a>) -> Self {
        let services = match document.dialect {
            Dialect::V4 => ["api", "metrics"].map(|key| document.peek(key)),
            Dialect::V5 => [document.peek("services").and_then(|node| node.peek("commander")), None],
        };
        let tag_of = |node: Node<'a>| node.peek("tag").and_then(|tag| tag.as_text().map(|text| (tag, text)));
        let tags: Vec<_> = services.into_iter().flatten().filter_map(tag_of).collect();
        let routing = document.peek(document.either("routing", "router"));
        let rules = routing.iter().flat_map(|node| {
            let old = node.peek("settings").and_then(|node| node.peek("rules"));
            let rules = node.peek(node.either("rules", "rule"));
            rules.into_iter().chain(old).flat_map(|rules| rules.elements())
        });
        let leads_there = |rule: &Node<'a>| {
            let to = rule.peek(rule.either("outboundTag", "tag"));
            to.and_then(|to| to.as_text()).is_some_and(|to| tags.iter().any(|(_, tag)| *tag == to))
        };
        let from = |rule: Node<'a>| rule.peek("inboundTag").map_or(Vec::new(), |node| node.peek_texts());
        let inbounds = rules.filter(leads_there).flat_map(from).collect();
        Self { tags, inbounds }
    }

    /// Whether an inbound is one through which a service is asked.
    pub(super) fn have(&self, inbound: &Node<'a>) -> bool {
        let text = |key| inbound.peek(key).and_then(|node| node.as_text());
        let is_door = text("protocol")
            .is_some_and(|protocol| keys::DOORS.iter().any(|name| name.eq_ignore_ascii_case(protocol)));
        is_door && text("tag").is_some_and(|tag| self.inbounds.contains(&tag))
    }

    /// The tags of those inbounds.
    pub(super) fn inbounds(&self) -> impl Iterator<Item = &'a str> {
        self.inbounds.iter().copied()
    }

    /// Gives the services' tags, which rules may name, to outbounds that nothing passes.
    pub(super) fn close(&self, outbounds: &mut Vec<Outbound>) {
        for (node, tag) in &self.tags {
            if tag.is_empty() || outbounds.iter().any(|outbound| outbound.tag.as_deref() == Some(tag)) {
                continue;
            }
            outbounds.push(Outbound {
                place: node.place(),
                tag: Some((*tag).to_owned()),
                dial: Dial::default(),
                protocol: OutboundProtocol::Blackhole(Blackhole::default()),
            });
        }
    }
}
