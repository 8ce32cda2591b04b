//! Runs the doctor, and puts things in its way.

use std::{
    io::Read, io::Write, net::Shutdown, net::TcpListener, net::TcpStream, process::Command, process::Output,
    time::Duration,
};

use serde_json::Value;

use crate::support::{
    config::{self, AppPorts, Link},
    free_port, front,
    node::{self, Kind, Node, peer},
    temporary_directory,
};

/// What the doctor said.
pub(super) struct Report {
    pub(super) exit: i32,
    pub(super) json: Value,
    pub(super) text: String,
}

impl Report {
    /// Step and code of every cause, in order.
    pub(super) fn causes(&self) -> Vec<(String, String)> {
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

    pub(super) fn status(&self, name: &str) -> &str {
        let steps = self.json["checks"][0]["steps"].as_array().unwrap();
        steps.iter().find(|step| step["step"] == name).map_or("", |step| step["status"].as_str().unwrap())
    }

    /// It failed at this step, first of all for this reason.
    #[track_caller]
    pub(super) fn names(&self, step: &str, code: &str) -> &Self {
        let first = self.causes().first().cloned();
        assert_eq!(first, Some((step.to_owned(), code.to_owned())), "{}", self.text);
        assert_eq!(self.exit, 1, "{}", self.text);
        self
    }

    /// It works, but something is worth a warning.
    #[track_caller]
    pub(super) fn warns(&self, step: &str, code: &str) -> &Self {
        assert!(self.causes().contains(&(step.to_owned(), code.to_owned())), "{}", self.text);
        assert_eq!((self.exit, self.status(step)), (0, "warn"), "{}", self.text);
        self
    }

    #[track_caller]
    pub(super) fn is_well(&self) {
        assert_eq!((self.exit, self.causes()), (0, vec![]), "{}", self.text);
    }

    /// The first cure is for this place and holds this text.
    #[track_caller]
    pub(super) fn writes(&self, place: &str, text: &str) {
        let steps = self.json["checks"][0]["steps"].as_array().unwrap();
        let cause = steps.iter().find_map(|step| step["causes"].get(0)).unwrap();
        let cures = cause["cures"].as_array().unwrap();
        let cure =
            cures.iter().find(|cure| cure["where"] == place).unwrap_or_else(|| panic!("{}", self.text));
        assert!(cure["write"].to_string().contains(text), "{}", self.text);
    }
}

pub(super) fn doctor(config: &Value, more: &[&str]) -> Output {
    let path = temporary_directory("doctor").join("config.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let output = Command::new(node::wsray()).args(["doctor", "-c"]).arg(&path).args(more).output().unwrap();
    drop(std::fs::remove_dir_all(path.parent().unwrap()));
    output
}

pub(super) fn examine_with(config: &Value, more: &[&str]) -> Report {
    let output = doctor(config, &[&["--json"], more].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let both = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {both}"));
    Report { exit: output.status.code().unwrap(), json, text: both }
}

pub(super) fn examine(config: &Value) -> Report {
    examine_with(config, &[])
}

/// A client's configuration for a server at `port`.
pub(super) fn client(link: &Link, port: u16) -> Value {
    config::client(Kind::Wsray, link, AppPorts { socks: 1080, http: 1081 }, port)
}

pub(super) fn settings(config: &mut Value) -> &mut Value {
    &mut config["outbounds"][0]["streamSettings"]
}

/// nginx with one server block; `PORT` in it becomes the port.
pub(super) fn nginx(server: &str) -> front::Front {
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

pub(super) fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

pub(super) const UPGRADE: &str = "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
    proxy_set_header Connection \"upgrade\"; proxy_set_header Host $host;";

/// Any program with one port; `PORT` in its configuration becomes that.
pub(super) fn program(name: &str, file: &str, config: &str, arguments: &[&str]) -> front::Front {
    let port = free_port();
    let directory = temporary_directory(name);
    let path = directory.join(file);
    std::fs::write(&path, config.replace("PORT", &port.to_string())).unwrap();
    let mut command = Command::new(peer(name));
    command.args(arguments).arg(&path).env("HOME", &directory).env("XDG_DATA_HOME", &directory);
    front::Front { node: Node::start_program(name, command, directory, &[port]), port }
}

pub(super) fn haproxy(sections: &str) -> front::Front {
    let defaults = "global\n    maxconn 200\ndefaults\n    timeout connect 5s\n    timeout client 30s\n    timeout server 30s\n";
    program("haproxy", "haproxy.cfg", &format!("{defaults}{sections}\n"), &["-db", "-f"])
}

pub(super) fn caddy(site: &str) -> front::Front {
    let config = format!("{{\n    admin off\n    auto_https off\n}}\n{site}\n");
    program("caddy", "Caddyfile", &config, &["run", "--adapter", "caddyfile", "--config"])
}

/// Apache with one virtual host and these modules.
pub(super) fn apache(host: &str, modules: &[&str]) -> front::Front {
    let port = free_port();
    let directory = temporary_directory("apache");
    let peers = peer("any").parent().unwrap().parent().unwrap().canonicalize().unwrap();
    let installed = peers.join("debian/usr/lib/apache2/modules");
    let module = |name: &&str| format!("LoadModule {name}_module {}/mod_{name}.so\n", installed.display());
    let modules: String = ["mpm_event", "authz_core"].iter().chain(modules).map(module).collect();
    let user = if is_root() { "User nobody\nGroup nogroup\n" } else { "" };
    let place = directory.display();
    let config = format!(
        "ServerName localhost\nPidFile {place}/apache.pid\nErrorLog /dev/stderr\nMutex pthread\n{user}{modules}\
         Listen 127.0.0.1:{port}\n<VirtualHost *:{port}>\n{host}\n</VirtualHost>\n"
    );
    let path = directory.join("apache.conf");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(peer("apache"));
    command.arg("-d").arg(&directory).arg("-f").arg(&path).args(["-D", "FOREGROUND"]);
    front::Front { node: Node::start_program("apache", command, directory, &[port]), port }
}

/// Checks each in a thread of its own, as what is checked waits a lot.
pub(super) fn at_once<T: Copy + Send, const N: usize>(items: [T; N], check: impl Fn(T) + Sync) {
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
        $(if let Some(reason) = $crate::support::node::missing($name) { $crate::support::skip!(reason); })+
    };
}

/// Answers every connection with the same bytes once a head has come; its port.
pub(super) fn canned(answer: impl Into<Vec<u8>>) -> u16 {
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

pub(super) fn page(status: &str, headers: &str, body: &str) -> u16 {
    let length = body.len();
    canned(format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    ))
}

/// Passes bytes on to `backend`, the block number `held` that comes back so much `later`.
pub(super) fn slow_relay(backend: u16, later: Duration, held: usize) -> u16 {
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
