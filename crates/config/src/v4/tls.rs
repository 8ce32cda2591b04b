//! `tlsSettings`

use data_encoding::BASE64;
use wsray_vmess::Address;

use super::{trust, values};
use crate::{
    CertificatePair, ClientTls, Pem, PemSource, Resumption, ServerTls, keys, keys5,
    node::{Dialect, Node, Parsed, Reported},
    object::Object,
};

/// The protocol that carries a WebSocket handshake.
const HTTP_1: &str = "http/1.1";
/// What V2Ray offers elsewhere (v2fly/v2ray-core `transport/internet/tls/config.go`).
const DEFAULT_ALPN: [&str; 2] = ["h2", HTTP_1];

/// What a certificate is for.
enum Usage {
    Present,
    Trust,
}

/// Reads the TLS of an inbound whose `security` is the node given.
pub(super) fn server(stream: &Object<'_>, security: &Node<'_>, is_ws: bool) -> Parsed<ServerTls> {
    let help = stream.either(
        "write \"tlsSettings\": { \"certificates\": [{ \"certificateFile\": \"cert.pem\", \"keyFile\": \
            \"key.pem\" }] }",
        "write \"securitySettings\": { \"certificate\": [{ \"certificateFile\": \"cert.pem\", \"keyFile\": \
            \"key.pem\" }] }",
    );
    let key = settings_key(stream);
    let Some(node) = stream.find(key) else {
        let message = format!("TLS needs a certificate and its key: {key:?} is missing");
        return Err(security.refuse(message, help));
    };
    let object = node.object(node.either(keys::TLS, keys5::TLS))?;
    let versions = versions(&object);
    let alpn = alpn(&object, is_ws);
    let resumption = resumption(&object);
    let listed = object.list(certificates_key(&object))?;
    let pairs: Vec<_> = listed.iter().map(|node| server_certificate(node)).collect();
    let pairs: Vec<_> = pairs.into_iter().collect::<Parsed<_>>()?;
    let certificates: Vec<_> = pairs.into_iter().flatten().collect();
    if certificates.is_empty() {
        let place = object.find(certificates_key(&object)).unwrap_or_else(|| node.clone());
        return Err(place.refuse("TLS needs a certificate and its key, found none", help));
    }
    versions?;
    Ok(ServerTls {
        place: node.place(),
        certificates,
        reject_unknown_sni: object.flag("rejectUnknownSni")?,
        alpn: alpn?,
        resumption: resumption?,
    })
}

/// What an outbound's TLS carries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Inside {
    Ws,
    WsWithEarlyData,
    Other,
}

/// All that TLS's early data ever carries is an upgrade request with early data in it.
fn warn_of_early_data(object: &Object<'_>) {
    if let Some(node) = object.find("enableEarlyData") {
        node.warn(
            "this has no effect: there is no early data that it could carry",
            "write \"maxEarlyData\": 2048 and \"earlyDataHeaderName\": \"Sec-WebSocket-Protocol\" in the settings of \
             WebSocket, on both ends, or remove it",
        );
    }
}

/// `enableSessionResumption`, and wsray's own `enableEarlyData`.
fn resumption(object: &Object<'_>) -> Parsed<Resumption> {
    let (resumes, early_data) = (object.flag("enableSessionResumption"), object.flag("enableEarlyData"));
    match (resumes?, early_data?, object.find("enableEarlyData")) {
        (true, true, _) => Ok(Resumption::WithEarlyData),
        (true, false, _) => Ok(Resumption::On),
        (false, true, Some(node)) => Err(node.refuse(
            "early data needs a session that is resumed",
            "write \"enableSessionResumption\": true beside it, on both ends",
        )),
        (false, ..) => Ok(Resumption::Off),
    }
}

fn server_certificate(node: &Node<'_>) -> Parsed<Option<CertificatePair>> {
    let object = node.object(node.either(keys::CERTIFICATE, keys5::CERTIFICATE))?;
    if let Usage::Trust = usage(&object)? {
        node.warn(
            "this certificate has no effect: clients are not asked for theirs",
            node.either(
                "write \"usage\": \"encipherment\" to present it, or remove it",
                "write \"usage\": \"ENCIPHERMENT\" to present it, or remove it",
            ),
        );
        return Ok(None);
    }
    let certificate = pem(&object, "certificateFile", "certificate");
    let key = pem(&object, "keyFile", "key");
    Ok(Some(CertificatePair { place: node.place(), certificate: certificate?, key: key? }))
}

