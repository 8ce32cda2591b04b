//! The tree that every format is read into, with the place of each value.

/// A place in one of the sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct At {
    /// Which source, counted from 0.
    pub(crate) source: usize,
    /// Where in its text, in bytes.
    pub(crate) offset: usize,
}

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub(crate) at: At,
    pub(crate) value: Value,
}

/// What JSON can say. YAML and TOML say no more of what a configuration needs.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Flag(bool),
    /// As it is written, so that a message can repeat it.
    Number(String),
    Text(String),
    List(Vec<Element>),
    Object(Vec<Member>),
}

/// An element of a list.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    /// Its place in the list of its own source, from 0: merging may have put it elsewhere.
    pub(crate) index: usize,
    pub(crate) tree: Tree,
}

/// A key of an object and its value.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Where the key begins.
    pub(crate) at: At,
    pub(crate) tree: Tree,
}

impl Tree {
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// A list of `trees`, numbered in order.
    pub(crate) fn list(at: At, trees: impl IntoIterator<Item = Tree>) -> Self {
        let elements = trees.into_iter().enumerate().map(|(index, tree)| Element { index, tree });
        Self { at, value: Value::List(elements.collect()) }
    }

    /// The value of `key` in an object, letter case aside: the last one that is there.
    pub(crate) fn find(&self, key: &str) -> Option<&Tree> {
        let Value::Object(members) = &self.value else { return None };
        let is_meant = |member: &&Member| member.name.eq_ignore_ascii_case(key) && !member.tree.is_null();
        members.iter().rev().find(is_meant).map(|member| &member.tree)
    }
}
