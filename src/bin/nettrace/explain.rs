//! `nettrace explain`: says what went wrong in a trace from a file.

use crate::{
    output::{self, Problem, Stream, TextOutput},
    show,
};
use nettrace::explain::{self, Explanation};
use std::{io, path::Path};

pub(crate) fn run(file: &Path, json: bool, ascii: bool) -> Result<(), Problem> {
    let explanation = explain::explain(&show::read(file)?);
    let written = if json { output::print_json(&explanation) } else { print(&explanation, ascii) };
    written.map_err(|error| Problem::failed(format!("cannot write to standard output: {error}")))
}

/// Prints each cause once, and then what was found about each request.
fn print(explanation: &Explanation, ascii: bool) -> io::Result<()> {
    let screen = TextOutput::new(Stream::Stdout, ascii);
    let verdicts: Vec<_> = explanation.verdicts.iter().map(|verdict| format!("\n{verdict}")).collect();
    screen.print(&screen.in_charset(&format!("{explanation}{}", verdicts.concat())))
}
