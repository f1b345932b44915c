//! `nettrace doctor`: makes a request several times, and says in one verdict what is wrong.
//!
//! An [`Examination`] makes the requests and knows what is not in their trace. The [`Verdict`] is drawn from both.

mod examination;
mod families;
mod sentence;
mod verdict;

use self::{examination::Examination, verdict::Verdict};
use crate::{
    args::DoctorArgs,
    output::{JsonOutput, Problem, Stream, TextOutput, is_dash},
    probes::KernelProbes,
    signals::Signals,
};
use http::HeaderName;
use nettrace::{HeaderCapture, NetTrace, TraceSink};
use std::io;

pub(crate) async fn run(args: &DoctorArgs, ascii: bool) -> Result<(), Problem> {
    let probes = KernelProbes::all(args.conntrack_zone);
    let sink = TraceSink::builder().headers(HeaderCapture::Values).exclude_header(is_no_evidence);
    let sink = probes.probes(sink).build();
    let mut examination = Examination::new(args, &sink)?;
    let json = args.json.as_deref().map(JsonOutput::open).transpose()?;
    let mut signals = Signals::new().map_err(|error| Problem::failed(error.to_string()))?;

    let signal = tokio::select! {
        done = examination.run() => done.map(|()| None)?,
        signal = signals.next() => Some(signal),
    };
    signals.exit_on_next();
    let trace = examination.finish().await;
    let verdict = Verdict::new(&examination, &trace, signal.is_some());
    let stream = if args.json.as_deref().is_some_and(is_dash) { Stream::Stderr } else { Stream::Stdout };
    let printed = print(TextOutput::new(stream, ascii), &trace, &verdict, &probes.not_seen());
    if let Some(json) = json {
        json.write(&trace, args.precise)?;
    }
    printed.map_err(|error| Problem::failed(format!("cannot write the verdict: {error}")))?;
    match signal {
        Some(signal) => Err(Problem { code: 128 + signal, text: "interrupted".into() }),
        None => verdict.problem().map_or(Ok(()), Err),
    }
}

/// Returns `true` for header fields that no finding quotes. They are not recorded: they may hold secrets.
fn is_no_evidence(name: &HeaderName) -> bool {
    const QUOTED: [&str; 8] =
        ["connection", "content-length", "location", "retry-after", "via", "server", "x-served-by", "cf-ray"];
    !QUOTED.contains(&name.as_str())
}

fn print(screen: TextOutput, trace: &NetTrace, verdict: &Verdict, not_seen: &[String]) -> io::Result<()> {
    let text = |text: &str| screen.in_charset(&screen.wrapped_lines(text));
    screen.table(trace)?;
    let remarks: String = verdict.remarks.iter().map(|remark| format!("{remark}\n")).collect();
    let space = if remarks.is_empty() { "" } else { "\n" };
    screen.print(&text(&format!("{space}{remarks}\n")))?;
    let (conclusion, proof) = verdict.text.split_once('\n').unwrap_or((&verdict.text, ""));
    screen.print(&screen.emphasised(&text(conclusion)))?;
    let not_seen: String = not_seen.iter().map(|what| format!("\nnot seen: {what}\n")).collect();
    screen.print(&text(&format!("\n{proof}{not_seen}")))
}
