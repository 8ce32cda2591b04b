//! `wsray doctor`: goes the way that a client goes, or that a client of this server would go, names the step that
//! fails, its cause, and what to write where.
//!
//! `walk` does it, by means of `probe`; `facts` reads what came and `verdict` judges it, both pure; `tries`
//! changes one thing at a time when a handshake fails; what causes mean and how they are cured stands in
//! [`crate::cause`], which the client's log uses as well.

mod facts;
mod probe;
mod report;
mod server;
mod steps;
#[cfg(test)]
mod tests;
mod tries;
mod tunnel;
mod verdict;
mod walk;

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;
use wsray_config::{ClientStream, Config, InboundProtocol, OutboundProtocol, VmessServer};

use crate::{
    app::{App, STOP_TIMEOUT},
    cli::{Doctor, Exit, ReportForm},
    outbound::{self, OutboundKind},
};
use report::{Check, Status, Step, say};
use walk::Subject;

/// How long one server may take; watching an idle connection comes on top.
const TOTAL: Duration = Duration::from_secs(30);

/// Examines what the configuration names, and tells.
pub fn run(doctor: &Doctor, config: &Config, app: &App) -> Exit {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("wsray doctor: cannot start: {error}"));
            return Exit::Failed;
        }
    };
    let checks = runtime.block_on(examine(doctor, config, app));
    runtime.shutdown_timeout(STOP_TIMEOUT);
    let checks = match checks {
        Ok(checks) => checks,
        Err(nothing) => {
            say(&format!("wsray doctor: {nothing}"));
            return Exit::Usage;
        }
    };
    let failed = checks.iter().filter(|check| check.failed()).count();
    match doctor.form {
        ReportForm::Json => {
            let checks: Vec<_> = checks.iter().map(Check::json).collect();
            say(&json!({ "wsray": env!("CARGO_PKG_VERSION"), "ok": failed == 0, "checks": checks })
                .to_string());
        }
        ReportForm::Text if failed == 0 => say("\nAll is well."),
        ReportForm::Text => say(&format!("\n{failed} of {} examined failed.", checks.len())),
    }
    if failed == 0 { Exit::Done } else { Exit::Failed }
}

async fn examine(doctor: &Doctor, config: &Config, app: &App) -> Result<Vec<Check>, String> {
    let mut checks = Vec::new();
    for (outbound, built) in config.outbounds.iter().zip(app.outbounds()) {
        let (OutboundProtocol::Vmess(vmess), OutboundKind::Vmess(way)) = (&outbound.protocol, &built.kind)
        else {
            continue;
        };
        if doctor.outbound.as_ref().is_some_and(|tag| outbound.tag.as_ref() != Some(tag)) {
            continue;
        }
        for (server, way) in vmess.servers.iter().zip(&way.servers) {
            let hop = outbound.dial.through.as_ref().and_then(|next| config.outbounds.get(next.outbound));
            let through = hop.map(|hop| hop.tag.as_deref().unwrap_or("without a tag"));
            let served = Served { outbound, server, stream: &vmess.stream, through };
            checks.push(examine_server(doctor, &served, way).await);
        }
    }
    if let Some(tag) = doctor.outbound.as_ref().filter(|_| checks.is_empty()) {
        return Err(format!("there is no vmess outbound {tag:?} in this configuration"));
    }
    if doctor.outbound.is_none() {
        for (inbound, built) in config.inbounds.iter().zip(app.inbounds()) {
            if let InboundProtocol::Vmess(vmess) = &inbound.protocol {
                checks.push(server::examine(doctor, inbound, vmess, built).await);
            }
        }
    }
    if checks.is_empty() {
        return Err("there is neither a vmess outbound nor a vmess inbound in this configuration".to_owned());
    }
    Ok(checks)
}

/// A server as the configuration has it.
struct Served<'a> {
    outbound: &'a wsray_config::Outbound,
    server: &'a VmessServer,
    stream: &'a ClientStream,
    /// The tag of the outbound that the way to it goes through.
    through: Option<&'a str>,
}

async fn examine_server(doctor: &Doctor, served: &Served<'_>, way: &outbound::VmessServer) -> Check {
    let Served { outbound, server, stream, through } = *served;
    let user = server.users.first().map_or(String::new(), |user| format!(", user {:?}", user.id));
    let path = stream.ws.as_ref().map_or("", |ws| ws.path.as_str().split('?').next().unwrap_or_default());
    let scheme = scheme(stream.tls.is_some(), stream.ws.is_some());
    let title = format!("{scheme}://{}{path}{user}", way.connector.server);
    let mut check = new_check(doctor, "outbound", outbound.tag.clone(), title);
    check.known.push((PATH, path.to_owned()));
    if way.browser.is_some() {
        check.notes.push(BY_BROWSER);
    }
    let subject = Subject {
        connector: &way.connector,
        through,
        tls: stream.tls.as_ref(),
        lead: &[],
        user: way.users.first(),
        target: doctor.target.as_ref(),
        idle: doctor.idle,
    };
    go(&mut check, &subject).await;
    finish(&check);
    check
}

/// What is not seen of an outbound with `useBrowserForwarding`.
const BY_BROWSER: &str = "sessions of this outbound go through a browser, which has its own TLS, proxies and certificates: what is \
    examined here is the way without it";

/// What cures have in the place of the path and of the server's port.
const PATH: &str = "/path";
const PORT: &str = "PORT";

/// Walks, within the time.
async fn go(check: &mut Check, subject: &Subject<'_>) {
    let limit = TOTAL + subject.idle.unwrap_or_default();
    if timeout(limit, subject.walk(check)).await.is_err() {
        let text = format!("stopped after {} s", limit.as_secs());
        check.push(Step::new("time", Status::Fail, text).causes([crate::cause::Cause::Unanswered]));
    }
}

fn scheme(tls: bool, ws: bool) -> &'static str {
    match (tls, ws) {
        (true, true) => "wss",
        (false, true) => "ws",
        (true, false) => "tls",
        (false, false) => "tcp",
    }
}

fn new_check(doctor: &Doctor, kind: &'static str, tag: Option<String>, title: String) -> Check {
    let live = doctor.form == ReportForm::Text;
    let check = Check {
        kind,
        tag,
        title,
        steps: Vec::new(),
        front: None,
        known: Vec::new(),
        notes: Vec::new(),
        live,
    };
    if live {
        say(&check.heading());
    }
    check
}

fn finish(check: &Check) {
    let advice = check.advice();
    if check.live && !advice.is_empty() {
        say(advice.trim_end());
    }
}
