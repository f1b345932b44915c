//! The spans of requests that a client makes.

use crate::{client, decoded::SpanExt as _, exported, trace_of};
use nettrace::tls::Roots;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use test_support::{
    dns::DnsServer,
    pki::Authority,
    raw::{Refused, Server},
    wait,
    web::{Web, redirect, reply, status},
};

#[tokio::test]
async fn a_request_over_https_has_attributes_times_and_a_connection_setup() {
    let authority = Authority::new("test CA");
    let web = Web::tls(authority.issue(&["web.test"]).server(), async |_| reply("hello"));
    let nameserver = DnsServer::answering(&["127.0.0.1"]).await;
    let (client, sink) = client(|builder| {
        builder.nameservers([nameserver.addr()]).roots(Roots::from_pem(authority.pem()).unwrap())
    });
    let port = web.addr().port();
    let url = format!("https://web.test:{port}/path?query");
    let trace = trace_of(&sink, &client, &[&url]).await;
    let record = &trace.http_requests[0];

    let spans = exported(&trace);
    let request = spans.only("GET");
    request.assert_times(&trace, record.req_sent_at, record.end_at);
    assert_eq!(request.kind, SpanKind::Client as i32);
    for (key, text) in [
        ("nettrace.id", record.trace_id.as_str()),
        ("http.request.method", "GET"),
        ("url.full", &url),
        ("server.address", "web.test"),
        ("network.peer.address", "127.0.0.1"),
        ("network.protocol.name", "http"),
        ("network.protocol.version", if record.proto_major == 2 { "2" } else { "1.1" }),
        ("error.type", ""),
    ] {
        assert_eq!(request.text(key), text, "{key}");
    }
    let port = Some(i64::from(port));
    assert_eq!((request.number("server.port"), request.number("network.peer.port")), (port, port));
    assert_eq!(request.number("http.response.status_code"), Some(200));
    assert_eq!(request.number("http.response.body.size"), Some(5));
    assert_eq!(request.number("http.request.resend_count"), None);
    assert!(request.status.is_none() && request.is_root() && request.events.is_empty(), "{request:?}");

    let setup = spans.only(&format!("HTTP connection_setup web.test:{}", web.addr().port()));
    assert!(request.links_to(setup) && request.links.len() == 1, "{:?}", request.links);
    assert!(setup.is_root() && setup.trace_id != request.trace_id);
    let (dial, conn, tunnel) =
        (&trace.dials[0], trace.tcp_conns.get(&record.tcp_conn).unwrap(), &trace.tls_tunnels[0]);
    setup.assert_times(&trace, dial.dial_begin_at, tunnel.handshake_end_at);
    assert_eq!((setup.text("server.address"), setup.text("url.scheme")), ("web.test".into(), "https".into()));
    assert_eq!(setup.text("network.peer.address"), "127.0.0.1");

    let lookup = spans.only("DNS lookup web.test");
    lookup.assert_times(&trace, dial.resolve_begin_at, dial.resolve_end_at);
    assert_eq!(
        (lookup.text("dns.question.name"), lookup.text("dns.answers")),
        ("web.test".into(), "127.0.0.1".into())
    );
    let attempt = spans.only(&format!("socket connect 127.0.0.1:{}", web.addr().port()));
    attempt.assert_times(&trace, conn.handshake_begin_at, conn.handshake_end_at);
    let handshake = spans.only("TLS client handshake web.test");
    handshake.assert_times(&trace, tunnel.handshake_begin_at, tunnel.handshake_end_at);
    assert_eq!(
        (handshake.text("tls.protocol.name"), handshake.text("tls.protocol.version")),
        ("tls".into(), "1.3".into())
    );
    assert_eq!(spans.children_of(setup), [lookup, attempt, handshake]);

    let wait = spans.only(&format!("HTTP wait_for_connection web.test:{}", web.addr().port()));
    wait.assert_times(&trace, record.req_sent_at, record.conn_acquired_at);
    assert_eq!(spans.children_of(request), [wait]);
    assert_eq!((wait.trace_id == request.trace_id, spans.spans.len()), (true, 6));
}

#[tokio::test]
async fn a_request_on_a_reused_connection_links_to_the_setup_that_an_earlier_one_caused() {
    let web = Web::start(async |_| reply("hello"));
    let (client, sink) = client(|builder| builder);
    let trace = trace_of(&sink, &client, &[&web.url("/"), &web.url("/")]).await;
    let spans = exported(&trace);
    let [first, second] = &trace.http_requests[..] else { panic!("{trace:?}") };
    let (first, second) = (spans.request(&first.trace_id), spans.request(&second.trace_id));
    let setup = spans.only(&format!("HTTP connection_setup {}", web.addr()));
    assert!(first.links_to(setup) && second.links_to(setup));
    assert_ne!(first.trace_id, second.trace_id);
    assert!(spans.children_of(second).is_empty(), "it did not have to wait for a connection");
    assert_eq!(spans.children_of(first).len(), 1);
}

