//! `finalRules` of a freedom outbound, in Xray's spelling (XTLS/Xray-core `infra/conf/freedom.go`) in both dialects.
//!
//! V2Ray 5 has nothing like it: its freedom knows `protocolReplacement` and little else, and refuses other keys
//! (v2fly/v2ray-core `proxy/freedom/config.proto`, `SimplifiedConfig`).

use wsray_route::{Cidr, IpSet};

use crate::{
    FinalAction, FinalRule, keys,
    node::{Node, Parsed},
    object::Object,
};

/// The rules, in order.
pub(crate) fn final_rules(settings: &Object<'_>) -> Parsed<Vec<FinalRule>> {
    settings.list("finalRules")?.iter().map(rule).collect()
}

fn rule(node: &Node<'_>) -> Parsed<FinalRule> {
    const ACTIONS: &str = "write \"block\" or \"allow\"";
    let object = node.object(keys::FINAL_RULE)?;
    let action = match object.text("action", "an action")? {
        Some(text) if text.eq_ignore_ascii_case("block") => FinalAction::Block,
        Some(text) if text.eq_ignore_ascii_case("allow") => FinalAction::Allow,
        Some(text) => return Err(node.refuse(format!("unknown action {text:?}"), ACTIONS)),
        None => return Err(object.missing("action", ACTIONS)),
    };
    let Some(list) = object.find("ip") else { return Ok(FinalRule { action, addresses: None }) };
    let sets = list.texts("a list of networks")?.into_iter().map(|(node, text)| network(&node, text));
    let sets = sets.collect::<Parsed<Vec<_>>>()?;
    Ok(FinalRule { action, addresses: Some(IpSet::union(&sets)) })
}

fn network(node: &Node<'_>, text: &str) -> Parsed<IpSet> {
    if text == "geoip:private" {
        return Ok(IpSet::private());
    }
    let refuse = |error: wsray_route::CidrError| {
        node.refuse(error.to_string(), "write \"geoip:private\", or networks such as \"10.0.0.0/8\"")
    };
    text.parse::<Cidr>().map(|network| IpSet::new([network])).map_err(refuse)
}
