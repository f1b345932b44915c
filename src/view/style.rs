//! Styled text: its styles, their escape sequences, and line wrapping.

use std::fmt::{self, Write};

use crate::readable::escape_controls;

/// The meaning of a piece of text, which decides on its color.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Dim,
    Strong,
    Good,
    Warn,
    Bad,
    Error,
    Blocked,
    Dns,
    Tcp,
    Tls,
    Send,
    Wait,
    Receive,
}

impl Style {
    /// Returns the parameters of the control sequence SGR (ECMA-48). Uses the sixteen standard colors, so that the
    /// user's theme applies.
    fn sgr(self) -> &'static str {
        match self {
            Style::Plain => "",
            Style::Dim | Style::Blocked => "90",
            Style::Strong => "1",
            Style::Good | Style::Wait => "32",
            Style::Warn | Style::Tcp => "33",
            Style::Bad => "1;31",
            Style::Error => "31",
            Style::Dns => "36",
            Style::Tls => "35",
            Style::Send => "34",
            Style::Receive => "94",
        }
    }
}

/// How styles are printed: with colors or not, in Unicode or ASCII.
#[derive(Clone, Copy, Debug)]
pub(super) struct Palette {
    pub(super) color: bool,
    pub(super) ascii: bool,
}

impl Palette {
    pub(super) fn write(self, f: &mut fmt::Formatter<'_>, style: Style, text: &str) -> fmt::Result {
        let sgr = if self.color && !text.trim().is_empty() { style.sgr() } else { "" };
        if !sgr.is_empty() {
            write!(f, "\x1b[{sgr}m")?;
        }
        if self.ascii {
            text.chars().try_for_each(|c| f.write_char(in_ascii(c)))?;
        } else {
            f.write_str(text)?;
        }
        if sgr.is_empty() { Ok(()) } else { f.write_str("\x1b[0m") }
    }

    pub(super) fn line(self, f: &mut fmt::Formatter<'_>, line: &Line) -> fmt::Result {
        line.0.iter().try_for_each(|span| self.write(f, span.style, &span.text))
    }
}

/// Returns an ASCII replacement of one column.
fn in_ascii(c: char) -> char {
    match c {
        ' '..='~' => c,
        '→' | '↳' | '▸' => '>',
        '←' => '<',
        '·' => '-',
        '✗' => 'x',
        'µ' => 'u',
        '…' => '~',
        '┊' => ':',
        '└' => '`',
        _ => '?',
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct StyledText {
    pub(super) style: Style,
    pub(super) text: String,
}

/// A line of styled text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Line(pub(super) Vec<StyledText>);

impl Line {
    /// Appends text. Control characters are escaped.
    pub(super) fn push(&mut self, style: Style, text: impl AsRef<str>) {
        let text = text.as_ref();
        if !text.is_empty() {
            self.0.push(StyledText { style, text: escape_controls(text).into_owned() });
        }
    }

    /// Appends text, separated by a space.
    pub(super) fn word(&mut self, style: Style, text: impl AsRef<str>) {
        if !self.0.is_empty() && !text.as_ref().is_empty() {
            self.push(Style::Plain, " ");
        }
        self.push(style, text);
    }

    /// Appends text, separated by ` · `.
    pub(super) fn item(&mut self, style: Style, text: impl AsRef<str>) {
        if !self.0.is_empty() && !text.as_ref().is_empty() {
            self.push(Style::Dim, " · ");
        }
        self.push(style, text);
    }

    /// Appends another line, separated by ` · `.
    pub(super) fn append_item(&mut self, other: &Line) {
        if !self.is_empty() && !other.is_empty() {
            self.push(Style::Dim, " · ");
        }
        self.0.extend(other.0.iter().cloned());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the width in columns.
    pub(super) fn width(&self) -> usize {
        self.0.iter().map(|span| span.text.chars().count()).sum()
    }

    /// Wraps the line at `width` columns: between words, or within a word that is longer.
    pub(super) fn wrap(&self, width: usize) -> Vec<Line> {
        let width = width.max(1);
        let (mut lines, mut line, mut used) = (Vec::new(), Line::default(), 0);
        for span in &self.0 {
            for word in words(&span.text) {
                let len = word.trim_end_matches(' ').chars().count();
                if used > 0 && used + len > width && len > 0 {
                    lines.push(std::mem::take(&mut line).trimmed());
                    used = 0;
                }
                if used == 0 && !lines.is_empty() && word.trim() == "·" {
                    continue;
                }
                let mut rest = word;
                while let Some((cut, _)) = rest.char_indices().nth(width).filter(|_| len > width) {
                    line.append(span.style, &rest[..cut]);
                    lines.push(std::mem::take(&mut line));
                    rest = &rest[cut..];
                    used = 0;
                }
                if used > 0 || !rest.trim().is_empty() {
                    used += rest.chars().count();
                    line.append(span.style, rest);
                }
            }
        }
        if !line.is_empty() {
            lines.push(line.trimmed());
        }
        lines
    }

    /// Removes separators and spaces at the end.
    fn trimmed(mut self) -> Line {
        while let Some(last) = self.0.last_mut() {
            last.text.truncate(last.text.trim_end_matches([' ', '·']).len());
            if !last.text.is_empty() {
                break;
            }
            self.0.pop();
        }
        self
    }

    /// Appends text that is escaped already.
    fn append(&mut self, style: Style, text: &str) {
        match self.0.last_mut() {
            Some(last) if last.style == style => last.text.push_str(text),
            _ => self.0.push(StyledText { style, text: text.into() }),
        }
    }
}

/// Splits a text into words, each with the space after it. A sign stays with the word that it refers to.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let from = if rest.starts_with("✗ ") || rest.starts_with("→ ") { "✗ ".len() } else { 0 };
        let end = rest.get(from..)?.find(' ').map_or(rest.len(), |space| from + space + 1);
        let (word, after) = rest.split_at(end);
        rest = after;
        Some(word).filter(|word| !word.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(text: &str, width: usize) -> Vec<String> {
        let mut line = Line::default();
        line.push(Style::Plain, text);
        let lines = line.wrap(width);
        lines.iter().map(|line| line.0.iter().map(|span| span.text.as_str()).collect::<String>()).collect()
    }

    #[test]
    fn lines_wrap_between_words() {
        assert_eq!(wrapped("one two three", 8), ["one two", "three"]);
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrapped("", 3), Vec::<String>::new());
        assert_eq!(wrapped("é日本語ž", 2), ["é日", "本語", "ž"]);
        assert_eq!(wrapped("a", 0), ["a"]);
        assert_eq!(wrapped("one ✗ two · → three", 9), ["one ✗ two", "→ three"]);
        assert_eq!(wrapped("one · two", 3), ["one", "two"]);
    }

    #[test]
    fn items_are_separated() {
        let mut line = Line::default();
        line.item(Style::Plain, "a");
        line.item(Style::Plain, "");
        line.item(Style::Plain, "b\x07");
        assert_eq!(line.width(), "a · b\\u{7}".chars().count());
    }
}
