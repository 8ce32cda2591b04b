//! A JSON tree that remembers where everything stands, and the list of complaints about it.

use std::{
    cell::{Cell, RefCell},
    ops::RangeInclusive,
    rc::Rc,
    sync::Arc,
};

use jsonc_parser::{
    ast::{Object as JsonObject, ObjectProp, Value},
    common::Ranged,
};

use crate::{Diagnostic, Place, Source, keys::Key, object::Object};

/// What was asked for could not be had, and the reader has been told why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reported;

/// A value, or a complaint already made.
pub(crate) type Parsed<T> = Result<T, Reported>;

/// The most errors, and the most warnings, that are kept: more would help nobody.
const MAX_DIAGNOSTICS: usize = 100;

/// A text and what is to be said about it.
pub(crate) struct Reader<'a> {
    file: Arc<str>,
    text: &'a str,
    /// Where each line begins, in bytes.
    lines: Vec<usize>,
    /// The last offset asked for, and how many characters of its line stand before it.
    last_column: Cell<(usize, usize)>,
    errors: RefCell<Vec<Diagnostic>>,
    warnings: RefCell<Vec<Diagnostic>>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(source: &Source<'a>) -> Self {
        let first = if source.text.starts_with('\u{FEFF}') { 3 } else { 0 };
        let others = source.text.bytes().enumerate().filter(|&(_, b)| b == b'\n').map(|(at, _)| at + 1);
        Self {
            file: source.name.into(),
            text: source.text,
            lines: std::iter::once(first).chain(others).collect(),
            last_column: Cell::default(),
            errors: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// Errors and warnings, each in the order of their places.
    pub(crate) fn finish(self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        let order = |mut all: Vec<Diagnostic>| {
            all.sort_by_key(|one| {
                one.place.as_ref().map_or((usize::MAX, 0), |place| (place.line, place.column))
            });
            all
        };
        (order(self.errors.into_inner()), order(self.warnings.into_inner()))
    }

    pub(crate) fn refuse_at(&self, offset: usize, message: &str, help: &str) -> Reported {
        self.refuse(Diagnostic::at(&self.place(offset, ""), message).help(help))
    }

    pub(crate) fn warn_at(&self, offset: usize, message: &str, help: &str) {
        self.warn(Diagnostic::at(&self.place(offset, ""), message).help(help));
    }

    pub(crate) fn refuse(&self, diagnostic: Diagnostic) -> Reported {
        keep(&self.errors, diagnostic);
        Reported
    }

    pub(crate) fn warn(&self, diagnostic: Diagnostic) {
        keep(&self.warnings, diagnostic);
    }

    pub(crate) fn has_enough_warnings(&self) -> bool {
        self.warnings.borrow().len() >= MAX_DIAGNOSTICS
    }

    pub(crate) fn place(&self, offset: usize, path: &str) -> Place {
        let line = self.lines.partition_point(|&start| start <= offset).saturating_sub(1);
        let start = self.lines.get(line).copied().unwrap_or_default();
        // Places are mostly asked for in order, so on a long line counting goes on where it ended.
        let (counted_to, counted) = Some(self.last_column.get())
            .filter(|&(at, _)| (start..=offset).contains(&at))
            .unwrap_or((start, 0));
        let column = counted + self.text.get(counted_to..offset).unwrap_or_default().chars().count();
        self.last_column.set((offset, column));
        Place { file: self.file.clone(), line: line + 1, column: column + 1, path: path.into() }
    }
}

fn keep(list: &RefCell<Vec<Diagnostic>>, diagnostic: Diagnostic) {
    let mut list = list.borrow_mut();
    if list.len() < MAX_DIAGNOSTICS {
        list.push(diagnostic);
    }
}

/// A value of the tree.
#[derive(Clone)]
pub(crate) struct Node<'a> {
    pub(crate) reader: &'a Reader<'a>,
    value: &'a Value<'a>,
    path: Rc<str>,
}

impl<'a> Node<'a> {
    pub(crate) fn root(reader: &'a Reader<'a>, value: &'a Value<'a>) -> Self {
        Self { reader, value, path: "".into() }
    }

    pub(crate) fn place(&self) -> Place {
        self.reader.place(self.value.range().start, &self.path)
    }

