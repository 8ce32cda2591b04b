//! The values of a tree as the dialects read them, and the list of complaints about them.

use std::{
    cell::{Cell, RefCell},
    ops::RangeInclusive,
    rc::Rc,
    sync::Arc,
};

use crate::{
    Diagnostic, Place, Source,
    keys::Key,
    object::Object,
    tree::{At, Element, Member, Tree, Value},
};

/// What was asked for could not be had, and the reader has been told why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reported;

/// A value, or a complaint already made.
pub(crate) type Parsed<T> = Result<T, Reported>;

/// The most errors, and the most warnings, that are kept: more would help nobody.
const MAX_DIAGNOSTICS: usize = 100;

/// In whose words a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// V2Ray 4's, the only one before V2Ray 5 and the default of its `.json` files.
    V4,
    /// V2Ray 5's own (`-format jsonv5`).
    V5,
}

/// The sources and what is to be said about them.
pub(crate) struct Reader<'a> {
    files: Vec<File<'a>>,
    variable: &'a dyn Fn(&str) -> Option<String>,
    errors: RefCell<Vec<Diagnostic>>,
    warnings: RefCell<Vec<Diagnostic>>,
}

/// A source's text.
struct File<'a> {
    name: Arc<str>,
    text: &'a str,
    /// Where each line begins, in bytes.
    lines: Vec<usize>,
    /// The last offset asked for, and how many characters of its line stand before it.
    last_column: Cell<(usize, usize)>,
}

impl<'a> File<'a> {
    fn new(source: &Source<'a>) -> Self {
        let first = if source.text.starts_with('\u{FEFF}') { 3 } else { 0 };
        let others = source.text.bytes().enumerate().filter(|&(_, b)| b == b'\n').map(|(at, _)| at + 1);
        Self {
            name: source.name.into(),
            text: source.text,
            lines: std::iter::once(first).chain(others).collect(),
            last_column: Cell::default(),
        }
    }

    fn place(&self, offset: usize, path: &str) -> Place {
        let line = self.lines.partition_point(|&start| start <= offset).saturating_sub(1);
        let start = self.lines.get(line).copied().unwrap_or_default();
        // Places are mostly asked for in order, so on a long line counting goes on where it ended.
        let (counted_to, counted) = Some(self.last_column.get())
            .filter(|&(at, _)| (start..=offset).contains(&at))
            .unwrap_or((start, 0));
        let column = counted + self.text.get(counted_to..offset).unwrap_or_default().chars().count();
        self.last_column.set((offset, column));
        Place { file: self.name.clone(), line: line + 1, column: column + 1, path: path.into() }
    }
}

impl<'a> Reader<'a> {
    /// `variable` gives the value of a variable of the environment.
    pub(crate) fn new(sources: &[Source<'a>], variable: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            files: sources.iter().map(File::new).collect(),
            variable,
            errors: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    pub(crate) fn text(&self, source: usize) -> &'a str {
        self.files.get(source).map_or("", |file| file.text)
    }

    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        (self.variable)(name)
    }

    /// Errors and warnings, each in the order of their places.
    pub(crate) fn finish(self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        let order = |mut all: Vec<Diagnostic>| {
            all.sort_by_key(|one| {
                one.place.as_ref().map_or((usize::MAX, 0, 0), |place| {
                    let source = self.files.iter().position(|file| Arc::ptr_eq(&file.name, &place.file));
                    (source.unwrap_or_default(), place.line, place.column)
                })
            });
            all
        };
        (order(self.errors.into_inner()), order(self.warnings.into_inner()))
    }

    pub(crate) fn refuse_at(&self, at: At, message: &str, help: &str) -> Reported {
        self.refuse(Diagnostic::at(&self.place(at, ""), message).help(help))
    }

    pub(crate) fn warn_at(&self, at: At, message: &str, help: &str) {
        self.warn(Diagnostic::at(&self.place(at, ""), message).help(help));
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

    pub(crate) fn place(&self, at: At, path: &str) -> Place {
        match self.files.get(at.source) {
            Some(file) => file.place(at.offset, path),
            None => Place { file: "".into(), line: 1, column: 1, path: path.into() },
        }
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
    pub(crate) dialect: Dialect,
    tree: &'a Tree,
    path: Rc<str>,
}

impl<'a> Node<'a> {
    pub(crate) fn root(reader: &'a Reader<'a>, tree: &'a Tree, dialect: Dialect) -> Self {
        Self { reader, dialect, tree, path: "".into() }
    }

    /// The same value, read in another dialect.
    pub(crate) fn in_dialect(&self, dialect: Dialect) -> Self {
        Self { dialect, ..self.clone() }
    }

    /// The first in V2Ray 4's dialect, the second in V2Ray 5's: a key, or what to write.
    pub(crate) fn either<T>(&self, v4: T, v5: T) -> T {
        match self.dialect {
            Dialect::V4 => v4,
            Dialect::V5 => v5,
        }
    }

    pub(crate) fn place(&self) -> Place {
        self.reader.place(self.tree.at, &self.path)
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
        match &self.tree.value {
            Value::Text(text) => format!("{:?}", clip(text, 60)),
            Value::Number(number) => clip(number, 40),
            Value::Flag(flag) => flag.to_string(),
            Value::Object(_) => "an object".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Null => "null".to_owned(),
        }
    }

    pub(crate) fn as_text(&self) -> Option<&'a str> {
        match &self.tree.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What kind of value it is, for values that must not be shown.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.tree.value {
            Value::Text(_) => "a text",
            Value::Number(_) => "a number",
            Value::Flag(_) => "true or false",
            Value::Object(_) => "an object",
            Value::List(_) => "a list",
            Value::Null => "null",
        }
    }

    /// Whether it is a number below zero.
    pub(crate) fn is_negative(&self) -> bool {
        matches!(&self.tree.value, Value::Number(number) if number.starts_with('-'))
    }

    pub(crate) fn is_number(&self) -> bool {
        matches!(self.tree.value, Value::Number(_))
    }

    pub(crate) fn is_list(&self) -> bool {
        matches!(self.tree.value, Value::List(_))
    }

    pub(crate) fn is_object(&self) -> bool {
        matches!(self.tree.value, Value::Object(_))
    }

    /// `what` names the thing in the error, such as `a path`.
    pub(crate) fn text(&self, what: &str) -> Parsed<&'a str> {
        self.as_text().ok_or_else(|| {
            let help = match &self.tree.value {
                Value::Number(_) | Value::Flag(_) => {
                    format!("put it in double quotes: \"{}\"", self.found())
                }
                _ => "write one text in double quotes".to_owned(),
            };
            self.expected(what, help)
        })
    }

