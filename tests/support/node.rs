//! wsray and its peers as processes.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use serde_json::Value;

use super::{
    config::{self, AppPorts, Link},
    eventually, free_port, temporary_directory, within,
};

/// A program that can be client or server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Wsray,
    V2Ray434,
    V2Ray445,
    SingBox,
    /// Of feature `local-peers`: what `$WSRAY_V2RAY5` names.
    V2Ray5,
    /// Of feature `local-peers`: what `$WSRAY_XRAY` names.
    Xray,
}

impl Kind {
    fn program(self) -> PathBuf {
        match self {
            Self::Wsray => wsray(),
            Self::V2Ray434 => peer("v2ray-4.34"),
            Self::V2Ray445 => peer("v2ray-4.45"),
            Self::SingBox => peer("sing-box"),
            Self::V2Ray5 => std::env::var_os("WSRAY_V2RAY5").unwrap_or_default().into(),
            Self::Xray => std::env::var_os("WSRAY_XRAY").unwrap_or_default().into(),
        }
    }

    /// What runs it.
    pub fn command(self, config: &Path) -> Command {
        let mut command = Command::new(self.program());
        match self {
            Self::Wsray | Self::V2Ray5 | Self::Xray => command.args(["run", "-c"]).arg(config),
            Self::V2Ray434 | Self::V2Ray445 => command.arg("-config").arg(config),
            Self::SingBox => command.args(["run", "--disable-color", "-c"]).arg(config),
        };
        command
    }
}

/// The program under test: the one cargo built, or `$WSRAY_BIN`.
pub fn wsray() -> PathBuf {
    std::env::var_os("WSRAY_BIN")
        .map_or_else(|| option_env!("CARGO_BIN_EXE_wsray").unwrap_or("wsray").into(), PathBuf::from)
}

/// A program that `scripts/peers` fetched.
pub fn peer(name: &str) -> PathBuf {
    let peers = std::env::var_os("WSRAY_PEERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers"), PathBuf::from);
    peers.join("bin").join(name)
}

/// Why a peer cannot be used.
pub fn missing(name: &str) -> Option<String> {
    (!peer(name).exists()).then(|| format!("{name} is not here: run scripts/peers"))
}

/// Client and server of one test.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    pub client: Kind,
    pub server: Kind,
}

impl Pair {
    pub fn has(self, kind: Kind) -> bool {
        self.client == kind || self.server == kind
    }

    pub fn missing(self) -> Option<String> {
        let absent = [self.client, self.server].into_iter().find(|kind| !kind.program().exists())?;
        Some(format!("{absent:?} is not here: run scripts/peers"))
    }

    /// Server and client over `link`.
    pub fn start(self, link: &Link) -> (Server, Client) {
        let server = Server::start(self.server, link);
        let client = Client::start(self.client, link, server.port);
        (server, client)
    }
}

/// A running server of the far side.
#[derive(Debug)]
pub struct Server {
    pub node: Node,
    pub port: u16,
}

impl Server {
    pub fn start(kind: Kind, link: &Link) -> Self {
        Self::start_with(kind, link, |_| {})
    }

    /// With changes to the generated configuration.
    pub fn start_with(kind: Kind, link: &Link, change: impl FnOnce(&mut Value)) -> Self {
        let port = free_port();
        let mut config = config::server(kind, link, port);
        change(&mut config);
        let node = Node::start(kind, "server", &config.to_string(), &[port]).keeping_secret(&link.id);
        Self { node, port }
    }
}

/// A running client beside the applications.
#[derive(Debug)]
pub struct Client {
    pub node: Node,
    pub socks: u16,
    pub http: u16,
}

impl Client {
    pub fn start(kind: Kind, link: &Link, server: u16) -> Self {
        Self::start_with(kind, link, server, |_| {})
    }

    /// With changes to the generated configuration.
    pub fn start_with(kind: Kind, link: &Link, server: u16, change: impl FnOnce(&mut Value)) -> Self {
        let ports = AppPorts { socks: free_port(), http: free_port() };
        let mut config = config::client(kind, link, ports, server);
        change(&mut config);
        let node = Node::start(kind, "client", &config.to_string(), &[ports.socks, ports.http])
            .keeping_secret(&link.id);
        Self { node, socks: ports.socks, http: ports.http }
    }
}

/// A process with its log. Killed when dropped; then a failing test prints its log, and a passing one checks that
/// wsray kept its secrets.
#[derive(Debug)]
pub struct Node {
    name: String,
    kind: Option<Kind>,
    child: Child,
    directory: PathBuf,
    secrets: Vec<String>,
}

