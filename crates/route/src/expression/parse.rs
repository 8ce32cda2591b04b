//! Text to expression: words, then precedence from the weakest operator to the strongest.

use super::{Comparison, ExpressionError, Method, Node, Value};

/// How deep an expression can be nested; people write two or three.
const MAX_DEPTH: usize = 32;

/// # Errors
/// See [`ExpressionError`].
pub(super) fn expression(text: &str) -> Result<Node, ExpressionError> {
    let mut parser = Parser { words: words(text)?, next: 0, depth: 0 };
    let node = parser.or()?;
    match parser.peek() {
        None => Ok(node),
        Some(_) => Err(parser.expected("an operator or the end")),
    }
}

/// A word and where it is, in characters from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    at: usize,
    kind: WordKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum WordKind {
    Name(String),
    Number(i64),
    Text(String),
    Sign(&'static str),
    End,
}

/// Longer ones first.
const SIGNS: [&str; 14] = ["==", "!=", "<=", ">=", "<", ">", "(", ")", "[", "]", ".", ",", "-", "="];

fn words(text: &str) -> Result<Vec<Word>, ExpressionError> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    let place = |rest: &str| text[..text.len() - rest.len()].chars().count() + 1;
    while let Some(first) = rest.chars().next() {
        let at = place(rest);
        let run = |is: fn(char) -> bool| rest.find(|c| !is(c)).unwrap_or(rest.len());
        let (kind, len) = if matches!(first, '\'' | '"') {
            quoted(rest, first).ok_or_else(|| ExpressionError::Syntax {
                at: place(""),
                expected: "a text's closing quote",
                found: String::new(),
            })?
        } else if first.is_ascii_digit() {
            let len = run(|c| c.is_ascii_digit());
            let number = rest[..len].parse().map_err(|_| unexpected(at, "a number below 2^63", rest))?;
            (WordKind::Number(number), len)
        } else if first.is_ascii_alphabetic() || first == '_' {
            let len = run(|c| c.is_ascii_alphanumeric() || c == '_');
            (WordKind::Name(rest[..len].to_owned()), len)
        } else if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            (WordKind::Sign(sign), sign.len())
        } else {
            return Err(unexpected(at, "a name, a text, a number or an operator", &rest[..first.len_utf8()]));
        };
        words.push(Word { at, kind });
        rest = rest[len..].trim_start();
    }
    words.push(Word { at: place(""), kind: WordKind::End });
    Ok(words)
}

/// A text in quotes and its length with them.
fn quoted(rest: &str, quote: char) -> Option<(WordKind, usize)> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, next)) = chars.next() {
        match next {
            '\\' => match chars.next()?.1 {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                same @ ('\\' | '\'' | '"') => text.push(same),
                other => text.extend(['\\', other]),
            },
            end if end == quote => return Some((WordKind::Text(text), at + 1)),
            other => text.push(other),
        }
    }
    None
}

fn unexpected(at: usize, expected: &'static str, found: &str) -> ExpressionError {
    ExpressionError::Syntax { at, expected, found: found.to_owned() }
}

struct Parser {
    /// Ends in [`WordKind::End`].
    words: Vec<Word>,
    next: usize,
    depth: usize,
}

impl Parser {
    fn or(&mut self) -> Result<Node, ExpressionError> {
        let mut parts = vec![self.and()?];
        while self.took_name("or") {
            parts.push(self.and()?);
        }
        Ok(single_or(parts, Node::Or))
    }

    fn and(&mut self) -> Result<Node, ExpressionError> {
        let mut parts = vec![self.not()?];
        while self.took_name("and") {
            parts.push(self.not()?);
        }
        Ok(single_or(parts, Node::And))
    }

