//! Front ends: those of `examples/` as their files stand there, and smaller ones that tests change.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::{
    certificate, free_port,
    node::{Node, missing, peer},
    temporary_directory,
};

/// A front end of `examples/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Example {
    Nginx,
    NginxStream,
    Caddy,
    Apache,
    ApacheWstunnel,
    HaproxyHttp,
    HaproxySni,
    /// TCP with the PROXY protocol, in version 2 as the file says.
    HaproxyTcp,
    /// The same in version 1.
    HaproxyTcpV1,
}

impl Example {
    fn program(self) -> &'static str {
        match self {
            Self::Nginx | Self::NginxStream => "nginx",
            Self::Caddy => "caddy",
            Self::Apache | Self::ApacheWstunnel => "apache",
            Self::HaproxyHttp | Self::HaproxySni | Self::HaproxyTcp | Self::HaproxyTcpV1 => "haproxy",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Nginx => "nginx.conf",
            Self::NginxStream => "nginx-stream.conf",
            Self::Caddy => "Caddyfile",
            Self::Apache => "apache.conf",
            Self::ApacheWstunnel => "apache-wstunnel.conf",
            Self::HaproxyHttp => "haproxy-http.cfg",
            Self::HaproxySni => "haproxy-sni.cfg",
            Self::HaproxyTcp | Self::HaproxyTcpV1 => "haproxy.cfg",
        }
    }

    /// The ports of the file: where it listens, and where wsray does.
    fn ports(self) -> [&'static str; 2] {
        match self {
            Self::NginxStream | Self::HaproxySni => ["12451", "12452"],
            Self::HaproxyTcp | Self::HaproxyTcpV1 => ["12449", "12450"],
            _ => ["12447", "12448"],
        }
    }

    /// Whether the server behind it does the TLS.
    pub fn passes_tls_through(self) -> bool {
        matches!(self, Self::NginxStream | Self::HaproxySni)
    }

    /// Whether nobody does TLS.
    pub fn is_plain(self) -> bool {
        matches!(self, Self::HaproxyTcp | Self::HaproxyTcpV1)
    }

    /// Whether it tells the client's address by the PROXY protocol.
    pub fn sends_proxy_protocol(self) -> bool {
        self.is_plain() || self.passes_tls_through()
    }

    /// Why it cannot be run.
    pub fn missing(self) -> Option<String> {
        missing(self.program())
    }

    /// Starts it in front of `backend`: its file with other ports, and with directories it may write to.
    pub fn start(self, backend: u16) -> Running {
        let (directory, port) = self.prepare(backend);
        let node = Some(self.run(&directory, port));
        Running { example: self, directory, port, node }
    }

    /// `HAProxy` in one process, without a master.
    pub fn start_alone(self, backend: u16) -> Running {
        let (directory, port) = self.prepare(backend);
        let node = Some(self.run_alone(&directory, port, &[]));
        Running { example: self, directory, port, node }
    }

    fn prepare(self, backend: u16) -> (PathBuf, u16) {
        let directory = temporary_directory(self.file());
        let files = certificate::files();
        for (from, to) in
            [(&files.certificate, "cert.pem"), (&files.key, "key.pem"), (&files.both, "both.pem")]
        {
            fs::copy(from, directory.join(to)).unwrap();
        }
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        let port = free_port();
        let mut text = fs::read_to_string(examples.join(self.file())).unwrap();
        for (written, ours) in self.ports().into_iter().zip([port, backend]) {
            assert!(text.contains(written), "{} does not name port {written}", self.file());
            text = text.replace(written, &ours.to_string());
        }
        for other in ["11446", "11447", "12019"] {
            text = text.replace(other, &free_port().to_string());
        }
        text = self.at_home(&text);
        fs::write(directory.join(self.file()), text).unwrap();
        (directory, port)
    }

    /// The file as it must be where the program is not installed.
    fn at_home(self, text: &str) -> String {
        let peers = peer("any").parent().unwrap().parent().unwrap().canonicalize().unwrap();
        let installed = format!("{}/debian/usr/lib/", peers.display());
        let text = text.replace(" /usr/lib/", &format!(" {installed}"));
        let user = |line: &'static str| if is_root() { line } else { "" };
        match self {
            Self::Nginx => {
                let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
                let places = places.map(|name| format!("{name}_temp_path {name};")).join(" ");
                format!(
                    "{}{}",
                    user("user root;\n"),
                    text.replacen("http {", &format!("http {{ {places}"), 1)
                )
            }
            Self::NginxStream => format!("{}{text}", user("user root;\n")),
            Self::Apache | Self::ApacheWstunnel => format!("{text}{}", user("User nobody\nGroup nogroup\n")),
            Self::HaproxyTcpV1 => text.replace("send-proxy-v2", "send-proxy"),
            _ => text,
        }
    }

    fn command(self, directory: &Path) -> Command {
        let mut command = Command::new(peer(self.program()));
        match self.program() {
            "nginx" => command.args(["-p", ".", "-e", "stderr", "-c", self.file()]),
            "caddy" => command.args(["run", "--config", self.file(), "--adapter", "caddyfile"]),
            "apache" => command.args(["-d", ".", "-f", self.file(), "-D", "FOREGROUND"]),
            _ => command.args(["-W", "-db", "-f", self.file()]),
        };
        command.current_dir(directory).env("HOME", directory);
        command
    }

    fn run_alone(self, directory: &Path, port: u16, more: &[&str]) -> Node {
        let mut command = Command::new(peer(self.program()));
        command.args(["-db", "-f", self.file()]).args(more).current_dir(directory);
        Node::start_program(self.program(), command, temporary_directory(self.program()), &[port])
    }

    fn run(self, directory: &Path, port: u16) -> Node {
        let log = temporary_directory(self.program());
        Node::start_program(self.program(), self.command(directory), log, &[port])
    }
}

