//! The layers: who may import whom, what the pure crates do without, and a word about itself in every file.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a check that cannot read has to fail"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The modules of `src/`, the highest row first. A module uses itself and the rows below its own; the crates of
/// `crates/` lie below all rows. See ARCHITECTURE.md.
const ROWS: [&[&str]; 12] = [
    &["run"],
    &["demo", "doctor"],
    &["cli", "app"],
    &["inbound"],
    &["dispatch"],
    &["outbound"],
    &["browser"],
    &["vmess", "relay", "sniff", "mux", "site"],
    &["transport"],
    &["names", "socks"],
    &["memory"],
    &["session", "stream", "observe", "cause"],
];

/// What a pure crate must not reach, directly or through what it depends on.
const IMPURE_DEPENDENCIES: [&str; 8] =
    ["async-std", "getrandom", "mio", "rand", "rustls", "smol", "socket2", "tokio"];

/// Sockets, files, clocks, randomness, threads and processes, as their names stand in code.
const IMPURE_WORDS: [&str; 15] = [
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "ToSocketAddrs",
    "SystemTime",
    "Instant",
    "std::env",
    "std::fs",
    "std::os",
    "std::process",
    "std::thread",
    "aws_lc_rs::rand",
    "SystemRandom",
    "RandomState",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folders of `crates/`: all crates there are pure.
fn pure_crates() -> Vec<String> {
    let folders = fs::read_dir(root().join("crates")).unwrap();
    let mut names: Vec<_> = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.len() >= 3, "{names:?}");
    names
}

/// Every Rust file below a directory, in order.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The code without comments and without what stands between double quotes.
fn code_only(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['"', '/', '\'']) {
        code.push_str(&rest[..at]);
        rest = &rest[at..];
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with('"') {
            end_of_text(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else {
            code.push_str(&rest[..1]);
            1
        };
        rest = &rest[skipped..];
    }
    code + rest
}

fn end_of_text(rest: &str) -> usize {
    let mut is_escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The names behind `crate::`, and behind as many `super::` as lead to the crate's root from a module so deep.
fn imports(code: &str, depth: usize) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for prefix in ["crate::".to_owned(), "super::".repeat(depth)] {
        for (at, _) in code.match_indices(&prefix) {
            let before = code[..at].chars().next_back();
            let is_longer = before.is_some_and(|c| c.is_alphanumeric() || "_:$".contains(c));
            if !is_longer {
                names.extend(first_names(&code[at + prefix.len()..]));
            }
        }
    }
    names
}

/// `a` of `a::b`; `a` and `c` of `{a::{b}, c::d}`.
fn first_names(rest: &str) -> Vec<String> {
    let Some(group) = rest.strip_prefix('{') else { return vec![identifier(rest)] };
    let mut names = Vec::new();
    let (mut depth, mut starts) = (0, true);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => starts = true,
            c if starts && !c.is_whitespace() => {
                names.push(identifier(&group[at..]));
                starts = false;
            }
            _ => {}
        }
    }
    names
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|&c| c.is_alphanumeric() || c == '_').collect()
}

fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

/// The imports of a module that do not go down.
fn wrong_imports(module: &str, depth: usize, code: &str) -> Vec<String> {
    let own = row(module)
        .unwrap_or_else(|| panic!("src/{module} stands in no row of tests/layers.rs: give it one"));
    let goes_up = |name: &String| name != module && row(name).is_some_and(|row| row <= own);
    imports(code, depth).into_iter().filter(goes_up).collect()
}

#[test]
fn imports_go_only_down() {
    let source = root().join("src");
    let mut wrong = Vec::new();
    for path in sources(&source) {
        let relative = path.strip_prefix(&source).unwrap();
        let mut parts: Vec<_> =
            relative.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        parts.pop_if(|last| last == "mod");
        if parts == ["main"] || parts == ["lib"] {
            continue;
        }
        let code = code_only(&fs::read_to_string(&path).unwrap());
        for name in wrong_imports(&parts[0], parts.len(), &code) {
            wrong.push(format!("{} uses {name}", relative.display()));
        }
    }
    assert!(wrong.is_empty(), "imports that do not go down: {wrong:#?}");
}

#[test]
fn every_module_has_one_row() {
    let declared = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let mut declared: Vec<_> = declared.lines().filter_map(|line| line.strip_prefix("pub mod ")).collect();
    let mut known: Vec<_> = ROWS.concat().iter().map(|name| format!("{name};")).collect();
    declared.sort_unstable();
    known.sort_unstable();
    assert_eq!(declared, known, "src/lib.rs on the left, tests/layers.rs on the right");
}

#[test]
fn an_import_that_goes_up_is_found() {
    let wrong = |depth, code: &str| wrong_imports("transport", depth, &code_only(code));
    assert_eq!(wrong(1, "use crate::stream::Pool;"), [""; 0]);
    assert_eq!(wrong(1, "use crate::outbound::Freedom;"), ["outbound"]);
    assert_eq!(
        wrong(2, "use crate::{\n    relay::{Ending, relay},\n    stream::Pool,\n    vmess,\n};"),
        ["relay", "vmess"]
    );
    assert_eq!(wrong(1, "fn f() { crate::dispatch::run() }"), ["dispatch"]);
    assert_eq!(wrong(1, "use super::app::App;"), ["app"]);
    assert_eq!(wrong(2, "use super::super::app::App; use super::relay;"), ["app"]);
    assert_eq!(
        wrong(1, "// use crate::app;\nlet a = \"crate::app \\\" crate::run\"; let b = '\"';"),
        [""; 0]
    );
}

#[test]
fn pure_crates_stay_pure() {
    for name in pure_crates() {
        let folder = root().join("crates").join(&name);
        for path in sources(&folder.join("src")) {
            if path.file_stem().is_some_and(|stem| stem == "tests") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let code = code_only(text.split("#[cfg(test)]\nmod tests {").next().unwrap());
            let found: Vec<_> = IMPURE_WORDS.iter().filter(|word| code.contains(**word)).collect();
            assert!(found.is_empty(), "{} uses {found:?}: give it as an argument", path.display());
        }
    }
}

#[test]
fn pure_crates_reach_nothing_that_does_io() {
    for name in pure_crates() {
        let package = format!("wsray-{name}");
        let mut tree = Command::new(env!("CARGO"));
        tree.args([
            "tree",
            "--locked",
            "--offline",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--package",
            &package,
        ]);
        let output = tree.current_dir(root()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let reached: BTreeSet<_> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert!(reached.contains(package.as_str()), "{text}");
        let impure: Vec<_> = IMPURE_DEPENDENCIES.iter().filter(|name| reached.contains(**name)).collect();
        assert!(impure.is_empty(), "{package} reaches {impure:?}");
    }
}

#[test]
fn every_file_says_what_it_is() {
    let mut folders = vec![root().join("src"), root().join("tests"), root().join("conformance/src")];
    folders.extend(pure_crates().iter().map(|name| root().join("crates").join(name).join("src")));
    let is_silent = |path: &PathBuf| {
        let stem = path.file_stem().unwrap();
        stem != "tests" && !fs::read_to_string(path).unwrap().starts_with("//! ")
    };
    let silent: Vec<_> = folders.iter().flat_map(|folder| sources(folder)).filter(is_silent).collect();
    assert!(silent.is_empty(), "no module doc in {silent:#?}");
}
