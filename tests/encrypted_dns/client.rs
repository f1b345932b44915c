//! Requests of the client whose names are looked up over TLS and HTTPS.

use super::*;
use nettrace::{ResponseExt, client::Client};
use test_support::web::{Web, reply};

#[tokio::test]
async fn a_request_is_linked_with_what_carried_its_lookup() {
    for scheme in ["tls", "https"] {
        let fixture = Fixture::new();
        let leaf = fixture.authority.issue(&["127.0.0.1"]);
        let answer = |query: &ReceivedQuery| query.addresses(&["127.0.0.1"]);
        let (server, path) = match scheme {
            "tls" => (EncryptedDnsServer::tls(&leaf, answer).await, ""),
            _ => (EncryptedDnsServer::https(&leaf, answer).await, "/dns-query"),
        };
        let nameserver: Nameserver = format!("{scheme}://{}{path}", server.addr()).parse().unwrap();
        let web = Web::start(async |_| reply("hello"));
        let roots = Roots::from_pem(fixture.authority.pem()).unwrap();
        let client = Client::builder(&fixture.sink).roots(roots).nameservers([nameserver.clone()]);
        let client = client.build().unwrap();
        let mut slices = Vec::new();
        for host in ["one.test", "two.test"] {
            let url = format!("http://{host}:{}/", web.addr().port());
            let response = client.get(&url).await.unwrap();
            let handle = response.request_handle().unwrap().clone();
            http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
            slices.push((handle.id(), handle.trace()));
        }
        assert_eq!(server.accepted(), 1);
        client.close().await;
        let trace = fixture.sink.snapshot("all");
        check::finished(&trace); // the nameserver's connection is closed, too
        let drawn = nettrace::view::waterfall(&trace).width(150).to_string();
        let waited = drawn.lines().filter(|line| line.trim_start().starts_with("dial  "));
        let waited: Vec<_> = waited.filter(|line| line.contains(&nameserver.to_string())).collect();
        assert_eq!(waited.len(), 1, "only the first lookup waited for the connection: {drawn}");
        for (id, slice) in slices {
            check::running(&slice);
            let dial = slice.dials.iter().find(|dial| dial.triggered_by == id).unwrap();
            assert_eq!(dial.resolver_dials.len(), if id == trace.http_requests[0].trace_id { 2 } else { 0 });
            for attempt in &dial.resolver_dials {
                assert_eq!(attempt.nameserver, nameserver.to_string());
                assert!(slice.dials.get(&attempt.shared_dial).is_some());
            }
            let queries: Vec<_> =
                slice.dns_queries.iter().filter(|query| query.from_dial == dial.trace_id).collect();
            assert_eq!(queries.len(), 2);
            for query in &queries {
                let conn = slice.tcp_conns.get(&query.connection).unwrap();
                assert_eq!(slice.dials.get(&conn.from_dial).unwrap().dst_address, server.addr().to_string());
                assert!(slice.tls_tunnels.iter().any(|tunnel| tunnel.tcp_conn == conn.trace_id));
                assert_eq!(query.http_req.is_undefined(), scheme == "tls");
            }
            assert_eq!(slice.http_requests.len(), if scheme == "tls" { 1 } else { 3 });
            // The same from the trace of everything.
            let ids = |trace: &NetTrace| {
                let mut ids: Vec<_> =
                    trace.dns_queries.iter().map(|record| record.trace_id.clone()).collect();
                ids.extend(trace.http_requests.iter().map(|record| record.trace_id.clone()));
                ids.extend(trace.dials.iter().map(|record| record.trace_id.clone()));
                ids.extend(trace.tcp_conns.iter().map(|record| record.trace_id.clone()));
                ids.extend(trace.tls_tunnels.iter().map(|record| record.trace_id.clone()));
                ids
            };
            assert_eq!(ids(&trace.slice(&id)), ids(&slice));
            let timings = trace.http_requests.get(&id).unwrap().timings(&slice);
            assert!(timings.tls.is_none(), "the handshake with the nameserver is none of the request");
        }
    }
}

#[tokio::test]
async fn certificates_of_nameservers_are_verified_in_any_case() {
    let fixture = Fixture::new();
    let leaf = Authority::new("unknown").issue(&["127.0.0.1"]);
    let server = EncryptedDnsServer::tls(&leaf, |query| query.addresses(&["127.0.0.1"])).await;
    let nameserver: Nameserver = format!("tls://{}", server.addr()).parse().unwrap();
    let roots = Roots::from_pem(fixture.authority.pem()).unwrap();
    let client = Client::builder(&fixture.sink).roots(roots).nameservers([nameserver]);
    let client = client.danger_accept_invalid_certs(true).build().unwrap();
    let error = client.get("https://web.test/").await.unwrap_err();
    assert_eq!(error.failure(), Failure::SslUnknownAuthority);
    assert!(server.queries().is_empty());
    client.close().await;
    fixture.finish();
}

#[tokio::test]
async fn a_lookup_that_failed_explains_the_request() {
    let fixture = Fixture::new();
    let server = tls_server(&fixture, |query| query.addresses(&["127.0.0.1"])).await;
    let other: Nameserver = format!("tls://{}#other.test", server.addr()).parse().unwrap();
    let client = Client::builder(&fixture.sink).resolver(fixture.resolver([other])).build().unwrap();
    let error = client.get("http://web.test/").await.unwrap_err();
    assert_eq!(error.failure(), Failure::SslInvalidHostname);
    client.close().await;
    let trace = fixture.finish();
    let request = &trace.http_requests[0];
    assert_eq!(request.failure, Some(Failure::SslInvalidHostname));
    assert!(request.tcp_conn.is_undefined() && request.tls_tunnel.is_undefined());
    let dial = trace.dials.iter().find(|dial| dial.triggered_by == request.trace_id).unwrap();
    assert_eq!(dial.failure, Some(Failure::SslInvalidHostname));
    assert!(dial.resolver_dials.iter().all(|dial| dial.failure == Some(Failure::SslInvalidHostname)));
    assert_eq!(trace.slice(&request.trace_id).tls_tunnels.len(), 1);
}
