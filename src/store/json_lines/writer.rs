//! [`JsonLines`]: receives slices and appends them to files.

use super::{
    batch::Batch,
    directory::{self, Limits},
    log_file::LogFile,
    rotation::Rotation,
};
use crate::sink::{Slice, SliceReceiver};
use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// A receiver of slices that appends each as one line of JSON to files in a directory.
///
/// ```no_run
/// use nettrace::{SliceFilter, TraceSink, store::JsonLines};
/// use std::time::Duration;
///
/// let lines = JsonLines::builder("/var/lib/shop/traces")
///     .max_file_bytes(16 << 20)
///     .max_file_age(Duration::from_secs(600))
///     .max_total_bytes(256 << 20)
///     .build()?;
/// let sink = TraceSink::builder().on_slice(SliceFilter::none().failed(true), lines).build();
/// # Ok::<(), nettrace::store::Error>(())
/// ```
///
/// # Files
///
/// A line is the [`NetTrace`](crate::NetTrace) of one request, with precise times: what is read back equals what was
/// recorded. It has what the record has, and so no secret that the sink keeps out. A file has a name such as
/// `nettrace-20261201T050000Z-4711-k3f9q2-0007.jsonl`, with the time at which it was begun, the process, and a number.
/// Names sort by time. Only its owner can read it.
///
/// Each store writes files of its own, so that several processes, and several stores of one process, may have the same
/// directory. A file that is written to is locked (flock(2)), and no store removes it.
///
/// # Failures
///
/// Lines are written in batches, soon after the requests have ended and at the latest when the sink is flushed or has
/// been dropped. A process that is killed loses the batch that was not written, and leaves a file whose last line may
/// be cut off, which readers skip. Nothing is synchronised to the disk: when the machine loses power, more may be lost.
///
/// If the disk is full or fails, that is reported once through `tracing` (target `nettrace`), and again when writing
/// succeeds. Up to 256 KiB of lines are kept until then. Further slices are lost and [counted](Self::counts). A file
/// never goes on after a line that was cut off.
#[derive(Debug)]
pub struct JsonLines {
    directory: PathBuf,
    rotation: Rotation,
    limits: Limits,
    /// The file that is written to; `None` if the next one could not be created yet.
    file: Option<LogFile>,
    batch: Batch,
    /// When to try again after a file could not be created or continued.
    retry_at: Option<Instant>,
    /// Whether writing has failed since it succeeded, and how many slices were lost before.
    failing: Option<u64>,
    /// Whether it was reported that this is too slow.
    is_slow: bool,
    counts: SliceCounts,
}

/// How many bytes of lines are collected before they are written.
const BATCH_BYTES: usize = 256 << 10;

/// How long no other file is created after one could not be. A disk that fails for each of them must not get hundreds.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

impl JsonLines {
    pub(super) fn new(directory: PathBuf, rotation: Rotation, limits: Limits, file: LogFile) -> Self {
        let store = JsonLines {
            directory,
            rotation,
            limits,
            file: Some(file),
            batch: Batch::default(),
            retry_at: None,
            failing: None,
            is_slow: false,
            counts: SliceCounts::default(),
        };
        store.remove_oldest();
        store
    }

    /// Returns how many slices were written and lost. It goes on to count after the store was handed to a sink.
    pub fn counts(&self) -> SliceCounts {
        self.counts.clone()
    }

    /// Writes all lines that wait. Those that cannot be written go on to wait.
    fn write_batch(&mut self) {
        if self.batch.is_empty() || self.retry_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.retry_at = None;
        let (result, directory) = (self.try_write_batch(), self.directory.display());
        match (result, self.failing) {
            (Ok(()), None) | (Err(_), Some(_)) => {}
            (Ok(()), Some(lost_before)) => {
                self.failing = None;
                let lost = self.counts.lost() - lost_before;
                tracing::warn!(target: "nettrace", "slices are written to {directory} again; {lost} were lost");
            }
            (Err(error), None) => {
                self.failing = Some(self.counts.lost());
                tracing::warn!(target: "nettrace", "cannot write slices to {directory}: {error}");
            }
        }
    }

