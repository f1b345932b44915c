//! The command `nettrace`: makes requests and shows what happened behind them.
//!
//! `args` defines the command line, and `get`, `doctor`, `show`, `explain`, `diff`, `watch`, `export` and `demo` are its
//! subcommands. `client` makes the requests of the first two, `probes` sets up what is recorded in addition to them,
//! `input` and `remote` read traces, and `output` writes waterfalls and JSON.

mod args;
mod client;
mod demo;
mod diff;
mod doctor;
mod explain;
mod export;
mod get;
mod input;
mod output;
mod probes;
mod remote;
mod show;
mod signals;
mod watch;
// The same files as in the library, which does not export them.
#[path = "../../filter_values.rs"]
mod filter_values;
#[path = "../../user_info.rs"]
mod user_info;

use args::{Cli, Command};
use clap::Parser;
use output::Problem;
use std::process::ExitCode;
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| args::mask_secrets(error).exit());
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            output::warn(&problem.text);
            ExitCode::from(problem.code)
        }
    }
}

fn run(cli: Cli) -> Result<(), Problem> {
    match cli.command {
        Command::Show(args) => show::run(&args, cli.ascii),
        Command::Diff { before, after, json } => diff::run(&before, &after, json, cli.ascii),
        Command::Explain { file, json } => explain::run(&file, json, cli.ascii),
        Command::Watch(args) => watch::run(&args, cli.ascii),
        Command::Export(args) => export::run(&args),
        // A single thread, so that no event waits for a thread before its time is taken.
        Command::Get(args) => block_on(&mut Builder::new_current_thread(), get::run(&args, cli.ascii)),
        Command::Doctor(args) => block_on(&mut Builder::new_current_thread(), doctor::run(&args, cli.ascii)),
        // The second thread is for the servers.
        Command::Demo { json } => {
            block_on(Builder::new_multi_thread().worker_threads(2), demo::run(json.as_deref(), cli.ascii))
        }
    }
}

fn block_on<T>(
    runtime: &mut Builder,
    command: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    let built = runtime.enable_all().build();
    let runtime = built.map_err(|error| Problem::failed(format!("cannot start: {error}")))?;
    let done = runtime.block_on(command);
    // A blocked write must not delay the exit.
    runtime.shutdown_background();
    done
}
