//! `wsray demo`: a client and a server in one process on loopback, tried out for real: SOCKS5 into VMess over
//! WebSocket over TLS, out to a small web server of our own.

mod origin;
mod trial;

use std::{
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::task::JoinHandle;
use wsray_config::Source;

use crate::{
    app::{App, AssetFolders, Lasting, Running, STOP_TIMEOUT},
    cli::{Afterwards, Demo, Exit, uuid_text},
    observe::{Level, Log, LogSettings, Memory, Output},
};

/// Why the demonstration failed.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs it: tries everything, tells what happened, and serves until stopped or exits.
pub fn run(demo: Demo) -> Exit {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let exit = match runtime.block_on(try_and_serve(demo)) {
        Ok(()) => Exit::Done,
        Err(failure) => fail(&failure),
    };
    runtime.shutdown_timeout(STOP_TIMEOUT);
    exit
}

fn fail(failure: &Failure) -> Exit {
    let _ = writeln!(io::stderr().lock(), "wsray demo failed: {failure}");
    Exit::Failed
}

/// Prints a line; a reader who has gone has seen enough.
fn say(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

async fn try_and_serve(demo: Demo) -> Result<(), Failure> {
    let setup = Setup::new(demo.socks_port)?;
    say(format_args!("wsray demo: client and server in one process, on loopback only"));
    say(format_args!("  application -> 127.0.0.1:{} (SOCKS5 and HTTP) -> wsray client", setup.proxy.port()));
    say(format_args!(
        "    -> wss://localhost:{}{PATH} (VMess, TLS, WebSocket) -> wsray server",
        setup.server.port()
    ));
    say(format_args!("    -> http://{} (a web server of this demo)", setup.origin));

    let heard = Memory::default();
    let tried = {
        let _running = setup.start(&log_into(&heard)?)?;
        trial::run(setup.proxy, setup.origin).await?
    };
    tell(&tried, &heard.text());
    if demo.afterwards == Afterwards::Exit {
        say(format_args!("\nwithout --once it would go on serving, for you to try:\n  {}", setup.curl()));
        return Ok(());
    }
    let log = Log::open(LogSettings::default())?;
    let mut again = setup.start(&log);
    // The trial's sockets are closed in the background.
    for _ in 0..RESTARTS {
        if again.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        again = setup.start(&log);
    }
    let _running = again?;
    say(format_args!("\nserving until you press Ctrl-C; try it from another terminal:\n  {}", setup.curl()));
    stopped().await?;
    Ok(())
}

fn log_into(memory: &Memory) -> Result<Log, Failure> {
    let error = Output::Memory(memory.clone());
    Ok(Log::open(LogSettings { error, level: Level::Debug, ..LogSettings::default() })?)
}

fn tell(tried: &trial::Tried, log: &str) {
    let how = log.lines().find_map(|line| line.split_once("outbound: connected ").map(|(_, how)| how));
    say(format_args!("\nhandshake   {}", how.unwrap_or("(not seen in the log)")));
    say(format_args!(
        "first byte  {:.1} ms after the request, over {} new tunnels (median)",
        tried.first_byte_ms, tried.tunnels
    ));
    say(format_args!(
        "data        {} MiB up and {} MiB down at once, every byte checked: {:.0} MiB/s each way",
        tried.mebibytes, tried.mebibytes, tried.mebibytes_per_second
    ));
    say(format_args!("half-close  the answer after our FIN came whole ({} bytes)", tried.after_fin));
}

async fn stopped() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

/// The path of the demonstration's WebSocket.
const PATH: &str = "/demo";

/// Everything that is made up for one run.
struct Setup {
    proxy: SocketAddr,
    server: SocketAddr,
    origin: SocketAddr,
    id: String,
    certificate: CertifiedKey<rcgen::KeyPair>,
    _origin: Task,
}

/// A task that ends when this is dropped.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Setup {
    fn new(socks_port: Option<u16>) -> Result<Self, Failure> {
        let origin = tokio::net::TcpListener::from_std({
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            listener
        })?;
        let proxy = match socks_port {
            Some(port) => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            None => free_port()?,
        };
        Ok(Self {
            proxy,
            server: free_port()?,
            origin: origin.local_addr()?,
            id: uuid_text(rand::random()),
            certificate: generate_simple_self_signed(vec!["localhost".to_owned()])?,
            _origin: Task(tokio::spawn(origin::serve(origin))),
        })
    }

    /// Starts server and client from configurations as anybody would write them.
    fn start(&self, log: &Log) -> Result<Vec<Running>, Failure> {
        let mut both = Vec::new();
        for (name, text) in [("demo server", self.server_config()), ("demo client", self.client_config())] {
            let config = wsray_config::load(&[Source::new(name, &text)], &wsray_config::Options::default())
                .map_err(|wrong| first(&wrong))?
                .config;
            let lasting = Lasting::new();
            let app = App::build(&config, &AssetFolders::default(), log, &lasting);
            let mut running = Running::new(&lasting, Vec::new());
            running.replace(&app.map_err(|wrong| first(&wrong))?).map_err(|wrong| first(&wrong))?;
            both.push(running);
        }
        Ok(both)
    }

    fn server_config(&self) -> String {
        let (certificate, key) = (self.certificate.cert.pem(), self.certificate.signing_key.serialize_pem());
        format!(
            r#"{{
  "inbounds": [{{
    "listen": "127.0.0.1", "port": {port}, "protocol": "vmess",
    "settings": {{ "clients": [{{ "id": "{id}" }}] }},
    "streamSettings": {{
      "network": "ws", "security": "tls",
      "wsSettings": {{ "path": "{PATH}", "maxEarlyData": 2048, "earlyDataHeaderName": "Sec-WebSocket-Protocol" }},
      "tlsSettings": {{ "certificates": [{{ "certificate": {certificate}, "key": {key} }}] }}
    }}
  }}],
  "outbounds": [{{ "protocol": "freedom" }}]
}}"#,
            port = self.server.port(),
            id = self.id,
            certificate = lines(&certificate),
            key = lines(&key),
        )
    }

    fn client_config(&self) -> String {
        format!(
            r#"{{
  "inbounds": [{{ "listen": "127.0.0.1", "port": {proxy}, "protocol": "mixed", "settings": {{ "udp": true }} }}],
  "outbounds": [{{
    "protocol": "vmess",
    "settings": {{ "vnext": [{{ "address": "127.0.0.1", "port": {port}, "users": [{{ "id": "{id}" }}] }}] }},
    "streamSettings": {{
      "network": "ws", "security": "tls",
      "wsSettings": {{ "path": "{PATH}", "maxEarlyData": 2048, "earlyDataHeaderName": "Sec-WebSocket-Protocol" }},
      "tlsSettings": {{
        "serverName": "localhost",
        "certificates": [{{ "usage": "verify", "certificate": {certificate} }}]
      }}
    }}
  }}]
}}"#,
            proxy = self.proxy.port(),
            port = self.server.port(),
            id = self.id,
            certificate = lines(&self.certificate.cert.pem()),
        )
    }

    fn curl(&self) -> String {
        format!("curl --proxy socks5h://{} http://{}/", self.proxy, self.origin)
    }
}

/// PEM text as V2Ray's configuration holds it: a list of lines.
fn lines(pem: &str) -> String {
    let lines: Vec<_> = pem.lines().map(|line| format!("{line:?}")).collect();
    format!("[{}]", lines.join(", "))
}

fn first(wrong: &[wsray_config::Diagnostic]) -> Failure {
    wrong.first().map_or_else(|| "nothing said why".into(), |diagnostic| diagnostic.to_string().into())
}

fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// How often binding the same ports again is tried.
const RESTARTS: usize = 100;

/// How long one step of the trial may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
