//! `streamSettings`: which network, TLS or not, and the socket's options.

use wsray_vmess::Address;

use super::{
    dial::{Transport, dial},
    front::{self, proxy_protocol},
    sockopt, tls, values, ws,
};
use crate::{
    ClientStream, Dial, ProxyProtocol, ServerStream, SocketOptions, dialect, keys, keys5,
    node::{Dialect, Node, Parsed},
    object::Object,
};

/// The networks of V2Ray and Xray.
const NETWORKS: values::Names = values::Names {
    what: "a network",
    known: &["ws", "websocket", "tcp"],
    foreign: &[
        "kcp",
        "mkcp",
        "h2",
        "http",
        "h3",
        "quic",
        "grpc",
        "gun",
        "ds",
        "domainsocket",
        "httpupgrade",
        "xhttp",
        "splithttp",
        "hysteria2",
        "meek",
        "request",
    ],
    foreign_help: "write \"ws\", on client and server",
};

/// The securities of V2Ray and Xray. V2Ray takes any unknown one for plaintext.
const SECURITIES: values::Names = values::Names {
    what: "a security",
    known: &["tls", "none"],
    foreign: &["reality", "xtls", "utls"],
    foreign_help: "write \"tls\", on client and server",
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Network {
    Tcp,
    Ws,
}

/// What both ends have.
struct Stream<'a> {
    object: Object<'a>,
    network: Network,
    /// The value of `security` if it is `tls`.
    tls: Option<Node<'a>>,
    ws: Option<Node<'a>>,
    tcp: Option<Object<'a>>,
    sockopt: Option<Object<'a>>,
}

/// The stream of a vmess inbound.
pub(super) fn server<'a>(
    inbound: &Object<'a>,
    transport: Option<&Object<'a>>,
) -> Parsed<(ServerStream, SocketOptions)> {
    let Some(stream) = read(inbound, transport)? else {
        let tcp = shared_tcp(transport)?;
        let accept_proxy_protocol = senders(proxy_protocol(tcp.as_ref())?);
        let stream = ServerStream { accept_proxy_protocol, ..ServerStream::default() };
        return Ok((stream, SocketOptions::default()));
    };
    let socket = listening(stream.sockopt.as_ref());
    let tls = stream
        .tls
        .as_ref()
        .map(|security| tls::server(&stream.object, security, stream.network == Network::Ws));
    let on_socket = proxy_protocol(stream.sockopt.as_ref());
    let (ws, accept) = match stream.network {
        Network::Ws => {
            let ws = ws::server(&stream.object.node, stream.ws.as_ref(), stream.sockopt.as_ref());
            let accept = ws.as_ref().map_or(ProxyProtocol::Off, |(_, accept)| accept.clone());
            if let Ok(Some((node, _))) = &on_socket
                && accept == ProxyProtocol::Off
            {
                node.warn(
                    "this has no effect with network \"ws\"",
                    node.either(
                        "write \"acceptProxyProtocol\": true in \"wsSettings\"",
                        "write \"acceptProxyProtocol\": true in \"transportSettings\"",
                    ),
                );
            }
            (Some(ws.map(|(ws, _)| ws)), Ok(accept))
        }
        Network::Tcp => {
            warn_of_trust(stream.sockopt.as_ref());
            let on_tcp = proxy_protocol(stream.tcp.as_ref());
            (None, on_tcp.map(|found| senders(found.or_else(|| on_socket.clone().ok().flatten()))))
        }
    };
    on_socket?;
    let stream = ServerStream {
        tls: tls.transpose()?,
        ws: ws.transpose()?.map(Box::new),
        accept_proxy_protocol: accept?,
    };
    Ok((stream, socket?))
}

/// `sockopt` of an inbound.
fn listening(sockopt: Option<&Object<'_>>) -> Parsed<SocketOptions> {
    const FOR_OUTBOUNDS: [&str; 3] = ["dialerProxy", "domainStrategy", "happyEyeballs"];
    let unused = FOR_OUTBOUNDS.iter().filter_map(|key| sockopt?.find(key));
    for node in unused.filter(|node| !node.is_off()) {
        node.warn("this has no effect on an inbound", "write it in an outbound, or remove it");
    }
    sockopt::options(sockopt)
}

