//! What front ends and CDNs do to requests, and what is fine.

use serde_json::{Value, json};

use crate::{
    examine::{UPGRADE, apache, at_once, caddy, client, examine, haproxy, nginx, page},
    support::{
        certificate,
        config::{Early, Link, Tls, Transport},
        dns::{NameServer, Reply},
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

#[test]
fn name_servers_that_do_not_answer_are_told_from_names_that_are_wrong() {
    at_once([(3, "dns-no-address"), (2, "dns-no-answer"), (0, "dns-no-answer")], |(code, expected)| {
        let server = NameServer::start(move |_, _| Reply { code, silent: code == 0, ..Reply::default() });
        let mut config = client(&Link::default(), free_port());
        config["outbounds"][0]["settings"]["vnext"][0]["address"] = json!("server.test");
        config["outbounds"][0]["domainStrategy"] = json!("ForceIP");
        config["dns"] = json!({ "servers": [{ "address": "127.0.0.1", "port": server.port }] });
        // Who goes out first, so that questions do not need what they ask for.
        config["outbounds"].as_array_mut().unwrap().insert(0, json!({ "protocol": "freedom" }));
        examine(&config).names("dns", expected).writes("client", "IP address");
    });
}

/// A listener who accepts nobody, with a full queue: as when a firewall drops what comes.
fn full_listener() -> (u16, Vec<socket2::Socket>) {
    let socket = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let listener = socket();
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut sockets = vec![listener];
    for _ in 0..4 {
        let waiting = socket();
        waiting.set_nonblocking(true).unwrap();
        let _ = waiting.connect(&address);
        sockets.push(waiting);
    }
    (address.as_socket().unwrap().port(), sockets)
}

#[test]
fn silence_is_told_of_tcp_of_tls_and_of_the_upgrade() {
    let (full, _sockets) = full_listener();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().port();
    let ways = [
        (full, Tls::Off, "tcp", "tcp-no-answer", "firewall"),
        (taken, Tls::Off, "upgrade", "unanswered", "proxy_pass"),
        (taken, Tls::On, "tls", "tls-unanswered", "tcpdump"),
    ];
    at_once(ways, |(port, tls, step, code, cure)| {
        let report = examine(&client(&Link { tls, ..Link::default() }, port));
        report.names(step, code);
        assert!(report.text.contains("5 s") && report.text.contains(cure), "{}", report.text);
    });
}

/// Every one of them is examined as well, if it is a VMess outbound.
#[test]
fn outbound_on_the_way_is_suspected_first() {
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let hop = Server::start(Kind::Wsray, &link);
    let by = |hop: Value, port: u16| {
        let mut config = client(&link, port);
        config["outbounds"][0]["streamSettings"]["sockopt"] = json!({ "dialerProxy": "hop" });
        config["outbounds"].as_array_mut().unwrap().push(hop);
        examine(&config)
    };
    let vmess = |port: u16| {
        let mut hop = client(&link, port)["outbounds"][0].clone();
        hop["tag"] = json!("hop");
        hop
    };
    let report = by(vmess(hop.port), server.port);
    report.is_well();
    assert_eq!(report.status("tcp"), "skipped", "{}", report.text);
    let nobody = free_port();
    let dead = json!({ "servers": [{ "address": "127.0.0.1", "port": nobody }] });
    let socks = json!({ "tag": "hop", "protocol": "socks", "settings": dead });
    let broken = [(vmess(hop.port), nobody), (socks, server.port), (vmess(nobody), server.port)];
    at_once([0, 1, 2], |n: usize| {
        let report = by(broken[n].0.clone(), broken[n].1);
        report.names("upgrade", "way-through").writes("client", "--outbound hop");
        let hop_is_named = report.causes().contains(&("tcp".to_owned(), "tcp-refused".to_owned()));
        assert_eq!(hop_is_named, n == 2, "{}", report.text);
    });
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

#[test]
fn faults_of_apache_are_told() {
    needs!("apache");
    let link = Link::default();
    let early = Link { early: Early::Path(2048), ..link.clone() };
    let server = Server::start(Kind::Wsray, &early);
    let to = |link: &Link, host: &str, more: &[&str]| {
        let front = apache(&host.replace("BACKEND", &format!("127.0.0.1:{}", server.port)), more);
        examine(&client(link, front.port))
    };
    let all = ["proxy", "proxy_http", "alias"];
    to(&early, "ProxyPassMatch ^/ray http://BACKEND upgrade=websocket", &all).is_well();
    to(&link, "ProxyPass /ray http://BACKEND/ray", &all)
        .names("upgrade", "upgrade-not-forwarded")
        .writes("apache", "ProxyPassMatch ^/ray http://127.0.0.1:PORT upgrade=websocket");
    to(&link, "ProxyPass /ray http://BACKEND/ray upgrade=websocket", &["proxy"])
        .names("upgrade", "front-end-fails")
        .writes("apache", "a2enmod proxy_http");
    to(&link, "ProxyPass /ray http://BACKEND/ upgrade=websocket", &all)
        .names("upgrade", "path-unknown-to-server")
        .writes("apache", "nothing behind the port");
    let nobody = format!("ProxyPass /ray http://127.0.0.1:{}/ray upgrade=websocket", free_port());
    to(&link, &nobody, &all).names("upgrade", "server-behind-down").writes("apache", "the server's port");
    to(&link, "<Location /ray>\nRequire all denied\n</Location>", &all)
        .names("upgrade", "forbidden")
        .writes("apache", "Require all granted");
    to(&link, "Redirect permanent / https://localhost/", &all).names("upgrade", "redirect-to-https");
    to(&early, "ProxyPass /ray http://BACKEND/ray upgrade=websocket", &all)
        .names("early data", "early-data-refused")
        .writes("apache", "ProxyPassMatch ^/ray");
    to(&early, "LimitRequestLine 1024\nProxyPassMatch ^/ray http://BACKEND upgrade=websocket", &all)
        .names("early data", "early-data-too-long")
        .writes("apache", "LimitRequestLine");
}

/// The page tells who it is, where no header does.
#[test]
fn faults_of_haproxy_and_caddy_get_their_own_lines() {
    needs!("haproxy", "caddy");
    let link = Link::default();
    let nobody = free_port();
    let front = haproxy(&format!(
        "frontend in\n    mode http\n    bind 127.0.0.1:PORT\n    default_backend out\nbackend out\n    mode http\n    retries 0\n    server a 127.0.0.1:{nobody}"
    ));
    let report = examine(&client(&link, front.port));
    report.names("upgrade", "server-behind-down").writes("haproxy", "path_beg /ray");
    assert!(!report.text.contains("nginx"), "{}", report.text);
    let front = haproxy("frontend in\n    mode http\n    bind 127.0.0.1:PORT\n    http-request deny");
    examine(&client(&link, front.port)).names("upgrade", "forbidden").writes("haproxy", "http-request deny");
    let front = caddy(&format!("http://127.0.0.1:PORT {{\n    reverse_proxy /ray* 127.0.0.1:{nobody}\n}}"));
    let report = examine(&client(&link, front.port));
    report.names("upgrade", "server-behind-down").writes("caddy", "reverse_proxy /ray* 127.0.0.1:PORT");
    let server = Server::start(Kind::Wsray, &link);
    let front = caddy(&format!(
        "http://127.0.0.1:PORT {{\n    handle_path /ray* {{\n        reverse_proxy 127.0.0.1:{}\n    }}\n}}",
        server.port
    ));
    examine(&client(&link, front.port))
        .names("upgrade", "path-unknown-to-server")
        .writes("caddy", "handle instead of handle_path");
}

#[test]
fn failures_of_nginx_itself_are_told() {
    needs!("nginx");
    let to = |server: &str| examine(&client(&Link::default(), nginx(server).port));
    to("listen PORT; location / { rewrite ^ /x last; }")
        .names("upgrade", "front-end-fails")
        .writes("nginx", "error.log");
    to("listen PORT; location / { auth_basic x; auth_basic_user_file /dev/null; }")
        .names("upgrade", "password-wanted")
        .writes("nginx", "auth_basic off;");
    to("listen PORT; return 429;").names("upgrade", "too-many-requests").writes("nginx", "limit_req");
    to("listen PORT; return 444;").names("upgrade", "closed-unanswered").writes("nginx", "return 444;");
    let link = Link { headers: vec![("Host", "other.test")], ..Link::default() };
    let server = Server::start(Kind::Wsray, &link);
    let front = nginx(&format!(
        "listen PORT; if ($host != localhost) {{ return 444; }} location /ray {{ proxy_pass http://127.0.0.1:{}; {UPGRADE} }}",
        server.port
    ));
    let mut config = client(&link, front.port);
    config["outbounds"][0]["settings"]["vnext"][0]["address"] = json!("localhost");
    examine(&config).names("upgrade", "other-host-works").writes("client", "localhost");
}

#[test]
fn networks_that_want_a_login_are_told() {
    let to = |status: &str, headers: &str, body: &str| {
        examine(&client(&Link::default(), page(status, headers, body)))
    };
    to("511 Network Authentication Required", "", "log in").names("upgrade", "login-first");
    to("302 Found", "Location: http://login.hotel.test/?a=b\r\n", "")
        .names("upgrade", "redirect")
        .writes("client-machine", "log in");
    to("200 OK", "", "<html>welcome").names("upgrade", "web-page").writes("client-machine", "log in");
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
            ("523 ", "error code: 523", "cdn-origin"),
            ("524 ", "error code: 524", "cdn-origin"),
            ("530 ", "error code: 1033", "cdn-origin"),
            ("530 ", "error code: 1016", "cdn-origin"),
            ("409 Conflict", "error code: 1001", "cdn-host-unknown"),
            ("403 Forbidden", "error code: 1034", "cdn-host-unknown"),
            ("403 Forbidden", "<span class=\"cf-error-code\">1003</span>", "cdn-host-unknown"),
            ("403 Forbidden", "<title>Just a moment...</title>", "cdn-forbidden"),
            ("200 OK", "<title>Just a moment...</title>", "cdn-forbidden"),
            ("429 Too Many Requests", "error code: 1015", "too-many-requests"),
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
