//! `browserForwarder` (`services.browser` in V2Ray 5's dialect), and what an outbound that uses it cannot have.

use std::{net::IpAddr, num::NonZeroU16};

use wsray_ws::EarlyDataPlace;

use super::values;
use crate::{
    BrowserService, ClientStream, ClientTls, ClientWs, Diagnostic, Dial, Heartbeat, Inbound, ListenAt,
    Outbound, OutboundProtocol, Place, VmessServer, keys,
    node::{Node, Parsed, Reader},
};

/// The only header that a page may put early data into.
const PAGE_HEADER: &str = "Sec-WebSocket-Protocol";

/// The port where none is written (v2fly/v2ray-core `app/browserforwarder/forwarder.go`).
const DEFAULT_PORT: u16 = 54321;

/// Ports that browsers refuse to connect to (WHATWG Fetch, "port blocking").
const BLOCKED_PORTS: [u16; 83] = [
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103,
    104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514,
    515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723,
    2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

/// Reads the service from the node that it has in its dialect; `None`: there is none, or it is off, as it is without
/// an address.
pub(super) fn service(node: Option<Node<'_>>) -> Parsed<Option<BrowserService>> {
    let Some(node) = node else { return Ok(None) };
    let object = node.object(keys::BROWSER)?;
    let address = object.find("listenAddr").map(|node| address(&node)).transpose();
    let port = object.number("listenPort", "a port", 0..=65535);
    let port_node = object.find("listenPort").unwrap_or_else(|| node.clone());
    let (address, port) = (address?.flatten(), port?);
    let Some(address) = address else {
        if !node.is_off() {
            node.warn(
                "browser forwarding is off: \"listenAddr\" is missing",
                "write \"listenAddr\": \"127.0.0.1\"",
            );
        }
        return Ok(None);
    };
    let port = port.and_then(|port| u16::try_from(port).ok()).and_then(NonZeroU16::new);
    let port = port.or(NonZeroU16::new(DEFAULT_PORT)).unwrap_or(NonZeroU16::MIN);
    if BLOCKED_PORTS.contains(&port.get()) {
        return Err(port_node.refuse(
            format!("browsers refuse to open a page at port {port}"),
            "write another port, such as 8080",
        ));
    }
    Ok(Some(BrowserService { place: port_node.place(), address, port }))
}

/// An IP address or `localhost`; `None` when it is empty.
fn address(node: &Node<'_>) -> Parsed<Option<IpAddr>> {
    const HELP: &str = "write \"127.0.0.1\"";
    let text = node.text("an IP address or localhost")?;
    if text.is_empty() {
        return Ok(None);
    }
    let address = match text.to_ascii_lowercase().as_str() {
        "localhost" => IpAddr::from([127, 0, 0, 1]),
        _ => values::ip(node, HELP)?,
    };
    if !address.is_loopback() {
        node.warn(
            format!(
                "whoever can reach {address} can open the page, and then your connections may go through that browser"
            ),
            "write \"127.0.0.1\", unless a firewall keeps everybody else away",
        );
    }
    Ok(Some(address))
}

/// The service does not share its port with an inbound.
pub(super) fn own_port(
    root: &Node<'_>,
    service: Option<&BrowserService>,
    inbounds: &[Inbound],
) -> Parsed<()> {
    let Some(service) = service else { return Ok(()) };
    let shares = |inbound: &&Inbound| {
        let ListenAt::Ports { address, ports } = &inbound.listen.at else { return false };
        let overlap =
            *address == service.address || address.is_unspecified() || service.address.is_unspecified();
        overlap && ports.iter().any(|port| port == service.port.get())
    };
    let Some(inbound) = inbounds.iter().find(shares) else { return Ok(()) };
    let message =
        format!("port {} is taken by the inbound {}", service.port, inbound.place.seen_from(&service.place));
    Err(root.reader.refuse(Diagnostic::at(&service.place, message).help("give one of them another port")))
}

/// What the outbounds that use a browser ask of it that it cannot do.
pub(super) fn check(root: &Node<'_>, service: Option<&BrowserService>, outbounds: &[Outbound]) -> Parsed<()> {
    let mut result = Ok(());
    let mut used = false;
    for outbound in outbounds {
        let OutboundProtocol::Vmess(vmess) = &outbound.protocol else { continue };
        let Some(ws) = &vmess.stream.ws else { continue };
        let Some(place) = &ws.browser_forwarding else { continue };
        used = true;
        let check = Check { reader: root.reader, place, dial: &outbound.dial, stream: &vmess.stream, ws };
        if service.is_none() {
            let help = root.either(
                "write \"browserForwarder\": { \"listenAddr\": \"127.0.0.1\", \"listenPort\": 8080 } beside \
                    \"outbounds\"",
                "write \"services\": { \"browser\": { \"listenAddr\": \"127.0.0.1\", \"listenPort\": 8080 } }",
            );
            result =
                check.refuse(place, "no browser can be used: there is no service that it connects to", help);
        }
        result = [result, check.early_data(), check.trust(), check.way(), check.servers(&vmess.servers)]
            .into_iter()
            .collect();
        check.warn_of_lost_settings();
    }
    if let Some(service) = service.filter(|_| !used) {
        root.reader.warn(
            Diagnostic::at(&service.place, "no outbound uses the browser").help(
                "write \"useBrowserForwarding\": true in the \"wsSettings\" of a vmess outbound, or remove the service",
            ),
        );
    }
    result
}

/// One outbound that uses a browser.
struct Check<'a> {
    reader: &'a Reader<'a>,
    /// Where it says so.
    place: &'a Place,
    dial: &'a Dial,
    stream: &'a ClientStream,
    ws: &'a ClientWs,
}