#[tokio::test]
async fn a_failed_request_has_the_code_of_its_failure() {
    let refused = Refused::on("127.0.0.1:0");
    let (client, sink) = client(|builder| builder);
    let trace = trace_of(&sink, &client, &[&format!("http://{}/", refused.addr)]).await;
    let spans = exported(&trace);
    let request = spans.only("GET");
    assert!(request.is_error() && request.text("error.type") == "connection_refused", "{request:?}");
    assert_eq!(request.status.as_ref().unwrap().message, trace.http_requests[0].req_error.as_str());
    assert_eq!(request.number("http.response.status_code"), None);
    let setup = spans.only(&format!("HTTP connection_setup {}", refused.addr));
    let attempt = spans.only(&format!("socket connect {}", refused.addr));
    let wait = spans.only(&format!("HTTP wait_for_connection {}", refused.addr));
    for span in [setup, attempt, wait] {
        assert!(span.is_error() && span.text("error.type") == "connection_refused", "{span:?}");
    }
    assert!(request.links_to(setup), "also to a setup that failed");
    wait.assert_times(&trace, trace.http_requests[0].req_sent_at, trace.http_requests[0].end_at);

    let [event] = &request.events[..] else { panic!("{request:?}") };
    let text = |key: &str| match crate::decoded::value(&event.attributes, key) {
        Some(opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue(text)) => text.as_str(),
        other => panic!("{key}: {other:?}"),
    };
    assert_eq!((event.name.as_str(), text("nettrace.finding.code")), ("nettrace.finding", "tcp_refused"));
    assert_eq!(text("nettrace.finding.severity"), "failure");
    assert!(text("nettrace.finding.sentence").contains("refused the connection"), "{event:?}");
    let evidence = trace.trace_begin_at.add(trace.tcp_conns[0].handshake_end_at).unix_nanos();
    assert_eq!(Some(i128::from(event.time_unix_nano)), evidence);
}

#[tokio::test]
async fn statuses_of_4xx_and_5xx_are_errors_of_a_client() {
    let web = Web::start(async |request| status(request.path()[1..].parse().unwrap()));
    let (client, sink) = client(|builder| builder);
    let urls = ["/204", "/404", "/503"].map(|path| web.url(path));
    let trace = trace_of(&sink, &client, &urls.each_ref().map(String::as_str)).await;
    let spans = exported(&trace);
    let outcomes = spans.named("GET").into_iter().map(|span| (span.is_error(), span.text("error.type")));
    let expected = [(false, ""), (true, "404"), (true, "503")];
    assert!(outcomes.eq(expected.map(|(is_error, kind)| (is_error, kind.to_owned()))), "{spans:?}");
}

#[tokio::test]
async fn hops_of_a_redirect_have_one_trace_and_are_counted() {
    let web = Web::start(async |request| match request.path() {
        "/a" => redirect(302, "/b"),
        "/b" => redirect(307, "/c"),
        _ => reply("done"),
    });
    let (client, sink) = client(|builder| builder);
    let trace = trace_of(&sink, &client, &[&web.url("/a")]).await;
    let spans = exported(&trace);
    let hops = spans.named("GET");
    let counts: Vec<_> = hops.iter().map(|hop| hop.number("http.request.resend_count")).collect();
    assert_eq!(counts, [None, Some(1), Some(2)]);
    assert!(hops.iter().all(|hop| hop.trace_id == hops[0].trace_id && hop.is_root()));
    assert_eq!(hops[2].text("url.full"), web.url("/c"));
}

#[tokio::test]
async fn a_request_that_was_dropped_before_its_response_is_an_error() {
    let silent = Server::start(async |conn| conn.hang().await);
    let (client, sink) = client(|builder| builder);
    let mut response = Box::pin(client.get(format!("http://{}/", silent.addr())));
    let is_connected = || !silent.seen().is_empty();
    wait::polling_until("the connection", response.as_mut(), is_connected).await;
    assert!(exported(&sink.snapshot("")).named("GET").is_empty(), "what is running has no span");
    drop(response);
    client.close().await;
    let spans = exported(&sink.snapshot(""));
    let request = spans.only("GET");
    assert!(request.is_error() && request.text("error.type") == "interrupted", "{request:?}");
    assert_eq!(request.text("nettrace.end_reason"), "cancelled");
}
