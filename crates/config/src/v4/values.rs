//! Values that several objects hold: ports, ids, addresses, names of protocols.

use std::{net::IpAddr, num::NonZeroU16};

use wsray_vmess::{Address, AddressError, UserId};

use crate::{
    PacketEncoding, Padding, Ports, UnixAddress,
    nearest::nearest,
    node::{Node, Parsed, clip},
    object::Object,
};

/// What a port may be, for messages.
const PORT: &str = "a port";

/// What ports may be, for messages.
const PORTS: &str = "a port (1 to 65535) or a range of ports";

/// A port as V2Ray's outbounds take it: a number.
pub(crate) fn port(node: &Node<'_>) -> Parsed<NonZeroU16> {
    let port = node.number(PORT, 1..=65535)?;
    u16::try_from(port).ok().and_then(NonZeroU16::new).ok_or_else(|| node.expected(PORT, "write a port"))
}

/// Ports as V2Ray's inbounds take them: a number, `"1000"`, `"1000-1005"`, or `"env:NAME"` for
/// what a variable of the environment holds (v2fly/v2ray-core `infra/conf/cfgcommon/common.go`).
pub(crate) fn ports(node: &Node<'_>) -> Parsed<Ports> {
    let Some(text) = node.as_text() else {
        let port = port(node)?;
        return Ports::new(port, port).ok_or_else(|| node.expected(PORT, "write a port"));
    };
    let Some(name) = text.strip_prefix("env:") else {
        return range(text).ok_or_else(|| node.expected(PORTS, ports_help(text)));
    };
    let Some(value) = node.reader.variable(name) else {
        return Err(node.refuse(
            format!("the environment has no variable {name:?}"),
            format!("set it, such as {name}=10000, or write the port itself"),
        ));
    };
    range(&value).ok_or_else(|| {
        let message = format!("expected {PORTS} in the variable {name:?}, found {:?}", clip(&value, 60));
        node.refuse(message, ports_help(&value))
    })
}

/// `1000` or `1000-1005`.
fn range(text: &str) -> Option<Ports> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.trim().parse::<NonZeroU16>().ok();
    number(first).zip(number(last)).and_then(|(first, last)| Ports::new(first, last))
}

fn ports_help(text: &str) -> &'static str {
    if text.contains(',') {
        "write one inbound for each port"
    } else if text.contains('-') {
        "write the lower port first, such as \"1000-1005\""
    } else {
        "write a number from 1 to 65535"
    }
}

/// `/path`, `/path,0666` with the file's permissions, `@abstract`, or `@@abstract` with zeros behind it
/// (v2fly/v2ray-core `transport/internet/system_listener.go`).
pub(crate) fn unix_address(node: &Node<'_>) -> Parsed<UnixAddress> {
    const WHAT: &str = "the path of a unix socket";
    let text = node.text(WHAT)?;
    let (name, address) = if let Some(name) = text.strip_prefix('@') {
        let (name, padding) =
            name.strip_prefix('@').map_or((name, Padding::None), |name| (name, Padding::Full));
        (name, UnixAddress::Abstract { name: name.to_owned(), padding })
    } else {
        let (path, mode) = text.split_once(',').map_or((text, None), |(path, mode)| (path, Some(mode)));
        let octal = |mode| u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o777);
        let mode = mode.map(|mode| {
            octal(mode).ok_or_else(|| {
                node.expected("permissions in octal behind the comma", "write \"/path/name.sock,0660\"")
            })
        });
        (path, UnixAddress::File { path: path.to_owned(), mode: mode.transpose()? })
    };
    if name.is_empty() || name.ends_with('/') || name.contains('\0') {
        return Err(node.expected(WHAT, "write \"/path/name.sock\", or \"@name\" for one without a file"));
    }
    if name.starts_with("/dev/fd/") {
        return Err(node.refuse(
            "a socket that another program opened (/dev/fd) is not supported",
            "write a path of its own, such as \"/run/wsray/wsray.sock\"",
        ));
    }
    if name.len() > UnixAddress::MAX_BYTES {
        let message =
            format!("the system takes {} bytes at most, found {}", UnixAddress::MAX_BYTES, name.len());
        return Err(node.refuse(message, "write a shorter path"));
    }
    Ok(address)
}

