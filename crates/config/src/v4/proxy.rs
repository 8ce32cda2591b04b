//! socks and http outbounds: `servers`, or one server written flat.

use super::{stream, values, ws};
use crate::{
    Account, Dial, ProxyKind, ProxyOutbound, ProxyServer, keys, keys5,
    node::{Node, Parsed},
    object::Object,
};

/// RFC 1929 section 2: a byte counts each.
const MAX_SOCKS_TEXT_BYTES: usize = 255;

/// Reads a socks outbound.
pub(super) fn socks<'a>(
    outbound: &Object<'a>,
    transport: Option<&Object<'a>>,
) -> Parsed<(ProxyOutbound, Dial)> {
    let settings =
        settings(outbound)?.object(outbound.either(keys::SOCKS_OUTBOUND, keys5::SOCKS_OUTBOUND))?;
    let protocol = match settings.find("version") {
        Some(node) => version(&node),
        None => Ok(ProxyKind::Socks5),
    };
    let servers = servers(&settings);
    let stream = stream(outbound, transport, servers.as_deref());
    let (protocol, servers) = (protocol?, servers?);
    let mut result = Ok(());
    for account in servers.iter().flat_map(|server| &server.accounts) {
        let long = |text: &str| text.len() > MAX_SOCKS_TEXT_BYTES;
        if long(&account.user) || long(&account.password) {
            let message = "a user or password is longer than SOCKS allows (255 bytes)";
            result = Err(settings.node.refuse(message, "use a shorter one"));
        }
        if !matches!(protocol, ProxyKind::Socks5) && !account.password.is_empty() {
            let message = "SOCKS 4 knows no passwords";
            result = Err(settings.node.refuse(message, "write \"version\": \"5\", or remove \"pass\""));
        }
    }
    result?;
    let (stream, dial) = stream?;
    Ok((ProxyOutbound { protocol, servers, stream }, dial))
}

/// Reads an http outbound.
pub(super) fn http<'a>(
    outbound: &Object<'a>,
    transport: Option<&Object<'a>>,
) -> Parsed<(ProxyOutbound, Dial)> {
    let settings = settings(outbound)?.object(outbound.either(keys::HTTP_OUTBOUND, keys5::HTTP_OUTBOUND))?;
    let headers = headers(&settings);
    let servers = servers(&settings);
    let stream = stream(outbound, transport, servers.as_deref());
    let (headers, servers, (stream, dial)) = (headers?, servers?, stream?);
    Ok((ProxyOutbound { protocol: ProxyKind::Http(headers), servers, stream }, dial))
}

const SHAPE: &str = "write \"settings\": { \"servers\": [{ \"address\": \"...\", \"port\": 1080 }] }";
const SHAPE5: &str = "write \"settings\": { \"address\": \"...\", \"port\": 1080 }";

fn settings<'a>(outbound: &Object<'a>) -> Parsed<Node<'a>> {
    outbound.find("settings").ok_or_else(|| outbound.missing("settings", outbound.either(SHAPE, SHAPE5)))
}

fn stream<'a>(
    outbound: &Object<'a>,
    transport: Option<&Object<'a>>,
    servers: Result<&[ProxyServer], &crate::node::Reported>,
) -> Parsed<(crate::ClientStream, Dial)> {
    let addresses: Vec<_> = servers.unwrap_or_default().iter().map(|server| server.address.clone()).collect();
    stream::client(outbound, transport, &addresses, stream::Preconnects::No)
}

fn version(node: &Node<'_>) -> Parsed<ProxyKind> {
    const VERSIONS: values::Names = values::Names {
        what: "a version of SOCKS",
        known: &["4", "4a", "5"],
        foreign: &[],
        foreign_help: "",
    };
    match node.text(VERSIONS.what)?.to_ascii_lowercase().as_str() {
        "" | "5" => Ok(ProxyKind::Socks5),
        "4" => Ok(ProxyKind::Socks4),
        "4a" => Ok(ProxyKind::Socks4a),
        name => Err(VERSIONS.unknown(node, name)),
    }
}

