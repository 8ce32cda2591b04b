//! The command line: what it prints, what it returns, how it starts and stops.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{
    apps::{self},
    config::{self, AppPorts, Link},
    node::{self, Client, Kind, Pair},
    origin::Origin,
    temporary_directory,
};

/// What V2Ray 4 returns for a configuration it refuses; service files name it.
const REFUSED: i32 = 23;

fn run(arguments: &[&str]) -> Output {
    finish(command(arguments).spawn().unwrap(), b"")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(node::wsray());
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env_remove("V2RAY_LOCATION_CONFIG")
        .env_remove("V2RAY_LOCATION_ASSET");
    command
}

/// Feeds standard input and waits, killing what takes longer than a minute.
fn finish(mut child: Child, input: &[u8]) -> Output {
    drop(child.stdin.take().unwrap().write_all(input));
    let ended = support::within(Duration::from_mins(1), || child.try_wait().unwrap());
    if ended.is_none() {
        drop(child.kill());
    }
    let output = child.wait_with_output().unwrap();
    assert!(ended.is_some(), "still running: {}", all_of(&output));
    output
}

fn all_of(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn write(name: &str, config: &Value) -> PathBuf {
    let path = temporary_directory("cli").join(name);
    fs::write(&path, config.to_string()).unwrap();
    path
}

fn good() -> Value {
    config::server(Kind::Wsray, &Link::default(), support::free_port())
}

fn check_ok(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", all_of(output));
    assert_eq!(text.trim_end().lines().last(), Some("Configuration OK."), "{}", all_of(output));
}

#[test]
fn a_good_configuration_passes_in_every_spelling() {
    let path = write("config.json", &good());
    let file = path.to_str().unwrap();
    for arguments in [
        &["test", "-c", file][..],
        &["test", "-config", file],
        &["test", "--config", file],
        &["-test", "-config", file],
        &["-test", "-c", file],
        &["-config", file, "-test"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", all_of(&output));
        check_ok(&output);
    }
}

#[test]
fn a_configuration_comes_from_standard_input() {
    let text = good().to_string();
    check_ok(&finish(command(&["test", "-c", "stdin:"]).spawn().unwrap(), text.as_bytes()));
    let empty = temporary_directory("empty");
    check_ok(&finish(command(&["test"]).current_dir(&empty).spawn().unwrap(), text.as_bytes()));
}

#[test]
fn a_configuration_is_found_here_and_where_the_environment_says() {
    let path = write("config.json", &good());
    let directory = path.parent().unwrap();
    check_ok(&finish(command(&["test"]).current_dir(directory).spawn().unwrap(), b""));
    let elsewhere = temporary_directory("elsewhere");
    let child = command(&["test"]).current_dir(&elsewhere).env("V2RAY_LOCATION_CONFIG", directory).spawn();
    check_ok(&finish(child.unwrap(), b""));
}

/// Where the value stands and what to write, within a second, for `test` and `run` alike.
#[test]
fn a_configuration_that_cannot_work_is_refused_alike_by_test_and_run() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 9] = [
        ("security", |c| c["inbounds"][0]["streamSettings"]["security"] = json!("tsl")),
        ("network", |c| c["inbounds"][0]["streamSettings"]["network"] = json!("wss")),
        ("protocol", |c| c["inbounds"][0]["protocol"] = json!("vmes")),
        ("id", |c| c["inbounds"][0]["settings"]["clients"][0]["id"] = json!("uuid")),
        ("port", |c| c["inbounds"][0]["port"] = json!(70_000)),
        ("maxEarlyData", |c| c["inbounds"][0]["streamSettings"]["wsSettings"]["maxEarlyData"] = json!(-1)),
        ("certificates", |c| c["inbounds"][0]["streamSettings"]["security"] = json!("tls")),
        ("tag", |c| {
            c["inbounds"][0]["port"] = json!(1);
            let mut other = c["inbounds"][0].clone();
            other["port"] = json!(2);
            c["inbounds"].as_array_mut().unwrap().push(other);
        }),
        ("outboundTag", |c| {
            c["routing"] = json!({ "rules": [{ "type": "field", "inboundTag": ["vmess-in"], "outboundTag": "nowhere" }] });
        }),
    ];
    for (key, change) in cases {
        let mut config = good();
        change(&mut config);
        let path = temporary_directory("refused").join("config.json");
        fs::write(&path, serde_json::to_string_pretty(&config).unwrap()).unwrap();
        for mode in ["test", "run"] {
            let start = Instant::now();
            let output = run(&[mode, "-c", path.to_str().unwrap()]);
            let text = all_of(&output);
            assert_eq!(output.status.code(), Some(REFUSED), "{mode}, {key}: {text}");
            assert!(start.elapsed() < Duration::from_secs(1), "{mode}, {key}: took {:?}", start.elapsed());
            assert!(text.contains("config.json:"), "{mode}, {key}: no place: {text}");
            assert!(text.contains(key), "{mode}: the key {key} is not named: {text}");
            assert!(text.contains("help: "), "{mode}, {key}: no help: {text}");
            assert!(!text.contains("Configuration OK."), "{mode}, {key}: {text}");
            assert!(!text.contains("panicked"), "{mode}, {key}: {text}");
        }
    }
}

