use crate::fixture::{assert_as_received, finished, statuses};
use nettrace::{Client, Failure, TraceSink};
use nettrace_clients::object_store::TracedHttpConnector;
use object_store::{
    ClientOptions, ObjectStoreExt as _, RetryConfig,
    http::{HttpBuilder, HttpStore},
    path::Path,
};
use test_support::{
    raw::Refused,
    web::{Web, reply, status},
};

fn store(sink: &TraceSink, url: String, options: ClientOptions) -> HttpStore {
    let client = Client::builder(sink).compression(false).build().unwrap();
    HttpBuilder::new()
        .with_url(url)
        .with_client_options(options)
        .with_retry(RetryConfig { max_retries: 1, ..RetryConfig::default() })
        .with_http_connector(TracedHttpConnector::new(client))
        .build()
        .unwrap()
}

fn allowing_http() -> ClientOptions {
    ClientOptions::new().with_allow_http(true)
}

#[tokio::test]
async fn operations_are_requests_of_the_traced_client() {
    let web = Web::start(async |request| match (request.method.as_str(), request.path()) {
        ("PUT", "/a.txt") => status(201),
        ("GET", "/a.txt") => {
            let mut response = reply("hello");
            response.headers_mut().insert("last-modified", "Sat, 01 Nov 2025 00:00:00 GMT".parse().unwrap());
            response
        }
        _ => status(404),
    });
    let sink = TraceSink::new();
    let headers = http::HeaderMap::from_iter([(http::header::FROM, "joe@shop.test".parse().unwrap())]);
    let store = store(&sink, web.url("/"), allowing_http().with_default_headers(headers));

    store.put(&Path::from("a.txt"), "hello".into()).await.unwrap();
    assert_eq!(store.get(&Path::from("a.txt")).await.unwrap().bytes().await.unwrap(), "hello");
    store.head(&Path::from("b.txt")).await.expect_err("there is none");

    drop(store);
    assert!(web.requests().iter().all(|request| request.header("from") == "joe@shop.test"));
    let trace = finished(&sink).await;
    assert_as_received(&trace, &web);
    assert_eq!(statuses(&trace), [201, 200, 404]);
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_tried_again() {
    let (sink, refused) = (TraceSink::new(), Refused::on("127.0.0.1:0"));
    let store = store(&sink, format!("http://{}/", refused.addr), allowing_http());
    store.get(&Path::from("a.txt")).await.expect_err("nobody listens");
    drop(store);
    let trace = finished(&sink).await;
    let failures: Vec<_> = trace.http_requests.iter().map(|request| request.failure.clone()).collect();
    assert_eq!(failures, [Some(Failure::ConnectionRefused), Some(Failure::ConnectionRefused)]);
}

#[tokio::test]
async fn http_is_refused_unless_it_is_allowed() {
    let web = Web::start(async |_| reply("hello"));
    let store = store(&TraceSink::new(), web.url("/"), ClientOptions::new());
    let error = store.get(&Path::from("a.txt")).await.expect_err("no https");
    assert!(format!("{error:?}").contains("allow_http"), "{error:?}");
    assert!(web.requests().is_empty());
}
