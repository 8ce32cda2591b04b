//! The text of the configuration.

use std::{
    ffi::OsStr,
    fmt::Write as _,
    fs::{self, File},
    io::{self, IsTerminal as _, Read},
    path::{Path, PathBuf},
};

use wsray_config::Format;
use zeroize::Zeroize as _;

use super::{Named, Sources, help_text};

/// The longest configuration file: far more than any, and it keeps `-c /dev/zero` from taking all memory.
pub const MAX_SOURCE_BYTES: u64 = 16 * 1024 * 1024;

/// What messages call standard input.
const STDIN_NAME: &str = "stdin";

/// One file of a configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceText {
    /// What messages call it: its path as it was named, or `stdin`.
    pub name: String,
    /// What stands in it: holds secrets, and is wiped when dropped.
    pub text: String,
}

impl SourceText {
    /// Whether it cannot be read again.
    pub fn is_standard_input(&self) -> bool {
        self.name == STDIN_NAME
    }
}

impl Drop for SourceText {
    fn drop(&mut self) {
        self.text.zeroize();
    }
}

impl std::fmt::Debug for SourceText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SourceText({:?}, {} bytes)", self.name, self.text.len())
    }
}

/// The configuration could not be read; the user's fault. The program exits with
/// [`super::Exit::Config`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// None was named and none found; the message ends with the program's help.
    #[error("{}", nothing_text(looked_for))]
    Nothing {
        /// Where it was looked for, in order.
        looked_for: Vec<PathBuf>,
    },
    /// A file or directory cannot be read.
    #[error("{name}: cannot read the configuration: {source}")]
    Read {
        /// What was named.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A directory named on the command line without any configuration file.
    #[error("{}: no {} file in this directory", path.display(), patterns(ends))]
    EmptyDirectory {
        /// The directory.
        path: PathBuf,
        /// How names of configuration files end.
        ends: &'static [&'static str],
    },
    /// Not UTF-8.
    #[error("{name}: byte {offset} is not UTF-8 text\n  help: save the file as UTF-8")]
    NotUtf8 {
        /// What was named.
        name: String,
        /// The place of the first bad byte, from 0.
        offset: usize,
    },
    /// Longer than [`MAX_SOURCE_BYTES`].
    #[error("{name}: a configuration has at most {MAX_SOURCE_BYTES} bytes")]
    TooLarge {
        /// What was named.
        name: String,
    },
}

/// Reads the configuration: what `-c` and `-confdir` name, in this order; where they name nothing, the first
/// file there is of [`Sources::lookup`]; else standard input, unless that is a terminal. `kept` is what standard input held
/// when it was read before.
///
/// # Errors
/// Nothing was found, or something cannot be read.
pub fn read_sources(sources: &Sources, kept: Option<&SourceText>) -> Result<Vec<SourceText>, ReadError> {
    if let Some(kept) = kept {
        return read_from(sources, &mut kept.text.as_bytes(), Stdin::Data);
    }
    let stdin = io::stdin();
    let kind = if stdin.is_terminal() { Stdin::Terminal } else { Stdin::Data };
    read_from(sources, &mut stdin.lock(), kind)
}

/// What standard input is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stdin {
    Terminal,
    Data,
}

pub(super) fn read_from(
    sources: &Sources,
    stdin: &mut dyn Read,
    kind: Stdin,
) -> Result<Vec<SourceText>, ReadError> {
    let mut texts = Vec::new();
    for named in &sources.named {
        texts.push(match named {
            Named::Stdin => read(STDIN_NAME.into(), stdin)?,
            Named::File(path) => read_file(path)?,
        });
    }
    let ends = ends_of(sources.format);
    for directory in &sources.directories {
        let files = files_of(directory, ends)?;
        if files.is_empty() {
            return Err(ReadError::EmptyDirectory { path: directory.clone(), ends });
        }
        read_files(&files, &mut texts)?;
    }
    if let Some(directory) = sources.environment_directory.as_ref().filter(|path| path.is_dir()) {
        read_files(&files_of(directory, ends)?, &mut texts)?;
    }
    if texts.is_empty() {
        texts.push(look_for(&sources.lookup, stdin, kind)?);
    }
    Ok(texts)
}

fn look_for(lookup: &[PathBuf], stdin: &mut dyn Read, kind: Stdin) -> Result<SourceText, ReadError> {
    for path in lookup {
        match read_file(path) {
            Err(ReadError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
    let nothing = || ReadError::Nothing { looked_for: lookup.to_vec() };
    if kind == Stdin::Terminal {
        return Err(nothing());
    }
    let source = read(STDIN_NAME.into(), stdin)?;
    // A service has an empty standard input.
    if source.text.trim().is_empty() { Err(nothing()) } else { Ok(source) }
}

/// How the names of files of a format end (v2fly/v2ray-core 5.x `infra/conf/mergers`).
fn ends_of(format: Format) -> &'static [&'static str] {
    match format {
        Format::Auto => &["json", "jsonc", "yaml", "yml", "toml"],
        Format::Json | Format::JsonV5 => &["json", "jsonc"],
        Format::Yaml => &["yaml", "yml"],
        Format::Toml => &["toml"],
    }
}

/// The configuration files of a directory, by name.
fn files_of(directory: &Path, ends: &[&str]) -> Result<Vec<PathBuf>, ReadError> {
    let fail = |source| ReadError::Read { name: directory.display().to_string(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let end = path.extension().map(OsStr::to_ascii_lowercase);
        if ends.iter().any(|&one| end.as_deref() == Some(one.as_ref())) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_files(files: &[PathBuf], texts: &mut Vec<SourceText>) -> Result<(), ReadError> {
    for file in files {
        texts.push(read_file(file)?);
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<SourceText, ReadError> {
    let name = path.display().to_string();
    match File::open(path) {
        Ok(mut file) => read(name, &mut file),
        Err(source) => Err(ReadError::Read { name, source }),
    }
}

fn read(name: String, input: &mut dyn Read) -> Result<SourceText, ReadError> {
    let mut bytes = Vec::new();
    match input.take(MAX_SOURCE_BYTES + 1).read_to_end(&mut bytes) {
        Err(source) => Err(ReadError::Read { name, source }),
        Ok(len) if len as u64 > MAX_SOURCE_BYTES => Err(ReadError::TooLarge { name }),
        Ok(_) => match String::from_utf8(bytes) {
            Ok(text) => Ok(SourceText { name, text }),
            Err(error) => Err(ReadError::NotUtf8 { name, offset: error.utf8_error().valid_up_to() }),
        },
    }
}

fn patterns(ends: &[&str]) -> String {
    ends.iter().map(|end| format!("*.{end}")).collect::<Vec<_>>().join(", ")
}

fn nothing_text(looked_for: &[PathBuf]) -> String {
    let mut text = String::from("no configuration: looked for");
    for path in looked_for {
        // Writing to a String cannot fail.
        let _ = write!(text, " {},", path.display());
    }
    format!("{text} and on standard input\n\n{}", help_text())
}
