//! Requests that a handler makes: they have the served one as their cause, whatever runs meanwhile.

use bytes::Bytes;
use futures_util::{future::join_all, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use nettrace::{
    Client, NetTrace, RequestHandle, Retention, TraceSink,
    record::HttpReqTrace,
    server::{TraceListener, TraceServerLayer, in_current_request},
    view,
};
use std::{collections::BTreeSet, convert::Infallible, io, net::SocketAddr, sync::Arc};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};
use tower::Layer as _;

use crate::servers::{Content, conns_ended, settled, settled_running};
use test_support::web::{Web, reply};

/// A service whose handler asks another one, in each way that a handler can.
struct Front {
    addr: SocketAddr,
    client: Client,
    _tasks: JoinSet<()>,
}

impl Front {
    async fn start(sink: &TraceSink, back: &Web) -> Self {
        Self::with(sink, Client::builder(sink).build().unwrap(), back).await
    }

    async fn with(sink: &TraceSink, client: Client, back: &Web) -> Self {
        let listener = TraceListener::new(sink, TcpListener::bind("127.0.0.1:0").await.unwrap());
        let addr = listener.local_addr().unwrap();
        let (layer, back, of_handler) = (TraceServerLayer::new(sink), back.url(""), client.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut conns = JoinSet::new();
            loop {
                let (io, _) = listener.accept().await.unwrap();
                let (client, back) = (of_handler.clone(), back.clone());
                let service = service_fn(move |request: Request<_>| {
                    handle(client.clone(), back.clone(), request.uri().path().to_owned())
                });
                let service = layer.clone().conn(io.conn_ref()).layer(service);
                conns.spawn(async move {
                    _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(io), service)
                        .await;
                });
            }
        });
        Front { addr, client, _tasks: tasks }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    async fn closed(self, sink: &TraceSink) -> NetTrace {
        self.client.close().await;
        settled(sink, conns_ended).await
    }
}

/// Asks three services: one after the other, in another task, and while the response is sent.
async fn handle(client: Client, back: String, path: String) -> Result<Response<Content>, Infallible> {
    RequestHandle::current().tag("path", &path);
    if path == "/nothing" {
        return Ok(empty());
    }
    if path == "/spawned" {
        tokio::spawn(in_current_request(async move { get(&client, format!("{back}{path}/held")).await }));
        return Ok(empty());
    }
    get(&client, format!("{back}{path}/first")).await;
    let (other, url) = (client.clone(), format!("{back}{path}/spawned"));
    tokio::spawn(in_current_request(async move { get(&other, url).await })).await.unwrap();
    let body = stream::once(async move {
        get(&client, format!("{back}{path}/streamed")).await;
        Ok(Frame::data(Bytes::from("done")))
    });
    Ok(Response::new(StreamBody::new(body).boxed_unsync()))
}

fn empty() -> Response<Content> {
    Response::new(Full::default().map_err(io::Error::other).boxed_unsync())
}

async fn get(client: &Client, url: String) {
    client.get(url).await.unwrap().into_body().bytes().await.unwrap();
}

fn made_for<'a>(trace: &'a NetTrace, served: &HttpReqTrace) -> Vec<&'a HttpReqTrace> {
    trace.http_requests.iter().filter(|request| *request.triggered_by == served.trace_id).collect()
}

fn path(request: &HttpReqTrace) -> &str {
    let at = request.req_url.find("//").unwrap() + 2;
    &request.req_url[request.req_url[at..].find('/').unwrap() + at..]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_request_of_64_handlers_has_its_served_request_as_cause() {
    let sink = TraceSink::new();
    let back = Web::start(async |_| reply("asked"));
    let front = Front::start(&sink, &back).await;
    let asking = Client::builder(&TraceSink::disabled()).build().unwrap();
    join_all((0..64).map(|at| get(&asking, front.url(&format!("/{at}"))))).await;
    asking.close().await;
    let trace = front.closed(&sink).await;

    assert_eq!(back.requests().len(), 3 * 64);
    assert_eq!(trace.http_requests.len(), 4 * 64);
    let served: Vec<_> = trace.http_requests.iter().filter(|request| request.accepted).collect();
    assert_eq!(served.len(), 64);
    for served in served {
        let own = path(served);
        assert_eq!(served.tags["path"], *own);
        assert!(served.triggered_by.is_undefined());
        let paths: BTreeSet<_> = made_for(&trace, served).into_iter().map(path).collect();
        let expected = ["first", "spawned", "streamed"].map(|step| format!("{own}/{step}"));
        assert_eq!(paths, expected.iter().map(String::as_str).collect());
        let slice = trace.slice(&served.trace_id);
        assert_eq!(slice.http_requests.len(), 4);
        let conns = slice.http_requests.iter().map(|request| &request.tcp_conn);
        conns.for_each(|conn| assert!(slice.tcp_conns.get(conn).is_some()));
    }
}

#[tokio::test]
async fn a_task_that_is_spawned_without_the_request_makes_none_for_it() {
    let sink = TraceSink::new();
    let back = Web::start(async |_| reply("asked"));
    let (client, url) = (Client::builder(&sink).build().unwrap(), back.url("/"));
    let of_task = client.clone();
    let service = TraceServerLayer::new(&sink).layer(tower::service_fn(move |_: Request<_>| {
        let (client, url) = (of_task.clone(), url.clone());
        async move {
            tokio::spawn(async move { get(&client, url).await }).await.unwrap();
            assert!(!RequestHandle::current().id().is_undefined());
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }
    }));
    let request = Request::new(Full::<Bytes>::default());
    tower::ServiceExt::oneshot(service, request).await.unwrap();
    assert!(RequestHandle::current().id().is_undefined());
    client.close().await;
    let trace = settled(&sink, conns_ended).await;
    assert_eq!(trace.http_requests.len(), 2);
    assert!(trace.http_requests.iter().all(|request| request.triggered_by.is_undefined()));
}

/// A panic leaves nothing behind on the thread, and a service inside another one has its own request.
#[tokio::test]
async fn scopes_end_with_their_request() {
    let sink = TraceSink::new();
    let inner = TraceServerLayer::new(&sink).layer(tower::service_fn(async |request: Request<_>| {
        assert!(request.uri().path() != "/panic", "on purpose");
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(RequestHandle::current().id().to_string())))
    }));
    let of_outer = inner.clone();
    let outer = TraceServerLayer::new(&sink).layer(tower::service_fn(move |_: Request<_>| {
        let inner = of_outer.clone();
        async move {
            let before = RequestHandle::current().id();
            let response = tower::ServiceExt::oneshot(inner, Request::new(Full::<Bytes>::default())).await?;
            let inside = response.into_body().collect().await?.to_bytes();
            assert_eq!(RequestHandle::current().id(), before);
            assert_ne!(inside, before.to_string());
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }
    }));
    tower::ServiceExt::oneshot(outer, Request::new(Full::<Bytes>::default())).await.unwrap();
    let panicking = Request::get("/panic").body(Full::<Bytes>::default()).unwrap();
    let panicked = tokio::spawn(tower::ServiceExt::oneshot(inner, panicking));
    assert!(panicked.await.unwrap_err().is_panic());
    assert!(RequestHandle::current().id().is_undefined());
    RequestHandle::current().tag("nobody", "is asked");
    let trace = sink.snapshot("");
    assert!(trace.http_requests.iter().all(|request| request.triggered_by.is_undefined()));
}

