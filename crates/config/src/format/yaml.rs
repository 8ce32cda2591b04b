//! YAML 1.2 with its core schema (yaml.org/spec/1.2.2, section 10.3), by `saphyr-parser`, whose events know where
//! they are.
//!
//! So `yes` and `on` are texts, not flags. Anchors and aliases work within bounds; merge keys (`<<`), tags of other
//! schemas and a second document are refused.

use std::{borrow::Cow, collections::HashMap};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use crate::{
    node::{Parsed, Reader, Reported, clip},
    syntax::{MAX_DEPTH, nothing, too_deep},
    tree::{At, Member, Tree, Value},
};

/// The most values that anchors and aliases may make; some thousand times a large configuration.
const MAX_COPIES: usize = 1_000_000;

/// Reads the YAML of a source.
///
/// # Errors
/// Reported to `reader`.
pub(super) fn read(reader: &Reader<'_>, source: usize) -> Parsed<Tree> {
    let whole = reader.text(source);
    let text = whole.strip_prefix('\u{FEFF}').unwrap_or(whole);
    let offsets = Offsets { text, first: whole.len() - text.len(), characters: 0, bytes: 0 };
    let mut builder =
        Builder { reader, source, offsets, open: Vec::new(), anchors: HashMap::new(), copies: 0, root: None };
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => {
                let at = builder.at(&span.start);
                builder.event(event, at)?;
            }
            Err(error) => {
                let at = builder.at(error.marker());
                let info = error.info().lines().next().unwrap_or_default();
                return Err(reader.refuse_at(
                    at,
                    &format!("this is not YAML: {}", clip(info, 200)),
                    "look at this line and the one before it: indentation, a missing colon or quote",
                ));
            }
        }
    }
    builder.root.ok_or_else(|| nothing(reader, source))
}

/// From the characters that the parser counts to bytes.
struct Offsets<'a> {
    text: &'a str,
    /// Where `text` begins in the source.
    first: usize,
    /// The last place asked for.
    characters: usize,
    bytes: usize,
}

impl Offsets<'_> {
    fn of(&mut self, marker: &Marker) -> usize {
        if marker.index() < self.characters {
            (self.characters, self.bytes) = (0, 0);
        }
        let rest = self.text.get(self.bytes..).unwrap_or_default();
        let more = marker.index() - self.characters;
        let length = rest.char_indices().nth(more).map_or(rest.len(), |(at, _)| at);
        (self.characters, self.bytes) = (marker.index(), self.bytes + length);
        self.first + self.bytes
    }
}

/// A list or object that has not ended.
struct Open {
    at: At,
    anchor: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Tree>),
    Object {
        members: Vec<Member>,
        /// The key whose value is awaited.
        key: Option<(String, At)>,
    },
}

struct Builder<'a, 't> {
    reader: &'a Reader<'t>,
    source: usize,
    offsets: Offsets<'t>,
    open: Vec<Open>,
    /// By the parser's number.
    anchors: HashMap<usize, Tree>,
    copies: usize,
    root: Option<Tree>,
}

impl Builder<'_, '_> {
    fn at(&mut self, marker: &Marker) -> At {
        At { source: self.source, offset: self.offsets.of(marker) }
    }

