//! What front ends and CDNs do to requests, and what is fine.

use serde_json::{Value, json};

use crate::{
    examine::{UPGRADE, at_once, caddy, client, examine, haproxy, nginx, page},
    support::{
        certificate,
        config::{Early, Link, Tls, Transport},
        free_port, front,
        node::{Kind, Server},
    },
};

// Nothing is wrong.

#[test]
fn nothing_is_wrong_behind_nginx_with_any_early_data_and_any_server() {
    needs!("nginx", "v2ray-4.45", "v2ray-4.34", "sing-box");
    let earlies = [
        Early::Path(2048),
        Early::Header("Sec-WebSocket-Protocol", 2048),
        Early::None,
        Early::Header("X-Ed", 4096),
    ];
    let kinds = [Kind::Wsray, Kind::V2Ray445, Kind::V2Ray434, Kind::SingBox];
    at_once([0, 1, 2, 3], |n: usize| {
        let (kind, early) = (kinds[n], earlies[n]);
        let link = Link { early, ..Link::default() };
        let server = Server::start(kind, &link);
        let nginx = front::nginx(server.port);
        let link = Link { tls: Tls::On, headers: vec![("Host", "example.test")], ..link };
        let report = examine(&client(&link, nginx.port));
        report.is_well();
        let expected = if early == Early::None { "" } else { "ok" };
        assert_eq!(report.status("early data"), expected, "{kind:?}: {}", report.text);
        assert_eq!(report.status("clock"), "ok", "{}", report.text);
    });
}

#[test]
fn nothing_is_wrong_without_a_front_end_and_without_websocket() {
    needs!("v2ray-4.45");
    let ways = [
        (Kind::Wsray, Transport::Tcp, Tls::Off),
        (Kind::Wsray, Transport::WebSocket, Tls::On),
        (Kind::V2Ray445, Transport::Tcp, Tls::On),
        (Kind::V2Ray445, Transport::WebSocket, Tls::Off),
    ];
    at_once(ways, |(kind, transport, tls)| {
        let link = Link { transport, tls, ..Link::default() };
        let server = Server::start(kind, &link);
        examine(&client(&link, server.port)).is_well();
    });
}

// Names and TCP.

#[test]
fn name_without_address_is_told() {
    let mut config = client(&Link::default(), 443);
    config["outbounds"][0]["settings"]["vnext"][0]["address"] = json!("nowhere.invalid");
    examine(&config).names("dns", "dns-no-address");
}

#[test]
fn server_that_is_down_is_told() {
    examine(&client(&Link::default(), free_port()))
        .names("tcp", "tcp-refused")
        .writes("server-machine", "ss -ltnp");
}

// The front end's upgrade.

#[test]
fn upgrade_headers_that_are_not_forwarded_are_told() {
    needs!("nginx", "v2ray-4.45", "sing-box");
    let link = Link::default();
    at_once([Kind::Wsray, Kind::V2Ray445, Kind::SingBox], |kind| {
        let server = Server::start(kind, &link);
        let block = format!(
            "listen PORT; location /ray {{ proxy_pass http://127.0.0.1:{}; proxy_http_version 1.1; }}",
            server.port
        );
        let front = nginx(&block);
        let report = examine(&client(&link, front.port));
        report
            .names("upgrade", "upgrade-not-forwarded")
            .writes("nginx", "proxy_set_header Upgrade $http_upgrade;");
    });
}

/// V2Ray and wsray upgrade by HTTP/1.0 as well.
#[test]
fn http_1_0_to_the_server_is_told_where_it_matters() {
    needs!("nginx", "v2ray-4.45", "sing-box");
    let link = Link::default();
    at_once([Kind::Wsray, Kind::V2Ray445, Kind::SingBox], |kind| {
        let server = Server::start(kind, &link);
        let lines = UPGRADE.replace("proxy_http_version 1.1;", "");
        let front = nginx(&format!(
            "listen PORT; location /ray {{ proxy_pass http://127.0.0.1:{}; {lines} }}",
            server.port
        ));
        let report = examine(&client(&link, front.port));
        if kind == Kind::SingBox {
            report.names("upgrade", "http-version").writes("nginx", "proxy_http_version 1.1;");
        } else {
            report.is_well();
        }
    });
}

