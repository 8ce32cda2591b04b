//! `attrs`: an expression about a request's attributes.
//!
//! V2Ray gives the text to Starlark, a language with functions and loops. What its documentation shows, and what
//! people write, is this part of it; anything else is refused when the configuration is loaded:
//!
//! - `or`, `and`, `not`, parentheses; `==`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `not in`;
//! - texts in either quotes, whole numbers, `True`, `False`;
//! - `attrs['name']`, `attrs.get('name')`, `attrs.get('name', 'default')`, `'name' in attrs`, `len(...)`;
//! - of a text: `.startswith(...)`, `.endswith(...)`, `.find(...)`, `.index(...)`, `.lower()`, `.upper()`, `.strip()`.
//!
//! As in V2Ray an error while it is worked out (an attribute that is not there, a text that `.index` does not find)
//! makes the whole condition fail.

mod parse;

use crate::Attributes;
use std::{borrow::Cow, str::FromStr};

/// A condition on attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression(Node);

impl Expression {
    /// Whether it holds.
    pub fn holds(&self, attributes: &Attributes) -> bool {
        self.0.value(attributes).is_some_and(|value| value.is_true())
    }
}

impl FromStr for Expression {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Self, ExpressionError> {
        parse::expression(text).map(Self)
    }
}

/// Why a text is no expression: its writer's fault, or a part of Starlark that is not supported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpressionError {
    /// Something else was expected.
    #[error("expected {expected} at character {at}, found {found:?}")]
    Syntax {
        /// Where, in characters from 1.
        at: usize,
        /// What could be there.
        expected: &'static str,
        /// What is there; empty at the end.
        found: String,
    },
    /// A name that only Starlark has, or nobody.
    #[error("{name:?} at character {at} is not supported")]
    Unsupported {
        /// Where, in characters from 1.
        at: usize,
        /// The function, method or variable.
        name: String,
    },
    /// Too deep.
    #[error("parentheses, methods and \"not\" are nested more than {limit} deep")]
    TooDeep {
        /// How deep they can be.
        limit: usize,
    },
}

