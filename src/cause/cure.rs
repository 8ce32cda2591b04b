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

impl Cause {
    /// What helps, likeliest first. Of the front ends only the one that answered, if it is known and has its own cure.
    pub fn cures(&self, front: Option<Front>) -> Vec<Cure> {
        let all = self.all_cures();
        let is_own = |cure: &Cure| front.is_some() && cure.place.front() == front;
        let has_own = all.iter().any(is_own);
        all.into_iter().filter(|cure| !has_own || cure.place.front().is_none() || is_own(cure)).collect()
    }

    #[expect(clippy::too_many_lines, reason = "a table")]
    fn all_cures(&self) -> Vec<Cure> {
        use Where::{Apache, Caddy, Cdn, Client, Haproxy, Here, Nginx, Server, There};
        let owned;
        let table: &[(Where, &[&str])] = match self {
            Self::NameUnknown => {
                &[(Client, &["correct \"address\", or write the server's IP address there"])]
            }
            Self::NameFaked => &[
                (
                    Client,
                    &[
                        "write the server's IP address into \"address\", and its name into tlsSettings.serverName and \
                    wsSettings.headers.Host",
                    ],
                ),
                (Here, &["exclude wsray from the other proxy program, or stop that"]),
            ],
            Self::PortClosed => &[
                (Client, &["check \"address\" and \"port\""]),
                (There, &["start the server or the front end: `ss -ltnp` shows who listens where"]),
            ],
            Self::NoRoute => &[
                (
                    Client,
                    &["check \"address\" and \"port\"; a CDN takes only its own ports, such as 443 or 8443"],
                ),
                (There, &["open the port in the firewall and in the provider's security group"]),
            ],
            Self::PortWithoutTls | Self::TlsCut => &[
                (
                    Client,
                    &[
                        "\"port\": the TLS port (usually 443), or \"security\": \"none\" if the server has no TLS",
                    ],
                ),
                (Nginx, &["listen 443 ssl;"]),
                (Server, &["\"security\": \"tls\" with certificates, if no front end does TLS"]),
                (
                    Haproxy,
                    &[
                        "no send-proxy on the server's line unless the server has \"acceptProxyProtocol\": true",
                    ],
                ),
            ],
            Self::CertificateName { .. } => &[
                (Client, &["tlsSettings: \"serverName\": one of these names"]),
                (
                    Nginx,
                    &[
                        "server_name and ssl_certificate of the server block for the name that the client asks for; \
                    without one, the first block's certificate is sent",
                    ],
                ),
                (Server, &["tlsSettings.certificates: a certificate for the name that the client asks for"]),
            ],
            Self::CertificateExpired => &[(
                There,
                &["renew the certificate (certbot renew, acme.sh --cron), then reload whoever serves it"],
            )],
            Self::CertificateNotYetValid => &[
                (Here, &["set the clock (timedatectl set-ntp true)"]),
                (There, &["issue the certificate anew if its dates are wrong"]),
            ],
            Self::CertificateSelfSigned => &[
                (
                    Client,
                    &[
                        "tlsSettings: \"certificates\": [{ \"usage\": \"verify\", \"certificateFile\": \"server.pem\" }] with the \
                    server's certificate in that file, or its hash in \"pinnedPeerCertificateChainSha256\"",
                    ],
                ),
                (There, &["get a certificate from an authority (Let's Encrypt)"]),
            ],
            Self::CertificateChain => &[
                (Nginx, &["ssl_certificate fullchain.pem;   # not cert.pem"]),
                (Server, &["\"certificateFile\": \"fullchain.pem\""]),
            ],
            Self::CertificateIssuer => &[
                (
                    Client,
                    &[
                        "tlsSettings: \"certificates\": [{ \"usage\": \"verify\", \"certificateFile\": \"authority.pem\" }] for a private \
                    authority",
                    ],
                ),
                (
                    Here,
                    &[
                        "install the system's ca-certificates; if the issuer is nobody you know, somebody reads along",
                    ],
                ),
            ],
            Self::CertificatePin => &[(
                Client,
                &["\"pinnedPeerCertificateChainSha256\": the hash of the chain that the server sends now"],
            )],
            Self::Alpn => &[
                (Client, &["tlsSettings: \"alpn\": [\"http/1.1\"]"]),
                (Server, &["tlsSettings: \"alpn\": [\"http/1.1\"]"]),
                (Haproxy, &["bind :443 ssl crt server.pem alpn h2,http/1.1"]),
                (Caddy, &["servers { protocols h1 h2 }"]),
            ],
            Self::NoCertificate => &[
                (Client, &["tlsSettings: \"serverName\": the name that the server has a certificate for"]),
                (Caddy, &["a site block for that name"]),
                (
                    Cdn,
                    &["a certificate for that name; at Cloudflare the record must be proxied (orange cloud)"],
                ),
            ],
            Self::TlsRefused => &[
                (Client, &["check tlsSettings.serverName"]),
                (Server, &["check the certificates; the log of whoever does TLS tells why"]),
            ],
            Self::PortWithTls | Self::RedirectToTls | Self::TlsWorks => {
                &[(Client, &["\"security\": \"tls\", and \"port\": the TLS port (usually 443)"])]
            }
            Self::TlsBehind => &[
                (Server, &["\"security\": \"none\": the front end does TLS"]),
                (Nginx, &["proxy_pass https://127.0.0.1:PORT;   # if the server keeps its TLS"]),
            ],
            Self::HttpVersion => &[(Nginx, &["proxy_http_version 1.1;"])],
            Self::RedirectLoop => &[
                (Cdn, &["SSL/TLS mode \"Full (strict)\" instead of \"Flexible\""]),
                (
                    Nginx,
                    &["no redirect (return 301, rewrite) in the server block that has the path's location"],
                ),
            ],
            Self::RedirectToSlash => &[
                (Nginx, &["location /path {   # without a slash behind it"]),
                (Client, &["wsSettings: \"path\": with a slash at the end, the same in the server's"]),
            ],
            Self::Redirect { .. } => &[
                (
                    Client,
                    &[
                        "check \"address\", \"path\" and headers.Host against where it leads: redirects are not followed",
                    ],
                ),
                (Nginx, &["no redirect (return 301, rewrite) for the path"]),
            ],
            Self::UpgradeNotForwarded => &[
                (
                    Nginx,
                    &[
                        "proxy_http_version 1.1;",
                        "proxy_set_header Upgrade $http_upgrade;",
                        "proxy_set_header Connection \"upgrade\";",
                    ],
                ),
                (
                    Apache,
                    &[
                        "a2enmod proxy_wstunnel, and ProxyPass \"/path\" \"http://127.0.0.1:PORT/path\" upgrade=websocket",
                    ],
                ),
                (Caddy, &["reverse_proxy without header_up lines for Connection or Upgrade"]),
                (Cdn, &["switch WebSockets on (Cloudflare: Network)"]),
                (
                    Haproxy,
                    &[
                        "no `option httpclose` or `http-request del-header` that takes Connection or Upgrade away",
                    ],
                ),
            ],
            Self::CdnWithoutWebSocket => &[
                (Cdn, &["switch WebSockets on (Cloudflare: Network, WebSockets)"]),
                (
                    Nginx,
                    &[
                        "proxy_http_version 1.1;",
                        "proxy_set_header Upgrade $http_upgrade;",
                        "proxy_set_header Connection \"upgrade\";",
                    ],
                ),
            ],
            Self::RequestGarbled | Self::TlsGarbled => &[
                (Haproxy, &["remove send-proxy / send-proxy-v2 from the server's line"]),
                (Nginx, &["proxy_protocol off;   # in the stream block"]),
                (Server, &["wsSettings: \"acceptProxyProtocol\": true"]),
            ],
            Self::HeadTooLong | Self::EarlyDataTooLong { .. } => &[
                (Client, &["wsSettings: \"maxEarlyData\": 1024   # or less"]),
                (Nginx, &["large_client_header_buffers 4 16k;"]),
                (Apache, &["LimitRequestLine 16380", "LimitRequestFieldSize 16380"]),
                (Haproxy, &["tune.bufsize 32768"]),
            ],
            Self::Forbidden => &[
                (Client, &["check wsSettings.path and headers.Host"]),
                (Nginx, &["no deny, auth or valid_referers in the path's location"]),
                (Apache, &["Require all granted"]),
            ],
            Self::ForbiddenByCdn => &[
                (Cdn, &["the firewall's event log names the rule; switch WebSockets on"]),
                (
                    Client,
                    &[
                        "headers.Host and serverName: your own domain, never the CDN's address; a browser's User-Agent in headers",
                    ],
                ),
            ],
            Self::PathUnknownToServer => &[
                (Client, &["wsSettings: \"path\": the same as the server's, letter by letter"]),
                (Nginx, &["proxy_pass http://127.0.0.1:PORT;   # nothing behind the port, not even a slash"]),
                (Caddy, &["handle instead of handle_path, no uri strip_prefix"]),
                (
                    Apache,
                    &[
                        "ProxyPass \"/path\" \"http://127.0.0.1:PORT/path\" upgrade=websocket   # the path on both sides",
                    ],
                ),
            ],
            Self::PathUnknownToFront => &[
                (
                    Client,
                    &[
                        "wsSettings: \"path\": the front end's location; headers.Host and serverName: its server name",
                    ],
                ),
                (Nginx, &["location /path {   # in the server block whose server_name is the client's Host"]),
                (Caddy, &["reverse_proxy /path* 127.0.0.1:PORT"]),
                (Apache, &["ProxyPass in the VirtualHost whose ServerName is the client's Host"]),
            ],
            Self::HostUnknown => &[
                (Client, &["wsSettings: \"headers\": { \"Host\": \"the site's name\" }"]),
                (Caddy, &["a site block for that host"]),
                (Haproxy, &["an acl for that host with use_backend"]),
            ],
            Self::WebPage => &[
                (Client, &["wsSettings: \"path\": the front end's location; headers.Host: its server name"]),
                (
                    Nginx,
                    &[
                        "location /path { proxy_pass http://127.0.0.1:PORT; proxy_http_version 1.1; proxy_set_header Upgrade \
                    $http_upgrade; proxy_set_header Connection \"upgrade\"; }",
                    ],
                ),
            ],
            Self::ServerBehindDown { .. } => &[
                (
                    There,
                    &[
                        "start the VMess server: `ss -ltnp` shows whether it listens on the port that the front end asks",
                    ],
                ),
                (Nginx, &["proxy_pass http://127.0.0.1:PORT;   # http, and the server's port"]),
                (
                    Server,
                    &[
                        "\"security\": \"none\" behind a front end that does TLS; no \"acceptProxyProtocol\" unless it sends that header",
                    ],
                ),
                (There, &["under SELinux: setsebool -P httpd_can_network_connect 1"]),
            ],
            Self::CdnOrigin { status } => {
                owned = [(Cdn, cdn_cure(*status))];
                return owned
                    .into_iter()
                    .map(|(place, line)| Cure { place, lines: vec![line.to_owned()] })
                    .collect();
            }
            Self::VersionRefused => &[
                (Client, &["check wsSettings.path: another program answers there"]),
                (
                    Nginx,
                    &[
                        "proxy_http_version 1.1;",
                        "proxy_set_header Upgrade $http_upgrade;",
                        "proxy_set_header Connection \"upgrade\";",
                    ],
                ),
            ],
            Self::Http2Only => &[
                (Nginx, &["listen 443 ssl;   # TLS, so that ALPN chooses; not http2 on a plain port"]),
                (Haproxy, &["bind :443 ssl crt server.pem alpn h2,http/1.1   # not proto h2"]),
                (Caddy, &["servers { protocols h1 h2 }"]),
            ],
            Self::NotHttp => {
                &[(Client, &["check \"port\" and \"network\": the server's must be \"ws\" as well"])]
            }
            Self::ClosedUnanswered => &[
                (Client, &["check \"port\", \"security\" and \"network\""]),
                (
                    Server,
                    &["no \"acceptProxyProtocol\" unless a front end sends that header; the log tells why"],
                ),
            ],
            Self::Unanswered => &[
                (Client, &["check \"port\" and \"network\""]),
                (Nginx, &["proxy_pass: is the server behind alive? the error log tells"]),
            ],
            Self::AnswerRewritten => &[
                (Client, &["check wsSettings.path: another WebSocket server or a cache answers there"]),
                (Cdn, &["no caching for the path"]),
            ],
            Self::Extension => &[(Nginx, &["no compression of WebSocket in the front end"])],
            Self::ProxyHeaderWanted => &[
                (Server, &["remove \"acceptProxyProtocol\": true"]),
                (Haproxy, &["server wsray 127.0.0.1:PORT send-proxy"]),
                (Nginx, &["proxy_protocol on;   # in the stream block"]),
            ],
            Self::OtherPathWorks { path } => {
                return vec![Cure { place: Client, lines: vec![format!("wsSettings: \"path\": {path:?}")] }];
            }
            Self::OtherHostWorks { host } => {
                let line = format!("wsSettings: \"headers\": {{ \"Host\": {host:?} }}");
                return vec![Cure { place: Client, lines: vec![line] }];
            }
            Self::TcpWorks => {
                &[(Client, &["\"network\": \"tcp\""]), (Server, &["\"network\": \"ws\" with wsSettings"])]
            }
            Self::EarlyDataRefused { in_path: true } => &[
                (Nginx, &["location /path {   # without \"=\": the data stands behind the path"]),
                (Caddy, &["reverse_proxy /path* 127.0.0.1:PORT   # with the star"]),
                (
                    Client,
                    &[
                        "wsSettings: \"earlyDataHeaderName\": \"Sec-WebSocket-Protocol\", the same in the server's",
                    ],
                ),
                (
                    Server,
                    &["wsSettings: \"maxEarlyData\": the client's, \"earlyDataHeaderName\": the client's"],
                ),
            ],
            Self::EarlyDataRefused { in_path: false } => &[
                (Server, &["wsSettings: \"maxEarlyData\" and \"earlyDataHeaderName\": the client's"]),
                (Client, &["remove \"maxEarlyData\""]),
            ],
            Self::EarlyDataLost { .. } => &[
                (Server, &["wsSettings: \"maxEarlyData\" and \"earlyDataHeaderName\": the client's"]),
                (Nginx, &["no proxy_set_header that empties the header"]),
                (Haproxy, &["no http-request del-header for it"]),
                (Client, &["remove \"maxEarlyData\""]),
            ],
            Self::Clock { .. } => &[(Here, &["timedatectl set-ntp true"]), (There, &["the same there"])],
            Self::IdUnknown => &[
                (Client, &["users: \"id\": one of the ids in the server's \"clients\""]),
                (
                    Server,
                    &["\"alterId\": 0, and V2Ray 4.28 or newer: older ones do not know this VMess header"],
                ),
            ],
            Self::ServerWantsWebSocket => {
                &[(Client, &["\"network\": \"ws\", and wsSettings with the server's path"])]
            }
            Self::NotVmess => &[
                (Client, &["check \"port\" and wsSettings.path: another program answers there"]),
                (Server, &["\"protocol\": \"vmess\""]),
            ],
            Self::TargetUnreachable => {
                &[(Server, &["check outbounds and routing, and the network of the server's machine"])]
            }
            Self::UpgradeSlow => &[(There, &["look for load, and for slow name look-ups in the front end"])],
            Self::AnswerSlow => {
                &[(Nginx, &["proxy_buffering off;"]), (Cdn, &["no buffering or caching for the path"])]
            }
            Self::IdleCut { .. } => &[
                (Nginx, &["proxy_read_timeout 1h;", "proxy_send_timeout 1h;"]),
                (Haproxy, &["timeout tunnel 1h"]),
                (Client, &["wsSettings: \"heartbeatPeriod\": less than that, in seconds"]),
            ],
        };
        let own = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect();
        table.iter().map(|&(place, lines)| Cure { place, lines: own(lines) }).collect()
    }
}

fn cdn_cure(status: u16) -> &'static str {
    match status {
        525 => {
            "give the server TLS on the port that the CDN asks, or set SSL/TLS mode \"Flexible\" (plain to port 80)"
        }
        526 => {
            "install a certificate that the CDN trusts (its origin certificate), or set SSL/TLS mode \"Full\""
        }
        522 | 523 => "check the record's address; let the CDN's networks through the server's firewall",
        530 => "check the DNS record and, for a tunnel, that its connector runs",
        520 => "check that the server speaks HTTP on that port: the SSL/TLS mode decides between 80 and 443",
        _ => "check that the server or its front end runs on port 443 (\"Full\") or 80 (\"Flexible\")",
    }
}
