//! `wsSettings`

use std::{
    num::{NonZeroU8, NonZeroU32},
    time::Duration,
};

use wsray_ws::{
    ClientOptions, EarlyData, EarlyDataPlace, HeaderName, HeaderValue, Headers, OptionError, Path,
    RESERVED_HEADERS,
};

use super::{
    front::{fallback, forwarded, proxy_protocol},
    stream::{Preconnects, refuse_proxy_protocol},
};
use crate::{
    ClientWs, Diagnostic, Heartbeat, Place, Preconnect, ProxyProtocol, ServerWs, keys, keys5,
    node::{Dialect, Node, Parsed, Reported},
    object::Object,
};

/// The header that Xray's `?ed=N` puts early data into (XTLS/Xray-core
/// `transport/internet/websocket/dialer.go`).
const XRAY_EARLY_DATA_HEADER: &str = "Sec-WebSocket-Protocol";

/// Headers that frame or route the request itself, so that early data in them would break it or be lost.
const NO_EARLY_DATA_HEADERS: [&str; 5] = ["Host", "Content-Length", "Transfer-Encoding", "TE", "Trailer"];

/// Reads the `wsSettings` of an inbound, and whose PROXY protocol headers it accepts.
pub(super) fn server(
    stream: &Node<'_>,
    settings: Option<&Node<'_>>,
    sockopt: Option<&Object<'_>>,
) -> Parsed<(ServerWs, ProxyProtocol)> {
    let Some(node) = settings else {
        let ws = ServerWs {
            place: stream.place(),
            path: Path::default(),
            early_data: None,
            forwarded: forwarded(None, sockopt)?,
            heartbeat: Heartbeat::Off,
            fallback: None,
        };
        return Ok((ws, ProxyProtocol::Off));
    };
    let object = node.object(node.either(keys::WS, keys5::WS))?;
    let forwarded = forwarded(Some(&object), sockopt);
    let heartbeat = heartbeat(&object, Heartbeat::Off);
    let accept = proxy_protocol(Some(&object));
    let fallback = fallback(&object);
    let early_data = early_data(&object);
    let path = text_of_path(&object);
    for (key, help) in [
        (object.either("headers", "header"), "headers are what a client sends; remove them"),
        ("host", "requests for any host are served; remove it"),
        ("preconnect", "it is for clients; move it to the outbound that dials this server"),
        ("useBrowserForwarding", "it is for clients, and servers need no setting for it; remove it"),
    ] {
        if let Some(unused) = object.find(key).filter(|node| !node.is_off()) {
            unused.warn("this has no effect on an inbound", help);
        }
    }
    let (path, early_data) = server_path(&object, path?, early_data?);
    let path = check_path(&object, &path)?;
    let ws = ServerWs {
        place: node.place(),
        path,
        early_data,
        forwarded: forwarded?,
        heartbeat: heartbeat?,
        fallback: fallback?,
    };
    Ok((ws, accept?.map_or(ProxyProtocol::Off, |(_, senders)| senders)))
}

/// `heartbeatPeriod` (XTLS/Xray-core `infra/conf/transport_internet.go`), in seconds; none from 0 down.
fn heartbeat(object: &Object<'_>, absent: Heartbeat) -> Parsed<Heartbeat> {
    let Some(node) = object.find("heartbeatPeriod") else { return Ok(absent) };
    if node.is_negative() {
        return Ok(Heartbeat::Off);
    }
    let seconds = node.number("a number of seconds", 0..=u32::MAX)?;
    Ok(NonZeroU32::new(seconds).map_or(Heartbeat::Off, Heartbeat::Every))
}

/// `preconnect` and `preconnectMaxAge`, in seconds: wsray's own.
fn preconnect(object: &Object<'_>) -> Parsed<Option<Preconnect>> {
    let connections = object.number("preconnect", "connections", 0..=MOST_READY);
    let max_age = object.number("preconnectMaxAge", "seconds", 1..=3600);
    let Some(connections) = connections?.and_then(|number| NonZeroU8::new(u8::try_from(number).ok()?)) else {
        if let Some(node) = object.find("preconnectMaxAge") {
            node.warn(
                "this has no effect: no connections are kept ready",
                "write \"preconnect\": 2 beside it, or remove it",
            );
        }
        return max_age.map(|_| None);
    };
    let max_age = max_age?.map_or(READY_MAX_AGE, |seconds| Duration::from_secs(seconds.into()));
    Ok(Some(Preconnect { connections, max_age }))
}

/// More connections ready than this would be a load on the server.
const MOST_READY: u32 = 16;

/// A third of what V2Ray gives a silent client (v2fly/v2ray-core `features/policy/policy.go`: 60 seconds).
const READY_MAX_AGE: Duration = Duration::from_secs(20);

