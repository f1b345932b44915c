//! The command's errors, and its output to terminals, files and pipes.

use nettrace::{NetTrace, view};
use serde::Serialize;
use std::{
    env,
    fs::File,
    io::{self, BufWriter, ErrorKind, IsTerminal, Write},
    path::Path,
};

/// An error of the command, with its exit code.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) code: u8,
    pub(crate) text: String,
}

impl Problem {
    /// Creates an error with exit code 1: the command ran and failed.
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Problem { code: 1, text: text.into() }
    }

    /// Creates an error with exit code 2: an argument is unusable.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Problem { code: 2, text: text.into() }
    }
}

/// A standard stream for output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// A stream for waterfalls and other text, and how text is printed on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TextOutput {
    stream: Stream,
    color: bool,
    ascii: bool,
    columns: usize,
}

impl TextOutput {
    pub(crate) fn new(stream: Stream, ascii: bool) -> Self {
        /// In wider waterfalls, longer bars would add no detail.
        const MAX_COLUMNS: usize = 160;
        const DEFAULT_COLUMNS: usize = 100;
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let (is_terminal, size) = match stream {
            Stream::Stdout => (io::stdout().is_terminal(), terminal_size::terminal_size_of(io::stdout())),
            Stream::Stderr => (io::stderr().is_terminal(), terminal_size::terminal_size_of(io::stderr())),
        };
        let said = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let columns = size.map(|(width, _)| usize::from(width.0)).or(said).unwrap_or(DEFAULT_COLUMNS);
        TextOutput {
            stream,
            color: is_terminal && !is_set("NO_COLOR") && !is_dumb,
            ascii: ascii || !is_utf8_locale(),
            columns: columns.min(MAX_COLUMNS),
        }
    }

    pub(crate) fn waterfall(self, trace: &NetTrace, heading: bool, headers: bool) -> io::Result<()> {
        let drawing = view::waterfall(trace).color(self.color).ascii(self.ascii).width(self.columns);
        self.print(&drawing.heading(heading).headers(headers).to_string())
    }

    pub(crate) fn summary(self, trace: &NetTrace) -> io::Result<()> {
        self.print(&view::summary(trace).color(self.color).ascii(self.ascii).to_string())
    }

    pub(crate) fn table(self, trace: &NetTrace) -> io::Result<()> {
        self.print(&view::table(trace).color(self.color).ascii(self.ascii).to_string())
    }

    /// Returns the text in the characters that are to be printed.
    pub(crate) fn in_charset(self, text: &str) -> String {
        let in_ascii = |c| match c {
            '\n' | ' '..='~' => c,
            '✗' => 'x',
            '·' => '-',
            '…' => '~',
            'µ' => 'u',
            '→' => '>',
            _ => '?',
        };
        if self.ascii { text.chars().map(in_ascii).collect() } else { text.into() }
    }

    /// Wraps text between words.
    pub(crate) fn wrapped(self, text: &str) -> String {
        wrap(text, self.columns, "\n")
    }

    /// Wraps each line between words. What follows on a next line is indented further than the line. Control characters
    /// other than line feeds are escaped.
    pub(crate) fn wrapped_lines(self, text: &str) -> String {
        let lines = text.split('\n').map(|line| {
            let indent = line.len() - line.trim_start_matches(' ').len();
            let (indent, line) = line.split_at(indent);
            let columns = self.columns.saturating_sub(indent.len() + 2);
            format!("{indent}{}", wrap(&escaped(line), columns, &format!("\n{indent}  ")))
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Returns the text in bold if colors are on.
    pub(crate) fn emphasised(self, text: &str) -> String {
        if self.color { format!("\x1b[1m{text}\x1b[0m") } else { text.into() }
    }

    /// Prints text. A closed pipe is not an error.
    pub(crate) fn print(self, text: &str) -> io::Result<()> {
        ignore_broken_pipe(match self.stream {
            Stream::Stdout => {
                io::stdout().lock().write_all(text.as_bytes()).and_then(|()| io::stdout().flush())
            }
            Stream::Stderr => io::stderr().lock().write_all(text.as_bytes()),
        })
    }
}

/// Puts `separator` between words where lines would have more columns.
fn wrap(text: &str, columns: usize, separator: &str) -> String {
    let (mut lines, mut used) = (String::new(), 0);
    for word in text.split(' ') {
        let len = word.chars().count();
        if used > 0 {
            let fits = used + 1 + len <= columns;
            lines.push_str(if fits { " " } else { separator });
            used = if fits { used + 1 } else { 0 };
        }
        lines.push_str(word);
        used += len;
    }
    lines
}

/// Returns `true` if the locale's encoding is UTF-8 or not specified.
fn is_utf8_locale() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().filter_map(|name| env::var(name).ok());
    let charset = locale.into_iter().find(|locale| !locale.is_empty());
    let charset =
        charset.and_then(|locale| locale.split_once('.').map(|(_, charset)| charset.to_lowercase()));
    charset.is_none_or(|charset| charset.starts_with("utf-8") || charset.starts_with("utf8"))
}

/// The destination of a trace in JSON. It is opened before the request is made, so that an unusable path is reported
/// first. An existing file is truncated at that time.
#[derive(Debug)]
pub(crate) enum JsonOutput {
    Stdout,
    File { file: File, name: String },
}

impl JsonOutput {
    pub(crate) fn open(path: &Path) -> Result<Self, Problem> {
        if is_dash(path) {
            return Ok(JsonOutput::Stdout);
        }
        let name = path.display().to_string();
        match File::create(path) {
            Ok(file) => Ok(JsonOutput::File { file, name }),
            Err(error) => Err(Problem::usage(format!("cannot write {name}: {error}"))),
        }
    }

    pub(crate) fn write(self, trace: &NetTrace, precise: bool) -> Result<(), Problem> {
        let (written, name) = match self {
            JsonOutput::Stdout => (
                ignore_broken_pipe(write_json(io::stdout().lock(), trace, precise)),
                "standard output".into(),
            ),
            JsonOutput::File { file, name } => (write_json(file, trace, precise), name),
        };
        written.map_err(|error| Problem::failed(format!("cannot write {name}: {error}")))
    }
}

fn write_json(out: impl Write, trace: &NetTrace, precise: bool) -> io::Result<()> {
    fn pretty(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, value)?;
        writeln!(out)
    }
    let mut out = BufWriter::new(out);
    if precise {
        pretty(&mut out, &trace.precise())?
    } else {
        pretty(&mut out, trace)?
    }
    out.flush()
}

/// Prints a value as JSON on standard output. A closed pipe is not an error.
pub(crate) fn print_json(value: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let written = serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from);
    ignore_broken_pipe(written.and_then(|()| writeln!(out)))
}

/// Returns `true` if a file name stands for a standard stream.
pub(crate) fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Ignores the error of a pipe whose reader closed it.
pub(crate) fn ignore_broken_pipe(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

/// Prints a warning on one line. Control characters are escaped.
pub(crate) fn warn(text: &str) {
    // There is no other place to report a failure.
    let _ = io::stderr().write_all(format!("nettrace: {}\n", escaped(text)).as_bytes());
}

/// Escapes control characters, which a terminal would interpret.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_wraps_between_words() {
        let screen = TextOutput { stream: Stream::Stdout, color: false, ascii: false, columns: 9 };
        assert_eq!(screen.wrapped("one two three-and-more é four"), "one two\nthree-and-more\né four");
        assert_eq!(screen.wrapped("one two 3"), "one two 3");
        assert_eq!(screen.wrapped_lines("one\n  two three\n\n4\x1b"), "one\n  two\n    three\n\n4\\u{1b}");
    }
}
