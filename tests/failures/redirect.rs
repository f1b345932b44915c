//! A chain of redirects that does not come to a good end.

use nettrace::record::HttpReqTrace;

use crate::stage::{Scene, Stage, ended, failed, fetched};
use crate::support::raw::{Refused, Server};

#[tokio::test]
async fn to_a_dead_server() {
    let (stage, nobody) = (Stage::new().await, Refused::on("127.0.0.1:0"));
    let dead = format!("http://other.test:{}/", nobody.addr.port());
    let location = dead.clone();
    let server = Server::start(async move |mut conn| {
        conn.read_head().await?;
        conn.write(redirect(&location, "").as_bytes()).await?;
        conn.read_to_end().await
    });
    let failed = failed(&stage.client(), stage.http(&server)).await;
    let [first, last] = hops(&failed.scene);
    assert_eq!((ended(first), first.resp_status_code), (("closed", ""), 302));
    assert_eq!((ended(last), last.req_url.as_str()), (("failed", "connection_refused"), dead.as_str()));
    assert_eq!(last.prev_hop, first.trace_id);
    let dials = &failed.scene.trace.dials;
    assert_eq!([&dials[0].triggered_by, &dials[1].triggered_by], [&first.trace_id, &last.trace_id]);
    assert_eq!(failed.error.request().trace().http_requests.len(), 2, "the error shows the way there");
}

#[tokio::test]
async fn round_and_round() {
    let stage = Stage::new().await;
    let server = Server::start(async |mut conn| {
        loop {
            conn.read_head().await?;
            conn.write(redirect("/again", "").as_bytes()).await?;
        }
    });
    let client = stage.builder().max_redirects(1).build().unwrap();
    let error = client.get(stage.http(&server)).await.expect_err("no end");
    assert_eq!(error.failure().as_str(), "x_too_many_redirects");
    assert_eq!(error.to_string(), "gave up after 1 redirects");
    let scene = Scene::of(&client, error.request()).await;
    // Nothing is wrong with the last exchange.
    let [first, last] = hops(&scene);
    assert_eq!((ended(first), ended(last)), (("closed", ""), ("closed", "")));
    assert_eq!((last.resp_status_code, &*last.prev_hop), (302, &first.trace_id));
}

/// Nobody reads it to its end, which is no failure.
#[tokio::test]
async fn with_a_long_body() {
    let stage = Stage::new().await;
    let server = Server::start(async |mut conn| {
        loop {
            if conn.read_head().await?.starts_with("GET / ") {
                conn.write(redirect("/next", &"long ".repeat(1000)).as_bytes()).await?;
            } else {
                conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await?;
            }
        }
    });
    let client = stage.client();
    let (body, handle) = fetched(&client, stage.http(&server)).await;
    assert_eq!(body, b"hello");
    let scene = Scene::of(&client, &handle).await;
    let [first, last] = hops(&scene);
    assert_eq!((ended(first), ended(last)), (("closed", ""), ("closed", "")));
    assert!(first.resp_body_end_at.is_undefined());
}

fn redirect(location: &str, body: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[track_caller]
fn hops(scene: &Scene) -> [&HttpReqTrace; 2] {
    let requests = &scene.trace.http_requests;
    assert_eq!(requests.len(), 2);
    [&requests[0], &requests[1]]
}
