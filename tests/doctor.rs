//! `wsray doctor`: every cause that users ask about is made on purpose, with the real front end where it is one's
//! configuration, and has to be named.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Output},
    sync::Mutex,
    time::Duration,
};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::{Value, json};
use support::{
    certificate,
    config::{self, AppPorts, Early, Link, Tls, Transport},
    free_port, front,
    node::{self, Kind, Node, Server, missing, peer},
    skip, temporary_directory,
};

/// What the doctor said.
struct Report {
    exit: i32,
    json: Value,
    text: String,
}

impl Report {
    /// Step and code of every cause, in order.
    fn causes(&self) -> Vec<(String, String)> {
        let mut causes = Vec::new();
        for check in self.json["checks"].as_array().unwrap() {
            for step in check["steps"].as_array().unwrap() {
                for cause in step["causes"].as_array().unwrap() {
                    let text = |value: &Value| value.as_str().unwrap().to_owned();
                    causes.push((text(&step["step"]), text(&cause["code"])));
                }
            }
        }
        causes
    }

    fn status(&self, name: &str) -> &str {
        let steps = self.json["checks"][0]["steps"].as_array().unwrap();
        steps.iter().find(|step| step["step"] == name).map_or("", |step| step["status"].as_str().unwrap())
    }

    /// It failed at this step, first of all for this reason.
    #[track_caller]
    fn names(&self, step: &str, code: &str) -> &Self {
        let first = self.causes().first().cloned();
        assert_eq!(first, Some((step.to_owned(), code.to_owned())), "{}", self.text);
        assert_eq!(self.exit, 1, "{}", self.text);
        self
    }

    /// It works, but something is worth a warning.
    #[track_caller]
    fn warns(&self, step: &str, code: &str) -> &Self {
        assert!(self.causes().contains(&(step.to_owned(), code.to_owned())), "{}", self.text);
        assert_eq!((self.exit, self.status(step)), (0, "warn"), "{}", self.text);
        self
    }

    #[track_caller]
    fn is_well(&self) {
        assert_eq!((self.exit, self.causes()), (0, vec![]), "{}", self.text);
    }

    /// The first cure is for this place and holds this text.
    #[track_caller]
    fn writes(&self, place: &str, text: &str) {
        let steps = self.json["checks"][0]["steps"].as_array().unwrap();
        let cause = steps.iter().find_map(|step| step["causes"].get(0)).unwrap();
        let cures = cause["cures"].as_array().unwrap();
        let cure =
            cures.iter().find(|cure| cure["where"] == place).unwrap_or_else(|| panic!("{}", self.text));
        assert!(cure["write"].to_string().contains(text), "{}", self.text);
    }
}

