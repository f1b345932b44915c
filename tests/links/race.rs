//! Requests that use another connection than the one dialled for them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioIo};
use nettrace::connect::TraceConnectLayer;
use nettrace::record::EndReason;
use nettrace::request::{TraceBody, TraceRequestLayer};
use nettrace::{Failure, TraceSink};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tower::{Layer as _, service_fn};

use crate::clients::{Traced, assert_linked, assert_resolves, clients, link, traced};
use test_support::raw::Server;
use test_support::wait;
use test_support::web::{ReceivedRequest, Web, reply};

/// Returns a client whose dials, except the first, wait for a permit.
fn slow_to_dial(capture: bool) -> (Traced, Arc<Semaphore>) {
    let (sink, permits, dials) =
        (TraceSink::new(), Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let gate = permits.clone();
    let connector = service_fn(move |uri: Uri| {
        let (gate, is_first) = (gate.clone(), dials.fetch_add(1, Relaxed) == 0);
        Box::pin(async move {
            if !is_first {
                gate.acquire().await.expect("never closed").forget();
            }
            let stream = TcpStream::connect(uri.authority().expect("an authority").as_str()).await?;
            Ok::<_, io::Error>(TokioIo::new(stream))
        })
    });
    let connector = TraceConnectLayer::new(&sink).layer(connector);
    let client: legacy::Client<_, TraceBody<Full<Bytes>>> =
        legacy::Client::builder(TokioExecutor::new()).build(connector);
    let client = TraceRequestLayer::new(&sink).capture_connection(capture).layer(client);
    (traced("slow to dial", &sink, client), permits)
}

#[tokio::test]
async fn a_dial_begun_for_one_request_serves_another() {
    for capture in [false, true] {
        let answers = Arc::new(Semaphore::new(0));
        let gate = answers.clone();
        let web = Web::start(async move |request: ReceivedRequest| {
            if request.path() == "/wait" {
                gate.acquire().await.expect("never closed").forget();
            }
            reply("hello")
        });
        let (client, dials) = slow_to_dial(capture);
        let (wait, quick) = (web.url("/wait"), web.url("/quick"));
        // The first request holds the only connection; the dial of the second cannot complete yet.
        let first = client.fetch(&wait);
        let second = async {
            wait::until("the first request", || !web.requests().is_empty()).await;
            let mut second = std::pin::pin!(client.fetch(&quick));
            assert!(futures_util::poll!(second.as_mut()).is_pending());
            assert_eq!(client.sink.snapshot("").dials.len(), 2);
            answers.add_permits(1);
            second.await
        };
        let (first, second) = tokio::join!(first, second);
        assert_eq!(first.1, second.1, "the second request uses the connection of the first");
        // The second dial completes in the background, and its connection is used by later requests.
        dials.add_permits(1);
        wait::until("the second connection", || client.sink.snapshot("").tcp_conns.len() == 2).await;
        let (third, fourth) = tokio::join!(client.fetch(&quick), client.fetch(&quick));
        assert_ne!(third.1, fourth.1);

        let trace = client.sink.snapshot("");
        assert_eq!((trace.dials.len(), trace.tcp_conns.len()), (2, 2));
        for (request, port) in [&first, &second, &third, &fourth] {
            assert_linked(&trace, request, *port);
        }
        assert_eq!(trace.dials[0].triggered_by, first.0.id());
        assert_eq!(trace.dials[1].triggered_by, second.0.id());
        let timings = second.0.timings().unwrap();
        assert_eq!(timings.connect, None, "it did not use its dial: {timings}");
        let ctx_closed_at = trace.dials[1].ctx_close_at;
        assert_eq!(
            ctx_closed_at,
            link(&trace, &second.0).0.end_at,
            "the second request releases its dial when it ends"
        );
    }
}

/// Starts a server that answers one request on each connection, and ends the first once `close` has a permit.
fn closing_server(reset: bool, close: Arc<Semaphore>) -> Server {
    Server::start(async move |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await?;
        if conn.index > 0 {
            return conn.read_to_end().await;
        }
        close.acquire().await.expect("never closed").forget();
        if reset { conn.reset() } else { conn.close().await }
    })
}

#[tokio::test]
async fn a_retry_after_a_stale_connection_is_linked_to_the_new_one() {
    for (reset, failure) in [(false, Failure::EofError), (true, Failure::ConnectionReset)] {
        for client in clients(false) {
            let close = Arc::new(Semaphore::new(0));
            let server = closing_server(reset, close.clone());
            let url = format!("http://{}/", server.addr());
            client.fetch(&url).await;
            // Lets the connection return to the pool. Then this thread blocks, so the pool does not notice the close.
            wait::settle().await;
            close.add_permits(1);
            std::thread::scope(|scope| scope.spawn(|| server.ended_blocking(1)).join().unwrap());
            // The runtime learns of the close now, but runs this task before the connection's.
            tokio::task::yield_now().await;
            let (request, _) = client.fetch(&url).await;

            let trace = client.sink.snapshot("");
            let seen = server.accepted(2).await;
            let conn = assert_linked(&trace, &request, seen[1].peer.port());
            let record = link(&trace, &request).0;
            assert_eq!((record.failure.as_ref(), record.resp_status_code), (None, 200), "{}", client.name);
            if !client.captures() {
                assert!(record.attempts.is_empty());
                continue;
            }
            let [stale, last] = &record.attempts[..] else {
                panic!("{}: {:?}", client.name, record.attempts)
            };
            assert_eq!((&last.tcp_conn, &last.failure), (&conn.trace_id, &None));
            assert_eq!(stale.failure, Some(failure.clone()), "{}", client.name);
            let stale = trace.tcp_conns.get(&stale.tcp_conn).unwrap();
            assert_eq!(stale.addr_tuple.src_port, seen[0].peer.port());
            let ended = if reset { EndReason::Failed } else { EndReason::PeerClosed };
            assert_eq!(stale.end_reason, Some(ended), "{}", client.name);
            assert_resolves(&request.trace());
            assert_eq!(request.trace().tcp_conns.len(), 2);
        }
    }
}
