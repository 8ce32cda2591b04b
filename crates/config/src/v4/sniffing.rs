//! `sniffing`, and `domainOverride`, as V2Ray spelled it before.

use super::{rule, values};
use crate::{
    Sniffing, keys,
    node::{Node, Parsed},
    object::Object,
};

const OVERRIDES: values::Names = values::Names {
    what: "a protocol that names its target",
    known: &["http", "tls"],
    foreign: &[],
    foreign_help: "",
};

/// What V2Ray and Xray overhear beside these.
const FOREIGN_OVERRIDES: [&str; 3] = ["quic", "fakedns", "fakedns+others"];

/// Reads what an inbound overhears; `None`: nothing.
pub(super) fn sniffing(inbound: &Object<'_>) -> Parsed<Option<Sniffing>> {
    let Some(node) = inbound.find("sniffing") else {
        let old = inbound.find("domainOverride").filter(|node| !node.is_empty());
        return old.map(|node| overrides(&node)).transpose();
    };
    let object = node.object(keys::SNIFFING)?;
    let enabled = object.flag("enabled");
    let metadata_only = object.flag("metadataOnly");
    let route_only = object.flag("routeOnly");
    if !enabled? {
        return Ok(None);
    }
    let excluded = object.find("domainsExcluded").map_or(Ok(Vec::new()), |node| rule::domain_list(&node));
    let names = object.find("destOverride").map(|node| overrides(&node)).transpose();
    if metadata_only? {
        object.node.warn(
            "nothing is overheard: \"metadataOnly\" leaves fakedns only, which is not supported",
            "write \"metadataOnly\": false",
        );
        return Ok(None);
    }
    let (names, excluded) = (names?.unwrap_or_default(), excluded?);
    Ok(Some(Sniffing { route_only: route_only?, excluded, ..names }))
}

fn overrides(node: &Node<'_>) -> Parsed<Sniffing> {
    let mut sniffing = Sniffing::default();
    let mut result = Ok(());
    for (at, name) in node.texts("a list of protocols")? {
        match name.to_ascii_lowercase().as_str() {
            "http" => sniffing.http = true,
            "tls" | "https" | "ssl" => sniffing.tls = true,
            name if FOREIGN_OVERRIDES.contains(&name) => {
                sniffing.http |= name == "fakedns+others";
                sniffing.tls |= name == "fakedns+others";
                at.warn(
                    format!("{name:?} is not supported yet: wsray runs without it"),
                    "write \"http\" and \"tls\"",
                );
            }
            _ => result = Err(OVERRIDES.unknown(&at, name)),
        }
    }
    result.map(|()| sniffing)
}
