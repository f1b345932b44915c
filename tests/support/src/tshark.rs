//! Wireshark's tshark, which reads capture files.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::process;

const DEADLINE: Duration = Duration::from_secs(60);

/// Runs tshark on a file, without the user's settings, and returns the lines of its output.
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
    let warnings: Vec<_> = output
        .stderr
        .lines()
        .filter(|line| !line.is_empty() && !line.contains("could be dangerous"))
        .collect();
    assert!(output.status.success() && warnings.is_empty(), "{arguments:?}: {}", output.stderr);
    output.stdout.lines().map(str::to_owned).collect()
}

/// Returns the non-empty values of a field in the packets that match the display filter.
#[track_caller]
pub fn field(file: &Path, filter: &str, name: &str) -> Vec<String> {
    let lines = tshark(file, &["-Y", filter, "-T", "fields", "-e", name]);
    lines.into_iter().filter(|line| !line.is_empty()).collect()
}
