//! The documents: what they show loads and is what the files hold, their links lead somewhere, both languages say
//! the same, and the reference names every key.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a check that cannot read has to fail"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use wsray::cli::{self, Command, Environment, Exit, Named};
use wsray_config::{Diagnostic, Options, Source};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The documents, their paths from the root: those beside the manifest, and all of these folders.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["", "docs", "docs/deployment", "examples", "conformance"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = Path::new(folder).join(entry.unwrap().file_name());
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() > 20, "{found:?}");
    found
}

/// A fenced block.
struct Block {
    /// Document and line, for messages.
    place: String,
    language: String,
    /// The comment in the line before it.
    note: Option<String>,
    text: String,
}

fn blocks(document: &Path) -> Vec<Block> {
    let text = read(document);
    let mut blocks = Vec::new();
    let mut note = None;
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let body: Vec<_> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
            blocks.push(Block {
                place: format!("{}:{}", document.display(), number + 1),
                language: language.to_owned(),
                note: note.take(),
                text: body.join("\n"),
            });
        }
        note = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")).map(str::to_owned);
    }
    blocks
}

fn all_blocks() -> Vec<Block> {
    documents().iter().flat_map(|document| blocks(document)).collect()
}

#[test]
fn every_configuration_shown_loads() {
    let shown: Vec<_> = all_blocks().into_iter().filter(|block| block.language == "json").collect();
    assert!(shown.len() >= 14, "{}", shown.len());
    for block in shown {
        let loaded = wsray_config::load(&[Source::new("shown", &block.text)], &Options::default());
        let loaded = loaded.unwrap_or_else(|wrong| panic!("{}: {}", block.place, told(&wrong)));
        let unexpected: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        let unexpected: Vec<_> =
            unexpected.iter().filter(|text| !text.contains("there are no outbounds")).collect();
        assert!(unexpected.is_empty(), "{}: {unexpected:?}", block.place);
    }
}

fn told(wrong: &[Diagnostic]) -> String {
    let mut text = String::new();
    for diagnostic in wrong {
        writeln!(text, "error: {diagnostic}").unwrap();
    }
    text
}

#[test]
fn what_is_shown_of_a_file_is_what_it_holds() {
    let (mut whole, mut parts, mut refusals) = (0, 0, 0);
    for Block { place, note, text, .. } in all_blocks() {
        let Some(note) = note else { continue };
        if let Some(file) = note.strip_prefix("part of ") {
            let trimmed = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
            assert!(trimmed(&read(file)).contains(&trimmed(&text)), "{place} is no part of {file}");
            parts += 1;
        } else if let Some(file) = note.strip_prefix("says of ") {
            let wrong = wsray_config::load(&[Source::new("config.json", &read(file))], &Options::default())
                .unwrap_err();
            let expected =
                format!("{}wsray: the configuration is refused ({} error)", told(&wrong), wrong.len());
            assert_eq!(text, expected, "{place}");
            refusals += 1;
        } else {
            assert_eq!(text.trim_end(), read(&note).trim_end(), "{place} differs from {note}");
            whole += 1;
        }
    }
    assert!(whole >= 14 && parts >= 2 && refusals >= 2, "{whole} {parts} {refusals}");
}

/// What a heading is called in links, as the usual renderers make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|&c| c.is_alphanumeric() || " -_".contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The lines outside fenced blocks.
fn prose(text: &str) -> Vec<&str> {
    let mut is_code = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            lines.push(line);
        }
    }
    lines
}

fn headings(text: &str) -> Vec<(usize, &str)> {
    let heading = |line: &'_ &str| line.starts_with('#');
    prose(text)
        .into_iter()
        .filter(heading)
        .map(|line| (line.find(' ').unwrap(), line.trim_start_matches('#').trim()))
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut followed = 0;
    for document in documents() {
        let text = read(&document);
        for line in prose(&text) {
            for link in line.split("](").skip(1) {
                let link = link.split(')').next().unwrap();
                if link.starts_with("https://") {
                    continue;
                }
                let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
                let target =
                    if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
                assert!(
                    root().join(&target).exists(),
                    "{}: {link}: there is no such file",
                    document.display()
                );
                if !fragment.is_empty() {
                    let text = read(&target);
                    let known: Vec<_> = headings(&text).iter().map(|(_, heading)| anchor(heading)).collect();
                    assert!(
                        known.iter().any(|name| name == fragment),
                        "{}: {link} is none of {known:?}",
                        document.display()
                    );
                }
                followed += 1;
            }
        }
    }
    assert!(followed > 100, "{followed}");
}

