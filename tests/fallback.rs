//! The site of those who want no tunnel: nobody can tell it from an ordinary web server, and tunnels work beside it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use support::{
    apps,
    config::{Early, Link},
    front,
    node::{Client, Kind, Server, missing},
    origin::{Origin, hash_of, pattern},
    raw::{self, How},
    skip, temporary_directory,
};

fn server(link: &Link, fallback: impl Into<serde_json::Value>) -> Server {
    let fallback = fallback.into();
    Server::start_with(Kind::Wsray, link, |config| {
        config["inbounds"][0]["streamSettings"]["wsSettings"]["fallback"] = fallback;
    })
}

/// A small site, with things around it that must not be seen.
fn site() -> PathBuf {
    let folder = temporary_directory("site");
    let root = folder.join("root");
    fs::create_dir_all(root.join("sub dir")).unwrap();
    fs::create_dir_all(root.join("empty")).unwrap();
    fs::create_dir_all(root.join(".git")).unwrap();
    fs::create_dir_all(root.join(".well-known")).unwrap();
    fs::create_dir_all(folder.join("outside")).unwrap();
    for (path, text) in [
        ("root/index.html", "<h1>welcome</h1>\n"),
        ("root/style.css", "p {}\n"),
        ("root/sub dir/index.html", "below\n"),
        ("root/.git/config", "SECRET"),
        ("root/.well-known/security.txt", "mail\n"),
        ("secret.txt", "SECRET"),
        ("outside/index.html", "SECRET"),
    ] {
        fs::write(folder.join(path), text).unwrap();
    }
    fs::write(root.join("large.bin"), pattern(8 << 20, 5)).unwrap();
    symlink("../secret.txt", root.join("link.txt")).unwrap();
    symlink("../outside", root.join("linked")).unwrap();
    symlink("style.css", root.join("alias.css")).unwrap();
    assert!(Command::new("mkfifo").arg(root.join("pipe")).status().unwrap().success());
    root
}

/// What comes within `limit`, or until the end, the time of day aside.
fn answer(port: u16, request: &[u8], limit: Duration) -> (String, How) {
    let mut stream = raw::send(port, request).unwrap();
    let end = raw::read_to_end(&mut stream, limit);
    let text = String::from_utf8_lossy(&end.bytes).into_owned();
    let lines =
        text.split_inclusive("\r\n").map(|line| if line.starts_with("Date: ") { "Date\r\n" } else { line });
    (lines.collect(), end.how)
}

fn get(port: u16, target: &str, more: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nHost: example.test\r\nConnection: close\r\n{more}\r\n");
    answer(port, request.as_bytes(), Duration::from_secs(5)).0
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("nothing")
}

fn check_tunnel(link: &Link, server: &Server, origin: &Origin) {
    let client = Client::start(Kind::Wsray, link, server.port);
    apps::check_echo(&apps::socks5(client.socks, origin.address.into(), None).unwrap()).unwrap();
}

