//! Queries the kernel's connection tracking about each connection.
//!
//! Connections come through a [queue] to a thread of the probe's own. It asks the kernel at the times that the
//! [schedule] says, sixteen connections with one system call, so that the traffic pays for a push onto the queue only.

mod attributes;
#[cfg(feature = "_bench")]
pub(crate) mod bench;
mod entry;
mod problem;
mod queue;
mod request;
#[cfg(any(test, feature = "_bench"))]
mod sample;
mod schedule;
mod state;
mod table;
mod tuple;
mod worker;

pub use problem::ConntrackProblem;

use self::{queue::Event, state::ProbeState, table::Table, worker::Worker};
use crate::{
    sink::{ConnRef, Probe, ProbeEvent, ProbeSocket},
    sync::IgnorePoison,
};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    thread::{self, JoinHandle},
};

/// A probe that keeps the kernel's conntrack entry of each connection.
///
/// An entry ([`ConntrackEntry`](crate::record::ConntrackEntry)) has a connection's addresses before and after NAT, the
/// state of TCP, mark, zone, packets and bytes.
///
/// ```
/// use nettrace::{TraceSink, linux::ConntrackProbe};
///
/// let conntrack = ConntrackProbe::new();
/// let sink = TraceSink::builder().probe(conntrack.clone()).build();
/// // … make requests …
/// for problem in conntrack.problems() {
///     eprintln!("{problem}");
/// }
/// ```
///
/// # Which connections
///
/// TCP and UDP connections that this crate opens or accepts, those to nameservers included. A failed attempt has an
/// entry unless the peer refused it with a reset, after which the kernel drops the entry at once. Of a foreign
/// connector under `TraceConnectLayer`, only connections that it has made and whose addresses it reports (`HttpInfo`).
///
/// # When the kernel is queried
///
/// When a connection is established, when it is closed, and 100 ms and 1 s after the close unless TCP has ended.
/// Queries wait for others, to be sent together: 10 ms, and 50 ms after 16 or more of them. A subscriber gets what was
/// known when the connection ended: nothing, if it ended before its first query.
///
/// [`TraceSink::refresh`](crate::TraceSink::refresh) queries all open connections, and those that were closed just
/// before until TCP has ended: await it before a snapshot that should show what the kernel knows now. The entry of a
/// closed connection then has its final state (`time-wait` or `close`) and counts every packet. As a peer may keep its
/// side open, a refresh waits no longer than 200 ms after a close.
///
/// A thread of the probe does this, so that no request waits or fails because of it. It ends when the last clone of the
/// probe and everything traced with it is gone, or with [`TraceSink::close`](crate::TraceSink::close), which has it
/// query a last time without waiting for packets.
///
/// # Requirements
///
/// The capability `CAP_NET_ADMIN`, and a rule that makes the kernel track connections. Entries are those of the network
/// namespace in which the probe is made. What is missing is logged once, and listed in [`problems`](Self::problems).
#[derive(Clone)]
pub struct ConntrackProbe(Arc<Handle>);

impl ConntrackProbe {
    /// Creates a probe for the network namespace of the calling thread.
    ///
    /// It never fails: where the kernel cannot be queried, [`problems`](Self::problems) says so at once, and the probe
    /// does nothing.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Returns a builder that configures which entries are queried.
    pub fn builder() -> ConntrackProbeBuilder {
        ConntrackProbeBuilder::default()
    }

    /// Returns why entries are missing or incomplete: each problem once, in the order in which they were met.
    pub fn problems(&self) -> Vec<ConntrackProblem> {
        self.0.state.problems.reported()
    }

    /// Returns how many queries were left out because too many connections opened or closed at once. For each of them
    /// an entry may be missing, or be older than it could be.
    pub fn dropped(&self) -> u64 {
        self.0.state.dropped.load(Relaxed)
    }

    fn push(&self, conn: &ConnRef, event: Event) {
        if !self.0.state.queue.push(conn, event) {
            self.0.state.dropped.fetch_add(1, Relaxed);
        }
    }
}

impl Default for ConntrackProbe {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ConntrackProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConntrackProbe")
            .field("problems", &self.problems())
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}

impl Probe for ConntrackProbe {
    fn event(&self, conn: &ConnRef, event: ProbeEvent, _: ProbeSocket<'_>) {
        let event = match event {
            ProbeEvent::Connected => Event::Opened,
            ProbeEvent::ConnectFailed => Event::Failed,
            ProbeEvent::Closing => Event::Closing,
            ProbeEvent::FirstByte => return,
        };
        self.push(conn, event);
    }

    fn foreign_connected(&self, conn: &ConnRef) {
        self.push(conn, Event::Opened);
    }

    fn foreign_closing(&self, conn: &ConnRef) {
        self.push(conn, Event::Closing);
    }

    fn refresh(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let done = self.0.state.queue.refresh();
        Box::pin(async {
            if let Some(done) = done {
                // An error means that the worker has ended; there is nothing to wait for.
                let _ = done.await;
            }
        })
    }

    fn close(&self) {
        self.0.stop();
    }
}

/// A builder that configures a [`ConntrackProbe`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct ConntrackProbeBuilder {
    zone: Option<u16>,
}

impl ConntrackProbeBuilder {
    /// Sets the zone into which rules put the connections of this host (`ct zone set`); 0 by default.
    pub fn zone(mut self, zone: u16) -> Self {
        self.zone = Some(zone);
        self
    }

    /// Creates the probe in the network namespace of the calling thread, and queries the kernel for the first time.
    ///
    /// It never fails: [`ConntrackProbe::problems`] says what is missing.
    pub fn build(self) -> ConntrackProbe {
        let state = Arc::new(ProbeState::default());
        let worker = Table::open(self.zone).and_then(|table| start(table, &state));
        if let Err(problem) = &worker {
            state.problems.report(problem.clone());
            state.queue.close();
        }
        ConntrackProbe(Arc::new(Handle { state, worker: Mutex::new(worker.ok()) }))
    }
}

/// The state that all clones of the probe share.
struct Handle {
    state: Arc<ProbeState>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl Handle {
    /// Ends the worker and waits until it is gone.
    fn stop(&self) {
        self.state.queue.stop();
        let worker = self.worker.lock().ignore_poison().take();
        // The worker itself may be the last to hold a connection, and with it the sink and this.
        if let Some(worker) = worker.filter(|worker| worker.thread().id() != thread::current().id()) {
            // It has said why if it panicked.
            let _ = worker.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}

fn start(table: Table, state: &Arc<ProbeState>) -> Result<JoinHandle<()>, ConntrackProblem> {
    let worker = Worker::new(table, state.clone());
    let thread = thread::Builder::new().name("conntrack-probe".into());
    thread
        .spawn(|| worker.run())
        .map_err(|error| ConntrackProblem::unavailable("no thread to read it", &error))
}