#[test]
fn both_languages_have_the_same_pages_and_headings() {
    let documents = documents();
    let mut pairs = 0;
    for chinese in documents.iter().filter(|path| path.to_str().unwrap().ends_with(".zh.md")) {
        let english = PathBuf::from(chinese.to_str().unwrap().replace(".zh.md", ".md"));
        let (ours, theirs) = (read(&english), read(chinese));
        let levels = |text: &str| headings(text).iter().map(|(level, _)| *level).collect::<Vec<_>>();
        assert_eq!(levels(&ours), levels(&theirs), "{} and {}", english.display(), chinese.display());
        let codes = |path: &Path| {
            blocks(path).into_iter().map(|block| (block.language, block.text)).collect::<Vec<_>>()
        };
        assert_eq!(codes(&english), codes(chinese), "{} and {}", english.display(), chinese.display());
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        for (text, link) in [
            (&ours, format!("[中文]({})", name(chinese))),
            (&theirs, format!("[English]({})", name(&english))),
        ] {
            assert!(text.contains(&link), "{} and {}: no {link}", english.display(), chinese.display());
        }
        pairs += 1;
    }
    let of_docs = documents.iter().filter(|path| path.starts_with("docs")).count();
    assert_eq!(pairs, of_docs / 2 + 2, "a page of docs/, README.md, or SECURITY.md lacks its other language");
}

/// Per section of a reference: the keys that it explains, in order, with their types.
fn explained(document: &str) -> BTreeMap<String, Vec<String>> {
    let text = read(document);
    let mut sections: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut table = String::new();
    for line in prose(&text) {
        if let Some(name) = line.strip_prefix("<!-- keys: ").and_then(|rest| rest.strip_suffix(" -->")) {
            name.clone_into(&mut table);
        } else if let Some(key) = line.strip_prefix("> `") {
            sections.entry(table.clone()).or_default().push(key.split('`').next().unwrap().to_owned());
        }
    }
    sections
}

/// Per table of `crates/config/src/keys.rs`, or another file of such tables: its keys and their fates.
fn keys(file: &str) -> BTreeMap<String, Vec<(String, String)>> {
    let source = read(file);
    let mut tables = BTreeMap::new();
    for table in source.split("pub(crate) const ").skip(1) {
        let Some((name, rest)) = table.split_once(": &[Key]") else { continue };
        let keys = rest.split("key(").skip(1).map(|key| {
            let mut parts = key.split(',');
            let name = parts.next().unwrap().trim().trim_matches('"').to_owned();
            let fate = parts.next().unwrap().trim().split(['(', ')']).next().unwrap().to_owned();
            (name, fate)
        });
        tables.insert(name.to_owned(), keys.collect::<Vec<_>>());
    }
    assert!(tables.len() > 20 && tables["WS"].len() > 6, "{file} is read wrongly: {tables:?}");
    tables
}

/// `TABLE.key` of each.
fn flat<'a>(tables: impl IntoIterator<Item = (&'a String, &'a Vec<String>)>) -> BTreeSet<String> {
    let flat = |(table, keys): (&String, &Vec<String>)| -> Vec<String> {
        keys.iter().map(|key| format!("{table}.{key}")).collect()
    };
    tables.into_iter().flat_map(flat).collect()
}

/// The keys with one of these fates.
fn with_fates(fates: &[&str]) -> BTreeSet<String> {
    let chosen = keys("crates/config/src/keys.rs").into_iter().map(|(table, keys)| {
        let keys = keys.into_iter().filter(|(_, fate)| fates.contains(&fate.as_str()));
        (table, keys.map(|(name, _)| name).collect())
    });
    flat(&chosen.collect::<BTreeMap<_, Vec<_>>>())
}

