//! The memory and the file descriptors of this process over time.

use std::fs;

/// What the process uses at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    resident_bytes: u64,
    descriptors: usize,
}

/// How much more than before is still the same, for allocators and timers.
const SLACK_BYTES: u64 = 8 << 20;
const SLACK_DESCRIPTORS: usize = 32;

impl Usage {
    pub fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").expect("Linux");
        let resident =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        let kib: u64 = resident.and_then(|kib| kib.parse().ok()).expect("proc_pid_status(5)");
        let descriptors = fs::read_dir("/proc/self/fd").expect("Linux").count();
        Usage { resident_bytes: kib << 10, descriptors }
    }

    /// Asserts that the last fifth of the time needed no more than the second, after which everything has been used once.
    #[track_caller]
    pub fn assert_flat(usages: &[Usage]) {
        let [_, early, _, _, late] = fifths(usages);
        let (early, late) = (most(early), most(late));
        assert!(
            late.resident_bytes <= early.resident_bytes * 11 / 10 + SLACK_BYTES,
            "{early:?}, then {late:?}"
        );
        assert!(late.descriptors <= early.descriptors + SLACK_DESCRIPTORS, "{early:?}, then {late:?}");
    }

    /// Returns the most that was used in each fifth of the time, as text.
    pub fn summary(usages: &[Usage]) -> String {
        let text = |part: &[Usage]| {
            let most = most(part);
            format!("{} MiB and {} descriptors", most.resident_bytes >> 20, most.descriptors)
        };
        fifths(usages).map(text).join(", ")
    }
}

fn fifths(usages: &[Usage]) -> [&[Usage]; 5] {
    let len = usages.len();
    assert!(len >= 10, "{len} looks are too few");
    [0, 1, 2, 3, 4].map(|part| &usages[len * part / 5..len * (part + 1) / 5])
}

fn most(usages: &[Usage]) -> Usage {
    let resident_bytes = usages.iter().map(|usage| usage.resident_bytes).max();
    let descriptors = usages.iter().map(|usage| usage.descriptors).max();
    Usage { resident_bytes: resident_bytes.unwrap_or(0), descriptors: descriptors.unwrap_or(0) }
}