/// Requests as strangers send them, whole and broken.
fn probes() -> Vec<Vec<u8>> {
    let close = "Host: example.test\r\nConnection: close\r\n";
    let keep = "Host: example.test\r\n";
    let version = raw::upgrade("/ray", "").replace("Version: 13", "Version: 8");
    let keyless = raw::upgrade("/ray", "").replace("Sec-WebSocket-Key", "X-Key");
    let long = "a".repeat(3000);
    [
        format!("GET / HTTP/1.1\r\n{close}\r\n"),
        format!("GET /ray HTTP/1.1\r\n{close}\r\n"),
        format!("GET /ray/ HTTP/1.1\r\n{close}\r\n"),
        format!("GET /missing?a=b HTTP/1.1\r\n{close}\r\n"),
        format!("HEAD / HTTP/1.1\r\n{close}\r\n"),
        format!("HEAD /ray HTTP/1.1\r\n{close}\r\n"),
        format!("POST /ray HTTP/1.1\r\n{close}Content-Length: 5\r\n\r\nhello"),
        format!("POST / HTTP/1.1\r\n{close}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        format!("OPTIONS * HTTP/1.1\r\n{close}\r\n"),
        format!("DELETE /ray HTTP/1.1\r\n{close}\r\n"),
        format!("get / HTTP/1.1\r\n{close}\r\n"),
        format!("GET /{long} HTTP/1.1\r\n{close}X-Long: {long}\r\n\r\n"),
        format!("GET http://example.test/ray HTTP/1.1\r\n{close}\r\n"),
        format!("GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n{close}\r\n"),
        format!("GET /../../etc/passwd HTTP/1.1\r\n{close}\r\n"),
        format!("GET /a%zz HTTP/1.1\r\n{close}\r\n"),
        format!("GET /%00 HTTP/1.1\r\n{close}\r\n"),
        format!("GET /style.css HTTP/1.1\r\n{close}Range: bytes=0-1\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{keep}\r\n"),
        format!("GET / HTTP/1.1\r\n{keep}\r\nGET /style.css HTTP/1.1\r\n{close}\r\n"),
        format!("POST / HTTP/1.1\r\n{keep}Content-Length: 3\r\n\r\nabcGET /ray HTTP/1.1\r\n{close}\r\n"),
        format!("GET / HTTP/1.1\r\n{close}Host: second\r\n\r\n"),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.0\r\n\r\n".to_owned(),
        "GET / HTTP/3.0\r\n\r\n".to_owned(),
        "GET ray HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\r\n\r\n".to_owned(),
        "SSH-2.0-probe\r\n\r\n".to_owned(),
        raw::upgrade("/", ""),
        raw::upgrade("/rays", ""),
        version,
        keyless,
    ]
    .map(String::into_bytes)
    .to_vec()
}

#[test]
fn probes_cannot_tell_the_fallback_from_the_bare_site() {
    if let Some(reason) = missing("nginx") {
        skip!(reason);
    }
    let nginx = front::nginx_site(&site());
    let link = Link::default();
    let origin = Origin::start();
    let server = server(&link, format!("127.0.0.1:{}", nginx.port));
    let asked: Vec<_> = probes()
        .into_iter()
        .map(|probe| {
            let ask = |port| {
                let probe = probe.clone();
                thread::spawn(move || answer(port, &probe, Duration::from_millis(1500)))
            };
            let (bare, ours) = (ask(nginx.port), ask(server.port));
            (probe, bare, ours)
        })
        .collect();
    let mut statuses = Vec::new();
    for (probe, bare, ours) in asked {
        let bare = bare.join().unwrap();
        statuses.push(status(&bare.0).to_owned());
        assert_eq!(ours.join().unwrap(), bare, "{}", String::from_utf8_lossy(&probe));
    }
    for status in ["200", "404", "405", "400"] {
        assert!(statuses.iter().any(|found| found == status), "no probe was answered {status}: {statuses:?}");
    }
    check_tunnel(&link, &server, &origin);
}

#[test]
fn tunnel_is_had_on_a_connection_that_others_used_before() {
    if let Some(reason) = missing("nginx") {
        skip!(reason);
    }
    let root = site();
    let nginx = front::nginx_site(&root);
    let link = Link::default();
    for fallback in [format!("127.0.0.1:{}", nginx.port), root.display().to_string()] {
        let server = server(&link, fallback.clone());
        let mut stream = apps::connect(server.port).unwrap();
        for (target, status) in [("/", "200"), ("/missing", "404"), ("/style.css", "200")] {
            write!(stream, "GET {target} HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
            let head = apps::read_head(&mut stream).unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{fallback}: {head}");
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).unwrap();
        }
        stream.write_all(raw::upgrade("/ray", "").as_bytes()).unwrap();
        let head = apps::read_head(&mut stream).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 ") && head.contains(raw::ACCEPT), "{fallback}: {head}");
    }
}

#[test]
fn web_server_gets_the_request_as_it_was_and_learns_whom_it_is_from() {
    let origin = Origin::start();
    let server = server(&Link::default(), format!("http://{}/", origin.address));
    let request = "GET /page?q=1 HTTP/1.1\r\nhOsT: example.test\r\nX-Odd:  two  blanks \r\n\
        X-Forwarded-For: 203.0.113.66\r\n";
    let (answer, _) = answer(server.port, format!("{request}\r\n").as_bytes(), Duration::from_secs(1));
    let expected = format!("{request}X-Forwarded-For: 127.0.0.1\r\n\r\n");
    assert!(answer.ends_with(&format!("\r\n\r\n{expected}")), "{answer}");
    let line = server.node.log_line(&["gets the fallback"]);
    assert!(line.contains("[Info]") && line.contains("203.0.113.66:0"), "{line}");
    assert!(!line.contains("q=1"), "{line}");
    drop(raw::ask(server.port, raw::upgrade("/wrong", "").as_bytes()));
    let line = server.node.log_line(&["gets the fallback", "/wrong"]);
    assert!(line.contains("[Warning]"), "a client with a mistake shows: {line}");
}

#[test]
fn web_server_that_is_down_is_502_and_told() {
    let link = Link::default();
    let nobody = support::free_port();
    let server = server(&link, nobody);
    let answer = get(server.port, "/", "");
    assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{answer}");
    let line = server.node.log_line(&["[Warning]", &format!("127.0.0.1:{nobody} cannot be reached")]);
    assert!(line.contains("is that web server running?"), "{line}");
    check_tunnel(&link, &server, &Origin::start());
}

#[test]
fn web_server_on_a_unix_socket_is_reached() {
    let path = temporary_directory("sock").join("site.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        apps::read_head(&mut stream).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhey").unwrap();
    });
    let server = server(&Link::default(), format!("unix:{}", path.display()));
    assert!(get(server.port, "/", "").ends_with("\r\n\r\nhey"));
}