/// Xray's `?ed=N` leaves the path; V2Ray would answer 404 to every request, as it does to any other query. In
/// path mode a query is an ordinary prefix.
fn server_path(
    object: &Object<'_>,
    path: String,
    early_data: Option<EarlyData>,
) -> (String, Option<EarlyData>) {
    let in_path = early_data.as_ref().is_some_and(|early| early.place == EarlyDataPlace::Path);
    let Some(node) = object.find("path").filter(|_| path.contains('?') && !in_path) else {
        return (path, early_data);
    };
    let (rest, xray) = ClientOptions::split_xray_early_data(&path);
    if rest.contains('?') {
        node.warn(
            "no request can match a path with a query: every client gets 404",
            "write the path up to the question mark",
        );
    }
    if rest != path {
        let size = xray.as_ref().map_or(0, |early| early.max_bytes.get());
        node.warn(
            format!(
                "\"?ed=\" is Xray's: wsray serves {rest:?}, with early data in {XRAY_EARLY_DATA_HEADER} \
                 (V2Ray would answer 404)"
            ),
            format!(
                "to say so yourself, write \"path\": {rest:?}, \"maxEarlyData\": {size}, \
                 \"earlyDataHeaderName\": {XRAY_EARLY_DATA_HEADER:?}"
            ),
        );
    }
    (rest, early_data.or(xray))
}

/// Reads the `wsSettings` of an outbound.
pub(super) fn client(
    stream: &Node<'_>,
    settings: Option<&Node<'_>>,
    preconnects: Preconnects,
) -> Parsed<ClientWs> {
    let Some(node) = settings else {
        return Ok(ClientWs {
            place: stream.place(),
            path: Path::default(),
            headers: Headers::default(),
            early_data: None,
            heartbeat: Heartbeat::WhenIdle,
            preconnect: None,
            browser_forwarding: None,
        });
    };
    let object = node.object(node.either(keys::WS, keys5::WS))?;
    let proxy_protocol = refuse_proxy_protocol(Some(&object));
    let browser_forwarding = browser_forwarding(&object);
    let heartbeat = heartbeat(&object, Heartbeat::WhenIdle);
    let preconnect = preconnect(&object);
    for key in ["preconnect", "preconnectMaxAge"] {
        if preconnects == Preconnects::No
            && let Some(unused) = object.find(key).filter(|node| !node.is_off())
        {
            unused.warn(
                "this has no effect: only vmess outbounds make connections before they are needed",
                "remove it",
            );
        }
    }
    for key in ["parseXForwardedFor", "fallback"] {
        if let Some(unused) = object.find(key).filter(|node| !node.is_off()) {
            unused.warn("this has no effect on an outbound", "move it to the inbound of the server");
        }
    }
    let headers = headers(&object);
    let early_data = early_data(&object);
    let path = text_of_path(&object);
    proxy_protocol?;
    let (path, early_data) = client_path(&object, path?, early_data?);
    Ok(ClientWs {
        place: node.place(),
        path: check_path(&object, &path)?,
        headers: headers?,
        early_data,
        heartbeat: heartbeat?,
        preconnect: preconnect?,
        browser_forwarding: browser_forwarding?,
    })
}

/// Xray's `?ed=N` leaves the path and means early data, unless the file says itself how early data goes.
fn client_path(
    object: &Object<'_>,
    path: String,
    early_data: Option<EarlyData>,
) -> (String, Option<EarlyData>) {
    let Some(node) = object.find("path") else { return (path, early_data) };
    if path.contains('#') {
        node.warn(
            "servers never get to see what stands behind the \"#\"",
            "write %23 for a \"#\" in the path",
        );
    }
    let (rest, xray) = ClientOptions::split_xray_early_data(&path);
    if rest == path || early_data.is_some() {
        return (path, early_data);
    }
    if let Some(early_data) = &xray {
        let size = early_data.max_bytes;
        node.warn(
            format!(
                "\"?ed={size}\" is Xray's: up to {size} bytes of early data are sent in \
                {XRAY_EARLY_DATA_HEADER}"
            ),
            "a V2Ray server needs \"maxEarlyData\" and \"earlyDataHeaderName\" for this; \
             remove \"?ed=...\" if yours has none",
        );
    }
    (rest, xray)
}

fn text_of_path(object: &Object<'_>) -> Parsed<String> {
    Ok(object.text("path", "a path")?.unwrap_or("/").to_owned())
}

fn check_path(object: &Object<'_>, path: &str) -> Parsed<Path> {
    Path::new(path).map_err(|error| {
        let node = object.find("path").unwrap_or_else(|| object.node.clone());
        node.refuse(
            format!("expected a path, found {}: {error}", node.found()),
            "remove that character, or percent-encode it",
        )
    })
}

