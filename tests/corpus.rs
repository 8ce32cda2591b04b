//! Runs the kept inputs of the fuzz targets (`fuzz/corpus`) through the same functions.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a check that cannot read has to fail")]

#[path = "../fuzz/src/lib.rs"]
#[expect(dead_code, unreachable_pub, reason = "it is the library of the fuzz targets")]
mod targets;

use std::{collections::BTreeSet, fs, path::Path};

use targets::TARGETS;

fn fuzz() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"))
}

fn names(folder: &str, ending: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(fuzz().join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.map(|name| name.strip_suffix(ending).expect("an ending").to_owned()).collect()
}

/// The arguments that a target makes of any bytes, its inputs kept from earlier runs among them, hold its invariant.
#[test]
fn every_input_of_the_corpus_holds_its_invariant() {
    for (name, target) in TARGETS {
        let mut inputs = 0;
        for entry in fs::read_dir(fuzz().join("corpus").join(name)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                inputs += 1;
                let input = fs::read(&path).unwrap();
                let held = std::panic::catch_unwind(|| target(&input));
                assert!(held.is_ok(), "{} does not hold", path.display());
            }
        }
        assert!(inputs >= 2, "{name} has a corpus of {inputs}");
        target(&[]);
    }
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets", ".rs"), known);
    assert_eq!(names("corpus", ""), known);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in &known {
        assert!(
            manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")),
            "{name} is not in the manifest"
        );
        let program = fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(
            program.contains(&format!("wsray_fuzz::run(\"{name}\", data)")),
            "{name} runs something else"
        );
    }
}
