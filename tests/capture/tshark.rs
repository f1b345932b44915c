//! tshark, as an independent reader of capture files.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use test_support::process;

const DEADLINE: Duration = Duration::from_secs(60);

/// Runs tshark on a file, without the settings of this machine's user, and returns its lines.
///
/// # Panics
///
/// If tshark fails or prints a warning.
#[track_caller]
pub fn tshark(file: &Path, arguments: &[&str]) -> Vec<String> {
    let home = tempfile::tempdir().expect("a directory");
    let mut command = Command::new("tshark");
    command.env("HOME", home.path()).env("XDG_CONFIG_HOME", home.path()).env("LC_ALL", "C.UTF-8");
    command.arg("-r").arg(file).args(arguments);
    let output = process::run(command, DEADLINE);
    let complaints: Vec<_> = output
        .stderr
        .lines()
        .filter(|line| !line.is_empty() && !line.contains("could be dangerous"))
        .collect();
    assert!(output.status.success() && complaints.is_empty(), "{arguments:?}: {}", output.stderr);
    output.stdout.lines().map(str::to_owned).collect()
}

/// Returns the values of a field, a line for each packet that the display filter lets through.
#[track_caller]
pub fn field(file: &Path, filter: &str, name: &str) -> Vec<String> {
    let lines = tshark(file, &["-Y", filter, "-T", "fields", "-e", name]);
    lines.into_iter().filter(|line| !line.is_empty()).collect()
}
