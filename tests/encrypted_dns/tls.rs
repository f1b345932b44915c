//! DNS over TLS.

use super::*;

#[tokio::test]
async fn addresses_are_looked_up_over_one_connection() {
    let fixture = Fixture::new();
    let leaf = fixture.authority.issue(&[NAME]);
    let server = EncryptedDnsServer::tls(&leaf, |query| query.addresses(&["192.0.2.1", "2001:db8::1"])).await;
    let resolver = fixture.resolver([tls(&server)]);
    let mut found = resolver.lookup("web.test").await.unwrap();
    found.sort();
    assert_eq!(found, ips(&["192.0.2.1", "2001:db8::1"]));
    assert_eq!(server.accepted(), 1);

    let trace = fixture.finish();
    println!("{}", serde_json::to_string_pretty(&trace).unwrap());
    assert_eq!((trace.tcp_conns.len(), trace.udp_conns.len(), trace.tls_tunnels.len()), (1, 0, 1));
}
