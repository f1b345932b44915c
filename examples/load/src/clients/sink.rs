//! The sinks that clients record into.

use crate::{BoxError, args::Args, mode::Mode};
use nettrace::{NetTrace, Retention, Slice, SliceFilter, TraceSink, TraceSinkBuilder, TracingEvents};

/// Returns the sink of the mode, which is disabled for clients that record nothing.
pub fn sink(args: &Args) -> Result<TraceSink, BoxError> {
    let mut retention = if args.unbounded { Retention::unbounded() } else { Retention::bounded() };
    if let Some(keep) = args.keep {
        retention = retention.requests(keep).connections(keep);
    }
    let builder = TraceSink::builder().retention(retention);
    Ok(match args.mode {
        Mode::Bare | Mode::Untraced | Mode::Plain | Mode::Reqwest | Mode::Tonic => TraceSink::disabled(),
        Mode::TowerHttp | Mode::TowerHttpOtel => TraceSink::disabled(),
        Mode::ReqwestTracing | Mode::ReqwestTracingOtel => TraceSink::disabled(),
        Mode::Off | Mode::LayersOff | Mode::WireOff | Mode::ReqwestOff | Mode::TonicOff => {
            TraceSink::disabled()
        }
        Mode::Traced | Mode::Layers | Mode::LayersUncaptured | Mode::Wire => builder.build(),
        Mode::ReqwestObserved | Mode::TonicTraced => builder.build(),
        Mode::Events => builder.subscriber(TracingEvents::new()).build(),
        Mode::Full => with_probes(builder).build(),
        Mode::Stamped => with_stamps(builder).build(),
        Mode::Captured => with_capture(builder, &args.interface)?.build(),
        Mode::Recorder => {
            let retention = retention.requests(1_000).connections(1_000);
            let failed = SliceFilter::none().failed(true);
            builder.retention(retention).on_slice(failed, |slice: Slice| drop(slice)).build()
        }
    })
}

#[cfg(target_os = "linux")]
fn with_probes(builder: TraceSinkBuilder) -> TraceSinkBuilder {
    use nettrace::linux::{ConntrackProbe, TcpInfoProbe};
    builder.probe(ConntrackProbe::new()).probe(TcpInfoProbe::new())
}

#[cfg(target_os = "linux")]
fn with_stamps(builder: TraceSinkBuilder) -> TraceSinkBuilder {
    builder.probe(nettrace::linux::TimestampingProbe::new().every(1))
}

#[cfg(not(target_os = "linux"))]
fn with_probes(builder: TraceSinkBuilder) -> TraceSinkBuilder {
    builder
}

#[cfg(not(target_os = "linux"))]
fn with_stamps(builder: TraceSinkBuilder) -> TraceSinkBuilder {
    builder
}

#[cfg(unix)]
fn with_capture(builder: TraceSinkBuilder, interface: &str) -> Result<TraceSinkBuilder, BoxError> {
    let capture = nettrace::capture::CaptureProbe::builder([interface]).start();
    match capture.problems().into_iter().next() {
        Some(problem) => Err(problem.into()),
        None => Ok(builder.probe(capture)),
    }
}

#[cfg(not(unix))]
fn with_capture(builder: TraceSinkBuilder, _: &str) -> Result<TraceSinkBuilder, BoxError> {
    Ok(builder)
}

/// Returns how many captured packets are kept, and how many are known to be missing.
#[cfg(unix)]
pub fn packets(sink: &TraceSink) -> Option<[u64; 2]> {
    let captures = sink.captures();
    let kept = captures.iter().map(|capture| capture.packets.len() as u64).sum();
    let missing = captures
        .iter()
        .map(|capture| capture.dropped_by_limit + capture.dropped_by_kernel + capture.dropped_pending)
        .sum();
    (!captures.is_empty()).then_some([kept, missing])
}

#[cfg(not(unix))]
pub fn packets(_: &TraceSink) -> Option<[u64; 2]> {
    None
}

/// Returns the number of requests in a trace, including those that were not kept.
pub fn requests(trace: &NetTrace) -> u64 {
    trace.http_requests.iter().count() as u64
        + trace.dropped.as_ref().map_or(0, |dropped| dropped.http_requests)
}

/// Returns the number of socket operations in a trace, including those that were not kept.
pub fn operations(trace: &NetTrace) -> u64 {
    let tcp = trace.tcp_conns.iter().filter_map(|conn| conn.socket_trace.as_ref());
    let udp = trace.udp_conns.iter().filter_map(|conn| conn.socket_trace.as_ref());
    tcp.chain(udp).map(|ops| ops.socket_ops.len() as u64 + ops.dropped_ops).sum()
}
