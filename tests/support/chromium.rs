//! A real browser: headless Chromium, steered over the pipe of its `DevTools` protocol.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use super::{node, temporary_directory, within};

/// How long the browser may take for anything; its processor may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running browser with a profile of its own. Killed when dropped.
#[derive(Debug)]
pub struct Chromium {
    child: Child,
    pipe: Arc<Pipe>,
    directory: PathBuf,
}

/// The answers that have come, by the number of the call.
#[derive(Debug)]
struct Pipe {
    calls: Mutex<ChildStdin>,
    answers: Mutex<HashMap<u64, Value>>,
    arrived: Condvar,
    last: AtomicU64,
}

/// A tab.
#[derive(Debug)]
pub struct Tab {
    pipe: Arc<Pipe>,
    target: String,
    session: String,
}

/// Why there is no browser.
pub fn missing() -> Option<String> {
    node::missing("chromium")
}

impl Chromium {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more flags.
    pub fn start_with(flags: &[&str]) -> Self {
        let directory = temporary_directory("chromium");
        let log = File::create(directory.join("log")).unwrap();
        // The DevTools protocol goes over the files 3 and 4 (chromium/src `content/browser/devtools`).
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>&2"])
            .arg(node::peer("chromium"))
            .args(["--headless=new", "--no-sandbox", "--remote-debugging-pipe", "--no-first-run"])
            .args(["--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"])
            .args(["--disable-component-update", "--disable-sync", "--disable-extensions", "--mute-audio"])
            .arg(format!("--user-data-dir={}", directory.join("profile").display()))
            .args(flags)
            .arg("about:blank")
            .env("HOME", &directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let pipe = Arc::new(Pipe {
            calls: Mutex::new(child.stdin.take().unwrap()),
            answers: Mutex::default(),
            arrived: Condvar::new(),
            last: AtomicU64::new(0),
        });
        let reader = BufReader::new(child.stdout.take().unwrap());
        let answers = Arc::clone(&pipe);
        thread::spawn(move || {
            for message in reader.split(0).map_while(Result::ok) {
                let message: Value = serde_json::from_slice(&message).unwrap();
                let Some(id) = message["id"].as_u64() else { continue };
                answers.answers.lock().unwrap().insert(id, message);
                answers.arrived.notify_all();
            }
        });
        Self { child, pipe, directory }
    }

    /// A new tab at `url`; it has loaded when this returns.
    pub fn open(&self, url: &str) -> Tab {
        self.open_with(url, "")
    }

    /// A new tab in which `script` runs before the page's own.
    pub fn open_with(&self, url: &str, script: &str) -> Tab {
        let created = self.pipe.call(None, "Target.createTarget", &json!({ "url": "about:blank" }));
        let target = created["targetId"].as_str().unwrap().to_owned();
        let attach = json!({ "targetId": target, "flatten": true });
        let attached = self.pipe.call(None, "Target.attachToTarget", &attach);
        let session = attached["sessionId"].as_str().unwrap().to_owned();
        let tab = Tab { pipe: Arc::clone(&self.pipe), target, session };
        tab.call("Page.enable", &json!({}));
        if !script.is_empty() {
            tab.call("Page.addScriptToEvaluateOnNewDocument", &json!({ "source": script }));
        }
        tab.go(url);
        tab
    }

    /// Its processes: what each is for, and its number.
    pub fn processes(&self) -> Vec<(String, u64)> {
        let info = self.pipe.call(None, "SystemInfo.getProcessInfo", &json!({}));
        let processes = info["processInfo"].as_array().unwrap().iter();
        let processes =
            processes.map(|one| (one["type"].as_str().unwrap().to_owned(), one["id"].as_u64().unwrap()));
        processes.collect()
    }

    /// What all its processes hold in memory, in bytes: each one's own part of what they share.
    pub fn memory(&self) -> u64 {
        self.processes().into_iter().map(|(_, process)| private_memory(process)).sum()
    }

    /// As a task manager does: the tabs get no chance to say goodbye.
    pub fn kill_renderers(&self) {
        for (_, process) in self.processes().into_iter().filter(|(kind, _)| kind == "renderer") {
            let killed = Command::new("sh").args(["-c", &format!("kill -9 {process}")]).status();
            assert!(killed.unwrap().success());
        }
    }
}

/// The bytes of memory that only this process has.
pub fn private_memory(process: u64) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
    let lines = rollup.lines().filter(|line| line.starts_with("Private_"));
    lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum::<u64>() * 1024
}

impl Drop for Chromium {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        // Its other processes end by themselves, and write a little until then.
        within(Duration::from_secs(3), || std::fs::remove_dir_all(&self.directory).ok());
    }
}

impl Tab {
    pub fn go(&self, url: &str) {
        self.call("Page.navigate", &json!({ "url": url }));
        let loaded = within(PATIENCE, || (self.eval("document.readyState") == "complete").then_some(()));
        assert!(loaded.is_some(), "{url} does not load");
    }

    pub fn reload(&self) {
        self.call("Page.reload", &json!({}));
    }

    pub fn close(self) {
        self.pipe.call(None, "Target.closeTarget", &json!({ "targetId": self.target }));
    }

    /// As a browser does with tabs that have been in the background for long.
    pub fn freeze(&self) {
        self.call("Page.setWebLifecycleState", &json!({ "state": "frozen" }));
    }

    pub fn thaw(&self) {
        self.call("Page.setWebLifecycleState", &json!({ "state": "active" }));
    }

    /// The value of an expression, awaited.
    pub fn eval(&self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", &parameters);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].take()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub fn wait_until(&self, expression: &str) {
        let is_true = within(PATIENCE, || (self.eval(expression) == true).then_some(()));
        assert!(is_true.is_some(), "it never holds: {expression}");
    }

    pub fn call(&self, method: &str, parameters: &Value) -> Value {
        self.pipe.call(Some(&self.session), method, parameters)
    }
}

impl Pipe {
    fn call(&self, session: Option<&str>, method: &str, parameters: &Value) -> Value {
        let id = self.last.fetch_add(1, Relaxed) + 1;
        let mut call = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = session {
            call["sessionId"] = json!(session);
        }
        let mut text = call.to_string().into_bytes();
        text.push(0);
        self.calls.lock().unwrap().write_all(&text).unwrap();
        let mut answers = self.answers.lock().unwrap();
        loop {
            if let Some(mut answer) = answers.remove(&id) {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
            let waited = self.arrived.wait_timeout(answers, PATIENCE).unwrap();
            assert!(!waited.1.timed_out(), "Chromium does not answer {method}");
            answers = waited.0;
        }
    }
}
