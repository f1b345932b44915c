//! One HTTP request, answered at once by a mock service.

use super::{Again, Scene, Work, now};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Empty, Full};
use nettrace::{
    ConnRef, HeaderCapture, TraceSink,
    bench_support::{self, Conn},
    request::TraceRequestLayer,
};
use std::{
    convert::Infallible,
    fmt::Debug,
    future::{Ready, ready},
    sync::Arc,
};
use tower::{Layer, Service, service_fn};

pub(super) fn scenes() -> Vec<Scene> {
    let recorded = |capture, fields| {
        move || {
            let sink = TraceSink::builder().headers(capture).build();
            Again(requests(&sink, Some(bench_support::dial(&sink)), fields))
        }
    };
    let (off, names, values) = (HeaderCapture::Off, HeaderCapture::Names, HeaderCapture::Values);
    vec![
        Scene::new("http/bare", || bare(5)).unguarded(),
        Scene::new("http/off", || Again(requests(&TraceSink::disabled(), None, 5))),
        Scene::new("http/5 headers", recorded(off, 5)),
        Scene::new("http/20 headers", recorded(off, 20)),
        Scene::new("http/5 headers, names", recorded(names, 5)),
        Scene::new("http/20 headers, names", recorded(names, 20)),
        Scene::new("http/5 headers, values", recorded(values, 5)),
        Scene::new("http/20 headers, values", recorded(values, 20)),
    ]
}

fn bare(fields: usize) -> impl Work {
    let mut service = service_fn(answer(None));
    Again(reusing_fields(fields, move |request| exchange(&mut service, request)))
}

/// Returns a function that sends a traced request over the connection, and reads the response to its end. The request
/// and the response have `fields` header fields each.
pub(super) fn requests(sink: &TraceSink, conn: Option<Conn>, fields: usize) -> impl FnMut() + use<> {
    let identity = conn.as_ref().and_then(Conn::conn_ref).cloned();
    let mut service = TraceRequestLayer::new(sink).layer(service_fn(answer(identity)));
    reusing_fields(fields, move |request| {
        let _open = &conn;
        exchange(&mut service, request)
    })
}

/// Returns a function that calls `exchange` with a request of `count` header fields. The fields of its response are
/// reused for the next request, so that none are allocated.
pub(super) fn reusing_fields(
    count: usize,
    mut exchange: impl FnMut(Request<Empty<Bytes>>) -> HeaderMap,
) -> impl FnMut() {
    let uri: Uri = "http://www.example.com/a/path/of/usual/length?with=query".parse().unwrap();
    let mut fields: HeaderMap = (0..count).map(field).collect();
    move || {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = std::mem::take(&mut fields);
        fields = exchange(request);
    }
}

fn field(number: usize) -> (HeaderName, HeaderValue) {
    let usual = [http::header::HOST, http::header::ACCEPT, http::header::USER_AGENT];
    let name = usual.get(number).cloned();
    let name = name.unwrap_or_else(|| format!("x-field-{number}").parse().unwrap());
    (name, format!("the value of field number {number}").parse().unwrap())
}

pub(super) fn exchange<S, B>(service: &mut S, request: Request<Empty<Bytes>>) -> HeaderMap
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error: Debug>,
    B: http_body::Body<Data = Bytes, Error: Debug> + Unpin,
{
    let mut response = now(service.call(request)).unwrap();
    while let Some(frame) = now(response.body_mut().frame()) {
        frame.unwrap();
    }
    std::mem::take(response.headers_mut())
}

/// Returns a service function that answers like hyper-util's client, which inserts extensions into each response.
pub(super) fn answer<B>(
    conn: Option<ConnRef>,
) -> impl FnMut(Request<B>) -> Ready<Result<Response<Full<Bytes>>, Infallible>> {
    let (info, body) = (Arc::new(()), Bytes::from_static(&[0; 1024]));
    move |mut request| {
        let mut response = Response::new(Full::new(body.clone()));
        std::mem::swap(response.headers_mut(), request.headers_mut());
        match &conn {
            Some(conn) => conn.clone().attach(response.extensions_mut()),
            None => drop(response.extensions_mut().insert(info.clone())),
        }
        ready(Ok(response))
    }
}
