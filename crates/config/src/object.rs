//! An object of the configuration, whose keys are known.

use std::{collections::HashMap, ops::RangeInclusive};

use crate::{
    Diagnostic,
    keys::{Fate, Key},
    nearest::nearest,
    node::{Dialect, Node, Parsed, Reported},
    tree::Member,
};

/// An object of which the keys are known. Keys match without letter case, the last of equal ones counts and
/// `null` is absent, as in Go's `encoding/json`. In V2Ray 5's dialect they may be in snake case, as in JSON for
/// protobuf, and unknown ones are errors.
pub(crate) struct Object<'a> {
    pub(crate) node: Node<'a>,
    members: &'a [Member],
    known: &'static [Key],
}

impl<'a> Object<'a> {
    /// The object, after saying what has to be said about each key.
    pub(crate) fn new(node: Node<'a>, members: &'a [Member], known: &'static [Key]) -> Self {
        let object = Self { node, members, known };
        object.check();
        object
    }

    pub(crate) fn find(&self, key: &str) -> Option<Node<'a>> {
        let present = |member: &&Member| self.is(&member.name, key) && !member.tree.is_null();
        self.members.iter().rev().find(present).map(|member| self.node.member(member))
    }

    /// Whether `name` is a way to write `key`.
    fn is(&self, name: &str, key: &str) -> bool {
        name.eq_ignore_ascii_case(key) || (self.node.dialect == Dialect::V5 && is_snake_case(name, key))
    }

    /// [`Node::either`].
    pub(crate) fn either<T>(&self, v4: T, v5: T) -> T {
        self.node.either(v4, v5)
    }

    /// The first of several spellings that is there.
    pub(crate) fn find_any(&self, keys: &[&str]) -> Option<Node<'a>> {
        keys.iter().find_map(|key| self.find(key))
    }

    /// The text of `key`; absent and empty are the same.
    pub(crate) fn text(&self, key: &str, what: &str) -> Parsed<Option<&'a str>> {
        let text = self.find(key).map(|node| node.text(what)).transpose()?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// The flag of `key`, false when absent.
    pub(crate) fn flag(&self, key: &str) -> Parsed<bool> {
        self.find(key).map_or(Ok(false), |node| node.flag())
    }

    pub(crate) fn number(&self, key: &str, what: &str, range: RangeInclusive<u32>) -> Parsed<Option<u32>> {
        self.find(key).map(|node| node.number(what, range)).transpose()
    }

    /// The elements of the list `key`, none when absent.
    pub(crate) fn list(&self, key: &str) -> Parsed<Vec<Node<'a>>> {
        self.find(key).map_or(Ok(Vec::new()), |node| node.list())
    }

    /// The error that `key` is missing; a misspelt one is the likely reason.
    pub(crate) fn missing(&self, key: &str, help: impl Into<String>) -> Reported {
        self.lacks(&[key], format!("{key:?} is missing"), help)
    }

    /// The error that all of `keys` are missing.
    pub(crate) fn lacks(
        &self,
        keys: &[&str],
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Reported {
        let misspelt = |member: &Member| {
            let name = member.name.as_str();
            let is_known = self.known.iter().any(|key| self.is(name, key.name));
            let meant = nearest(name, keys.iter().copied()).filter(|_| !is_known)?;
            Some(format!("write {meant:?} instead of {name:?} in line {}", self.node.key_place(member).line))
        };
        let typo = self.members.iter().find_map(misspelt);
        self.node.refuse(message, typo.unwrap_or_else(|| help.into()))
    }

    /// Says what has to be said about each key.
    fn check(&self) {
        let mut seen: HashMap<String, usize> = HashMap::new();
        for member in self.members {
            let name = member.name.as_str();
            if let Some(line) = seen.insert(name.to_ascii_lowercase(), self.node.key_place(member).line) {
                self.say(
                    member,
                    "the same key stands before it, and the last one counts",
                    &format!("remove the one in line {line}"),
                );
            }
            let value = self.node.member(member);
            match self.known.iter().find(|key| self.is(name, key.name)).map(|key| key.fate) {
                None => self.unknown(member),
                Some(Fate::Read | Fate::Quiet) => {}
                Some(Fate::Condition(_)) if value.is_empty() => {}
                Some(fate) if value.is_off() && !matches!(fate, Fate::Condition(_)) => {}
                Some(Fate::Without(help)) => {
                    self.say(member, "this is not supported yet: wsray runs without it", help);
                }
                Some(Fate::NoEffect(help)) => self.say(member, "this has no effect here", help),
                Some(Fate::Refused(help) | Fate::Condition(help)) => {
                    let place = self.node.key_place(member);
                    let error = Diagnostic::at(
                        &place,
                        "this is not supported yet, and leaving it out would change where traffic goes \
                            or how it is protected",
                    );
                    self.node.reader.refuse(error.help(help));
                }
                Some(Fate::OtherDialect(help)) => {
                    let message = self.either(
                        "this is V2Ray 5's own dialect, in a configuration of V2Ray 4's",
                        "this is V2Ray 4's dialect, in a configuration of V2Ray 5's own",
                    );
                    let place = self.node.key_place(member);
                    self.node.reader.refuse(Diagnostic::at(&place, message).help(help));
                }
                Some(Fate::Misplaced(help)) => {
                    let place = self.node.key_place(member);
                    self.node.reader.refuse(
                        Diagnostic::at(&place, "this does not belong here, where V2Ray would ignore it")
                            .help(help),
                    );
                }
            }
        }
    }

    fn unknown(&self, member: &Member) {
        let name = member.name.as_str();
        // A name like that is a comment or a mark for V2Ray 5's merging; `null` is what some programs write for
        // keys of other protocols.
        let is_v5 = self.node.dialect == Dialect::V5;
        let is_silent = name.starts_with(['_', '/', '#']) || member.tree.is_null();
        if !is_v5 && (is_silent || self.node.reader.has_enough_warnings()) {
            return;
        }
        let place = self.node.key_place(member);
        let readable = |key: &&Key| !matches!(key.fate, Fate::Misplaced(_) | Fate::OtherDialect(_));
        let readable = self.known.iter().filter(readable).map(|key| key.name);
        let help = match nearest(name, readable) {
            Some(near) => format!("did you mean {near:?}?"),
            None => "remove it, or check where it belongs".to_owned(),
        };
        if is_v5 {
            self.node.reader.refuse(Diagnostic::at(&place, "unknown key, as for V2Ray 5").help(help));
        } else {
            self.node.reader.warn(Diagnostic::at(&place, "unknown key, ignored").help(help));
        }
    }

    fn say(&self, member: &Member, message: &str, help: &str) {
        let place = self.node.key_place(member);
        self.node.reader.warn(Diagnostic::at(&place, message).help(help));
    }
}

/// Whether `name` is the camel-case `key` in snake case.
fn is_snake_case(name: &str, key: &str) -> bool {
    let snake = key.chars().flat_map(|c| {
        let underscore = c.is_ascii_uppercase().then_some('_');
        underscore.into_iter().chain([c.to_ascii_lowercase()])
    });
    name.chars().eq(snake)
}
