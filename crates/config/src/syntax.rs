//! From text to a JSON tree: comments of three kinds, trailing commas, and errors a person can act on.
//!
//! The values are found by `jsonc-parser`. Before it runs, one pass over the text blanks the comments (it does
//! not know `#`), finds where the first value ends (V2Ray ignores what follows), and refuses what that parser
//! would not: texts that run over the end of their line, and nesting without end.

use jsonc_parser::{
    CollectOptions, ParseOptions, ParseStringErrorKind, ast, common::Ranged, errors::ParseErrorKind as Kind,
    parse_to_ast,
};

use crate::{
    node::{Reader, Reported, clip},
    tree::{At, Member, Tree, Value},
};

/// The longest text that is read, in bytes; some thousand times a large configuration.
pub(crate) const MAX_TEXT_BYTES: usize = 16 << 20;
/// The deepest nesting of objects and lists; V2Ray's own keys need 9.
pub(crate) const MAX_DEPTH: usize = 64;

/// Reads the JSON of a source.
///
/// # Errors
/// Reported to `reader`.
pub(crate) fn json(reader: &Reader<'_>, source: usize) -> Result<Tree, Reported> {
    let text = prepare(reader, source)?;
    let at = |offset| At { source, offset };
    let options = ParseOptions {
        allow_comments: false,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    match parse_to_ast(&text, &CollectOptions::default(), &options) {
        Ok(parsed) => parsed.value.map(|value| tree(value, source)).ok_or_else(|| nothing(reader, source)),
        Err(error) => {
            let range = error.range();
            let found = text.get(range.start..).unwrap_or_default();
            let (message, help) = explain(error.kind(), found);
            Err(reader.refuse_at(at(range.start), &message, &help))
        }
    }
}

/// The error that a source holds nothing.
pub(crate) fn nothing(reader: &Reader<'_>, source: usize) -> Reported {
    reader.refuse_at(
        At { source, offset: 0 },
        "expected a configuration, found nothing",
        "write an object: { \"inbounds\": [...], ... }",
    )
}

/// Refuses a source that is too long to be read.
pub(crate) fn check_length(reader: &Reader<'_>, source: usize) -> Result<(), Reported> {
    let length = reader.text(source).len();
    if length <= MAX_TEXT_BYTES {
        return Ok(());
    }
    Err(reader.refuse_at(
        At { source, offset: 0 },
        &format!("expected at most {MAX_TEXT_BYTES} bytes, found {length}"),
        "this is hardly a configuration: check the file name",
    ))
}

/// The error that objects and lists are nested too deep.
pub(crate) fn too_deep(reader: &Reader<'_>, at: At) -> Reported {
    let message = format!("expected at most {MAX_DEPTH} levels of nesting, found more");
    reader.refuse_at(at, &message, "look for a missing \"}\" or \"]\" before it")
}

/// The same text, byte for byte as long, with nothing left that the parser does not know.
fn prepare(reader: &Reader<'_>, source: usize) -> Result<String, Reported> {
    let bytes = reader.text(source).as_bytes();
    Blanking { reader, source, bytes, out: bytes.to_vec(), at: 0, depth: 0 }.run()
}

/// Our tree of the parser's; as deep as [`prepare`] let it be.
fn tree(value: ast::Value<'_>, source: usize) -> Tree {
    let at = |offset| At { source, offset };
    let start = at(value.range().start);
    let value = match value {
        ast::Value::NullKeyword(_) => Value::Null,
        ast::Value::BooleanLit(flag) => Value::Flag(flag.value),
        ast::Value::NumberLit(number) => Value::Number(number.value.to_owned()),
        ast::Value::StringLit(text) => Value::Text(text.value.into_owned()),
        ast::Value::Array(array) => {
            return Tree::list(start, array.elements.into_iter().map(|value| tree(value, source)));
        }
        ast::Value::Object(object) => {
            let members = object.properties.into_iter().map(|member| Member {
                name: member.name.as_str().to_owned(),
                at: at(member.range.start),
                tree: tree(member.value, source),
            });
            Value::Object(members.collect())
        }
    };
    Tree { at: start, value }
}

/// The pass that blanks comments.
struct Blanking<'a> {
    reader: &'a Reader<'a>,
    source: usize,
    bytes: &'a [u8],
    out: Vec<u8>,
    at: usize,
    depth: usize,
}

impl Blanking<'_> {
    fn run(mut self) -> Result<String, Reported> {
        if self.bytes.starts_with(b"\xEF\xBB\xBF") {
            self.blank_to(3);
        }
        let mut ended = false;
        while let Some(&byte) = self.bytes.get(self.at) {
            if self.skip_comment()? {
                continue;
            }
            if ended && !byte.is_ascii_whitespace() {
                self.reader.warn_at(
                    self.here(),
                    "the text from here on is ignored: the configuration has ended",
                    "if it should count, look for a \"}\" too many before it",
                );
                self.blank_to(self.bytes.len());
                break;
            }
            match byte {
                b'"' => self.skip_text()?,
                b'{' | b'[' => self.open()?,
                b'}' | b']' => {
                    self.at += 1;
                    self.depth = self.depth.saturating_sub(1);
                    ended = self.depth == 0;
                }
                _ => self.at += 1,
            }
        }
        // Only whole characters are blanked, so this cannot fail.
        Ok(String::from_utf8_lossy(&self.out).into_owned())
    }

    fn here(&self) -> At {
        At { source: self.source, offset: self.at }
    }

    fn open(&mut self) -> Result<(), Reported> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(too_deep(self.reader, self.here()));
        }
        self.at += 1;
        Ok(())
    }

    /// Blanks the comment that starts here, if one does.
    fn skip_comment(&mut self) -> Result<bool, Reported> {
        let rest = &self.bytes[self.at..];
        let length = if rest.starts_with(b"#") || rest.starts_with(b"//") {
            rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            let Some(end) = rest.windows(2).skip(2).position(|pair| pair == b"*/") else {
                return Err(self.reader.refuse_at(
                    self.here(),
                    "this comment does not end",
                    "write */ where it should end",
                ));
            };
            end + 4
        } else {
            return Ok(false);
        };
        self.blank_to(self.at + length);
        Ok(true)
    }

    fn skip_text(&mut self) -> Result<(), Reported> {
        let start = self.at;
        self.at += 1;
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.at = (self.at + 2).min(self.bytes.len()),
                b'\n' | b'\r' => break,
                0..=0x1F => {
                    let message = format!("a text cannot hold the control character {byte:#04x} as it is");
                    return Err(self.reader.refuse_at(
                        self.here(),
                        &message,
                        &format!("write \\u{byte:04x}"),
                    ));
                }
                _ => self.at += 1,
            }
        }
        Err(self.reader.refuse_at(
            At { source: self.source, offset: start },
            "this text does not end on its line",
            "close it with a double quote (\")",
        ))
    }

    fn blank_to(&mut self, end: usize) {
        for byte in &mut self.out[self.at..end] {
            if !matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        self.at = end;
    }
}

