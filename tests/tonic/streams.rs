//! The four kinds of gRPC calls: unary, client streaming, server streaming and bidirectional.

use futures_util::stream;
use nettrace::record::EndReason;
use nettrace::tonic::connect;
use nettrace::{ResponseExt as _, TraceSink};

use crate::greeter::{GreeterClient, Name};
use crate::servers::{ReservedPort, assert_linked, call, closed};
use test_support::check;

/// The length in bytes of the prefix of each gRPC message: the compressed flag and the message's length.
const PREFIX_LEN: u64 = 5;

fn names() -> impl futures_util::Stream<Item = Name> + Send + 'static {
    stream::iter(["Ada", "Grace"].map(Name::of))
}

#[tokio::test]
async fn calls_of_every_kind_are_recorded() {
    let place = ReservedPort::new();
    let _server = place.serve();
    let sink = TraceSink::new();
    let mut client = GreeterClient::new(connect(&sink, place.endpoint()).await.unwrap());

    let (unary, request) = call(Name::of("Ada"));
    let response = client.greet(request).await.unwrap();
    assert_eq!(response.request_handle().map(|handle| handle.id()), Some(unary.id()));
    let greeting = response.into_inner();
    let port = greeting.port as u16;
    assert_eq!(greeting.text, "hello Ada");

    let (client_side, request) = call(names());
    assert_eq!(client.greet_all(request).await.unwrap().into_inner().text, "hello Ada, Grace");

    let (server_side, request) = call(Name { name: "Ada".into(), times: 3 });
    let mut greetings = client.repeat(request).await.unwrap().into_inner();
    let mut count = 0;
    while let Some(greeting) = greetings.message().await.unwrap() {
        count += 1;
        assert_eq!(greeting.text, format!("hello for time {count}"));
    }

    let (both, request) = call(names());
    let mut answers = client.chat(request).await.unwrap().into_inner();
    for name in ["Ada", "Grace"] {
        assert_eq!(answers.message().await.unwrap().unwrap().text, format!("hello {name}"));
    }
    assert!(answers.message().await.unwrap().is_none());

    let trace = sink.snapshot("");
    let name_len = |name: &Name| PREFIX_LEN + 2 + name.name.len() as u64 + 2; // a string and a number of one byte
    let greeting_len = |text: &str| PREFIX_LEN + 2 + text.len() as u64 + 4; // a string and a port of three bytes
    for (call, path, sent, received) in [
        (&unary, "Greet", name_len(&Name::of("Ada")), greeting_len("hello Ada")),
        (&client_side, "GreetAll", 2 * name_len(&Name::of("Ada")) + 2, greeting_len("hello Ada, Grace")),
        (&server_side, "Repeat", name_len(&Name::of("Ada")), 3 * greeting_len("hello for time 1")),
        (
            &both,
            "Chat",
            2 * name_len(&Name::of("Ada")) + 2,
            greeting_len("hello Ada") + greeting_len("hello Grace"),
        ),
    ] {
        let record = assert_linked(&trace, call, port);
        assert_eq!(record.req_url, format!("{}/greeter.Greeter/{path}", place.url()));
        assert_eq!(
            (record.proto_major, record.resp_status_code, record.grpc_status),
            (2, 200, Some(0)),
            "{path}"
        );
        assert_eq!((record.req_content_len, record.resp_content_len), (sent, received), "{path}");
        assert_eq!((&record.end_reason, &record.failure), (&Some(EndReason::Closed), &None), "{path}");
        assert!(!record.req_body_end_at.is_undefined() && !record.resp_body_end_at.is_undefined(), "{path}");
        assert!(record.grpc_message.is_empty() && record.trailers.is_empty());
    }
    assert_eq!((trace.tcp_conns.len(), trace.dials.len()), (1, 1));
    drop((client, greetings, answers));
    check::finished(&closed(&sink).await);
}
