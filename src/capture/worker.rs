//! The thread that empties the kernel's buffers.
//!
//! It never blocks in libpcap: it waits until descriptors become readable, one of which is the end of a pipe through
//! which it is woken and stopped.

use super::{
    interface::{Interface, READ_BATCH},
    problem::ProblemKind,
    session::{CaptureSession, now},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use std::{
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};
use tokio::sync::oneshot;

/// How long the thread lets packets gather after it has read a few, so that each does not wake it anew.
const COALESCE_INTERVAL: Duration = Duration::from_millis(5);
/// How often it drops pending packets that nobody can claim any more.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);
/// How often it reads an interface that went down. The system says that once, but not whether it is gone for good.
const DOWN_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The handle of the thread. Its drop stops the thread and waits for that.
pub(super) struct Worker {
    /// Every byte wakes the thread. It ends when this is dropped.
    pipe: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

/// An interface that may have more to read.
struct WatchedInterface<'a> {
    interface: &'a Interface,
    descriptor: OwnedFd,
    is_down: bool,
}

impl Worker {
    /// Starts the thread, if there are interfaces to capture on.
    pub(super) fn start(session: &Arc<CaptureSession>) -> Option<Self> {
        if session.interfaces().is_empty() {
            return None;
        }
        session.set_running();
        match Worker::spawn(session.clone()) {
            Ok(worker) => Some(worker),
            Err(error) => {
                session.shut_down(Some(&ProblemKind::Other(error.to_string())));
                None
            }
        }
    }

    fn spawn(session: Arc<CaptureSession>) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let descriptors =
            session.interfaces().iter().map(Interface::descriptor).collect::<io::Result<Vec<_>>>()?;
        let thread = std::thread::Builder::new().name("nettrace-capture".into());
        let thread = thread.spawn(move || run(&session, reader, descriptors))?;
        Ok(Worker { pipe: Some(writer), thread: Some(thread) })
    }

    /// Adds a refresh and wakes the thread for it; see [`CaptureSession::refresh`].
    pub(super) fn refresh(&mut self, session: &CaptureSession) -> Option<oneshot::Receiver<()>> {
        let pipe = self.pipe.as_mut()?;
        // The pipe cannot fill up: nothing is written as long as others wait.
        session.refresh(|| pipe.write_all(&[0]).ok())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.pipe = None;
        if let Some(thread) = self.thread.take() {
            // A panic was printed.
            let _ = thread.join();
        }
    }
}

fn run(session: &CaptureSession, mut pipe: PipeReader, descriptors: Vec<OwnedFd>) {
    let _guard = ShutDownGuard(session);
    let watch = |(interface, descriptor)| WatchedInterface { interface, descriptor, is_down: false };
    let mut watched: Vec<_> = session.interfaces().iter().zip(descriptors).map(watch).collect();
    let mut timeout = None;
    while wait_and_read(session, &mut pipe, &mut watched, timeout).is_ok() {
        let refresh = session.answer_refreshes().then_some(COALESCE_INTERVAL);
        let down = watched.iter().any(|watched| watched.is_down).then_some(DOWN_POLL_INTERVAL);
        let expire = session.filter().expire(now()).then_some(EXPIRE_INTERVAL);
        timeout = refresh.or(down).or(expire);
    }
    session.drain_all();
}

/// The thread is to end.
struct Stopped;

/// Waits for packets and reads them.
fn wait_and_read(
    session: &CaptureSession,
    pipe: &mut PipeReader,
    watched: &mut Vec<WatchedInterface<'_>>,
    timeout: Option<Duration>,
) -> Result<(), Stopped> {
    let events: Vec<PollFlags> = {
        let descriptors = watched.iter().map(|watched| watched.descriptor.as_fd());
        let all = std::iter::once(pipe.as_fd()).chain(descriptors);
        let mut polled: Vec<_> = all.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        poll_until(&mut polled, timeout)?;
        polled.iter().map(PollFd::revents).collect()
    };
    check_pipe(pipe, events[0])?;
    let (mut events, mut most_read) = (events[1..].iter(), None);
    watched.retain_mut(|watched| {
        let events = events.next().copied().unwrap_or(PollFlags::empty());
        if events.is_empty() && !watched.is_down {
            return true;
        }
        let Some(count) = session.read(watched.interface) else { return false };
        watched.is_down = events.contains(PollFlags::ERR) || (watched.is_down && count == 0);
        most_read = most_read.max(Some(count));
        true
    });
    if most_read.is_some_and(|count| count < READ_BATCH) {
        let mut polled = [PollFd::new(pipe, PollFlags::IN)];
        poll_until(&mut polled, Some(COALESCE_INTERVAL))?;
        let events = polled[0].revents();
        check_pipe(pipe, events)?;
    }
    Ok(())
}

/// Takes out the bytes that woke the thread. Fails if the other end was dropped.
fn check_pipe(pipe: &mut PipeReader, events: PollFlags) -> Result<(), Stopped> {
    match events.is_empty() || matches!(pipe.read(&mut [0; 64]), Ok(1..)) {
        true => Ok(()),
        false => Err(Stopped),
    }
}

fn poll_until(polled: &mut [PollFd<'_>], timeout: Option<Duration>) -> Result<(), Stopped> {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match poll(polled, timeout.as_ref()) {
        Ok(_) => Ok(()),
        Err(Errno::INTR) => {
            polled.iter_mut().for_each(PollFd::clear_revents);
            Ok(())
        }
        Err(error) => {
            tracing::warn!(target: "nettrace", "packets are captured no more: poll: {error}");
            Err(Stopped)
        }
    }
}

/// Closes the interfaces when the thread ends, even by a panic: nobody may wait for it any longer.
struct ShutDownGuard<'a>(&'a CaptureSession);

impl Drop for ShutDownGuard<'_> {
    fn drop(&mut self) {
        self.0.shut_down(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::session::tests::session;

    #[test]
    fn a_panic_of_the_thread_ends_a_refresh() {
        let session = session();
        session.set_running();
        let waiting = session.refresh(|| Some(())).expect("it is running");
        let thread = std::thread::scope(|scope| {
            let work = || {
                let _guard = ShutDownGuard(&session);
                panic!("on purpose");
            };
            scope.spawn(work).join()
        });
        assert!(thread.is_err());
        waiting.blocking_recv().expect_err("the thread has ended");
        assert!(session.refresh(|| Some(())).is_none());
    }
}