/// Reads the TLS of an outbound to `addresses` whose `security` is the node given.
pub(super) fn client(
    stream: &Object<'_>,
    security: &Node<'_>,
    inside: Inside,
    addresses: &[Address],
) -> Parsed<ClientTls> {
    let is_ws = inside != Inside::Other;
    let Some(node) = stream.find(settings_key(stream)) else {
        check_addresses(security, addresses)?;
        return Ok(ClientTls {
            place: security.place(),
            server_name: None,
            alpn: default_alpn(is_ws),
            allow_insecure: false,
            disable_system_root: false,
            extra_roots: Vec::new(),
            pinned_chain_sha256: Vec::new(),
            pinned_sha256: Vec::new(),
            verified_names: Vec::new(),
            resumption: Resumption::Off,
        });
    };
    let object = node.object(node.either(keys::TLS, keys5::TLS))?;
    let server_name = object.find("serverName");
    let server_name =
        server_name.map_or(Ok(None), |node| self::server_name(&node, node.text("a server name")?));
    let versions = versions(&object);
    let alpn = alpn(&object, is_ws);
    let allow_insecure = object.flag("allowInsecure");
    let insecure_if_pinned = object.flag("allowInsecureIfPinnedPeerCertificate");
    let disable_system_root = object.flag("disableSystemRoot");
    let resumption = resumption(&object);
    if matches!(resumption, Ok(Resumption::WithEarlyData)) && inside != Inside::WsWithEarlyData {
        warn_of_early_data(&object);
    }
    let pins = trust::chain_pins(&object);
    let certificate_pins = trust::certificate_pins(&object);
    let verified_names = trust::verified_names(&object);
    let extra_roots = extra_roots(&object);
    versions?;
    let (pins, insecure_if_pinned) = (pins?, insecure_if_pinned?);
    if insecure_if_pinned
        && pins.is_empty()
        && let Some(node) = object.find("allowInsecureIfPinnedPeerCertificate")
    {
        node.warn("this has no effect: no certificate is pinned", "remove it");
    }
    let tls = ClientTls {
        place: node.place(),
        server_name: server_name?,
        alpn: alpn?,
        allow_insecure: allow_insecure? || (insecure_if_pinned && !pins.is_empty()),
        disable_system_root: disable_system_root?,
        extra_roots: extra_roots?,
        pinned_chain_sha256: pins,
        pinned_sha256: certificate_pins?,
        verified_names: verified_names?,
        resumption: resumption?,
    };
    if tls.server_name.is_none() {
        check_addresses(&object.node, addresses)?;
    }
    check_trust(&object, &tls)?;
    Ok(tls)
}

/// What makes trust in the server impossible, or empty.
fn check_trust(object: &Object<'_>, tls: &ClientTls) -> Parsed<()> {
    if tls.disable_system_root
        && tls.extra_roots.is_empty()
        && tls.pinned_sha256.is_empty()
        && !tls.allow_insecure
    {
        let node = object.find("disableSystemRoot").unwrap_or_else(|| object.node.clone());
        return Err(node.refuse(
            "no server can be trusted: the system's certificates are off and there are no others",
            object.either(
                "add \"certificates\": [{ \"usage\": \"verify\", \"certificateFile\": \"ca.pem\" }], or \
                    write false",
                "add \"certificate\": [{ \"usage\": \"AUTHORITY_VERIFY\", \"certificateFile\": \"ca.pem\" }], \
                    or write false",
            ),
        ));
    }
    if let Some(node) = object.find("allowInsecure").filter(|_| tls.allow_insecure && !tls.is_pinned()) {
        node.warn(
            "the server's certificate is not checked: anybody on the way can pose as the server",
            "write false; for a certificate of your own add { \"usage\": \"verify\", \
                \"certificateFile\": \"cert.pem\" } to \"certificates\"",
        );
    }
    Ok(())
}