fn doctor(config: &Value, more: &[&str]) -> Output {
    let path = temporary_directory("doctor").join("config.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let output = Command::new(node::wsray()).args(["doctor", "-c"]).arg(&path).args(more).output().unwrap();
    drop(std::fs::remove_dir_all(path.parent().unwrap()));
    output
}

fn examine_with(config: &Value, more: &[&str]) -> Report {
    let output = doctor(config, &[&["--json"], more].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let both = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {both}"));
    Report { exit: output.status.code().unwrap(), json, text: both }
}

fn examine(config: &Value) -> Report {
    examine_with(config, &[])
}

/// A client's configuration for a server at `port`.
fn client(link: &Link, port: u16) -> Value {
    config::client(Kind::Wsray, link, AppPorts { socks: 1080, http: 1081 }, port)
}

fn settings(config: &mut Value) -> &mut Value {
    &mut config["outbounds"][0]["streamSettings"]
}

/// nginx with one server block; `PORT` in it becomes the port.
fn nginx(server: &str) -> front::Front {
    let port = free_port();
    let directory = temporary_directory("nginx");
    let place = directory.display();
    let user = if is_root() { "user root;" } else { "" };
    let config = format!(
        "daemon off; master_process off; {user} pid {place}/pid; error_log stderr info;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
    server {{ {} }}
}}
",
        server.replace("PORT", &format!("127.0.0.1:{port}"))
    );
    let path = directory.join("nginx.conf");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(peer("nginx"));
    command.arg("-e").arg("stderr").arg("-p").arg(&directory).arg("-c").arg(&path);
    front::Front { node: Node::start_program("nginx", command, directory, &[port]), port }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

const UPGRADE: &str = "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
    proxy_set_header Connection \"upgrade\"; proxy_set_header Host $host;";

/// Any program with one port; `PORT` in its configuration becomes that.
fn program(name: &str, file: &str, config: &str, arguments: &[&str]) -> front::Front {
    let port = free_port();
    let directory = temporary_directory(name);
    let path = directory.join(file);
    std::fs::write(&path, config.replace("PORT", &port.to_string())).unwrap();
    let mut command = Command::new(peer(name));
    command.args(arguments).arg(&path).env("HOME", &directory).env("XDG_DATA_HOME", &directory);
    front::Front { node: Node::start_program(name, command, directory, &[port]), port }
}

fn haproxy(sections: &str) -> front::Front {
    let defaults = "global\n    maxconn 200\ndefaults\n    timeout connect 5s\n    timeout client 30s\n    timeout server 30s\n";
    program("haproxy", "haproxy.cfg", &format!("{defaults}{sections}\n"), &["-db", "-f"])
}

fn caddy(site: &str) -> front::Front {
    let config = format!("{{\n    admin off\n    auto_https off\n}}\n{site}\n");
    program("caddy", "Caddyfile", &config, &["run", "--adapter", "caddyfile", "--config"])
}

/// Checks each in a thread of its own, as what is checked waits a lot.
fn at_once<T: Copy + Send, const N: usize>(items: [T; N], check: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        let check = &check;
        for item in items {
            scope.spawn(move || check(item));
        }
    });
}

/// Ends the test when a peer is not here.
macro_rules! needs {
    ($($name:literal),+) => {
        $(if let Some(reason) = missing($name) { skip!(reason); })+
    };
}

/// Answers every connection with the same bytes once a head has come; its port.
fn canned(answer: impl Into<Vec<u8>>) -> u16 {
    let answer = answer.into();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(64) {
            let answer = answer.clone();
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut head = [0; 8192];
                let _ = stream.read(&mut head);
                let _ = stream.write_all(&answer);
                let _ = stream.shutdown(Shutdown::Write);
                let _ = stream.read(&mut head);
            });
        }
    });
    port
}

fn page(status: &str, headers: &str, body: &str) -> u16 {
    let length = body.len();
    canned(format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    ))
}

/// Passes bytes on to `backend`, the block number `held` that comes back so much `later`.
fn slow_relay(backend: u16, later: Duration, held: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(64) {
            let near = stream.unwrap();
            let far = TcpStream::connect(("127.0.0.1", backend)).unwrap();
            let (mut up_from, mut up_to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut up_from, &mut up_to);
                let _ = up_to.shutdown(Shutdown::Write);
            });
            std::thread::spawn(move || {
                let (mut near, mut far) = (near, far);
                let mut block = [0; 4096];
                let mut count = 0;
                while let Ok(read @ 1..) = far.read(&mut block) {
                    if count == held {
                        std::thread::sleep(later);
                    }
                    count += 1;
                    if near.write_all(&block[..read]).is_err() {
                        break;
                    }
                }
                let _ = near.shutdown(Shutdown::Write);
            });
        }
    });
    port
}

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

// TLS.

/// A certificate for `localhost` between two days, its key, and itself as what to trust.
fn issue(from: (i32, u8, u8), until: (i32, u8, u8), names: &[&str]) -> (PathBuf, PathBuf) {
    let key = KeyPair::generate().unwrap();
    let mut params =
        CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
    params.not_before = date_time_ymd(from.0, from.1, from.2);
    params.not_after = date_time_ymd(until.0, until.1, until.2);
    let directory = temporary_directory("issued");
    let (certificate_path, key_path) = (directory.join("cert.pem"), directory.join("key.pem"));
    std::fs::write(&certificate_path, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&key_path, key.serialize_pem()).unwrap();
    (certificate_path, key_path)
}