#[test]
fn folder_is_an_ordinary_site() {
    let link = Link::default();
    let root = site();
    let server = server(&link, root.to_str().unwrap());
    let page = get(server.port, "/", "");
    assert!(
        page.starts_with("HTTP/1.1 200 OK\r\n") && page.ends_with("\r\n\r\n<h1>welcome</h1>\n"),
        "{page}"
    );
    assert!(
        page.contains("Content-Type: text/html\r\n") && page.contains("Content-Length: 17\r\n"),
        "{page}"
    );
    assert!(!page.contains("Sec-Websocket") && !page.to_lowercase().contains("wsray"), "{page}");
    let header = |name: &str| page.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
    for known in [
        format!("If-None-Match: \"x\", {}\r\n", header("ETag: ")),
        format!("If-Modified-Since: {}\r\n", header("Last-Modified: ")),
    ] {
        let again = get(server.port, "/", &known);
        assert!(again.starts_with("HTTP/1.1 304 ") && again.ends_with("\r\n\r\n"), "{again}");
    }
    assert_eq!(status(&get(server.port, "/", "If-None-Match: \"x\"\r\n")), "200");
    assert!(get(server.port, "/style.css?v=2", "").contains("Content-Type: text/css\r\n"));
    assert!(get(server.port, "//./style.css", "").ends_with("p {}\n"));
    assert!(get(server.port, "/alias.css", "").ends_with("p {}\n"), "a link that stays inside");
    assert!(get(server.port, "/sub%20dir/", "").ends_with("below\n"));
    assert!(get(server.port, "/sub%20dir", "").contains("Location: /sub%20dir/\r\n"));
    assert!(get(server.port, "/.well-known/security.txt", "").ends_with("mail\n"));
    assert_eq!(status(&get(server.port, "/ray", "")), "404", "the tunnel's own path is no page");
    let head = "HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let (head, how) = answer(server.port, head.as_bytes(), Duration::from_secs(3));
    assert!(head.contains("Content-Length: 17\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(how, How::Fin);
    let post = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
    let (post, how) = answer(server.port, post.as_bytes(), Duration::from_secs(3));
    assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("Allow: GET, HEAD\r\n"), "{post}");
    assert_eq!(how, How::Fin);
    fs::write(root.join("404.html"), "nothing to see\n").unwrap();
    let missing = get(server.port, "/nowhere", "");
    assert!(missing.starts_with("HTTP/1.1 404 ") && missing.ends_with("nothing to see\n"), "{missing}");
    check_tunnel(&link, &server, &Origin::start());
}

#[test]
fn parts_of_files_are_served_as_by_an_ordinary_web_server() {
    if let Some(reason) = missing("nginx") {
        skip!(reason);
    }
    let root = site();
    let nginx = front::nginx_site(&root);
    let server = server(&Link::default(), root.to_str().unwrap());
    let first = get(server.port, "/style.css", "");
    let tag = first.lines().find_map(|line| line.strip_prefix("ETag: ")).unwrap();
    for range in ["0-1", "2-", "-2", "0-99", "99-", "3-1", "x"] {
        for (condition, same) in [("", true), (tag, true), ("\"other\"", false)] {
            let condition =
                if condition.is_empty() { String::new() } else { format!("If-Range: {condition}\r\n") };
            let more = format!("Range: bytes={range}\r\n{condition}");
            let (theirs, ours) =
                (get(nginx.port, "/style.css", &more), get(server.port, "/style.css", &more));
            let told = |answer: &str| {
                let range =
                    answer.lines().find(|line| line.starts_with("Content-Range: ")).map(str::to_owned);
                let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
                (status(answer).to_owned(), range, body)
            };
            let (theirs, ours) = (told(&theirs), told(&ours));
            // What is no range, nginx answers as one that is not there; both may be (RFC 9110 section 14.2).
            if theirs.0 == "416" {
                assert!(ours.0 == "416" && ours.1 == theirs.1 || ours.0 == "200", "{more}: {ours:?}");
            } else {
                assert_eq!(ours, theirs, "{more}");
            }
            assert!(same || ours.0 == "200", "{more}: {ours:?}");
        }
    }
    let answer = get(server.port, "/large.bin", "Range: bytes=8388600-\r\n");
    assert!(answer.contains("Content-Range: bytes 8388600-8388607/8388608\r\n"), "{answer}");
}

/// A client that waits to be told to go on.
#[test]
fn body_that_waits_for_leave_is_answered_without_it() {
    let server = server(&Link::default(), site().to_str().unwrap());
    let request = b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 500\r\n\r\n";
    let (answer, how) = answer(server.port, request, Duration::from_secs(4));
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("Connection: close\r\n"), "{answer}");
    assert_eq!(how, How::Fin);
}

