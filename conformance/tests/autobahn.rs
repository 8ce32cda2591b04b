//! The Autobahn cases against `wsray-ws` in both roles, run by kosoku.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "helpers of tests")]

use std::{
    collections::BTreeMap,
    env, fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Cases about compression, which is never offered nor accepted.
const EXCLUDED: [&str; 2] = ["12.*", "13.*"];

/// All cases of kosoku 0.1.0 but [`EXCLUDED`].
const CASES: usize = 301;

/// Cases whose outcome the RFC leaves open; `conformance/README.md` says why each may stand here.
const INFORMATIONAL: [&str; 3] = ["7.1.6", "7.13.1", "7.13.2"];

/// How long a whole run may take; it takes seconds.
const LIMIT: Duration = Duration::from_mins(5);

#[test]
fn server_fails_no_autobahn_case() {
    let Some(kosoku) = kosoku() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || wsray_conformance::serve(&listener));

    let reports = reports("server");
    let mut child = start(&kosoku, "fuzzingclient", &["-p", "4"], &reports, address);
    wait(&mut child);
    assert_none_failed(&reports);
}

#[test]
fn client_fails_no_autobahn_case() {
    let Some(kosoku) = kosoku() else { return };
    // Bound and let go again: kosoku takes no port 0.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();

    let reports = reports("client");
    let mut child = start(&kosoku, "fuzzingserver", &[], &reports, address);
    wait_until_listening(&mut child, address);
    let cases = wsray_conformance::drive(address);
    let ended = end(&mut child, &reports);
    assert_eq!(cases.unwrap(), CASES, "kosoku offers a different number of cases");
    assert!(ended, "no reports were written");
    assert_none_failed(&reports);
}

/// The kosoku program, or `None` after saying that the test is skipped; in CI that is a failure.
fn kosoku() -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let peers = env::var_os("WSRAY_PEERS").map_or_else(|| workspace.join("target/peers"), PathBuf::from);
    let kosoku = peers.join("bin/kosoku");
    if kosoku.exists() {
        return Some(kosoku);
    }
    let skipped = format!("SKIPPED: Autobahn cases, because {} is not there", kosoku.display());
    assert!(env::var("CI").as_deref() != Ok("true"), "{skipped}");
    eprintln!("{skipped}");
    None
}

/// An empty folder for the reports of one run.
fn reports(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("autobahn-{name}"));
    let _ = fs::remove_dir_all(&folder);
    folder
}

fn start(kosoku: &Path, mode: &str, more: &[&str], reports: &Path, address: SocketAddr) -> Child {
    let excluded = EXCLUDED.iter().flat_map(|case| ["-x", case]);
    let mut command = Command::new(kosoku);
    command.args(["-m", mode]).args(more).args(excluded).arg("-o").arg(reports).arg(address.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

/// Waits until the child takes connections.
fn wait_until_listening(child: &mut Child, address: SocketAddr) {
    let start = Instant::now();
    while TcpStream::connect(address).is_err() {
        if start.elapsed() > Duration::from_secs(30) {
            let _ = child.kill();
            panic!("kosoku does not listen on {address}");
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Waits for the child's end, and ends it when it takes too long.
fn wait(child: &mut Child) {
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > LIMIT {
            let _ = child.kill();
            panic!("kosoku still runs after {LIMIT:?}");
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Waits for the reports, then ends the child; whether they came.
fn end(child: &mut Child, reports: &Path) -> bool {
    let start = Instant::now();
    let mut written = false;
    while !written && start.elapsed() < Duration::from_secs(30) {
        thread::sleep(Duration::from_millis(50));
        // Whole once it parses: the file may be seen half written.
        written = fs::read(reports.join("index.json")).is_ok_and(|text| outcomes(&text).is_some());
    }
    let _ = child.kill();
    let _ = child.wait();
    written
}

/// Each case and how it ended.
fn outcomes(index: &[u8]) -> Option<BTreeMap<String, String>> {
    let index: serde_json::Value = serde_json::from_slice(index).ok()?;
    let cases = index.as_object()?.values().next()?.as_object()?;
    let behaviour = |case: &serde_json::Value| Some(case.get("behavior")?.as_str()?.to_owned());
    cases.iter().map(|(name, case)| Some((name.clone(), behaviour(case)?))).collect()
}

fn assert_none_failed(reports: &Path) {
    let outcomes = outcomes(&fs::read(reports.join("index.json")).unwrap()).unwrap();
    assert_eq!(outcomes.len(), CASES, "cases were left out");
    for (case, outcome) in &outcomes {
        let expected = if INFORMATIONAL.contains(&case.as_str()) { "INFORMATIONAL" } else { "OK" };
        assert_eq!(outcome, expected, "case {case}; see {}", reports.display());
    }
}
