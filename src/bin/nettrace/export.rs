//! `nettrace export`: writes a trace from a file in the format of another program.

use crate::{
    args::{ExportArgs, ExportFormat},
    output::{Problem, ignore_broken_pipe, is_dash},
    show,
};
use nettrace::{NetTrace, export::otlp_json::OtlpJson};
use std::{
    fs::File,
    io::{self, ErrorKind, Write},
};

pub(crate) fn run(args: &ExportArgs) -> Result<(), Problem> {
    let trace = show::read(&args.file)?;
    if is_dash(&args.output) {
        let written = write(args, &trace, io::stdout().lock());
        return ignore_broken_pipe(written).map_err(|error| problem(args, &error, "standard output"));
    }
    // After the trace was read, so that an unreadable one does not truncate an existing file.
    let name = args.output.display().to_string();
    let file = File::create(&args.output)
        .map_err(|error| Problem::usage(format!("cannot write {name}: {error}")))?;
    write(args, &trace, file).map_err(|error| problem(args, &error, &name))
}

fn write(args: &ExportArgs, trace: &NetTrace, out: impl Write) -> io::Result<()> {
    match args.to {
        ExportFormat::OtlpJson => {
            let mut export = OtlpJson::new().findings(!args.no_findings);
            if let Some(name) = &args.service_name {
                export = export.service_name(name);
            }
            for (key, value) in &args.resource {
                export = export.resource(key, value);
            }
            export.write(trace, out)
        }
    }
}

fn problem(args: &ExportArgs, error: &io::Error, output: &str) -> Problem {
    match error.kind() {
        // The trace cannot be written in this format.
        ErrorKind::InvalidData => {
            let is_stdin = is_dash(&args.file);
            let name = if is_stdin { "standard input".into() } else { args.file.display().to_string() };
            Problem::failed(format!("cannot export {name}: {error}"))
        }
        _ => Problem::failed(format!("cannot write {output}: {error}")),
    }
}
