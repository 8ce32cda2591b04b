//! No text makes loading panic, hang, or point outside the text.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use wsray_config::{Options, Source, invariants::load_returns_and_places_lie_inside, load};

/// Every configuration in this repository, good and bad.
fn corpus() -> Vec<String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directories =
        ["../../examples", "tests/refusals", "tests/warnings", "tests/user_document", "tests/v5_examples"];
    let files = directories.iter().flat_map(|directory| fs::read_dir(here.join(directory)).unwrap());
    let paths = files.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .map(|p| fs::read_to_string(p).unwrap())
        .collect()
}

/// What mutations put into a text.
const PIECES: [&str; 34] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "'",
    "#",
    "//",
    "/*",
    "*/",
    "\n",
    "\r",
    "\u{FEFF}",
    "東",
    "null",
    "true",
    "0",
    "-1",
    "1e999",
    "99999999999999999999",
    "0.5",
    "\"\"",
    "\"tcp\"",
    "\"tls\"",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "\"ws\"",
    "{}",
    "[]",
    "\"vmess\"",
    "?ed=5",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn mutated_examples_load_or_are_refused(
        pick in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, 0..PIECES.len(), any::<bool>()), 1..5),
    ) {
        let corpus = corpus();
        let mut text: Vec<char> = pick.get(&corpus).chars().collect();
        for (at, delete, piece, insert) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + delete).min(text.len());
            let insert = if insert { PIECES[piece] } else { "" };
            text.splice(at..end, insert.chars());
        }
        load_returns_and_places_lie_inside(&text.into_iter().collect::<String>());
    }

    #[test]
    fn replaced_values_load_or_are_refused(pick in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), piece in 0..PIECES.len()) {
        let corpus = corpus();
        let text = pick.get(&corpus);
        let colons: Vec<usize> = text.match_indices("\": ").map(|(at, _)| at + 3).collect();
        if colons.is_empty() {
            return Ok(());
        }
        let start = *at.get(&colons);
        let end = text[start..].find([',', '\n', '}']).map_or(text.len(), |length| start + length);
        load_returns_and_places_lie_inside(&format!("{}{}{}", &text[..start], PIECES[piece], &text[end..]));
    }

    #[test]
    fn any_text_loads_or_is_refused(text in ".{0,200}") {
        load_returns_and_places_lie_inside(&text);
    }
}

#[test]
fn every_text_cut_anywhere_is_handled() {
    for text in corpus() {
        for (at, _) in text.char_indices() {
            load_returns_and_places_lie_inside(&text[..at]);
        }
    }
}

#[test]
fn nesting_without_end_and_texts_without_end_are_refused() {
    for text in [
        "[".repeat(1 << 20),
        "{\"a\":".repeat(1 << 18),
        "\"".to_owned() + &"a".repeat(1 << 20),
        "/*".repeat(1 << 20),
    ] {
        let errors = load(&[Source::new("x", &text)], &Options::default()).unwrap_err();
        assert_eq!(errors.len(), 1);
    }
}

#[test]
fn a_text_beyond_16_mib_is_refused_by_its_size() {
    let text = " ".repeat((16 << 20) + 1);
    let errors = load(&[Source::new("x", &text)], &Options::default()).unwrap_err();
    assert_eq!(errors[0].message, "expected at most 16777216 bytes, found 16777217");
}

#[test]
fn ten_thousand_mistakes_are_told_as_a_hundred_in_a_second() {
    let text =
        format!("{{ {} \"inbounds\": [{}] }}", "\"unknownkey\": 1, ".repeat(10_000), "5, ".repeat(10_000));
    let start = Instant::now();
    let errors = load(&[Source::new("x", &text)], &Options::default()).unwrap_err();
    assert_eq!(errors.len(), 100);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn five_thousand_users_load_in_a_second() {
    let users: Vec<String> = (0..5000)
        .map(|n| format!(r#"{{ "id": "b831381d-6324-4d53-ad4f-{n:012x}", "email": "{n}@example.com" }}"#))
        .collect();
    let text = format!(
        r#"{{ "inbounds": [{{ "protocol": "vmess", "port": 1, "settings": {{ "clients": [{}] }} }}] }}"#,
        users.join(",\n")
    );
    let start = Instant::now();
    assert!(load(&[Source::new("x", &text)], &Options::default()).is_ok());
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}
