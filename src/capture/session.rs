//! A capture: its interfaces, what was kept of their packets, and who waits for more.

use super::{
    filter::Filter,
    flow::{Nanos, SETTLE_TIMEOUT},
    interface::{Interface, READ_BATCH},
    packet_capture::PacketCapture,
    parse::link_type,
    pcap_handle::{CaptureConfig, PcapHandle},
    problem::{InterfaceProblem, ProblemKind},
};
use crate::sync::IgnorePoison;
use std::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::oneshot;

/// The most packets of an interface that a caller reads before it returns, however many come.
const MAX_DRAIN_PACKETS: usize = 64 * READ_BATCH;

/// The state that the probe and its thread share.
pub(super) struct CaptureSession {
    filter: Mutex<Filter>,
    interfaces: Vec<Interface>,
    problems: Mutex<Vec<InterfaceProblem>>,
    config: CaptureConfig,
    refreshes: Mutex<Vec<Refresh>>,
    running: AtomicBool,
}

/// A call of [`TraceSink::refresh`](crate::TraceSink::refresh), which waits for the last packets of connections that
/// were closed before it.
struct Refresh {
    begin: Nanos,
    /// When it ends in any case. By another clock, as that of packets may be set.
    deadline: Instant,
    done: oneshot::Sender<()>,
}

impl CaptureSession {
    /// Opens the interfaces. Those that cannot be opened become problems.
    pub(super) fn open(names: &[String], config: CaptureConfig, mut filter: Filter) -> Self {
        let (mut interfaces, mut problems) = (Vec::new(), Vec::new());
        for name in names {
            match PcapHandle::open(name, &config) {
                Ok(handle) => interfaces.push(Interface::new(name.clone(), filter.add_interface(), handle)),
                Err(problem) => {
                    tracing::warn!(target: "nettrace", "{problem}");
                    problems.push(problem);
                }
            }
        }
        CaptureSession { problems: Mutex::new(problems), ..CaptureSession::new(interfaces, config, filter) }
    }

    fn new(interfaces: Vec<Interface>, config: CaptureConfig, filter: Filter) -> Self {
        CaptureSession {
            filter: Mutex::new(filter),
            interfaces,
            problems: Mutex::default(),
            config,
            refreshes: Mutex::default(),
            running: AtomicBool::new(false),
        }
    }

    pub(super) fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// Notes that a thread captures from now on.
    pub(super) fn set_running(&self) {
        self.running.store(true, Relaxed);
    }

    /// Returns `true` if packets are still captured.
    pub(super) fn is_running(&self) -> bool {
        self.running.load(Relaxed)
    }

