//! Calls over tonic's own TLS on traced connections, and over traced TLS in the connector.

use nettrace::connect::TcpConnector;
use nettrace::tls::{Roots, TraceTlsLayer};
use nettrace::tonic::{Channel, connect, connect_lazy, connect_with_connector, connect_with_connector_lazy};
use nettrace::{Failure, TraceSink};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tower::Layer as _;

use crate::greeter::GreeterClient;
use crate::servers::{ReservedPort, RunningServer, assert_linked, closed, greet, link};
use test_support::check;
use test_support::pki::Authority;

fn serve_tls(place: &ReservedPort, authority: &Authority) -> RunningServer {
    let leaf = authority.issue(&["greeter.test"]);
    place.serve_tls(leaf.server())
}

/// Returns an endpoint with tonic's own TLS.
fn tonic_tls(place: &ReservedPort, authority: &Authority) -> Endpoint {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
    let endpoint = Endpoint::from_shared(format!("https://{}", place.addr())).unwrap();
    endpoint.tls_config(tls.domain_name("greeter.test")).unwrap()
}

/// Returns an endpoint without TLS of its own, and a connector with traced TLS.
fn traced_tls(
    sink: &TraceSink,
    place: &ReservedPort,
    authority: &Authority,
) -> (Endpoint, nettrace::tls::TraceTls<TcpConnector>) {
    let roots = Roots::from_pem(authority.pem()).unwrap();
    let tls = TraceTlsLayer::builder(sink).roots(roots).alpn(["h2"]).server_name("greeter.test");
    let endpoint = place.endpoint().origin("https://greeter.test".parse().unwrap());
    (endpoint, tls.always().build().layer(TcpConnector::new(sink)))
}

async fn call_and_restart(sink: &TraceSink, place: &ReservedPort, authority: &Authority, channel: Channel) {
    let mut server = serve_tls(place, authority);
    let client = GreeterClient::new(channel);
    for _ in 0..2 {
        let (mut call, mut port) = greet(&client, "Ada").await;
        while port.is_err() {
            (call, port) = greet(&client, "Ada").await;
        }
        assert_linked(&sink.snapshot(""), &call, port.unwrap());
        drop(server);
        server = serve_tls(place, authority);
    }
}

#[tokio::test]
async fn calls_over_tonics_own_tls_are_linked() {
    let (place, authority, sink) = (ReservedPort::new(), Authority::new("tonic"), TraceSink::new());
    let channel = connect_lazy(&sink, tonic_tls(&place, &authority));
    call_and_restart(&sink, &place, &authority, channel).await;
    let _server = serve_tls(&place, &authority);
    let client = GreeterClient::new(connect(&sink, tonic_tls(&place, &authority)).await.unwrap());
    let (call, port) = greet(&client, "Ada").await;
    let trace = sink.snapshot("");
    let record = assert_linked(&trace, &call, port.unwrap());
    assert_eq!(record.req_url, format!("https://{}/greeter.Greeter/Greet", place.addr()));
    assert!(record.tls_tunnel.is_undefined() && trace.tls_tunnels.is_empty());
    drop(client);
    check::finished(&closed(&sink).await);
}

#[tokio::test]
async fn calls_over_traced_tls_are_linked_to_their_tunnel() {
    let (place, authority, sink) = (ReservedPort::new(), Authority::new("tonic"), TraceSink::new());
    let (endpoint, connector) = traced_tls(&sink, &place, &authority);
    let channel = connect_with_connector_lazy(&sink, endpoint, connector);
    call_and_restart(&sink, &place, &authority, channel).await;
    let _server = serve_tls(&place, &authority);
    let (endpoint, connector) = traced_tls(&sink, &place, &authority);
    let channel = connect_with_connector(&sink, endpoint, connector).await.unwrap();
    let client = GreeterClient::with_origin(channel, "https://greeter.test".parse().unwrap());
    let (call, port) = greet(&client, "Ada").await;
    let trace = sink.snapshot("");
    let record = assert_linked(&trace, &call, port.unwrap());
    assert_eq!(record.req_url, "https://greeter.test/greeter.Greeter/Greet");
    let tunnel = trace.tls_tunnels.get(&record.tls_tunnel).expect("a tunnel");
    assert_eq!((tunnel.negotiated_proto.as_str(), tunnel.server_name.as_str()), ("h2", "greeter.test"));
    assert_eq!((&tunnel.tcp_conn, tunnel.peer_certs.len()), (&record.tcp_conn, 2));
    drop(client);
    check::finished(&closed(&sink).await);
}

#[tokio::test]
async fn an_untrusted_certificate_fails_the_call() {
    let (place, authority, sink) = (ReservedPort::new(), Authority::new("tonic"), TraceSink::new());
    let untrusted = Authority::new("stranger");
    let _server = serve_tls(&place, &untrusted);
    let (endpoint, connector) = traced_tls(&sink, &place, &authority);
    let with_traced_tls = GreeterClient::new(connect_with_connector_lazy(&sink, endpoint, connector));
    let with_tonic_tls = GreeterClient::new(connect_lazy(&sink, tonic_tls(&place, &authority)));
    for (client, is_traced) in [(&with_traced_tls, true), (&with_tonic_tls, false)] {
        let (call, outcome) = greet(client, "Ada").await;
        outcome.expect_err("an untrusted certificate");
        let trace = call.trace();
        let (record, conn) = link(&trace, &call);
        assert_eq!(record.failure, Some(Failure::SslUnknownAuthority), "{}", record.req_error);
        assert_eq!(trace.dials[0].triggered_by, record.trace_id);
        assert!(conn.expect("the connection that was dialled for the call").connected);
        assert_eq!(trace.tls_tunnels.len(), usize::from(is_traced));
        if is_traced {
            assert_eq!(record.tls_tunnel, trace.tls_tunnels[0].trace_id);
            assert_eq!(trace.tls_tunnels[0].peer_certs.len(), 2);
        }
    }
    drop((with_traced_tls, with_tonic_tls));
    check::finished(&closed(&sink).await);
}
