//! rustls configurations from certificates and keys, with complaints that name their place.

use std::{fmt, sync::Arc};

use aws_lc_rs::digest;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::{
        ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert,
        ResolvesServerCertUsingSni, ServerSessionMemoryCache,
    },
    sign::CertifiedKey,
};
use wsray_config::{CertificatePair, ClientTls, Diagnostic, Pem, PemSource, Resumption, ServerTls};
use wsray_vmess::Address;

/// The server's side of `tlsSettings`.
///
/// # Errors
/// A file that cannot be read, text that is no PEM, a key that is not the certificate's.
pub fn server_config(tls: &ServerTls) -> Result<Arc<ServerConfig>, Diagnostic> {
    let provider = provider();
    let keys =
        tls.certificates.iter().map(|pair| certified_key(pair, &provider)).collect::<Result<Vec<_>, _>>()?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Diagnostic::at(&tls.place, error.to_string()))?;
    let mut config =
        builder.with_no_client_auth().with_cert_resolver(Arc::new(BySni::new(keys, tls.reject_unknown_sni)));
    config.alpn_protocols = tls.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    match tls.resumption {
        Resumption::Off => {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Resumption::On => config.session_storage = ServerSessionMemoryCache::new(SESSIONS),
        Resumption::WithEarlyData => {
            // Each of these sessions is resumed once only, so early data that is sent again is not taken.
            config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
            config.max_early_data_size = MAX_EARLY_DATA;
            config.send_half_rtt_data = true;
        }
    }
    Ok(Arc::new(config))
}

/// Sessions that a server remembers, two for each connection, of some 250 bytes each.
const SESSIONS: usize = 8192;

/// One record's worth, and more than any upgrade request that another program passes on.
const MAX_EARLY_DATA: u32 = 16 * 1024;

/// The client's side of `tlsSettings`.
///
/// # Errors
/// A file that cannot be read, text that is no PEM, or nothing to trust.
pub fn client_config(tls: &ClientTls) -> Result<Arc<ClientConfig>, Diagnostic> {
    let provider = provider();
    let mut roots = RootCertStore::empty();
    let mut own = Vec::new();
    if !tls.disable_system_root && !tls.allow_insecure {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
    }
    for pem in &tls.extra_roots {
        for certificate in read_certificates(pem)? {
            own.push(certificate.clone());
            roots.add(certificate).map_err(|error| {
                Diagnostic::at(&pem.place, format!("this certificate cannot be a trusted root: {error}"))
            })?;
        }
    }
    if roots.is_empty() && !tls.allow_insecure && !tls.is_pinned() {
        return Err(Diagnostic::at(&tls.place, "there is no certificate authority to trust")
            .help("install the system's ca-certificates, or add one to certificates with usage \"verify\""));
    }
    let verifier = Verifier {
        inner: web_pki(roots, &provider),
        own,
        insecure: tls.allow_insecure,
        pinned: tls.pinned_chain_sha256.clone(),
        pinned_certificates: tls.pinned_sha256.clone(),
        names: tls.verified_names.iter().filter_map(certificate_name).collect(),
        provider: Arc::clone(&provider),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Diagnostic::at(&tls.place, error.to_string()))?;
    let mut config =
        builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
    config.alpn_protocols = tls.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    match tls.resumption {
        Resumption::Off => config.resumption = rustls::client::Resumption::disabled(),
        Resumption::On => {}
        Resumption::WithEarlyData => config.enable_early_data = true,
    }
    Ok(Arc::new(config))
}

/// Who the server must be: `serverName`, else the address that is dialled.
///
/// # Errors
/// When that is no name a certificate can hold.
pub fn server_name(tls: &ClientTls, address: &Address) -> Result<ServerName<'static>, Diagnostic> {
    let name = tls.server_name.as_ref().unwrap_or(address);
    certificate_name(name).ok_or_else(|| {
        Diagnostic::at(&tls.place, format!("{:?} is no name that a certificate can hold", name.to_string()))
            .help("write the server's name into serverName")
    })
}

/// An address as certificates hold it.
fn certificate_name(address: &Address) -> Option<ServerName<'static>> {
    match address {
        Address::Ip(ip) => Some(ServerName::from(*ip)),
        Address::Domain(domain) => ServerName::try_from(domain.as_str().to_owned()).ok(),
    }
}

/// AES-128-GCM first, as Go and browsers have it: it is enough, and cheaper than AES-256.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let is_aes_128 = |suite: &rustls::SupportedCipherSuite| {
        use rustls::CipherSuite::{
            TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            TLS13_AES_128_GCM_SHA256,
        };
        [
            TLS13_AES_128_GCM_SHA256,
            TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ]
        .contains(&suite.suite())
    };
    provider.cipher_suites.sort_by_key(|suite| !is_aes_128(suite));
    Arc::new(provider)
}

