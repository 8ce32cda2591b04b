//! Which certificates a client takes beside, or instead of, what authorities say.

use data_encoding::{BASE64_NOPAD, HEXLOWER_PERMISSIVE};
use wsray_vmess::Address;

use super::tls::server_name;
use crate::{
    node::{Node, Parsed},
    object::Object,
};

/// `pinnedPeerCertificateChainSha256`: hashes of whole chains.
pub(super) fn chain_pins(object: &Object<'_>) -> Parsed<Vec<[u8; 32]>> {
    let Some(node) = object.find("pinnedPeerCertificateChainSha256") else { return Ok(Vec::new()) };
    let pin = |(at, text): (Node<'_>, &str)| {
        let standard = text.trim_end_matches('=').replace('-', "+").replace('_', "/");
        let bytes =
            BASE64_NOPAD.decode(standard.as_bytes()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.ok_or_else(|| {
            at.expected(
                "a SHA-256 hash in base64 (44 characters)",
                "write what v2ctl tlsping or v2ray tls certChainHash shows",
            )
        })
    };
    let pins: Vec<_> = node.texts("a list of hashes")?.into_iter().map(pin).collect();
    pins.into_iter().collect()
}

/// Xray's `pinnedPeerCertSha256`: hashes of single certificates (`infra/conf/transport_security.go`).
pub(super) fn certificate_pins(object: &Object<'_>) -> Parsed<Vec<[u8; 32]>> {
    let Some(node) = object.find("pinnedPeerCertSha256") else { return Ok(Vec::new()) };
    let pin = |(at, text): (Node<'_>, &str)| {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.replace(':', "").as_bytes()).ok();
        bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()).ok_or_else(|| {
            at.expected(
                "a SHA-256 hash (64 hexadecimal digits)",
                "write what openssl x509 -noout -fingerprint -sha256 -in cert.pem shows",
            )
        })
    };
    let pins: Vec<_> = node.texts("a list of hashes")?.into_iter().map(pin).collect();
    pins.into_iter().collect()
}

/// Xray's `verifyPeerCertByName`, and its older `verifyPeerCertInNames`: who the server may be.
pub(super) fn verified_names(object: &Object<'_>) -> Parsed<Vec<Address>> {
    let Some(node) = object.find_any(&["verifyPeerCertByName", "verifyPeerCertInNames"]) else {
        return Ok(Vec::new());
    };
    let texts = node.texts("a list of names")?;
    let names: Vec<_> = texts.iter().map(|(at, text)| server_name(at, text)).collect();
    names.into_iter().filter_map(Result::transpose).collect()
}
