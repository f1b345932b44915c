//! `nettrace diff`: says what changed between two traces from files.

use crate::{
    output::{self, Problem, Stream, TextOutput},
    show,
};
use nettrace::diff;
use std::{io, path::Path};

pub(crate) fn run(before: &Path, after: &Path, json: bool, ascii: bool) -> Result<(), Problem> {
    if output::is_dash(before) && output::is_dash(after) {
        return Err(Problem::usage("standard input can be one of the traces, and not both"));
    }
    let changes = diff::diff(&show::read(before)?, &show::read(after)?);
    let written = if json { output::print_json(&changes) } else { print(&changes, ascii) };
    written.map_err(|error| Problem::failed(format!("cannot write to standard output: {error}")))
}

fn print(changes: &[diff::Change], ascii: bool) -> io::Result<()> {
    let screen = TextOutput::new(Stream::Stdout, ascii);
    let lines: Vec<_> = changes.iter().map(|change| format!("{change}\n")).collect();
    let text = if lines.is_empty() { "Nothing has changed.\n".into() } else { lines.concat() };
    screen.print(&screen.in_charset(&text))
}