impl Node {
    /// Starts it and waits until it listens on every one of `ports`.
    pub fn start(kind: Kind, role: &str, config: &str, ports: &[u16]) -> Self {
        let directory = temporary_directory(&format!("{kind:?}-{role}"));
        let config_path = directory.join("config.json");
        std::fs::write(&config_path, config).unwrap();
        super::keep_private(&config_path);
        let mut command = kind.command(&config_path);
        command.stdin(Stdio::null());
        Self::spawn(format!("{kind:?} {role}"), Some(kind), command, directory, ports)
    }

    /// Any other program; its output goes to the log in `directory`.
    pub fn start_program(name: &str, mut command: Command, directory: PathBuf, ports: &[u16]) -> Self {
        command.stdin(Stdio::null());
        Self::spawn(name.to_owned(), None, command, directory, ports)
    }

    /// Any other program that gets something as its standard input.
    pub fn start_with_input(name: &str, mut command: Command, directory: PathBuf, input: Stdio) -> Self {
        command.stdin(input);
        Self::spawn(name.to_owned(), None, command, directory, &[])
    }

    fn spawn(
        name: String,
        kind: Option<Kind>,
        mut command: Command,
        directory: PathBuf,
        ports: &[u16],
    ) -> Self {
        let log = File::create(directory.join("log")).unwrap();
        let child = command
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let mut node = Self { name, kind, child, directory, secrets: Vec::new() };
        for &port in ports {
            node.wait_for_port(port);
        }
        node
    }

    fn wait_for_port(&mut self, port: u16) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listening = eventually(|| {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended before it listened on port {port}: {status}", self.name);
            }
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok().map(drop)
        });
        assert!(listening.is_some(), "{} does not listen on port {port}", self.name);
    }

    /// Gives it another configuration for the next time that it reads it.
    pub fn rewrite(&self, config: &Value) {
        // As an editor does it: a new file in the old one's place.
        let fresh = self.directory.join("config.json.new");
        std::fs::write(&fresh, config.to_string()).unwrap();
        std::fs::rename(&fresh, self.config_path()).unwrap();
    }

    pub fn config_path(&self) -> PathBuf {
        self.directory.join("config.json")
    }

    /// Text that must never show in the log.
    pub fn keeping_secret(mut self, secret: &str) -> Self {
        self.secrets.push(secret.to_owned());
        self
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.directory.join("log")).unwrap_or_default()).into_owned()
    }

    /// The first line of the log that holds all of `parts`, waiting for it.
    #[track_caller]
    pub fn log_line(&self, parts: &[&str]) -> String {
        let holds = |line: &&str| parts.iter().all(|part| line.contains(part));
        let found = within(Duration::from_secs(4), || self.log().lines().find(holds).map(str::to_owned));
        found.unwrap_or_else(|| panic!("no line of the log of {} holds all of {parts:?}", self.name))
    }

    /// The log, once `part` stands in it `count` times: it is written behind what it tells of.
    #[track_caller]
    pub fn log_with(&self, count: usize, part: &str) -> String {
        let is_there = || self.log().matches(part).count() >= count;
        let found = within(Duration::from_secs(4), || is_there().then_some(()));
        assert!(found.is_some(), "the log of {} has not {count} times {part:?}", self.name);
        self.log()
    }

    /// Its resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// How many files it has open.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// `TERM` or `INT`, say.
    pub fn signal(&self, signal: &str) {
        let command = format!("kill -{signal} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
    }

    /// How it ended, if it did so in time.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        within(limit, || self.child.try_wait().unwrap())
    }

    /// Its process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    fn check_secrets(&self) {
        if self.kind != Some(Kind::Wsray) {
            return;
        }
        let log = self.log().to_lowercase();
        for secret in &self.secrets {
            assert!(!log.contains(&secret.to_lowercase()), "{} logged a secret: {secret}", self.name);
            let plain = secret.replace('-', "").to_lowercase();
            assert!(!log.contains(&plain), "{} logged a secret: {plain}", self.name);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(60)..];
            #[allow(clippy::print_stdout, reason = "shown with the failure")]
            {
                println!("---- {} ({}):\n{}", self.name, self.directory.display(), last.join("\n"));
            }
            return;
        }
        self.check_secrets();
        drop(std::fs::remove_dir_all(&self.directory));
    }
}
