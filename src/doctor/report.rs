//! What was found, as text for people and as JSON for programs.

use std::{fmt, io::Write as _, time::Duration};

use serde_json::{Value, json};

use crate::cause::{Cause, Cure, Front};

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    /// Works, with something that somebody should know.
    Warn,
    Fail,
    /// Not tried, as an earlier step failed.
    Skipped,
}

impl Status {
    fn code(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skipped => "skipped",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::Skipped => "-",
        })
    }
}

/// One step of the way.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) status: Status,
    pub(super) summary: String,
    /// What else there is to know: a name and a text.
    pub(super) details: Vec<(&'static str, String)>,
    pub(super) took: Option<Duration>,
    /// Why it failed, likeliest first.
    pub(super) causes: Vec<Cause>,
}

impl Step {
    pub(super) fn new(name: &'static str, status: Status, summary: impl Into<String>) -> Self {
        Self { name, status, summary: summary.into(), details: Vec::new(), took: None, causes: Vec::new() }
    }

    pub(super) fn took(mut self, took: Duration) -> Self {
        self.took = Some(took);
        self
    }

    pub(super) fn detail(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.details.push((name, text.into()));
        self
    }

    pub(super) fn causes(mut self, causes: impl IntoIterator<Item = Cause>) -> Self {
        self.causes.extend(causes);
        self
    }
}

/// Everything about one server or one inbound.
#[derive(Debug)]
pub(super) struct Check {
    /// `outbound` or `inbound`.
    pub(super) kind: &'static str,
    pub(super) tag: Option<String>,
    /// What is examined: a URL and a masked user.
    pub(super) title: String,
    pub(super) steps: Vec<Step>,
    /// Who answered, if it said so.
    pub(super) front: Option<Front>,
    /// What stands for it in cures, and what it is: the path, and the port of an inbound.
    pub(super) known: Vec<(&'static str, String)>,
    /// What cannot be seen from here.
    pub(super) notes: Vec<&'static str>,
    /// Print every step when it is there.
    pub(super) live: bool,
}

impl Check {
    pub(super) fn push(&mut self, step: Step) {
        if self.live {
            say(&text_of(&step));
        }
        self.steps.push(step);
    }

    pub(super) fn failed(&self) -> bool {
        self.steps.iter().any(|step| step.status == Status::Fail)
    }

    pub(super) fn heading(&self) -> String {
        let name = self.tag.as_deref().map_or(String::new(), |tag| format!(" {tag:?}"));
        format!("{}{name}: {}", self.kind, self.title)
    }

    /// What is wrong, and what to write where.
    pub(super) fn advice(&self) -> String {
        let mut out = String::new();
        for step in &self.steps {
            for (n, cause) in step.causes.iter().enumerate() {
                let lead = if n == 0 { "\n  cause: " } else { "  or:    " };
                out.extend([lead, &cause.to_string(), " [", cause.code(), "]\n"]);
                for (n, cure) in self.cures(cause).iter().enumerate() {
                    let lead = if n == 0 { "change" } else { "or" };
                    out.extend(["    ", lead, " ", &cure.place.to_string(), ":\n"]);
                    for line in &cure.lines {
                        out.extend(["        ", line, "\n"]);
                    }
                }
            }
        }
        for note in &self.notes {
            out.extend(["\n  note: ", note, "\n"]);
        }
        out
    }

    /// What helps, with what is known filled in, so that it can be copied.
    fn cures(&self, cause: &Cause) -> Vec<Cure> {
        let mut cures = cause.cures(self.front);
        for line in cures.iter_mut().flat_map(|cure| &mut cure.lines) {
            for (stands_for, known) in &self.known {
                *line = line.replace(stands_for, known);
            }
        }
        cures
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "kind": self.kind,
            "tag": self.tag,
            "subject": self.title,
            "ok": !self.failed(),
            "steps": self.steps.iter().map(|step| self.json_of(step)).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }

    fn json_of(&self, step: &Step) -> Value {
        let details: serde_json::Map<_, _> =
            step.details.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
        let cures = |cause: &Cause| {
            self.cures(cause)
                .iter()
                .map(|cure| json!({ "where": cure.place.code(), "write": cure.lines }))
                .collect::<Vec<_>>()
        };
        let causes = step
            .causes
            .iter()
            .map(|cause| json!({ "code": cause.code(), "text": cause.to_string(), "cures": cures(cause) }));
        json!({
            "step": step.name,
            "status": step.status.code(),
            "text": step.summary,
            "ms": step.took.map(milliseconds),
            "details": details,
            "causes": causes.collect::<Vec<_>>(),
        })
    }
}

fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 10_000.0).round() / 10.0
}

/// Where a step's text begins.
const INDENT: usize = 21;

fn text_of(step: &Step) -> String {
    let took = step.took.map_or(String::new(), |took| format!(" ({} ms)", milliseconds(took)));
    let mut text = format!("  {:<5} {:<12} {}{took}", step.status, step.name, step.summary);
    for (name, detail) in &step.details {
        text.extend(["\n", &" ".repeat(INDENT), name, ": ", detail]);
    }
    text
}

/// Prints a line; somebody who closes the output early has seen enough.
pub(super) fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}
