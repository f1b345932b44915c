//! Measures what this process uses: CPU time, allocations, heap memory, descriptors.

use rustix::time::{ClockId, clock_gettime};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    ffi::OsString,
    fs, io, mem,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The system's allocator, which counts allocations while counting is on, because counting costs time itself.
pub struct Counting;

static ON: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

fn count(bytes: usize) {
    if ON.load(Relaxed) {
        CALLS.fetch_add(1, Relaxed);
        BYTES.fetch_add(bytes as u64, Relaxed);
    }
}

// SAFETY: the system's allocator does all the work; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the arguments are passed on unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the arguments are passed on unchanged.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the arguments are passed on unchanged.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        // SAFETY: the arguments are passed on unchanged.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

/// Counts the allocations of all threads from here to [`stop`](Self::stop).
pub struct Allocations(());

impl Allocations {
    pub fn start() -> Self {
        CALLS.store(0, Relaxed);
        BYTES.store(0, Relaxed);
        ON.store(true, Relaxed);
        Allocations(())
    }

    /// Returns the number of allocations and their bytes.
    pub fn stop(self) -> (u64, u64) {
        ON.store(false, Relaxed);
        (CALLS.load(Relaxed), BYTES.load(Relaxed))
    }
}

/// Returns the user and system CPU time of this process so far.
pub fn cpu() -> Duration {
    // SAFETY: a plain struct for which zeros are a value, filled in by the call.
    let usage = unsafe {
        let mut usage: libc::rusage = mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &mut usage), 0, "{}", io::Error::last_os_error());
        usage
    };
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1_000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Returns the CPU time of the calling thread.
pub fn this_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A thread of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread(OsString);

impl Thread {
    /// Returns all threads that there are.
    pub fn all() -> io::Result<Vec<Thread>> {
        fs::read_dir("/proc/self/task")?.map(|entry| Ok(Thread(entry?.file_name()))).collect()
    }

    /// Returns the CPU time of the thread, or zero if it has ended.
    pub fn cpu(&self) -> io::Result<Duration> {
        let file = Path::new("/proc/self/task").join(&self.0).join("schedstat");
        let text = match fs::read_to_string(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Duration::ZERO),
            text => text?,
        };
        let nanoseconds = text.split(' ').next().and_then(|first| first.parse().ok());
        nanoseconds
            .map(Duration::from_nanos)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{} is empty", file.display())))
    }
}

/// Returns the bytes of the heap that are in use, including the allocator's overhead.
pub fn heap() -> u64 {
    // SAFETY: has no preconditions.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as u64
}

/// Returns the number of open descriptors, without the one that this function opens.
pub fn descriptors() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count() - 1)
}
