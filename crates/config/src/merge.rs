//! Several sources into one document, by V2Ray 4's rules (v2fly/v2ray-core 4.45.2 `infra/conf/v2ray.go`,
//! `Config.Override`).
//!
//! Each source in turn replaces what it has: a whole block by a whole block. Only a list of exactly one inbound or
//! outbound joins the list before it: in place of the one with its tag, else an inbound at the end, an outbound in
//! front, or at the end if the source's name contains "tail".

use crate::{
    Diagnostic,
    node::{Reader, Reported},
    tree::{At, Element, Member, Tree, Value},
};

/// Merges the documents of several sources, in order; `names` are theirs.
///
/// # Errors
/// Reported to `reader`: a document that is no object.
pub(crate) fn merge(reader: &Reader<'_>, names: &[&str], documents: Vec<Tree>) -> Result<Tree, Reported> {
    let mut merged = Tree { at: At::default(), value: Value::Null };
    let mut result = Ok(());
    for (document, name) in documents.into_iter().zip(names) {
        let Value::Object(members) = document.value else {
            let error = Diagnostic::at(&reader.place(document.at, ""), "expected an object");
            result = Err(reader.refuse(error.help("write { \"inbounds\": [...], \"outbounds\": [...] }")));
            continue;
        };
        match &mut merged.value {
            Value::Object(before) => {
                // Marks of V2Ray 5's merging, which would order and join elements.
                for member in members.iter().filter(|member| is_list(&member.name)) {
                    warn_marks(reader, member);
                }
                join(reader, before, members, name);
            }
            _ => merged = Tree { at: document.at, value: Value::Object(members) },
        }
    }
    result.map(|()| merged)
}

/// The two lists whose elements are told apart by their tags.
fn is_list(key: &str) -> bool {
    ["inbounds", "outbounds"].iter().any(|list| key.eq_ignore_ascii_case(list))
}

fn warn_marks(reader: &Reader<'_>, list: &Member) {
    let Value::List(elements) = &list.tree.value else { return };
    for (element, key) in elements.iter().flat_map(|element| ["_priority", "_tag"].map(|key| (element, key)))
    {
        if let Some(mark) = element.tree.find(key) {
            let path = format!("{}[{}].{key}", list.name, element.index);
            let warning = Diagnostic::at(
                &reader.place(mark.at, &path),
                "this has no effect: sources are merged by V2Ray 4's rules",
            );
            reader.warn(warning.help("remove it, and name the sources in the order that is meant"));
        }
    }
}

/// Puts the members of a later source in.
fn join(reader: &Reader<'_>, before: &mut Vec<Member>, members: Vec<Member>, name: &str) {
    let mut joined: Vec<Member> = Vec::new();
    for mut member in members {
        if member.tree.is_null() {
            continue;
        }
        if member.name.eq_ignore_ascii_case("port") {
            let place = reader.place(member.at, &member.name);
            let warning = Diagnostic::at(&place, "this has no effect: only the first source's counts");
            reader.warn(warning.help("write the port into the inbound that is meant"));
            continue;
        }
        if is_list(&member.name) {
            let old = before
                .iter()
                .rposition(|old| old.name.eq_ignore_ascii_case(&member.name) && !old.tree.is_null());
            if let (Some(old), Value::List(new)) = (old, &member.tree.value) {
                match new.len() {
                    0 => continue,
                    1 => {
                        let old = before.remove(old);
                        member = join_lists(reader, old, member, name);
                    }
                    _ => {}
                }
            }
        }
        joined.push(member);
    }
    before.retain(|old| !joined.iter().any(|new| new.name.eq_ignore_ascii_case(&old.name)));
    before.append(&mut joined);
}

/// Puts the one element of `new` into the list `old`.
fn join_lists(reader: &Reader<'_>, mut old: Member, mut new: Member, name: &str) -> Member {
    let (Value::List(list), Value::List(one)) = (&mut old.tree.value, &mut new.tree.value) else {
        return new; // What is no list will be told.
    };
    let Some(element) = one.pop() else { return old };
    let tag = tag(&element);
    let Some(place) = list.iter_mut().find(|other| self::tag(other) == tag) else {
        let at_the_end = new.name.eq_ignore_ascii_case("inbounds") || name.to_lowercase().contains("tail");
        list.insert(if at_the_end { list.len() } else { 0 }, element);
        return old;
    };
    if tag.is_empty() {
        let path = format!("{}[{}]", new.name, element.index);
        let here = reader.place(element.tree.at, &path);
        let there = reader.place(place.tree.at, "").seen_from(&here);
        let warning = Diagnostic::at(&here, format!("this takes the place of the one without a tag {there}"));
        reader.warn(warning.help("if both are meant, write a \"tag\" in each"));
    }
    *place = element;
    old
}

fn tag(element: &Element) -> &str {
    match element.tree.find("tag").map(|tag| &tag.value) {
        Some(Value::Text(tag)) => tag,
        _ => "",
    }
}
