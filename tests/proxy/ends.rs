//! Records of requests through a proxy end exactly once, even if the request is dropped.

use crate::{Site, client, finished, proxy, story};
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
    wait,
};

const LIMIT: Duration = Duration::from_secs(30);

/// Proxies that never answer: the scheme of the URL, and the number of bytes that the proxy receives.
const SILENT_PROXIES: [(&str, usize); 2] = [("http", 16), ("socks5h", 3)];

/// Starts a proxy that reads `length` bytes and never answers.
fn silent_proxy(length: usize) -> Server {
    Server::start(async move |mut conn| {
        conn.read(length).await?;
        conn.hang().await
    })
}

/// Returns the end and the failure of the CONNECT or of the SOCKS handshake.
fn handshake_end(trace: &NetTrace) -> (Option<EndReason>, Option<Failure>) {
    match story(trace).connect {
        Some(connect) => (connect.end_reason.clone(), connect.failure.clone()),
        None => {
            let socks = trace.tcp_conns[0].socks.as_deref().expect("a handshake");
            (socks.end_reason.clone(), socks.failure.clone())
        }
    }
}

/// Polls the request until the proxy has received `length` bytes.
async fn poll_until_received<F: Future>(server: &Server, length: usize, response: std::pin::Pin<&mut F>) {
    let is_received = || server.seen().first().is_some_and(|seen| seen.received.len() >= length);
    wait::polling_until(format!("{length} bytes"), response, is_received).await;
}

#[tokio::test]
async fn the_handshake_timeout_ends_the_handshake() {
    for (scheme, length) in SILENT_PROXIES {
        let server = silent_proxy(length);
        let (client, sink) = client(proxy(&format!("{scheme}://{}", server.addr())), |builder| {
            builder.proxy_handshake_timeout(LIMIT)
        });
        let mut response = pin!(client.get("https://web.test/"));
        poll_until_received(&server, length, response.as_mut()).await;
        tokio::time::pause();
        let begin = tokio::time::Instant::now();
        let error = response.await.unwrap_err();
        let elapsed = begin.elapsed();
        assert!(elapsed > LIMIT / 2 && elapsed <= LIMIT + Duration::from_secs(1), "{elapsed:?}");
        tokio::time::resume();
        assert!(
            error.is_timeout() && error.to_string().ends_with("did not connect to web.test:443 within 30s"),
            "{error}"
        );
        let trace = finished(&client, &sink).await;
        assert_eq!(handshake_end(&trace), (Some(EndReason::Timeout), Some(Failure::GenericTimeoutError)));
        assert_eq!(story(&trace).request.end_reason, Some(EndReason::Timeout));
    }
}

#[tokio::test]
async fn the_request_timeout_cancels_the_handshake() {
    for (scheme, length) in SILENT_PROXIES {
        let server = silent_proxy(length);
        let (client, sink) =
            client(proxy(&format!("{scheme}://{}", server.addr())), |builder| builder.timeout(LIMIT));
        let mut response = pin!(client.get("https://web.test/"));
        poll_until_received(&server, length, response.as_mut()).await;
        tokio::time::pause();
        let error = response.as_mut().await.unwrap_err();
        tokio::time::resume();
        assert_eq!(error.timed_out().unwrap().limit(), LIMIT);
        let trace = finished(&client, &sink).await;
        assert_eq!(handshake_end(&trace), (Some(EndReason::Cancelled), Some(Failure::Interrupted)));
        let story = story(&trace);
        assert_eq!(story.request.end_reason, Some(EndReason::Timeout));
        assert_eq!(story.conn().end_reason, Some(EndReason::Closed));
        // The timings show that the time was spent in the handshake with the proxy.
        let timings = story.request.timings(&trace);
        assert!(timings.proxy.is_some(), "{timings}");
        assert_eq!(story.request.tcp_conn, trace.tcp_conns[0].trace_id);
    }
}

