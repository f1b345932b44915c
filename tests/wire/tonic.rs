//! Calls of a plain tonic channel, and those that a tonic server answers.

use crate::fixture::{connector, finished};
use nettrace::{
    TraceSink,
    record::{EndReason, NetTrace},
    server::{TraceListener, TraceServerLayer},
    wire::WireListener,
};
use test_support::wait;
use tokio::net::TcpListener;
use tonic::transport::{Endpoint, Server};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// Returns the status of each call, after asserting where it was seen.
fn statuses(trace: &NetTrace, on_wire: bool) -> Vec<Option<u16>> {
    let calls = trace.http_requests.iter().map(|call| {
        assert_eq!((call.seen_on_wire, call.stream_id.is_some()), (on_wire, on_wire), "{call:?}");
        assert_eq!((call.end_reason.clone(), &call.failure), (Some(EndReason::Closed), &None), "{call:?}");
        assert!(call.req_url.ends_with("/grpc.health.v1.Health/Check"));
        call.grpc_status
    });
    calls.collect()
}

#[tokio::test]
async fn calls_are_read_on_both_sides() {
    for has_layer in [false, true] {
        let (client, server) = (TraceSink::new(), TraceSink::new());
        let listener = TraceListener::new(&server, TcpListener::bind("127.0.0.1:0").await.unwrap());
        let url = format!("http://{}", listener.local_addr().unwrap());
        let incoming = WireListener::new(&server, listener).incoming();
        let (_, health) = tonic_health::server::health_reporter();
        let serving = if has_layer {
            let router = Server::builder().layer(TraceServerLayer::new(&server)).add_service(health);
            tokio::spawn(router.serve_with_incoming(incoming))
        } else {
            tokio::spawn(Server::builder().add_service(health).serve_with_incoming(incoming))
        };

        let endpoint = Endpoint::from_shared(url).unwrap();
        let channel = endpoint.connect_with_connector(connector(&client)).await.unwrap();
        let mut health = HealthClient::new(channel);
        for (service, known) in [("", true), ("nobody", false)] {
            assert_eq!(health.check(HealthCheckRequest { service: service.into() }).await.is_ok(), known);
        }
        drop(health);
        assert_eq!(statuses(&finished(&client).await, true), [Some(0), Some(5)]);
        wait::until("the calls have ended", || {
            server.snapshot("").http_requests.iter().filter(|call| call.end_reason.is_some()).count() >= 2
        })
        .await;
        assert_eq!(statuses(&server.snapshot(""), !has_layer), [Some(0), Some(5)]);
        serving.abort();
    }
}
