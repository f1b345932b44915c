//! Connections that get another protocol than others to the same server.

use crate::{assert_nothing, client, quoted, root};
use nettrace::{
    NetTrace, TraceSink,
    client::{ClientBuilder, HttpVersion},
    explain::Severity,
    tls::Roots,
};
use std::{
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};
use test_support::{
    pki::{Authority, serve_tcp},
    wait,
    web::{ReceivedRequest, Web, reply},
};
use tokio::{io::copy_bidirectional, net::TcpStream};

/// What `/slow` takes. The connection of another request takes a part of it.
const SLOW: Duration = Duration::from_millis(400);

/// Makes a request with one client, and two at the same time with another. A load balancer gives the first connection to
/// a server that takes these protocols, and the later ones to another.
async fn balanced(protocols: [&[&str]; 2], configure: impl Fn(ClientBuilder) -> ClientBuilder) -> NetTrace {
    let (sink, authority) = (TraceSink::new(), Authority::new("nettrace test CA"));
    let servers = protocols.map(|protocols| {
        let mut config = authority.issue(&["127.0.0.1"]).server();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Web::tls(config, async |request: ReceivedRequest| {
            if request.path() == "/slow" {
                tokio::time::sleep(SLOW).await;
            }
            reply("hello")
        })
    });
    let addrs = servers.each_ref().map(Web::addr);
    let count = Arc::new(AtomicUsize::new(0));
    let balancer = serve_tcp(move |mut stream| {
        let index = count.fetch_add(1, Relaxed);
        async move {
            if index > 1 {
                tokio::time::sleep(SLOW / 8).await; // so that a connection is a large part of a request
            }
            let mut server = TcpStream::connect(addrs[index.min(1)]).await.unwrap();
            _ = copy_bidirectional(&mut stream, &mut server).await;
        }
    })
    .await;
    let roots = || Roots::from_pem(authority.pem()).unwrap();
    let url = |path: &str| format!("https://{balancer}{path}");
    let first = client(&sink).roots(roots()).build().unwrap();
    first.get(url("/")).await.unwrap().into_body().bytes().await.unwrap();
    let later = configure(client(&sink).roots(roots())).build().unwrap();
    let is_sent = || {
        let trace = sink.snapshot("");
        trace.http_requests.iter().filter(|request| !request.conn_acquired_at.is_undefined()).count() == 2
    };
    tokio::join!(
        async { _ = later.get(url("/slow")).await.unwrap().into_body().bytes().await.unwrap() },
        async {
            wait::until("the slow request is sent", is_sent).await;
            later.get(url("/quick")).await.unwrap().into_body().bytes().await.unwrap();
        },
    );
    first.close().await;
    later.close().await;
    sink.snapshot("")
}

const BOTH: &[&str] = &["h2", "http/1.1"];

#[tokio::test]
async fn a_server_behind_the_same_address_that_lacks_http2() {
    for (lacking, chosen) in [(&["http/1.1"][..], "http/1.1"), (&[], "no protocol")] {
        let trace = balanced([BOTH, lacking], |builder| builder).await;
        let root = root(&trace, "tls_alpn_fallback");
        assert_eq!(root.severity, Severity::Degraded);
        let values = root.evidence.iter().filter(|evidence| evidence.field == "negotiatedProto");
        assert_eq!(values.map(|evidence| evidence.value.as_str()).collect::<Vec<_>>(), [chosen, "h2"]);
        assert_eq!(quoted(&root, "offeredHttp2"), "true");
        let holder = root.evidence.iter().find(|evidence| evidence.field == "connAcquiredAt").unwrap();
        assert_eq!(holder.record, trace.http_requests[1].trace_id);
    }
}

/// A server that never speaks HTTP/2, one that always does, and a client that did not offer it.
#[tokio::test]
async fn what_both_sides_want_is_healthy() {
    assert_nothing(&balanced([&["http/1.1"], &["http/1.1"]], |builder| builder).await);
    assert_nothing(&balanced([BOTH, BOTH], |builder| builder).await);
    let trace = balanced([BOTH, BOTH], |builder| builder.http_version(HttpVersion::Http1Only)).await;
    let offered: Vec<_> = trace.tls_tunnels.iter().map(|tunnel| tunnel.offered_http2).collect();
    assert_eq!(offered, [true, false, false]);
    assert_nothing(&trace);
}
