//! A load generator: what does tracing cost? Every figure in `benches/README.md` comes from here.
//!
//! ```text
//! cargo run --release --features full --example load -- --compare 20                  # its own server, all modes in turn
//! cargo run --release --features full --example load -- --turns 240                   # for differences of a hundredth
//! cargo run --release --features full --example load -- --serve                       # the server alone: prints its URLs
//! cargo run --release --features full --example load -- --mode traced --url http://127.0.0.1:PORT/1k --requests 100000
//! ```
//!
//! Each run prints one line of JSON: times per request in microseconds (`cpu_us` is what `getrusage` counts for
//! this process, user and system), allocations per request, and what the heap keeps of a request afterwards.

use clap::Parser;
use std::{error::Error, process::ExitCode};

mod load {
    pub mod args;
    pub mod clients;
    pub mod compare;
    pub mod meter;
    pub mod modes;
    pub mod pin;
    pub mod run;
    pub mod serve;
    pub mod turns;
}

use load::{
    args::Args,
    compare, meter,
    pin::{self, Place},
    run, serve, turns,
};

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
            pin::keep_to(Place::Last)?;
        }
        return serve::serve();
    }
    // As in any service there is a second thread: the C library and the kernel do less for a process of one.
    let _other = std::thread::spawn(std::thread::park);
    let _server = args.needs_server().then(|| serve::Child::start(&mut args)).transpose()?;
    match (args.compare, args.turns) {
        (Some(rounds), _) => compare::compare(&args, rounds),
        (None, Some(rounds)) => turns::turns(&args, rounds),
        (None, None) => {
            println!("{}", serde_json::to_string(&run::run(&args)?)?);
            Ok(())
        }
    }
}
