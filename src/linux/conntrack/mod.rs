//! The kernel's connection tracking: NAT, state and counters of each connection.

mod attributes;
#[cfg(feature = "_bench")]
pub(crate) mod bench;
mod entry;
mod problem;
mod queue;
mod request;
#[cfg(any(test, feature = "_bench"))]
mod sample;
mod table;
mod tuple;
mod worker;

pub use problem::ConntrackProblem;

use self::{
    problem::ReportedProblems,
    queue::{Event, EventQueue},
    table::Table,
    worker::Worker,
};
use crate::{
    sink::{ConnRef, Probe, ProbeEvent, ProbeSocket},
    sync::IgnorePoison,
};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

/// Keeps, for each connection that this crate opens or accepts, its entry in the kernel's connection tracking
/// ([`ConntrackEntry`](crate::record::ConntrackEntry)): addresses before and after NAT, the state of TCP, mark,
/// zone, packets and bytes. For TCP and UDP, connections to nameservers and failed attempts included, but for those
/// that were refused with a reset: their entry the kernel drops at once. Of a foreign connector under
/// `TraceConnectLayer` only for connections that it made and told the addresses of (`HttpInfo`).
///
/// The kernel is asked when the connection is established, when it is closed, shortly after that (100 ms, and 1 s
/// where TCP had not finished by then), and by [`TraceSink::refresh`](crate::TraceSink::refresh): await that before
/// a snapshot that should show what the kernel knows now. For connections that were closed before, a refresh waits
/// until TCP has ended, so that the entry has its final state (`time-wait` or `close`) and counts every packet; it
/// waits no longer than 200 ms after the close of each, as a peer may keep its side open. Queries wait for others, to
/// be sent together: 10 ms, and 50 behind 16 of them or more. What is given to a subscriber is what was known when the
/// connection ended, which of a shorter one is nothing.
///
/// All of it happens on a thread of its own, so that no request waits or fails because of it. The thread ends with
/// [`TraceSink::close`](crate::TraceSink::close), which has it look a last time without waiting for packets, or with the
/// last clone of the probe and all that is traced with it. What stands in the way is told once, to `tracing` and by
/// [`problems`](Self::problems).
///
/// It takes the capability `CAP_NET_ADMIN`, and a rule that makes the kernel track connections. Entries are
/// those of the network namespace in which the probe is made.
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
#[derive(Clone)]
pub struct ConntrackProbe(Arc<Handle>);

impl ConntrackProbe {
    /// A probe for the network namespace of the calling thread. It never fails: where the kernel cannot be asked,
    /// [`problems`](Self::problems) says so at once, and the probe does nothing.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// To say where to look.
    pub fn builder() -> ConntrackProbeBuilder {
        ConntrackProbeBuilder::default()
    }

    /// What stood in the way so far, each once, in the order in which it was met.
    pub fn problems(&self) -> Vec<ConntrackProblem> {
        self.0.shared.problems.reported()
    }

    /// How many events were left out because too many came at once: so often an entry may be missing, or older
    /// than it could be.
    pub fn dropped(&self) -> u64 {
        self.0.shared.dropped.load(Relaxed)
    }

    fn push(&self, conn: &ConnRef, event: Event) {
        if !self.0.shared.queue.push(conn, event) {
            self.0.shared.dropped.fetch_add(1, Relaxed);
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
        let done = self.0.shared.queue.refresh();
        Box::pin(async {
            if let Some(done) = done {
                // An error means that the worker has ended, and so has done.
                let _ = done.await;
            }
        })
    }

    fn close(&self) {
        self.0.stop();
    }
}

/// Says where a [`ConntrackProbe`] looks.
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct ConntrackProbeBuilder {
    zone: Option<u16>,
}

impl ConntrackProbeBuilder {
    /// The zone that rules put the connections of this host into (`ct zone set`). 0 by default.
    pub fn zone(mut self, zone: u16) -> Self {
        self.zone = Some(zone);
        self
    }

    /// Opens the probe in the network namespace of the calling thread, and asks the kernel for the first time. Never
    /// fails: [`ConntrackProbe::problems`] says what stands in the way.
    pub fn build(self) -> ConntrackProbe {
        let shared = Arc::new(Shared::default());
        let worker = Table::open(self.zone).and_then(|table| start(table, &shared));
        if let Err(problem) = &worker {
            shared.problems.report(problem.clone());
            shared.queue.end();
        }
        ConntrackProbe(Arc::new(Handle { shared, worker: Mutex::new(worker.ok()) }))
    }
}

/// What the probe shares with its thread.
#[derive(Debug, Default)]
struct Shared {
    queue: EventQueue,
    dropped: AtomicU64,
    problems: ReportedProblems,
}

struct Handle {
    shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl Handle {
    /// Ends the worker and waits until it is gone.
    fn stop(&self) {
        self.shared.queue.stop();
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

fn start(table: Table, shared: &Arc<Shared>) -> Result<JoinHandle<()>, ConntrackProblem> {
    let worker = Worker::new(table, shared.clone());
    let thread = thread::Builder::new().name("conntrack-probe".into());
    thread
        .spawn(|| worker.run())
        .map_err(|error| ConntrackProblem::unavailable("no thread to read it", &error))
}