/// A running front end of `examples/`; it stops in its own way when dropped, so that its workers do, too.
#[derive(Debug)]
pub struct Running {
    example: Example,
    directory: PathBuf,
    pub port: u16,
    node: Option<Node>,
}

impl Running {
    /// Has it read its file again, as its operators do.
    pub fn reload(&self) {
        let node = self.node.as_ref().unwrap();
        match self.example.program() {
            "nginx" => node.signal("HUP"),
            "apache" => node.signal("USR1"),
            "caddy" => {
                // It waits for the connections that the old file's server closes, without a bound of its own.
                let mut command = Command::new("timeout");
                command.arg("20").arg(peer("caddy")).args([
                    "reload",
                    "--force",
                    "--config",
                    self.example.file(),
                    "--adapter",
                    "caddyfile",
                ]);
                let output =
                    command.current_dir(&self.directory).env("HOME", &self.directory).output().unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            }
            _ => node.signal("USR2"),
        }
    }

    /// `haproxy -sf PID`; the old process.
    pub fn take_over(&mut self) -> Node {
        let old = self.node.take().unwrap();
        let pid = old.id().to_string();
        self.node = Some(self.example.run_alone(&self.directory, self.port, &["-sf", &pid]));
        old
    }

    pub fn restart(&mut self) {
        self.stop();
        self.node = Some(self.example.run(&self.directory, self.port));
    }

    fn stop(&mut self) {
        if let Some(mut node) = self.node.take() {
            node.signal("TERM");
            node.wait(Duration::from_secs(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.node.as_mut().is_some_and(Node::is_running) {
            self.stop();
        }
    }
}

/// A running front end.
#[derive(Debug)]
pub struct Front {
    pub node: Node,
    pub port: u16,
}

/// nginx with TLS and the `location /ray` block as V2Ray's documents print it.
pub fn nginx(backend: u16) -> Front {
    nginx_with(backend, "")
}

/// The same with more lines in the block.
pub fn nginx_with(backend: u16, more: &str) -> Front {
    nginx_to(&format!("http://127.0.0.1:{backend}"), more)
}

/// The same in front of this address.
pub fn nginx_to(backend: &str, more: &str) -> Front {
    let port = free_port();
    let directory = temporary_directory("nginx");
    let files = certificate::files();
    let place = directory.display();
    let (certificate, key) = (files.certificate.display(), files.key.display());
    let user = if is_root() { "user root;" } else { "" };
    let config = format!(
        "daemon off; master_process off; {user}
pid {place}/pid;
error_log stderr info;
events {{ worker_connections 512; }}
http {{
    access_log {place}/access.log;
    client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        server_name example.test;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        location /ray {{
            proxy_pass {backend};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection \"upgrade\";
            proxy_set_header Host $host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            {more}
        }}
    }}
}}
"
    );
    let path = directory.join("nginx.conf");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(peer("nginx"));
    command.arg("-e").arg("stderr").arg("-p").arg(&directory).arg("-c").arg(&path);
    Front { node: Node::start_program("nginx", command, directory, &[port]), port }
}

/// nginx with nothing but a folder of files, as a web server of its own.
pub fn nginx_site(root: &std::path::Path) -> Front {
    let port = free_port();
    let directory = temporary_directory("nginx-site");
    let place = directory.display();
    let user = if is_root() { "user root;" } else { "" };
    let config = format!(
        "daemon off; master_process off; {user}
pid {place}/pid;
error_log stderr info;
events {{ worker_connections 512; }}
http {{
    access_log off;
    types {{ text/html html; text/css css; }}
    client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
    server {{ listen 127.0.0.1:{port}; root \"{}\"; }}
}}
",
        root.display()
    );
    let path = directory.join("nginx.conf");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(peer("nginx"));
    command.arg("-e").arg("stderr").arg("-p").arg(&directory).arg("-c").arg(&path);
    Front { node: Node::start_program("nginx-site", command, directory, &[port]), port }
}

/// `HAProxy` passing TCP on with `send`: `send-proxy` or `send-proxy-v2`.
pub fn haproxy(backend: u16, send: &str) -> Front {
    haproxy_to(&format!("127.0.0.1:{backend}"), send)
}

/// The same in front of this address, which may be `unix@/path` or `abns@name`.
pub fn haproxy_to(backend: &str, send: &str) -> Front {
    let port = free_port();
    let directory = temporary_directory("haproxy");
    let config = format!(
        "global
    maxconn 200
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend in
    bind 127.0.0.1:{port}
    default_backend out
backend out
    server wsray {backend} {send}
"
    );
    let path = directory.join("haproxy.cfg");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(peer("haproxy"));
    command.arg("-db").arg("-f").arg(&path);
    Front { node: Node::start_program("haproxy", command, directory, &[port]), port }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}
