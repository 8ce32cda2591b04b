//! Every file in `examples/` is accepted, and every pair of them carries traffic as it stands.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use support::{
    apps, front, keep_private,
    node::{self, Client, Kind, Node, missing, peer},
    origin::Origin,
    skip, temporary_directory,
};

/// A copy of `examples/` with the certificate that its README has the user make.
fn copy() -> PathBuf {
    let to = temporary_directory("examples");
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
    // nginx is not installed here: no directories of its own, and one process, so that none outlives the test.
    let nginx = fs::read_to_string(to.join("nginx.conf")).unwrap();
    let paths =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|name| format!("{name}_temp_path {name};"));
    let nginx = nginx.replacen("daemon off;", "daemon off; master_process off;", 1);
    fs::write(to.join("nginx.conf"), nginx.replacen("http {", &format!("http {{ {}", paths.join(" ")), 1))
        .unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(to.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(to.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::write(to.join("both.pem"), made.cert.pem() + &made.signing_key.serialize_pem()).unwrap();
    for entry in fs::read_dir(&to).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json" || extension == "pem") {
            keep_private(&path);
        }
    }
    to
}

fn configurations(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "json"))
        .collect();
    names.sort();
    assert!(names.len() >= 9, "{names:?}");
    names
}

fn program(name: &str, mut command: Command, directory: &Path, ports: &[u16]) -> Node {
    command.current_dir(directory);
    let log = temporary_directory(name);
    Node::start_program(name, command, log, ports)
}

fn wsray(directory: &Path, name: &str) -> Node {
    let config: serde_json::Value = serde_json::from_slice(&fs::read(directory.join(name)).unwrap()).unwrap();
    let ports =
        config["inbounds"].as_array().unwrap().iter().map(|i| port_of(&i["port"])).collect::<Vec<_>>();
    let mut command = Command::new(node::wsray());
    command.args(["run", "-c", name]);
    program(name, command, directory, &ports)
}

fn port_of(value: &serde_json::Value) -> u16 {
    value.as_u64().unwrap().try_into().unwrap()
}

#[test]
fn every_example_is_accepted() {
    let directory = copy();
    for name in configurations(&directory) {
        let output =
            Command::new(node::wsray()).args(["test", "-c", &name]).current_dir(&directory).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{name}: {text}{errors}");
        assert_eq!(text.trim_end().lines().last(), Some("Configuration OK."), "{name}: {text}{errors}");
        // Servers of the user document have no outbounds; that they serve all the same is told.
        let warns = |line: &&str| line.contains("warning") && !line.contains("there are no outbounds");
        assert_eq!(errors.lines().chain(text.lines()).find(warns), None, "{name}");
    }
}

/// One after the other: their ports are fixed.
#[test]
fn every_pair_of_examples_carries_traffic() {
    if let Some(reason) = missing("nginx").or_else(|| missing("haproxy")) {
        skip!(reason);
    }
    let origin = Origin::start();
    let directory = copy();
    let names = configurations(&directory);
    let mut served = Vec::new();
    for client in names.iter().filter(|name| name.ends_with("-client.json")) {
        let server = match client.as_str() {
            "example-1-client.json" => "example-3-server.json".to_owned(),
            other => other.replace("-client", "-server"),
        };
        let _server = wsray(&directory, &server);
        let _front = match client.as_str() {
            "front-end-client.json" | "example-5-client.json" => {
                let mut command = Command::new(peer("nginx"));
                command.args(["-p", ".", "-e", "stderr", "-c", "nginx.conf"]);
                Some(program("nginx", command, &directory, &[12447]))
            }
            "proxy-protocol-client.json" => {
                let mut command = Command::new(peer("haproxy"));
                command.args(["-db", "-f", "haproxy.cfg"]);
                Some(program("haproxy", command, &directory, &[12449]))
            }
            "passthrough-client.json" => {
                let mut command = Command::new(peer("haproxy"));
                command.args(["-db", "-f", "haproxy-sni.cfg"]);
                Some(program("haproxy", command, &directory, &[12451]))
            }
            _ => None,
        };
        let config: serde_json::Value =
            serde_json::from_slice(&fs::read(directory.join(client)).unwrap()).unwrap();
        let _client = wsray(&directory, client);
        let port = port_of(&config["inbounds"][0]["port"]);
        let echoed =
            apps::socks5(port, origin.address.into(), None).and_then(|stream| apps::check_echo(&stream));
        assert!(echoed.is_ok(), "{client}: {echoed:?}");
        let page = apps::http_get(port + 1, origin.address.into(), None);
        assert!(page.as_ref().is_ok_and(|page| page.starts_with("HTTP/1.1 200")), "{client}: {page:?}");
        served.extend([client.clone(), server]);
    }
    served.push(behind_haproxy(&directory, &origin));
    // In a network namespace: tests/ways/door.rs.
    served.push("transparent.json".to_owned());
    let left: Vec<_> = names.iter().filter(|name| !served.contains(name)).collect();
    assert!(left.is_empty(), "not tried: {left:?}");
}

/// Example 6 is a server alone.
fn behind_haproxy(directory: &Path, origin: &Origin) -> String {
    let name = "example-6-server.json";
    let _server = wsray(directory, name);
    let haproxy = front::haproxy(11448, "send-proxy");
    let link = support::config::Link {
        id: "b831381d-6324-4d53-ad4f-8cda48b30811".to_owned(),
        path: "/ws".to_owned(),
        ..support::config::Link::default()
    };
    let client = Client::start(Kind::Wsray, &link, haproxy.port);
    let echoed = apps::socks5(client.socks, origin.address.into(), None).and_then(|s| apps::check_echo(&s));
    assert!(echoed.is_ok(), "{name}: {echoed:?}");
    name.to_owned()
}