/// A user's id, found as `id` or `uuid`.
pub(crate) fn id_of(object: &Object<'_>) -> Parsed<UserId> {
    match object.find_any(&["id", "uuid"]) {
        Some(node) => id(&node),
        None => Err(object.missing("id", "write the user's UUID; wsray uuid makes a new one")),
    }
}

/// A user's id. Messages show four letters of it at most.
pub(crate) fn id(node: &Node<'_>) -> Parsed<UserId> {
    let Some(text) = node.as_text() else {
        let message = format!("expected a UUID in double quotes, found {}", node.kind());
        return Err(node.refuse(message, "write the user's UUID; wsray uuid makes a new one"));
    };
    let placeholder =
        ["uuid", "id", "your-uuid", "your-uuid-here", "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", ""];
    if placeholder.iter().any(|word| text.eq_ignore_ascii_case(word)) {
        let found = if text.is_empty() {
            "an empty text".to_owned()
        } else {
            format!("the placeholder {:?}", clip(text, 4))
        };
        return Err(node.refuse(
            format!("expected a UUID, found {found}"),
            "write a real UUID, the same on client and server; wsray uuid makes one",
        ));
    }
    text.parse().map_err(|_| {
        let digits = text.chars().filter(char::is_ascii_hexdigit).count();
        let others = text.chars().filter(|&c| !c.is_ascii_hexdigit() && c != '-').count();
        let others = if others == 0 { String::new() } else { format!(" and {others} other characters") };
        let message = format!(
            "expected a UUID (32 hexadecimal digits), found {:?} with {digits} of them{others}",
            clip(text, 4),
        );
        let help = if text.starts_with('{') && digits == 32 {
            "remove the braces"
        } else {
            "copy the whole UUID; wsray uuid makes a new one"
        };
        node.refuse(message, help)
    })
}

/// The address of a server.
pub(crate) fn address(node: &Node<'_>) -> Parsed<Address> {
    let text = node.text("an IP address or a domain")?;
    text.parse().map_err(|error: AddressError| {
        let help = if text.contains("://") || text.contains('/') {
            "write the host only, without scheme and path"
        } else if text.contains(':') {
            "write the host only; the port goes into \"port\""
        } else {
            "write an IP address, or a domain such as server.example.com"
        };
        node.refuse(format!("expected an IP address or a domain, found {}: {error}", node.found()), help)
    })
}

/// An IP address.
pub(crate) fn ip(node: &Node<'_>, help: &str) -> Parsed<IpAddr> {
    let text = node.text("an IP address")?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| node.expected("an IP address", help))
}

/// A name out of a closed list.
pub(crate) struct Names {
    /// What it names, such as `a network`.
    pub(crate) what: &'static str,
    /// The names that wsray knows, spelled as in V2Ray.
    pub(crate) known: &'static [&'static str],
    /// The names that V2Ray or Xray knows and wsray does not.
    pub(crate) foreign: &'static [&'static str],
    /// What to do about a foreign one.
    pub(crate) foreign_help: &'static str,
}

impl Names {
    /// The error for a name that is none of `known`.
    pub(crate) fn unknown(&self, node: &Node<'_>, name: &str) -> crate::node::Reported {
        if self.foreign.iter().any(|foreign| foreign.eq_ignore_ascii_case(name)) {
            return node.refuse(format!("{name:?} is not supported by wsray"), self.foreign_help);
        }
        let known = self.known.join(", ");
        let help = match nearest(name, self.known.iter().copied()) {
            Some(near) => format!("write {near:?}"),
            None => format!("write one of: {known}"),
        };
        node.expected(&format!("{} ({known})", self.what), help)
    }
}

/// `packetEncoding` of a socks inbound (V2Ray 5's `common/net/packetaddr/config.proto`).
pub(crate) fn packet_encoding(settings: &Object<'_>) -> Parsed<PacketEncoding> {
    const ENCODINGS: Names = Names {
        what: "a packet encoding",
        known: &["None", "Packet"],
        foreign: &["Stream"],
        foreign_help: "write \"Packet\", which needs no setting at the server either",
    };
    let Some(node) = settings.find("packetEncoding") else { return Ok(PacketEncoding::None) };
    match node.text(ENCODINGS.what)? {
        name if name.is_empty() || name.eq_ignore_ascii_case("none") => Ok(PacketEncoding::None),
        name if name.eq_ignore_ascii_case("packet") => Ok(PacketEncoding::Packet),
        name => Err(ENCODINGS.unknown(&node, name)),
    }
}
