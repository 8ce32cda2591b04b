//! Front ends: nginx with the block of the documents, `HAProxy` with the PROXY protocol.

use std::process::Command;

use super::{
    certificate, free_port,
    node::{Node, peer},
    temporary_directory,
};

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