    fn try_write_batch(&mut self) -> io::Result<()> {
        while !self.batch.is_empty() {
            let (file, room) = match self.file.take().and_then(|file| self.with_room(file)) {
                Some(continued) => continued,
                None => self.begin_file()?,
            };
            let lines = self.batch.lines_within(room, file.len() == 0);
            if lines.is_empty() {
                continue; // the next line does not fit into this file
            }
            let file = self.file.insert(file);
            let appended = file.append(lines);
            self.counts.0.written.fetch_add(self.batch.remove(appended.bytes), Relaxed);
            if let Err(error) = appended.result {
                if error.is_torn {
                    self.file = None;
                    self.retry_at = Some(Instant::now() + RETRY_INTERVAL);
                }
                return Err(error.source);
            }
        }
        Ok(())
    }

    /// Returns the file with the number of bytes that it may get; `None` if another one is to be begun.
    fn with_room(&self, file: LogFile) -> Option<(LogFile, u64)> {
        let room = self.rotation.room(file.len(), file.age())?;
        file.is_intact().then_some((file, room))
    }

    fn begin_file(&mut self) -> io::Result<(LogFile, u64)> {
        let file = LogFile::create(&self.directory)
            .inspect_err(|_| self.retry_at = Some(Instant::now() + RETRY_INTERVAL))?;
        self.remove_oldest();
        Ok((file, self.rotation.max_bytes))
    }

    /// Removes the oldest files, so that there is room for a whole one.
    fn remove_oldest(&self) {
        let limits = Limits { bytes: self.limits.bytes - self.rotation.max_bytes, ..self.limits };
        if let Err(error) = directory::remove_oldest(&self.directory, limits) {
            let directory = self.directory.display();
            tracing::warn!(target: "nettrace", "cannot look for old files in {directory}: {error}");
        }
    }

    /// Gives up the lines that wait.
    fn lose_batch(&mut self) {
        let lost = self.batch.clear();
        self.counts.0.lost.fetch_add(lost, Relaxed);
    }
}

impl SliceReceiver for JsonLines {
    fn receive(&mut self, slice: Slice) {
        if let Err(error) = self.batch.push(&slice.trace().precise()) {
            self.counts.0.lost.fetch_add(1, Relaxed);
            tracing::warn!(target: "nettrace", "a slice has no JSON: {error}");
        }
        if self.batch.len() >= BATCH_BYTES {
            self.write_batch();
        }
        if self.batch.len() >= BATCH_BYTES {
            self.lose_batch();
        }
    }

    fn flush(&mut self) {
        self.write_batch();
    }

    fn lost(&mut self, slices: u64) {
        self.counts.0.lost.fetch_add(slices, Relaxed);
        if !std::mem::replace(&mut self.is_slow, true) {
            let directory = self.directory.display();
            tracing::warn!(
                target: "nettrace",
                "slices end faster than they are written to {directory}, and some are lost: choose fewer of them"
            );
        }
    }
}

impl Drop for JsonLines {
    fn drop(&mut self) {
        self.retry_at = None;
        self.write_batch();
        if !self.batch.is_empty() {
            let (before, directory) = (self.counts.lost(), self.directory.display().to_string());
            self.lose_batch();
            let lost = self.counts.lost() - before;
            tracing::warn!(target: "nettrace", "{lost} slices could not be written to {directory} and are lost");
        }
    }
}

/// How many slices a [`JsonLines`] has written and lost. A clone goes on to count.
#[derive(Clone, Debug, Default)]
pub struct SliceCounts(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    written: AtomicU64,
    lost: AtomicU64,
}

impl SliceCounts {
    /// Returns how many slices are in the files, or were until the oldest files were removed.
    pub fn written(&self) -> u64 {
        self.0.written.load(Relaxed)
    }

    /// Returns how many slices are in no file, because writing failed or was too slow.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Relaxed)
    }
}
