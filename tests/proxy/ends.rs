//! Records of requests through a proxy end exactly once, also when they are dropped.

use crate::{Site, client, finished, proxy, story};
use futures_util::poll;
use nettrace::{
    Failure, NetTrace, TraceSink,
    record::{EndReason, Timestamp},
};
use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};
use test_support::{
    check,
    proxies::{microsocks, squid, tinyproxy},
    raw::Server,
    require::require_tool,
};

const LIMIT: Duration = Duration::from_secs(30);

/// A proxy that listens, and never answers; the scheme of its URL, and how much it is told.
const SILENT: [(&str, usize); 2] = [("http", 16), ("socks5h", 3)];

fn silent(length: usize) -> Server {
    Server::start(async move |mut conn| {
        conn.read(length).await?;
        conn.hang().await
    })
}

/// How the exchange with the proxy ended.
fn exchange(trace: &NetTrace) -> (Option<EndReason>, Option<Failure>) {
    match story(trace).connect {
        Some(connect) => (connect.end_reason.clone(), connect.failure.clone()),
        None => {
            let socks = trace.tcp_conns[0].socks.as_deref().expect("a handshake");
            (socks.end_reason.clone(), socks.failure.clone())
        }
    }
}

/// Runs the request until the proxy was told what it waits for.
async fn until_told<F: Future>(server: &Server, length: usize, mut response: std::pin::Pin<&mut F>) {
    while server.seen().first().is_none_or(|seen| seen.received.len() < length) {
        assert!(poll!(response.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn with_the_limit_of_the_handshake() {
    for (scheme, length) in SILENT {
        let server = silent(length);
        let (client, sink) = client(proxy(&format!("{scheme}://{}", server.addr())), |builder| {
            builder.proxy_handshake_timeout(LIMIT)
        });
        let mut response = pin!(client.get("https://web.test/"));
        until_told(&server, length, response.as_mut()).await;
        tokio::time::pause();
        let begin = tokio::time::Instant::now();
        let error = response.await.unwrap_err();
        let took = begin.elapsed();
        assert!(took > LIMIT / 2 && took <= LIMIT + Duration::from_secs(1), "{took:?}");
        tokio::time::resume();
        assert!(
            error.is_timeout() && error.to_string().ends_with("did not connect to web.test:443 within 30s"),
            "{error}"
        );
        let trace = finished(&client, &sink).await;
        assert_eq!(exchange(&trace), (Some(EndReason::Timeout), Some(Failure::GenericTimeoutError)));
        assert_eq!(story(&trace).request.end_reason, Some(EndReason::Timeout));
    }
}

#[tokio::test]
async fn with_the_limit_of_the_request() {
    for (scheme, length) in SILENT {
        let server = silent(length);
        let (client, sink) =
            client(proxy(&format!("{scheme}://{}", server.addr())), |builder| builder.timeout(LIMIT));
        let mut response = pin!(client.get("https://web.test/"));
        until_told(&server, length, response.as_mut()).await;
        tokio::time::pause();
        let error = response.as_mut().await.unwrap_err();
        tokio::time::resume();
        assert_eq!(error.timed_out().unwrap().limit(), LIMIT);
        let trace = finished(&client, &sink).await;
        assert_eq!(exchange(&trace), (Some(EndReason::Cancelled), Some(Failure::Interrupted)));
        let story = story(&trace);
        assert_eq!(story.request.end_reason, Some(EndReason::Timeout));
        assert_eq!(story.conn().end_reason, Some(EndReason::Closed));
        // It shows where it was stuck.
        let timings = story.request.timings(&trace);
        assert!(timings.proxy.is_some(), "{timings}");
        assert_eq!(story.request.tcp_conn, trace.tcp_conns[0].trace_id);
    }
}

#[tokio::test]
async fn with_the_request() {
    for (scheme, length) in SILENT {
        let server = silent(length);
        let (client, sink) = client(proxy(&format!("{scheme}://{}", server.addr())), |builder| builder);
        {
            let mut response = pin!(client.get("https://web.test/"));
            until_told(&server, length, response.as_mut()).await;
            let trace = sink.snapshot("under way");
            check::running(&trace);
            assert_eq!(exchange(&trace), (None, None));
        }
        let trace = finished(&client, &sink).await;
        assert_eq!(exchange(&trace), (Some(EndReason::Cancelled), Some(Failure::Interrupted)));
        assert_eq!(story(&trace).request.end_reason, Some(EndReason::Cancelled));
    }
}

/// Whatever it waits for when it is given up.
#[tokio::test]
async fn at_every_step() {
    require_tool!("squid", "microsocks");
    let site = Site::new();
    let (web, socks) = (site.web(&["h2"]), microsocks(true));
    let https = squid(Some((&site.leaf.pem, &site.leaf.key_pem())));
    let url = format!("https://localhost:{}/", web.addr().port());
    for proxies in [https.url_with_login("https"), socks.url_with_login("socks5")] {
        let mut steps = 0;
        loop {
            let (client, sink) = client(proxy(&proxies), |builder| builder.roots(site.roots()));
            let mut left = steps;
            let mut response = Box::pin(client.get(&url));
            let answer = poll_fn(|cx| match response.as_mut().poll(cx) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending if left == 0 => Poll::Ready(None),
                Poll::Pending => {
                    left -= 1;
                    Poll::Pending
                }
            });
            let answer = answer.await;
            drop(response);
            if let Some(answer) = answer {
                assert_eq!(answer.unwrap().status(), 200);
                finished(&client, &sink).await;
                break;
            }
            let trace = finished(&client, &sink).await;
            assert_eq!(story(&trace).request.end_reason, Some(EndReason::Cancelled), "{steps}");
            steps += 1;
        }
        assert!(steps > 4, "{steps}");
    }
}

#[tokio::test]
async fn with_the_client() {
    for (scheme, length) in SILENT {
        let server = silent(length);
        let (client, sink) = client(proxy(&format!("{scheme}://{}", server.addr())), |builder| builder);
        let mut response = pin!(client.get("https://web.test/"));
        until_told(&server, length, response.as_mut()).await;
        let (answer, ()) = tokio::join!(response, client.close());
        assert!(answer.unwrap_err().is_closed());
        let trace = finished(&client, &sink).await;
        assert_eq!(exchange(&trace).0, Some(EndReason::Cancelled));
    }
}

#[tokio::test]
async fn with_the_sink() {
    for (scheme, length) in SILENT {
        let server = silent(length);
        let (client, sink) = client(proxy(&format!("{scheme}://{}", server.addr())), |builder| builder);
        let mut response = pin!(client.get("https://web.test/"));
        until_told(&server, length, response.as_mut()).await;
        sink.close();
        let trace = sink.snapshot("closed");
        check::finished(&trace);
        assert_eq!(exchange(&trace), (Some(EndReason::SinkClosed), None));
        drop(server);
        assert!(response.await.is_err());
        assert_eq!(sink.snapshot("closed").http_requests, trace.http_requests);
    }
}

/// After `clear` the open connection is in the trace again, without its CONNECT.
#[tokio::test]
async fn cleared_away() {
    require_tool!("tinyproxy");
    let (site, server) = (Site::new(), tinyproxy(""));
    let web = site.web(&[]);
    let (client, sink) = client(proxy(&server.url("http")), |builder| builder.roots(site.roots()));
    let url = format!("https://localhost:{}/", web.addr().port());
    crate::get(&client, &url).await.unwrap();
    sink.clear();
    crate::get(&client, &url).await.unwrap();
    let trace = finished(&client, &sink).await;
    let story = story(&trace);
    assert!(story.conn().reused && story.connect.is_none());
    assert_eq!(story.request.network_proxy, server.url("http"));
    assert!(trace.dials[0].triggered_by.is_undefined());
    assert!(story.tunnel.is_some());
}

/// A CONNECT is kept as long as the request that needed it.
#[tokio::test]
async fn kept_within_bounds() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await?;
        conn.close().await
    });
    let retention = nettrace::Retention::bounded().requests(64);
    let sink = TraceSink::builder().retention(retention).build();
    let proxy = proxy(&format!("http://{}", server.addr()));
    let client = nettrace::Client::builder(&sink).proxy(proxy).build().unwrap();
    for _ in 0..201 {
        let error = client.get("https://web.test/").await.unwrap_err();
        assert_eq!(story(&error.request().trace()).connect().resp_status_code, 403);
    }
    let trace = finished(&client, &sink).await;
    let dropped = trace.dropped.as_ref().expect("some").http_requests;
    assert_eq!(dropped + trace.http_requests.len() as u64, 402);
    assert!(trace.http_requests.len() < 64 + 3 * 32, "{}", trace.http_requests.len());
    let orphans =
        trace.http_requests.iter().filter(|r| r.req_method == "CONNECT" && r.triggered_by.is_undefined());
    assert!(orphans.count() <= 32);
    let ended = |at: &Timestamp| !at.is_undefined();
    assert!(trace.http_requests.iter().all(|request| ended(&request.end_at)));
}