    pub(crate) fn flag(&self) -> Parsed<bool> {
        if let Value::Flag(flag) = self.tree.value {
            return Ok(flag);
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
        let digits = match &self.tree.value {
            Value::Number(number) => Some(number),
            // JSON for protobuf takes a number in quotes.
            Value::Text(text) if self.dialect == Dialect::V5 => Some(text),
            _ => None,
        };
        if let Some(Ok(number)) = digits.map(|digits| digits.parse::<u32>())
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
        let text = match &self.tree.value {
            Value::Text(text) => text.trim().to_lowercase(),
            Value::Number(number) => number.split('.').next().unwrap_or_default().to_owned(),
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
        let Value::List(elements) = &self.tree.value else {
            return Err(self.expected("a list", "put it in square brackets: [ ... ]"));
        };
        let present = elements.iter().filter(|element| !element.tree.is_null());
        let node = |element: &'a Element| {
            self.child(&element.tree, format!("{}[{}]", self.path, element.index).into())
        };
        Ok(present.map(node).collect())
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
        let present = members.iter().filter(|member| !member.tree.is_null());
        Ok(present
            .map(|member| (member.name.as_str(), self.key_place(member), self.member(member)))
            .collect())
    }

    /// Whether this switches something off, so that nobody misses it: `false`, `0`, an empty value, a word
    /// for "nothing special", `enabled: false`, or only such things.
    pub(crate) fn is_off(&self) -> bool {
        is_off(self.tree)
    }

    /// The value of `key`, without a word about the object's other keys.
    pub(crate) fn peek(&self, key: &str) -> Option<Node<'a>> {
        self.tree.find(key).map(|tree| self.child(tree, self.key_path(key).into()))
    }

    /// The elements if it is a list, else none.
    pub(crate) fn elements(&self) -> Vec<Node<'a>> {
        if self.is_list() { self.list().unwrap_or_default() } else { Vec::new() }
    }

    /// The texts that [`texts`](Self::texts) gives, and none where it complains.
    pub(crate) fn peek_texts(&self) -> Vec<&'a str> {
        match self.as_text() {
            Some(text) => text.split(',').map(str::trim).filter(|text| !text.is_empty()).collect(),
            None => self.elements().iter().filter_map(Node::as_text).collect(),
        }
    }

    /// Whether this is an object with `key`.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.tree.find(key).is_some()
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.tree.value {
            Value::Text(text) => text.is_empty(),
            Value::List(elements) => elements.is_empty(),
            Value::Object(members) => members.is_empty(),
            Value::Null => true,
            Value::Number(_) | Value::Flag(_) => false,
        }
    }

    fn members(&self) -> Parsed<&'a [Member]> {
        match &self.tree.value {
            Value::Object(members) => Ok(members),
            _ => Err(self.expected("an object", "write { \"key\": value, ... }")),
        }
    }

    fn child(&self, tree: &'a Tree, path: Rc<str>) -> Node<'a> {
        Node { reader: self.reader, dialect: self.dialect, tree, path }
    }

    pub(crate) fn member(&self, member: &'a Member) -> Node<'a> {
        self.child(&member.tree, self.key_path(&member.name).into())
    }

    fn key_path(&self, key: &str) -> String {
        let plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
        match (plain, self.path.is_empty()) {
            (true, true) => clip(key, 60),
            (true, false) => format!("{}.{}", self.path, clip(key, 60)),
            (false, _) => format!("{}[{:?}]", self.path, clip(key, 60)),
        }
    }

    pub(crate) fn key_place(&self, member: &Member) -> Place {
        self.reader.place(member.at, &self.key_path(&member.name))
    }
}

/// Words by which V2Ray and Xray spell "nothing special".
const OFF_WORDS: [&str; 6] = ["", "off", "none", "asis", "always", "0.0.0.0"];

fn is_off(tree: &Tree) -> bool {
    match &tree.value {
        Value::Null => true,
        Value::Flag(flag) => !flag,
        Value::Number(number) => number == "0",
        Value::Text(text) => OFF_WORDS.iter().any(|word| text.eq_ignore_ascii_case(word)),
        Value::List(elements) => elements.iter().all(|element| is_off(&element.tree)),
        Value::Object(members) => {
            let enabled = members.iter().rfind(|member| member.name.eq_ignore_ascii_case("enabled"));
            match enabled {
                Some(enabled) => is_off(&enabled.tree),
                None => members.iter().all(|member| is_off(&member.tree)),
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