fn extra_roots(object: &Object<'_>) -> Parsed<Vec<Pem>> {
    let root = |node: &Node<'_>| {
        let object = node.object(node.either(keys::CERTIFICATE, keys5::CERTIFICATE))?;
        match usage(&object)? {
            Usage::Trust => pem(&object, "certificateFile", "certificate").map(Some),
            Usage::Present => {
                node.warn(
                    "this certificate has no effect: wsray shows servers no certificate of its own yet",
                    node.either(
                        "write \"usage\": \"verify\" to trust it, or remove it",
                        "write \"usage\": \"AUTHORITY_VERIFY\" to trust it, or remove it",
                    ),
                );
                Ok(None)
            }
        }
    };
    let roots: Vec<_> = object.list(certificates_key(object))?.iter().map(root).collect();
    let roots: Vec<Option<Pem>> = roots.into_iter().collect::<Parsed<_>>()?;
    Ok(roots.into_iter().flatten().collect())
}

fn usage(certificate: &Object<'_>) -> Parsed<Usage> {
    const USAGES: values::Names = values::Names {
        what: "a usage",
        known: &["encipherment", "verify"],
        foreign: &["issue", "verifyclient"],
        foreign_help: "remove this certificate, or write \"encipherment\" or \"verify\"",
    };
    const USAGES_V5: values::Names = values::Names {
        what: "a usage",
        known: &["ENCIPHERMENT", "AUTHORITY_VERIFY"],
        foreign: &["AUTHORITY_ISSUE", "AUTHORITY_VERIFY_CLIENT"],
        foreign_help: "remove this certificate, or write \"ENCIPHERMENT\" or \"AUTHORITY_VERIFY\"",
    };
    let Some(node) = certificate.find("usage") else { return Ok(Usage::Present) };
    let name = node.text(USAGES.what)?;
    match (name.to_ascii_lowercase().as_str(), node.dialect) {
        ("encipherment", _) | ("", Dialect::V4) => Ok(Usage::Present),
        ("verify", Dialect::V4) | ("authority_verify", Dialect::V5) => Ok(Usage::Trust),
        _ => Err(node.either(USAGES, USAGES_V5).unknown(&node, name)),
    }
}

fn settings_key(stream: &Object<'_>) -> &'static str {
    stream.either("tlsSettings", "securitySettings")
}

fn certificates_key(tls: &Object<'_>) -> &'static str {
    tls.either("certificates", "certificate")
}

/// PEM by file or by lines; the file wins, as in V2Ray.
fn pem(certificate: &Object<'_>, file_key: &str, inline_key: &str) -> Parsed<Pem> {
    if let Some(node) = certificate.find(file_key) {
        let path = node.text("a file name")?;
        if !path.is_empty() {
            return Ok(Pem { place: node.place(), source: PemSource::File(path.to_owned()) });
        }
    }
    let missing = || -> Reported {
        certificate.missing(
            file_key,
            certificate.either(
                format!("write \"{file_key}\": \"...\", or the PEM lines as {inline_key:?}: [...]"),
                format!("write \"{file_key}\": \"...\""),
            ),
        )
    };
    let node = certificate.find(inline_key).ok_or_else(missing)?;
    let text = match node.as_text() {
        Some(text) if node.dialect == Dialect::V5 => pem_in_base64(&node, text)?,
        Some(text) => text.to_owned(),
        None if node.is_list() && node.dialect == Dialect::V4 => {
            let lines: Vec<_> = node.list()?.iter().map(|line| pem_line(line)).collect();
            lines.into_iter().collect::<Parsed<Vec<_>>>()?.join("\n")
        }
        None => {
            return Err(node.refuse(
                format!("expected the lines of a PEM file, found {}", node.kind()),
                node.either("write [\"-----BEGIN ...\", ...]", "write the PEM file in base64"),
            ));
        }
    };
    if text.trim().is_empty() {
        Err(missing())
    } else {
        Ok(Pem { place: node.place(), source: PemSource::Inline(text) })
    }
}

/// V2Ray 5's bytes are base64 in JSON. They may be a secret and are never shown.
fn pem_in_base64(node: &Node<'_>, text: &str) -> Parsed<String> {
    let bytes = BASE64.decode(text.as_bytes()).ok();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
        node.refuse("expected a PEM file in base64", "write the output of base64 -w0, or name the file")
    })
}