#[tokio::test]
async fn sinks_do_not_refer_to_each_other() {
    let (sink, other) = (TraceSink::new(), TraceSink::new());
    let back = Web::start(async |_| reply("asked"));
    let front = Front::with(&sink, Client::builder(&other).build().unwrap(), &back).await;
    let asking = Client::builder(&TraceSink::disabled()).build().unwrap();
    get(&asking, front.url("/x")).await;
    asking.close().await;
    let served = front.closed(&sink).await;
    let made = settled(&other, conns_ended).await;
    assert_eq!((served.http_requests.len(), made.http_requests.len()), (1, 3));
    assert!(made.http_requests.iter().all(|request| request.triggered_by.is_undefined()));
}

#[tokio::test]
async fn a_cause_that_is_not_kept_any_more_is_not_named() {
    let sink = TraceSink::builder().retention(Retention::bounded().requests(1)).build();
    let gate = Arc::new(Semaphore::new(0));
    let passed = gate.clone();
    let back = Web::start(async move |_| {
        passed.acquire().await.unwrap().forget();
        reply("asked")
    });
    let front = Front::start(&sink, &back).await;
    let asking = Client::builder(&TraceSink::disabled()).build().unwrap();
    get(&asking, front.url("/spawned")).await;
    let made = |trace: &NetTrace| trace.http_requests.iter().find(|request| !request.accepted).cloned();
    let has_made = |trace: &NetTrace| made(trace).is_some();
    let before = made(&settled_running(&sink, has_made).await).unwrap();
    assert!(!before.triggered_by.is_undefined());
    for _ in 0..100 {
        get(&asking, front.url("/nothing")).await;
    }
    let trace = sink.snapshot("");
    assert!(trace.http_requests.get(&*before.triggered_by).is_none(), "the cause is still kept");
    assert!(made(&trace).unwrap().triggered_by.is_undefined());
    gate.add_permits(1);
    asking.close().await;
    front.closed(&sink).await;
}

#[tokio::test]
async fn the_waterfall_draws_what_was_made_below_what_was_served() {
    let sink = TraceSink::new();
    let back = Web::start(async |_| reply("asked"));
    let front = Front::start(&sink, &back).await;
    let asking = Client::builder(&TraceSink::disabled()).build().unwrap();
    for at in 0..2 {
        get(&asking, front.url(&format!("/{at}"))).await;
    }
    asking.close().await;
    let trace = front.closed(&sink).await;
    let drawing = view::waterfall(&trace).width(120).to_string();
    let titles: Vec<&str> =
        drawing.lines().filter(|line| line.contains("GET http") && !line.starts_with(' ')).collect();
    let step = |title: &&str| {
        title
            .split_whitespace()
            .find(|word| word.starts_with("http"))
            .unwrap()
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned()
    };
    let steps: Vec<String> = titles.iter().map(step).collect();
    assert_eq!(
        steps,
        ["0", "first", "spawned", "streamed", "1", "first", "spawned", "streamed"],
        "{drawing}"
    );
    for served in trace.http_requests.iter().filter(|request| request.accepted) {
        let for_it = drawing.lines().filter(|line| line.contains(&format!(" for {} ", served.trace_id)));
        assert_eq!(for_it.count(), 3, "{drawing}");
    }
    assert_eq!(drawing.lines().filter(|line| line.starts_with("    call")).count(), 6, "{drawing}");
    assert!(drawing.contains("path /0"), "{drawing}");
}
