//! A traced connector behaves like an untraced one.

use std::{
    error::Error,
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
};

use hyper::rt::Write as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use nettrace::{
    Failure, TraceSink,
    tls::{MaybeTlsStream, TlsError, TlsStream, TraceTls, TraceTlsFuture, TraceTlsLayer},
};
use rustls::ClientConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower::{Layer, ServiceExt, service_fn};

use crate::clients::{Tcp, TestClient, connect, exchange, refused, tcp};
use test_support::pki::{self, Authority, serve_tcp, serve_tls, serve_tls_echo};

#[tokio::test]
async fn other_schemes_are_passed_on_unchanged() {
    let client = TestClient::new();
    let address = serve_tcp(async |mut stream: TcpStream| drop(stream.write_all(b"hello").await)).await;
    for uri in ["http://web.test/", "unix://web.test/", "web.test:80"] {
        let stream = connect(&client.builder().build(), address, uri).await.unwrap();
        assert!(matches!(stream, MaybeTlsStream::Plain(_)));
        let mut text = String::new();
        TokioIo::new(stream).read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");
    }
    assert!(client.tunnels().is_empty());
}

#[tokio::test]
async fn a_disabled_sink_changes_nothing() {
    let client = TestClient { sink: TraceSink::disabled(), authority: Authority::new("nettrace test CA") };
    let address = serve_tls_echo(client.authority.issue(&["web.test"]).server()).await;
    exchange(connect(&client.builder().build(), address, "https://web.test/").await.unwrap()).await.unwrap();
    let error = connect(&client.builder().build(), address, "https://other.test/").await.unwrap_err();
    assert_eq!(error.downcast::<TlsError>().unwrap().failure(), Failure::SslInvalidHostname);
    assert!(client.tunnels().is_empty());
}

#[tokio::test]
async fn errors_of_the_connector_are_passed_on_unchanged() {
    let client = TestClient::new();
    let connector = service_fn(|_| async { Err::<Tcp, _>(io::Error::other("no way")) });
    let error = client.builder().build().layer(connector).oneshot("https://web.test/".parse().unwrap()).await;
    assert_eq!(error.unwrap_err().downcast::<io::Error>().unwrap().to_string(), "no way");
    assert!(client.tunnels().is_empty());
}

#[tokio::test]
async fn errors_equal_those_of_tokio_rustls() {
    let client = TestClient::new();
    let address = serve_tls_echo(Authority::new("somebody").issue(&["web.test"]).server()).await;
    let config = ClientConfig::builder_with_provider(pki::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(client.authority.store())
        .with_no_client_auth();
    let plain = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect("web.test".try_into().unwrap(), TcpStream::connect(address).await.unwrap())
        .await
        .unwrap_err();
    let ours = refused(&client.builder().build(), address).await;
    let ours = ours.source().unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!((ours.kind(), ours.to_string()), (plain.kind(), plain.to_string()));
    let inner = |error: &io::Error| error.get_ref().unwrap().downcast_ref::<rustls::Error>().cloned();
    assert_eq!(inner(ours), inner(&plain));
}

#[tokio::test]
async fn vectored_writes_are_passed_on() {
    let client = TestClient::new();
    let address = serve_tls_echo(client.authority.issue(&["web.test"]).server()).await;
    let mut stream = connect(&client.builder().build(), address, "https://web.test/").await.unwrap();
    assert!(stream.is_write_vectored());
    let parts = [IoSlice::new(b"pi"), IoSlice::new(b""), IoSlice::new(b"ng")];
    let written = poll_fn(|cx| Pin::new(&mut stream).poll_write_vectored(cx, &parts)).await.unwrap();
    assert_eq!(written, 4);
    let mut answer = [0; 4];
    TokioIo::new(stream).read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"ping");
}

#[tokio::test]
async fn hyper_utils_client_accepts_the_connector() {
    use bytes::Bytes;
    use http_body_util::{BodyExt, Empty, Full};
    use hyper_util::{client::legacy::Client, server::conn::auto};

    for alpn in ["h2", "http/1.1"] {
        let client = TestClient::new();
        let mut config = client.authority.issue(&["web.test"]).server();
        config.alpn_protocols = vec![alpn.into()];
        let address = serve_tls(config, |stream| async {
            let service = hyper::service::service_fn(async |request: hyper::Request<_>| {
                Ok::<_, hyper::Error>(hyper::Response::new(Full::<Bytes>::from(format!(
                    "{:?}",
                    request.version()
                ))))
            });
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        })
        .await;
        let connector =
            client.builder().alpn([alpn]).build().layer(service_fn(move |_| Box::pin(tcp(address))));
        let http_client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
        let response = http_client.get("https://web.test/".parse().unwrap()).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, if alpn == "h2" { "HTTP/2.0" } else { "HTTP/1.1" });
        assert_eq!(client.tunnel().negotiated_proto, alpn);
    }
}

#[test]
fn auto_traits_follow_the_wrapped_types() {
    use static_assertions::{assert_impl_all, assert_not_impl_any};
    type NotSend = std::marker::PhantomData<*const ()>;

    assert_impl_all!(TraceTlsLayer: Clone, Send, Sync, Unpin);
    assert_impl_all!(TraceTls<()>: Clone, Send, Sync, Unpin);
    assert_impl_all!(TlsStream<Tcp>: Send, Sync, Unpin);
    assert_impl_all!(MaybeTlsStream<Tcp>: Send, Sync, Unpin);
    assert_impl_all!(TraceTlsFuture<std::future::Ready<()>, Tcp>: Send, Sync, Unpin);
    assert_not_impl_any!(TlsStream<NotSend>: Send, Sync);
    assert_not_impl_any!(TraceTlsFuture<std::future::Ready<()>, NotSend>: Send, Sync);
    assert_not_impl_any!(TraceTlsFuture<std::marker::PhantomPinned, Tcp>: Unpin);
    assert_impl_all!(TlsError: Error, Send, Sync);
}