fn web_pki(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> Option<Arc<WebPkiServerVerifier>> {
    // Without a root there is no verifier; then only a pin or `allowInsecure` lets a server in.
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build().ok()
}

/// The PEM text of a setting.
fn read(pem: &Pem, what: &str) -> Result<Vec<u8>, Diagnostic> {
    match &pem.source {
        PemSource::Inline(text) => Ok(text.clone().into_bytes()),
        PemSource::File(path) => std::fs::read(path).map_err(|error| {
            Diagnostic::at(&pem.place, format!("cannot read the {what} file {path:?}: {error}")).help(
                "check the path (it is taken from the folder the program is started in) and its permissions",
            )
        }),
    }
}

fn read_certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, Diagnostic> {
    let text = read(pem, "certificate")?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(Diagnostic::at(&pem.place, "there is no certificate in this PEM text")
            .help("it must hold -----BEGIN CERTIFICATE----- blocks, the server's own first")),
        Err(error) => Err(Diagnostic::at(&pem.place, format!("this is no PEM certificate: {error}"))),
    }
}

/// What a key with a password says of itself, in either form (RFC 7468 section 11, RFC 1421 section 4.6.1.1).
const LOCKED: &[u8] = b"ENCRYPTED";

fn read_key(pem: &Pem) -> Result<PrivateKeyDer<'static>, Diagnostic> {
    let text = read(pem, "key")?;
    if text.windows(LOCKED.len()).any(|window| window == LOCKED) {
        return Err(Diagnostic::at(&pem.place, "this key has a password, and there is nobody to ask for it")
            .help("write one without: openssl pkey -in key.pem -out plain.pem"));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        Diagnostic::at(&pem.place, format!("there is no private key in this PEM text: {error}"))
            .help("it must hold a PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY block without a password")
    })
}

fn certified_key(pair: &CertificatePair, provider: &CryptoProvider) -> Result<CertifiedKey, Diagnostic> {
    let chain = read_certificates(&pair.certificate)?;
    let key = read_key(&pair.key)?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => Diagnostic::at(
            &pair.key.place,
            "this key does not belong to the certificate beside it",
        )
        .help(
            "give the key that the certificate was issued for; the certificate file's first block must be \
                       the server's own certificate",
        ),
        error => Diagnostic::at(&pair.place, format!("certificate and key cannot be used: {error}")),
    })
}

/// The certificate whose names hold the SNI, else the first, if it may be.
#[derive(Debug)]
struct BySni {
    named: ResolvesServerCertUsingSni,
    wildcards: Vec<(String, Arc<CertifiedKey>)>,
    first: Option<Arc<CertifiedKey>>,
}

impl BySni {
    /// With `reject_unknown` nobody gets the first instead.
    fn new(keys: Vec<CertifiedKey>, reject_unknown: bool) -> Self {
        let mut by_sni =
            Self { named: ResolvesServerCertUsingSni::new(), wildcards: Vec::new(), first: None };
        for key in keys {
            if !reject_unknown {
                by_sni.first.get_or_insert_with(|| Arc::new(key.clone()));
            }
            for name in dns_names(&key) {
                match name.strip_prefix("*.") {
                    Some(domain) => {
                        by_sni.wildcards.push((domain.to_ascii_lowercase(), Arc::new(key.clone())));
                    }
                    // A name that rustls does not take is never asked for.
                    None => drop(by_sni.named.add(&name, key.clone())),
                }
            }
        }
        by_sni
    }
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let parent = hello.server_name().and_then(|name| Some(name.split_once('.')?.1.to_ascii_lowercase()));
        let wildcard = || {
            let parent = parent?;
            self.wildcards.iter().find(|(domain, _)| *domain == parent).map(|(_, key)| Arc::clone(key))
        };
        let wildcard = wildcard();
        self.named.resolve(hello).or(wildcard).or_else(|| self.first.clone())
    }
}

/// The DNS names of a certificate.
fn dns_names(key: &CertifiedKey) -> Vec<String> {
    let Some(parsed) = key.end_entity_cert().ok().and_then(|der| webpki::EndEntityCert::try_from(der).ok())
    else {
        return Vec::new();
    };
    parsed.valid_dns_names().map(str::to_owned).collect()
}

