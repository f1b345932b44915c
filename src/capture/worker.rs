//! The interfaces, and the thread that empties the kernel's buffers. It never blocks in libpcap: it waits for
//! descriptors to become readable, and for the end.

use super::{
    filter::Filter,
    flow::{Nanos, SETTLE_TIMEOUT},
    packet::PacketCapture,
    parse::{self, link_type},
    pcap_handle::{CaptureConfig, PcapHandle},
    problem::{InterfaceProblem, ProblemKind},
};
use crate::sync::IgnorePoison;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use std::{
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::oneshot;

/// Packets that are read at once: the lock of a handle is held for so long.
const READ_BATCH: usize = 256;
/// Nobody drains longer than this at once, however much comes.
const MAX_DRAIN_PACKETS: usize = 64 * READ_BATCH;
/// After a look at few packets, so that each does not wake the thread anew.
const COALESCE_INTERVAL: Duration = Duration::from_millis(5);
/// How often undecided packets are done at that nobody may claim.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);
/// How often an interface that went down is done at: the system says so once, and not whether it is gone for good.
const DOWN_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// What the probe and its thread share.
pub(super) struct CaptureSession {
    filter: Mutex<Filter>,
    interfaces: Vec<Interface>,
    problems: Mutex<Vec<InterfaceProblem>>,
    config: CaptureConfig,
    refreshes: Mutex<Vec<Refresh>>,
    running: AtomicBool,
}

/// A call of [`TraceSink::refresh`](crate::TraceSink::refresh). It waits for the last packets of connections that were
/// closed before it.
struct Refresh {
    begin: Nanos,
    /// Holds also when the clock of packets is set.
    limit: Instant,
    done: oneshot::Sender<()>,
}

struct Interface {
    name: String,
    number: usize,
    link_type: i32,
    state: Mutex<InterfaceState>,
}

struct InterfaceState {
    /// None when it was stopped, or went down.
    handle: Option<PcapHandle>,
    /// Packets that the kernel had no room for: in all, and by the time of the last `clear`.
    dropped: u64,
    dropped_before_clear: u64,
}

/// An interface that may have more to read.
struct WatchedInterface<'a> {
    interface: &'a Interface,
    descriptor: OwnedFd,
    is_down: bool,
}

/// The thread. Its drop ends it and waits for that.
pub(super) struct Worker {
    /// Every byte wakes the thread. It ends when this is dropped.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl CaptureSession {
    /// Opens the interfaces; those that cannot be opened become problems.
    pub(super) fn open(names: &[String], config: CaptureConfig, mut filter: Filter) -> Self {
        let (mut interfaces, mut problems) = (Vec::new(), Vec::new());
        for name in names {
            match PcapHandle::open(name, &config) {
                Ok(handle) => interfaces.push(Interface {
                    name: name.clone(),
                    number: filter.add_interface(),
                    link_type: handle.link_type(),
                    state: Mutex::new(InterfaceState {
                        handle: Some(handle),
                        dropped: 0,
                        dropped_before_clear: 0,
                    }),
                }),
                Err(problem) => {
                    tracing::warn!(target: "nettrace", "{problem}");
                    problems.push(problem);
                }
            }
        }
        CaptureSession {
            filter: Mutex::new(filter),
            interfaces,
            problems: Mutex::new(problems),
            config,
            refreshes: Mutex::default(),
            running: AtomicBool::new(false),
        }
    }

    /// Starts the thread, if there is anything to do for it.
    pub(super) fn start(self: &Arc<Self>) -> Option<Worker> {
        if self.interfaces.is_empty() {
            return None;
        }
        self.running.store(true, Relaxed);
        match self.spawn() {
            Ok(worker) => Some(worker),
            Err(error) => {
                self.shut_down(|| Some(ProblemKind::Other(error.to_string())));
                None
            }
        }
    }

    fn spawn(self: &Arc<Self>) -> io::Result<Worker> {
        let (mut stopped, stop) = io::pipe()?;
        let descriptors =
            self.interfaces.iter().map(Interface::descriptor).collect::<io::Result<Vec<_>>>()?;
        let session = self.clone();
        let work = move || session.work(&mut stopped, descriptors);
        let thread = std::thread::Builder::new().name("nettrace-capture".into()).spawn(work)?;
        Ok(Worker { stop: Some(stop), thread: Some(thread) })
    }

    /// Whether packets are still captured.
    pub(super) fn is_running(&self) -> bool {
        self.running.load(Relaxed)
    }