fn compare(document: &str, in_document: &BTreeSet<String>, in_code: &BTreeSet<String>) {
    let lacking: Vec<_> = in_code.difference(in_document).collect();
    let excess: Vec<_> = in_document.difference(in_code).collect();
    assert!(
        lacking.is_empty() && excess.is_empty(),
        "{document} lacks {lacking:?}, and has {excess:?}, which crates/config/src/keys.rs says otherwise"
    );
}

#[test]
fn the_reference_explains_every_key_that_is_read() {
    // `TYPE` is explained where it is used.
    let read = with_fates(&["Read"]).into_iter().filter(|key| !key.starts_with("TYPE.")).collect();
    for document in ["docs/options.md", "docs/options.zh.md"] {
        let explained = explained(document);
        compare(document, &flat(&explained), &read);
        assert_eq!(explained, self::explained("docs/options.md"), "{document}: the order of the keys");
    }
}

/// What they mean stands under V2Ray 4's names.
#[test]
fn the_reference_names_every_key_of_the_other_dialect() {
    for (document, heading) in
        [("docs/options.md", "## V2Ray 5's own dialect"), ("docs/options.zh.md", "## V2Ray 5 自己的格式")]
    {
        let text = read(document);
        let section = text.split_once(heading).unwrap().1.split("\n## ").next().unwrap();
        for (table, keys) in keys("crates/config/src/keys5.rs") {
            for (key, _) in keys.iter().filter(|(_, fate)| fate == "Read") {
                let is_named =
                    section.contains(&format!("`{key}`")) || section.contains(&format!("\"{key}\""));
                assert!(is_named, "{document} does not name {key} ({table} in keys5.rs)");
            }
        }
    }
}

/// The rows `| in <!-- TABLE --> | keys |`: a table of what gets a warning, then one of errors.
fn listed(document: &str) -> [BTreeSet<String>; 2] {
    let text = read(document);
    let mut tables = [BTreeSet::new(), BTreeSet::new()];
    let mut number = 0;
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let Some((table, keys)) = line.split_once("<!-- ").and_then(|(_, rest)| rest.split_once(" --> |"))
        else {
            number = usize::from(!tables[0].is_empty());
            continue;
        };
        tables[number].extend(keys.split('`').skip(1).step_by(2).map(|key| format!("{table}.{key}")));
    }
    tables
}

#[test]
fn the_reference_lists_every_key_that_is_not_supported() {
    for document in ["docs/options.md", "docs/options.zh.md"] {
        let [warned, refused] = listed(document);
        compare(document, &warned, &with_fates(&["Without", "NoEffect"]));
        compare(document, &refused, &with_fates(&["Refused", "Condition", "OtherDialect"]));
    }
}

