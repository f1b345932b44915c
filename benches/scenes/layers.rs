//! Requests by hyper-util's client over the loopback interface, with and without the layers around it. The cost of the
//! layers is the difference to the client without them; the server is part of all of them.

use super::{Again, Scene, loopback};
use bytes::Bytes;
use http::{Response, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{
        Client, Error,
        connect::{Connect, HttpConnector},
    },
    rt::TokioExecutor,
};
use nettrace::{
    TraceSink,
    connect::TraceConnectLayer,
    request::{TraceBody, TraceRequest, TraceRequestLayer},
    wire::TraceWireLayer,
};
use tower::Layer;

pub(super) fn scenes() -> Vec<Scene> {
    let scenes = vec![
        untraced("layers/kept alive, untraced", true),
        traced("layers/kept alive, off", true, TraceSink::disabled, false),
        traced("layers/kept alive", true, loopback::sink, false),
        traced("layers/kept alive, captured", true, loopback::sink, true),
        read("layers/kept alive, from the wire"),
        untraced("layers/new connection, untraced", false),
        traced("layers/new connection, off", false, TraceSink::disabled, false),
        traced("layers/new connection", false, loopback::sink, false),
    ];
    scenes.into_iter().map(Scene::long).collect()
}

fn untraced(name: &'static str, is_kept: bool) -> Scene {
    let scene = Scene::new(name, move || {
        let client: Client<_, Empty<Bytes>> = client(HttpConnector::new(), is_kept);
        requests(async move |uri| client.get(uri).await)
    });
    scene.unguarded()
}

fn traced(name: &'static str, is_kept: bool, sink: fn() -> TraceSink, captures: bool) -> Scene {
    Scene::new(name, move || {
        let sink = sink();
        let client = client(TraceConnectLayer::new(&sink).layer(HttpConnector::new()), is_kept);
        let layer = TraceRequestLayer::new(&sink).capture_connection(captures);
        let client: TraceRequest<Client<_, TraceBody<Empty<Bytes>>>> = layer.layer(client);
        requests(async move |uri| client.get(uri).await)
    })
}

/// Requests that are read from the bytes of their connection.
fn read(name: &'static str) -> Scene {
    Scene::new(name, move || {
        let sink = loopback::sink();
        let connector = TraceConnectLayer::new(&sink).layer(HttpConnector::new());
        let connector = TraceWireLayer::new(&sink).layer(connector);
        let client: Client<_, Empty<Bytes>> = client(connector, true);
        requests(async move |uri| client.get(uri).await)
    })
}

fn client<C, B>(connector: C, is_kept: bool) -> Client<C, B>
where
    C: Connect + Clone,
    B: http_body::Body<Data: Send> + Send,
{
    let mut builder = Client::builder(TokioExecutor::new());
    if !is_kept {
        builder.pool_max_idle_per_host(0);
    }
    builder.build(connector)
}

fn requests<B>(get: impl AsyncFn(Uri) -> Result<Response<B>, Error>) -> Again<impl FnMut()>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    loopback::requests(async move |uri| {
        let mut body = get(uri).await.expect("a response").into_body();
        while let Some(frame) = body.frame().await {
            assert!(frame.is_ok(), "the body is incomplete");
        }
    })
}