#[test]
fn nothing_outside_the_folder_is_served() {
    let root = site();
    let server = server(&Link::default(), root.to_str().unwrap());
    let absolute = root.parent().unwrap().join("secret.txt");
    for (target, expected) in [
        ("/../secret.txt", "400"),
        ("/sub%20dir/../../secret.txt", "400"),
        ("/%2e%2e/secret.txt", "400"),
        ("/.%2e/secret.txt", "400"),
        ("/%2e%2e%2fsecret.txt", "400"),
        ("/..%5csecret.txt", "400"),
        ("/..\\secret.txt", "400"),
        ("/%5c..%5csecret.txt", "400"),
        ("/secret.txt%00.html", "400"),
        ("/index.html%00", "400"),
        ("/%ff%fe", "400"),
        ("/%252e%252e/secret.txt", "404"),
        (&format!("/{}", absolute.display()), "404"),
        (&format!("http://example.test{}", absolute.display()), "404"),
        ("http://example.test/../secret.txt", "400"),
        ("/link.txt", "404"),
        ("/linked/", "404"),
        ("/linked", "404"),
        ("/linked/index.html", "404"),
        ("/.git/config", "404"),
        ("/.git", "404"),
        ("/pipe", "404"),
        ("/empty/", "404"),
        ("/style.css/", "404"),
        ("/style.css/x", "404"),
        (&format!("/{}", "a".repeat(5000)), "404"),
    ] {
        let answer = get(server.port, target, "");
        assert_eq!(status(&answer), expected, "{target}: {answer}");
        assert!(!answer.contains("SECRET"), "{target}: {answer}");
    }
}

