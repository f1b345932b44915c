//! `ProxyLayer` over other connectors, for other clients, and for protocols other than HTTP.

use crate::{Site, greet, proxy};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use nettrace::{
    Failure, TraceSink,
    connect::{TcpConnector, TraceConnectLayer},
    proxy::{ProxyError, ProxyLayer},
    record::EndReason,
    request::{TraceBody, TraceRequestLayer},
    tls::TraceTlsLayer,
};
use std::error::Error;
use test_support::{
    check,
    proxies::{microsocks, squid, tinyproxy},
    raw::{End, Server},
    require::require_tool,
    web::Web,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::{Layer, ServiceBuilder, ServiceExt};

/// hyper-util's client over hyper-util's own connector.
#[tokio::test]
async fn hyper_utils_client_works_through_an_https_proxy() {
    require_tool!("squid");
    let site = Site::new();
    let server = squid(Some((&site.leaf.pem, &site.leaf.key_pem())));
    let (open, secure) = (Web::start(greet), site.web(&["h2", "http/1.1"]));
    let sink = TraceSink::new();
    let proxy = proxy(&server.url_with_login("https"));
    let mut http = HttpConnector::new();
    http.enforce_http(false); // the layers above this connector add TLS
    let connector = ServiceBuilder::new()
        .layer(TraceTlsLayer::builder(&sink).roots(site.roots()).alpn(["h2", "http/1.1"]).build())
        .layer(ProxyLayer::new(&sink, proxy.clone()))
        .layer(TraceTlsLayer::builder(&sink).roots(site.roots()).build())
        .layer(TraceConnectLayer::new(&sink))
        .service(http);
    let client: Client<_, TraceBody<Empty<Bytes>>> = Client::builder(TokioExecutor::new()).build(connector);
    let client = TraceRequestLayer::new(&sink).capture_connection(true).layer(client);
    let urls = [format!("https://localhost:{}/a", secure.addr().port()), open.url("/a")];
    for url in &urls {
        let request = Request::get(url).header(header::PROXY_AUTHORIZATION, proxy.authorization().unwrap());
        let response = client.clone().oneshot(request.body(Empty::new()).unwrap()).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello /a");
    }
    let trace = sink.snapshot("");
    check::running(&trace);
    let record_of = |url: &str| trace.http_requests.iter().find(|request| request.req_url == url).unwrap();
    let [tunnelled, forwarded] = [record_of(&urls[0]), record_of(&urls[1])];
    let connect = trace.http_requests.iter().find(|request| request.req_method == "CONNECT").unwrap();
    assert_eq!(connect.triggered_by, tunnelled.trace_id);
    assert_eq!(connect.tcp_conn, tunnelled.tcp_conn);
    assert_eq!(tunnelled.proto_major, 2);
    assert!(!tunnelled.tls_tunnel.is_undefined() && !tunnelled.proxy_tls_tunnel.is_undefined());
    assert!(forwarded.tls_tunnel.is_undefined() && !forwarded.proxy_tls_tunnel.is_undefined());
    assert!([tunnelled, forwarded].iter().all(|r| r.network_proxy == format!("https://***@{}", server.addr)));
}

/// Neither the connector nor the client is traced, so the CONNECT refers to no connection and to no request.
#[tokio::test]
async fn an_untraced_connector_and_client_work_through_a_proxy() {
    require_tool!("tinyproxy", "microsocks");
    let web = Web::start(greet);
    let (http, socks) = (tinyproxy(""), microsocks(false));
    for url in [http.url("http"), socks.url("socks5"), socks.url("socks5h")] {
        let sink = TraceSink::new();
        let connector = ProxyLayer::new(&sink, proxy(&url)).tunnel_http(true).layer(HttpConnector::new());
        let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
        let uri = format!("http://localhost:{}/a", web.addr().port()).parse().unwrap();
        let response = client.get(uri).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello /a");
        let trace = sink.snapshot("");
        if url.starts_with("http:") {
            let [connect] = &trace.http_requests[..] else { panic!("one request") };
            assert_eq!((connect.resp_status_code, &connect.end_reason), (200, &Some(EndReason::Closed)));
            assert!(connect.tcp_conn.is_undefined() && connect.triggered_by.is_undefined());
        }
        assert!(trace.tcp_conns.is_empty());
    }
}

/// The dial, which is recorded for the lookup of the target's name, ends with the error of the connector.
#[tokio::test]
async fn a_failure_of_an_untraced_connector_ends_the_recorded_dial() {
    let (sink, refused) = (TraceSink::new(), test_support::raw::Refused::on("127.0.0.1:0"));
    let proxy = proxy(&format!("socks5://{}", refused.addr));
    let connector = ProxyLayer::new(&sink, proxy).layer(HttpConnector::new());
    connector.oneshot("http://localhost:1/".parse().unwrap()).await.unwrap_err();
    let trace = sink.snapshot("");
    check::finished(&trace);
    let [dial] = &trace.dials[..] else { panic!("one dial") };
    assert_eq!(
        (&dial.end_reason, &dial.failure),
        (&Some(EndReason::Failed), &Some(Failure::ConnectionRefused))
    );
}

/// In a protocol in which the server sends first, its bytes may arrive together with the proxy's reply.
#[tokio::test]
async fn bytes_that_arrive_with_the_proxys_reply_are_delivered() {
    let http = Server::start(async |mut conn| {
        let head = conn.read_head().await?;
        assert!(head.starts_with("CONNECT db.test:5432 HTTP/1.1\r\n"), "{head}");
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nwelcome").await?;
        echo_five_bytes(&mut conn).await
    });
    let socks = Server::start(async |mut conn| {
        conn.read(3).await?;
        conn.write(b"\x05\0").await?;
        conn.read(14).await?;
        conn.write(b"\x05\0\0\x03\x04name\0\0welcome").await?;
        echo_five_bytes(&mut conn).await
    });
    async fn echo_five_bytes(conn: &mut test_support::raw::Conn) -> std::io::Result<()> {
        let word = conn.read(5).await?;
        conn.write(&word).await?;
        conn.finish().await
    }
    for (server, scheme) in [(http, "http"), (socks, "socks5h")] {
        let sink = TraceSink::new();
        let proxy = proxy(&format!("{scheme}://{}", server.addr()));
        let connector = ProxyLayer::new(&sink, proxy).layer(TcpConnector::new(&sink));
        let stream = connector.oneshot("postgres://db.test:5432".parse().unwrap()).await.unwrap();
        let mut stream = TokioIo::new(stream);
        for part in [&b"we"[..], b"lco", b"me"] {
            let mut buffer = vec![0; part.len()];
            stream.read_exact(&mut buffer).await.unwrap();
            assert_eq!(buffer, part);
        }
        stream.write_all(b"hello").await.unwrap();
        let mut echoed = Vec::new();
        stream.read_to_end(&mut echoed).await.unwrap();
        assert_eq!(echoed, b"hello");
        drop(stream);
        assert_eq!(server.ended(1).await[0].end, End::Done);

        let trace = sink.snapshot("");
        check::finished(&trace);
        let [conn] = &trace.tcp_conns[..] else { panic!("one connection") };
        let seen = &server.seen()[0];
        assert_eq!(
            (conn.total_sent_bytes, conn.total_recv_bytes),
            (seen.received.len() as u64, seen.sent as u64)
        );
        assert_eq!(conn.socks.is_some(), scheme == "socks5h");
        assert_eq!(trace.http_requests.len(), usize::from(scheme == "http"));
        let drawn = nettrace::view::waterfall(&trace).to_string();
        assert!(drawn.contains("db.test:5432") && drawn.contains("proxy"), "{drawn}");
    }
}

/// A 2xx response to CONNECT has no content, whatever its fields say (RFC 9110, section 9.3.6).
#[tokio::test]
async fn bytes_after_any_2xx_response_belong_to_the_tunnel() {
    for head in [
        "HTTP/1.0 200 Connection established",
        "HTTP/1.1 204 No Content",
        "HTTP/1.1 204 No Content\r\nconnection: close",
        "HTTP/1.1 299 Other\r\ntransfer-encoding: chunked",
        "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3",
    ] {
        let server = Server::start(async move |mut conn| {
            conn.read_head().await?;
            conn.write(format!("{head}\r\n\r\nwel").as_bytes()).await?;
            conn.read(5).await?;
            conn.write(b"come").await?;
            conn.finish().await
        });
        let sink = TraceSink::new();
        let layer = ProxyLayer::new(&sink, proxy(&format!("http://{}", server.addr())));
        let connector = layer.layer(TcpConnector::new(&sink));
        let stream = connector.oneshot("postgres://db.test:5432".parse().unwrap()).await.unwrap();
        let mut stream = TokioIo::new(stream);
        stream.write_all(b"hello").await.unwrap();
        let mut received = String::new();
        stream.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "welcome", "{head}");
        drop(stream);
        let trace = sink.snapshot("");
        check::finished(&trace);
        assert_eq!(trace.http_requests[0].end_reason, Some(EndReason::Closed), "{head}");
    }
}