fn early_data(object: &Object<'_>) -> Parsed<Option<EarlyData>> {
    let bytes = object.number("maxEarlyData", "bytes", 0..=2_147_483_647);
    let name = object.text("earlyDataHeaderName", "the name of a header");
    let name_node = object.find("earlyDataHeaderName");
    let place = match (name?, name_node) {
        (Some(name), Some(node)) => EarlyDataPlace::Header(early_data_header(&node, name)?),
        _ => EarlyDataPlace::Path,
    };
    let max_bytes = bytes?.and_then(NonZeroU32::new);
    if let (None, EarlyDataPlace::Header(_), Some(node)) =
        (max_bytes, &place, object.find("earlyDataHeaderName"))
    {
        node.warn(
            "this has no effect: early data is off",
            "write \"maxEarlyData\": 2048 beside it, or remove it",
        );
    }
    Ok(max_bytes.map(|max_bytes| EarlyData { max_bytes, place }))
}

fn early_data_header(node: &Node<'_>, name: &str) -> Parsed<HeaderName> {
    let help = "write \"Sec-WebSocket-Protocol\"";
    let parsed: HeaderName = name.parse().map_err(|_| node.expected("the name of an HTTP header", help))?;
    if RESERVED_HEADERS.iter().chain(&NO_EARLY_DATA_HEADERS).any(|reserved| parsed.is(reserved)) {
        return Err(node.refuse(
            format!("early data cannot travel in the header {name:?}: the request itself needs it"),
            help,
        ));
    }
    Ok(parsed)
}

/// `headers`, and Xray's `host`, which wins over a Host among them.
fn headers(object: &Object<'_>) -> Parsed<Headers> {
    let mut headers = Headers::default();
    let mut result = Ok(());
    let host = object
        .text("host", "a host name")
        .map(|host| host.and_then(|host| Some((host, object.find("host")?))));
    if let Ok(Some((text, node))) = &host
        && add(&mut headers, "Host", &node.place(), node, text).is_err()
    {
        result = Err(Reported);
    }
    let has_host = matches!(&host, Ok(Some(_)));
    let chosen = host.as_ref().ok().and_then(Option::as_ref).map(|(text, _)| *text);
    for named in named_values(object)? {
        let Ok((name, place, value, text)) =
            named.and_then(|(name, place, value)| Ok((name, place, value.clone(), value.text("a text")?)))
        else {
            result = Err(Reported);
            continue;
        };
        let is_host = name.eq_ignore_ascii_case("Host");
        if is_host && has_host {
            if chosen != Some(text) {
                value.warn("this is ignored: \"host\" says something as well", "remove one of them");
            }
        } else if (!is_host || !text.is_empty()) && add(&mut headers, name, &place, &value, text).is_err() {
            result = Err(Reported);
        }
    }
    host?;
    result.map(|()| headers)
}

/// The name of a header, its place, and the value.
type NamedValue<'a> = Parsed<(&'a str, Place, Node<'a>)>;

/// Names of headers, where they stand, and values: a map, or V2Ray 5's list of pairs.
fn named_values<'a>(object: &Object<'a>) -> Parsed<Vec<NamedValue<'a>>> {
    if object.node.dialect == Dialect::V4 {
        let entries = object.find("headers").map_or(Ok(Vec::new()), |node| node.entries())?;
        return Ok(entries.into_iter().map(Ok).collect());
    }
    let pair = |node: &Node<'a>| {
        let pair = node.object(keys5::HEADER)?;
        let help = "write { \"key\": \"Host\", \"value\": \"www.example.com\" }";
        let name = pair.find("key").ok_or_else(|| -> Reported { pair.missing("key", help) });
        let value = pair.find("value").ok_or_else(|| -> Reported { pair.missing("value", help) });
        let name = name?;
        Ok((name.text("the name of an HTTP header")?, name.place(), value?))
    };
    Ok(object.list("header")?.iter().map(pair).collect())
}

/// Adds one header; `place` is the name's.
pub(super) fn add(
    headers: &mut Headers,
    name: &str,
    place: &Place,
    value: &Node<'_>,
    text: &str,
) -> Parsed<()> {
    let reader = value.reader;
    let refuse = |message: String, help: &str| reader.refuse(Diagnostic::at(place, message).help(help));
    let parsed_name: HeaderName = name.parse().map_err(|_| {
        refuse(
            format!("expected the name of an HTTP header, found {name:?}"),
            "use letters, digits and hyphens only",
        )
    })?;
    let parsed_value: HeaderValue = text.parse().map_err(|error: OptionError| {
        value.refuse(format!("expected the value of an HTTP header: {error}"), "remove that character")
    })?;
    if parsed_name.is("Host") && text.contains(['/', ' ', '\t', ',', '?', '#', '@']) {
        return Err(value.expected("a host name", "write the host only, such as \"www.example.com\""));
    }
    headers.insert(parsed_name, parsed_value).map_err(|error| {
        let help = match &error {
            OptionError::RepeatedHeader { .. } => "remove one of them; letter case makes no difference",
            _ => "remove it",
        };
        refuse(error.to_string(), help)
    })
}

/// Where it says that a browser dials.
fn browser_forwarding(object: &Object<'_>) -> Parsed<Option<Place>> {
    let Some(node) = object.find("useBrowserForwarding") else { return Ok(None) };
    Ok(node.flag()?.then(|| node.place()))
}