    pub(super) fn filter(&self) -> MutexGuard<'_, Filter> {
        self.filter.lock().ignore_poison()
    }

    pub(super) fn problems(&self) -> Vec<InterfaceProblem> {
        self.lock_problems().clone()
    }

    /// What there is now, with the packets that passed before the call.
    pub(super) fn captures(&self) -> Vec<PacketCapture> {
        let capture = |interface: &Interface| {
            interface.drain(self);
            let dropped_by_kernel = interface.dropped();
            let (packets, dropped_by_limit, dropped_pending) = self.filter().kept(interface.number);
            PacketCapture {
                interface_name: interface.name.clone(),
                snap_len: self.config.snap_len,
                link_type: file_link_type(interface.link_type),
                packets,
                truncated: dropped_by_limit > 0,
                with_tcp_payload: self.config.tcp_payload,
                dropped_by_kernel,
                dropped_by_limit,
                dropped_pending,
            }
        };
        self.interfaces.iter().map(capture).collect()
    }

    /// Forgets what passed before the call.
    pub(super) fn clear(&self) {
        for interface in &self.interfaces {
            interface.drain(self);
            interface.reset_drop_count();
        }
        self.filter().clear();
    }

    /// Resolves when the last packets of the connections closed so far are there, as far as they come soon. `None` if
    /// nothing is captured any more.
    fn refresh(&self, wake: &mut PipeWriter) -> Option<oneshot::Receiver<()>> {
        let (done, waiting) = oneshot::channel();
        let refresh =
            Refresh { begin: now(), limit: Instant::now() + Duration::from_nanos(SETTLE_TIMEOUT), done };
        let mut refreshes = self.lock_refreshes();
        if !self.is_running() {
            return None;
        }
        refreshes.push(refresh);
        // Else the thread comes by itself: its pipe cannot fill up.
        if refreshes.len() == 1 {
            wake.write_all(&[0]).ok()?;
        }
        Some(waiting)
    }

    /// Answers the refreshes that need not wait any longer. Returns `true` if others are left.
    fn answer_refreshes(&self) -> bool {
        if self.lock_refreshes().is_empty() {
            return false;
        }
        self.interfaces.iter().for_each(|interface| interface.drain(self));
        let (first_closed, now) = (self.filter().first_settling_close(now()), Instant::now());
        let mut refreshes = self.lock_refreshes();
        let is_answered = |refresh: &mut Refresh| {
            refresh.limit <= now || first_closed.is_none_or(|closed| closed > refresh.begin)
        };
        for refresh in refreshes.extract_if(.., is_answered) {
            // Nobody may wait for it any more.
            let _ = refresh.done.send(());
        }
        !refreshes.is_empty()
    }

    fn work(&self, stopped: &mut PipeReader, descriptors: Vec<OwnedFd>) {
        let _end = EndGuard(self);
        let watch = |(interface, descriptor)| WatchedInterface { interface, descriptor, is_down: false };
        let mut watched: Vec<_> = self.interfaces.iter().zip(descriptors).map(watch).collect();
        let mut wait = None;
        while !self.wait(stopped, &mut watched, wait) {
            let refresh = self.answer_refreshes().then_some(COALESCE_INTERVAL);
            let down = watched.iter().any(|watched| watched.is_down).then_some(DOWN_POLL_INTERVAL);
            let expire = self.filter().expire(now()).then_some(EXPIRE_INTERVAL);
            wait = refresh.or(down).or(expire);
        }
        self.interfaces.iter().for_each(|interface| interface.drain(self));
    }

    /// Waits for packets and reads them. True when it is over.
    fn wait(
        &self,
        stopped: &mut PipeReader,
        watched: &mut Vec<WatchedInterface<'_>>,
        limit: Option<Duration>,
    ) -> bool {
        let events: Vec<PollFlags> = {
            let descriptors = watched.iter().map(|watched| watched.descriptor.as_fd());
            let all = std::iter::once(stopped.as_fd()).chain(descriptors);
            let mut polled: Vec<_> = all.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
            if !poll_until(&mut polled, limit) {
                return true;
            }
            polled.iter().map(PollFd::revents).collect()
        };
        if is_stopped(stopped, events[0]) {
            return true;
        }
        let (mut events, mut most) = (events[1..].iter(), None);
        watched.retain_mut(|watched| {
            let events = events.next().copied().unwrap_or(PollFlags::empty());
            if events.is_empty() && !watched.is_down {
                return true;
            }
            let Some(count) = watched.interface.read(self, READ_BATCH) else { return false };
            watched.is_down = events.contains(PollFlags::ERR) || (watched.is_down && count == 0);
            most = most.max(Some(count));
            true
        });
        if most.is_none_or(|most| most == READ_BATCH) {
            return false;
        }
        let events = {
            let mut only_stopped = [PollFd::new(stopped, PollFlags::IN)];
            if !poll_until(&mut only_stopped, Some(COALESCE_INTERVAL)) {
                return true;
            }
            only_stopped[0].revents()
        };
        is_stopped(stopped, events)
    }

    /// Closes the interfaces.
    fn shut_down(&self, why: impl Fn() -> Option<ProblemKind>) {
        self.running.store(false, Relaxed);
        // Whoever waits hears that there is nothing to wait for.
        self.lock_refreshes().clear();
        for interface in &self.interfaces {
            if let Some(kind) = why() {
                self.problem(interface, kind);
            }
            interface.close(&mut interface.lock());
        }
    }

    fn problem(&self, interface: &Interface, kind: ProblemKind) {
        let problem = InterfaceProblem::new(&interface.name, kind);
        tracing::warn!(target: "nettrace", "{problem}");
        self.lock_problems().push(problem);
    }

    fn lock_refreshes(&self) -> MutexGuard<'_, Vec<Refresh>> {
        self.refreshes.lock().ignore_poison()
    }

    fn lock_problems(&self) -> MutexGuard<'_, Vec<InterfaceProblem>> {
        self.problems.lock().ignore_poison()
    }
}