#[test]
fn wrong_paths_are_told_from_one_another() {
    needs!("nginx", "v2ray-4.45", "sing-box");
    let link = Link::default();
    at_once([Kind::Wsray, Kind::V2Ray445, Kind::SingBox], |kind| {
        let server = Server::start(kind, &link);
        let port = server.port;
        let front = nginx(&format!(
            "listen PORT; location /ray {{ proxy_pass http://127.0.0.1:{port}; {UPGRADE} }}
            location /other {{ proxy_pass http://127.0.0.1:{port}; {UPGRADE} }}
            location /cut {{ proxy_pass http://127.0.0.1:{port}/; {UPGRADE} }}
            location /slash/ {{ proxy_pass http://127.0.0.1:{port}; {UPGRADE} }}
            location = /slashed/ {{ proxy_pass http://127.0.0.1:{port}/ray; {UPGRADE} }}"
        ));
        let to = |path: &str| examine(&client(&Link { path: path.to_owned(), ..link.clone() }, front.port));
        to("/ray").is_well();
        to("/nowhere").names("upgrade", "path-unknown-to-front-end").writes("nginx", "location");
        to("/other").names("upgrade", "path-unknown-to-server").writes("nginx", "nothing behind the port");
        to("/cut").names("upgrade", "path-unknown-to-server");
        to("/slash").names("upgrade", "redirect-to-slash");
        to("/slashed").names("upgrade", "other-path-works").writes("client", "/slashed/");
    });
}

#[test]
fn dead_server_behind_the_front_end_is_told() {
    needs!("nginx");
    let front = nginx(&format!(
        "listen PORT; location /ray {{ proxy_pass http://127.0.0.1:{}; {UPGRADE} }}",
        free_port()
    ));
    examine(&client(&Link::default(), front.port))
        .names("upgrade", "server-behind-down")
        .writes("nginx", "proxy_pass");
}

#[test]
fn tls_on_both_front_end_and_server_is_told() {
    needs!("nginx");
    let link = Link { tls: Tls::On, ..Link::default() };
    let server = Server::start(Kind::Wsray, &link);
    let front = nginx(&format!(
        "listen PORT; location /ray {{ proxy_pass http://127.0.0.1:{}; {UPGRADE} }}",
        server.port
    ));
    let report = examine(&client(&Link { tls: Tls::Off, ..link.clone() }, front.port));
    report.names("upgrade", "tls-behind-front-end").writes("server", "none");
    let front = front::nginx(server.port);
    examine(&client(&link, front.port)).names("upgrade", "tls-behind-front-end");
}

#[test]
fn redirects_are_told() {
    needs!("nginx");
    let files = certificate::files();
    let front = nginx("listen PORT; return 301 https://$host$request_uri;");
    examine(&client(&Link::default(), front.port))
        .names("upgrade", "redirect-to-https")
        .writes("client", "tls");
    let (certificate, key) = (files.certificate.display(), files.key.display());
    let front = nginx(&format!(
        "listen PORT ssl; ssl_certificate {certificate}; ssl_certificate_key {key}; return 301 https://$host$request_uri;"
    ));
    let link = Link { tls: Tls::On, ..Link::default() };
    examine(&client(&link, front.port)).names("upgrade", "redirect-loop").writes("nginx", "no redirect");
}

#[test]
fn ordinary_pages_and_foreign_hosts_are_told() {
    needs!("nginx", "caddy", "haproxy");
    let front = nginx("listen PORT; return 200 hello;");
    examine(&client(&Link::default(), front.port)).names("upgrade", "web-page");

    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let mut config = client(&Link { headers: vec![("Host", "other.test")], ..link.clone() }, 0);
    let at = |config: &mut Value, port: u16| {
        config["outbounds"][0]["settings"]["vnext"][0]["port"] = json!(port);
        config["outbounds"][0]["settings"]["vnext"][0]["address"] = json!("localhost");
        examine(config)
    };
    let front =
        caddy(&format!("http://example.test:PORT {{\n    reverse_proxy /ray* 127.0.0.1:{}\n}}", server.port));
    at(&mut config, front.port).names("upgrade", "host-unknown").writes("caddy", "site block");
    let front =
        caddy(&format!("http://localhost:PORT {{\n    reverse_proxy /ray* 127.0.0.1:{}\n}}", server.port));
    at(&mut config, front.port).names("upgrade", "other-host-works").writes("client", "localhost");
    let front = haproxy(&format!(
        "frontend in\n    mode http\n    bind 127.0.0.1:PORT\n    use_backend out if {{ hdr(host) -i example.test }}
backend out\n    mode http\n    server wsray 127.0.0.1:{}",
        server.port
    ));
    at(&mut config, front.port).names("upgrade", "server-behind-down");
}

// CDNs. Their pages as they were seen; nobody can run one here.

#[test]
fn pages_of_a_cdn_are_told() {
    let cloudflare = "Server: cloudflare\r\nCF-RAY: 0-AAA\r\n";
    at_once(
        [
            ("400 Bad Request", "Bad Request\n", "cdn-websocket-off"),
            ("403 Forbidden", "error code: 1020", "cdn-forbidden"),
            ("520 ", "error code: 520", "cdn-origin"),
            ("521 ", "error code: 521", "cdn-origin"),
            ("522 ", "error code: 522", "cdn-origin"),
            ("525 ", "error code: 525", "cdn-origin"),
            ("526 ", "error code: 526", "cdn-origin"),
            ("530 ", "error code: 1033", "cdn-origin"),
        ],
        |(status, body, code)| {
            let report = examine(&client(&Link::default(), page(status, cloudflare, body)));
            report.names("upgrade", code);
            let cures = report.json.to_string();
            assert!(cures.contains("\"where\":\"cdn\""), "{status}: {cures}");
            let status = status.split(' ').next().unwrap();
            assert!(report.json.to_string().contains(status), "{status}");
        },
    );
}
