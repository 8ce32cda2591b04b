//! What is said about wrong and doubtful configurations: `refusals/NAME.json` with its errors in `NAME.txt`,
//! and `warnings/NAME.json`, which load, with their warnings; `advice/NAME.json`, with what could be better. Each text is what its reader needs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::{fs, path::Path};

use wsray_config::{Diagnostic, Options, Source, load};

/// Calls `say` with each file of `directory` and compares its answer with the text beside the file.
fn compare(directory: &str, least: usize, say: impl Fn(&[Source<'_>]) -> Result<Vec<Diagnostic>, String>) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(directory);
    let (mut count, mut wrong) = (0, Vec::new());
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        count += 1;
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let expected = fs::read_to_string(path.with_extension("txt")).unwrap_or_default();
        let said = match say(&[Source::new(name, &text)]) {
            Ok(said) => lines(&said),
            Err(instead) => format!("{instead}\n"),
        };
        if said != expected {
            wrong.push(format!("{name} expected\n{expected}but was told\n{said}"));
        }
    }
    assert!(count >= least, "only {count} files in {}", directory.display());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn lines(said: &[Diagnostic]) -> String {
    said.iter().fold(String::new(), |all, one| all + &one.to_string() + "\n")
}

#[test]
fn each_refused_configuration_gets_exactly_these_errors() {
    compare("refusals", 100, |source| match load(source, &Options::default()) {
        Ok(_) => Err("it loads".to_owned()),
        Err(errors) => Ok(errors),
    });
}

/// `advice/NAME.json` loads, and `test` says this besides.
#[test]
fn each_configuration_gets_exactly_this_advice() {
    compare("advice", 6, |source| match load(source, &Options::default()) {
        Ok(loaded) => Ok(loaded.config.advice()),
        Err(errors) => Err(format!("it is refused:\n{}", lines(&errors))),
    });
}

#[test]
fn each_doubtful_configuration_loads_with_exactly_these_warnings() {
    compare("warnings", 20, |source| match load(source, &Options::default()) {
        Ok(loaded) => Ok(loaded.warnings),
        Err(errors) => Err(format!("it is refused:\n{}", lines(&errors))),
    });
}