/// nginx with this certificate in front of nothing.
fn tls_front((certificate, key): &(PathBuf, PathBuf)) -> front::Front {
    let (certificate, key) = (certificate.display(), key.display());
    nginx(&format!("listen PORT ssl; ssl_certificate {certificate}; ssl_certificate_key {key}; return 404;"))
}

#[test]
fn certificates_are_told() {
    needs!("nginx");
    let link = Link { tls: Tls::On, ..Link::default() };
    let trusting = |files: &(PathBuf, PathBuf), port: u16| {
        let mut config = client(&link, port);
        settings(&mut config)["tlsSettings"]["certificates"] =
            json!([{ "usage": "verify", "certificateFile": files.0 }]);
        examine(&config)
    };
    let expired = issue((2020, 1, 1), (2021, 1, 1), &["localhost"]);
    let front = tls_front(&expired);
    trusting(&expired, front.port).names("tls", "certificate-expired").writes("server-machine", "renew");
    let early = issue((2090, 1, 1), (2091, 1, 1), &["localhost"]);
    let front = tls_front(&early);
    trusting(&early, front.port).names("tls", "certificate-not-yet-valid").writes("client-machine", "clock");
    let other = issue((2020, 1, 1), (2090, 1, 1), &["default.test", "*.default.test"]);
    let front = tls_front(&other);
    let report = trusting(&other, front.port);
    report.names("tls", "certificate-name").writes("client", "serverName");
    assert!(report.text.contains("default.test, *.default.test"), "{}", report.text);
    examine(&client(&link, front.port)).names("tls", "certificate-self-signed").writes("client", "verify");
    let mut config = client(&link, front::nginx(1).port);
    let stranger = issue((2020, 1, 1), (2090, 1, 1), &["stranger.test"]);
    settings(&mut config)["tlsSettings"]["certificates"] =
        json!([{ "usage": "verify", "certificateFile": stranger.0 }]);
    let front = front::nginx(1);
    config["outbounds"][0]["settings"]["vnext"][0]["port"] = json!(front.port);
    let report = examine(&config);
    report.names("tls", "certificate-issuer");
    assert_eq!(report.causes()[1].1, "certificate-chain", "{}", report.text);
    settings(&mut config)["tlsSettings"] = json!({ "serverName": "localhost", "pinnedPeerCertificateChainSha256": ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="] });
    examine(&config).names("tls", "certificate-pin");
}

#[test]
fn tls_to_a_plain_port_is_told() {
    needs!("nginx", "v2ray-4.45");
    let link = Link::default();
    let secure = Link { tls: Tls::On, ..link.clone() };
    at_once([Kind::Wsray, Kind::V2Ray445], |kind| {
        let server = Server::start(kind, &link);
        examine(&client(&secure, server.port)).names("tls", "tls-to-plain-port").writes("client", "none");
    });
    let front = nginx("listen PORT; return 404;");
    examine(&client(&secure, front.port))
        .names("tls", "tls-to-plain-port")
        .writes("nginx", "listen 443 ssl;");
}

#[test]
fn plain_to_a_tls_port_is_told() {
    needs!("nginx", "v2ray-4.45", "sing-box");
    let secure = Link { tls: Tls::On, ..Link::default() };
    let front = front::nginx(1);
    let plain = Link { tls: Tls::Off, ..secure.clone() };
    examine(&client(&plain, front.port)).names("upgrade", "plain-to-tls-port").writes("client", "tls");
    at_once([Kind::Wsray, Kind::V2Ray445, Kind::SingBox], |kind| {
        let server = Server::start(kind, &secure);
        let report = examine(&client(&plain, server.port));
        let code = &report.causes()[0].1;
        assert!(["plain-to-tls-port", "tls-works"].contains(&code.as_str()), "{kind:?}: {}", report.text);
    });
}

#[test]
fn ports_for_http_2_only_are_told() {
    needs!("haproxy", "nginx");
    let files = certificate::files();
    let link = Link { tls: Tls::On, ..Link::default() };
    let raw = Link { transport: Transport::Tcp, ..link.clone() };
    let strict = Server::start_with(Kind::Wsray, &raw, |config| {
        config["inbounds"][0]["streamSettings"]["tlsSettings"]["alpn"] = json!(["h2"]);
    });
    examine(&client(&link, strict.port)).names("tls", "alpn").writes("server", "http/1.1");
    let both = files.both.display();
    let front = haproxy(&format!(
        "frontend in\n    mode http\n    bind 127.0.0.1:PORT ssl crt {both} alpn h2 proto h2\n    http-request return status 200"
    ));
    let report = examine(&client(&link, front.port));
    let causes: Vec<_> = report.causes().into_iter().map(|(_, code)| code).collect();
    assert_eq!(causes, ["closed-unanswered", "http2-only"], "{}", report.text);
    let front = nginx("listen PORT http2; return 404;");
    let plain = Link { tls: Tls::Off, ..link };
    examine(&client(&plain, front.port)).names("upgrade", "http2-only").writes("nginx", "listen 443 ssl;");
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

// The server.

#[test]
fn unknown_id_is_told() {
    needs!("v2ray-4.45", "sing-box");
    let link = Link { handshake: 60, ..Link::default() };
    at_once([Kind::Wsray, Kind::V2Ray445, Kind::SingBox], |kind| {
        let server = Server::start(kind, &link);
        let other = Link { id: support::random_id(), ..link.clone() };
        let report = examine(&client(&other, server.port));
        report.names("vmess", "id-unknown").writes("client", "id");
        for id in [&link.id, &other.id] {
            assert!(!report.text.contains(id.as_str()), "a secret: {}", report.text);
        }
    });
}

#[test]
fn server_with_legacy_users_takes_todays_header() {
    needs!("v2ray-4.34");
    let link = Link::default();
    let server = Server::start_with(Kind::V2Ray434, &link, |config| {
        config["inbounds"][0]["settings"]["clients"][0]["alterId"] = json!(4);
    });
    examine(&client(&link, server.port)).is_well();
}

#[test]
fn other_protocols_are_told() {
    needs!("v2ray-4.45");
    let link = Link::default();
    let vless = Server::start_with(Kind::V2Ray445, &link, |config| {
        config["inbounds"][0]["protocol"] = json!("vless");
        config["inbounds"][0]["settings"] = json!({ "decryption": "none", "clients": [{ "id": link.id }] });
    });
    let report = examine(&client(&link, vless.port));
    assert!(report.causes().contains(&("vmess".to_owned(), "not-vmess".to_owned())), "{}", report.text);
    let raw = Link { transport: Transport::Tcp, ..link.clone() };
    examine(&client(&raw, canned("SSH-2.0-OpenSSH_9.2\r\n"))).names("vmess", "not-vmess");
    examine(&client(&link, canned("SSH-2.0-OpenSSH_9.2\r\n"))).names("upgrade", "not-http");
}

#[test]
fn other_transports_are_told() {
    needs!("v2ray-4.45");
    let ws = Link { handshake: 60, ..Link::default() };
    let raw = Link { transport: Transport::Tcp, ..ws.clone() };
    at_once([Kind::Wsray, Kind::V2Ray445], |kind| {
        let server = Server::start(kind, &ws);
        examine(&client(&raw, server.port)).names("vmess", "server-wants-websocket").writes("client", "ws");
    });
    let server = Server::start(Kind::Wsray, &raw);
    examine(&client(&ws, server.port)).names("upgrade", "tcp-works").writes("client", "tcp");
}

#[test]
fn proxy_protocol_on_one_side_only_is_told() {
    needs!("haproxy", "v2ray-4.45");
    for (kind, tls) in [(Kind::Wsray, Tls::Off), (Kind::Wsray, Tls::On), (Kind::V2Ray445, Tls::Off)] {
        let link = Link { tls, ..Link::default() };
        let server = Server::start_with(kind, &link, |config| {
            config["inbounds"][0]["streamSettings"]["wsSettings"]["acceptProxyProtocol"] = json!(true);
        });
        let step = if tls == Tls::On { "tls" } else { "upgrade" };
        let report = examine(&client(&link, server.port));
        report.names(step, "proxy-header-wanted").writes("server", "acceptProxyProtocol");
    }
    for (kind, tls) in [
        (Kind::Wsray, Tls::Off),
        (Kind::V2Ray445, Tls::Off),
        (Kind::Wsray, Tls::On),
        (Kind::V2Ray445, Tls::On),
    ] {
        let link = Link { tls, ..Link::default() };
        let server = Server::start(kind, &link);
        let front = front::haproxy(server.port, "send-proxy");
        let report = examine(&client(&link, front.port));
        let (step, code) = match (kind, tls) {
            (_, Tls::Off) => ("upgrade", "request-garbled"),
            (Kind::Wsray, Tls::On) => ("tls", "tls-garbled"),
            // It just closes.
            _ => ("tls", "tls-cut"),
        };
        report.names(step, code).writes("haproxy", "send-proxy");
    }
}

// Early data.

#[test]
fn early_data_that_is_too_long_is_told() {
    needs!("nginx");
    at_once([Early::Path(2048), Early::Header("Sec-WebSocket-Protocol", 2048)], |early| {
        let link = Link { early, ..Link::default() };
        let server = Server::start(Kind::Wsray, &link);
        let front = nginx(&format!(
            "listen PORT; large_client_header_buffers 1 1k; location /ray {{ proxy_pass http://127.0.0.1:{}; {UPGRADE} }}",
            server.port
        ));
        let report = examine(&client(&link, front.port));
        report.names("early data", "early-data-too-long").writes("nginx", "large_client_header_buffers");
    });
}

#[test]
fn early_data_that_the_front_end_does_not_pass_is_told() {
    needs!("nginx", "v2ray-4.45");
    at_once([Kind::Wsray, Kind::V2Ray445], |kind| {
        let link = Link { early: Early::Path(2048), ..Link::default() };
        let server = Server::start(kind, &link);
        let front = nginx(&format!(
            "listen PORT; location = /ray {{ proxy_pass http://127.0.0.1:{}; {UPGRADE} }}",
            server.port
        ));
        let report = examine(&client(&link, front.port));
        report.names("early data", "early-data-refused").writes("nginx", "without \\\"=\\\"");
        let link = Link { early: Early::Header("Sec-WebSocket-Protocol", 2048), ..link };
        let server = Server::start(kind, &link);
        let strip = "proxy_set_header Sec-WebSocket-Protocol \"\";";
        let front = nginx(&format!(
            "listen PORT; location /ray {{ proxy_pass http://127.0.0.1:{}; {UPGRADE} {strip} }}",
            server.port
        ));
        examine(&client(&link, front.port))
            .names("early data", "early-data-lost")
            .writes("nginx", "proxy_set_header");
    });
}

#[test]
fn server_without_early_data_is_told() {
    needs!("v2ray-4.45", "sing-box");
    at_once([Kind::Wsray, Kind::V2Ray445, Kind::SingBox], |kind| {
        let link = Link::default();
        let server = Server::start(kind, &link);
        let by = |early| examine(&client(&Link { early, ..link.clone() }, server.port));
        by(Early::Path(2048)).names("early data", "early-data-refused").writes("server", "maxEarlyData");
        by(Early::Header("Sec-WebSocket-Protocol", 2048))
            .names("early data", "early-data-lost")
            .writes("server", "maxEarlyData");
    });
}

// Time.

#[test]
fn slow_upgrade_and_held_back_answers_are_told() {
    let link = Link { handshake: 60, ..Link::default() };
    let server = Server::start(Kind::Wsray, &link);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let port = slow_relay(server.port, Duration::from_millis(2200), 0);
            examine(&client(&link, port)).warns("upgrade", "upgrade-slow");
        });
        scope.spawn(|| {
            let port = slow_relay(server.port, Duration::from_millis(1500), 1);
            examine(&client(&link, port))
                .warns("vmess", "answer-slow")
                .writes("nginx", "proxy_buffering off;");
        });
    });
}

