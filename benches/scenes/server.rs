//! One HTTP request in a traced server, answered at once.

use super::{Again, Scene, http};
use bytes::Bytes;
use http_body_util::Empty;
use nettrace::{
    TraceSink,
    bench_support::{self, Conn},
    request::TraceBody,
    server::TraceServerLayer,
};
use tower::{Layer, service_fn};

pub(super) fn scenes() -> Vec<Scene> {
    vec![
        Scene::new("server/off", || Again(answers(&TraceSink::disabled(), None))),
        Scene::new("server/5 headers", || {
            let sink = TraceSink::new();
            Again(answers(&sink, Some(bench_support::dial(&sink))))
        }),
    ]
}

fn answers(sink: &TraceSink, conn: Option<Conn>) -> impl FnMut() + use<> {
    let layer = TraceServerLayer::new(sink).conn(conn.as_ref().and_then(Conn::conn_ref));
    let mut service = layer.layer(service_fn(http::answer::<TraceBody<Empty<Bytes>>>(None)));
    http::reusing_fields(5, move |request| {
        let _open = &conn;
        http::exchange(&mut service, request)
    })
}
