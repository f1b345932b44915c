//! [`Dump`]: writes the trace of a sink to a directory, for instance when requests fail.

use super::{
    retention::RetainedRecords,
    slice::{Slice, SliceReceiver},
    slice_filter::SliceFilter,
    trace_sink::TraceSink,
};
use crate::record::Timestamp;
use std::{
    collections::VecDeque,
    fs::{self, DirEntry, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    process,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

/// Where, when and how often the trace of a sink is written to a directory.
///
/// [`TraceSinkBuilder::dump`](super::TraceSinkBuilder::dump) does so when requests fail, or for other reasons.
/// [`write`](Self::write) does so now, for instance on a signal.
///
/// A file has the name `nettrace-dump-2026-12-01T021530.123456789Z-4711-0.json` with the time, the process and a number.
/// It is complete: it gets its name only after everything was written. Times are precise. Only its owner can read it.
/// The directory is created if it does not exist, and may be that of several processes: the limits are those of all
/// dumps in it.
///
/// ```no_run
/// use nettrace::{Dump, TraceSink};
/// use std::time::Duration;
///
/// // Five failures within a minute, but not more often than every ten minutes.
/// let dump = Dump::to("/var/lib/shop/traces").after(5, Duration::from_secs(60)).interval(Duration::from_secs(600));
/// let sink = TraceSink::builder().dump(dump.clone()).build();
///
/// dump.write(&sink, "somebody asked for it")?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "it is given to a sink, or written"]
pub struct Dump {
    dir: PathBuf,
    filter: SliceFilter,
    count: usize,
    within: Duration,
    interval: Duration,
    max_files: usize,
    max_bytes: u64,
}

const NAME: &str = "nettrace-dump-";

impl Dump {
    /// Dumps to this directory: when a request fails, at most once a minute, and at most 10 files with 256 MiB.
    pub fn to(dir: impl Into<PathBuf>) -> Self {
        Dump {
            dir: dir.into(),
            filter: SliceFilter::none().failed(true),
            count: 1,
            within: Duration::from_secs(60),
            interval: Duration::from_secs(60),
            max_files: 10,
            max_bytes: 256 << 20,
        }
    }

    /// Sets which requests are a reason to dump: those that `filter` chooses. Those that failed by default.
    pub fn when(self, filter: SliceFilter) -> Self {
        Dump { filter, ..self }
    }

    /// Sets how many such requests are a reason to dump, if they end within a time. One by default.
    pub fn after(self, count: usize, within: Duration) -> Self {
        Dump { count: count.max(1), within, ..self }
    }

    /// Sets the time from a dump to the next one at least. One minute by default.
    pub fn interval(self, interval: Duration) -> Self {
        Dump { interval, ..self }
    }

    /// Sets how many dumps are left in the directory: the oldest are removed. 10 by default, at least one.
    pub fn max_files(self, files: usize) -> Self {
        Dump { max_files: files.max(1), ..self }
    }

    /// Sets how many bytes the dumps in the directory may have together: the oldest are removed, but never the newest.
    /// 256 MiB by default.
    pub fn max_bytes(self, bytes: u64) -> Self {
        Dump { max_bytes: bytes, ..self }
    }

    /// Writes the trace of a sink now, and returns the path of the file.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory cannot be created or written to. What was written of the file is removed.
    pub fn write(&self, sink: &TraceSink, description: &str) -> io::Result<PathBuf> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        fs::create_dir_all(&self.dir)?;
        let time = Timestamp::from(SystemTime::now()).to_string().replace(':', "");
        let name = format!("{NAME}{time}-{}-{}.json", process::id(), NUMBER.fetch_add(1, Relaxed));
        let (path, unfinished) = (self.dir.join(&name), self.dir.join(format!(".{name}.unfinished")));
        let written = create(&unfinished).and_then(|file| sink.write_precise_json(description, file));
        if let Err(error) = written.and_then(|()| fs::rename(&unfinished, &path)) {
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        self.remove_oldest();
        Ok(path)
    }

    /// Removes the oldest dumps until the limits hold. One that cannot be removed is left.
    fn remove_oldest(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        let is_dump = |entry: &DirEntry| {
            let name = entry.file_name();
            name.to_str().is_some_and(|name| name.starts_with(NAME) && name.ends_with(".json"))
        };
        let mut dumps: Vec<_> = entries.flatten().filter(is_dump).collect();
        dumps.sort_by_key(|entry| std::cmp::Reverse(entry.file_name()));
        let mut bytes = 0;
        for (place, dump) in dumps.into_iter().enumerate() {
            bytes += dump.metadata().map_or(0, |metadata| metadata.len());
            if place > 0 && (place >= self.max_files || bytes > self.max_bytes) {
                let _ = fs::remove_file(dump.path());
            }
        }
    }

    pub(super) fn filter(&self) -> SliceFilter {
        self.filter
    }
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// The sink whose trace is dumped, once there is one.
pub(super) type DumpedSink = Arc<OnceLock<Weak<RetainedRecords>>>;

/// Receives the slices of the requests that are a reason to dump.
pub(super) struct DumpReceiver {
    dump: Dump,
    sink: DumpedSink,
    /// When the last requests were received.
    recent: VecDeque<Instant>,
    last_dump: Option<Instant>,
    /// The reason for the next dump, if one is due.
    due: Option<String>,
}

impl DumpReceiver {
    pub(super) fn new(dump: Dump, sink: DumpedSink) -> Self {
        DumpReceiver { dump, sink, recent: VecDeque::new(), last_dump: None, due: None }
    }
}

impl SliceReceiver for DumpReceiver {
    fn receive(&mut self, slice: Slice) {
        let now = Instant::now();
        self.recent.push_back(now);
        self.recent.retain(|at| now.duration_since(*at) <= self.dump.within);
        let is_too_soon = self.last_dump.is_some_and(|last| now.duration_since(last) < self.dump.interval);
        if self.recent.len() >= self.dump.count && !is_too_soon {
            self.recent.clear();
            self.due = Some(reason(&slice));
        }
        // More of them say no more.
        if self.recent.len() > self.dump.count {
            self.recent.pop_front();
        }
    }

    /// Dumps after all slices were received that came together.
    fn flush(&mut self) {
        let Some(reason) = self.due.take() else { return };
        let Some(records) = self.sink.get().and_then(Weak::upgrade) else { return };
        self.last_dump = Some(Instant::now());
        if let Err(error) = self.dump.write(&TraceSink::of(records), &reason) {
            let dir = self.dump.dir.display();
            tracing::warn!(target: "nettrace", "cannot dump the trace to {dir}: {error}");
        }
    }
}

/// Returns the description of a dump: the request that was the last reason for it.
fn reason(slice: &Slice) -> String {
    let request = slice.request();
    let why = match &request.failure {
        Some(failure) => failure.to_string(),
        None if request.resp_status_code >= 500 => format!("status {}", request.resp_status_code),
        None => slice.timings().to_string(),
    };
    format!("{} {}: {why}", request.req_method, request.req_url)
}
