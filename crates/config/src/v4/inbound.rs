//! Inbounds.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::{dokodemo, sniffing, stream, values};
use crate::{
    Account, Diagnostic, HttpInbound, Inbound, InboundProtocol, Listen, ListenAt, SocketOptions,
    SocksInbound, SocksUdp, VmessInbound, VmessUser, keys, keys5,
    node::{Dialect, Node, Parsed, Reported},
    object::Object,
    v5,
};

/// The inbound protocols of V2Ray and Xray.
const PROTOCOLS: values::Names = values::Names {
    what: "an inbound protocol",
    known: &["vmess", "socks", "http", "mixed", "dokodemo-door"],
    foreign: &[
        "vless",
        "trojan",
        "shadowsocks",
        "shadowsocks2022",
        "mtproto",
        "wireguard",
        "hysteria2",
        "tun",
    ],
    foreign_help: "remove this inbound, or use vmess, socks, http, mixed or dokodemo-door",
};

/// Reads an element of `inbounds`; takes `spare_port` if it has none.
pub(super) fn inbound<'a>(
    node: &Node<'a>,
    transport: Option<&Object<'a>>,
    spare_port: &mut Option<Node<'a>>,
) -> Parsed<Inbound> {
    let object = node.object(node.either(keys::INBOUND, keys5::INBOUND))?;
    let sniffing = sniffing::sniffing(&object);
    warn_allocated(&object);
    let tag = object.text("tag", "a tag");
    let listen = listen(&object, spare_port);
    let protocol = protocol(&object, transport, listen.as_ref().ok());
    let (tag, listen, sniffing, (protocol, socket)) = (tag?, listen?, sniffing?, protocol?);
    Ok(Inbound { place: node.place(), tag: tag.map(str::to_owned), listen, sniffing, socket, protocol })
}

/// V2Ray may listen on some of the ports only, by chance, and on others later.
fn warn_allocated(inbound: &Object<'_>) {
    let Some(node) = inbound.find("allocate") else { return };
    let Ok(allocate) = node.object(keys::ALLOCATE) else { return };
    if let Some(strategy) = allocate.find("strategy").filter(|strategy| !strategy.is_off()) {
        strategy.warn("this has no effect: every port of the range is listened on", "write \"always\"");
    }
}

fn protocol<'a>(
    object: &Object<'a>,
    transport: Option<&Object<'a>>,
    listen: Option<&Listen>,
) -> Parsed<(InboundProtocol, SocketOptions)> {
    let Some(node) = object.find("protocol") else {
        return Err(object.missing("protocol", "write \"protocol\": \"vmess\" (or socks, http)"));
    };
    let name = node.text("an inbound protocol")?;
    match name.to_ascii_lowercase().as_str() {
        "vmess" => {
            let stream = stream::server(object, transport);
            let mut inbound = vmess(object)?;
            let (stream, socket) = stream?;
            inbound.stream = stream;
            Ok((InboundProtocol::Vmess(inbound), socket))
        }
        local @ ("socks" | "mixed") => {
            let plain = stream::plain_server(object, transport);
            let inbound = socks(object)?;
            warn_open(object, listen, inbound.accounts.is_empty());
            let protocol = if local == "mixed" { InboundProtocol::Mixed } else { InboundProtocol::Socks };
            plain.map(|socket| (protocol(inbound), socket))
        }
        "http" => {
            let plain = stream::plain_server(object, transport);
            let inbound = http(object)?;
            warn_open(object, listen, inbound.accounts.is_empty());
            plain.map(|socket| (InboundProtocol::Http(inbound), socket))
        }
        // Xray calls it a tunnel as well.
        "dokodemo-door" | "dokodemo" | "tunnel" => {
            let socket = stream::plain_server(object, transport)?;
            let door = dokodemo::dokodemo(object, &socket)?;
            Ok((InboundProtocol::Dokodemo(door), socket))
        }
        _ => Err(PROTOCOLS.unknown(&node, name)),
    }
}

fn listen<'a>(object: &Object<'a>, spare_port: &mut Option<Node<'a>>) -> Parsed<Listen> {
    let written = object.find("listen");
    let unix =
        written.as_ref().filter(|node| node.as_text().is_some_and(|text| text.starts_with(['/', '@'])));
    if let Some(node) = unix {
        if let Some(port) = object.find("port").filter(|port| !port.is_off()) {
            port.warn("this has no effect: a unix socket has no port", "remove it");
        }
        return Ok(Listen { at: ListenAt::Unix(values::unix_address(node)?), place: node.place() });
    }
    let address = match written {
        Some(node) => listen_address(&node),
        None => Ok(Ipv4Addr::UNSPECIFIED.into()),
    };
    let Some(port) = object.find("port").or_else(|| spare_port.take()) else {
        return Err(object.missing("port", "write the port to listen on: \"port\": 10000"));
    };
    let ports = values::ports(&port);
    Ok(Listen { at: ListenAt::Ports { address: address?, ports: ports? }, place: port.place() })
}

