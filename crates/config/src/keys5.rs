//! The keys of V2Ray 5's own dialect, where any other is an error.
//!
//! Sources: v2fly/v2ray-core (5.x) `infra/conf/v5cfg/skeleton.go`, and the `config.proto` of each part.

use super::keys::{
    Fate::{OtherDialect, Quiet, Read, Refused, Without},
    Key, NO_INVENTED, NOTHING_TO_DO, PACKET_ENCODING, REMOVE_OR_OTHER, SERVICE, TLS_LATER, key,
};

const NO_PIN: &str = "write \"pinnedPeerCertificateChainSha256\", or add the server's certificate with \
    \"usage\": \"AUTHORITY_VERIFY\"";

/// The document.
pub(crate) const DOCUMENT: &[Key] = &[
    key("log", Read),
    key("dns", Read),
    key("router", Read),
    key("inbounds", Read),
    key("outbounds", Read),
    key("services", Read),
    key("extension", Refused(REMOVE_OR_OTHER)),
    key("routing", OtherDialect("write \"router\": { \"rule\": [{ \"tag\": ..., \"inboundTag\": [...] }] }")),
    key("policy", OtherDialect("write \"services\": { \"policy\": { \"level\": { ... } } }")),
    key("transport", OtherDialect("write \"transportSettings\" in each \"streamSettings\"")),
    key("stats", OtherDialect("write it into \"services\"")),
    key("api", OtherDialect("remove it")),
    key("reverse", OtherDialect("remove it")),
    key("fakedns", OtherDialect("remove it")),
    key("browserForwarder", OtherDialect("write \"services\": { \"browser\": { ... } }")),
    key("observatory", OtherDialect("remove it")),
    key("inbound", OtherDialect("write it into \"inbounds\": [ ... ]")),
    key("outbound", OtherDialect("write it into \"outbounds\": [ ... ]")),
    key("inboundDetour", OtherDialect("write \"inbounds\"")),
    key("outboundDetour", OtherDialect("write \"outbounds\"")),
];

/// `log`
pub(crate) const LOG: &[Key] = &[
    key("access", Read),
    key("error", Read),
    key("loglevel", OtherDialect("write \"error\": { \"type\": \"Console\", \"level\": \"Warning\" }")),
];

/// `log.access` and `log.error`
pub(crate) const LOG_TARGET: &[Key] = &[key("type", Read), key("level", Read), key("path", Read)];

/// `dns`
pub(crate) const DNS: &[Key] = &[
    key("nameServer", Read),
    key("staticHosts", Read),
    key("clientIp", Read),
    key("queryStrategy", Read),
    key("cacheStrategy", Read),
    key("fallbackStrategy", Read),
    key("disableCache", Read),
    key("disableFallback", Read),
    key("disableFallbackIfMatch", Read),
    key("tag", Read),
    key("domainMatcher", Quiet),
    key("fakeDns", Without(NO_INVENTED)),
    key(
        "servers",
        OtherDialect("write \"nameServer\": [{ \"address\": { \"address\": \"1.1.1.1\", \"port\": 53 } }]"),
    ),
    key(
        "hosts",
        OtherDialect("write \"staticHosts\": [{ \"domain\": \"example.com\", \"ip\": [\"127.0.0.1\"] }]"),
    ),
];

/// An element of `nameServer`.
pub(crate) const NAME_SERVER: &[Key] = &[
    key("address", Read),
    key("prioritizedDomain", Read),
    key("geoDomain", Read),
    key("geoip", Read),
    key("skipFallback", Read),
    key("clientIp", Read),
    key("queryStrategy", Read),
    key("cacheStrategy", Read),
    key("fallbackStrategy", Read),
    key("tag", Read),
    key("originalRules", Quiet),
    key("fakeDns", Refused(REMOVE_OR_OTHER)),
];

/// `address` of a name server.
pub(crate) const SERVER_ENDPOINT: &[Key] = &[key("address", Read), key("port", Read), key("network", Read)];

/// An element of `prioritizedDomain`.
pub(crate) const PRIORITY: &[Key] = &[key("type", Read), key("domain", Read)];

