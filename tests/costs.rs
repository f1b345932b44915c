//! The exact cost of recording in allocations and in kept bytes, where it does not depend on a clock or a scheduler.
//!
//! Memory is counted for each thread. Most tests compare calls to mock services with and without a layer. The last ones
//! compare the preset with hyper-util's client, with a server on another thread.
#![cfg(feature = "client")]

use test_support::{alloc, wait::now};

use std::{
    convert::Infallible,
    future::ready,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener},
    thread,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::{
    client::legacy::{
        self,
        connect::{Connected, Connection, HttpConnector},
    },
    rt::{TokioExecutor, TokioIo},
};
use nettrace::{
    Retention, TraceSink, TraceSinkBuilder, TracingEvents,
    connect::{TraceConnectLayer, TracedIo},
    request::{TraceBody, TraceRequestLayer},
};
use test_support::endless::Endless;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::{Layer, Service, service_fn};
use tracing::Level;

/// The expected figures. Lower them when the cost decreases; an increase needs a reason.
mod expected {
    /// Allocations of 100,000 operations: one for each segment. The first few segments are smaller.
    pub const OPS_UNBOUNDED: u64 = 199;
    /// The same, and the list of the ring's segments.
    pub const OPS_BOUNDED: u64 = 203;
    pub const MAX_BYTES_PER_OP: f64 = 9.0;
    /// The bounded log of a connection.
    pub const MAX_BYTES_PER_LOG: i64 = 48 << 10;

    /// A dial with its connection, including hyper-util's `Connected`, which carries the addresses.
    pub const DIAL: u64 = 2;

    /// `TCP_INFO` of a connection: after the connect, at the first byte, and at the close.
    pub const TCP_INFO: u64 = 1;
    pub const MAX_BYTES_TCP_INFO: i64 = 2 << 10;

    /// A request without a body, over a service whose responses have the extensions that hyper-util gives them.
    pub const REQUEST: u64 = 0;
    /// A record of a request that becomes an event of `tracing`: its URL.
    pub const EVENT: u64 = 1;
    /// The counter of the request's body.
    pub const REQUEST_BODY: u64 = 1;
    /// Per 32 records, until the bounds are reached and the memory of evicted records is reused.
    pub const CHUNK: u64 = 3;
    /// Per 32 dials.
    pub const CHUNK_OF_DIALS: u64 = CHUNK + 1;
    /// Per 32 requests: each has its own block, so that a request in use does not keep its neighbours in memory.
    pub const CHUNK_OF_REQUESTS: u64 = CHUNK + 32;
    pub const MAX_BYTES_PER_REQUEST: f64 = 356.0;

    /// A request over a connection of its own, with the dial, the connection and its operations.
    pub const MAX_BYTES_PER_NEW_CONNECTION: f64 = 1_408.0;

    /// The difference between a kept-alive GET through the preset with a disabled sink and through hyper-util's client.
    pub const PRESET_OFF: i64 = -4;
    /// The same with a sink that records.
    pub const PRESET: i64 = -3;

    /// The allocations that `capture_connection` adds to a kept-alive GET through hyper-util's client. Its channel: 2,
    /// and its place in the request's extensions: 3. hyper-util's copy of `Connected`, with the extras of
    /// `HttpConnector` and of this crate: 2. The boxes that these are read from: 2.
    pub const CAPTURE: u64 = 9;

    /// The allocations that observing a reqwest client adds to a kept-alive GET. reqwest clones its connector six
    /// times, in two boxes: 12. The handle and the entry in the extensions of the response: 2. The URL, parsed for the
    /// record: 2. The wrapped body of the response: 3 boxes, and the URL, which has to be set again: 3.
    #[cfg(feature = "reqwest")]
    pub const REQWEST_OBSERVED: u64 = 22;
}

#[global_allocator]
static COUNTING: alloc::Counting = alloc::Counting;

type Stream = TracedIo<TokioIo<Endless>>;

fn connect(sink: &TraceSink) -> Stream {
    let connector = service_fn(|_: Uri| ready(Ok::<_, io::Error>(TokioIo::new(Endless))));
    now(TraceConnectLayer::new(sink).layer(connector).call(Uri::from_static("http://endless.test"))).unwrap()
}