impl Check<'_> {
    fn refuse(&self, place: &Place, message: impl Into<String>, help: impl Into<String>) -> Parsed<()> {
        Err(self.reader.refuse(Diagnostic::at(place, message).help(help)))
    }

    fn warn(&self, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        self.reader.warn(Diagnostic::at(place, message).help(help));
    }

    fn early_data(&self) -> Parsed<()> {
        match self.ws.early_data.as_ref().map(|early| &early.place) {
            Some(EarlyDataPlace::Header(name)) if !name.is(PAGE_HEADER) => self.refuse(
                &self.ws.place,
                format!("a web page cannot send early data in the header {:?}", name.as_str()),
                format!(
                    "on both ends write \"earlyDataHeaderName\": {PAGE_HEADER:?}, or \"\" for early data in the path"
                ),
            ),
            _ => Ok(()),
        }
    }

    /// It connects as it likes.
    fn way(&self) -> Parsed<()> {
        if let Some(options) = &self.dial.socket.place {
            let help = "remove it here: the sockets are the browser's";
            self.warn(options, "this has no effect on a browser's connections", help);
        }
        if let Some(through) = &self.dial.through {
            return self.refuse(
                &through.tag.place,
                "a browser's connections go through no other outbound",
                "remove it, and give that browser a proxy in its own settings",
            );
        }
        match self.dial.send_through {
            Some(address) => self.refuse(
                self.place,
                format!("a browser does not connect from {address} (sendThrough)"),
                "remove \"sendThrough\"",
            ),
            None => Ok(()),
        }
    }

    /// A promise about whom to trust that a browser does not know of is not given up in silence.
    fn trust(&self) -> Parsed<()> {
        let Some(tls) = &self.stream.tls else { return Ok(()) };
        if tls.is_pinned() || !tls.verified_names.is_empty() {
            return self.refuse(
                &tls.place,
                "a browser cannot be told which certificate to expect (a hash or names of it are given)",
                "remove it: the browser checks the certificate by its own authorities",
            );
        }
        if tls.disable_system_root {
            return self.refuse(
                &tls.place,
                "a browser cannot be told which authorities to trust (disableSystemRoot)",
                "write false: the browser checks the certificate by its own authorities",
            );
        }
        self.warn_of_certificates(tls);
        Ok(())
    }

    fn warn_of_certificates(&self, tls: &ClientTls) {
        if tls.allow_insecure {
            self.warn(
                &tls.place,
                "allowInsecure has no effect: the browser checks the certificate all the same",
                "give the server a certificate that browsers trust, or import its authority into the browser",
            );
        }
        if !tls.extra_roots.is_empty() {
            self.warn(
                &tls.place,
                "these certificates have no effect: the browser checks by its own authorities",
                "import them into the browser, and remove them here",
            );
        }
    }

    fn servers(&self, servers: &[VmessServer]) -> Parsed<()> {
        let mut result = Ok(());
        for server in servers {
            let Ok(host) = self.stream.browser_host(&server.address) else {
                let help = "write the host only, such as \"www.example.com\"";
                result = self.refuse(&self.ws.place, "the Host of \"headers\" cannot stand in a URL", help);
                continue;
            };
            if BLOCKED_PORTS.contains(&server.port.get()) {
                result = self.refuse(
                    &server.place,
                    format!("browsers refuse to connect to port {}", server.port),
                    "let the server listen on another port, such as 443, or dial it directly",
                );
            }
            if host != server.address {
                self.warn(
                    &server.place,
                    format!(
                        "the browser connects to {host}, port {}, and looks that name up itself: the address {} is not \
                         used",
                        server.port, server.address
                    ),
                    format!("write \"address\": \"{host}\" to say so yourself"),
                );
            }
        }
        result
    }

    /// The rest is lost without harm.
    fn warn_of_lost_settings(&self) {
        let lost = self.ws.headers.iter().map(|(name, _)| name).filter(|name| !name.is("Host"));
        let lost: Vec<_> = lost.map(|name| format!("{:?}", name.as_str())).collect();
        if !lost.is_empty() {
            self.warn(
                &self.ws.place,
                format!("a browser sends its own headers, and not {}", lost.join(", ")),
                "remove them here; the server must not ask for them",
            );
        }
        let name = self.stream.tls.as_ref().and_then(|tls| tls.server_name.as_ref());
        if let (Some(name), Some(host)) = (name, self.ws.headers.find("Host"))
            && !host.eq_ignore_ascii_case(&name.to_string())
        {
            self.warn(
                &self.ws.place,
                format!("a browser sends one name in TLS and HTTP: {host}, and not {name}"),
                "the certificate must be valid for that name; write the same in \"serverName\"",
            );
        }
        if let Heartbeat::Every(_) = self.ws.heartbeat {
            self.warn(
                &self.ws.place,
                "heartbeatPeriod has no effect: a web page cannot send pings",
                "write it on the server instead",
            );
        }
        if self.ws.preconnect.is_some() {
            self.warn(
                &self.ws.place,
                "preconnect has no effect: a browser connects when a session asks for it",
                "remove it here; with \"mux\": { \"enabled\": true } sessions share connections that are there",
            );
        }
    }
}
