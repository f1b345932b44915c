//! A load generator that measures what tracing costs. The figures in `benches/README.md` come from it.
//!
//! ```text
//! cargo run --release -p nettrace-load -- --compare 20    # its own server, all modes in turn
//! cargo run --release -p nettrace-load -- --turns 240     # shows differences of 1 %
//! cargo run --release -p nettrace-load -- --serve         # the server alone: prints its URLs
//! cargo run --release -p nettrace-load -- --mode traced --url http://127.0.0.1:PORT/1k --requests 100000
//! ```
//!
//! Each run prints one line of JSON, with figures per request: times in microseconds (`cpu_us` is the user and system
//! time that `getrusage` reports for this process), allocations, and the heap memory that is kept afterwards.

mod args;
mod clients;
mod compare;
mod meter;
mod mode;
mod pin;
mod run;
mod serve;
mod statistics;
mod table;
mod turns;

use args::Args;
use clap::Parser;
use pin::Processor;
use std::{error::Error, process::ExitCode};

type BoxError = Box<dyn Error + Send + Sync>;

#[global_allocator]
static ALLOCATOR: meter::Counting = meter::Counting;

fn main() -> ExitCode {
    match start(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(mut args: Args) -> Result<(), Box<dyn Error>> {
    if args.serve {
        if !args.unpinned {
            pin::keep_to(Processor::Last)?;
        }
        return serve::serve();
    }
    args.check()?;
    // A second thread, as in any service: the C library and the kernel do less in a process with one thread.
    let _other = std::thread::spawn(std::thread::park);
    let _server = args.needs_server().then(|| serve::ServerProcess::start(&mut args)).transpose()?;
    match (args.compare, args.turns) {
        (Some(rounds), _) => compare::compare(&args, rounds),
        (None, Some(rounds)) => turns::turns(&args, rounds),
        (None, None) => {
            println!("{}", serde_json::to_string(&run::run(&args)?)?);
            Ok(())
        }
    }
}
