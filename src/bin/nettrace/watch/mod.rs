//! `nettrace watch`: prints finished requests as they come, from a store of slices or a debug page.

mod line;
mod page;
mod store;

use self::{page::Page, store::Store};
use crate::{
    args::WatchArgs,
    output::{self, Problem, Stream, TextOutput},
    remote,
};
use nettrace::NetTrace;
use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Write},
    thread,
};

pub(crate) fn run(args: &WatchArgs, ascii: bool) -> Result<(), Problem> {
    let mut source = Source::open(args)?;
    let filter = args.conditions.filter().unwrap_or_default();
    let screen = TextOutput::new(Stream::Stdout, ascii);
    let mut latest = VecDeque::new();
    for trace in source.new_traces()? {
        latest.extend(line::of_trace(&trace, &filter));
        latest.drain(..latest.len().saturating_sub(args.last));
    }
    let (mut lines, mut is_failing) = (Vec::from(latest), false);
    loop {
        match print(screen, &lines) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            printed => printed
                .map_err(|error| Problem::failed(format!("cannot write to standard output: {error}")))?,
        }
        thread::sleep(args.interval);
        lines = match source.new_traces() {
            Ok(traces) => {
                is_failing = false;
                traces.iter().flat_map(|trace| line::of_trace(trace, &filter)).collect()
            }
            // The program may be restarted, or the directory come back.
            Err(problem) => {
                if !is_failing {
                    output::warn(&format!("{}; trying again", problem.text));
                }
                is_failing = true;
                Vec::new()
            }
        };
    }
}

/// Where requests come from.
enum Source {
    Store(Store),
    Page(Page),
}

impl Source {
    fn open(args: &WatchArgs) -> Result<Self, Problem> {
        match remote::url(&args.source) {
            Some(url) => Ok(Source::Page(Page::new(url))),
            None => Ok(Source::Store(Store::open(&args.source)?)),
        }
    }

    /// Returns traces with the requests that ended since the last call; at the first one those that had ended before.
    fn new_traces(&mut self) -> Result<Vec<NetTrace>, Problem> {
        match self {
            Source::Store(store) => store.new_slices(),
            Source::Page(page) => Ok(vec![page.new_requests()?]),
        }
    }
}

fn print(screen: TextOutput, lines: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{}", screen.in_charset(line))?;
    }
    out.flush()
}