/// The stream of an outbound to servers at `addresses`.
pub(super) fn client<'a>(
    outbound: &Object<'a>,
    transport: Option<&Object<'a>>,
    addresses: &[Address],
    preconnect: Preconnects,
) -> Parsed<(ClientStream, Dial)> {
    let Some(stream) = read(outbound, transport)? else {
        refuse_proxy_protocol(shared_tcp(transport)?.as_ref())?;
        return Ok((ClientStream::default(), dial(outbound, None)?.0));
    };
    let dial = dial(outbound, stream.sockopt.as_ref());
    let is_ws = stream.network == Network::Ws;
    warn_of_trust(stream.sockopt.as_ref());
    let ws = is_ws.then(|| ws::client(&stream.object.node, stream.ws.as_ref(), preconnect));
    let inside = match &ws {
        None => tls::Inside::Other,
        Some(Ok(ws)) if ws.early_data.is_none() => tls::Inside::Ws,
        Some(_) => tls::Inside::WsWithEarlyData,
    };
    let tls = stream.tls.as_ref().map(|security| tls::client(&stream.object, security, inside, addresses));
    let on_tcp = refuse_proxy_protocol(stream.tcp.as_ref());
    refuse_proxy_protocol(stream.sockopt.as_ref())?;
    on_tcp?;
    let (tls, mut ws, (dial, transport)) = (tls.transpose()?, ws.transpose()?, dial?);
    if transport == Transport::TlsOnly && ws.take().is_some() {
        stream.object.node.warn(
            "\"network\" has no effect: with \"proxySettings\" V2Ray leaves WebSocket out",
            "write \"transportLayer\": true in \"proxySettings\", which keeps it",
        );
    }
    Ok((ClientStream { tls, ws }, dial))
}

/// Whether an outbound makes connections before they are needed, if asked to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Preconnects {
    Yes,
    No,
}

/// Reads the `streamSettings` of an inbound that uses plain TCP.
pub(super) fn plain_server<'a>(
    inbound: &Object<'a>,
    transport: Option<&Object<'a>>,
) -> Parsed<SocketOptions> {
    let sockopt = plain(inbound, transport)?;
    listening(sockopt.as_ref())
}

/// Reads the `streamSettings` of an outbound that uses plain TCP.
pub(super) fn plain_client(outbound: &Object<'_>) -> Parsed<Dial> {
    let sockopt = plain(outbound, None)?;
    Ok(dial(outbound, sockopt.as_ref())?.0)
}

/// The `sockopt` of something that uses plain TCP.
fn plain<'a>(object: &Object<'a>, transport: Option<&Object<'a>>) -> Parsed<Option<Object<'a>>> {
    let Some(stream) = read(object, transport)? else {
        return refuse_to_accept(shared_tcp(transport)?.as_ref()).map(|()| None);
    };
    if stream.network == Network::Ws || stream.tls.is_some() {
        return Err(stream
            .object
            .node
            .refuse("WebSocket and TLS are supported for vmess only", "remove \"streamSettings\" here"));
    }
    refuse_to_accept(stream.tcp.as_ref())?;
    warn_of_trust(stream.sockopt.as_ref());
    refuse_to_accept(stream.sockopt.as_ref())?;
    Ok(stream.sockopt)
}

/// Only an inbound with WebSocket gets to see headers.
fn warn_of_trust(sockopt: Option<&Object<'_>>) {
    if let Some(node) =
        sockopt.and_then(|sockopt| sockopt.find(front::TRUSTED)).filter(|node| !node.is_empty())
    {
        node.warn("this has no effect here: headers come to an inbound with WebSocket only", "remove it");
    }
}

fn refuse_to_accept(settings: Option<&Object<'_>>) -> Parsed<()> {
    match proxy_protocol(settings)? {
        Some((node, _)) => {
            Err(node.refuse("the PROXY protocol is supported on vmess inbounds only", "remove it"))
        }
        None => Ok(()),
    }
}

/// What `transport` says of raw TCP, for who has no `streamSettings` at all.
fn shared_tcp<'a>(transport: Option<&Object<'a>>) -> Parsed<Option<Object<'a>>> {
    let node = transport.and_then(|transport| transport.find("tcpSettings"));
    node.map(|node| tcp_settings(&node)).transpose()
}

