//! reqwest's behaviour in pooling, retries, upgrades, timeouts, errors, redirects and streaming, compared between an
//! untraced client and observed ones.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use nettrace::record::EndReason;
use reqwest::Body;

use crate::clients::{Fault, answer, answer_hello, hanging, peer, same, talk, upgrading, with_paused_clock};
use test_support::errors::{CallerError, find};
use test_support::raw::{Refused, Server};
use test_support::web::{Web, redirect, reply, status};

#[tokio::test]
async fn request_heads_are_the_same() {
    let web = Web::start(async |request| {
        let names: Vec<_> =
            request.headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
        reply(format!("{} {}\n{}", request.method, request.uri, names.join("\n")))
    });
    let (_, outcome) = same(async |variant| {
        let client = variant.builder().user_agent("me/1").build().unwrap();
        let request = client.get(web.url("/a?b=c#d")).basic_auth("joe", Some("secret")).header("x-a", "b");
        answer(variant.send(request).await).await
    })
    .await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.url, web.url("/a?b=c"));
    assert_eq!(outcome.is_from, Some(web.addr()));
    let head = outcome.body.unwrap();
    assert!(head.contains("accept: \"*/*\"") && head.contains("user-agent: \"me/1\""), "{head}");
}

#[tokio::test]
async fn connections_are_reused_as_the_idle_limit_allows() {
    let web = Web::start(async |_| reply("hello"));
    for idle in [usize::MAX, 0] {
        let (observed, is_same) = same(async |variant| {
            let client = variant.builder().pool_max_idle_per_host(idle).build().unwrap();
            let mut ports = vec![];
            for _ in 0..3 {
                let response = variant.send(client.get(web.url("/"))).await.unwrap();
                ports.push(peer(&response));
                response.bytes().await.unwrap();
            }
            (ports[0] == ports[1], ports[1] == ports[2])
        })
        .await;
        assert_eq!(is_same, (idle > 0, idle > 0));
        assert_eq!(observed.finished().dials.len(), if idle > 0 { 1 } else { 3 });
    }
}

#[tokio::test]
async fn a_connection_with_connection_close_is_not_reused() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await?;
        conn.close().await
    });
    let url = format!("http://{}/", server.addr());
    let (observed, outcomes) = same(async |variant| {
        let client = variant.builder().build().unwrap();
        let mut outcomes = vec![];
        for _ in 0..3 {
            let request = client.post(&url).body("");
            outcomes.push(answer(variant.send(request).await).await.unwrap().body);
        }
        outcomes
    })
    .await;
    assert!(outcomes.iter().all(|body| body.as_deref() == Ok("ok")));
    let trace = observed.finished();
    let conns: std::collections::HashSet<_> =
        trace.http_requests.iter().map(|record| record.tcp_conn.to_string()).collect();
    assert_eq!(conns.len(), 3, "each request has its own connection");
}

#[tokio::test]
async fn a_retry_policy_resends_buffers_and_not_streams() {
    for (is_stream, asked) in [(false, 3), (true, 1)] {
        let (observed, outcome) = same(async |variant| {
            let web =
                Web::start(async |request| if request.body == "data" { status(503) } else { status(400) });
            let retry = reqwest::retry::for_host("127.0.0.1").no_budget().max_retries_per_request(2);
            let retry = retry.classify_fn(|sent| match sent.status() {
                Some(status) if status == 503 => sent.retryable(),
                _ => sent.success(),
            });
            let client = variant.builder().retry(retry).build().unwrap();
            let stream = Body::wrap_stream(stream::iter([Ok::<_, std::io::Error>("data")]));
            let body = if is_stream { stream } else { Body::from("data") };
            let response = variant.send(client.post(web.url("/")).body(body)).await;
            (response.unwrap().status().as_u16(), web.requests().len())
        })
        .await;
        assert_eq!(outcome, (503, asked));
        // reqwest does not report retries.
        assert_eq!(observed.finished().http_requests.len(), 1);
    }
}

#[tokio::test]
async fn upgrades_are_the_same() {
    let server = upgrading();
    let url = format!("http://{}/", server.addr());
    let (observed, received) = same(async |variant| {
        let client = variant.builder().build().unwrap();
        let request = client.get(&url).header("connection", "upgrade").header("upgrade", "echo");
        talk(variant.send(request).await.unwrap()).await
    })
    .await;
    assert_eq!(received, "hiecho");
    let record = &observed.finished().http_requests[0];
    assert_eq!((record.resp_status_code, &record.end_reason), (101, &Some(EndReason::Closed)));

    let (_, fault) = same(async |variant| {
        let web = Web::start(async |_| reply("no"));
        let client = variant.builder().build().unwrap();
        let response = variant.send(client.get(web.url("/"))).await.unwrap();
        let error = response.upgrade().await.expect_err("not an upgrade");
        Fault::of(&error)
    })
    .await;
    assert_eq!(fault.is, ["upgrade"]);
}