    pub(super) fn filter(&self) -> MutexGuard<'_, Filter> {
        self.filter.lock().ignore_poison()
    }

    pub(super) fn problems(&self) -> Vec<InterfaceProblem> {
        self.lock_problems().clone()
    }

    /// Returns what was captured so far, with all packets that passed before the call.
    pub(super) fn captures(&self) -> Vec<PacketCapture> {
        let capture = |interface: &Interface| {
            self.drain(interface);
            let dropped_by_kernel = interface.dropped();
            let kept = self.filter().kept(interface.index);
            PacketCapture {
                interface_name: interface.name.clone(),
                snap_len: self.config.snap_len,
                link_type: file_link_type(interface.link_type),
                truncated: kept.dropped_by_limit > 0,
                packets: kept.packets,
                with_tcp_payload: self.config.tcp_payload,
                dropped_by_kernel,
                dropped_by_limit: kept.dropped_by_limit,
                dropped_pending: kept.dropped_pending,
            }
        };
        self.interfaces.iter().map(capture).collect()
    }

    /// Sets whether what passes after the call is kept.
    pub(super) fn set_enabled(&self, on: bool) {
        self.drain_all();
        self.filter().set_paused(!on);
    }

    /// Returns `true` if what passes now is kept.
    pub(super) fn is_enabled(&self) -> bool {
        self.is_running() && !self.filter().is_paused()
    }

    /// Drops what passed before the call.
    pub(super) fn clear(&self) {
        for interface in &self.interfaces {
            self.drain(interface);
            interface.reset_dropped();
        }
        self.filter().clear();
    }

    /// Reads up to [`READ_BATCH`] packets of an interface. Returns how many there were; `None` if there will be no more.
    pub(super) fn read(&self, interface: &Interface) -> Option<usize> {
        interface.read(&self.filter)?.map_err(|kind| self.report(interface, kind)).ok()
    }

    /// Reads all packets that have come.
    pub(super) fn drain_all(&self) {
        self.interfaces.iter().for_each(|interface| self.drain(interface));
    }

    fn drain(&self, interface: &Interface) {
        let mut left = MAX_DRAIN_PACKETS;
        while left > 0
            && let Some(count @ 1..) = self.read(interface)
        {
            left = left.saturating_sub(count);
        }
    }

    /// Adds a refresh. Its channel is answered once the last packets of the connections closed so far are there, or
    /// have not come in time. Calls `wake` if the thread does not come back by itself; `None` if it has ended.
    pub(super) fn refresh(&self, wake: impl FnOnce() -> Option<()>) -> Option<oneshot::Receiver<()>> {
        let (done, waiting) = oneshot::channel();
        let deadline = Instant::now() + Duration::from_nanos(SETTLE_TIMEOUT);
        let mut refreshes = self.lock_refreshes();
        if !self.is_running() {
            return None;
        }
        refreshes.push(Refresh { begin: now(), deadline, done });
        if refreshes.len() == 1 {
            wake()?;
        }
        Some(waiting)
    }

    /// Answers the refreshes that need not wait any longer. Returns `true` if others are left.
    pub(super) fn answer_refreshes(&self) -> bool {
        if self.lock_refreshes().is_empty() {
            return false;
        }
        self.drain_all();
        let (first_closed, now) = (self.filter().first_settling_close(now()), Instant::now());
        let mut refreshes = self.lock_refreshes();
        let is_answered = |refresh: &mut Refresh| {
            refresh.deadline <= now || first_closed.is_none_or(|closed| closed > refresh.begin)
        };
        for refresh in refreshes.extract_if(.., is_answered) {
            // The receiver may be gone.
            let _ = refresh.done.send(());
        }
        !refreshes.is_empty()
    }

    /// Closes the interfaces, whose problem is `why`. Refreshes that wait hear that nothing is captured any more.
    pub(super) fn shut_down(&self, why: Option<&ProblemKind>) {
        self.running.store(false, Relaxed);
        self.lock_refreshes().clear();
        for interface in &self.interfaces {
            if let Some(kind) = why {
                self.report(interface, kind.clone());
            }
            interface.close();
        }
    }

    /// Notes that an interface is not captured any more.
    fn report(&self, interface: &Interface, kind: ProblemKind) {
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

/// Returns the link type that files have for that of an interface.
fn file_link_type(link_type: i32) -> u16 {
    let number = if link_type::RAW.contains(&link_type) { link_type::RAW_IN_FILES } else { link_type };
    u16::try_from(number).unwrap_or_default()
}

/// Returns the time by the clock of packets.
pub(super) fn now() -> Nanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::capture::filter::FilterConfig;

    /// Returns a session without interfaces.
    pub(in crate::capture) fn session() -> CaptureSession {
        let filter = FilterConfig {
            icmp: false,
            arp: false,
            tcp_payload: false,
            size_limit: 0,
            pending_timeout: Nanos::default(),
        };
        let config =
            CaptureConfig { snap_len: 0, buffer_size: 0, arp: false, tcp_payload: false, filter: None };
        CaptureSession::new(Vec::new(), config, Filter::new(filter))
    }

    #[test]
    fn only_the_first_refresh_wakes_the_thread() {
        let session = session();
        assert!(session.refresh(|| panic!("no thread to wake")).is_none());
        session.set_running();
        let mut woken = 0;
        for _ in 0..3 {
            let wake = || {
                woken += 1;
                Some(())
            };
            session.refresh(wake).expect("it is running");
        }
        assert_eq!(woken, 1);
        assert!(!session.answer_refreshes(), "no connection was closed");
    }
}
