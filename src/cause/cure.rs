//! What to write where.

use super::{Cause, Front, Where};

/// What to do in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cure {
    /// Where.
    pub place: Where,
    /// Lines to write, or what to do.
    pub lines: Vec<String>,
}

/// Places, and the lines for each.
type Table = &'static [(Where, &'static str)];

impl Cause {
    /// What helps, likeliest first. Of the front ends only the one that answered, if it is known and has its own cure; if
    /// it has none, not those that would have named themselves.
    pub fn cures(&self, front: Option<Front>) -> Vec<Cure> {
        let all = self.all_cures();
        let is_own = |cure: &Cure| front.is_some() && cure.place.front() == front;
        let has_own = all.iter().any(is_own);
        let is_named = front.is_some_and(Front::names_itself);
        let fits = |cure: &Cure| match cure.place.front() {
            None => true,
            // It names nobody, and stands in front of those who do.
            Some(Front::Haproxy) if matches!(self, Self::RequestGarbled | Self::TlsGarbled) => true,
            Some(_) if has_own => is_own(cure),
            Some(other) => !is_named || !other.names_itself(),
        };
        let fitting: Vec<_> = all.iter().filter(|cure| fits(cure)).cloned().collect();
        if fitting.is_empty() { all } else { fitting }
    }

    fn all_cures(&self) -> Vec<Cure> {
        use Where::{Cdn, Client};
        let one = |place, line: String| vec![Cure { place, lines: vec![line] }];
        match self {
            Self::CdnOrigin { status } => one(Cdn, cdn_cure(*status).to_owned()),
            Self::OtherPathWorks { path } => one(Client, format!("wsSettings: \"path\": {path:?}")),
            Self::OtherHostWorks { host } => {
                one(Client, format!("wsSettings: \"headers\": {{ \"Host\": {host:?} }}"))
            }
            Self::WayThrough { tag } => one(
                Client,
                format!(
                    "find out which: `wsray doctor -c config.json --outbound {tag}` examines it if it is a vmess outbound; \
                     proxySettings and sockopt.dialerProxy name it"
                ),
            ),
            _ => {
                let own = |lines: &str| lines.lines().map(str::to_owned).collect();
                self.table().iter().map(|&(place, lines)| Cure { place, lines: own(lines) }).collect()
            }
        }
    }

