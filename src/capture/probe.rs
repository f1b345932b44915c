//! The probe that tells a capture what happens to connections, and gives out what was captured.

use super::{
    builder::CaptureBuilder,
    flow::{Endpoints, endpoint},
    packet_capture::PacketCapture,
    parse::Protocol,
    problem::InterfaceProblem,
    session::{CaptureSession, now},
    worker::Worker,
};
use crate::{
    record::{AddrTuple, ConntrackEntry},
    sink::{ConnRef, Probe, ProbeEvent, ProbeSocket, TraceSink},
    sync::IgnorePoison,
};
use std::{
    any::Any,
    fmt,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

/// A probe that captures the packets of traced connections; see the [module](super). Clones share the same capture.
///
/// Give it to [`TraceSinkBuilder::probe`](crate::TraceSinkBuilder::probe). It stops when the sink is closed, or when
/// the last clone is dropped.
#[derive(Clone)]
pub struct CaptureProbe(Arc<ProbeInner>);

struct ProbeInner {
    session: Arc<CaptureSession>,
    worker: Mutex<Option<Worker>>,
}

impl CaptureProbe {
    /// Returns a builder that configures a capture on these interfaces. On Linux `any` stands for all of them.
    pub fn builder(interfaces: impl IntoIterator<Item = impl Into<String>>) -> CaptureBuilder {
        CaptureBuilder::new(interfaces.into_iter().map(Into::into).collect())
    }

    pub(super) fn new(session: Arc<CaptureSession>, worker: Option<Worker>) -> Self {
        CaptureProbe(Arc::new(ProbeInner { session, worker: Mutex::new(worker) }))
    }

    /// Returns what was captured so far, one capture for each interface that could be opened. Captures go on.
    ///
    /// Await [`TraceSink::refresh`] first to include the last packets of connections that were closed just before.
    pub fn captures(&self) -> Vec<PacketCapture> {
        self.0.session.captures()
    }

    /// Returns the interfaces that could not be opened, or went away.
    pub fn problems(&self) -> Vec<InterfaceProblem> {
        self.0.session.problems()
    }

    /// Drops the packets captured so far. Connections stay known.
    pub fn clear(&self) {
        self.0.session.clear();
    }

    /// Stops or resumes keeping packets. Connections stay known meanwhile, so that what they exchange after packets are
    /// kept again is. Has no effect after [`stop`](Self::stop).
    pub fn set_enabled(&self, on: bool) {
        self.0.session.set_enabled(on);
    }

    /// Returns `true` if packets that pass now are kept.
    pub fn is_enabled(&self) -> bool {
        self.0.session.is_enabled()
    }

    /// Stops the capture. Returns when everything that passed before was read and the thread has ended. What was
    /// captured can still be read.
    pub fn stop(&self) {
        // The thread ends outside the lock.
        let worker = self.0.worker.lock().ignore_poison().take();
        drop(worker);
    }

    /// Adds addresses that NAT gives to the packets of a connection, so that these packets are kept, too.
    ///
    /// The `conntrack` probe of the same sink does this by itself; call it if you know the addresses from elsewhere. It
    /// has no effect on a connection that this probe does not know.
    pub fn add_addresses(&self, conn: &ConnRef, local: SocketAddr, remote: SocketAddr) {
        // Also after the capture has ended: packets that are pending can still be claimed.
        if let Some(protocol) = protocol(conn) {
            self.0.session.filter().on_nat_addrs(&conn.id(), protocol, Endpoints::of(local, remote));
        }
    }
}

impl Probe for CaptureProbe {
    fn before_connect(&self, _: ProbeSocket<'_>, remote: SocketAddr) {
        let session = &self.0.session;
        if session.is_running() {
            session.filter().on_dial_begin(Protocol::Tcp, endpoint(remote), now());
        }
    }

    fn connecting(&self, socket: ProbeSocket<'_>, remote: SocketAddr) {
        let session = &self.0.session;
        if session.is_running()
            && let Ok(local) = rustix::net::getsockname(socket)
            && let Ok(local) = SocketAddr::try_from(local)
        {
            session.filter().on_dial_addrs(Protocol::Tcp, Endpoints::of(local, remote), now());
        }
    }

    fn event(&self, conn: &ConnRef, event: ProbeEvent, _: ProbeSocket<'_>) {
        let session = &self.0.session;
        let (Some(protocol), true) = (protocol(conn), session.is_running()) else { return };
        let (id, now) = (conn.id(), now());
        let ends = endpoints(conn);
        let open =
            |ends| session.filter().on_open(Some(&id), protocol, ends, begin_time(conn.age(), now), now);
        match (event, ends) {
            // The packets belong to the other end, which is traced, too.
            (ProbeEvent::Connected, Some(ends))
                if conn.was_accepted() && session.filter().is_open(protocol, ends) => {}
            (ProbeEvent::Connected, Some(ends)) => open(ends),
            (ProbeEvent::ConnectFailed, Some(ends)) => {
                open(ends);
                session.filter().on_close(&id, now);
            }
            (ProbeEvent::Connected | ProbeEvent::ConnectFailed, None) => {
                if let Some(remote) = conn.peer_addr() {
                    session.filter().on_dial_end(protocol, endpoint(remote));
                }
            }
            (ProbeEvent::Closing, _) => session.filter().on_close(&id, now),
            (ProbeEvent::FirstByte | ProbeEvent::RequestFailed | ProbeEvent::Stalled, _) => {}
        }
    }

    fn before_foreign_connect(&self) {
        let session = &self.0.session;
        if session.is_running() {
            session.filter().extend_pending(now());
        }
    }

    fn foreign_connected(&self, conn: &ConnRef) {
        let session = &self.0.session;
        if let (Some(protocol), Some(ends)) = (protocol(conn), endpoints(conn))
            && session.is_running()
        {
            let now = now();
            session.filter().on_open(Some(&conn.id()), protocol, ends, begin_time(conn.age(), now), now);
        }
    }

    fn foreign_closing(&self, conn: &ConnRef) {
        let session = &self.0.session;
        if session.is_running() {
            session.filter().on_close(&conn.id(), now());
        }
    }

    fn conntrack(&self, conn: &ConnRef, entry: &ConntrackEntry) {
        let (Some(original), Some(reply)) = (socket_addrs(&entry.addr_orig), socket_addrs(&entry.addr_reply))
        else {
            return;
        };
        let own = endpoints(conn);
        let is_own = |(local, remote)| own == Some(Endpoints::of(local, remote));
        // The original direction begins at the peer if it made the connection. On one side of a NAT packets have the
        // connection's own addresses, and on the other these.
        let began_there = is_own(reply) && !is_own(original);
        let (here, there) = if began_there { (reply, original) } else { (original, reply) };
        self.add_addresses(conn, here.0, here.1);
        self.add_addresses(conn, there.1, there.0);
    }

    fn refresh(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let mut worker = self.0.worker.lock().ignore_poison();
        let done = worker.as_mut().and_then(|worker| worker.refresh(&self.0.session));
        Box::pin(async {
            if let Some(done) = done {
                // An error means that the captures have ended.
                let _ = done.await;
            }
        })
    }

    fn clear(&self) {
        CaptureProbe::clear(self);
    }

    fn close(&self) {
        self.stop();
    }
}

impl TraceSink {
    /// Returns what the [`CaptureProbe`]s of this sink have captured so far. Captures go on.
    ///
    /// Await [`refresh`](Self::refresh) first to include the last packets of connections that were closed just before.
    pub fn captures(&self) -> Vec<PacketCapture> {
        self.capture_probes().flat_map(CaptureProbe::captures).collect()
    }

    /// Returns the interfaces of the [`CaptureProbe`]s of this sink that could not be opened, or went away.
    pub fn capture_problems(&self) -> Vec<InterfaceProblem> {
        self.capture_probes().flat_map(CaptureProbe::problems).collect()
    }

    /// Stops or resumes keeping packets, in all [`CaptureProbe`]s of this sink.
    #[cfg(feature = "debug-page")]
    pub(crate) fn set_capture_enabled(&self, on: bool) {
        self.capture_probes().for_each(|probe| probe.set_enabled(on));
    }

    /// Returns whether a [`CaptureProbe`] of this sink keeps packets; `None` if all have stopped, or there is none.
    #[cfg(feature = "debug-page")]
    pub(crate) fn is_capture_enabled(&self) -> Option<bool> {
        let running = self.capture_probes().filter(|probe| probe.0.session.is_running());
        running.map(CaptureProbe::is_enabled).reduce(|a, b| a || b)
    }

    fn capture_probes(&self) -> impl Iterator<Item = &CaptureProbe> {
        self.probes().iter().filter_map(|probe| {
            let probe: &dyn Any = &**probe;
            probe.downcast_ref()
        })
    }
}

impl fmt::Debug for CaptureProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaptureProbe").field("running", &self.0.session.is_running()).finish_non_exhaustive()
    }
}

fn endpoints(conn: &ConnRef) -> Option<Endpoints> {
    Some(Endpoints::of(conn.local_addr()?, conn.peer_addr()?))
}

/// Returns the source and the destination.
fn socket_addrs(tuple: &AddrTuple) -> Option<(SocketAddr, SocketAddr)> {
    let addr = |ip: &str, port| Some(SocketAddr::new(ip.parse().ok()?, port));
    Some((addr(&tuple.src_ip, tuple.src_port)?, addr(&tuple.dst_ip, tuple.dst_port)?))
}

fn protocol(conn: &ConnRef) -> Option<Protocol> {
    // Without an ID, only a TLS tunnel over a foreign stream is known.
    conn.record_id().map(|_| if conn.is_udp() { Protocol::Udp } else { Protocol::Tcp })
}

/// Returns when a connection of this age began by the clock of packets.
///
/// The age is by another clock. The result is rather too early, which does no harm: the first packet came some time
/// later.
fn begin_time(age: Duration, now: u64) -> u64 {
    let error = age / 1_000 + Duration::from_micros(20);
    now.saturating_sub(u64::try_from((age + error).as_nanos()).unwrap_or(u64::MAX))
}
