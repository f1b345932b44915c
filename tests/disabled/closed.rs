//! The close of a sink ends its records: recorders that outlive it read no clock.
//!
//! Each test runs twice. If the sink stays open, the rest of what has begun does read the clock, which shows that the
//! test would notice.

use std::{
    future::pending,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
};

use bytes::Bytes;
use futures_util::poll;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::TokioIo;
use nettrace::{
    TraceSink,
    bench_support::clock_readings,
    connect::{TcpConnector, TraceConnectLayer},
    proxy::{Proxy, ProxyLayer},
    request::{TraceBody, TraceRequestLayer},
    tls::TraceTlsLayer,
};
use test_support::pipe::Pipe;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};
use tower::{Layer, ServiceExt, service_fn};

use crate::{
    address_reply,
    fixture::{acceptor, exchange, pipe, resolver, run, uri},
};

/// Asserts that what `begin` has begun reads no clock in `rest` if the sink was closed in between.
#[track_caller]
fn assert_none<T>(begin: impl AsyncFn(TraceSink) -> T, rest: impl AsyncFn(T)) {
    let counted = |closes: bool| {
        run(async {
            let sink = TraceSink::new();
            let begun = begin(sink.clone()).await;
            if closes {
                sink.close();
            }
            let before = clock_readings();
            rest(begun).await;
            clock_readings() - before
        })
    };
    assert_eq!(counted(true), 0);
    assert_ne!(counted(false), 0, "the sink is open");
}

#[test]
fn a_connection_with_tls() {
    let begin = async |sink| {
        let (connector, there) = pipe();
        let layer = TraceTlsLayer::builder(&sink).danger_accept_invalid_certs().build();
        let connector = layer.layer(TraceConnectLayer::new(&sink).layer(connector));
        let (stream, there) = tokio::join!(connector.oneshot(uri("https")), acceptor().accept(there));
        (stream.unwrap(), there.unwrap())
    };
    assert_none(begin, async |(stream, there)| exchange(stream, there).await);
}

#[test]
fn a_response() {
    let begin = async |sink| {
        let answer = service_fn(async |_: Request<TraceBody<Full<Bytes>>>| {
            Ok::<_, io::Error>(Response::new(Full::<Bytes>::from("answer")))
        });
        TraceRequestLayer::new(&sink).layer(answer).oneshot(Request::new(Full::default())).await.unwrap()
    };
    assert_none(begin, async |response| drop(response.into_body().collect().await.unwrap()));
}

#[test]
fn an_informational_response() {
    let begin = async |sink| {
        let (here, mut there) = tokio::io::duplex(1 << 16);
        let (mut client, conn) = hyper::client::conn::http1::handshake(TokioIo::new(here)).await.unwrap();
        tokio::spawn(conn);
        let send = service_fn(move |request: Request<TraceBody<Empty<Bytes>>>| client.send_request(request));
        let layer = TraceRequestLayer::new(&sink).informational(true);
        let mut sending = Box::pin(layer.layer(send).oneshot(Request::new(Empty::new())));
        let mut request = [0; 512];
        tokio::select! {
            _ = &mut sending => panic!("answered before the response"),
            read = there.read(&mut request) => read.unwrap(),
        };
        (sending, there)
    };
    assert_none(begin, async |(sending, mut there)| {
        there.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").await.unwrap();
        there.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        sending.await.unwrap().into_body().collect().await.unwrap();
    });
}

#[test]
fn a_dial_that_is_dropped() {
    #[expect(clippy::async_yields_async, reason = "the dial goes on after the close")]
    let begin = async |sink| {
        let connector = service_fn(|_: Uri| pending::<io::Result<TokioIo<Pipe>>>());
        let mut dialing = Box::pin(TraceConnectLayer::new(&sink).layer(connector).oneshot(uri("http")));
        assert!(poll!(&mut dialing).is_pending());
        dialing
    };
    assert_none(begin, async |dialing| drop(dialing));
}

#[test]
fn a_tcp_attempt_that_is_dropped() {
    let begin = async |sink| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (connector, address) = (TcpConnector::new(&sink), listener.local_addr().unwrap());
        let mut attempt = Box::pin(async move { connector.connect(address).await });
        assert!(poll!(&mut attempt).is_pending());
        (attempt, listener)
    };
    assert_none(begin, async |(attempt, _listener)| drop(attempt));
}

#[test]
fn a_tls_handshake_that_is_dropped() {
    let begin = async |sink| {
        let (connector, there) = pipe();
        let layer = TraceTlsLayer::builder(&sink).danger_accept_invalid_certs().build();
        let mut handshake = Box::pin(layer.layer(connector).oneshot(uri("https")));
        assert!(poll!(&mut handshake).is_pending());
        (handshake, there)
    };
    assert_none(begin, async |(handshake, _there)| drop(handshake));
}

