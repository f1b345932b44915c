//! The caller's own CONNECT requests and protocol upgrades, through a proxy.

use crate::{client, finished, proxy};
use hyper_util::rt::TokioIo;
use nettrace::{client::Body, record::EndReason};
use test_support::{
    proxies::{microsocks, squid, tinyproxy},
    raw::Server,
    require::require_tool,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Starts a server that sends `hello` and then echoes what it receives.
fn echo() -> Server {
    Server::start(async |mut conn| {
        conn.write(b"hello").await?;
        for _ in 0..100 {
            let bytes = conn.read(1000).await?;
            conn.write(&bytes).await?;
        }
        conn.finish().await?;
        conn.read_to_end().await
    })
}

#[tokio::test]
async fn the_callers_connect_becomes_a_tunnel() {
    require_tool!("tinyproxy", "squid");
    for server in [tinyproxy("BasicAuth joe secret"), squid(None)] {
        let echo = echo();
        let (client, sink) = client(proxy(&server.url_with_login("http")), |builder| builder);
        let request = http::Request::connect(echo.addr().to_string()).body(Body::empty()).unwrap();
        let response = client.request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        let mut buffer = [0; 5];
        stream.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"hello");
        for round in 0..100_u8 {
            let chunk = [round; 1000];
            stream.write_all(&chunk).await.unwrap();
            stream.flush().await.unwrap();
            let mut echoed = [0; 1000];
            stream.read_exact(&mut echoed).await.unwrap();
            assert_eq!(echoed, chunk);
        }
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
        drop(stream);
        let trace = finished(&client, &sink).await;
        let [request] = &trace.http_requests[..] else { panic!("one request") };
        assert_eq!((request.req_method.as_str(), request.resp_status_code), ("CONNECT", 200));
        assert_eq!(request.network_proxy, format!("http://***@{}", server.addr));
        let conn = trace.tcp_conns.get(&request.tcp_conn).unwrap();
        assert!(conn.total_sent_bytes > 100_000 && conn.total_recv_bytes > 100_005);
        assert_eq!(conn.end_reason, Some(EndReason::PeerClosed));
    }
}

#[tokio::test]
async fn a_redirect_in_reply_to_connect_is_not_followed() {
    let server =
        Server::answering(b"HTTP/1.1 302 Found\r\nlocation: http://login.test/\r\ncontent-length: 0\r\n\r\n");
    for target in ["web.test:443", "192.0.2.1:443"] {
        let (client, sink) = client(proxy(&format!("http://{}", server.addr())), |builder| builder);
        let response =
            client.request(http::Request::connect(target).body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 302);
        drop(response);
        let trace = finished(&client, &sink).await;
        assert_eq!(trace.http_requests.len(), 1);
    }
}

/// An upgrade request uses a tunnel or SOCKS, because HTTP proxies do not forward the `Upgrade` field.
#[tokio::test]
async fn a_connection_through_a_proxy_can_be_upgraded() {
    require_tool!("microsocks", "squid");
    let server = Server::start(async |mut conn| {
        let head = conn.read_head().await?;
        assert!(head.starts_with("GET / HTTP/1.1\r\n") && !head.contains("proxy-"), "{head}");
        conn.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nhello")
            .await?;
        let word = conn.read(5).await?;
        conn.write(&word).await?;
        conn.close().await
    });
    let (socks, http) = (microsocks(false), squid(None));
    for url in [socks.url("socks5"), http.url_with_login("http")] {
        let (client, sink) = client(proxy(&url), |builder| builder);
        let request = http::Request::get(format!("http://{}/", server.addr()));
        let request =
            request.header("connection", "upgrade").header("upgrade", "echo").body(Body::empty()).unwrap();
        let response = client.request(request).await.unwrap();
        assert_eq!(response.status(), 101, "{url}");
        let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        stream.write_all(b"again").await.unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"helloagain");
        drop(stream);
        let trace = finished(&client, &sink).await;
        assert_eq!(crate::story(&trace).connect.is_some(), url.starts_with("http:"));
    }
}
