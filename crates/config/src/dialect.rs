//! In which dialect a document is written.

use crate::{
    Diagnostic, Format, Source,
    node::{Dialect, Parsed, Reader},
    tree::{Tree, Value},
};

/// Keys of a document that only V2Ray 5's own dialect has. Not `services`, which its V4 dialect has as well.
const ONLY_V5: [&str; 2] = ["router", "extension"];

/// Keys of a document that only V2Ray 4's dialect has.
const ONLY_V4: [&str; 15] = [
    "routing",
    "policy",
    "transport",
    "stats",
    "api",
    "reverse",
    "fakedns",
    "browserForwarder",
    "observatory",
    "burstObservatory",
    "port",
    "inbound",
    "outbound",
    "inboundDetour",
    "outboundDetour",
];

/// Keys of `streamSettings` in each dialect.
pub(crate) const STREAM_V5: [&str; 4] =
    ["transport", "transportSettings", "securitySettings", "socketSettings"];
pub(crate) const STREAM_V4: [&str; 5] = ["network", "wsSettings", "tlsSettings", "tcpSettings", "sockopt"];

/// Keys of `settings` in each dialect.
const SETTINGS_V5: [&str; 4] = ["udpEnabled", "packetEncoding", "deferLastReply", "destinationOverride"];
const SETTINGS_V4: [&str; 9] =
    ["clients", "vnext", "auth", "accounts", "udp", "ip", "userLevel", "domainStrategy", "redirect"];

/// The dialect that a source's format says, or else that its keys do: V2Ray 5's own if it has keys of that one and
/// none of V2Ray 4's.
///
/// # Errors
/// Reported to `reader`: one of several is in V2Ray 5's own dialect, which cannot be merged (as in V2Ray 5).
pub(crate) fn of(reader: &Reader<'_>, sources: &[Source<'_>], trees: &[Tree]) -> Parsed<Dialect> {
    let dialects = sources.iter().zip(trees).map(|(source, tree)| match source.format {
        Format::JsonV5 => Dialect::V5,
        Format::Json => Dialect::V4,
        Format::Auto | Format::Yaml | Format::Toml => recognise(tree),
    });
    let dialects: Vec<_> = dialects.collect();
    match (&dialects[..], dialects.iter().position(|dialect| *dialect == Dialect::V5)) {
        ([_], Some(_)) => Ok(Dialect::V5),
        (_, Some(first)) => {
            let place = trees.get(first).map(|tree| reader.place(tree.at, ""));
            let error = Diagnostic {
                place,
                message: "a configuration in V2Ray 5's own dialect cannot be merged with others".to_owned(),
                help: Some("put everything into one file, or write V2Ray 4's dialect".to_owned()),
            };
            Err(reader.refuse(error))
        }
        (_, None) => Ok(Dialect::V4),
    }
}

fn recognise(document: &Tree) -> Dialect {
    let mut found = Found { v4: has_any(document, &ONLY_V4), v5: has_any(document, &ONLY_V5) };
    if let Some(log) = document.find("log") {
        let kinds = ["access", "error"].map(|key| log.find(key).map(|value| &value.value));
        found.v5 |= kinds.iter().flatten().any(|value| matches!(value, Value::Object(_)));
        found.v4 |= kinds.iter().flatten().any(|value| matches!(value, Value::Text(_)));
        found.v4 |= log.find("loglevel").is_some();
    }
    for list in ["inbounds", "outbounds"].iter().filter_map(|key| document.find(key)) {
        let Value::List(elements) = &list.value else { continue };
        for element in elements {
            found.look_into(&element.tree);
        }
    }
    if found.v5 && !found.v4 { Dialect::V5 } else { Dialect::V4 }
}

/// Which dialects a document has keys of.
struct Found {
    v4: bool,
    v5: bool,
}

impl Found {
    /// Looks at an inbound or outbound.
    fn look_into(&mut self, element: &Tree) {
        if let Some(stream) = element.find("streamSettings") {
            self.v5 |= has_any(stream, &STREAM_V5);
            self.v4 |= has_any(stream, &STREAM_V4);
        }
        if let Some(settings) = element.find("settings") {
            self.v5 |= has_any(settings, &SETTINGS_V5);
            self.v4 |= has_any(settings, &SETTINGS_V4);
        }
    }
}

fn has_any(object: &Tree, keys: &[&str]) -> bool {
    keys.iter().any(|key| object.find(key).is_some())
}