    #[expect(clippy::too_many_lines, reason = "a table")]
    fn table(&self) -> Table {
        use Where::{Apache, Caddy, Cdn, Client, Haproxy, Here, Nginx, Server, There};
        match self {
            Self::CdnOrigin { .. }
            | Self::OtherPathWorks { .. }
            | Self::OtherHostWorks { .. }
            | Self::WayThrough { .. } => &[],
            Self::NameUnknown => &[(Client, "correct \"address\", or write the server's IP address there")],
            Self::ResolverFails => &[
                (Here, "check the network and the name servers: `cat /etc/resolv.conf`, `getent hosts NAME`"),
                (Client, IP_ADDRESS),
                (
                    Client,
                    "\"dns\": { \"servers\": [\"https+local://1.1.1.1/dns-query\"] }   # \"+local\": not by way of the \
                    outbound that needs the answer",
                ),
            ],
            Self::NameFaked => {
                &[(Client, IP_ADDRESS), (Here, "exclude wsray from the other proxy program, or stop that")]
            }
            Self::PortClosed => &[
                (Client, "check \"address\" and \"port\""),
                (There, "start the server or the front end: `ss -ltnp` shows who listens where"),
            ],
            Self::NoRoute => &[
                (
                    Client,
                    "check \"address\" and \"port\"; a CDN takes only its own ports, such as 443 or 8443",
                ),
                (There, "open the port in the firewall and in the provider's security group"),
                (
                    Here,
                    "compare the address with the server's own: a name server may give a wrong one, and the way to \
                    a right one may be blocked",
                ),
            ],
            Self::NoNetwork { v6: true } => &[
                (
                    Client,
                    "write the server's IPv4 address into \"address\", or give its name an A record as well",
                ),
                (Here, "get IPv6: `ip -6 route` shows whether there is a way"),
            ],
            Self::NoNetwork { v6: false } => &[(Here, "connect it: `ip route` shows where packets go")],
            Self::PortWithoutTls | Self::TlsCut => &[
                (
                    Client,
                    "\"port\": the TLS port (usually 443), or \"security\": \"none\" if the server has no TLS",
                ),
                (Nginx, "listen 443 ssl;"),
                (Server, "\"security\": \"tls\" with certificates, if no front end does TLS"),
                (
                    Haproxy,
                    "no send-proxy on the server's line unless the server has \"acceptProxyProtocol\": true",
                ),
            ],
            Self::TlsUnanswered => &[
                (
                    Client,
                    "\"port\": the TLS port (usually 443); if that is right, try another address or another name",
                ),
                (There, "see whether the handshake arrives: `tcpdump -n port 443`"),
            ],
            Self::NameBlocked => &[
                (Client, "\"address\" and tlsSettings.serverName: another domain that leads to the server"),
                (There, "another domain, and a certificate for it"),
            ],
            Self::CertificateName { .. } => &[
                (Client, "tlsSettings: \"serverName\": one of these names"),
                (
                    Nginx,
                    "server_name and ssl_certificate of the server block for the name that the client asks for; \
                    without one, the first block's certificate is sent",
                ),
                (Server, "tlsSettings.certificates: a certificate for the name that the client asks for"),
            ],
            Self::CertificateExpired => &[(
                There,
                "renew the certificate (certbot renew, acme.sh --cron), then reload whoever serves it",
            )],
            Self::CertificateNotYetValid => &[
                (Here, "set the clock (timedatectl set-ntp true)"),
                (There, "issue the certificate anew if its dates are wrong"),
            ],
            Self::CertificateSelfSigned => &[
                (
                    Client,
                    "tlsSettings: \"certificates\": [{ \"usage\": \"verify\", \"certificateFile\": \"server.pem\" }] with the \
                    server's certificate in that file, or its hash in \"pinnedPeerCertificateChainSha256\"",
                ),
                (There, "get a certificate from an authority (Let's Encrypt)"),
            ],
            Self::CertificateChain => &[
                (Nginx, "ssl_certificate fullchain.pem;   # not cert.pem"),
                (Apache, "SSLCertificateFile fullchain.pem   # not cert.pem"),
                (Server, "\"certificateFile\": \"fullchain.pem\""),
            ],
            Self::CertificateIssuer => &[
                (
                    Client,
                    "tlsSettings: \"certificates\": [{ \"usage\": \"verify\", \"certificateFile\": \"authority.pem\" }] for a private \
                    authority",
                ),
                (
                    Here,
                    "install the system's ca-certificates; if the issuer is nobody you know, somebody reads along",
                ),
            ],
            Self::CertificatePin => &[(
                Client,
                "\"pinnedPeerCertificateChainSha256\" or \"pinnedPeerCertSha256\": the hash of what the server sends now",
            )],
            Self::Alpn => &[
                (Client, "tlsSettings: \"alpn\": [\"http/1.1\"]"),
                (Server, "tlsSettings: \"alpn\": [\"http/1.1\"]"),
                (Haproxy, "bind :443 ssl crt server.pem alpn h2,http/1.1"),
                (Caddy, "servers { protocols h1 h2 }"),
            ],
            Self::NoCertificate => &[
                (Client, "tlsSettings: \"serverName\": the name that the server has a certificate for"),
                (
                    Nginx,
                    "server_name and ssl_certificate of a server block for that name; no ssl_reject_handshake in it",
                ),
                (Caddy, "a site block for that name"),
                (Server, "tlsSettings: a certificate for that name, or no \"rejectUnknownSni\""),
                (Haproxy, "bind ... crt: a certificate for that name, or no strict-sni"),
                (Cdn, "a certificate for that name; at Cloudflare the record must be proxied (orange cloud)"),
            ],
            Self::TlsRefused => &[
                (Client, "check tlsSettings.serverName"),
                (Server, "check the certificates; the log of whoever does TLS tells why"),
            ],
            Self::PortWithTls | Self::RedirectToTls | Self::TlsWorks => {
                &[(Client, "\"security\": \"tls\", and \"port\": the TLS port (usually 443)")]
            }
            Self::TlsBehind => &[
                (Server, "\"security\": \"none\": the front end does TLS"),
                (Nginx, "proxy_pass https://127.0.0.1:PORT;   # if the server keeps its TLS"),
                (Cdn, "SSL/TLS mode \"Full (strict)\" instead of \"Flexible\""),
            ],
            Self::HttpVersion => &[
                (Nginx, "proxy_http_version 1.1;"),
                (Apache, "no SetEnv force-proxy-request-1.0 for the path"),
            ],
            Self::RedirectLoop => &[
                (Cdn, "SSL/TLS mode \"Full (strict)\" instead of \"Flexible\""),
                (Nginx, "no redirect (return 301, rewrite) in the server block that has the path's location"),
                (Apache, "RewriteRule ^/path - [END]   # in front of the other rules"),
            ],
            Self::RedirectToSlash => &[
                (Nginx, "location /path {   # without a slash behind it"),
                (Client, "wsSettings: \"path\": with a slash at the end, the same in the server's"),
            ],
            Self::Redirect { .. } => &[
                (
                    Client,
                    "check \"address\", \"path\" and headers.Host against where it leads: redirects are not followed",
                ),
                (Nginx, "no redirect (return 301, rewrite) for the path"),
                (Apache, "RewriteRule ^/path - [END]   # in front of the other rules"),
                (Here, "if it leads to the network's own page (hotel, campus), log in there by a browser"),
            ],
            Self::UpgradeNotForwarded => &[
                (Nginx, NGINX_UPGRADE),
                (Apache, APACHE_PROXY),
                (Caddy, "reverse_proxy without header_up lines for Connection or Upgrade"),
                (Cdn, "switch WebSockets on (Cloudflare: Network)"),
                (
                    Haproxy,
                    "no `option httpclose` or `http-request del-header` that takes Connection or Upgrade away",
                ),
            ],
            Self::CdnWithoutWebSocket => {
                &[(Cdn, "switch WebSockets on (Cloudflare: Network, WebSockets)"), (Nginx, NGINX_UPGRADE)]
            }
            Self::RequestGarbled | Self::TlsGarbled => &[
                (Haproxy, "remove send-proxy / send-proxy-v2 from the server's line"),
                (
                    Nginx,
                    "proxy_protocol off;   # in the stream block\n\
                    listen 443 ssl proxy_protocol;   # or: take the header, if HAProxy sends it to nginx",
                ),
                (Server, "wsSettings: \"acceptProxyProtocol\": true"),
            ],
            Self::HeadTooLong | Self::EarlyDataTooLong { .. } => &[
                (Client, "wsSettings: \"maxEarlyData\": 1024   # or less"),
                (Nginx, "large_client_header_buffers 4 16k;"),
                (Apache, "LimitRequestLine 16380\nLimitRequestFieldSize 16380"),
                (Haproxy, "tune.bufsize 32768"),
            ],
            Self::PasswordWanted => &[
                (Nginx, "auth_basic off;   # in the path's location"),
                (Apache, "<Location /path>\n    Require all granted\n</Location>"),
                (
                    Client,
                    "check wsSettings.path; if a proxy on the way wants the password: an http outbound with it, in \
                    proxySettings",
                ),
            ],
            Self::TooMany => &[
                (Nginx, "no limit_req or limit_conn for the path"),
                (Cdn, "no rate limiting rule for the path"),
                (Client, "\"mux\": { \"enabled\": true }   # fewer connections"),
            ],
            Self::LoginFirst => &[(Here, "open any http:// page in a browser, and log in")],
            Self::FrontFails { .. } => &[
                (There, "read the log of the front end, and of the server behind it"),
                (Nginx, "tail /var/log/nginx/error.log"),
                (
                    Apache,
                    "a2enmod proxy_http   # \"No protocol handler was valid\" in /var/log/apache2/error.log\n\
                    systemctl restart apache2",
                ),
                (Client, "check wsSettings.path: another program may answer there"),
            ],
            Self::Forbidden => &[
                (Client, "check wsSettings.path and headers.Host"),
                (Nginx, "no deny, auth or valid_referers in the path's location"),
                (Apache, "<Location /path>\n    Require all granted\n</Location>"),
                (Haproxy, "no http-request deny that the path or the host meets"),
            ],
            Self::ForbiddenByCdn => &[
                (
                    Cdn,
                    "the firewall's event log names the rule; switch WebSockets on, and \"Under Attack\" and bot \
                    fights off for the path",
                ),
                (
                    Client,
                    "headers.Host and serverName: your own domain, never the CDN's address; a browser's User-Agent in headers",
                ),
            ],
            Self::CdnHost => &[
                (Client, "headers.Host and serverName: your own domain, as it stands in the CDN's zone"),
                (
                    Cdn,
                    "the domain's record: proxied (orange cloud), to the server's own address, not to one of the CDN's",
                ),
                (
                    Client,
                    "\"address\": the domain itself, or an address that the CDN uses for it (`getent hosts DOMAIN`)",
                ),
            ],
            Self::PathUnknownToServer => &[
                (Client, "wsSettings: \"path\": the same as the server's, letter by letter"),
                (Nginx, "proxy_pass http://127.0.0.1:PORT;   # nothing behind the port, not even a slash"),
                (Caddy, "handle instead of handle_path, no uri strip_prefix"),
                (
                    Apache,
                    "ProxyPassMatch ^/path http://127.0.0.1:PORT upgrade=websocket   # nothing behind the port",
                ),
            ],
            Self::PathUnknownToFront => &[
                (
                    Client,
                    "wsSettings: \"path\": the front end's location; headers.Host and serverName: its server name",
                ),
                (Nginx, "location /path {   # in the server block whose server_name is the client's Host"),
                (Caddy, "reverse_proxy /path* 127.0.0.1:PORT"),
                (
                    Apache,
                    "ProxyPassMatch ^/path http://127.0.0.1:PORT upgrade=websocket   # in the VirtualHost whose ServerName \
                    is the client's Host",
                ),
                (Haproxy, "use_backend wsray if { path_beg /path }"),
            ],
            Self::HostUnknown => &[
                (Client, "wsSettings: \"headers\": { \"Host\": \"the site's name\" }"),
                (Caddy, "a site block for that host"),
                (Haproxy, "an acl for that host with use_backend"),
            ],
            Self::WebPage => &[
                (Client, "wsSettings: \"path\": the front end's location; headers.Host: its server name"),
                (Nginx, NGINX_LOCATION),
                (Apache, APACHE_PROXY),
                (Caddy, "reverse_proxy /path* 127.0.0.1:PORT"),
                (Here, "if it is the network's own page (hotel, campus), log in there by a browser"),
            ],
            Self::ServerBehindDown { .. } => &[
                (
                    There,
                    "start the VMess server: `ss -ltnp` shows whether it listens on the port that the front end asks",
                ),
                (Nginx, "proxy_pass http://127.0.0.1:PORT;   # http, and the server's port"),
                (
                    Apache,
                    "ProxyPassMatch ^/path http://127.0.0.1:PORT upgrade=websocket   # http, and the server's port",
                ),
                (Caddy, "reverse_proxy /path* 127.0.0.1:PORT   # the server's port, without https://"),
                (
                    Haproxy,
                    "use_backend wsray if { path_beg /path }\n\
                    server wsray 127.0.0.1:PORT   # in that backend; no ssl, and the server's port",
                ),
                (
                    Server,
                    "\"security\": \"none\" behind a front end that does TLS; no \"acceptProxyProtocol\" unless it sends that header",
                ),
                (
                    Server,
                    "\"listen\": \"/run/wsray/a.sock,0666\"   # on a unix socket that the front end may not open (its log \
                    says \"Permission denied\")",
                ),
                (There, "under SELinux: setsebool -P httpd_can_network_connect 1"),
            ],
            Self::VersionRefused => &[
                (Client, "check wsSettings.path: another program answers there"),
                (Nginx, NGINX_UPGRADE),
                (Apache, APACHE_PROXY),
            ],
            Self::Http2Only => &[
                (Nginx, "listen 443 ssl;   # TLS, so that ALPN chooses; not http2 on a plain port"),
                (Haproxy, "bind :443 ssl crt server.pem alpn h2,http/1.1   # not proto h2"),
                (Caddy, "servers { protocols h1 h2 }"),
            ],
            Self::NotHttp => {
                &[(Client, "check \"port\" and \"network\": the server's must be \"ws\" as well")]
            }
            Self::ClosedUnanswered => &[
                (Client, "check \"port\", \"security\" and \"network\""),
                (
                    Server,
                    "no \"acceptProxyProtocol\" unless a front end sends that header; the log tells why",
                ),
                (Nginx, "no `return 444;` in the server block that answers for the client's Host"),
            ],
            Self::Unanswered => &[
                (Client, "check \"port\" and \"network\""),
                (Nginx, "proxy_pass: is the server behind alive? the error log tells"),
            ],
            Self::AnswerRewritten => &[
                (Client, "check wsSettings.path: another WebSocket server or a cache answers there"),
                (Cdn, "no caching for the path"),
            ],
            Self::Extension => &[(Nginx, "no compression of WebSocket in the front end")],
            Self::ProxyHeaderWanted => &[
                (Server, "remove \"acceptProxyProtocol\": true"),
                (Haproxy, "server wsray 127.0.0.1:PORT send-proxy"),
                (
                    Nginx,
                    "proxy_protocol on;   # in the stream block\n\
                    listen 443 ssl;   # or, if nginx is who wants the header: without proxy_protocol",
                ),
            ],
            Self::TcpWorks => {
                &[(Client, "\"network\": \"tcp\""), (Server, "\"network\": \"ws\" with wsSettings")]
            }
            Self::EarlyDataRefused { in_path: true } => &[
                (Nginx, "location /path {   # without \"=\": the data stands behind the path"),
                (Caddy, "reverse_proxy /path* 127.0.0.1:PORT   # with the star"),
                (
                    Apache,
                    "ProxyPassMatch ^/path http://127.0.0.1:PORT upgrade=websocket   # ProxyPass takes the exact path only",
                ),
                (Haproxy, "use_backend wsray if { path_beg /path }   # not path"),
                (
                    Client,
                    "wsSettings: \"earlyDataHeaderName\": \"Sec-WebSocket-Protocol\", the same in the server's",
                ),
                (Server, "wsSettings: \"maxEarlyData\": the client's, \"earlyDataHeaderName\": the client's"),
            ],
            Self::EarlyDataRefused { in_path: false } => &[
                (Server, "wsSettings: \"maxEarlyData\" and \"earlyDataHeaderName\": the client's"),
                (Client, "remove \"maxEarlyData\""),
            ],
            Self::EarlyDataLost { .. } => &[
                (Server, "wsSettings: \"maxEarlyData\" and \"earlyDataHeaderName\": the client's"),
                (Nginx, "no proxy_set_header that empties the header"),
                (Haproxy, "no http-request del-header for it"),
                (Client, "remove \"maxEarlyData\""),
            ],
            Self::Clock { .. } => &[(Here, "timedatectl set-ntp true"), (There, "the same there")],
            Self::IdUnknown => &[
                (Client, "users: \"id\": one of the ids in the server's \"clients\""),
                (Server, "\"alterId\": 0, and V2Ray 4.28 or newer: older ones do not know this VMess header"),
            ],
            Self::ServerWantsWebSocket => {
                &[(Client, "\"network\": \"ws\", and wsSettings with the server's path")]
            }
            Self::NotVmess => &[
                (Client, "check \"port\" and wsSettings.path: another program answers there"),
                (Server, "\"protocol\": \"vmess\""),
            ],
            Self::TargetUnreachable => {
                &[(Server, "check outbounds and routing, and the network of the server's machine")]
            }
            Self::UpgradeSlow => &[(There, "look for load, and for slow name look-ups in the front end")],
            Self::AnswerSlow => {
                &[(Nginx, "proxy_buffering off;"), (Cdn, "no buffering or caching for the path")]
            }
            Self::PortTaken => &[
                (There, "`ss -ltnp` shows who listens there: stop it, or restart wsray if it is that"),
                (Server, "\"port\": one that is free"),
            ],
            Self::NotOurAddress => &[(
                Server,
                "\"listen\": \"0.0.0.0\", or \"127.0.0.1\" behind a front end; `ip address` shows what there is",
            )],
            Self::PortForbidden => &[
                (There, "AmbientCapabilities=CAP_NET_BIND_SERVICE   # in the unit of systemd"),
                (Server, "\"port\": above 1023"),
            ],
            Self::IdleCut { .. } => &[
                (Nginx, "proxy_read_timeout 1h;\nproxy_send_timeout 1h;"),
                (Apache, "ProxyPassMatch ^/path http://127.0.0.1:PORT upgrade=websocket timeout=3600"),
                (Haproxy, "timeout tunnel 1h"),
                (Client, "wsSettings: \"heartbeatPeriod\": less than that, in seconds"),
            ],
        }
    }
}