#[test]
fn front_end_that_cuts_idle_connections_is_told() {
    needs!("nginx");
    let link = Link { handshake: 60, ..Link::default() };
    let server = Server::start(Kind::Wsray, &link);
    let front = front::nginx_with(server.port, "proxy_read_timeout 1s;");
    let link = Link { tls: Tls::On, ..link };
    let report = examine_with(&client(&link, front.port), &["--idle", "3"]);
    report.warns("idle", "idle-cut").writes("nginx", "proxy_read_timeout 1h;");
    examine_with(&client(&Link { tls: Tls::Off, ..link }, server.port), &["--idle", "2"]).is_well();
}

/// A VMess server on plain TCP whose clock is so many seconds ahead.
fn server_with_clock(id: &str, ahead: i64) -> u16 {
    use wsray_vmess::{Replay, RequestOpener, Step, Users, seal_response};
    let id: wsray_vmess::UserId = id.parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let shared = std::sync::Arc::new((Users::new([id]), Mutex::new(Replay::new())));
    std::thread::spawn(move || {
        for stream in listener.incoming().take(64) {
            let shared = std::sync::Arc::clone(&shared);
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let (mut opener, mut bytes, mut block) = (RequestOpener::new(), Vec::new(), [0; 4096]);
                while let Ok(read @ 1..) = stream.read(&mut block) {
                    bytes.extend_from_slice(&block[..read]);
                    let now = wsray::vmess::unix_seconds().saturating_add_signed(ahead);
                    let opened = opener.open(&bytes, &shared.0, &mut shared.1.lock().unwrap(), now);
                    if let Ok(Step::Done { value: (_, request), .. }) = opened {
                        stream.write_all(&seal_response(&request.secrets).unwrap()).unwrap();
                        return;
                    }
                }
            });
        }
    });
    port
}

