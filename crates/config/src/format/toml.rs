//! TOML, by the `toml` crate, whose tree knows where each key and value stands. A table that no header names
//! (`a` of `[a.b]`) stands where that crate puts it: at the key that made it.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    node::{Parsed, Reader},
    syntax::{MAX_DEPTH, too_deep},
    tree::{At, Member, Tree, Value},
};

/// Reads the TOML of a source.
///
/// # Errors
/// Reported to `reader`.
pub(super) fn read(reader: &Reader<'_>, source: usize) -> Parsed<Tree> {
    let text = reader.text(source);
    match DeTable::parse(text) {
        Ok(table) => {
            let at = At { source, offset: 0 };
            Ok(Tree { at, value: members(reader, source, table.into_inner(), 1)? })
        }
        Err(error) => {
            let offset = error.span().map_or(0, |span| span.start).min(text.len());
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            Err(reader.refuse_at(
                At { source, offset },
                &format!("this is not TOML: {message}"),
                "look for a missing quote, an unquoted text, or a table named twice",
            ))
        }
    }
}

fn members(reader: &Reader<'_>, source: usize, table: DeTable<'_>, depth: usize) -> Parsed<Value> {
    // The crate orders keys by their letters; headers and messages need the order written.
    let mut entries: Vec<_> = table.into_iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let members: Vec<_> = entries
        .into_iter()
        .map(|(key, value)| {
            let at = At { source, offset: key.span().start };
            let tree = tree(reader, source, value, depth)?;
            Ok(Member { name: key.into_inner().into_owned(), at, tree })
        })
        .collect();
    members.into_iter().collect::<Parsed<_>>().map(Value::Object)
}

fn tree(reader: &Reader<'_>, source: usize, value: Spanned<DeValue<'_>>, depth: usize) -> Parsed<Tree> {
    let at = At { source, offset: value.span().start };
    if depth > MAX_DEPTH {
        return Err(too_deep(reader, at));
    }
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => {
            let decimal = i128::from_str_radix(number.as_str(), number.radix());
            Value::Number(decimal.map_or_else(|_| number.to_string(), |number| number.to_string()))
        }
        DeValue::Float(number) => Value::Number(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Value::Flag(flag),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Array(array) => {
            let elements: Vec<_> =
                array.into_iter().map(|value| tree(reader, source, value, depth + 1)).collect();
            return Ok(Tree::list(at, elements.into_iter().collect::<Parsed<Vec<_>>>()?));
        }
        DeValue::Table(table) => members(reader, source, table, depth + 1)?,
    };
    Ok(Tree { at, value })
}
