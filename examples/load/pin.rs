//! Server and client keep to a processor of their own: else they take turns on one now and then, and each pays for
//! what the other did to its caches.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io;

/// Which of the processors that there are.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    First,
    Last,
}

/// This process keeps to that one from now on, with the threads that it will start. Nothing is done where there is
/// only one.
pub fn keep_to(place: Place) -> io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let mut there = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let (first, last) = (there.next(), there.next_back());
    let (Some(first), Some(last)) = (first, last) else { return Ok(()) };
    let mut one = CpuSet::new();
    one.set(match place {
        Place::First => first,
        Place::Last => last,
    });
    Ok(sched_setaffinity(None, &one)?)
}