/// What helps where names lead nowhere.
const IP_ADDRESS: &str = "write the server's IP address into \"address\", and its name into tlsSettings.serverName and \
    wsSettings.headers.Host";

/// nginx's lines for the upgrade (nginx.org, "WebSocket proxying").
const NGINX_UPGRADE: &str = "proxy_http_version 1.1;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection \"upgrade\";";

/// A whole location.
const NGINX_LOCATION: &str = "location /path {
    proxy_pass http://127.0.0.1:PORT;
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection \"upgrade\";
    proxy_set_header Host $host;
}";

/// Apache's (httpd.apache.org, `mod_proxy_http` and `mod_proxy_wstunnel`).
const APACHE_PROXY: &str = "a2enmod proxy_http
ProxyPassMatch ^/path http://127.0.0.1:PORT upgrade=websocket timeout=3600
# before Apache 2.4.47: a2enmod proxy_wstunnel, and ws:// instead of http://, without upgrade=";

fn cdn_cure(status: u16) -> &'static str {
    match status {
        525 => {
            "give the server TLS on the port that the CDN asks, or set SSL/TLS mode \"Flexible\" (plain to port 80)"
        }
        526 => {
            "install a certificate that the CDN trusts (its origin certificate), or set SSL/TLS mode \"Full\""
        }
        522 | 523 => "check the record's address; let the CDN's networks through the server's firewall",
        524 => {
            "the front end on the server waits for a server behind it that does not answer: check proxy_pass"
        }
        530 => "check the DNS record and, for a tunnel, that its connector runs",
        520 => "check that the server speaks HTTP on that port: the SSL/TLS mode decides between 80 and 443",
        _ => "check that the server or its front end runs on port 443 (\"Full\") or 80 (\"Flexible\")",
    }
}