#[tokio::test]
async fn dropping_the_request_cancels_the_handshake() {
    for (scheme, length) in SILENT_PROXIES {
        let server = silent_proxy(length);
        let (client, sink) = client(proxy(&format!("{scheme}://{}", server.addr())), |builder| builder);
        {
            let mut response = pin!(client.get("https://web.test/"));
            poll_until_received(&server, length, response.as_mut()).await;
            let trace = sink.snapshot("under way");
            check::running(&trace);
            assert_eq!(handshake_end(&trace), (None, None));
        }
        let trace = finished(&client, &sink).await;
        assert_eq!(handshake_end(&trace), (Some(EndReason::Cancelled), Some(Failure::Interrupted)));
        assert_eq!(story(&trace).request.end_reason, Some(EndReason::Cancelled));
    }
}

/// Drops the request at its first pending poll, then another one at its second, and so on until one completes.
#[tokio::test]
async fn a_request_can_be_dropped_at_every_poll() {
    require_tool!("squid", "microsocks");
    let site = Site::new();
    let (web, socks) = (site.web(&["h2"]), microsocks(true));
    let https = squid(Some((&site.leaf.pem, &site.leaf.key_pem())));
    let url = format!("https://localhost:{}/", web.addr().port());
    for proxy_url in [https.url_with_login("https"), socks.url_with_login("socks5")] {
        let mut polls = 0;
        loop {
            let (client, sink) = client(proxy(&proxy_url), |builder| builder.roots(site.roots()));
            let mut polls_left = polls;
            let mut response = Box::pin(client.get(&url));
            let answer = poll_fn(|cx| match response.as_mut().poll(cx) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending if polls_left == 0 => Poll::Ready(None),
                Poll::Pending => {
                    polls_left -= 1;
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
            assert_eq!(story(&trace).request.end_reason, Some(EndReason::Cancelled), "{polls}");
            polls += 1;
        }
        assert!(polls > 4, "{polls}");
    }
}

#[tokio::test]
async fn closing_the_client_cancels_the_handshake() {
    for (scheme, length) in SILENT_PROXIES {
        let server = silent_proxy(length);
        let (client, sink) = client(proxy(&format!("{scheme}://{}", server.addr())), |builder| builder);
        let mut response = pin!(client.get("https://web.test/"));
        poll_until_received(&server, length, response.as_mut()).await;
        let (answer, ()) = tokio::join!(response, client.close());
        assert!(answer.unwrap_err().is_closed());
        let trace = finished(&client, &sink).await;
        assert_eq!(handshake_end(&trace).0, Some(EndReason::Cancelled));
    }
}

#[tokio::test]
async fn closing_the_sink_ends_the_records() {
    for (scheme, length) in SILENT_PROXIES {
        let server = silent_proxy(length);
        let (client, sink) = client(proxy(&format!("{scheme}://{}", server.addr())), |builder| builder);
        let mut response = pin!(client.get("https://web.test/"));
        poll_until_received(&server, length, response.as_mut()).await;
        sink.close();
        let trace = sink.snapshot("closed");
        check::finished(&trace);
        assert_eq!(handshake_end(&trace), (Some(EndReason::SinkClosed), None));
        drop(server);
        assert!(response.await.is_err());
        assert_eq!(sink.snapshot("closed").http_requests, trace.http_requests);
    }
}

/// A connection that is open during `clear` appears in later traces, without the CONNECT that opened its tunnel.
#[tokio::test]
async fn clear_removes_the_connect_of_an_open_tunnel() {
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

/// A CONNECT is evicted together with the request that triggered it.
#[tokio::test]
async fn retention_bounds_requests_and_their_connects() {
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
    let dropped = trace.dropped.as_ref().expect("dropped records").http_requests;
    assert_eq!(dropped + trace.http_requests.len() as u64, 402);
    assert!(trace.http_requests.len() < 64 + 3 * 32, "{}", trace.http_requests.len());
    let orphans =
        trace.http_requests.iter().filter(|r| r.req_method == "CONNECT" && r.triggered_by.is_undefined());
    assert!(orphans.count() <= 32);
    let ended = |at: &Timestamp| !at.is_undefined();
    assert!(trace.http_requests.iter().all(|request| ended(&request.end_at)));
}
