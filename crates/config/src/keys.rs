//! Every key that a configuration may hold, and what becomes of it. The one place to look and to change.
//!
//! Sources: v2fly/v2ray-core `infra/conf` (4.45.2), XTLS/Xray-core `infra/conf` for its own spellings.

/// A key of an object.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) fate: Fate,
}

/// What becomes of a key. Except for the first two, a value that switches something off (`false`, `0`, empty)
/// is always fine. The text is the help that goes with the message.
#[derive(Clone, Copy)]
pub(crate) enum Fate {
    /// Supported: its meaning is in the model.
    Read,
    /// Nobody misses it: no word about it.
    Quiet,
    /// Not supported yet and harmless: a warning that wsray runs without it.
    Without(&'static str),
    /// Of no effect in V2Ray either: a warning.
    NoEffect(&'static str),
    /// Not supported yet, and without it traffic would go elsewhere or be protected less: an error.
    Refused(&'static str),
    /// The same for a condition of a rule, where only an empty value is fine.
    Condition(&'static str),
    /// A key of the other dialect: an error.
    OtherDialect(&'static str),
    /// A known key in a wrong place, where V2Ray would ignore it: an error.
    Misplaced(&'static str),
}

use Fate::{Condition, Misplaced, NoEffect, OtherDialect, Quiet, Read, Refused, Without};

pub(crate) const fn key(name: &'static str, fate: Fate) -> Key {
    Key { name, fate }
}

pub(crate) const NOTHING_TO_DO: &str = "nothing to do; remove it to silence this";
const STREAM_PLACE: &str = "move it into an element of \"outbounds\" (client) or \"inbounds\" (server): \
    { \"protocol\": \"vmess\", \"settings\": {...}, \"streamSettings\": {...} }";
const WS_PLACE: &str = "move it into \"streamSettings\" of an inbound or outbound";
const STREAM_OPTION_PLACE: &str = "move it into \"wsSettings\"";
const IN_STREAM: &str = "move it into \"streamSettings\"";
const IN_SETTINGS: &str = "move it into \"settings\"";
const IN_TLS: &str = "move it into \"tlsSettings\"";
const IN_ELEMENT: &str = "move it into an element of \"inbounds\" or \"outbounds\"";
const IN_WS: &str = "move it into \"wsSettings\" in \"streamSettings\" of an inbound or outbound";
const ALL_PASSED_ON: &str = "remove it: questions for anything but addresses are passed on";
const NOT_VLESS: &str = "it belongs to vless; remove it";
const IN_CERTIFICATES: &str = "write \"certificates\": [{ \"certificateFile\": ..., \"keyFile\": ... }]";
const CONN_IDLE: &str = "write \"connIdle\" in \"policy\"";
const V5: &str = "write V2Ray 4's \"network\", \"wsSettings\", \"security\", \"tlsSettings\"";
const OTHER_NETWORK: &str = "it belongs to another network than the one chosen; remove it";
const RULE: &str = "remove the rule, or write it with other conditions";
pub(crate) const PACKET_ENCODING: &str = "write \"xudpConcurrency\": 8 in \"mux\" for XUDP, or \"packetEncoding\": \"Packet\" in \
    the settings of the socks inbound for packetaddr";
pub(crate) const NO_INVENTED: &str = "no name gets an invented address; \"sniffing\" finds names";
pub(crate) const SERVICE: &str =
    "nothing listens on its inbound; to silence this, remove it with its inbound and rule";
pub(crate) const REMOVE_OR_OTHER: &str = "remove it, or run this part with another program";
pub(crate) const TLS_LATER: &str = "remove it if the connection may do without it";

/// The document.
pub(crate) const DOCUMENT: &[Key] = &[
    key("log", Read),
    key("inbounds", Read),
    key("outbounds", Read),
    key("routing", Read),
    key("policy", Read),
    key("transport", Read),
    key("dns", Read),
    // V2Ray 2's spellings, which V2Ray 4 still loads.
    key("port", Read),
    key("inbound", Read),
    key("outbound", Read),
    key("inboundDetour", Read),
    key("outboundDetour", Read),
    key("version", Quiet),
    key("stats", Quiet),
    key("api", Without(SERVICE)),
    key("metrics", Without(SERVICE)),
    key("observatory", Without(NOTHING_TO_DO)),
    key("burstObservatory", Without(NOTHING_TO_DO)),
    key("multiObservatory", Without(NOTHING_TO_DO)),
    key("browserForwarder", Read),
    key("reverse", Refused(REMOVE_OR_OTHER)),
    key("fakedns", Without(NO_INVENTED)),
    key("remarks", Quiet),
    key("services", Refused(REMOVE_OR_OTHER)),
    key("router", OtherDialect("write V2Ray 4's \"routing\"")),
    key("streamSettings", Misplaced(STREAM_PLACE)),
    key("settings", Misplaced(IN_ELEMENT)),
    key("protocol", Misplaced(IN_ELEMENT)),
    key("vnext", Misplaced("move it into \"settings\" of an outbound")),
    key("clients", Misplaced("move it into \"settings\" of an inbound")),
    key("wsSettings", Misplaced(WS_PLACE)),
    key("tlsSettings", Misplaced(WS_PLACE)),
    key("network", Misplaced(WS_PLACE)),
    key("security", Misplaced(WS_PLACE)),
    key("path", Misplaced(IN_WS)),
    key("maxEarlyData", Misplaced(IN_WS)),
];

/// `browserForwarder`, and V2Ray 5's `services.browser`.
pub(crate) const BROWSER: &[Key] = &[key("listenAddr", Read), key("listenPort", Read)];

/// `log`
pub(crate) const LOG: &[Key] = &[
    key("access", Read),
    key("error", Read),
    key("loglevel", Read),
    key("dnsLog", Without(NOTHING_TO_DO)),
    key(
        "maskAddress",
        Without("the access log shows whole addresses; switch it off with \"access\": \"none\""),
    ),
];

/// An element of `inbounds`.
pub(crate) const INBOUND: &[Key] = &[
    key("protocol", Read),
    key("port", Read),
    key("listen", Read),
    key("tag", Read),
    key("settings", Read),
    key("streamSettings", Read),
    key("sniffing", Read),
    key("allocate", Read),
    key("domainOverride", Read),
    key("wsSettings", Misplaced(IN_STREAM)),
    key("tlsSettings", Misplaced(IN_STREAM)),
    key("network", Misplaced(IN_STREAM)),
    key("security", Misplaced(IN_STREAM)),
    key("clients", Misplaced(IN_SETTINGS)),
    key("users", Misplaced(IN_SETTINGS)),
    key("accounts", Misplaced(IN_SETTINGS)),
];

/// `allocate`
pub(crate) const ALLOCATE: &[Key] =
    &[key("strategy", Read), key("concurrency", Quiet), key("refresh", Quiet)];

/// `sniffing`
pub(crate) const SNIFFING: &[Key] = &[
    key("enabled", Read),
    key("destOverride", Read),
    key("metadataOnly", Read),
    key("routeOnly", Read),
    key("domainsExcluded", Read),
];

/// An element of `outbounds`.
pub(crate) const OUTBOUND: &[Key] = &[
    key("protocol", Read),
    key("tag", Read),
    key("settings", Read),
    key("streamSettings", Read),
    key("mux", Read),
    key("sendThrough", Read),
    key("proxySettings", Read),
    key("domainStrategy", Read),
    key("targetStrategy", Read),
    key("wsSettings", Misplaced(IN_STREAM)),
    key("tlsSettings", Misplaced(IN_STREAM)),
    key("network", Misplaced(IN_STREAM)),
    key(
        "security",
        Misplaced("for TLS move it into \"streamSettings\", for the cipher into the user in \"settings\""),
    ),
    key("vnext", Misplaced(IN_SETTINGS)),
    key("address", Misplaced(IN_SETTINGS)),
    key("port", Misplaced(IN_SETTINGS)),
];

/// `proxySettings`
pub(crate) const PROXY_SETTINGS: &[Key] = &[key("tag", Read), key("transportLayer", Read)];

/// `mux`
pub(crate) const MUX: &[Key] = &[
    key("enabled", Read),
    key("concurrency", Read),
    key("xudpConcurrency", Read),
    key("xudpProxyUDP443", Read),
    key("packetEncoding", NoEffect(PACKET_ENCODING)),
];

/// `settings` of a vmess inbound.
pub(crate) const VMESS_INBOUND: &[Key] = &[
    key("clients", Read),
    key("users", Read),
    key("disableInsecureEncryption", Read),
    key("default", Quiet),
    key("detour", Without("users are served on this inbound")),
];

/// A user of a vmess inbound.
pub(crate) const VMESS_USER: &[Key] = &[
    key("id", Read),
    key("uuid", Read),
    key("email", Read),
    key("level", Read),
    key("alterId", Read),
    key("security", NoEffect("the client chooses the cipher; remove it")),
    key("flow", NoEffect(NOT_VLESS)),
];

/// `settings` of a vmess outbound: `vnext`, or one server written flat.
pub(crate) const VMESS_OUTBOUND: &[Key] = &[
    key("vnext", Read),
    key("address", Read),
    key("port", Read),
    key("users", Read),
    key("id", Read),
    key("uuid", Read),
    key("security", Read),
    key("alterId", Read),
    key("level", Read),
    key("email", Quiet),
    key("experiments", Read),
    key("packetEncoding", Misplaced(PACKET_ENCODING)),
    key("packet_encoding", Misplaced(PACKET_ENCODING)),
];

/// An element of `vnext`.
pub(crate) const VNEXT: &[Key] = &[key("address", Read), key("port", Read), key("users", Read)];

/// A user in `vnext`.
pub(crate) const VNEXT_USER: &[Key] = &[
    key("id", Read),
    key("uuid", Read),
    key("security", Read),
    key("alterId", Read),
    key("level", Read),
    key("experiments", Read),
    key("testsEnabled", NoEffect("write \"experiments\"")),
    key("email", Quiet),
    key("flow", NoEffect(NOT_VLESS)),
    key("encryption", NoEffect("it belongs to vless; write \"security\"")),
];

/// `settings` of a socks inbound.
pub(crate) const SOCKS: &[Key] = &[
    key("auth", Read),
    key("accounts", Read),
    key("udp", Read),
    key("ip", Read),
    key("packetEncoding", Read),
    key("userLevel", Read),
    key("allowTransparent", NoEffect("it belongs to http; remove it")),
    key("timeout", NoEffect(CONN_IDLE)),
    // What OpenWrt's panels write.
    key("mixed", Quiet),
];

/// `settings` of an http inbound.
pub(crate) const HTTP: &[Key] = &[
    key("accounts", Read),
    key("timeout", Read),
    key("userLevel", Read),
    key("allowTransparent", Without("a request that names its target in \"Host\" only is answered 400")),
];

/// The names of the protocol `dokodemo-door`: V2Ray's, and Xray's.
pub(crate) const DOORS: [&str; 3] = ["dokodemo-door", "dokodemo", "tunnel"];

/// `settings` of a dokodemo-door inbound.
pub(crate) const DOKODEMO: &[Key] = &[
    key("address", Read),
    key("port", Read),
    key("network", Read),
    key("followRedirect", Read),
    key("timeout", Read),
    key("userLevel", Read),
    // Xray's names.
    key("rewriteAddress", Read),
    key("rewritePort", Read),
    key("allowedNetwork", Read),
    key("portMap", Refused("write one inbound for each port")),
];

/// An element of `accounts`.
pub(crate) const ACCOUNT: &[Key] = &[key("user", Read), key("pass", Read)];

/// `settings` of a socks outbound: `servers`, or one server written flat.
pub(crate) const SOCKS_OUTBOUND: &[Key] = &[
    key("servers", Read),
    key("version", Read),
    key("address", Read),
    key("port", Read),
    key("user", Read),
    key("pass", Read),
    key("level", Quiet),
    key("email", Quiet),
];

/// `settings` of an http outbound: `servers`, or one server written flat.
pub(crate) const HTTP_OUTBOUND: &[Key] = &[
    key("servers", Read),
    key("headers", Read),
    key("address", Read),
    key("port", Read),
    key("user", Read),
    key("pass", Read),
    key("level", Quiet),
    key("email", Quiet),
];

/// An element of `servers` of a socks or http outbound.
pub(crate) const PROXY_SERVER: &[Key] = &[key("address", Read), key("port", Read), key("users", Read)];

/// An element of `users` there.
pub(crate) const PROXY_USER: &[Key] =
    &[key("user", Read), key("pass", Read), key("level", Quiet), key("email", Quiet)];

/// `settings` of a freedom outbound.
pub(crate) const FREEDOM: &[Key] = &[
    key("domainStrategy", Read),
    key("targetStrategy", Read),
    key("redirect", Read),
    key("finalRules", Read),
    key("ipsBlocked", Refused("write \"finalRules\": [{ \"action\": \"block\", \"ip\": [...] }]")),
    key("userLevel", Read),
    key("timeout", NoEffect(CONN_IDLE)),
    key("fragment", Without("a TLS handshake is sent in one piece, as V2Ray does")),
    key("noises", Without("packets are sent alone, as V2Ray does")),
    key("proxyProtocol", Refused(REMOVE_OR_OTHER)),
    key("protocolReplacement", Refused(REMOVE_OR_OTHER)),
];

/// An element of freedom's `finalRules`.
pub(crate) const FINAL_RULE: &[Key] = &[
    key("action", Read),
    key("ip", Read),
    key("network", Refused("remove it: a rule holds for streams and packets")),
    key("port", Refused("remove it, or write a rule on \"port\" in \"routing\"")),
    key("blockDelay", Refused("remove it: who is refused is told at once")),
];

/// `settings` of a blackhole outbound.
pub(crate) const BLACKHOLE: &[Key] = &[key("response", Read)];

/// `settings` of a loopback outbound.
pub(crate) const LOOPBACK: &[Key] = &[
    key("inboundTag", Read),
    key("sniffing", Refused("remove it: what the inbound overheard counts, and is not overheard once more")),
];

/// `settings` of a dns outbound.
pub(crate) const DNS_OUTBOUND: &[Key] = &[
    key("network", Read),
    key("address", Read),
    key("port", Read),
    key("userLevel", Quiet),
    // Xray's.
    key("nonIPQuery", Refused(ALL_PASSED_ON)),
    key("blockTypes", Refused(ALL_PASSED_ON)),
];

/// An object of which only `type` counts: `response`, a TCP `header`.
pub(crate) const TYPE: &[Key] = &[key("type", Read), key("request", Quiet), key("response", Quiet)];

/// `streamSettings`
pub(crate) const STREAM: &[Key] = &[
    key("network", Read),
    key("security", Read),
    key("wsSettings", Read),
    key("tlsSettings", Read),
    key("tcpSettings", Read),
    key("rawSettings", Read),
    key("sockopt", Read),
    key("kcpSettings", NoEffect(OTHER_NETWORK)),
    key("httpSettings", NoEffect(OTHER_NETWORK)),
    key("quicSettings", NoEffect(OTHER_NETWORK)),
    key("dsSettings", NoEffect(OTHER_NETWORK)),
    key("grpcSettings", NoEffect(OTHER_NETWORK)),
    key("gunSettings", NoEffect(OTHER_NETWORK)),
    key("httpupgradeSettings", NoEffect(OTHER_NETWORK)),
    key("xhttpSettings", NoEffect(OTHER_NETWORK)),
    key("splithttpSettings", NoEffect(OTHER_NETWORK)),
    key("xtlsSettings", NoEffect("it belongs to \"security\": \"xtls\"; remove it")),
    key("realitySettings", NoEffect("it belongs to \"security\": \"reality\"; remove it")),
    key("transport", OtherDialect(V5)),
    key("transportSettings", OtherDialect(V5)),
    key("securitySettings", OtherDialect(V5)),
    key("socketSettings", OtherDialect("write V2Ray 4's \"sockopt\"")),
    key("path", Misplaced(STREAM_OPTION_PLACE)),
    key("headers", Misplaced(STREAM_OPTION_PLACE)),
    key("maxEarlyData", Misplaced(STREAM_OPTION_PLACE)),
    key("earlyDataHeaderName", Misplaced(STREAM_OPTION_PLACE)),
    key("acceptProxyProtocol", Misplaced(STREAM_OPTION_PLACE)),
    key("serverName", Misplaced(IN_TLS)),
    key("allowInsecure", Misplaced(IN_TLS)),
    key("certificates", Misplaced(IN_TLS)),
];

/// The top-level `transport`: defaults for streams without settings of their own.
pub(crate) const TRANSPORT: &[Key] = &[
    key("wsSettings", Read),
    key("tcpSettings", Read),
    key("kcpSettings", Quiet),
    key("httpSettings", Quiet),
    key("quicSettings", Quiet),
    key("dsSettings", Quiet),
    key("grpcSettings", Quiet),
    key("gunSettings", Quiet),
];

/// `tcpSettings`
pub(crate) const TCP: &[Key] =
    &[key("header", Read), key("acceptProxyProtocol", Read), key("acceptProxyProtocolFrom", Read)];

/// `wsSettings`
pub(crate) const WS: &[Key] = &[
    key("path", Read),
    key("headers", Read),
    key("host", Read),
    key("acceptProxyProtocol", Read),
    // Ours.
    key("acceptProxyProtocolFrom", Read),
    key("fallback", Read),
    key("maxEarlyData", Read),
    key("earlyDataHeaderName", Read),
    key("useBrowserForwarding", Read),
    key("connectionReuse", Quiet),
    key("parseXForwardedFor", Read),
    key("heartbeatPeriod", Read),
    key("preconnect", Read),
    key("preconnectMaxAge", Read),
    key("serverName", Misplaced(IN_TLS)),
];

/// `tlsSettings`
pub(crate) const TLS: &[Key] = &[
    key("serverName", Read),
    key("alpn", Read),
    key("allowInsecure", Read),
    key("certificates", Read),
    key("disableSystemRoot", Read),
    key("enableSessionResumption", Read),
    // wsray's.
    key("enableEarlyData", Read),
    key("pinnedPeerCertificateChainSha256", Read),
    key("verifyClientCertificate", Refused("remove it if clients without a certificate may connect")),
    key("minVersion", Read),
    key("maxVersion", Read),
    key("cipherSuites", Refused(TLS_LATER)),
    key("rejectUnknownSni", Read),
    key("pinnedPeerCertificatePublicKeySha256", Refused(TLS_LATER)),
    key("pinnedPeerCertSha256", Read),
    key("verifyPeerCertInNames", Read),
    key("verifyPeerCertByName", Read),
    key("allowInsecureIfPinnedPeerCertificate", Read),
    key("echConfig", Refused(TLS_LATER)),
    key("echConfigList", Refused(TLS_LATER)),
    key("echDohServer", Refused(TLS_LATER)),
    key("echServerKeys", Refused(TLS_LATER)),
    key("fingerprint", Without("the TLS handshake looks like wsray's own")),
    key("allowInsecureCiphers", Without("only strong ciphers are offered")),
    key("preferServerCipherSuites", Without(NOTHING_TO_DO)),
    key("curvePreferences", Without(NOTHING_TO_DO)),
    key("masterKeyLog", Without(NOTHING_TO_DO)),
    key("show", Quiet),
    key("path", Misplaced("move it into \"wsSettings\"")),
    key("certificateFile", Misplaced(IN_CERTIFICATES)),
    key("keyFile", Misplaced(IN_CERTIFICATES)),
];

/// An element of `certificates`.
pub(crate) const CERTIFICATE: &[Key] = &[
    key("usage", Read),
    key("certificateFile", Read),
    key("certificate", Read),
    key("keyFile", Read),
    key("key", Read),
    key("ocspStapling", Without(NOTHING_TO_DO)),
    key("oneTimeLoading", Quiet),
    key("buildChain", Quiet),
];

/// `sockopt`
pub(crate) const SOCKOPT: &[Key] = &[
    key("acceptProxyProtocol", Read),
    key("acceptProxyProtocolFrom", Read),
    key("trustedXForwardedFor", Read),
    key("mark", Read),
    key("bindToDevice", Read),
    key("interface", Read),
    key("tproxy", Read),
    key("V6Only", Read),
    key("tcpFastOpen", Read),
    key("tcpKeepAliveIdle", Read),
    key("tcpKeepAliveInterval", Read),
    key("tcpUserTimeout", Read),
    key("tcpMaxSeg", Read),
    key("tcpCongestion", Read),
    key("mptcp", Read),
    key("tcpMptcp", Read),
    key("rxBufSize", Read),
    key("txBufSize", Read),
    key("forceBufSize", Read),
    key("domainStrategy", Read),
    key("happyEyeballs", Read),
    key("dialerProxy", Read),
    key("addressPortStrategy", Refused("write the server's address and port")),
    key("tcpFastOpenQueueLength", Read),
    key("tcpWindowClamp", Without(NOTHING_TO_DO)),
    key("tcpNoDelay", Quiet),
    key("penetrate", Without(NOTHING_TO_DO)),
    key("customSockopt", Without(NOTHING_TO_DO)),
];

/// `happyEyeballs`
pub(crate) const HAPPY_EYEBALLS: &[Key] = &[
    key("prioritizeIPv6", Read),
    key("tryDelayMs", Read),
    key("interleave", Read),
    key("maxConcurrentTry", Read),
];

/// `dns`
pub(crate) const DNS: &[Key] = &[
    key("servers", Read),
    key("hosts", Read),
    key("clientIp", Read),
    key("queryStrategy", Read),
    key("disableCache", Read),
    key("disableFallback", Read),
    key("disableFallbackIfMatch", Read),
    key("tag", Read),
    // Both have the same answers.
    key("domainMatcher", Quiet),
    key("cacheStrategy", Refused("write \"disableCache\"")),
    key("fallbackStrategy", Refused("write \"disableFallback\" or \"disableFallbackIfMatch\"")),
    key("fakedns", Refused(REMOVE_OR_OTHER)),
    key("useSystemHosts", Without("write what is needed into \"hosts\"")),
    key("enableParallelQuery", Quiet),
    key("serveStale", Without(NOTHING_TO_DO)),
    key("serveExpiredTTL", Without(NOTHING_TO_DO)),
];

/// An element of `servers`.
pub(crate) const NAME_SERVER: &[Key] = &[
    key("address", Read),
    key("port", Read),
    key("domains", Read),
    key("expectIPs", Read),
    key("expectedIPs", Read),
    key("skipFallback", Read),
    key("clientIp", Read),
    key("queryStrategy", Read),
    key("disableCache", Read),
    key("tag", Read),
    key("cacheStrategy", Refused("write \"disableCache\"")),
    key("fallbackStrategy", Refused("write \"skipFallback\"")),
    key("fakedns", Refused(REMOVE_OR_OTHER)),
    key("unexpectedIPs", Refused("write \"expectIPs\" with \"!\" before each")),
    key("timeoutMs", Without("each server has four seconds")),
    key("finalQuery", Refused(REMOVE_OR_OTHER)),
    key("serveStale", Without(NOTHING_TO_DO)),
    key("serveExpiredTTL", Without(NOTHING_TO_DO)),
];

/// `routing`
pub(crate) const ROUTING: &[Key] = &[
    key("rules", Read),
    key("domainStrategy", Read),
    key("balancers", Read),
    // Both have the same answers.
    key("domainMatcher", Quiet),
    key("strategy", Quiet),
    // V2Ray 2's.
    key("settings", Read),
];

/// `settings` of `routing`, where V2Ray 2 had what stands beside it now, and V2Ray 4 still looks.
pub(crate) const ROUTING_SETTINGS: &[Key] = &[
    key("rules", Read),
    key("domainStrategy", Read),
    key("balancers", Misplaced("move it into \"routing\"")),
];

/// An element of `rules`.
pub(crate) const RULE_KEYS: &[Key] = &[
    key("type", Read),
    key("outboundTag", Read),
    key("balancerTag", Read),
    key("domain", Read),
    key("domains", Read),
    key("ip", Read),
    key("port", Read),
    key("network", Read),
    key("source", Read),
    key("sourceIP", Read),
    key("sourcePort", Read),
    key("user", Read),
    key("inboundTag", Read),
    key("protocol", Read),
    key("attrs", Read),
    key("ruleTag", Quiet),
    // What panels write to find their rules again.
    key("marktag", Quiet),
    key("remarks", Quiet),
    key("domainMatcher", Quiet),
    key("localIP", Condition(RULE)),
    key("localPort", Condition(RULE)),
    key("process", Condition(RULE)),
    key("vlessRoute", Condition(RULE)),
];

/// An element of `balancers`.
pub(crate) const BALANCER: &[Key] =
    &[key("tag", Read), key("selector", Read), key("strategy", Read), key("fallbackTag", Read)];

/// `strategy` of a balancer.
pub(crate) const STRATEGY: &[Key] =
    &[key("type", Read), key("settings", Without("every outbound counts as one that works"))];

/// `policy`
pub(crate) const POLICY: &[Key] = &[key("levels", Read), key("system", Read)];

/// `system` of `policy`.
pub(crate) const POLICY_SYSTEM: &[Key] = &[
    key("memoryBudget", Read),
    key("statsInboundUplink", Quiet),
    key("statsInboundDownlink", Quiet),
    key("statsOutboundUplink", Quiet),
    key("statsOutboundDownlink", Quiet),
];

/// An element of `policy.levels`.
pub(crate) const POLICY_LEVEL: &[Key] = &[
    key("handshake", Read),
    key("connIdle", Read),
    key("uplinkOnly", Read),
    key("downlinkOnly", Read),
    key("bufferSize", Without("wsray's buffers have a fixed bound")),
    key("statsUserUplink", Quiet),
    key("statsUserDownlink", Quiet),
    key("statsUserOnline", Quiet),
];
