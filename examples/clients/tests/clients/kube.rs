use crate::fixture::{assert_as_received, finished, statuses};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Config,
    api::{ListParams, WatchEvent, WatchParams},
};
use nettrace::{Client, TraceSink, record::EndReason};
use nettrace_clients::kube::client;
use std::pin::pin;
use test_support::web::{Content, Web, reply, status};

const EVENT: &str = r#"{"type": "ADDED", "object": {"metadata": {"name": "web-1"}}}"#;

/// Returns the answer to a watch: one event, and no end.
fn watched() -> Response<Content> {
    let event = stream::once(async { Ok(Frame::data(Bytes::from(format!("{EVENT}\n")))) });
    Response::new(StreamBody::new(event.chain(stream::pending())).boxed_unsync())
}

#[tokio::test]
async fn requests_and_watches_are_those_of_the_traced_client() {
    let web = Web::start(async |request| match (request.path(), request.uri.query()) {
        ("/version", _) => reply(
            r#"{"major": "1", "minor": "34", "gitVersion": "v1.34.0", "gitCommit": "", "gitTreeState": "",
            "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}"#,
        ),
        ("/api/v1/namespaces/shop/pods", Some(query)) if query.contains("watch=true") => watched(),
        ("/api/v1/namespaces/shop/pods", _) => {
            reply(r#"{"metadata": {}, "items": [{"metadata": {"name": "web-1"}}]}"#)
        }
        _ => status(404),
    });
    let sink = TraceSink::new();
    let mut config = Config::new(web.url("").parse().unwrap());
    config.default_namespace = "shop".into();
    let client = client(&config, Client::builder(&sink)).unwrap();

    assert_eq!(client.apiserver_version().await.unwrap().minor, "34");
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    assert_eq!(pods.list(&ListParams::default()).await.unwrap().items.len(), 1);
    pods.get("web-2").await.expect_err("there is none");
    {
        let mut events = pin!(pods.watch(&WatchParams::default(), "0").await.unwrap());
        assert!(matches!(events.next().await, Some(Ok(WatchEvent::Added(_)))));
        let running = sink.snapshot("").http_requests[3].clone();
        assert_eq!((running.resp_status_code, running.end_reason), (200, None));
    }

    drop((client, pods));
    let trace = finished(&sink).await;
    assert_as_received(&trace, &web);
    assert_eq!(statuses(&trace), [200, 200, 404, 200]);
    assert_eq!(trace.http_requests[3].end_reason, Some(EndReason::Cancelled));
}
