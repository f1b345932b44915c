//! The four kinds of calls.

use futures_util::stream;
use nettrace::record::EndReason;
use nettrace::tonic::connect;
use nettrace::{ResponseExt as _, TraceSink};

use crate::greeter::{GreeterClient, Name};
use crate::servers::{ReservedPort, assert_linked, call, closed};
use test_support::check;

/// The length of the prefix of each message: a flag and the message's length.
const PREFIX: u64 = 5;

fn names() -> impl futures_util::Stream<Item = Name> + Send + 'static {
    stream::iter(["Ada", "Grace"].map(Name::of))
}

#[tokio::test]
async fn of_all_kinds() {
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
    let mut heard = 0;
    while let Some(greeting) = greetings.message().await.unwrap() {
        heard += 1;
        assert_eq!(greeting.text, format!("hello for time {heard}"));
    }

    let (both, request) = call(names());
    let mut answers = client.chat(request).await.unwrap().into_inner();
    for name in ["Ada", "Grace"] {
        assert_eq!(answers.message().await.unwrap().unwrap().text, format!("hello {name}"));
    }
    assert!(answers.message().await.unwrap().is_none());

    let trace = sink.snapshot("");
    let name = |name: &Name| PREFIX + 2 + name.name.len() as u64 + 2; // text, and a small number
    let of = |text: &str| PREFIX + 2 + text.len() as u64 + 4; // text, and a port
    for (call, path, sent, received) in [
        (&unary, "Greet", name(&Name::of("Ada")), of("hello Ada")),
        (&client_side, "GreetAll", 2 * name(&Name::of("Ada")) + 2, of("hello Ada, Grace")),
        (&server_side, "Repeat", name(&Name::of("Ada")), 3 * of("hello for time 1")),
        (&both, "Chat", 2 * name(&Name::of("Ada")) + 2, of("hello Ada") + of("hello Grace")),
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
