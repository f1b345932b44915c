//! The command `nettrace`, run as a process.

#![cfg(feature = "cli")]

mod demo;
mod doctor;
mod explain;
mod export;
mod get;
mod interrupt;
mod output;
mod probes;
mod proxy;
mod show;
mod store;
mod tls;
mod watch;

use nettrace::NetTrace;
use std::{
    ffi::OsStr,
    io::ErrorKind,
    process::{Command, Stdio},
    time::Duration,
};
use test_support::process::{self, Output};

const PATIENCE: Duration = Duration::from_secs(60);

/// Returns the command without a terminal, and without the environment variables that choose colours and language.
fn command<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = without_terminal(Command::new(env!("CARGO_BIN_EXE_nettrace")));
    command.args(args);
    command
}

fn without_terminal(mut command: Command) -> Command {
    for name in ["COLUMNS", "NO_COLOR", "LC_ALL", "LC_CTYPE", "LANG", "TERM"] {
        command.env_remove(name);
    }
    command
}

#[track_caller]
fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    process::run(command(args), PATIENCE)
}

/// Runs the command with `input` on standard input.
fn run_with_input(args: &[&str], input: &[u8]) -> Output {
    use std::io::Write;
    let mut child =
        command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The command may exit before it has read all of an invalid trace.
    let written = child.stdin.take().unwrap().write_all(input);
    assert!(written.is_ok() || written.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe));
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Output { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Returns the error message: the only line on standard error, or the last one below a waterfall.
#[track_caller]
fn reason(output: &Output) -> &str {
    let last = output.stderr.lines().last().unwrap_or_default();
    let count = output.stderr.lines().filter(|line| line.starts_with("nettrace: ")).count();
    assert_eq!(count, 1, "{}", output.stderr);
    last.strip_prefix("nettrace: ").unwrap_or_else(|| panic!("{}", output.stderr))
}

#[track_caller]
fn exits_with(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}{}", output.stdout, output.stderr);
    assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
}

#[track_caller]
fn parse(json: &str) -> NetTrace {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

#[test]
fn wrong_usage_exits_with_2() {
    let wrong: [&[&str]; 17] = [
        &[],
        &["fetch"],
        &["get"],
        &["get", "ftp://example.com/"],
        &["get", "http://"],
        &["get", "http://h/", "--http1", "--http2"],
        &["get", "http://h/", "--headers", "some"],
        &["get", "http://h/", "--timeout", "soon"],
        &["get", "http://h/", "--timeout", "0"],
        &["get", "http://h/", "--repeat", "0"],
        &["get", "http://h/", "-H", "no colon"],
        &["get", "http://h/", "-X", "B D"],
        &["get", "http://h/", "--nameserver", "localhost"],
        &["get", "http://h/", "--cacert", "/does/not/exist"],
        &["get", "http://h/", "-d", "@/does/not/exist"],
        &["get", "http://h/", "--json", "/does/not/exist"],
        &["get", "http://h/", "--json", "-", "-o", "-"],
    ];
    for args in wrong {
        let output = run(args);
        exits_with(&output, 2);
        assert_eq!(output.stdout, "", "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn endless_data_is_rejected() {
    let output = run(["get", "http://h/", "-d", "@/dev/zero"]);
    exits_with(&output, 2);
    assert!(output.stderr.contains("cannot read /dev/zero: it is longer than 64 MiB"), "{}", output.stderr);
}

#[test]
fn help_and_version_are_printed() {
    let subcommands = ["get", "doctor", "show", "explain", "diff", "export", "demo"];
    for args in subcommands.map(|name| vec![name, "--help"]).into_iter().chain([vec!["--help"]]) {
        let output = run(args);
        exits_with(&output, 0);
        assert!(output.stdout.contains("Usage: nettrace"), "{}", output.stdout);
    }
    assert_eq!(run(["--version"]).success().trim(), concat!("nettrace ", env!("CARGO_PKG_VERSION")));
}