/// An element of `staticHosts`.
pub(crate) const STATIC_HOST: &[Key] =
    &[key("type", Read), key("domain", Read), key("ip", Read), key("proxiedDomain", Read)];

/// `router`
pub(crate) const ROUTER: &[Key] = &[
    key("rule", Read),
    key("domainStrategy", Read),
    key("balancingRule", Read),
    key("domainMatcher", Quiet),
    key("rules", OtherDialect("write \"rule\"")),
];

/// An element of `rule`.
pub(crate) const RULE_KEYS: &[Key] = &[
    key("tag", Read),
    key("inboundTag", Read),
    key("networks", Read),
    key("domainMatcher", Quiet),
    key("balancingTag", Read),
    key("domain", Read),
    key("geoDomain", Read),
    key("geoip", Read),
    key("sourceGeoip", Read),
    key("portList", Read),
    key("sourcePortList", Read),
    key("userEmail", Read),
    key("protocol", Read),
    key("attributes", Read),
    key("outboundTag", OtherDialect("write \"tag\"")),
    key("balancerTag", OtherDialect("write \"balancingTag\"")),
    key("ip", OtherDialect("write \"geoip\": [{ \"cidr\": [{ \"ipAddr\": \"10.0.0.0\", \"prefix\": 8 }] }]")),
    key("port", OtherDialect("write \"portList\": \"80,443\"")),
    key("network", OtherDialect("write \"networks\": \"tcp\"")),
    key("user", OtherDialect("write \"userEmail\": [...]")),
    key("attrs", OtherDialect("write \"attributes\"")),
    key("type", OtherDialect("remove it")),
];

/// An element of `domain`.
pub(crate) const DOMAIN: &[Key] = &[key("type", Read), key("value", Read), key("attribute", Quiet)];

/// An element of `geoDomain`.
pub(crate) const GEO_DOMAIN: &[Key] = &[
    key("code", Read),
    key("filePath", Read),
    key("countryCode", Read),
    key("domain", Read),
    key("resourceHash", Quiet),
];

/// An element of `geoip` and `sourceGeoip`.
pub(crate) const GEOIP: &[Key] = &[
    key("code", Read),
    key("filePath", Read),
    key("countryCode", Read),
    key("cidr", Read),
    key("inverseMatch", Read),
    key("resourceHash", Quiet),
];

/// An element of `cidr`.
pub(crate) const CIDR: &[Key] = &[key("ipAddr", Read), key("ip", Read), key("prefix", Read)];

/// An element of `balancingRule`.
pub(crate) const BALANCER: &[Key] = &[
    key("tag", Read),
    key("outboundSelector", Read),
    key("strategy", Read),
    key("strategySettings", Without("every outbound counts as one that works")),
    key("fallbackTag", Read),
];

/// `services`
pub(crate) const SERVICES: &[Key] = &[
    key("policy", Read),
    key("stats", Without(NOTHING_TO_DO)),
    key("browser", Read),
    key("backgroundObservatory", Without(NOTHING_TO_DO)),
    key("burstObservatory", Without(NOTHING_TO_DO)),
    key("multiobservatory", Without(NOTHING_TO_DO)),
    key("commander", Without(SERVICE)),
    key("webcommander", Without(NOTHING_TO_DO)),
    key("restfulapi", Without(NOTHING_TO_DO)),
    key("instman", Refused(REMOVE_OR_OTHER)),
    key("subscription", Refused(REMOVE_OR_OTHER)),
    key("filesystemstorage", Refused(REMOVE_OR_OTHER)),
    key("fakeDns", Without(NO_INVENTED)),
    key("fakeDnsMulti", Without(NO_INVENTED)),
    key("reverse", Refused(REMOVE_OR_OTHER)),
    key("tun", Refused(REMOVE_OR_OTHER)),
    key("webrtc", Refused(REMOVE_OR_OTHER)),
    key("dns", Refused("write it as \"dns\" beside \"services\"")),
    key("log", Refused("write it as \"log\" beside \"services\"")),
    key("router", Refused("write it as \"router\" beside \"services\"")),
];