/// The command lines in shell blocks.
fn command_lines() -> Vec<(String, String)> {
    let shell = all_blocks().into_iter().filter(|block| block.language == "sh");
    shell
        .flat_map(|block| {
            block.text.lines().map(|line| (block.place.clone(), line.to_owned())).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn every_command_shown_exists() {
    let (mut own, mut scripts) = (0, 0);
    for (place, line) in command_lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let arguments = match words.as_slice() {
            ["wsray", arguments @ ..] => arguments,
            ["cargo", "run", "--release", "--", arguments @ ..] | ["cargo", "run", "--", arguments @ ..] => {
                arguments
            }
            [script, ..] if script.starts_with("./") => {
                assert!(root().join(script).is_file(), "{place}: {script}");
                scripts += 1;
                continue;
            }
            _ => continue,
        };
        let arguments = std::iter::once(&"wsray").chain(arguments).map(OsString::from);
        let parsed = cli::parse(arguments, &Environment::default());
        assert!(parsed.is_ok(), "{place}: {line}: {parsed:?}");
        own += 1;
    }
    assert!(own >= 16 && scripts >= 3, "{own} {scripts}");
}

#[test]
fn readme_begins_with_two_commands() {
    for document in ["README.md", "README.zh.md"] {
        let first: Vec<_> = blocks(Path::new(document)).into_iter().take(2).map(|block| block.text).collect();
        assert_eq!(first, ["cargo run --release -- demo", "./test"], "{document}");
    }
}

/// Its figures differ each time; its words are the program's.
#[test]
fn readme_shows_what_the_demo_says() {
    let source = ["src/demo.rs", "src/demo/trial.rs", "src/demo/origin.rs"].map(read).concat();
    for document in ["README.md", "README.zh.md"] {
        let shown = blocks(Path::new(document))
            .into_iter()
            .find(|block| block.text.starts_with("wsray demo"))
            .unwrap();
        for line in shown.text.lines().filter(|line| !line.is_empty()) {
            let label = line.trim().split("  ").next().unwrap();
            let words = label.split(|c: char| c.is_ascii_digit()).next().unwrap();
            assert!(source.contains(words), "{document}: {words:?} is nothing the demo says");
        }
    }
}

#[test]
fn the_unit_starts_what_there_is() {
    let unit = read("docs/deployment/wsray.service");
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    let mut words = value("ExecStart=").split_whitespace();
    assert_eq!(words.next(), Some("/usr/local/bin/wsray"));
    let arguments = ["wsray"].into_iter().chain(words).map(OsString::from);
    let Ok(Command::Run(sources)) = cli::parse(arguments, &Environment::default()) else { panic!("{unit}") };
    assert_eq!(sources.sources.named, [Named::File("%d/config.json".into())]);
    assert_eq!(value("RestartPreventExitStatus="), (Exit::Config as u8).to_string());
    let seconds: u64 = value("TimeoutStopSec=").parse().unwrap();
    assert!(seconds > 10, "killed while the busiest sessions still have their 10 seconds: {seconds}");
}

/// Facts that the documents repeat.
#[test]
fn documents_tell_the_defaults_of_the_code() {
    let timeouts = wsray_config::Timeouts::default();
    let reference = read("docs/options.md");
    for fact in [
        format!("level 0's applies. Default {}.", timeouts.handshake.as_secs()),
        format!("may move in a session. Default {}.", timeouts.connection_idle.as_secs()),
        format!("never more than\n{}", wsray_ws::client::MAX_CARRIED_EARLY_DATA),
        format!("up to {} bytes are taken", wsray_ws::server::MIN_EARLY_DATA_LIMIT),
        format!("at most {}.", wsray_ws::server::MAX_EARLY_DATA_LIMIT),
        format!("at most {} lines a second", wsray::observe::LIMITED_LINES_PER_SECOND),
        format!("have {} seconds of it", wsray::transport::HANDSHAKE_TIMEOUT.as_secs()),
    ] {
        assert!(reference.contains(&fact), "docs/options.md does not say {fact:?}");
    }
    assert_eq!((timeouts.uplink_only, timeouts.downlink_only), (None, None), "see policy in docs/options.md");
    let skew = wsray_vmess::MAX_CLOCK_SKEW_SECS;
    assert!(read("docs/deployment/README.md").contains(&format!("more than {skew} s apart")), "{skew}");
}

#[test]
fn changelog_has_the_version_of_the_program() {
    assert!(read("CHANGELOG.md").contains(&format!("## [{}]", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn no_document_names_a_path_of_somebodys_machine() {
    for document in documents() {
        let text = read(&document);
        let found: Vec<_> =
            ["/root/", "/home/", "/work/", "/tmp/"].into_iter().filter(|path| text.contains(path)).collect();
        assert!(found.is_empty(), "{}: {found:?}", document.display());
    }
}

/// In both languages, so that who reads a code can look it up.
#[test]
fn pages_on_the_doctor_name_every_code() {
    let source = read("src/cause/mod.rs");
    let codes: Vec<_> = source
        .lines()
        .filter_map(|line| line.trim().strip_suffix("\",")?.split_once("=> \""))
        .map(|(_, code)| code)
        .filter(|code| {
            code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-' || byte.is_ascii_digit())
        })
        .collect();
    assert!(codes.len() > 60, "{codes:?}");
    for page in ["docs/doctor.md", "docs/doctor.zh.md"] {
        let text = read(page);
        for code in &codes {
            assert!(text.contains(&format!("`{code}`")), "{page} does not name {code}");
        }
    }
}