/// A line of PEM, which may be a secret and is never shown.
fn pem_line<'a>(node: &Node<'a>) -> Parsed<&'a str> {
    node.as_text().ok_or_else(|| {
        node.refuse(
            format!("expected a line of a PEM file, found {}", node.kind()),
            "put it in double quotes",
        )
    })
}

/// wsray speaks TLS 1.2 and 1.3, always both.
fn versions(object: &Object<'_>) -> Parsed<()> {
    let mut result = Ok(());
    let fine = object.either(
        [("minVersion", ["1.0", "1.1", "1.2"].as_slice()), ("maxVersion", &["1.3"])],
        [("minVersion", &["Default", "TLS1_0", "TLS1_1", "TLS1_2"]), ("maxVersion", &["Default", "TLS1_3"])],
    );
    for (key, fine) in fine {
        let Some(node) = object.find(key) else { continue };
        let named = node.text("a TLS version").map(|text| text.is_empty() || fine.contains(&text));
        if named == Ok(false) {
            let message = format!("choosing TLS versions is not supported yet, found {}", node.found());
            result = Err(node.refuse(message, "remove it: TLS 1.2 and 1.3 are spoken"));
        } else if named.is_err() {
            result = Err(Reported);
        }
    }
    result
}

fn default_alpn(is_ws: bool) -> Vec<String> {
    let names: &[&str] = if is_ws { &[HTTP_1] } else { &DEFAULT_ALPN };
    names.iter().map(|&name| name.to_owned()).collect()
}

/// `alpn`, without `h2` on WebSocket: V2Ray agrees to it there, and then no handshake works.
fn alpn(object: &Object<'_>, is_ws: bool) -> Parsed<Vec<String>> {
    let Some(node) = object.find(object.either("alpn", "nextProtocol")) else {
        return Ok(default_alpn(is_ws));
    };
    let mut names: Vec<String> = Vec::new();
    for (at, name) in node.texts("a list of protocols")? {
        if name.is_empty() || name.len() > 255 {
            return Err(at.expected("a protocol of 1 to 255 bytes", "write \"http/1.1\""));
        }
        names.push(name.to_owned());
    }
    if is_ws && names.iter().any(|name| name == "h2") {
        node.warn("\"h2\" is left out: it cannot carry WebSocket here", "write [\"http/1.1\"]");
        names.retain(|name| name != "h2");
    }
    if names.is_empty() { Ok(default_alpn(is_ws)) } else { Ok(names) }
}

/// The name that a server is known by; none if it is empty.
pub(super) fn server_name(node: &Node<'_>, text: &str) -> Parsed<Option<Address>> {
    if text.is_empty() {
        return Ok(None);
    }
    let address = text.parse::<Address>().ok().filter(is_tls_name);
    address.map(Some).ok_or_else(|| {
        let help = "write the name on the server's certificate, such as \"server.example.com\", without \
            scheme and port";
        node.expected("a DNS name or an IP address", help)
    })
}

/// Without `serverName`, each address must be a name that a certificate can bear.
fn check_addresses(node: &Node<'_>, addresses: &[Address]) -> Parsed<()> {
    match addresses.iter().find(|address| !is_tls_name(address)) {
        Some(address) => Err(node.refuse(
            format!("no certificate can bear the server's address {address}"),
            node.either(
                "write \"serverName\" in \"tlsSettings\"",
                "write \"serverName\" in \"securitySettings\"",
            ),
        )),
        None => Ok(()),
    }
}

/// Whether TLS can name it (RFC 1035 section 2.3.1 and 2.3.4; underscores are tolerated).
fn is_tls_name(address: &Address) -> bool {
    let Address::Domain(domain) = address else { return true };
    let name = domain.as_str();
    let label =
        |label: &str| (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-');
    let numeric_end = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(label) && !numeric_end
}