#[test]
fn clock_that_is_off_is_told_and_by_how_much() {
    let link = Link { transport: Transport::Tcp, ..Link::default() };
    at_once([(300, "behind"), (-300, "ahead of")], |(ahead, text)| {
        let report = examine(&client(&link, server_with_clock(&link.id, ahead)));
        report.names("vmess", "clock").writes("client-machine", "set-ntp");
        assert!(report.text.contains(text), "{}", report.text);
    });
    examine(&client(&link, server_with_clock(&link.id, 60))).is_well();
}

/// A front end's clock that is off says nothing of the server's, which answers.
#[test]
fn date_of_the_front_end_that_is_off_is_a_warning() {
    let answer = page("404 Not Found", "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "");
    let report = examine(&client(&Link::default(), answer));
    assert_eq!(report.status("clock"), "warn", "{}", report.text);
}

// Our own server.

fn inbound(link: &Link, port: u16) -> Value {
    config::server(Kind::Wsray, link, port)
}

#[test]
fn inbounds_are_tried_in_the_process_or_where_they_run() {
    let link = Link { early: Early::Header("Sec-WebSocket-Protocol", 2048), tls: Tls::On, ..Link::default() };
    let report = examine(&inbound(&link, free_port()));
    report.is_well();
    assert_eq!(
        (report.status("port"), report.status("vmess"), report.status("early data")),
        ("ok", "ok", "ok")
    );
    assert!(report.text.contains("is free"), "{}", report.text);
    assert!(!report.text.contains(&link.id), "{}", report.text);
    let server = Server::start(Kind::Wsray, &link);
    let report = examine(&inbound(&link, server.port));
    report.is_well();
    assert!(report.text.contains("somebody listens"), "{}", report.text);
    // Somebody else runs there.
    examine(&inbound(&Link { id: support::random_id(), ..link.clone() }, server.port))
        .names("vmess", "id-unknown");
    let report = examine(&inbound(&link, page("404 Not Found", "", "")));
    report.names("tls", "tls-to-plain-port");
    let mut config = inbound(&link, free_port());
    config["inbounds"][0]["streamSettings"]["wsSettings"]["acceptProxyProtocol"] = json!(true);
    examine(&config).is_well();
}

#[test]
fn certificate_of_an_inbound_that_has_expired_is_told() {
    let (certificate, key) = issue((2020, 1, 1), (2021, 1, 1), &["localhost"]);
    let mut config = inbound(&Link { tls: Tls::On, ..Link::default() }, free_port());
    config["inbounds"][0]["streamSettings"]["tlsSettings"]["certificates"] =
        json!([{ "certificateFile": certificate, "keyFile": key }]);
    examine(&config).names("tls", "certificate-expired");
    let (_, other) = issue((2020, 1, 1), (2090, 1, 1), &["localhost"]);
    config["inbounds"][0]["streamSettings"]["tlsSettings"]["certificates"][0]["keyFile"] = json!(other);
    let output = doctor(&config, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not belong to the certificate"));
}

// The command itself.

#[test]
fn text_tells_cause_and_change_without_colour() {
    let answer = page("404 Not Found", "Server: nginx/1.22.1\r\n", "");
    let output = doctor(&client(&Link::default(), answer), &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    for part in [
        "outbound \"proxy\": ws://127.0.0.1:",
        "  ok    tcp ",
        "  FAIL  upgrade      the server answered 404 Not Found, Server: nginx/1.22.1",
        "  -     vmess        not tried",
        "\n  cause: the request reached the server, but with a path that is not the server's\n",
        "\n    change in the client's configuration:\n        wsSettings: \"path\"",
        "\n    or in nginx:\n        proxy_pass ",
        "1 of 1 examined failed.",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(!text.contains('\x1b') && !text.contains("Caddy"), "{text}");
}

#[test]
fn command_that_finds_nothing_to_examine_is_a_wrong_one() {
    let config = client(&Link::default(), 1);
    assert_eq!(doctor(&config, &["--outbound", "nobody"]).status.code(), Some(2));
    assert_eq!(doctor(&json!({ "outbounds": [{ "protocol": "freedom" }] }), &[]).status.code(), Some(2));
    assert_eq!(doctor(&json!({ "outbounds": [{ "protocol": "vmess" }] }), &[]).status.code(), Some(2));
    assert_eq!(doctor(&config, &["--target", "nowhere"]).status.code(), Some(2));
}

#[test]
fn tag_and_target_choose_what_is_tried() {
    let link = Link::default();
    let server = Server::start(Kind::Wsray, &link);
    let mut config = client(&link, free_port());
    let mut second = client(&link, server.port)["outbounds"][0].clone();
    second["tag"] = json!("second");
    config["outbounds"].as_array_mut().unwrap().push(second);
    let origin = page("200 OK", "", "hello");
    let target = format!("127.0.0.1:{origin}");
    let report = examine_with(&config, &["--outbound", "second", "--target", &target]);
    report.is_well();
    assert!(report.text.contains(&format!("{target} answered through the tunnel")), "{}", report.text);
    let target = format!("127.0.0.1:{}", free_port());
    examine_with(&config, &["--outbound", "second", "--target", &target])
        .names("vmess", "target-unreachable");
    assert_eq!(examine(&config).json["checks"].as_array().unwrap().len(), 2);
}