#[test]
fn text_that_is_no_json_is_refused_with_its_place() {
    let path = temporary_directory("syntax").join("config.json");
    for text in ["", "{\n  \"inbounds\": [\n", "[]", "{ \"inbounds\": }", "\u{0}\u{1}", "{\"a\": 'b'"] {
        fs::write(&path, text).unwrap();
        let output = run(&["test", "-c", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(REFUSED), "{text:?}: {}", all_of(&output));
        assert!(all_of(&output).contains("config.json:"), "{text:?}: {}", all_of(&output));
        assert!(!all_of(&output).contains("panicked"), "{text:?}: {}", all_of(&output));
    }
    let output = run(&["test", "-c", "no such file.json"]);
    assert_eq!(output.status.code(), Some(REFUSED), "{}", all_of(&output));
    assert!(all_of(&output).contains("no such file.json"), "{}", all_of(&output));
}

#[test]
fn comments_and_trailing_commas_are_read() {
    let mut text = good().to_string();
    text.insert_str(1, "// a comment\n/* and\nanother */ # and one\n");
    text.insert(text.len() - 1, ',');
    let path = temporary_directory("comments").join("config.json");
    fs::write(&path, text).unwrap();
    check_ok(&run(&["test", "-c", path.to_str().unwrap()]));
}

#[test]
fn an_unknown_key_is_named_with_the_nearest_known_one() {
    let mut config = good();
    config["inbounds"][0]["streamSettings"]["wsSettings"]["paht"] = json!("/other");
    let output = run(&["test", "-c", write("config.json", &config).to_str().unwrap()]);
    check_ok(&output);
    let text = all_of(&output);
    assert!(text.contains("paht") && text.contains("path") && text.contains("config.json:"), "{text}");
}

#[test]
fn a_server_without_outbounds_serves_and_a_client_without_is_refused() {
    let link = Link::default();
    let server = node::Server::start_with(Kind::Wsray, &link, |config| {
        config.as_object_mut().unwrap().remove("outbounds");
    });
    let client = Client::start(Kind::Wsray, &link, server.port);
    let origin = Origin::start();
    apps::check_echo(&apps::socks5(client.socks, origin.address.into(), None).unwrap()).unwrap();
    server.node.log_line(&["freedom"]);

    let mut config = config::client(Kind::Wsray, &link, AppPorts { socks: 1, http: 2 }, 3);
    config.as_object_mut().unwrap().remove("outbounds");
    let output = run(&["test", "-c", write("config.json", &config).to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(REFUSED), "{}", all_of(&output));
    assert!(all_of(&output).contains("outbounds"), "{}", all_of(&output));
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let path = write("config.json", &config::server(Kind::Wsray, &Link::default(), port));
    let output = run(&["run", "-c", path.to_str().unwrap()]);
    assert_ne!(output.status.code(), Some(0));
    assert!(output.status.code().is_some(), "ended by a signal");
    let text = all_of(&output);
    assert!(text.contains(&port.to_string()) && !text.contains("panicked"), "{text}");
}

#[test]
fn a_port_another_wsray_has_is_an_error_too() {
    let server = node::Server::start(Kind::Wsray, &Link::default());
    let path = write("config.json", &config::server(Kind::Wsray, &Link::default(), server.port));
    let output = run(&["run", "-c", path.to_str().unwrap()]);
    assert_ne!(output.status.code(), Some(0), "{}", all_of(&output));
    assert!(all_of(&output).contains(&server.port.to_string()), "{}", all_of(&output));
}

#[test]
fn sigterm_and_sigint_end_it_cleanly_within_five_seconds() {
    let origin = Origin::start();
    for signal in ["TERM", "INT"] {
        let (mut server, mut client) =
            Pair { client: Kind::Wsray, server: Kind::Wsray }.start(&Link::default());
        let stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
        apps::check_echo(&stream).unwrap();
        for node in [&mut client.node, &mut server.node] {
            node.signal(signal);
            let status = node.wait(Duration::from_secs(5)).expect("ended within 5 s");
            assert_eq!(status.code(), Some(0), "{signal}: {status}");
        }
    }
}

#[test]
fn version_tells_the_version_of_the_package() {
    for arguments in [&["version"][..], &["-version"], &["--version"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", all_of(&output));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("wsray") && text.contains(env!("CARGO_PKG_VERSION")), "{arguments:?}: {text}");
    }
}

#[test]
fn uuid_prints_a_new_id_every_time() {
    let ids: Vec<String> =
        (0..2).map(|_| String::from_utf8_lossy(&run(&["uuid"]).stdout).trim().to_owned()).collect();
    assert_ne!(ids[0], ids[1]);
    for id in ids {
        let groups: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12], "{id}");
        assert!(id.chars().all(|c| c == '-' || c.is_ascii_hexdigit()), "{id}");
        // RFC 9562 section 5.4: version 4, variant 10.
        assert!(id.as_bytes()[14] == b'4' && b"89ab".contains(&id.as_bytes()[19]), "{id}");
    }
}

#[test]
fn demo_checks_itself_and_ends_when_asked_to() {
    let output = run(&["demo", "--once"]);
    assert_eq!(output.status.code(), Some(0), "{}", all_of(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("handshake") && text.contains("MiB/s"),
        "it tells what it did: {}",
        all_of(&output)
    );
}

#[test]
fn demo_serves_the_line_it_prints() {
    let directory = temporary_directory("demo");
    let mut child =
        command(&["demo"]).stdout(fs::File::create(directory.join("log")).unwrap()).spawn().unwrap();
    let line = support::within(Duration::from_mins(1), || {
        let text = fs::read_to_string(directory.join("log")).unwrap_or_default();
        text.lines().find(|line| line.contains("curl ")).map(str::to_owned)
    });
    let answer = line.as_ref().map(|line| {
        let start = line.find("curl ").unwrap();
        let curl = format!("{} --silent --show-error --max-time 10", &line[start..]);
        Command::new("sh").args(["-c", &curl]).output().unwrap()
    });
    drop(child.kill());
    drop(child.wait());
    assert!(line.is_some(), "no line with curl");
    let answer = answer.unwrap();
    if answer.status.code() == Some(127) {
        support::skip!("curl is not here");
    }
    assert!(answer.status.success() && !answer.stdout.is_empty(), "{line:?}: {}", all_of(&answer));
}

#[test]
fn a_service_with_few_files_may_open_as_many_as_the_system_allows() {
    let directory = temporary_directory("files");
    let config = directory.join("config.json");
    fs::write(&config, r#"{ "inbounds": [], "outbounds": [{ "protocol": "freedom" }] }"#).unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -Sn 256; exec \"$0\" run -c \"$1\""])
        .args([node::wsray(), config])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // "Max open files", soft limit, hard limit, unit.
    let limits = || -> Option<(String, String)> {
        let text = fs::read_to_string(format!("/proc/{}/limits", child.id())).ok()?;
        let line = text.lines().find(|line| line.starts_with("Max open files"))?;
        let mut columns = line.split_whitespace().skip(3).map(str::to_owned);
        Some((columns.next()?, columns.next()?))
    };
    let raised = support::within(Duration::from_secs(10), || limits().filter(|(soft, hard)| soft == hard));
    drop(child.kill());
    drop(child.wait());
    assert!(raised.is_some_and(|(soft, _)| soft != "256"));
}

#[test]
fn an_unknown_command_is_refused_with_usage() {
    let output = run(&["fly"]);
    assert_eq!(output.status.code(), Some(2), "{}", all_of(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Usage"), "{}", all_of(&output));
}

#[test]
fn log_files_are_written_where_the_configuration_says() {
    let directory = temporary_directory("logs");
    let link = Link::default();
    let server = node::Server::start_with(Kind::Wsray, &link, |config| {
        config["log"] = json!({ "access": directory.join("access.log"), "error": directory.join("error.log"),
            "loglevel": "info" });
    });
    let client = Client::start(Kind::Wsray, &link, server.port);
    let origin = Origin::start();
    apps::check_echo(&apps::socks5(client.socks, origin.address.into(), None).unwrap()).unwrap();
    let line = support::eventually(|| {
        read(&directory.join("access.log")).lines().find(|line| line.contains("accepted")).map(str::to_owned)
    });
    let line = line.expect("an access line");
    // V2Ray's shape, which panels and fail2ban read.
    assert!(line.contains(&format!(" accepted tcp:{} ", origin.address)), "{line}");
    assert!(line.contains(" 127.0.0.1:") && line.ends_with("email: user@example.test"), "{line}");
    assert!(!read(&directory.join("error.log")).is_empty());
}

fn read(path: &Path) -> String {
    let mut text = String::new();
    if let Ok(mut file) = fs::File::open(path) {
        drop(file.read_to_string(&mut text));
    }
    text
}

/// A configuration of its own in a folder that everybody may enter, and what is told of it, the program's own lines left out.
fn told_about(mode: &str, config: &Value, permissions: u32, key: Option<u32>) -> Vec<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let folder = std::env::temp_dir().join(format!("wsray-{:x}", support::random()));
    fs::create_dir(&folder).unwrap();
    chmod(&folder, 0o755);
    let mut config = config.clone();
    if let Some(permissions) = key {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        chmod(&key, permissions);
        let stream = &mut config["inbounds"][0]["streamSettings"];
        stream["security"] = json!("tls");
        stream["tlsSettings"] =
            json!({ "certificates": [{ "certificateFile": certificate, "keyFile": key }] });
    }
    let path = folder.join("config.json");
    fs::write(&path, config.to_string()).unwrap();
    chmod(&path, permissions);
    let mut child = command(&[mode, "-c", "config.json"]).current_dir(&folder).spawn().unwrap();
    let output = if mode == "run" {
        // It has told all before it says that it has started.
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        assert!(lines.any(|line| line.unwrap().contains("started")), "it never started");
        child.kill().unwrap();
        child.wait_with_output().unwrap()
    } else {
        finish(child, b"")
    };
    fs::remove_dir_all(&folder).unwrap();
    String::from_utf8(output.stderr).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn files_with_secrets_that_everybody_can_read_are_told_once_by_test_and_run() {
    let mut config = good();
    config["outbounds"] = json!([{ "protocol": "blackhole" }]);
    let another = json!({ "id": support::random_id() });
    config["inbounds"][0]["settings"]["clients"].as_array_mut().unwrap().push(another);
    for mode in ["test", "run"] {
        let told = told_about(mode, &config, 0o644, Some(0o644));
        let [open, chmod, key, of_key] = &told[..] else { panic!("{mode}: {told:#?}") };
        assert!(open.starts_with("warning: config.json:1:"), "{open}");
        assert!(
            open.ends_with(
                "clients[0]: everybody on this machine can read this configuration with its ids and passwords"
            ),
            "{open}"
        );
        assert!(chmod.starts_with("  help: chmod 600 config.json"), "{chmod}");
        assert!(
            key.ends_with("certificates[0].keyFile: everybody on this machine can read this private key"),
            "{key}"
        );
        assert!(of_key.starts_with("  help: chmod 600 /") && of_key.contains("/key.pem"), "{of_key}");
        let told = told_about(mode, &config, 0o640, Some(0o600));
        assert!(told.is_empty(), "{mode}: {told:#?}");
    }
    let secretless = json!({
        "inbounds": [{ "protocol": "socks", "listen": "127.0.0.1", "port": support::free_port() }],
        "outbounds": [{ "protocol": "freedom" }],
    });
    let told = told_about("test", &secretless, 0o644, None);
    assert!(told.is_empty(), "{told:#?}");
}

#[test]
fn an_open_proxy_is_told_by_test_and_run_and_the_way_to_private_targets_by_test_alone() {
    let mut config = good();
    config["inbounds"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "protocol": "http", "port": support::free_port() }));
    let open = "can use this proxy: it asks for no password";
    let test = told_about("test", &config, 0o600, None);
    let [proxy, _, note, help] = &test[..] else { panic!("{test:#?}") };
    assert!(
        proxy.starts_with("warning: config.json:1:")
            && proxy.contains("inbounds[1]")
            && proxy.ends_with(open),
        "{proxy}"
    );
    assert!(note.starts_with("note: config.json:1:") && note.contains("outbounds[0]"), "{note}");
    assert!(
        help.contains("\"finalRules\": [{ \"action\": \"block\", \"ip\": [\"geoip:private\"] }]"),
        "{help}"
    );
    let run = told_about("run", &config, 0o600, None);
    assert_eq!(run, test[..2], "the note is for those who ask");
}