#[tokio::test]
async fn timeouts_of_clients_and_requests_are_the_same() {
    let server = hanging();
    let url = |path: &str| format!("http://{}{path}", server.addr());
    let (short, long) = (Duration::from_secs(60), Duration::from_secs(120));
    for path in ["/head", "/body"] {
        for kind in ["client", "request", "read"] {
            let (_, outcome) = same(async |variant| {
                let builder = variant.builder();
                let client = match kind {
                    "client" => builder.timeout(short),
                    "request" => builder.timeout(long),
                    _ => builder.read_timeout(short),
                };
                let client = client.build().unwrap();
                let mut request = client.get(url(path));
                if kind == "request" {
                    request = request.timeout(short);
                }
                if path == "/head" {
                    return with_paused_clock(async { answer(variant.send(request).await).await }).await;
                }
                let response = variant.send(request).await;
                with_paused_clock(answer(response)).await
            })
            .await;
            let fault = match outcome {
                Err(fault) => fault,
                Ok(answer) => answer.body.expect_err("a body that never ends"),
            };
            assert!(fault.is.contains(&"timeout"), "{path} {kind} {fault:?}");
        }
    }
}

#[tokio::test]
async fn errors_before_the_response_are_the_same() {
    let refused = Refused::on("127.0.0.1:0");
    let closing = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.close().await
    });
    let garbage = Server::answering(b"What?\r\n\r\n");
    let no_tls = Server::start(async |conn| answer_hello(conn).await);
    let refused_kinds = vec!["request", "connect"];
    for (url, is) in [
        (format!("http://{}/", refused.addr), refused_kinds.clone()),
        (format!("http://{}/", closing.addr()), vec!["request"]),
        (format!("http://{}/", garbage.addr()), vec!["request"]),
        (format!("https://{}/", no_tls.addr()), refused_kinds),
        ("http://[bad/".into(), vec!["builder"]),
        ("ftp://a.test/".into(), vec!["builder"]),
    ] {
        let (_, outcome) = same(async |variant| {
            let client = variant.builder().build().unwrap();
            answer(variant.send(client.get(&url)).await).await
        })
        .await;
        assert_eq!(outcome.unwrap_err().is, is, "{url}");
    }
    let (_, outcome) = same(async |variant| {
        let client = variant.builder().https_only(true).build().unwrap();
        answer(variant.send(client.get("http://a.test/")).await).await
    })
    .await;
    assert_eq!(outcome.unwrap_err().is, ["builder"]);
}

#[tokio::test]
async fn errors_for_a_status_are_the_same() {
    let web = Web::start(async |_| status(404));
    let (observed, fault) = same(async |variant| {
        let client = variant.builder().build().unwrap();
        let response = variant.send(client.get(web.url("/"))).await.unwrap();
        Fault::of(&response.error_for_status().unwrap_err())
    })
    .await;
    assert_eq!((fault.is, fault.status.unwrap().as_u16()), (vec!["status"], 404));
    assert_eq!(
        observed.finished().http_requests[0].failure,
        None,
        "an error status is not a failure of the request"
    );
}

#[tokio::test]
async fn errors_within_a_body_are_the_same() {
    let server = Server::start(async |mut conn| {
        let head = conn.read_head().await?;
        match head.split(' ').nth(1) {
            Some("/short") => {
                conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await?;
                conn.close().await
            }
            Some("/chunks") => {
                conn.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n").await?;
                conn.close().await
            }
            _ => {
                conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await?;
                conn.reset()
            }
        }
    });
    for path in ["/short", "/chunks", "/reset"] {
        let url = format!("http://{}{path}", server.addr());
        let (observed, outcome) = same(async |variant| {
            let client = variant.builder().build().unwrap();
            answer(variant.send(client.get(&url)).await).await
        })
        .await;
        let fault = outcome.unwrap().body.unwrap_err();
        assert_eq!(fault.is, ["decode"], "{path}");
        assert!(observed.finished().http_requests[0].failure.is_some());
    }
}

#[tokio::test]
async fn errors_of_the_request_body_are_the_same() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.read_to_end().await
    });
    let url = format!("http://{}/", server.addr());
    let (observed, fault) = same(async |variant| {
        let client = variant.builder().build().unwrap();
        let pieces = [Ok(Bytes::from_static(b"page")), Err(CallerError(3))];
        let request = client.post(&url).body(Body::wrap_stream(stream::iter(pieces)));
        let error = variant.send(request).await.unwrap_err();
        assert_eq!(find(&error), Some(&CallerError(3)), "the error itself is in the chain");
        Fault::of(&error)
    })
    .await;
    assert_eq!(fault.chain.last().unwrap(), "out of paper in tray 3");
    assert_eq!(observed.finished().http_requests[0].failure, Some(nettrace::Failure::RequestBodyError));
}