/// A part of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Or(Box<[Node]>),
    And(Box<[Node]>),
    Not(Box<Node>),
    Compare(Box<Node>, Comparison, Box<Node>),
    Literal(Value<'static>),
    /// `attrs`, in `'name' in attrs` and `len(attrs)`.
    HasAttribute(Box<Node>),
    /// The attribute of this name; the error or, with a second node, that value if there is none.
    Attribute(Box<Node>, Option<Box<Node>>),
    Len(Box<Node>),
    Call(Box<Node>, Method, Option<Box<Node>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    StartsWith,
    EndsWith,
    Find,
    Index,
    Lower,
    Upper,
    Strip,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value<'a> {
    None,
    Bool(bool),
    Number(i64),
    Text(Cow<'a, str>),
}

impl Node {
    /// `None` is an error.
    fn value<'a>(&'a self, attributes: &'a Attributes) -> Option<Value<'a>> {
        match self {
            Self::Or(parts) => decide(parts, true, attributes),
            Self::And(parts) => decide(parts, false, attributes),
            Self::Not(part) => Some(Value::Bool(!part.value(attributes)?.is_true())),
            Self::Compare(left, comparison, right) => {
                comparison.apply(&left.value(attributes)?, &right.value(attributes)?).map(Value::Bool)
            }
            Self::Literal(value) => Some(value.clone()),
            Self::HasAttribute(name) => {
                Some(Value::Bool(attributes.find(&name.value(attributes)?.text()?).is_some()))
            }
            Self::Attribute(name, default) => match attributes.find(&name.value(attributes)?.text()?) {
                Some(value) => Some(Value::Text(Cow::Borrowed(value))),
                None => default.as_ref()?.value(attributes),
            },
            Self::Len(part) => {
                let len = part.value(attributes)?.text()?.len();
                i64::try_from(len).ok().map(Value::Number)
            }
            Self::Call(object, method, argument) => {
                let object = object.value(attributes)?.text()?;
                match argument {
                    Some(argument) => method.apply(&object, &argument.value(attributes)?.text()?),
                    None => method.apply(&object, ""),
                }
            }
        }
    }
}

/// The first of the parts that is as asked for, else the last.
fn decide<'a>(parts: &'a [Node], wanted: bool, attributes: &'a Attributes) -> Option<Value<'a>> {
    let mut value = Value::None;
    for part in parts {
        value = part.value(attributes)?;
        if value.is_true() == wanted {
            break;
        }
    }
    Some(value)
}

impl Comparison {
    /// Values of different kinds are not equal, and have no order.
    fn apply(self, left: &Value<'_>, right: &Value<'_>) -> Option<bool> {
        let order = match (left, right) {
            (Value::Number(left), Value::Number(right)) => Some(left.cmp(right)),
            (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
            (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
            _ => None,
        };
        match self {
            Self::Equal => Some(left == right),
            Self::NotEqual => Some(left != right),
            Self::Less => order.map(std::cmp::Ordering::is_lt),
            Self::LessOrEqual => order.map(std::cmp::Ordering::is_le),
            Self::Greater => order.map(std::cmp::Ordering::is_gt),
            Self::GreaterOrEqual => order.map(std::cmp::Ordering::is_ge),
            Self::In => match (left, right) {
                (Value::Text(part), Value::Text(whole)) => Some(whole.contains(&**part)),
                _ => None,
            },
        }
    }
}

impl Method {
    fn apply<'a>(self, text: &str, argument: &str) -> Option<Value<'a>> {
        let place = || text.find(argument).and_then(|at| i64::try_from(at).ok());
        Some(match self {
            Self::StartsWith => Value::Bool(text.starts_with(argument)),
            Self::EndsWith => Value::Bool(text.ends_with(argument)),
            Self::Find => Value::Number(place().unwrap_or(-1)),
            Self::Index => Value::Number(place()?),
            Self::Lower => Value::Text(text.to_lowercase().into()),
            Self::Upper => Value::Text(text.to_uppercase().into()),
            Self::Strip => Value::Text(text.trim().to_owned().into()),
        })
    }
}

impl<'a> Value<'a> {
    fn is_true(&self) -> bool {
        match self {
            Self::None => false,
            Self::Bool(value) => *value,
            Self::Number(value) => *value != 0,
            Self::Text(text) => !text.is_empty(),
        }
    }

    fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Attributes {
        let mut attributes = Attributes::default();
        attributes.add(":method", "GET");
        attributes.add(":path", "/test/page");
        attributes.add("Accept", "text/html,*/*");
        attributes.add("x-empty", "");
        attributes
    }

    /// The first three are the examples of V2Ray's documentation of `attrs`.
    #[test]
    fn expressions_hold_as_in_starlark() {
        for (text, expected) in [
            ("attrs[':method'] == 'GET'", true),
            ("attrs[':path'].startswith('/test')", true),
            ("attrs['accept'].index('text/html') >= 0", true),
            ("attrs['accept'].index('json') >= 0", false),
            ("attrs['accept'].find('json') >= 0", false),
            ("attrs[\":method\"] != 'GET'", false),
            ("attrs[':method'] == 'POST' or attrs[':path'].endswith('page')", true),
            ("attrs[':method'] == 'GET' and attrs[':path'] == '/'", false),
            ("not attrs[':method'] == 'POST'", true),
            ("not (attrs[':method'] == 'GET')", false),
            ("'html' in attrs['accept']", true),
            ("'json' not in attrs['accept']", true),
            ("'accept' in attrs", true),
            ("'cookie' not in attrs", true),
            ("attrs['cookie'] == ''", false),
            ("attrs['cookie'] != ''", false),
            ("True or attrs['cookie'] == ''", true),
            ("attrs['cookie'] == '' or True", false),
            ("attrs.get('cookie') == None", true),
            ("attrs.get('cookie', 'x') == 'x'", true),
            ("attrs.get('cookie')", false),
            ("attrs['x-empty']", false),
            ("attrs['accept']", true),
            ("len(attrs[':path']) == 10", true),
            ("attrs[':method'].lower() == 'get'", true),
            ("attrs[':method'] < 'H' and 2 > 1 and 1 <= 1 and -1 < 0", true),
            ("attrs[':method'] < 1", false),
            ("'a\\'b\\\\' == \"a'b\\\\\"", true),
            ("1 == 1 or 1 == 2 and False", true),
        ] {
            let expression: Expression = text.parse().unwrap();
            assert_eq!(expression.holds(&request()), expected, "{text}");
        }
    }

    const TOO_DEEP: &str = r#"parentheses, methods and "not" are nested more than 32 deep"#;

    #[test]
    fn the_rest_of_starlark_is_refused_by_name() {
        let message = |text: &str| text.parse::<Expression>().unwrap_err().to_string();
        assert_eq!(message("attrs['a'].split(',')"), r#""split" at character 12 is not supported"#);
        assert_eq!(message("any(attrs)"), r#""any" at character 1 is not supported"#);
        assert_eq!(
            message("attrs['a'] = 'b'"),
            r#"expected an operator or the end at character 12, found "=""#
        );
        assert_eq!(message("attrs['a'"), r#"expected "]" at character 10, found """#);
        assert_eq!(message(""), r#"expected a value at character 1, found """#);
        assert_eq!(message("'a"), r#"expected a text's closing quote at character 3, found """#);
        assert_eq!(message("1 == 1 == 1"), r#"expected an operator or the end at character 8, found "==""#);
        assert_eq!(message(&"(".repeat(100)), TOO_DEEP);
        assert_eq!(message(&"not ".repeat(100)), TOO_DEEP);
        assert_eq!(message(&format!("'a'{}", ".lower()".repeat(100))), TOO_DEEP);
    }
}
