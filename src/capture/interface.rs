//! One interface of a capture.

use super::{filter::Filter, parse, pcap_handle::PcapHandle, problem::ProblemKind};
use crate::sync::IgnorePoison;
use std::{
    io,
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard},
};

/// The most packets that are read at once, under the lock of the interface.
pub(super) const READ_BATCH: usize = 256;

/// An interface that was opened.
pub(super) struct Interface {
    pub(super) name: String,
    /// The interface's index in the filter.
    pub(super) index: usize,
    pub(super) link_type: i32,
    state: Mutex<InterfaceState>,
}

struct InterfaceState {
    /// `None` after the capture was stopped or the interface went down.
    handle: Option<PcapHandle>,
    /// Packets that the kernel had no room for, since the interface was opened.
    dropped: u64,
    /// The same at the time of the last `clear`.
    dropped_before_clear: u64,
}

impl Interface {
    pub(super) fn new(name: String, index: usize, handle: PcapHandle) -> Self {
        let link_type = handle.link_type();
        let state = InterfaceState { handle: Some(handle), dropped: 0, dropped_before_clear: 0 };
        Interface { name, index, link_type, state: Mutex::new(state) }
    }

    /// Returns a descriptor that becomes readable with packets.
    ///
    /// # Errors
    ///
    /// Fails if the interface is closed.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        let closed = || io::Error::from(io::ErrorKind::NotConnected);
        self.lock().handle.as_ref().ok_or_else(closed)?.descriptor()
    }

    /// Gives up to [`READ_BATCH`] packets to the filter. Returns how many there were; `None` if the interface is closed.
    ///
    /// # Errors
    ///
    /// Closes the interface and fails if it cannot be read any more.
    pub(super) fn read(&self, filter: &Mutex<Filter>) -> Option<Result<usize, ProblemKind>> {
        let mut state = self.lock();
        let result = state.handle.as_mut()?.read(READ_BATCH, |packet| {
            let kind = parse::classify(self.link_type, packet.data);
            filter.lock().ignore_poison().on_packet(self.index, kind, packet);
        });
        if result.is_err() {
            state.close();
        }
        Some(result)
    }

    /// Returns how many packets the kernel had no room for since the last `clear`.
    pub(super) fn dropped(&self) -> u64 {
        let mut state = self.lock();
        state.update_dropped();
        state.dropped - state.dropped_before_clear
    }

    /// Counts dropped packets from zero again.
    pub(super) fn reset_dropped(&self) {
        let mut state = self.lock();
        state.update_dropped();
        state.dropped_before_clear = state.dropped;
    }

    pub(super) fn close(&self) {
        self.lock().close();
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

    fn close(&mut self) {
        self.update_dropped();
        self.handle = None;
    }
}