/// Closes the interfaces when the thread ends, also by a panic: nobody may wait for it any longer.
struct EndGuard<'a>(&'a CaptureSession);

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        self.0.shut_down(|| None);
    }
}

impl Interface {
    fn descriptor(&self) -> io::Result<OwnedFd> {
        let closed = || io::Error::from(io::ErrorKind::NotConnected);
        self.lock().handle.as_ref().ok_or_else(closed)?.descriptor()
    }

    /// Reads what is there, within limits. How many packets; `None` when there will be no more.
    fn read(&self, session: &CaptureSession, limit: usize) -> Option<usize> {
        let mut state = self.lock();
        let result = state.handle.as_mut()?.read(limit, |packet| {
            let kind = parse::classify(self.link_type, packet.data);
            session.filter().packet(self.number, kind, packet);
        });
        match result {
            Ok(count) => Some(count),
            Err(kind) => {
                self.close(&mut state);
                session.problem(self, kind);
                None
            }
        }
    }

    fn drain(&self, session: &CaptureSession) {
        let mut left = MAX_DRAIN_PACKETS;
        while left > 0
            && let Some(count @ 1..) = self.read(session, READ_BATCH)
        {
            left = left.saturating_sub(count);
        }
    }

    fn dropped(&self) -> u64 {
        let mut state = self.lock();
        state.update_dropped();
        state.dropped - state.dropped_before_clear
    }

    fn reset_drop_count(&self) {
        let mut state = self.lock();
        state.update_dropped();
        state.dropped_before_clear = state.dropped;
    }

    fn close(&self, state: &mut InterfaceState) {
        state.update_dropped();
        state.handle = None;
    }

    fn lock(&self) -> MutexGuard<'_, InterfaceState> {
        self.state.lock().ignore_poison()
    }
}

impl InterfaceState {
    fn update_dropped(&mut self) {
        if let Some(handle) = &mut self.handle {
            self.dropped = handle.dropped().max(self.dropped);
        }
    }
}

impl Worker {
    /// Resolves when the last packets of the connections closed so far are there, as far as they come soon. `None` if
    /// nothing is captured any more.
    pub(super) fn refresh(&mut self, session: &CaptureSession) -> Option<oneshot::Receiver<()>> {
        session.refresh(self.stop.as_mut()?)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing to say; a panic was printed.
            let _ = thread.join();
        }
    }
}

/// Returns `true` if the other end was dropped; takes out what woke the thread.
fn is_stopped(stopped: &mut PipeReader, events: PollFlags) -> bool {
    !events.is_empty() && !matches!(stopped.read(&mut [0; 64]), Ok(1..))
}

/// False when the system refuses to wait.
fn poll_until(polled: &mut [PollFd<'_>], limit: Option<Duration>) -> bool {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    match poll(polled, limit.as_ref()) {
        Ok(_) => true,
        Err(Errno::INTR) => {
            polled.iter_mut().for_each(PollFd::clear_revents);
            true
        }
        Err(error) => {
            tracing::warn!(target: "nettrace", "packets are captured no more: poll: {error}");
            false
        }
    }
}

/// What files say where the system has another number.
fn file_link_type(link_type: i32) -> u16 {
    let number = if link_type::RAW.contains(&link_type) { link_type::RAW_IN_FILES } else { link_type };
    u16::try_from(number).unwrap_or_default()
}

/// By the clock of packets.
pub(super) fn now() -> Nanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::filter::FilterConfig;

    #[test]
    fn a_refresh_ends_with_a_thread_that_panics() {
        let config = FilterConfig {
            icmp: false,
            arp: false,
            tcp_payload: false,
            size_limit: 0,
            pending_timeout: Nanos::default(),
        };
        let session = CaptureSession {
            filter: Mutex::new(Filter::new(config)),
            interfaces: Vec::new(),
            problems: Mutex::default(),
            config: CaptureConfig {
                snap_len: 0,
                buffer_size: 0,
                arp: false,
                tcp_payload: false,
                filter: None,
            },
            refreshes: Mutex::default(),
            running: AtomicBool::new(true),
        };
        let (_reader, mut wake) = io::pipe().unwrap();
        let waiting = session.refresh(&mut wake).expect("it is running");
        let thread = std::thread::scope(|scope| {
            let work = || {
                let _end = EndGuard(&session);
                panic!("as a packet might cause");
            };
            scope.spawn(work).join()
        });
        assert!(thread.is_err());
        waiting.blocking_recv().expect_err("nobody answers any more");
        assert!(session.refresh(&mut wake).is_none());
    }
}
