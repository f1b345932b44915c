use crate::fixture::{assert_as_received, finished, grpc, grpc_statuses};
use nettrace::TraceSink;
use nettrace_clients::qdrant::{client, relay};
use qdrant_client::qdrant::{CollectionDescription, HealthCheckReply, ListCollectionsResponse};
use test_support::web::Web;

#[tokio::test]
async fn calls_through_a_relay_are_read_from_the_wire() {
    let web = Web::start(async |request| match request.path() {
        "/qdrant.Qdrant/HealthCheck" => {
            grpc(0, &HealthCheckReply { version: "1".into(), ..Default::default() })
        }
        "/qdrant.Collections/List" => {
            let collections = vec![CollectionDescription { name: "books".into() }];
            grpc(0, &ListCollectionsResponse { collections, time: 0.1 })
        }
        _ => grpc(5, &()),
    });
    let sink = TraceSink::new();
    let relay = relay(&sink, &web.addr().to_string()).await.unwrap();
    let client = client(&relay).unwrap();

    client.health_check().await.unwrap();
    assert_eq!(client.list_collections().await.unwrap().collections[0].name, "books");
    client.delete_collection("films").await.expect_err("there is none");

    drop(client);
    let trace = finished(&sink).await;
    assert_as_received(&trace, &web);
    assert_eq!(grpc_statuses(&trace), [Some(0), Some(0), Some(5)]);
    assert!(trace.http_requests.iter().all(|request| request.seen_on_wire));
    // The connection was made by the relay, for the client.
    assert!(trace.dials.iter().all(|dial| dial.dst_address.as_str() == web.addr().to_string()));
}