/// What a syntax error means and what to do, given the text from its place on.
fn explain(kind: &Kind, rest: &str) -> (String, String) {
    let found = found(rest);
    if let Some((wide, sign)) = wide_sign(rest) {
        return (
            format!("expected a sign of JSON, found {found}"),
            format!("write {sign} instead of {wide}"),
        );
    }
    let (expected, help) = match kind {
        Kind::ExpectedComma => ("a comma", "put a comma here, behind the value".to_owned()),
        Kind::ExpectedColonAfterObjectKey => ("a colon after the key", "write \"key\": value".to_owned()),
        Kind::ExpectedStringObjectProperty | Kind::UnexpectedTokenInObject => {
            ("a key in double quotes, or \"}\"", "write \"key\": value".to_owned())
        }
        Kind::SingleQuotedStringsNotAllowed => ("double quotes", "write \" instead of '".to_owned()),
        Kind::UnterminatedObject => ("a \"}\" for this \"{\"", "add \"}\" where the object ends".to_owned()),
        Kind::UnterminatedArray => ("a \"]\" for this \"[\"", "add \"]\" where the list ends".to_owned()),
        Kind::UnexpectedComma => ("a value", "remove one comma, or write the missing value".to_owned()),
        Kind::ExpectedObjectValue => ("a value after the colon", "write the value".to_owned()),
        Kind::UnexpectedCloseBrace => ("a value or \"]\"", "close the list with \"]\" first".to_owned()),
        Kind::UnexpectedCloseBracket => ("a value or \"}\"", "close the object with \"}\" first".to_owned()),
        Kind::String(ParseStringErrorKind::UnterminatedStringLiteral) => {
            ("a double quote at the text's end", "close the text with \"".to_owned())
        }
        Kind::String(_) => {
            ("a JSON escape", "write \\\\ for a backslash, or / in Windows file names".to_owned())
        }
        Kind::MultipleRootJsonValues => (
            "nothing behind the first value",
            "put the whole configuration into one object: { ... }".to_owned(),
        ),
        Kind::UnexpectedWord => ("a value", word_help(&found)),
        Kind::HexadecimalNumbersNotAllowed
        | Kind::UnaryPlusNumbersNotAllowed
        | Kind::BareDecimalPointNumbersNotAllowed
        | Kind::NonFiniteNumbersNotAllowed
        | Kind::ExpectedDigit
        | Kind::ExpectedDigitFollowingNegativeSign
        | Kind::ExpectedPlusMinusOrDigitInNumberLiteral => {
            ("a number", "write a plain decimal number".to_owned())
        }
        _ => ("JSON", "remove or correct it".to_owned()),
    };
    let found = match kind {
        // The place is where it began, which is not what was found.
        Kind::UnterminatedObject | Kind::UnterminatedArray => "the end of the file".to_owned(),
        _ => found,
    };
    (format!("expected {expected}, found {found}"), help)
}

/// The sign of JSON that is meant where `rest` begins with one that a Chinese keyboard or a word processor writes,
/// behind that one.
fn wide_sign(rest: &str) -> Option<(char, char)> {
    let wide = rest.trim_start().chars().next()?;
    let sign = match wide {
        '：' => ':',
        '，' | '、' => ',',
        '“' | '”' | '„' | '＂' => '"',
        '｛' => '{',
        '｝' => '}',
        '［' | '【' => '[',
        '］' | '】' => ']',
        _ => return None,
    };
    Some((wide, sign))
}

/// The first word or sign of `rest`.
fn found(rest: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || "_-+.".contains(c);
    let rest = rest.trim_start();
    match rest.chars().next() {
        None => "the end of the file".to_owned(),
        // A text may be a secret: its first letters show which one it is.
        Some('"') => format!("\"{}\"", clip(rest[1..].split('"').next().unwrap_or_default(), 4)),
        Some(c) if is_word(c) => clip(rest.split(|c| !is_word(c)).next().unwrap_or_default(), 20),
        Some(c) => format!("{:?}", c.to_string()),
    }
}

fn word_help(word: &str) -> String {
    match word.to_lowercase().as_str() {
        "true" | "yes" | "on" => "write true".to_owned(),
        "false" | "no" | "off" => "write false".to_owned(),
        "null" | "none" | "nil" | "undefined" => "write null".to_owned(),
        _ => "put text in double quotes".to_owned(),
    }
}