fn listen_address(node: &Node<'_>) -> Parsed<IpAddr> {
    match node.text("an IP address to listen on")? {
        "" => Ok(Ipv4Addr::UNSPECIFIED.into()),
        text if text.eq_ignore_ascii_case("localhost") => Ok(Ipv4Addr::LOCALHOST.into()),
        text if text.contains('/') => Err(node
            .expected("the absolute path of a unix socket", "begin it with \"/\", or write an IP address")),
        _ => values::ip(
            node,
            "write an address of this machine, \"127.0.0.1\", or \"0.0.0.0\" for all of them",
        ),
    }
}

/// Anybody who reaches a local inbound without accounts can use it.
fn warn_open(object: &Object<'_>, listen: Option<&Listen>, open: bool) {
    if let Some(Listen { at: ListenAt::Ports { address, .. }, .. }) = listen
        && open
        && !address.is_loopback()
    {
        let message = format!("everybody who reaches {address} can use this proxy: it asks for no password");
        object.node.warn(message, "write \"listen\": \"127.0.0.1\", or \"accounts\" in \"settings\"");
    }
}

fn vmess(inbound: &Object<'_>) -> Parsed<VmessInbound> {
    let mut vmess =
        VmessInbound { users: Vec::new(), require_encryption: false, stream: crate::ServerStream::default() };
    if let Some(settings) = inbound.find("settings") {
        let settings = settings.object(settings.either(keys::VMESS_INBOUND, keys5::VMESS_INBOUND))?;
        let nodes: Vec<_> =
            [settings.list("clients"), settings.list("users")].into_iter().collect::<Parsed<_>>()?;
        let users: Vec<_> = nodes.into_iter().flatten().map(|node| user(&node)).collect();
        let require_encryption = settings.flag("disableInsecureEncryption");
        vmess.users = unique_users(&settings.node, users.into_iter().collect::<Parsed<_>>()?)?;
        vmess.require_encryption = require_encryption?;
    }
    if vmess.users.is_empty() {
        inbound.node.warn(
            "nobody can use this inbound: it has no clients",
            inbound.either(
                "add \"settings\": { \"clients\": [{ \"id\": \"...\" }] }; wsray uuid makes an id",
                "add \"settings\": { \"users\": [\"...\"] }; wsray uuid makes an id",
            ),
        );
    }
    Ok(vmess)
}

/// A user: an object, or only the id as in V2Ray 5.
fn user(node: &Node<'_>) -> Parsed<VmessUser> {
    if node.as_text().is_some() || node.dialect == Dialect::V5 {
        return Ok(VmessUser { place: node.place(), id: values::id(node)?, email: None, level: 0 });
    }
    let user = node.object(keys::VMESS_USER)?;
    let id = values::id_of(&user);
    let email = user.text("email", "an email address");
    let level = level(&user, "level");
    alter_id(&user, "clients must use alterId 0 (AEAD); older ones are refused")?;
    Ok(VmessUser { place: node.place(), id: id?, email: email?.map(str::to_owned), level: level? })
}

/// Equal emails are refused as in V2Ray; of equal ids the first counts.
fn unique_users(settings: &Node<'_>, users: Vec<VmessUser>) -> Parsed<Vec<VmessUser>> {
    let (mut emails, mut ids) = (HashMap::new(), HashMap::new());
    let mut result = Ok(Vec::new());
    for user in users {
        if let Some(email) = &user.email
            && let Some(first) = emails.insert(email.to_lowercase(), user.place.line)
        {
            let message = format!("the email {email:?} is taken by the user in line {first}");
            let error = Diagnostic::at(&user.place, message).help("give each user an email of their own");
            result = Err(settings.reader.refuse(error));
        }
        if let Some(first) = ids.get(user.id.as_bytes()) {
            let message = format!("this user is ignored: the user in line {first} has the same id");
            settings
                .reader
                .warn(Diagnostic::at(&user.place, message).help("give each user an id of their own"));
        } else if let Ok(kept) = &mut result {
            ids.insert(*user.id.as_bytes(), user.place.line);
            kept.push(user);
        }
    }
    result
}

