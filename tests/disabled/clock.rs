//! Layers whose sink is off read no clock.
//!
//! The readings of a thread are counted by the feature `_bench` in builds with debug assertions, so that no optimised
//! build pays for it.

use std::{convert::Infallible, future::ready, io, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::connect::{Connection, dns::Name},
    rt::TokioIo,
};
use nettrace::{
    TraceSink,
    bench_support::clock_readings,
    connect::TraceConnectLayer,
    proxy::{Proxy, ProxyLayer},
    request::{TraceBody, TraceRequestLayer},
    resolve::TraceResolveLayer,
    server::{TraceListener, TraceServerLayer, TraceTlsAcceptor},
    tls::TraceTlsLayer,
};
use rustls::pki_types::ServerName;
use test_support::{pipe::Pipe, pki::Authority};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsConnector;
use tower::{Layer, ServiceExt, service_fn};

use crate::{
    fixture::{acceptor, exchange, pipe, run, uri},
    sinks,
};

/// Asserts that a sink that is off reads no clock. One that is on does, which shows that the count works.
#[track_caller]
fn assert_none<F: Future<Output = ()>>(what: impl Fn(TraceSink) -> F) {
    let counted = |sink| {
        let before = clock_readings();
        run(what(sink));
        clock_readings() - before
    };
    for (how, sink) in sinks() {
        assert_eq!(counted(sink), 0, "{how}");
    }
    assert_ne!(counted(TraceSink::new()), 0);
}

#[test]
fn the_request_layer() {
    assert_none(async |sink| {
        let answer = service_fn(async |request: Request<TraceBody<Full<Bytes>>>| {
            request.into_body().collect().await?;
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("answer")))
        });
        let request = Request::new(Full::from("question"));
        let response = TraceRequestLayer::new(&sink).layer(answer).oneshot(request).await.unwrap();
        response.into_body().collect().await.unwrap();
    });
}

#[test]
fn the_request_layer_over_a_service_that_fails() {
    assert_none(async |sink| {
        let fail = service_fn(|_: Request<TraceBody<Full<Bytes>>>| {
            ready(Err::<Response<Full<Bytes>>, _>(io::Error::other("no")))
        });
        let request = Request::new(Full::from("question"));
        assert!(TraceRequestLayer::new(&sink).layer(fail).oneshot(request).await.is_err());
    });
}

#[test]
fn the_connect_layer_and_its_streams() {
    assert_none(async |sink| {
        let (connector, there) = pipe();
        let stream = TraceConnectLayer::new(&sink).layer(connector).oneshot(uri("http")).await.unwrap();
        stream.connected();
        exchange(stream, there).await;
    });
}

#[test]
fn the_connect_layer_over_a_connector_that_fails() {
    assert_none(async |sink| {
        let fail = service_fn(|_: Uri| ready(Err::<TokioIo<Pipe>, _>(io::Error::other("no"))));
        assert!(TraceConnectLayer::new(&sink).layer(fail).oneshot(uri("http")).await.is_err());
    });
}

/// The layer uses the sink of the dial around it, whose own readings are counted separately.
#[test]
fn the_resolve_layer() {
    assert_none(async |sink| {
        let connector = service_fn(|_: Uri| {
            let resolve = service_fn(|_: Name| ready(Ok::<_, Infallible>(None::<SocketAddr>.into_iter())));
            let before = clock_readings();
            let name = "pipe.test".parse::<Name>().unwrap();
            let addresses = TraceResolveLayer::new().layer(resolve).oneshot(name);
            async move {
                assert_eq!(addresses.await.unwrap().count(), 0);
                Err::<TokioIo<Pipe>, _>(io::Error::other(clock_readings().abs_diff(before).to_string()))
            }
        });
        let dialed = TraceConnectLayer::new(&sink).layer(connector).oneshot(uri("http")).await;
        let by_the_layer = dialed.map(drop).unwrap_err().to_string();
        assert_eq!(by_the_layer != "0", sink.is_enabled(), "{by_the_layer}");
    });
}

