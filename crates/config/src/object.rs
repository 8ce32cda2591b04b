//! An object of the configuration, whose keys are known.

use std::{collections::HashMap, ops::RangeInclusive};

use jsonc_parser::ast::{Object as JsonObject, ObjectProp};

use crate::{
    Diagnostic,
    keys::{Fate, Key},
    nearest::nearest,
    node::{Node, Parsed, Reported},
};

/// An object of which the keys are known. Keys match without letter case, the last of equal ones counts and
/// `null` is absent, as in Go's `encoding/json`.
pub(crate) struct Object<'a> {
    pub(crate) node: Node<'a>,
    members: &'a JsonObject<'a>,
    known: &'static [Key],
}

impl<'a> Object<'a> {
    /// The object, after saying what has to be said about each key.
    pub(crate) fn new(node: Node<'a>, members: &'a JsonObject<'a>, known: &'static [Key]) -> Self {
        let object = Self { node, members, known };
        object.check();
        object
    }

    pub(crate) fn find(&self, key: &str) -> Option<Node<'a>> {
        let present = |member: &&ObjectProp<'_>| {
            member.name.as_str().eq_ignore_ascii_case(key) && member.value.as_null_keyword().is_none()
        };
        self.members.properties.iter().rev().find(present).map(|member| self.node.member(member))
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
        let misspelt = |member: &ObjectProp<'a>| {
            let name = member.name.as_str();
            let is_known = self.known.iter().any(|key| key.name.eq_ignore_ascii_case(name));
            let meant = nearest(name, keys.iter().copied()).filter(|_| !is_known)?;
            Some(format!("write {meant:?} instead of {name:?} in line {}", self.node.key_place(member).line))
        };
        let typo = self.members.properties.iter().find_map(misspelt);
        self.node.refuse(message, typo.unwrap_or_else(|| help.into()))
    }

    /// Says what has to be said about each key.
    fn check(&self) {
        let mut seen: HashMap<String, usize> = HashMap::new();
        for member in &self.members.properties {
            let name = member.name.as_str();
            if let Some(line) = seen.insert(name.to_ascii_lowercase(), self.node.key_place(member).line) {
                self.say(
                    member,
                    "the same key stands before it, and the last one counts",
                    &format!("remove the one in line {line}"),
                );
            }
            let value = self.node.member(member);
            match self.known.iter().find(|key| key.name.eq_ignore_ascii_case(name)).map(|key| key.fate) {
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
                Some(Fate::Dialect5(help)) => {
                    let place = self.node.key_place(member);
                    let error =
                        Diagnostic::at(&place, "this is V2Ray 5's own dialect, which is not supported yet");
                    self.node.reader.refuse(error.help(help));
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

    fn unknown(&self, member: &ObjectProp<'_>) {
        let name = member.name.as_str();
        // A name like that is a comment or a mark for V2Ray 5's merging; `null` is what some programs write for
        // keys of other protocols.
        let is_silent = name.starts_with(['_', '/', '#']) || member.value.as_null_keyword().is_some();
        if is_silent || self.node.reader.has_enough_warnings() {
            return;
        }
        let place = self.node.key_place(member);
        let readable =
            self.known.iter().filter(|key| !matches!(key.fate, Fate::Misplaced(_))).map(|key| key.name);
        let help = match nearest(name, readable) {
            Some(near) => format!("did you mean {near:?}?"),
            None => "remove it, or check where it belongs".to_owned(),
        };
        self.node.reader.warn(Diagnostic::at(&place, "unknown key, ignored").help(help));
    }

    fn say(&self, member: &ObjectProp<'_>, message: &str, help: &str) {
        let place = self.node.key_place(member);
        self.node.reader.warn(Diagnostic::at(&place, message).help(help));
    }
}