fn exchange(stream: &mut TokioIo<Stream>) {
    let mut buffer = [0; 100];
    assert_eq!(now(stream.write(b"question")).unwrap(), 8);
    assert_eq!(now(stream.read(&mut buffer)).unwrap(), 100);
}

#[test]
fn operations_within_a_segment_cost_no_allocation() {
    let sink = TraceSink::new();
    let mut stream = TokioIo::new(connect(&sink));
    (0..300).for_each(|_| exchange(&mut stream)); // a segment of the largest kind has begun
    let before = alloc::calls();
    (0..100).for_each(|_| exchange(&mut stream));
    assert_eq!(alloc::calls() - before, 0);
    assert_eq!(sink.snapshot("all").tcp_conns[0].socket_trace.as_ref().unwrap().socket_ops.len(), 800);
}

/// Returns the allocations and bytes of 100,000 operations.
fn operation_costs(retention: Retention) -> (u64, i64) {
    let sink = TraceSink::builder().retention(retention).build();
    let mut stream = TokioIo::new(connect(&sink));
    let (calls, live) = (alloc::calls(), alloc::live());
    (0..50_000).for_each(|_| exchange(&mut stream));
    let spent = (alloc::calls() - calls, alloc::live() - live);
    let trace = sink.snapshot("all");
    let ops = trace.tcp_conns[0].socket_trace.as_ref().unwrap();
    assert_eq!(ops.socket_ops.len() as u64 + ops.dropped_ops, 100_000);
    spent
}

#[test]
fn operations_of_an_unbounded_sink_cost_an_allocation_per_segment() {
    let (calls, bytes) = operation_costs(Retention::unbounded());
    let per_op = bytes as f64 / 100_000.0;
    println!("{calls} allocations, {per_op:.3} bytes per operation");
    assert_eq!(calls, expected::OPS_UNBOUNDED);
    assert!(per_op <= expected::MAX_BYTES_PER_OP, "{per_op}");
}

#[test]
fn operations_of_a_bounded_sink_take_bounded_memory() {
    let (calls, bytes) = operation_costs(Retention::bounded());
    println!("{calls} allocations, {bytes} bytes");
    assert_eq!(calls, expected::OPS_BOUNDED);
    assert!(bytes <= expected::MAX_BYTES_PER_LOG, "{bytes}");
}

/// Returns the allocations of `count` dials, after as many that make the one-time allocations.
fn dials(count: u64, mut dial: impl FnMut()) -> u64 {
    let mut run = || {
        let before = alloc::calls();
        (0..count).for_each(|_| dial());
        alloc::calls() - before
    };
    run();
    run()
}

#[test]
fn connections_cost_the_expected_allocations() {
    const DIALS: u64 = 3_200;
    let sink = TraceSink::builder().retention(Retention::unbounded()).build();
    let endless = || service_fn(|_: Uri| ready(Ok::<_, io::Error>(TokioIo::new(Endless))));
    let uri = || Uri::from_static("http://endless.test");
    let untraced = dials(DIALS, || assert!(now(endless().call(uri())).is_ok()));
    let mut layered = TraceConnectLayer::new(&sink).layer(endless());
    let traced = dials(DIALS, || assert!(now(layered.call(uri())).is_ok()));
    assert_eq!(traced - untraced, DIALS * expected::DIAL + DIALS / 32 * expected::CHUNK_OF_DIALS);
}