/// The level of a user, 0 when absent.
pub(super) fn level(object: &Object<'_>, key: &str) -> Parsed<u32> {
    Ok(object.number(key, "a user level", 0..=u32::MAX)?.unwrap_or_default())
}

/// `alterId` above 0 asks for the header of before 2021, which nobody should speak any more.
pub(super) fn alter_id(object: &Object<'_>, effect: &str) -> Parsed<()> {
    let Some(node) = object.find("alterId") else { return Ok(()) };
    if node.number("a number of further ids", 0..=65535)? > 0 {
        node.warn(
            format!("the old VMess header (alterId above 0) is not supported: {effect}"),
            "write \"alterId\": 0 on both sides",
        );
    }
    Ok(())
}

fn socks(inbound: &Object<'_>) -> Parsed<SocksInbound> {
    let Some(settings) = inbound.find("settings") else {
        return Ok(SocksInbound { accounts: Vec::new(), udp: None, level: 0 });
    };
    if settings.dialect == Dialect::V5 {
        return v5::socks(&settings);
    }
    let settings = settings.object(keys::SOCKS)?;
    let accounts = accounts(&settings);
    let with_password = socks_auth(&settings);
    let udp = settings.flag("udp");
    let reply_address = settings.find("ip").map(|node| {
        if node.as_text().is_some_and(|text| text.eq_ignore_ascii_case("localhost")) {
            return Ok(Ipv4Addr::LOCALHOST.into());
        }
        values::ip(&node, "write the address of this machine that clients can reach")
    });
    let reply_address = reply_address.transpose();
    let packet_encoding = values::packet_encoding(&settings);
    let level = level(&settings, "userLevel");
    let (accounts, with_password) = (accounts?, with_password?);
    if with_password && accounts.is_empty() {
        return Err(settings.missing(
            "accounts",
            "add \"accounts\": [{ \"user\": \"...\", \"pass\": \"...\" }], or write \"auth\": \"noauth\"",
        ));
    }
    if !with_password && !accounts.is_empty() {
        settings.node.warn(
            "the accounts are not asked for, because \"auth\" is not \"password\"",
            "write \"auth\": \"password\"",
        );
    }
    let (reply_address, packet_encoding) = (reply_address?, packet_encoding?);
    let udp = udp?.then_some(SocksUdp { reply_address, packet_encoding });
    Ok(SocksInbound { accounts: if with_password { accounts } else { Vec::new() }, udp, level: level? })
}

fn socks_auth(settings: &Object<'_>) -> Parsed<bool> {
    const AUTH: values::Names = values::Names {
        what: "a way to authenticate",
        known: &["noauth", "password"],
        foreign: &[],
        foreign_help: "",
    };
    let Some(node) = settings.find("auth") else { return Ok(false) };
    match node.text(AUTH.what)? {
        "" => Ok(false),
        name if name.eq_ignore_ascii_case("noauth") => Ok(false),
        name if name.eq_ignore_ascii_case("password") => Ok(true),
        name => Err(AUTH.unknown(&node, name)),
    }
}

fn accounts(settings: &Object<'_>) -> Parsed<Vec<Account>> {
    let accounts: Vec<_> = settings.list("accounts")?.iter().map(account).collect();
    accounts.into_iter().collect()
}

fn account(node: &Node<'_>) -> Parsed<Account> {
    let account = node.object(keys::ACCOUNT)?;
    let user = account.text("user", "a user name");
    // The password never stands in a message.
    let password = match account.find("pass") {
        Some(pass) => pass.as_text().ok_or_else(|| {
            pass.refuse(format!("expected a password, found {}", pass.kind()), "put it in double quotes")
        }),
        None => Err(account.missing("pass", "write the password: \"pass\": \"...\"")),
    };
    let user =
        user?.ok_or_else(|| -> Reported { account.missing("user", "write the name: \"user\": \"...\"") });
    Ok(Account { user: user?.to_owned(), password: password?.to_owned() })
}

fn http(inbound: &Object<'_>) -> Parsed<HttpInbound> {
    let Some(settings) = inbound.find("settings") else {
        return Ok(HttpInbound { accounts: Vec::new(), idle_timeout: None, level: 0 });
    };
    let settings = settings.object(settings.either(keys::HTTP, keys5::NOTHING))?;
    let accounts = accounts(&settings);
    let timeout = settings.number("timeout", "seconds", 0..=u32::MAX);
    let level = level(&settings, "userLevel");
    let idle_timeout =
        timeout?.filter(|&seconds| seconds > 0).map(|seconds| Duration::from_secs(seconds.into()));
    Ok(HttpInbound { accounts: accounts?, idle_timeout, level: level? })
}