#[tokio::test]
async fn errors_keep_the_type_of_the_layer_that_failed() {
    let refused = test_support::raw::Refused::on("127.0.0.1:0");
    let sink = TraceSink::new();
    let refused_connector =
        ProxyLayer::new(&sink, proxy(&format!("http://{}", refused.addr))).layer(TcpConnector::new(&sink));
    let error = refused_connector.oneshot("https://a.test/".parse().unwrap()).await.unwrap_err();
    assert!(error.is::<nettrace::connect::ConnectError>(), "{error:?}");

    let server = Server::answering(b"HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n");
    let layer = ProxyLayer::new(&sink, proxy(&format!("http://{}", server.addr())));
    let error =
        layer.layer(TcpConnector::new(&sink)).oneshot("https://a.test/".parse().unwrap()).await.unwrap_err();
    let error = error.downcast_ref::<ProxyError>().unwrap();
    assert_eq!((error.failure(), error.status().unwrap().as_u16()), (Failure::ProxyRefused, 403));
    assert!(error.source().is_none());
    for uri in ["/", "postgres://db.test"] {
        let connector = layer.layer(TcpConnector::new(&sink));
        let error = connector.oneshot(uri.parse().unwrap()).await.unwrap_err();
        assert_eq!(
            error.downcast_ref::<ProxyError>().unwrap().failure(),
            Failure::InvalidArgument,
            "{error}"
        );
    }
    let server = Server::start(async |mut conn| {
        conn.read(3).await?;
        conn.write(b"\x05\0").await?;
        conn.read(1).await?;
        conn.write(b"\x05\x03\0\x01\0\0\0\0\0\0").await?;
        conn.close().await
    });
    let layer = ProxyLayer::new(&sink, proxy(&format!("socks5h://{}", server.addr())));
    let error =
        layer.layer(TcpConnector::new(&sink)).oneshot("https://a.test/".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.downcast_ref::<ProxyError>().unwrap().socks_reply(), Some(3));
}
