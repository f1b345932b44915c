//! Keeps server and client on separate processors. Otherwise they would sometimes share one, and evict each other's
//! data from its caches.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io;

/// One of the processors that this process may use.
#[derive(Clone, Copy, Debug)]
pub enum Processor {
    First,
    Last,
}

/// Restricts this process, and the threads that it starts from now on, to one processor. Does nothing if there is only
/// one.
pub fn keep_to(processor: Processor) -> io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let mut usable = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let (first, last) = (usable.next(), usable.next_back());
    let (Some(first), Some(last)) = (first, last) else { return Ok(()) };
    let mut one = CpuSet::new();
    one.set(match processor {
        Processor::First => first,
        Processor::Last => last,
    });
    Ok(sched_setaffinity(None, &one)?)
}