fn read<'a>(parent: &Object<'a>, transport: Option<&Object<'a>>) -> Parsed<Option<Stream<'a>>> {
    let Some(node) = parent.find("streamSettings") else { return Ok(None) };
    let node = in_its_dialect(&node);
    let object = node.object(node.either(keys::STREAM, keys5::STREAM))?;
    let network = network(&object);
    let tls = security(&object);
    let transport = transport.filter(|_| node.dialect == Dialect::V4);
    let shared = |key| transport.and_then(|transport| transport.find(key));
    let sockopt = object
        .find(object.either("sockopt", "socketSettings"))
        .map(|node| node.object(keys::SOCKOPT))
        .transpose();
    let tcp = match (network, node.dialect) {
        (Ok(Network::Tcp), Dialect::V4) => {
            object.find_any(&["tcpSettings", "rawSettings"]).or_else(|| shared("tcpSettings"))
        }
        (Ok(Network::Tcp), Dialect::V5) => object.find("transportSettings"),
        _ => None,
    };
    let tcp = tcp.map(|node| tcp_settings(&node)).transpose();
    if let (Ok(Network::Tcp), Some(unused)) =
        (network, object.find("wsSettings").filter(|node| !node.is_off()))
    {
        unused.warn("this has no effect: the network is \"tcp\"", "write \"network\": \"ws\" beside it");
    }
    if let (Ok(None), Some(unused)) =
        (&tls, object.find(object.either("tlsSettings", "securitySettings")).filter(|node| !node.is_off()))
    {
        unused.warn(
            "this has no effect: there is no TLS",
            "write \"security\": \"tls\" beside it, or remove it",
        );
    }
    let ws = object.find(object.either("wsSettings", "transportSettings")).or_else(|| shared("wsSettings"));
    Ok(Some(Stream { network: network?, tls: tls?, ws, tcp: tcp?, sockopt: sockopt?, object }))
}

/// The form of V2Ray 5's own dialect is understood in a document of V2Ray 4's, too, unless it is mixed with the
/// other one.
fn in_its_dialect<'a>(stream: &Node<'a>) -> Node<'a> {
    let has = |keys: &[&str]| keys.iter().any(|key| stream.has(key));
    if stream.dialect == Dialect::V5 || !has(&dialect::STREAM_V5) || has(&dialect::STREAM_V4) {
        return stream.clone();
    }
    stream.warn(
        "this is V2Ray 5's own dialect in a configuration of V2Ray 4's, where V2Ray would ignore it and use \
            plain TCP: wsray does what it says",
        "write V2Ray 4's \"network\", \"wsSettings\", \"security\", \"tlsSettings\"",
    );
    stream.in_dialect(Dialect::V5)
}

fn network(stream: &Object<'_>) -> Parsed<Network> {
    let Some(node) = stream.find(stream.either("network", "transport")) else { return Ok(Network::Tcp) };
    let name = node.text(NETWORKS.what)?;
    match name.to_ascii_lowercase().as_str() {
        "websocket" if node.dialect == Dialect::V5 => {
            Err(node.expected("a network (ws, tcp)", "write \"ws\""))
        }
        "tcp" | "raw" => Ok(Network::Tcp),
        "ws" | "websocket" => Ok(Network::Ws),
        "wss" => {
            Err(node.expected("a network (ws, tcp)", "write \"ws\", and \"security\": \"tls\" beside it"))
        }
        _ => Err(NETWORKS.unknown(&node, name)),
    }
}

fn security<'a>(stream: &Object<'a>) -> Parsed<Option<Node<'a>>> {
    let Some(node) = stream.find("security") else { return Ok(None) };
    let name = node.text(SECURITIES.what)?;
    match name.to_ascii_lowercase().as_str() {
        "" | "none" => Ok(None),
        "tls" => Ok(Some(node)),
        // A cipher of VMess.
        "auto" => Err(node.expected(
            "a security (tls, none)",
            "write \"none\", which is what V2Ray makes of it, or \"tls\"; \"auto\" belongs to a vmess user",
        )),
        _ => Err(SECURITIES.unknown(&node, name)),
    }
}

fn tcp_settings<'a>(node: &Node<'a>) -> Parsed<Object<'a>> {
    let tcp = node.object(node.either(keys::TCP, keys5::TCP))?;
    if let Some(header) = tcp.find("header").filter(|_| node.dialect == Dialect::V4) {
        let header = header.object(keys::TYPE)?;
        if let Some(kind) = header.find("type").filter(|kind| !kind.is_off()) {
            return Err(kind.refuse(
                format!("a disguise of raw TCP is not supported, found {}", kind.found()),
                "write \"none\", or use \"network\": \"ws\"",
            ));
        }
    }
    Ok(tcp)
}

fn senders(found: Option<(Node<'_>, ProxyProtocol)>) -> ProxyProtocol {
    found.map_or(ProxyProtocol::Off, |(_, senders)| senders)
}

/// An outbound accepts nothing.
pub(super) fn refuse_proxy_protocol(settings: Option<&Object<'_>>) -> Parsed<()> {
    match proxy_protocol(settings)? {
        Some((node, _)) => Err(node
            .refuse("the PROXY protocol can be accepted on an inbound only", "remove it from this outbound")),
        None => Ok(()),
    }
}
