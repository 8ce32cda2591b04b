//! The formats, and which one a source has.

mod toml;
mod yaml;

use std::{ffi::OsStr, path::Path};

use crate::{
    Source,
    node::{Parsed, Reader},
    syntax,
    tree::Tree,
};

/// What a source is written in. JSON may hold comments and trailing commas in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// By the end of the source's name: `.yaml` and `.yml`, `.toml`, JSON for all others. The dialect is
    /// recognised by its keys.
    #[default]
    Auto,
    /// JSON in V2Ray 4's dialect.
    Json,
    /// JSON in V2Ray 5's own dialect.
    JsonV5,
    /// YAML. The dialect is recognised by its keys, as for all but the two above.
    Yaml,
    /// TOML.
    Toml,
}

/// Makes a tree of a source.
///
/// # Errors
/// Reported to `reader`.
pub(crate) fn read(reader: &Reader<'_>, number: usize, source: &Source<'_>) -> Parsed<Tree> {
    syntax::check_length(reader, number)?;
    match written_in(source) {
        Format::Yaml => yaml::read(reader, number),
        Format::Toml => toml::read(reader, number),
        Format::Auto | Format::Json | Format::JsonV5 => syntax::json(reader, number),
    }
}

/// The format, never [`Format::Auto`].
fn written_in(source: &Source<'_>) -> Format {
    if source.format != Format::Auto {
        return source.format;
    }
    let end = Path::new(source.name).extension().map(OsStr::to_ascii_lowercase);
    match end.as_ref().and_then(|end| end.to_str()) {
        Some("yaml" | "yml") => Format::Yaml,
        Some("toml") => Format::Toml,
        _ => Format::Json,
    }
}
