//! Requests without a network: connections are in-memory pipes, and a service answers at once.

use std::{convert::Infallible, fs, io, path::Path, sync::mpsc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use nettrace::{
    ConnRef, NetTrace, RequestHandle, Slice, SliceFilter, SliceReceiver, TraceSink,
    connect::{TraceConnectLayer, TracedIo},
    request::{TraceBody, TraceRequestLayer},
    store::{JsonLines, Reader},
};
use test_support::{background, pipe::Pipe};
use tokio::io::DuplexStream;
use tower::{Layer, Service, ServiceExt, service_fn};

pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) type Body = Full<Bytes>;

/// A traced connection with its other end.
pub(crate) struct Connection {
    io: TracedIo<TokioIo<Pipe>>,
    _there: DuplexStream,
}

impl Connection {
    pub(crate) async fn new(sink: &TraceSink) -> Self {
        let (here, there) = tokio::io::duplex(1 << 20);
        let mut here = Some(Pipe(here));
        let connector = service_fn(move |_: Uri| {
            let pipe = here.take();
            async move { pipe.map(TokioIo::new).ok_or_else(|| io::Error::other("there is one pipe")) }
        });
        let mut connector = TraceConnectLayer::new(sink).layer(connector);
        let io = connector.call(Uri::from_static("http://pipe.test")).await.unwrap();
        Connection { io, _there: there }
    }

    pub(crate) fn id(&self) -> Option<&ConnRef> {
        self.io.conn_ref()
    }
}

/// Makes a request and reads its response. The response is a redirect, so that the next request with the same handle is
/// recorded as the next hop.
pub(crate) async fn fetch(
    sink: &TraceSink,
    url: &str,
    conn: Option<&Connection>,
    handle: Option<&RequestHandle>,
) {
    let mut request = Request::get(url).body(Body::default()).unwrap();
    if let Some(handle) = handle {
        request.extensions_mut().insert(handle.clone());
    }
    exchange(sink, request, || {
        let mut response = Response::builder().status(302).body(Body::from("hello")).unwrap();
        if let Some(conn) = conn.and_then(Connection::id).cloned() {
            conn.attach(response.extensions_mut());
        }
        response
    })
    .await;
}

/// Sends a request through a traced service that answers with `response`, and reads the response.
pub(crate) async fn exchange(
    sink: &TraceSink,
    request: Request<Body>,
    response: impl Fn() -> Response<Body>,
) {
    let answer = service_fn(|_: Request<TraceBody<Body>>| {
        let response = response();
        async { Ok::<_, Infallible>(response) }
    });
    let response = TraceRequestLayer::new(sink).layer(answer).oneshot(request).await.unwrap();
    response.into_body().collect().await.unwrap();
}

/// Returns the slices of this many requests on connections of their own.
pub(crate) fn slices(count: usize) -> Vec<Slice> {
    let (sender, slices) = mpsc::channel();
    let receive = move |slice| sender.send(slice).expect("the test waits for it");
    let sink = TraceSink::builder().on_slice(SliceFilter::all(), receive).build();
    background::runtime().block_on(async {
        for number in 0..count {
            let conn = Connection::new(&sink).await;
            fetch(&sink, &format!("/{number}"), Some(&conn), None).await;
            assert!(sink.flush(LIMIT));
        }
    });
    slices.try_iter().collect()
}

/// Writes slices in a batch each.
pub(crate) fn write(store: &mut JsonLines, slices: &[Slice]) {
    for slice in slices {
        store.receive(slice.clone());
        store.flush();
    }
}

/// Returns the names of the files of a directory, sorted.
pub(crate) fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Returns all slices of a directory.
pub(crate) fn read(directory: &Path) -> Vec<NetTrace> {
    Reader::open(directory).unwrap().collect::<Result<_, _>>().unwrap()
}

/// Returns the path of the URL of each slice's only request.
pub(crate) fn urls(slices: &[NetTrace]) -> Vec<&str> {
    slices.iter().map(|slice| slice.http_requests[0].req_url.as_str()).collect()
}