/// Each of the connections over loopback reads one byte.
#[cfg(all(target_os = "linux", feature = "tcp-info"))]
#[tokio::test]
async fn tcp_info_costs_the_expected_allocations() {
    use nettrace::{TraceSinkBuilder, connect::TcpConnector, linux::TcpInfoProbe};

    const CONNECTIONS: u64 = 64;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let spent = async |builder: TraceSinkBuilder| {
        let sink = builder.build();
        let connector = TcpConnector::new(&sink);
        let mut spent = (0, 0);
        // The first round makes the one-time allocations.
        for _ in 0..2 {
            let before = (alloc::calls(), alloc::live());
            for _ in 0..CONNECTIONS {
                let mut stream = connector.connect(addr).await.unwrap();
                listener.accept().unwrap().0.write_all(b"x").unwrap();
                assert_eq!(stream.read_u8().await.unwrap(), b'x');
            }
            spent = (alloc::calls() - before.0, alloc::live() - before.1);
        }
        spent
    };
    let (calls, bytes) = spent(TraceSink::builder()).await;
    let (calls_with, bytes_with) =
        spent(TraceSink::builder().probe(TcpInfoProbe::new().first_byte(true))).await;
    assert_eq!(calls_with - calls, CONNECTIONS * expected::TCP_INFO);
    let bytes = (bytes_with - bytes) / CONNECTIONS as i64;
    assert!(bytes <= expected::MAX_BYTES_TCP_INFO, "{bytes}");
}

/// A multiple of the size of a chunk.
const REQUESTS: u64 = 1_600;

fn request<B>(headers: usize, body: B) -> Request<B> {
    let mut request = Request::new(body);
    *request.uri_mut() = Uri::from_static("http://server.test:8080/path?query");
    for i in 0..headers {
        let name = HeaderName::try_from(format!("x-header-{i}")).unwrap();
        request.headers_mut().insert(name, HeaderValue::from_static("value"));
    }
    request
}

/// Returns a response as hyper-util's client does: its extensions have the extras of the connection.
fn answer(connected: &Connected) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from("answer"));
    connected.get_extras(response.extensions_mut());
    response
}

/// Returns the allocations of [`REQUESTS`] requests, after as many that make the one-time allocations.
fn allocations<S, B, R>(service: &mut S, new: impl Fn() -> Request<B>) -> u64
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
    R: http_body::Body<Data = Bytes, Error = Infallible>,
{
    let mut run = || {
        let before = alloc::calls();
        for _ in 0..REQUESTS {
            let response = now(service.call(new())).unwrap();
            assert_eq!(now(response.into_body().collect()).unwrap().to_bytes(), "answer");
        }
        alloc::calls() - before
    };
    run();
    run()
}

async fn read_body<B: http_body::Body + Unpin>(request: Request<B>) {
    let mut body = request.into_body();
    while body.frame().await.is_some() {}
}

/// Returns the allocations that the layer adds.
fn added<B>(headers: usize, body: B, retention: Retention) -> u64
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Clone + Unpin,
{
    let sink = TraceSink::builder().retention(retention).build();
    let stream = connect(&sink);
    let connected = &stream.connected();
    let mut bare = service_fn(|request: Request<B>| async {
        read_body(request).await;
        Ok::<_, Infallible>(answer(connected))
    });
    let unlayered = allocations(&mut bare, || request(headers, body.clone()));
    let mut layered =
        TraceRequestLayer::new(&sink).layer(service_fn(|request: Request<TraceBody<B>>| async {
            read_body(request).await;
            Ok::<_, Infallible>(answer(connected))
        }));
    let with_layer = allocations(&mut layered, || request(headers, body.clone()));
    let trace = sink.snapshot("all");
    assert!(trace.http_requests.iter().all(|request| request.tcp_conn == stream.conn_id()));
    with_layer - unlayered
}

#[test]
fn requests_cost_the_expected_allocations() {
    for headers in [0, 5, 20] {
        let [without, with] =
            ["", "question"].map(|body| added(headers, Full::from(body), Retention::unbounded()));
        println!("{headers} headers: {without} allocations in {REQUESTS} requests, {with} with a body");
        let chunks = REQUESTS / 32 * expected::CHUNK_OF_REQUESTS;
        assert_eq!(without, REQUESTS * expected::REQUEST + chunks, "{headers} headers");
        let expected = expected::REQUEST + expected::REQUEST_BODY;
        assert_eq!(with, REQUESTS * expected + chunks, "{headers} headers and a body");
    }
}