    fn event(&mut self, event: Event<'_>, at: At) -> Parsed<()> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = self.scalar(&text, style, tag.as_deref(), at)?;
                self.value(Tree { at, value }, anchor)
            }
            Event::SequenceStart(anchor, tag) => self.start(at, anchor, tag, Kind::List(Vec::new())),
            Event::MappingStart(anchor, tag) => {
                self.start(at, anchor, tag, Kind::Object { members: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open { at, anchor, kind: Kind::List(trees) }) => {
                    self.value(Tree::list(at, trees), anchor)
                }
                Some(Open { at, anchor, kind: Kind::Object { members, .. } }) => {
                    self.value(Tree { at, value: Value::Object(members) }, anchor)
                }
                None => Ok(()),
            },
            Event::Alias(anchor) => {
                let copy = self.copy(anchor, at)?;
                self.value(copy, 0)
            }
            Event::DocumentStart(_) if self.root.is_some() => Err(self.reader.refuse_at(
                at,
                "expected one document, found another one",
                "put the whole configuration into one document, without \"---\" in between",
            )),
            _ => Ok(()),
        }
    }

    fn start(&mut self, at: At, anchor: usize, tag: Option<Cow<'_, Tag>>, kind: Kind) -> Parsed<()> {
        let expected = if matches!(kind, Kind::List(_)) { "seq" } else { "map" };
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema() || tag.suffix != expected) {
            return Err(self.foreign_tag(&tag, at));
        }
        if let Some(Open { kind: Kind::Object { key: None, .. }, .. }) = self.open.last() {
            return Err(self.reader.refuse_at(at, "expected a key that is a text", "write key: value"));
        }
        self.open.push(Open { at, anchor, kind });
        if self.open.len() > MAX_DEPTH { Err(too_deep(self.reader, at)) } else { Ok(()) }
    }

    /// Puts a whole value where it belongs.
    fn value(&mut self, tree: Tree, anchor: usize) -> Parsed<()> {
        if anchor > 0 {
            self.count(&tree, tree.at)?;
            self.anchors.insert(anchor, tree.clone());
        }
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(tree),
            Some(Kind::List(trees)) => trees.push(tree),
            Some(Kind::Object { members, key }) => match key.take() {
                Some((name, at)) => members.push(Member { name, at, tree }),
                None => *key = Some((self::key(self.reader, &tree)?, tree.at)),
            },
        }
        Ok(())
    }

    fn copy(&mut self, anchor: usize, at: At) -> Parsed<Tree> {
        let Some(tree) = self.anchors.get(&anchor).cloned() else {
            return Err(self.reader.refuse_at(at, "this value would hold itself", "write out what is meant"));
        };
        self.count(&tree, at)?;
        if self.open.len() + depth(&tree) > MAX_DEPTH {
            return Err(too_deep(self.reader, at));
        }
        Ok(tree)
    }

    fn count(&mut self, tree: &Tree, at: At) -> Parsed<()> {
        self.copies += size(tree);
        if self.copies <= MAX_COPIES {
            return Ok(());
        }
        Err(self.reader.refuse_at(
            at,
            &format!("expected at most {MAX_COPIES} values by anchors and aliases, found more"),
            "write out what is meant",
        ))
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>, at: At) -> Parsed<Value> {
        match tag {
            None if style == ScalarStyle::Plain => self.plain(text, at),
            None => Ok(Value::Text(text.to_owned())),
            Some(tag) if tag.is_yaml_core_schema() => match tag.suffix.as_str() {
                "str" => Ok(Value::Text(text.to_owned())),
                "int" | "float" | "bool" | "null" => self.plain(text, at),
                _ => Err(self.foreign_tag(tag, at)),
            },
            Some(tag) => Err(self.foreign_tag(tag, at)),
        }
    }

    /// A text without quotes by the core schema.
    fn plain(&self, text: &str, at: At) -> Parsed<Value> {
        Ok(match text {
            "" | "~" | "null" | "Null" | "NULL" => Value::Null,
            "true" | "True" | "TRUE" => Value::Flag(true),
            "false" | "False" | "FALSE" => Value::Flag(false),
            _ if has_leading_zero(text) => {
                return Err(self.reader.refuse_at(
                    at,
                    &format!("expected a number without a leading zero, found {}", clip(text, 20)),
                    "remove the zero, which some programs take for octal, or put it in quotes",
                ));
            }
            _ => number(text).map_or_else(|| Value::Text(text.to_owned()), Value::Number),
        })
    }

    fn foreign_tag(&self, tag: &Tag, at: At) -> Reported {
        let message = format!("the tag {:?} is not understood", clip(&tag.to_string(), 60));
        self.reader.refuse_at(at, &message, "remove it")
    }
}

/// The text of a key; `0` and `true` may be ones.
fn key(reader: &Reader<'_>, tree: &Tree) -> Parsed<String> {
    let key = match &tree.value {
        Value::Text(text) | Value::Number(text) => text.clone(),
        Value::Flag(flag) => flag.to_string(),
        Value::Null | Value::List(_) | Value::Object(_) => {
            return Err(reader.refuse_at(tree.at, "expected a key that is a text", "write key: value"));
        }
    };
    if key == "<<" {
        return Err(reader.refuse_at(
            tree.at,
            "merge keys are not supported",
            "write out the keys that are meant",
        ));
    }
    Ok(key)
}

fn has_leading_zero(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
}

/// A number as JSON writes it, if `text` is one.
fn number(text: &str) -> Option<String> {
    let radix = |prefix: &str, radix| {
        text.strip_prefix(prefix)
            .filter(|digits| !digits.starts_with(['+', '-']))
            .and_then(|digits| u64::from_str_radix(digits, radix).ok())
    };
    if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Some(number.to_string());
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_float = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    let starts = unsigned.starts_with(|c: char| c.is_ascii_digit())
        || unsigned.strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    (starts && is_float(unsigned) && text.parse::<f64>().is_ok())
        .then(|| text.strip_prefix('+').unwrap_or(text).to_owned())
}

fn size(tree: &Tree) -> usize {
    1 + match &tree.value {
        Value::List(elements) => elements.iter().map(|element| size(&element.tree)).sum(),
        Value::Object(members) => members.iter().map(|member| size(&member.tree)).sum::<usize>(),
        _ => 0,
    }
}

fn depth(tree: &Tree) -> usize {
    match &tree.value {
        Value::List(elements) => 1 + elements.iter().map(|element| depth(&element.tree)).max().unwrap_or(0),
        Value::Object(members) => 1 + members.iter().map(|member| depth(&member.tree)).max().unwrap_or(0),
        _ => 0,
    }
}
