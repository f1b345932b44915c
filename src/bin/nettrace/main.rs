//! The command `nettrace`: makes requests, and shows what happened behind them.

mod args;
mod demo;
mod get;
mod output;
mod show;
mod signals;

use args::{Cli, Command};
use clap::Parser;
use output::Problem;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            output::complain(&problem.text);
            ExitCode::from(problem.code)
        }
    }
}

fn run(cli: Cli) -> Result<(), Problem> {
    match cli.command {
        Command::Show { file, headers } => show::run(&file, headers, cli.ascii),
        Command::Get(args) => block_on(get::run(&args, cli.ascii)),
        Command::Demo { json } => block_on(demo::run(json.as_deref(), cli.ascii)),
    }
}

fn block_on(command: impl Future<Output = Result<(), Problem>>) -> Result<(), Problem> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = built.map_err(|error| Problem::failed(format!("cannot start: {error}")))?;
    let done = runtime.block_on(command);
    // A write that nobody takes must not hold us up.
    runtime.shutdown_background();
    done
}