#[test]
fn the_tls_layer() {
    assert_none(async |sink| {
        let (connector, there) = pipe();
        let layer = TraceTlsLayer::builder(&sink).danger_accept_invalid_certs().build();
        let (stream, there) =
            tokio::join!(layer.layer(connector).oneshot(uri("https")), acceptor().accept(there));
        exchange(stream.unwrap(), there.unwrap()).await;
    });
}

#[test]
fn the_tls_layer_over_a_handshake_that_fails() {
    assert_none(async |sink| {
        let (connector, mut there) = pipe();
        there.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let layer = TraceTlsLayer::builder(&sink).danger_accept_invalid_certs().build();
        assert!(layer.layer(connector).oneshot(uri("https")).await.is_err());
    });
}

#[test]
fn the_proxy_layer() {
    const REPLY: &[u8] = b"\x05\0\0\x01\0\0\0\0\0\0";
    /// How much is heard, and what is said to it.
    type Talk = &'static [(usize, &'static [u8])];
    let talks: [(&str, Talk); 4] = [
        ("http://joe:secret@proxy.test", &[(1, b"HTTP/1.1 200 OK\r\nvia: proxy\r\n\r\n")]),
        ("http://proxy.test", &[(1, b"HTTP/1.1 403 Forbidden\r\n\r\n")]),
        ("socks5h://proxy.test", &[(3, b"\x05\0"), (1, REPLY)]),
        ("socks5h://proxy.test", &[(3, b"\x05\xff")]),
    ];
    for (proxy, talk) in talks {
        assert_none(async |sink| {
            let (connector, mut there) = pipe();
            let layer = ProxyLayer::new(&sink, proxy.parse::<Proxy>().unwrap());
            let connecting =
                layer.layer(TraceConnectLayer::new(&sink).layer(connector)).oneshot(uri("https"));
            let answering = async {
                for (length, answer) in talk {
                    let mut heard = vec![0; 4096];
                    let mut len = 0;
                    while len < *length {
                        len += there.read(&mut heard).await.unwrap();
                    }
                    there.write_all(answer).await.unwrap();
                }
            };
            let (stream, ()) = tokio::join!(connecting, answering);
            if let Ok(stream) = stream {
                stream.connected();
                exchange(stream, there).await;
            }
        });
    }
}

#[test]
fn all_layers_over_each_other() {
    assert_none(async |sink| {
        let (connector, there) = pipe();
        let connector = TraceTlsLayer::builder(&sink)
            .danger_accept_invalid_certs()
            .build()
            .layer(TraceConnectLayer::new(&sink).layer(connector));
        let (stream, there) = tokio::join!(connector.oneshot(uri("https")), acceptor().accept(there));
        exchange(stream.unwrap(), there.unwrap()).await;
    });
}

#[test]
fn the_accepting_side() {
    assert_none(async |sink| {
        let authority = Authority::new("nettrace test CA");
        let acceptor = TraceTlsAcceptor::new(&sink, Arc::new(authority.issue(&["pipe.test"]).server()));
        let listener = TraceListener::new(&sink, TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = listener.local_addr().unwrap();
        let accepting = async {
            let (stream, _) = listener.accept().await.unwrap();
            acceptor.accept(stream).await.unwrap()
        };
        let connecting = async {
            let connector = TlsConnector::from(Arc::new(authority.client()));
            let stream = TcpStream::connect(address).await.unwrap();
            connector.connect(ServerName::try_from("pipe.test").unwrap(), stream).await.unwrap()
        };
        let (stream, there) = tokio::join!(accepting, connecting);
        exchange(TokioIo::new(stream), there).await;
    });
    assert_none(async |sink| {
        let answer = service_fn(async |request: Request<TraceBody<Full<Bytes>>>| {
            request.into_body().collect().await?;
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("answer")))
        });
        let request = Request::new(Full::from("question"));
        let response = TraceServerLayer::new(&sink).layer(answer).oneshot(request).await.unwrap();
        response.into_body().collect().await.unwrap();
    });
}