    /// Reports an error about this value.
    pub(crate) fn refuse(&self, message: impl Into<String>, help: impl Into<String>) -> Reported {
        self.reader.refuse(Diagnostic::at(&self.place(), message).help(help))
    }

    /// Reports an error about this value, which is not what was expected.
    pub(crate) fn expected(&self, what: &str, help: impl Into<String>) -> Reported {
        self.refuse(format!("expected {what}, found {}", self.found()), help)
    }

    /// Reports a warning about this value.
    pub(crate) fn warn(&self, message: impl Into<String>, help: impl Into<String>) {
        self.reader.warn(Diagnostic::at(&self.place(), message).help(help));
    }

    /// The value in a few words.
    pub(crate) fn found(&self) -> String {
        match self.value {
            Value::StringLit(text) => format!("{:?}", clip(&text.value, 60)),
            Value::NumberLit(number) => clip(number.value, 40),
            Value::BooleanLit(flag) => flag.value.to_string(),
            Value::Object(_) => "an object".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::NullKeyword(_) => "null".to_owned(),
        }
    }

    pub(crate) fn as_text(&self) -> Option<&'a str> {
        self.value.as_string_lit().map(|text| text.value.as_ref())
    }

    /// What kind of value it is, for values that must not be shown.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::StringLit(_) => "a text",
            Value::NumberLit(_) => "a number",
            Value::BooleanLit(_) => "true or false",
            Value::Object(_) => "an object",
            Value::Array(_) => "a list",
            Value::NullKeyword(_) => "null",
        }
    }

    pub(crate) fn is_list(&self) -> bool {
        self.value.as_array().is_some()
    }

    pub(crate) fn is_object(&self) -> bool {
        self.value.as_object().is_some()
    }

    /// `what` names the thing in the error, such as `a path`.
    pub(crate) fn text(&self, what: &str) -> Parsed<&'a str> {
        self.as_text().ok_or_else(|| {
            let help = match self.value {
                Value::NumberLit(_) | Value::BooleanLit(_) => {
                    format!("put it in double quotes: \"{}\"", self.found())
                }
                _ => "write one text in double quotes".to_owned(),
            };
            self.expected(what, help)
        })
    }

    pub(crate) fn flag(&self) -> Parsed<bool> {
        if let Value::BooleanLit(flag) = self.value {
            return Ok(flag.value);
        }
        let meant = match self.found().trim_matches('"').to_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => "write true without quotes",
            "false" | "0" | "no" | "off" => "write false without quotes",
            _ => "write true or false",
        };
        Err(self.expected("true or false", meant))
    }

    /// A whole number in `range`; `what` names it with its unit.
    pub(crate) fn number(&self, what: &str, range: RangeInclusive<u32>) -> Parsed<u32> {
        if let Value::NumberLit(number) = self.value
            && let Ok(number) = number.value.parse::<u32>()
            && range.contains(&number)
        {
            return Ok(number);
        }
        let help = match self.meant_number().filter(|number| range.contains(number)) {
            Some(number) if self.as_text().is_some_and(|text| text.trim() == number.to_string()) => {
                format!("write {number} without quotes")
            }
            Some(number) => format!("write {number}"),
            None => format!("write a number from {} to {}, without quotes", range.start(), range.end()),
        };
        Err(self.expected(&format!("{what} ({} to {})", range.start(), range.end()), help))
    }

    /// The whole number that `"2048"`, `"2k"`, `2048.0` or `2048.5` is probably meant to be.
    fn meant_number(&self) -> Option<u32> {
        let text = match self.value {
            Value::StringLit(text) => text.value.trim().to_lowercase(),
            Value::NumberLit(number) => number.value.split('.').next().unwrap_or_default().to_owned(),
            _ => return None,
        };
        let (text, scale) = ["kib", "kb", "k"]
            .iter()
            .find_map(|unit| text.strip_suffix(unit))
            .map_or((text.as_str(), 1), |digits| (digits.trim_end(), 1024));
        let digits = text.trim_end_matches(|c: char| c.is_ascii_lowercase()).trim_end();
        digits.parse::<u32>().ok()?.checked_mul(scale)
    }

    /// The elements of a list, `null` ones left out.
    pub(crate) fn list(&self) -> Parsed<Vec<Node<'a>>> {
        let Value::Array(array) = self.value else {
            return Err(self.expected("a list", "put it in square brackets: [ ... ]"));
        };
        let elements =
            array.elements.iter().enumerate().filter(|(_, value)| value.as_null_keyword().is_none());
        Ok(elements.map(|(n, value)| self.child(value, format!("{}[{n}]", self.path).into())).collect())
    }

    /// Texts: a list of them, or one with commas between (V2Ray's `StringList`).
    pub(crate) fn texts(&self, what: &str) -> Parsed<Vec<(Node<'a>, &'a str)>> {
        if let Some(text) = self.as_text() {
            return Ok(text
                .split(',')
                .map(str::trim)
                .filter(|t| !t.is_empty())
                .map(|t| (self.clone(), t))
                .collect());
        }
        if !self.is_list() {
            return Err(self.expected(what, "write a list of texts: [\"...\", \"...\"]"));
        }
        let texts: Vec<_> = self.list()?.into_iter().map(|node| (node.text("a text"), node)).collect();
        texts.into_iter().map(|(text, node)| Ok((node, text?))).collect()
    }

    /// An object whose keys `known` lists; each key's fate is dealt with here.
    pub(crate) fn object(&self, known: &'static [Key]) -> Parsed<Object<'a>> {
        Ok(Object::new(self.clone(), self.members()?, known))
    }

    /// The members of an object with keys of the user's choice: name, place of the name, value; `null` left
    /// out.
    pub(crate) fn entries(&self) -> Parsed<Vec<(&'a str, Place, Node<'a>)>> {
        let members = self.members()?;
        let present = members.properties.iter().filter(|member| member.value.as_null_keyword().is_none());
        Ok(present
            .map(|member| (member.name.as_str(), self.key_place(member), self.member(member)))
            .collect())
    }

    /// Whether this switches something off, so that nobody misses it: `false`, `0`, an empty value, a word
    /// for "nothing special", `enabled: false`, or only such things.
    pub(crate) fn is_off(&self) -> bool {
        is_off(self.value)
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        match self.value {
            Value::StringLit(text) => text.value.is_empty(),
            Value::Array(array) => array.elements.is_empty(),
            Value::Object(object) => object.properties.is_empty(),
            Value::NullKeyword(_) => true,
            Value::NumberLit(_) | Value::BooleanLit(_) => false,
        }
    }

    fn members(&self) -> Parsed<&'a JsonObject<'a>> {
        self.value.as_object().ok_or_else(|| self.expected("an object", "write { \"key\": value, ... }"))
    }

    fn child(&self, value: &'a Value<'a>, path: Rc<str>) -> Node<'a> {
        Node { reader: self.reader, value, path }
    }

    pub(crate) fn member(&self, member: &'a ObjectProp<'a>) -> Node<'a> {
        self.child(&member.value, self.key_path(member.name.as_str()).into())
    }

    fn key_path(&self, key: &str) -> String {
        let plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
        match (plain, self.path.is_empty()) {
            (true, true) => clip(key, 60),
            (true, false) => format!("{}.{}", self.path, clip(key, 60)),
            (false, _) => format!("{}[{:?}]", self.path, clip(key, 60)),
        }
    }

    pub(crate) fn key_place(&self, member: &ObjectProp<'_>) -> Place {
        self.reader.place(member.range.start, &self.key_path(member.name.as_str()))
    }
}

/// Words by which V2Ray and Xray spell "nothing special".
const OFF_WORDS: [&str; 6] = ["", "off", "none", "asis", "always", "0.0.0.0"];

fn is_off(value: &Value<'_>) -> bool {
    match value {
        Value::NullKeyword(_) => true,
        Value::BooleanLit(flag) => !flag.value,
        Value::NumberLit(number) => number.value == "0",
        Value::StringLit(text) => OFF_WORDS.iter().any(|word| text.value.eq_ignore_ascii_case(word)),
        Value::Array(array) => array.elements.iter().all(is_off),
        Value::Object(object) => {
            let enabled =
                object.properties.iter().rfind(|member| member.name.as_str().eq_ignore_ascii_case("enabled"));
            match enabled {
                Some(enabled) => is_off(&enabled.value),
                None => object.properties.iter().all(|member| is_off(&member.value)),
            }
        }
    }
}

/// At most `limit` characters of `text`.
pub(crate) fn clip(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
