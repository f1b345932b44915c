//! Skips tests that cannot run on this machine, with a message. With `NETTRACE_LAB=require`, as in CI, they fail
//! instead.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

/// Skips the test unless network namespaces can be created (root, `ip`, `nft`).
#[macro_export]
macro_rules! require_lab {
    () => {
        if let Err(why) = $crate::lab::available() {
            $crate::require::skip(file!(), line!(), &why);
            return;
        }
    };
}
pub use crate::require_lab;

/// Skips the test unless these programs are installed: `require_tool!("nginx", "curl")`.
#[macro_export]
macro_rules! require_tool {
    ($($name:literal),+ $(,)?) => {
        $(
            if $crate::require::tool($name).is_none() {
                $crate::require::skip(file!(), line!(), concat!("no `", $name, "` on this machine"));
                return;
            }
        )+
    };
}
pub use crate::require_tool;

/// Returns the path of a program in `PATH`, `/usr/sbin`, `/sbin` or the directories of PostgreSQL's versions.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .chain(versions("/usr/lib/postgresql"))
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

/// Returns the `bin` directories of the versions that are installed under `of`.
fn versions(of: &str) -> impl Iterator<Item = PathBuf> {
    let versions = std::fs::read_dir(of).into_iter().flatten().flatten();
    versions.map(|version| version.path().join("bin"))
}

/// Reports that a test is skipped, and why.
///
/// Runners hide the output of a test that passes. So the message is written to stderr in a way that libtest does not
/// capture, and to the file that `NETTRACE_SKIP_LOG` names.
///
/// # Panics
///
/// If `NETTRACE_LAB` is `require`.
pub fn skip(file: &str, line: u32, why: &str) {
    let message = format!("SKIPPED {file}:{line}: {why}\n");
    if env::var_os("NETTRACE_LAB").is_some_and(|value| value == "require") {
        panic!("{message}and NETTRACE_LAB=require forbids that");
    }
    // A test does not fail because its message is lost.
    _ = std::io::stderr().write_all(message.as_bytes());
    if let Some(log) = env::var_os("NETTRACE_SKIP_LOG")
        && let Ok(mut log) = OpenOptions::new().append(true).create(true).open(log)
    {
        _ = log.write_all(message.as_bytes());
    }
}
