//! Leaves out tests that cannot run on this machine, with a message. Where everything must run, as in CI,
//! `NETTRACE_LAB=require` turns that into a failure.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

/// Leaves the test out unless network namespaces can be made (root, `ip`, `nft`).
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

/// Leaves the test out unless these programs are installed: `require_tool!("nginx", "curl")`.
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

/// Returns the path of a program: in `PATH`, in Debian's directories for root, or in those that each version of PostgreSQL
/// has for itself.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .chain(versions("/usr/lib/postgresql"))
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

/// The directories of programs in the directories of versions.
fn versions(of: &str) -> impl Iterator<Item = PathBuf> {
    let versions = std::fs::read_dir(of).into_iter().flatten().flatten();
    versions.map(|version| version.path().join("bin"))
}

/// Says that a test is left out and why: on stderr past the runner's capture of prints, and in the
/// file named by `NETTRACE_SKIP_LOG`, because runners hide what a passing test wrote.
///
/// # Panics
///
/// With `NETTRACE_LAB=require`.
pub fn skip(file: &str, line: u32, why: &str) {
    let message = format!("SKIPPED {file}:{line}: {why}\n");
    if env::var_os("NETTRACE_LAB").is_some_and(|value| value == "require") {
        panic!("{message}and NETTRACE_LAB=require forbids that");
    }
    // A lost message about a skip is no reason to fail.
    _ = std::io::stderr().write_all(message.as_bytes());
    if let Some(log) = env::var_os("NETTRACE_SKIP_LOG")
        && let Ok(mut log) = OpenOptions::new().append(true).create(true).open(log)
    {
        _ = log.write_all(message.as_bytes());
    }
}