/// The usual check, or a pin, or none.
struct Verifier {
    inner: Option<Arc<WebPkiServerVerifier>>,
    /// Certificates of usage `verify`. A server may present such a one itself: self-signed, and marked as an
    /// authority, as openssl makes them. Go takes that, webpki does not.
    own: Vec<CertificateDer<'static>>,
    insecure: bool,
    /// If not empty, the chain's hash must be one of these.
    pinned: Vec<[u8; 32]>,
    /// If not empty, the certificate or an authority in its chain must have one of these hashes.
    pinned_certificates: Vec<[u8; 32]>,
    /// If not empty, who the server may be.
    names: Vec<ServerName<'static>>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("insecure", &self.insecure)
            .field("pins", &(self.pinned.len() + self.pinned_certificates.len()))
            .finish_non_exhaustive()
    }
}

/// What the hashes of certificates say.
enum Pinned {
    /// Nothing: there are none.
    Not,
    /// The server's own certificate is one of them.
    Server,
    /// This authority is, and nobody else vouches.
    Authority(Arc<WebPkiServerVerifier>),
}

impl Verifier {
    /// As Xray's `verifyChain` (XTLS/Xray-core `transport/internet/tls/config.go`): behind the server's own certificate only
    /// an authority's counts, as anybody can send along a certificate of somebody else.
    fn pinned_authority(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<Pinned, rustls::Error> {
        if self.pinned_certificates.is_empty() {
            return Ok(Pinned::Not);
        }
        let is_pinned =
            |certificate: &CertificateDer<'_>| self.pinned_certificates.contains(&sha256(&[certificate]));
        if is_pinned(end_entity) {
            return Ok(Pinned::Server);
        }
        let is_authority = |certificate: &CertificateDer<'_>| {
            x509_parser::parse_x509_certificate(certificate).is_ok_and(|(_, parsed)| parsed.is_ca())
        };
        let authority = intermediates.iter().find(|one| is_pinned(one) && is_authority(one));
        let verifier = authority.and_then(|authority| {
            let mut roots = RootCertStore::empty();
            roots.add(authority.clone().into_owned()).ok()?;
            web_pki(roots, &self.provider)
        });
        verifier.map(Pinned::Authority).ok_or_else(|| {
            rustls::Error::General(
                "none of the server's certificates has one of the hashes in pinnedPeerCertSha256".into(),
            )
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !self.pinned.is_empty() && !self.pinned.contains(&chain_hash(end_entity, intermediates)) {
            return Err(rustls::Error::General(
                "the server's certificate chain has none of the hashes in pinnedPeerCertificateChainSha256"
                    .into(),
            ));
        }
        let pinned = self.pinned_authority(end_entity, intermediates)?;
        // Whoever sends a pinned authority along has shown nothing yet: its signature is checked whatever else is not.
        if matches!(pinned, Pinned::Server) || self.insecure && matches!(pinned, Pinned::Not) {
            return Ok(ServerCertVerified::assertion());
        }
        let verify = |name: &ServerName<'_>| match &pinned {
            Pinned::Authority(authority) => {
                authority.verify_server_cert(end_entity, intermediates, name, ocsp, now)
            }
            _ if self.own.iter().any(|own| own == end_entity) => verify_own(end_entity, name, now),
            _ => match &self.inner {
                Some(inner) => inner.verify_server_cert(end_entity, intermediates, name, ocsp, now),
                None => Err(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)),
            },
        };
        let names = self.names.split_first();
        let Some((first, others)) = names else { return verify(name) };
        others.iter().fold(verify(first), |verified, name| verified.or_else(|_| verify(name)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A certificate that is trusted itself: its names and dates must fit all the same.
fn verify_own(
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, rustls::Error> {
    use rustls::CertificateError::{BadEncoding, Expired, NotValidYet};
    let invalid = |error| rustls::Error::InvalidCertificate(error);
    verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| invalid(BadEncoding))?;
    let now = i64::try_from(now.as_secs()).map_err(|_| invalid(Expired))?;
    if now < parsed.validity().not_before.timestamp() {
        return Err(invalid(NotValidYet));
    }
    if now > parsed.validity().not_after.timestamp() {
        return Err(invalid(Expired));
    }
    Ok(ServerCertVerified::assertion())
}

/// V2Ray's hash of a chain: each certificate's SHA-256 is hashed together with the hash so far
/// (v2fly/v2ray-core `transport/internet/tls/pin.go`).
fn chain_hash(end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> [u8; 32] {
    let mut hash: Option<[u8; 32]> = None;
    for certificate in std::iter::once(end_entity).chain(intermediates) {
        let own = sha256(&[certificate]);
        hash = Some(hash.map_or(own, |before| sha256(&[&before, &own])));
    }
    hash.unwrap_or_default()
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}