    fn not(&mut self) -> Result<Node, ExpressionError> {
        if self.took_name("not") {
            let part = self.deeper(Self::not)?;
            return Ok(Node::Not(Box::new(part)));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Node, ExpressionError> {
        let left = self.value()?;
        let negated = self.is_name("not") && self.names_at(self.next + 1) == Some("in");
        if negated {
            self.next += 1;
        }
        let comparison = match self.peek() {
            Some(WordKind::Sign("==")) => Comparison::Equal,
            Some(WordKind::Sign("!=")) => Comparison::NotEqual,
            Some(WordKind::Sign("<")) => Comparison::Less,
            Some(WordKind::Sign("<=")) => Comparison::LessOrEqual,
            Some(WordKind::Sign(">")) => Comparison::Greater,
            Some(WordKind::Sign(">=")) => Comparison::GreaterOrEqual,
            Some(WordKind::Name(name)) if name == "in" => Comparison::In,
            _ => return Ok(left),
        };
        self.next += 1;
        let left = Box::new(left);
        let node = if comparison == Comparison::In && self.is_bare_attributes() {
            self.next += 1;
            Node::HasAttribute(left)
        } else {
            Node::Compare(left, comparison, Box::new(self.value()?))
        };
        Ok(if negated { Node::Not(Box::new(node)) } else { node })
    }

    /// A value with the methods behind it.
    fn value(&mut self) -> Result<Node, ExpressionError> {
        let mut node = self.primary()?;
        let mut methods = 0;
        while self.took_sign(".") {
            methods += 1;
            if methods > MAX_DEPTH {
                return Err(ExpressionError::TooDeep { limit: MAX_DEPTH });
            }
            let at = self.at();
            let name = self.name("a method")?;
            node = self.method(node, at, name)?;
        }
        Ok(node)
    }

    fn primary(&mut self) -> Result<Node, ExpressionError> {
        let at = self.at();
        let literal = |value| Ok(Node::Literal(value));
        match self.peek().cloned() {
            Some(WordKind::Text(text)) => {
                self.next += 1;
                literal(Value::Text(text.into()))
            }
            Some(WordKind::Number(number)) => {
                self.next += 1;
                literal(Value::Number(number))
            }
            Some(WordKind::Sign("-")) => {
                self.next += 1;
                let Some(&WordKind::Number(number)) = self.peek() else {
                    return Err(self.expected("a number"));
                };
                self.next += 1;
                literal(Value::Number(-number))
            }
            Some(WordKind::Sign("(")) => {
                self.next += 1;
                let inner = self.deeper(Self::or)?;
                self.sign(")", "\")\"")?;
                Ok(inner)
            }
            Some(WordKind::Name(name)) => {
                self.next += 1;
                match name.as_str() {
                    "True" => literal(Value::Bool(true)),
                    "False" => literal(Value::Bool(false)),
                    "None" => literal(Value::None),
                    "attrs" => self.attribute(),
                    "len" => {
                        let [inner] = self.arguments::<1>(1)?;
                        Ok(inner.map_or(Node::Literal(Value::None), |inner| Node::Len(Box::new(inner))))
                    }
                    _ => Err(ExpressionError::Unsupported { at, name }),
                }
            }
            _ => Err(self.expected("a value")),
        }
    }

    /// Behind `attrs`.
    fn attribute(&mut self) -> Result<Node, ExpressionError> {
        if self.took_sign("[") {
            let name = self.deeper(Self::or)?;
            self.sign("]", "\"]\"")?;
            return Ok(Node::Attribute(Box::new(name), None));
        }
        self.sign(".", "\"[\" or \".get\" behind attrs")?;
        let at = self.at();
        let name = self.name("get")?;
        if name != "get" {
            return Err(ExpressionError::Unsupported { at, name });
        }
        let [name, default] = self.arguments::<2>(1)?;
        let default = default.unwrap_or(Node::Literal(Value::None));
        let name = name.unwrap_or(Node::Literal(Value::None));
        Ok(Node::Attribute(Box::new(name), Some(Box::new(default))))
    }

    fn method(&mut self, object: Node, at: usize, name: String) -> Result<Node, ExpressionError> {
        let (method, takes) = match name.as_str() {
            "startswith" => (Method::StartsWith, 1),
            "endswith" => (Method::EndsWith, 1),
            "find" => (Method::Find, 1),
            "index" => (Method::Index, 1),
            "lower" => (Method::Lower, 0),
            "upper" => (Method::Upper, 0),
            "strip" => (Method::Strip, 0),
            _ => return Err(ExpressionError::Unsupported { at, name }),
        };
        let argument = if takes == 0 {
            let [] = self.arguments::<0>(0)?;
            None
        } else {
            let [argument] = self.arguments::<1>(1)?;
            argument.map(Box::new)
        };
        Ok(Node::Call(Box::new(object), method, argument))
    }

    /// In parentheses: `least` to `MOST` values.
    fn arguments<const MOST: usize>(
        &mut self,
        least: usize,
    ) -> Result<[Option<Node>; MOST], ExpressionError> {
        self.sign("(", "\"(\"")?;
        let mut arguments = [const { None }; MOST];
        for (index, argument) in arguments.iter_mut().enumerate() {
            if index >= least && matches!(self.peek(), Some(WordKind::Sign(")"))) {
                break;
            }
            if index > 0 {
                self.sign(",", "\",\"")?;
            }
            *argument = Some(self.deeper(Self::or)?);
        }
        self.sign(")", "\")\"")?;
        Ok(arguments)
    }

    /// One level down.
    fn deeper(
        &mut self,
        parse: fn(&mut Self) -> Result<Node, ExpressionError>,
    ) -> Result<Node, ExpressionError> {
        if self.depth == MAX_DEPTH {
            return Err(ExpressionError::TooDeep { limit: MAX_DEPTH });
        }
        self.depth += 1;
        let node = parse(self);
        self.depth -= 1;
        node
    }

    fn peek(&self) -> Option<&WordKind> {
        self.words.get(self.next).map(|word| &word.kind).filter(|kind| **kind != WordKind::End)
    }

    fn at(&self) -> usize {
        self.words.get(self.next).map_or(0, |word| word.at)
    }

    fn names_at(&self, index: usize) -> Option<&str> {
        match self.words.get(index) {
            Some(Word { kind: WordKind::Name(name), .. }) => Some(name),
            _ => None,
        }
    }

    fn is_name(&self, name: &str) -> bool {
        self.names_at(self.next) == Some(name)
    }

    /// `attrs` as a whole.
    fn is_bare_attributes(&self) -> bool {
        let behind = self.words.get(self.next + 1).map(|word| &word.kind);
        self.is_name("attrs") && !matches!(behind, Some(WordKind::Sign("[" | ".")))
    }

    fn took_name(&mut self, name: &str) -> bool {
        let is = self.is_name(name);
        self.next += usize::from(is);
        is
    }

    fn took_sign(&mut self, sign: &str) -> bool {
        let is = matches!(self.peek(), Some(WordKind::Sign(found)) if *found == sign);
        self.next += usize::from(is);
        is
    }

    fn sign(&mut self, sign: &str, expected: &'static str) -> Result<(), ExpressionError> {
        if self.took_sign(sign) { Ok(()) } else { Err(self.expected(expected)) }
    }

    fn name(&mut self, expected: &'static str) -> Result<String, ExpressionError> {
        let Some(name) = self.names_at(self.next) else { return Err(self.expected(expected)) };
        let name = name.to_owned();
        self.next += 1;
        Ok(name)
    }

    fn expected(&self, expected: &'static str) -> ExpressionError {
        let found = match self.peek() {
            None | Some(WordKind::End) => String::new(),
            Some(WordKind::Name(text) | WordKind::Text(text)) => text.clone(),
            Some(WordKind::Number(number)) => number.to_string(),
            Some(WordKind::Sign(sign)) => (*sign).to_owned(),
        };
        ExpressionError::Syntax { at: self.at(), expected, found }
    }
}

fn single_or(mut parts: Vec<Node>, many: fn(Box<[Node]>) -> Node) -> Node {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            many(parts.into())
        }
        None => many(Box::new([])),
    }
}