/// The memory of an evicted record is reused by the next one, except for the node of the list. Whether one is slow, and
/// which histograms grow, depends on the machine.
#[test]
fn requests_reuse_the_memory_of_evicted_requests() {
    let retention = Retention::bounded().requests(1_000).keep_slowest(false).count_evicted(false);
    let added = added(0, Full::default(), retention);
    println!("{added} allocations in {REQUESTS} requests");
    assert_eq!(added, REQUESTS / 32);
}

/// The lines are formatted, and written nowhere.
#[test]
fn an_event_costs_the_expected_allocations() {
    let spent = |level: Level, builder: TraceSinkBuilder| {
        let logger = tracing_subscriber::fmt().with_max_level(level).with_writer(io::sink).finish();
        tracing::subscriber::with_default(logger, || {
            let sink = builder.retention(Retention::unbounded()).build();
            let stream = connect(&sink);
            let connected = &stream.connected();
            let mut layered =
                TraceRequestLayer::new(&sink).layer(service_fn(|_: Request<TraceBody<Empty<Bytes>>>| {
                    ready(Ok::<_, Infallible>(answer(connected)))
                }));
            allocations(&mut layered, || request(0, Empty::new()))
        })
    };
    let without = spent(Level::INFO, TraceSink::builder());
    let added = |level, events| spent(level, TraceSink::builder().subscriber(events)) - without;
    for events in [TracingEvents::new(), TracingEvents::new().brief(true)] {
        assert_eq!(added(Level::INFO, events), REQUESTS * expected::EVENT, "{events:?}");
        assert_eq!(added(Level::ERROR, events), 0, "{events:?}, with the level off");
    }
}

#[test]
fn a_kept_request_takes_few_bytes() {
    const REQUESTS: usize = 10_000;
    let sink = TraceSink::builder().retention(Retention::unbounded()).build();
    let stream = connect(&sink);
    let connected = &stream.connected();
    let mut layered =
        TraceRequestLayer::new(&sink).layer(service_fn(|_: Request<TraceBody<Empty<Bytes>>>| {
            ready(Ok::<_, Infallible>(answer(connected)))
        }));
    let before = alloc::live();
    for _ in 0..REQUESTS {
        let response = now(layered.call(request(5, Empty::new()))).unwrap();
        now(response.into_body().collect()).unwrap();
    }
    let per_request = (alloc::live() - before) as f64 / REQUESTS as f64;
    println!("{per_request:.1} bytes per request");
    assert_eq!(sink.snapshot("all").http_requests.len(), REQUESTS);
    assert!(per_request <= expected::MAX_BYTES_PER_REQUEST, "{per_request}");
}

/// Starts a server, on a thread of its own, that answers every request with the same bytes.
fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while stream.read_exact(&mut byte).is_ok() {
                    head.extend(byte);
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nanswer").unwrap();
                    }
                }
            });
        }
    });
    addr
}

/// Sends two rounds of requests one after the other, on one connection and one thread. Returns the allocations of the
/// second round.
fn fetch_all<E: std::fmt::Debug, R>(fetch: impl AsyncFn() -> Result<Response<R>, E>) -> u64
where
    R: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut spent = [0; 2];
        for spent in &mut spent {
            let before = alloc::calls();
            for _ in 0..REQUESTS {
                let response = fetch().await.unwrap();
                assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "answer");
            }
            *spent = alloc::calls() - before;
        }
        spent[1]
    })
}

fn request_to(url: &Uri) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = url.clone();
    request
}

#[test]
fn capturing_the_connection_costs_the_expected_allocations() {
    let url: Uri = format!("http://{}/path", server()).parse().unwrap();
    let spent = |is_captured: bool| {
        let sink = TraceSink::builder().retention(Retention::unbounded()).socket_ops(false).build();
        let connector = TraceConnectLayer::new(&sink).layer(HttpConnector::new());
        let client: legacy::Client<_, TraceBody<Empty<Bytes>>> =
            legacy::Client::builder(TokioExecutor::new()).build(connector);
        let layer = TraceRequestLayer::new(&sink).capture_connection(is_captured);
        let client = layer.layer(client);
        fetch_all(async || client.clone().call(request_to(&url)).await)
    };
    let added = spent(true) - spent(false);
    println!("capture_connection adds {added} allocations in {REQUESTS} requests");
    // A connection is looked at once per request, unless a request is polled for another reason.
    let additional = added - REQUESTS * expected::CAPTURE;
    assert!(additional <= REQUESTS / 100, "{additional}");
}