/// `services.policy`
pub(crate) const POLICY: &[Key] = &[
    key("level", Read),
    key("system", Read),
    key("levels", OtherDialect("write \"level\": { \"0\": { \"timeout\": { ... } } }")),
];

/// `system` of `services.policy`.
pub(crate) const POLICY_SYSTEM: &[Key] = &[
    key("memoryBudget", Read),
    key("stats", Without(NOTHING_TO_DO)),
    key("overrideAccessLogDest", Without(NOTHING_TO_DO)),
];

/// An element of `services.policy.level`.
pub(crate) const POLICY_LEVEL: &[Key] = &[
    key("timeout", Read),
    key("stats", Without(NOTHING_TO_DO)),
    key("buffer", Without("wsray's buffers have a fixed bound")),
    key("handshake", OtherDialect("write \"timeout\": { \"handshake\": { \"value\": 4 } }")),
    key("connIdle", OtherDialect("write \"timeout\": { \"connectionIdle\": { \"value\": 300 } }")),
];

/// `timeout` of a level.
pub(crate) const TIMEOUT: &[Key] = &[
    key("handshake", Read),
    key("connectionIdle", Read),
    key("uplinkOnly", Read),
    key("downlinkOnly", Read),
];

/// A number of seconds.
pub(crate) const SECONDS: &[Key] = &[key("value", Read)];

/// An element of `inbounds`.
pub(crate) const INBOUND: &[Key] = &[
    key("protocol", Read),
    key("port", Read),
    key("listen", Read),
    key("settings", Read),
    key("tag", Read),
    key("sniffing", Read),
    key("streamSettings", Read),
    key("allocate", OtherDialect("remove it: every port of the range is listened on")),
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
];

/// `settings` of a vmess inbound.
pub(crate) const VMESS_INBOUND: &[Key] =
    &[key("users", Read), key("clients", OtherDialect("write \"users\": [\"the UUID\", ...]"))];

/// `settings` of a vmess outbound.
pub(crate) const VMESS_OUTBOUND: &[Key] = &[
    key("address", Read),
    key("port", Read),
    key("uuid", Read),
    key("id", OtherDialect("write \"uuid\"")),
    key("vnext", OtherDialect("write \"address\", \"port\" and \"uuid\"")),
    key("security", OtherDialect("remove it: the cipher is chosen by itself")),
    key("packetEncoding", OtherDialect(PACKET_ENCODING)),
];

/// `settings` of a socks inbound.
pub(crate) const SOCKS: &[Key] = &[
    key("address", Read),
    key("udpEnabled", Read),
    key("packetEncoding", Read),
    key("deferLastReply", Without("programs get their answer at once")),
    key("udp", OtherDialect("write \"udpEnabled\"")),
    key("ip", OtherDialect("write \"address\"")),
    key("auth", OtherDialect("remove it: this dialect knows no accounts")),
    key("accounts", OtherDialect(ACCOUNTS)),
];

/// `settings` of a dokodemo-door inbound.
pub(crate) const DOKODEMO: &[Key] = &[
    key("address", Read),
    key("port", Read),
    key("networks", Read),
    key("followRedirect", Read),
    key("network", OtherDialect("write \"networks\": \"tcp,udp\"")),
];

/// `settings` of an http inbound, and of a blackhole outbound.
pub(crate) const NOTHING: &[Key] = &[];

/// `settings` of a socks outbound.
pub(crate) const SOCKS_OUTBOUND: &[Key] = &[
    key("address", Read),
    key("port", Read),
    key("servers", OtherDialect("write \"address\" and \"port\"")),
    key("user", OtherDialect(ACCOUNTS)),
    key("version", OtherDialect("remove it: this dialect knows version 5 only")),
];

/// `settings` of an http outbound.
pub(crate) const HTTP_OUTBOUND: &[Key] = &[
    key("address", Read),
    key("port", Read),
    key("h1SkipWaitForReply", Without("the proxy's answer is waited for")),
    key("servers", OtherDialect("write \"address\" and \"port\"")),
    key("user", OtherDialect(ACCOUNTS)),
];

const ACCOUNTS: &str = "write the whole configuration in V2Ray 4's dialect, which knows accounts";

