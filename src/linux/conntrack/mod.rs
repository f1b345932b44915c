//! Queries the kernel's connection tracking (conntrack) about each connection.
//!
//! The probe has a thread of its own, the [worker]. Opening or closing a connection only pushes an event onto a
//! [queue]. The worker takes events from it, queries the kernel at the times that the [schedule] sets, and passes up to
//! sixteen queries in one system call.

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

/// A probe that records the kernel's conntrack entry of each connection.
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
/// Queried are the TCP and UDP connections that this crate opens or accepts, those to nameservers included. A failed
/// attempt has an entry unless the peer refused it with a reset, after which the kernel drops the entry at once. With a
/// foreign connector under `TraceConnectLayer`, only the connections that it establishes and whose addresses it reports
/// (`HttpInfo`) are queried.
///
/// # When the kernel is queried
///
/// The kernel is queried when a connection is established, when a request on it fails or
/// [stalls](crate::TraceSinkBuilder::stalled_after), and when it is closed. It is queried again 100 ms and 1 s after the
/// close, until the entry shows that TCP has ended (`time-wait` or `close`). Queries are sent in batches: the first one
/// waits 10 ms for others, or 50 ms if the previous batch had 16 or more. A subscriber gets what was known when the
/// connection ended: nothing, if it ended before its first query.
///
/// [`TraceSink::refresh`](crate::TraceSink::refresh) queries all open connections, and those that were closed shortly
/// before. Await it before a snapshot that should show what the kernel knows now. For a closed connection it repeats
/// the query until TCP has ended, so that the entry has its final state and counts every packet. As a peer may keep its
/// side open, it waits no longer than 200 ms after the close.
///
/// A thread of the probe does this, so that no request waits or fails because of it. The thread ends when the last
/// clone of the probe and everything traced with it is gone, or with [`TraceSink::close`](crate::TraceSink::close).
/// Closing queries all connections a last time, but does not wait for TCP to end.
///
/// # Requirements
///
/// The capability `CAP_NET_ADMIN`, and a firewall rule that makes the kernel track connections. The probe sees the
/// network namespace of the thread that creates it. What is missing is logged once, and listed in
/// [`problems`](Self::problems).
#[derive(Clone)]
pub struct ConntrackProbe(Arc<WorkerHandle>);

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

    /// Returns how many queries were left out because too many connections opened or closed at once. For each, an entry
    /// may be missing or out of date.
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
            ProbeEvent::RequestFailed | ProbeEvent::Stalled => Event::RequestFailed,
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
    /// Sets the conntrack zone to query: the one that firewall rules (`ct zone set`) put the connections of this host
    /// into. 0 by default.
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
        ConntrackProbe(Arc::new(WorkerHandle { state, worker: Mutex::new(worker.ok()) }))
    }
}

/// The worker's thread and the state that it shares with all clones of the probe. The last clone stops the worker.
struct WorkerHandle {
    state: Arc<ProbeState>,
    /// `None` once the worker was stopped, or if it could not be started.
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl WorkerHandle {
    /// Has the worker run its last queries, and waits until it has ended.
    fn stop(&self) {
        self.state.queue.stop();
        let worker = self.worker.lock().ignore_poison().take();
        // A connection in the worker's queue keeps the sink, and the sink keeps this handle. If the worker drops the
        // last connection, this runs on its own thread, which cannot join itself.
        if let Some(worker) = worker.filter(|worker| worker.thread().id() != thread::current().id()) {
            // An error means that the worker panicked, which the panic hook has reported.
            let _ = worker.join();
        }
    }
}

impl Drop for WorkerHandle {
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