#[test]
fn a_socks_handshake_that_is_dropped() {
    let begin = async |sink| {
        let (connector, there) = pipe();
        let layer = ProxyLayer::new(&sink, "socks5h://proxy.test".parse::<Proxy>().unwrap());
        let connector = layer.layer(TraceConnectLayer::new(&sink).layer(connector));
        let mut handshake = Box::pin(connector.oneshot(uri("https")));
        assert!(poll!(&mut handshake).is_pending());
        (handshake, there)
    };
    assert_none(begin, async |(handshake, _there)| drop(handshake));
}

#[test]
fn a_lookup() {
    assert_none(begin_lookup, async |mut lookup: Lookup| {
        let reply = address_reply(&lookup.query);
        lookup.first.send_to(&reply, lookup.client).await.unwrap();
        assert_eq!(lookup.addresses.as_mut().await.len(), 1);
    });
}

#[test]
fn a_lookup_that_asks_another_nameserver() {
    assert_none(begin_lookup, async |mut lookup: Lookup| {
        const SERVFAIL: u8 = 2;
        let mut reply = address_reply(&lookup.query);
        reply[3] |= SERVFAIL;
        lookup.first.send_to(&reply, lookup.client).await.unwrap();
        let mut query = [0; 512];
        let (_, client) = tokio::select! {
            _ = lookup.addresses.as_mut() => panic!("answered before the reply"),
            received = lookup.second.recv_from(&mut query) => received.unwrap(),
        };
        lookup.second.send_to(&address_reply(&query), client).await.unwrap();
        assert_eq!(lookup.addresses.as_mut().await.len(), 1);
    });
}

/// A lookup that has asked the first of two nameservers.
struct Lookup {
    addresses: Pin<Box<dyn Future<Output = Vec<IpAddr>>>>,
    first: UdpSocket,
    second: UdpSocket,
    /// The query that the first nameserver has received, with the address it came from in `client`.
    query: [u8; 512],
    client: SocketAddr,
}

async fn begin_lookup(sink: TraceSink) -> Lookup {
    let [first, second] =
        [UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap()];
    let resolver = resolver(&sink, [&first, &second].map(|nameserver| nameserver.local_addr().unwrap()));
    let mut addresses = Box::pin(async move { resolver.lookup("web.test").await.unwrap() });
    let mut query = [0; 512];
    let (_, client) = tokio::select! {
        _ = &mut addresses => panic!("answered before the reply"),
        received = first.recv_from(&mut query) => received.unwrap(),
    };
    Lookup { addresses, first, second, query, client }
}

#[cfg(feature = "reqwest")]
mod reqwest {
    //! Dials of a reqwest client, which are recorded when they have ended.

    use super::*;
    use ::reqwest::{Client, Response, Result};
    use nettrace::reqwest::{Observer, RequestBuilderExt};
    use tokio::net::TcpStream;

    /// A request whose dial has begun: nothing is sent before the runtime is told that it is connected.
    struct Sending {
        response: Pin<Box<dyn Future<Output = Result<Response>>>>,
        server: TcpListener,
    }

    impl Sending {
        async fn begin(sink: TraceSink, scheme: &str) -> Sending {
            let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("{scheme}://{}/", server.local_addr().unwrap());
            let tls = TraceTlsLayer::builder(&sink).danger_accept_invalid_certs().into_config().unwrap();
            let observer = Observer::new(&sink).tls(tls);
            let client = observer.install(Client::builder().no_proxy()).unwrap().build().unwrap();
            let mut response = Box::pin(async move { client.get(url).send_traced(&client).await });
            assert!(poll!(&mut response).is_pending());
            Sending { response, server }
        }

        /// Returns the server's end of the connection, once something was sent to it.
        async fn received(&mut self) -> TcpStream {
            let receive = async {
                let mut stream = self.server.accept().await.unwrap().0;
                assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
                stream
            };
            tokio::select! {
                _ = self.response.as_mut() => panic!("answered before the response"),
                stream = receive => stream,
            }
        }
    }

    #[test]
    fn a_dial_that_succeeds() {
        assert_none(
            async |sink| Sending::begin(sink, "http").await,
            async |mut sending| {
                let mut stream = sending.received().await;
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOK").await.unwrap();
                sending.response.await.unwrap().text().await.unwrap();
            },
        );
    }

    #[test]
    fn a_handshake_that_fails() {
        assert_none(
            async |sink| Sending::begin(sink, "https").await,
            async |mut sending| {
                let mut stream = sending.received().await;
                stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
                sending.response.await.unwrap_err();
            },
        );
    }

    #[test]
    fn a_handshake_that_is_dropped() {
        let begin = async |sink| {
            let mut sending = Sending::begin(sink, "https").await;
            let stream = sending.received().await;
            (sending, stream)
        };
        assert_none(begin, async |(sending, _stream)| drop(sending));
    }
}