#[test]
fn large_pages_arrive_whole_also_slowly() {
    if let Some(reason) = missing("nginx") {
        skip!(reason);
    }
    let root = site();
    let nginx = front::nginx_site(&root);
    let hash = hash_of(&mut &pattern(8 << 20, 5)[..]).unwrap();
    for fallback in [json!(root), json!(nginx.port)] {
        let server = server(&Link::default(), fallback.clone());
        let request = b"GET /large.bin HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        let mut stream = raw::send(server.port, request).unwrap();
        apps::read_head(&mut stream).unwrap();
        thread::sleep(Duration::from_millis(300));
        assert_eq!(hash_of(&mut stream).unwrap(), hash, "{fallback}");
    }
}

/// What a slow head costs: nothing but one connection, for seconds.
#[test]
fn slow_requests_are_cut() {
    let root = site();
    let server = server(&Link::default(), root.to_str().unwrap());
    let origin = Origin::start();
    let behind = self::server(&Link::default(), origin.port());
    let drip = |port, before: &'static str, limit| {
        thread::spawn(move || {
            let mut stream = apps::connect(port).unwrap();
            stream.write_all(before.as_bytes()).unwrap();
            let mut writer: TcpStream = stream.try_clone().unwrap();
            thread::spawn(move || {
                for byte in "GET / HTTP/1.1\r\nHost: example.test\r\nX-Slow: ".bytes().chain([b'a'; 200]) {
                    if writer.write_all(&[byte]).is_err() {
                        break;
                    }
                    thread::sleep(Duration::from_millis(100));
                }
            });
            let start = Instant::now();
            let end = raw::read_to_end(&mut stream, limit);
            (end.how, start.elapsed())
        })
    };
    let ask = "GET / HTTP/1.1\r\nHost: example.test\r\n\r\n";
    let attempts = [
        drip(server.port, "", Duration::from_secs(4)),
        drip(server.port, ask, Duration::from_secs(11)),
        drip(behind.port, ask, Duration::from_secs(11)),
    ];
    for attempt in attempts {
        let (how, after) = attempt.join().unwrap();
        assert_ne!(how, How::StillOpen, "after {after:?}");
    }
}

#[test]
fn wrong_early_data_is_refused_as_without_a_fallback() {
    let link = Link { early: Early::Header("X-Ed", 2048), ..Link::default() };
    let server = server(&link, site().to_str().unwrap());
    let request = raw::upgrade("/ray", "X-Ed: ***\r\n");
    let head = raw::ask(server.port, request.as_bytes()).unwrap();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
}

#[test]
fn folder_that_is_none_is_told_with_its_place() {
    let directory = temporary_directory("no-site");
    let config = json!({ "inbounds": [{ "port": 1, "listen": "127.0.0.1", "protocol": "vmess",
        "settings": { "clients": [{ "id": support::random_id() }] },
        "streamSettings": { "network": "ws", "wsSettings": { "fallback": "/no/such/site" } } }],
        "outbounds": [{ "protocol": "freedom" }] });
    fs::write(directory.join("config.json"), config.to_string()).unwrap();
    let said = wsray_test(&directory);
    assert!(said.contains("wsSettings.fallback: cannot serve the folder \"/no/such/site\""), "{said}");
    assert!(said.contains("help: write a folder that this user can read"), "{said}");
}

fn wsray_test(directory: &Path) -> String {
    let mut command = Command::new(support::node::wsray());
    let output = command.args(["test", "-c", "config.json"]).current_dir(directory).output().unwrap();
    assert_eq!(output.status.code(), Some(23));
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