/// `settings` of a dns outbound.
pub(crate) const DNS_OUTBOUND: &[Key] = &[
    key("overrideResponseTtl", Without("answers are good for a minute")),
    key("responseTtl", Without("answers are good for a minute")),
    key("address", OtherDialect("write the whole configuration in V2Ray 4's dialect, which knows it")),
];

/// `settings` of a freedom outbound.
pub(crate) const FREEDOM: &[Key] = &[
    key("destinationOverride", Read),
    key("protocolReplacement", Read),
    key("finalRules", Read),
    key(
        "redirect",
        OtherDialect("write \"destinationOverride\": { \"server\": { \"address\": ..., \"port\": ... } }"),
    ),
    key("domainStrategy", OtherDialect("write it beside \"settings\"")),
];

/// `destinationOverride`
pub(crate) const OVERRIDE: &[Key] = &[key("server", Read)];

/// `server` of `destinationOverride`.
pub(crate) const ENDPOINT: &[Key] =
    &[key("address", Read), key("port", Read), key("user", Refused("remove it"))];

/// `streamSettings`
pub(crate) const STREAM: &[Key] = &[
    key("transport", Read),
    key("transportSettings", Read),
    key("security", Read),
    key("securitySettings", Read),
    key("socketSettings", Read),
    key("network", OtherDialect("write \"transport\"")),
    key("wsSettings", OtherDialect("write \"transportSettings\"")),
    key("tcpSettings", OtherDialect("write \"transportSettings\"")),
    key("tlsSettings", OtherDialect("write \"securitySettings\"")),
    key("sockopt", OtherDialect("write \"socketSettings\"")),
];

/// `transportSettings` of tcp.
pub(crate) const TCP: &[Key] = &[
    key("acceptProxyProtocol", Read),
    key("acceptProxyProtocolFrom", Read),
    key("headerSettings", Refused("remove it, or use \"transport\": \"ws\"")),
];

/// `transportSettings` of ws.
pub(crate) const WS: &[Key] = &[
    key("path", Read),
    key("header", Read),
    key("acceptProxyProtocol", Read),
    // Ours.
    key("acceptProxyProtocolFrom", Read),
    key("fallback", Read),
    key("maxEarlyData", Read),
    key("useBrowserForwarding", Read),
    key("earlyDataHeaderName", Read),
    key("parseXForwardedFor", Read),
    // Xray's; V2Ray 5 has none.
    key("heartbeatPeriod", Read),
    // wsray's.
    key("preconnect", Read),
    key("preconnectMaxAge", Read),
    key("headers", OtherDialect("write \"header\": [{ \"key\": \"Host\", \"value\": \"www.example.com\" }]")),
];

/// An element of `header`.
pub(crate) const HEADER: &[Key] = &[key("key", Read), key("value", Read)];

/// `securitySettings` of tls.
pub(crate) const TLS: &[Key] = &[
    key("serverName", Read),
    key("nextProtocol", Read),
    key("certificate", Read),
    key("disableSystemRoot", Read),
    key("enableSessionResumption", Read),
    // wsray's.
    key("enableEarlyData", Read),
    key("pinnedPeerCertificateChainSha256", Read),
    key("allowInsecureIfPinnedPeerCertificate", Read),
    key("minVersion", Read),
    key("maxVersion", Read),
    key("allowInsecure", Refused(NO_PIN)),
    key("verifyClientCertificate", Refused("remove it if clients without a certificate may connect")),
    key("echConfig", Refused(TLS_LATER)),
    key("echDOHserver", Refused(TLS_LATER)),
    key("echQueryDomain", Refused(TLS_LATER)),
    key("ciphersuites", Refused(TLS_LATER)),
    key("alpn", OtherDialect("write \"nextProtocol\": [...]")),
    key("certificates", OtherDialect("write \"certificate\": [...]")),
];

/// An element of `certificate`.
pub(crate) const CERTIFICATE: &[Key] = &[
    key("usage", Read),
    key("certificateFile", Read),
    key("certificate", Read),
    key("keyFile", Read),
    key("key", Read),
];
