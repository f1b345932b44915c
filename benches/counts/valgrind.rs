//! Runs a scene in a process of its own under callgrind, which counts only the instructions of [`nettrace_measured`].
//! Differences between runs and between machines are avoided as far as possible.

use crate::scenes::{Scene, run_in_batches};
use std::{env, fs, hint::black_box, mem::MaybeUninit, path::Path, process::Command};

pub const CHILD: &str = "--child";

/// Repetitions before the count begins. They do one-time work, and fill the sink up to its bounds.
const WARM_UP: u64 = 32 << 10;
const TIMES: u64 = 8 << 10;
/// The same for a long scene.
const LONG_WARM_UP: u64 = 1 << 10;
const LONG_TIMES: u64 = 1 << 10;
/// Repetitions of a scene that cannot be repeated without new preparation.
const FEW: u64 = 4;

/// Returns the instructions of one repetition of the scene `name`, counted on the processor `cpu`.
pub fn count(name: &str, cpu: usize) -> f64 {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let out = directory.path().join("out");
    let output = Command::new("taskset")
        // One processor only: a sink has a shard for each processor that it may run on.
        .args(["--cpu-list", &cpu.to_string()])
        .args(["valgrind", "--tool=callgrind", "--toggle-collect=nettrace_measured"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(env::current_exe().expect("this program has a path"))
        .args([CHILD, name])
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        // Callgrind counts `rep stos` once per byte, and not every processor's C library uses it.
        .env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-ERMS,-FSRM")
        .output()
        .expect("taskset (util-linux) and valgrind, which the script checks");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {stderr}");
    let times: f64 =
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("the number of repetitions");
    total(&out).unwrap_or_else(|| panic!("{name}: no total: {stderr}")) / times
}

/// Runs a scene in the child process.
pub fn run(scene: &Scene) {
    let mut work = (scene.prepare)();
    let (warm_up, times) = match work.most() {
        1 => (1, FEW),
        _ if scene.is_long => (LONG_WARM_UP, LONG_TIMES),
        _ => (WARM_UP, TIMES),
    };
    run_in_batches(&mut *work, warm_up, |run| run());
    run_in_batches(&mut *work, times, nettrace_measured);
    println!("{times}");
}

/// The function whose instructions callgrind counts. It finds the function by its name.
#[unsafe(no_mangle)]
#[inline(never)]
fn nettrace_measured(go: &mut dyn FnMut()) {
    go();
    // Prevents a tail call, whose return callgrind would not see.
    black_box(());
}

/// Replaces the C library's function, so that random choices, such as the seed of a hash table, are equal in each run.
///
/// # Safety
///
/// The buffer must have room for `length` bytes, as for the function that this replaces.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    // SAFETY: the caller guarantees that the buffer has this length.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<MaybeUninit<u8>>(), length) };
    buffer.iter_mut().zip((1..=u8::MAX).cycle()).for_each(|(to, byte)| {
        to.write(byte);
    });
    length as isize
}

fn total(out: &Path) -> Option<f64> {
    let text = fs::read_to_string(out).ok()?;
    text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok())
}

/// Returns the processors that this process may run on.
pub fn cpus() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has this file");
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let ranges = allowed.expect("the kernel lists the processors").trim().split(',');
    let number = |text: &str| text.parse::<usize>().expect("a processor is a number");
    ranges
        .flat_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            number(first)..=number(last)
        })
        .collect()
}
