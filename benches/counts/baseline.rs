//! The stored counts, and the comparison with them.

use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, fmt, fs, path::PathBuf, process::Command};

/// The file's path in this package.
pub const FILE: &str = "instructions.json";

/// The tolerated difference, as a fraction of the stored count.
const TOLERATED: f64 = 0.05;

/// The instruction counts of all scenes, and the versions of the programs that they depend on.
pub struct Baseline {
    made_with: String,
    instructions: BTreeMap<String, f64>,
}

impl Baseline {
    /// Reads the stored counts. Returns an empty baseline if there is no file.
    pub fn load() -> Self {
        let Ok(text) = fs::read_to_string(path()) else {
            return Baseline { made_with: tools(), instructions: BTreeMap::new() };
        };
        let stored: Value = serde_json::from_str(&text).expect("the file with the stored counts is JSON");
        let made_with = stored["madeWith"].as_str().unwrap_or_default().to_owned();
        let counts = stored["instructions"].as_object().into_iter().flatten();
        let counts = counts.map(|(name, count)| (name.clone(), count.as_f64().expect("a count is a number")));
        Baseline { made_with, instructions: counts.collect() }
    }

    /// Replaces the counts of all scenes whose name contains `filter`.
    pub fn with(mut self, filter: &str, now: BTreeMap<String, f64>) -> Self {
        self.instructions.retain(|name, _| !name.contains(filter));
        self.instructions.extend(now);
        Baseline { made_with: tools(), ..self }
    }

    pub fn store(&self) {
        let counts: Map<_, _> =
            self.instructions.iter().map(|(name, count)| (name.clone(), json!(count))).collect();
        let stored = json!({ "madeWith": self.made_with, "instructions": counts });
        fs::write(path(), format!("{stored:#}\n")).expect("the stored counts can be written");
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        self.instructions.get(name).copied()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.instructions.keys().map(String::as_str)
    }

    /// Prints a hint if the stored counts come from other versions of the programs: another compiler generates other
    /// instructions.
    pub fn warn_if_tools_differ(&self) {
        let now = tools();
        if self.made_with != now {
            println!("They may differ for another reason. Stored with: {}; now: {now}.", self.made_with);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Same,
    More,
    Fewer,
    NotStored,
    NoScene,
}

impl Verdict {
    pub fn of(stored: Option<f64>, now: Option<f64>) -> Self {
        match (stored, now) {
            (None, _) => Verdict::NotStored,
            (_, None) => Verdict::NoScene,
            (Some(stored), Some(now)) if now > stored * (1.0 + TOLERATED) => Verdict::More,
            (Some(stored), Some(now)) if now < stored * (1.0 - TOLERATED) => Verdict::Fewer,
            _ => Verdict::Same,
        }
    }

    pub fn is_failure(self) -> bool {
        !matches!(self, Verdict::Same | Verdict::Fewer)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Same => "",
            Verdict::More => "  FAILED: more than 5 % more",
            Verdict::Fewer => "  fewer: update the baseline",
            Verdict::NotStored => "  FAILED: not in the baseline",
            Verdict::NoScene => "  FAILED: nothing of that name is measured",
        })
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(FILE)
}

fn tools() -> String {
    let versions = [("rustc", "--version"), ("valgrind", "--version"), ("getconf", "GNU_LIBC_VERSION")];
    let version = |(program, arg): (&str, &str)| {
        let output = Command::new(program).arg(arg).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    versions.into_iter().filter_map(version).collect::<Vec<_>>().join(", ")
}
