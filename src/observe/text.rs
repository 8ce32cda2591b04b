//! Text that is safe in a log: nothing a peer sends can begin a new line, hide one, or fill a disk.

use std::fmt::{self, Write};

/// The most characters of one field that a peer chose.
pub const MAX_FIELD_CHARS: usize = 256;

/// The most bytes of one line, its time and level not counted.
pub const MAX_LINE_BYTES: usize = 4096;

/// A text that a peer chose: control and invisible characters as escapes, and cut after
/// [`MAX_FIELD_CHARS`] characters.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        chars.by_ref().take(MAX_FIELD_CHARS).try_for_each(|c| write_escaped(f, c))?;
        if chars.next().is_some() { f.write_char('…') } else { Ok(()) }
    }
}

/// A request target without its query, which may hold early data or passwords: `/ray?…`.
#[derive(Clone, Copy)]
pub struct WithoutQuery<'a>(pub &'a str);

impl fmt::Display for WithoutQuery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, query) = self.0.split_once('?').map_or((self.0, ""), |(path, _)| (path, "?…"));
        write!(f, "{}{query}", Escaped(path))
    }
}

impl fmt::Debug for WithoutQuery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A secret inside something that is shown: prints `…`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Redacted<T>(T);

impl<T> Redacted<T> {
    /// Hides `secret`.
    pub const fn new(secret: T) -> Self {
        Self(secret)
    }

    /// The secret.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('…')
    }
}

impl<T> fmt::Display for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('…')
    }
}

/// Formats one line: what is escaped already stays as it is, everything else is made safe.
pub(super) fn line(text: fmt::Arguments<'_>) -> String {
    let mut line = Line(String::new());
    // It fails only where the line is full.
    let _ = line.write_fmt(text);
    line.0
}

struct Line(String);

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            // Room for the longest escape, `\u{10ffff}`, and the mark of the cut.
            if self.0.len() + 13 > MAX_LINE_BYTES {
                self.0.push('…');
                return Err(fmt::Error);
            }
            write_escaped(&mut self.0, c)?;
        }
        Ok(())
    }
}

fn write_escaped(out: &mut impl Write, c: char) -> fmt::Result {
    if is_unsafe(c) { write!(out, "{}", c.escape_default()) } else { out.write_char(c) }
}

/// Whether a terminal, an editor or a line-wise reader would not show this as itself: controls, line and
/// paragraph separators, zero-width characters and changes of direction.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::{Escaped, MAX_FIELD_CHARS, MAX_LINE_BYTES, Redacted, WithoutQuery, line};

    #[test]
    fn field_cannot_begin_a_new_line_or_colour_the_terminal() {
        let field = Escaped("a\r\n2026/01/01 00:00:00 \u{1b}[31mforged\u{202e}\u{9b}\u{2028}é").to_string();
        assert_eq!(field, "a\\r\\n2026/01/01 00:00:00 \\u{1b}[31mforged\\u{202e}\\u{9b}\\u{2028}é");
        assert_eq!(line(format_args!("{field}")), field, "escapes are not escaped again");
    }

    #[test]
    fn field_is_cut_at_its_limit() {
        let text = "é".repeat(MAX_FIELD_CHARS);
        assert_eq!(Escaped(&text).to_string(), text);
        assert_eq!(Escaped(&format!("{text}x")).to_string(), format!("{text}…"));
    }

    #[test]
    fn line_is_made_safe_even_where_a_field_was_not() {
        assert_eq!(line(format_args!("{} {}", "a\nb", 'c')), "a\\nb c");
        let long = line(format_args!("{}", "\n".repeat(100_000)));
        assert!(long.len() <= MAX_LINE_BYTES && long.ends_with("\\n…"), "{}", long.len());
    }

    #[test]
    fn query_and_secrets_are_not_shown() {
        assert_eq!(WithoutQuery("/ray?ed=2048&x").to_string(), "/ray?…");
        assert_eq!(format!("{:?}", WithoutQuery("/ray\n")), "\"/ray\\n\"");
        assert_eq!(format!("{} {0:?}", Redacted::new("key")), "… …");
        assert_eq!(*Redacted::new("key").expose(), "key");
    }
}