#[test]
fn the_preset_costs_the_expected_allocations() {
    let url: Uri = format!("http://{}/path", server()).parse().unwrap();
    let plain = legacy::Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(HttpConnector::new());
    let plain = fetch_all(async || plain.clone().call(request_to(&url)).await);
    let preset = |sink: &TraceSink| {
        let client = nettrace::Client::builder(sink).build().unwrap();
        fetch_all(async || client.clone().call(request_to(&url)).await) as i64 - plain as i64
    };
    let unbounded = || TraceSink::builder().retention(Retention::unbounded());
    let off = preset(&TraceSink::disabled());
    let without_ops = preset(&unbounded().socket_ops(false).build());
    let traced = preset(&unbounded().build());
    println!(
        "hyper-util: {plain}; the preset adds {off} when off, {without_ops} without ops, {traced} with all"
    );
    let requests = REQUESTS as i64;
    assert_eq!(off, requests * expected::PRESET_OFF);
    assert_eq!(without_ops, requests * expected::PRESET + requests / 32 * expected::CHUNK_OF_REQUESTS as i64);
    // Two operations per request, unless a response is read in parts.
    let segments = traced - without_ops;
    assert!((0..=requests / 100).contains(&segments), "{segments} allocations for operations");
}

#[test]
fn a_kept_connection_takes_few_bytes() {
    let url: Uri = format!("http://{}/path", server()).parse().unwrap();
    let sink = TraceSink::builder().retention(Retention::unbounded()).build();
    let client = nettrace::Client::builder(&sink).max_idle_conns_per_host(0).build().unwrap();
    let fetch = async || client.clone().call(request_to(&url)).await;
    fetch_all(fetch);
    let before = alloc::live();
    fetch_all(fetch);
    let each = (alloc::live() - before) as f64 / (2 * REQUESTS) as f64;
    println!("{each:.1} bytes per request over a connection of its own");
    let trace = sink.snapshot("all");
    assert_eq!(trace.tcp_conns.len() as u64, 4 * REQUESTS);
    assert!(each <= expected::MAX_BYTES_PER_NEW_CONNECTION, "{each}");
}

/// The network may deliver a response in several pieces, so the cheapest of 50 requests counts.
#[cfg(all(feature = "reqwest", any(feature = "ring", feature = "aws-lc-rs")))]
#[test]
fn an_observed_reqwest_client_costs_the_expected_allocations() {
    use nettrace::{reqwest::TraceClient, tls::TraceTlsLayer};

    let url = format!("http://{}/path", server());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    fn cheapest(
        runtime: &tokio::runtime::Runtime,
        fetch: impl AsyncFn() -> reqwest::Result<reqwest::Response>,
    ) -> u64 {
        let call = || {
            let before = alloc::calls();
            runtime.block_on(async { assert_eq!(fetch().await.unwrap().bytes().await.unwrap(), "answer") });
            alloc::calls() - before
        };
        (0..50).map(|_| call()).min().unwrap()
    }
    // Without a TLS configuration reqwest needs a crypto provider of the process.
    let tls =
        TraceTlsLayer::builder(&TraceSink::disabled()).danger_accept_invalid_certs().into_config().unwrap();
    let builder = || reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls.clone());
    let plain = builder().build().unwrap();
    let untraced = cheapest(&runtime, async || plain.get(&url).send().await);
    let sink = TraceSink::builder().retention(Retention::unbounded()).build();
    let client: TraceClient = nettrace::reqwest::trace(builder(), &sink).unwrap().build().unwrap();
    let observed = cheapest(&runtime, async || client.execute(client.get(&url).build()?).await);
    println!("reqwest: {untraced}; observed: {observed}");
    assert_eq!(observed - untraced, expected::REQWEST_OBSERVED);
}