#[tokio::test]
async fn redirects_are_followed_the_same_way() {
    let web = Web::start(async |request| {
        let code = request.path().trim_start_matches('/').parse().unwrap_or(0);
        if code != 0 {
            return redirect(code, "/there");
        }
        let fields =
            ["authorization", "referer", "content-type", "content-length"].map(|name| request.header(name));
        reply(format!("{} {:?} {fields:?}", request.method, request.body))
    });
    for code in [301, 302, 303, 307, 308] {
        for method in ["GET", "POST", "PUT", "HEAD"] {
            let (_, outcome) = same(async |variant| {
                let client = variant.builder().build().unwrap();
                let mut request = client.request(method.parse().unwrap(), web.url(&format!("/{code}")));
                request = request.bearer_auth("token").header("content-type", "text/plain");
                if method.starts_with('P') {
                    request = request.body("data");
                }
                answer(variant.send(request).await).await
            })
            .await;
            assert_eq!(outcome.unwrap().url, web.url("/there"), "{code} {method}");
        }
        // A stream cannot be sent twice.
        let (_, outcome) = same(async |variant| {
            let client = variant.builder().build().unwrap();
            let body = Body::wrap_stream(stream::iter([Ok::<_, CallerError>("data")]));
            answer(variant.send(client.put(web.url(&format!("/{code}"))).body(body)).await).await
        })
        .await;
        let status = outcome.unwrap().status.as_u16();
        assert_eq!(status, if code == 303 { 200 } else { code });
    }
}

#[tokio::test]
async fn streamed_bodies_are_the_same_in_both_directions() {
    let server = Server::start(async |mut conn| {
        loop {
            let head = conn.read_head().await?;
            assert!(head.contains("transfer-encoding: chunked"));
            conn.read_head().await?; // up to the end of the last chunk
            conn.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n").await?;
            for piece in ["one", "two", "six"] {
                conn.write(format!("3\r\n{piece}\r\n").as_bytes()).await?;
            }
            conn.write(b"0\r\nx-sum: 9\r\n\r\n").await?;
        }
    });
    let url = format!("http://{}/", server.addr());
    let (observed, (whole, length, pieces)) = same(async |variant| {
        let client = variant.builder().build().unwrap();
        let body = || Body::wrap_stream(stream::iter(["a", "b"].map(Ok::<_, CallerError>)));
        let response = variant.send(client.post(&url).body(body())).await.unwrap();
        let length = response.content_length();
        let whole: Vec<_> = response.bytes_stream().map(Result::unwrap).collect().await;
        let mut response = variant.send(client.post(&url).body(body())).await.unwrap();
        let mut pieces = vec![];
        while let Some(piece) = response.chunk().await.unwrap() {
            pieces.extend(piece);
        }
        (whole.concat(), length, pieces)
    })
    .await;
    assert_eq!((whole, length, pieces), (b"onetwosix".to_vec(), None, b"onetwosix".to_vec()));
    for record in &observed.finished().http_requests {
        assert_eq!((record.req_content_len, record.resp_content_len), (2, 9));
        assert!(!record.req_body_end_at.is_undefined());
    }
}

#[tokio::test]
async fn a_response_can_be_the_body_of_a_request() {
    let web = Web::start(
        async |request| if request.path() == "/get" { reply("pipe me") } else { reply(request.body) },
    );
    let (observed, outcome) = same(async |variant| {
        let client = variant.builder().build().unwrap();
        let response = variant.send(client.get(web.url("/get"))).await.unwrap();
        answer(variant.send(client.post(web.url("/pipe")).body(response)).await).await.unwrap().body
    })
    .await;
    assert_eq!(outcome, Ok("pipe me".into()));
    observed.finished();
}

#[tokio::test]
async fn connector_layers_of_the_caller_are_kept() {
    // The caller's layers limit the number of concurrent dials and the duration of each.
    let web = Web::start(async |_| reply("hello"));
    let (observed, outcome) = same(async |variant| {
        let builder =
            variant.builder().connector_layer(tower::limit::concurrency::ConcurrencyLimitLayer::new(1));
        let builder = builder.connector_layer(tower::timeout::TimeoutLayer::new(Duration::from_secs(60)));
        let client = builder.build().unwrap();
        let all = (0..4)
            .map(|_| async { answer(variant.send(client.get(web.url("/"))).await).await.unwrap().body });
        futures_util::future::join_all(all).await
    })
    .await;
    assert!(outcome.iter().all(|body| body.as_deref() == Ok("hello")), "{outcome:?}");
    assert!(observed.finished().http_requests.iter().all(|record| !record.tcp_conn.is_undefined()));
}

#[tokio::test]
async fn http2_requests_share_a_connection() {
    let web = Web::start(async |_| reply("hello"));
    let (observed, ports) = same(async |variant| {
        let client = variant.builder().http2_prior_knowledge().build().unwrap();
        let all = (0..32).map(|_| async {
            let response = variant.send(client.get(web.url("/"))).await.unwrap();
            let port = peer(&response);
            (response.version(), response.text().await.unwrap(), port)
        });
        let all = futures_util::future::join_all(all).await;
        let first = all[0].2;
        all.into_iter().map(|(version, text, port)| (version, text, port == first)).collect::<Vec<_>>()
    })
    .await;
    assert_eq!(ports, vec![(reqwest::Version::HTTP_2, "hello".to_owned(), true); 32]);
    let trace = observed.finished();
    assert_eq!((trace.http_requests.len(), trace.tcp_conns.len()), (32, 1));
    assert!(trace.http_requests.iter().all(|record| record.tcp_conn == trace.tcp_conns[0].trace_id));
}