fn servers(settings: &Object<'_>) -> Parsed<Vec<ProxyServer>> {
    let Some(list) = settings.find("servers") else {
        if settings.find("address").is_none() {
            return Err(settings.lacks(
                settings.either(&["servers", "address"], &["address"]),
                settings.either(
                    "there is no server: expected \"servers\" or \"address\"",
                    "there is no server: \"address\" is missing",
                ),
                settings.either(SHAPE, SHAPE5),
            ));
        }
        return Ok(vec![flat(settings)?]);
    };
    if let Some(address) = settings.find("address") {
        return Err(address.refuse(
            "expected one way to name the server, found \"servers\" and \"address\"",
            "remove one of them",
        ));
    }
    let nodes = list.list()?;
    if nodes.is_empty() {
        return Err(list.refuse("expected a server, found an empty list", SHAPE));
    }
    let servers: Vec<_> = nodes.iter().map(|node| server(&node.object(keys::PROXY_SERVER)?)).collect();
    servers.into_iter().collect()
}

/// An element of `servers`.
fn server(object: &Object<'_>) -> Parsed<ProxyServer> {
    let users = object.list("users").map(|users| {
        let accounts: Vec<_> = users.iter().map(|node| account(&node.object(keys::PROXY_USER)?)).collect();
        accounts.into_iter().collect::<Parsed<Vec<_>>>()
    });
    let (address, port) = place(object);
    Ok(ProxyServer { place: object.node.place(), address: address?, port: port?, accounts: users?? })
}

/// The server and its one user in `settings` itself, as in Xray and V2Ray 5.
fn flat(settings: &Object<'_>) -> Parsed<ProxyServer> {
    let has_user = settings.find("user").is_some_and(|user| !user.is_empty());
    let accounts = if has_user { account(settings).map(|account| vec![account]) } else { Ok(Vec::new()) };
    let (address, port) = place(settings);
    Ok(ProxyServer { place: settings.node.place(), address: address?, port: port?, accounts: accounts? })
}

fn place(object: &Object<'_>) -> (Parsed<wsray_vmess::Address>, Parsed<std::num::NonZeroU16>) {
    let address = match object.find("address") {
        Some(node) => values::address(&node),
        None => Err(object.missing("address", "write the proxy's name or IP address")),
    };
    let port = match object.find("port") {
        Some(node) => values::port(&node),
        None => Err(object.missing("port", "write the proxy's port: \"port\": 1080")),
    };
    (address, port)
}

/// The password never stands in a message.
fn account(object: &Object<'_>) -> Parsed<Account> {
    let text = |key: &str| match object.find(key) {
        None => Ok(String::new()),
        Some(node) => node.as_text().map(str::to_owned).ok_or_else(|| {
            node.refuse(format!("expected a text, found {}", node.kind()), "put it in double quotes")
        }),
    };
    let (user, password) = (text("user"), text("pass"));
    let user = user?;
    if user.is_empty() {
        return Err(object.missing("user", "write the name: \"user\": \"...\""));
    }
    Ok(Account { user, password: password? })
}

/// Headers that the request owns (RFC 9110 sections 7.2, 8.6 and 11.7.1, RFC 9112 section 6.1).
const OWN_HEADERS: [&str; 4] = ["Host", "Content-Length", "Transfer-Encoding", "Proxy-Authorization"];

fn headers(settings: &Object<'_>) -> Parsed<wsray_ws::Headers> {
    let mut headers = wsray_ws::Headers::default();
    let mut result = Ok(());
    let entries = settings.find("headers").map_or(Ok(Vec::new()), |node| node.entries())?;
    for (name, place, value) in entries {
        let added = if OWN_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            Err(value.refuse(format!("the request has a {name} of its own"), "remove it"))
        } else {
            value.text("a text").and_then(|text| ws::add(&mut headers, name, &place, &value, text))
        };
        result = result.and(added);
    }
    result.map(|()| headers)
}
