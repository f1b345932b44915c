//! Layers whose sink is off add no allocation.

use std::{convert::Infallible, future::ready, io, net::SocketAddr};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::connect::{Connection, dns::Name},
    rt::TokioIo,
};
use nettrace::{
    ResponseExt, TraceSink,
    connect::{TcpConnector, TraceConnectLayer},
    request::{TraceBody, TraceRequestLayer},
    resolve::TraceResolveLayer,
    tls::TraceTlsLayer,
};
use test_support::{alloc, endless::Endless, wait::now};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower::{Layer, Service, service_fn};

use crate::{address_reply, fixture::resolver, sinks};

/// Returns the allocations of the second run of `f`. The first run may make one-time allocations.
fn allocations<R>(mut f: impl FnMut() -> R) -> u64 {
    f();
    let before = alloc::calls();
    f();
    alloc::calls() - before
}

type Body = Full<Bytes>;

fn request() -> Request<Body> {
    Request::new(Body::from("question"))
}

fn answer<B>(_: Request<B>) -> std::future::Ready<Result<Response<Body>, Infallible>> {
    ready(Ok(Response::new(Body::from("answer"))))
}

#[cfg(feature = "server")]
#[test]
fn the_server_layer_adds_no_allocation() {
    use nettrace::server::TraceServerLayer;

    let mut bare = service_fn(answer::<Body>);
    let unlayered = allocations(|| now(now(bare.call(request())).unwrap().into_body().collect()).unwrap());
    for (how, sink) in sinks() {
        let mut layered = TraceServerLayer::new(&sink).layer(service_fn(answer::<TraceBody<Body>>));
        let with_layer =
            allocations(|| now(now(layered.call(request())).unwrap().into_body().collect()).unwrap());
        assert_eq!(with_layer, unlayered, "{how}");
    }
}

#[test]
fn the_request_layer_adds_no_allocation() {
    let mut bare = service_fn(answer::<Body>);
    let unlayered = allocations(|| now(now(bare.call(request())).unwrap().into_body().collect()).unwrap());
    for (how, sink) in sinks() {
        let mut layered = TraceRequestLayer::new(&sink).layer(service_fn(answer::<TraceBody<Body>>));
        let with_layer = allocations(|| {
            let response = now(layered.call(request())).unwrap();
            assert!(response.request_handle().is_none());
            now(response.into_body().collect()).unwrap()
        });
        assert_eq!(with_layer, unlayered, "{how}");
    }
}

/// Both services take a boxed body, so the allocations of the boxes cancel out.
#[test]
fn the_request_layer_adds_no_allocation_to_boxed_bodies() {
    type Boxed = http_body_util::combinators::BoxBody<Bytes, Infallible>;
    let mut bare = service_fn(answer::<Boxed>);
    let unlayered = allocations(|| now(bare.call(request().map(Boxed::new))).unwrap());
    for (how, sink) in sinks() {
        let layer = TraceRequestLayer::new(&sink).boxed(|body: TraceBody<Body>| Boxed::new(body));
        let mut layered = layer.layer(service_fn(answer::<Boxed>));
        assert_eq!(allocations(|| now(layered.call(request())).unwrap()), unlayered, "{how}");
    }
}

fn uri() -> Uri {
    Uri::from_static("http://example.test:80/")
}

fn connect(_: Uri) -> std::future::Ready<io::Result<TokioIo<Endless>>> {
    ready(Ok(TokioIo::new(Endless)))
}

async fn exchange(stream: impl hyper::rt::Read + hyper::rt::Write + Unpin) {
    let (mut stream, mut buffer) = (TokioIo::new(stream), [0; 100]);
    stream.write_all(b"hello").await.unwrap();
    stream.read_exact(&mut buffer).await.unwrap();
    stream.shutdown().await.unwrap();
}

#[test]
fn the_connect_layer_and_its_streams_add_no_allocation() {
    let mut bare = service_fn(connect);
    let unlayered = allocations(|| {
        let stream = now(bare.call(uri())).unwrap();
        stream.connected();
        now(exchange(stream));
    });
    for (how, sink) in sinks() {
        let mut layered = TraceConnectLayer::new(&sink).layer(service_fn(connect));
        let with_layer = allocations(|| {
            let stream = now(layered.call(uri())).unwrap();
            assert!(stream.conn_ref().is_none());
            stream.connected();
            now(exchange(stream));
        });
        assert_eq!(with_layer, unlayered, "{how}");
    }
}

#[test]
fn failed_dials_and_requests_add_no_allocation() {
    type BoxError = Box<dyn std::error::Error + Send + Sync>;
    let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, "refused");
    let bare = allocations(|| BoxError::from(refused()));
    for (how, sink) in sinks() {
        let mut connector = TraceConnectLayer::new(&sink)
            .layer(service_fn(|_: Uri| ready(Err::<TokioIo<Endless>, _>(refused()))));
        assert_eq!(allocations(|| now(connector.call(uri())).unwrap_err()), bare, "{how}");
        let mut service = TraceRequestLayer::new(&sink).layer(service_fn(|_: Request<TraceBody<Body>>| {
            ready(Err::<Response<Body>, _>(BoxError::from(refused())))
        }));
        assert_eq!(allocations(|| now(service.call(request())).unwrap_err()), bare, "{how}");
    }
}

/// Returns the allocations of the second run of `f`, all on this thread.
fn allocations_of<R>(mut f: impl AsyncFnMut() -> R) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        f().await;
        let before = alloc::calls();
        f().await;
        alloc::calls() - before
    })
}

/// The allocations that the connector adds to tokio's own: the text of the destination, and the lists of its addresses
/// and of their outcomes.
const CONNECTED: u64 = 3;
/// The same for a refused connection, with its error.
const REFUSED: u64 = 6;

#[test]
fn the_tcp_connector_adds_a_fixed_number_of_allocations() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let bare = allocations_of(async || TcpStream::connect(addr).await.unwrap());
    for (how, sink) in sinks() {
        let connector = TcpConnector::new(&sink);
        let connected = allocations_of(async || connector.connect(addr).await.unwrap());
        assert_eq!(connected - bare, CONNECTED, "{how}");
    }
    drop(listener);
    let bare = allocations_of(async || TcpStream::connect(addr).await.unwrap_err());
    for (how, sink) in sinks() {
        let connector = TcpConnector::new(&sink);
        let refused = allocations_of(async || connector.connect(addr).await.unwrap_err());
        assert_eq!(refused - bare, REFUSED, "{how}");
    }
}

/// Starts a nameserver, on a thread of its own, that has the same address for every name.
fn nameserver() -> SocketAddr {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut message = [0; 512];
        while let Ok((_, from)) = socket.recv_from(&mut message) {
            socket.send_to(&address_reply(&message), from).unwrap();
        }
    });
    addr
}

/// There is no untraced resolver to compare with, so the sinks that are off are compared with each other.
#[test]
fn the_stub_resolver_allocates_the_same_with_each_sink_that_is_off() {
    let nameserver = nameserver();
    let lookup = |sink: &TraceSink| {
        let resolver = resolver(sink, [nameserver]);
        allocations_of(async || assert_eq!(resolver.lookup("web.test").await.unwrap().len(), 1))
    };
    let bare = lookup(&TraceSink::disabled());
    for (how, sink) in sinks() {
        assert_eq!(lookup(&sink), bare, "{how}");
    }
    assert!(lookup(&TraceSink::new()) > bare);
}

/// The URI is plain HTTP, because TLS itself allocates.
#[test]
fn the_tls_layer_adds_no_allocation_without_tls() {
    let mut bare = service_fn(connect);
    let unlayered = allocations(|| now(exchange(now(bare.call(uri())).unwrap())));
    for (how, sink) in sinks() {
        let layer = TraceTlsLayer::builder(&sink).danger_accept_invalid_certs().build();
        let mut layered = layer.layer(service_fn(connect));
        let with_layer = allocations(|| now(exchange(now(layered.call(uri())).unwrap())));
        assert_eq!(with_layer, unlayered, "{how}");
    }
}

#[test]
fn the_resolve_layer_adds_no_allocation() {
    let resolve = |_: Name| ready(Ok::<_, Infallible>(None::<SocketAddr>.into_iter()));
    let name: Name = "example.test".parse().unwrap();
    let mut bare = service_fn(resolve);
    let unlayered = allocations(|| now(bare.call(name.clone())).unwrap());
    let mut layered = TraceResolveLayer::new().layer(service_fn(resolve));
    assert_eq!(allocations(|| now(layered.call(name.clone())).unwrap()), unlayered);
}

/// Proves that the allocator counts.
#[test]
fn a_sink_that_is_on_allocates() {
    let sink = TraceSink::new();
    let mut layered = TraceRequestLayer::new(&sink).layer(service_fn(answer::<TraceBody<Body>>));
    let mut bare = service_fn(answer::<Body>);
    let unlayered = allocations(|| now(bare.call(request())).unwrap());
    assert!(allocations(|| now(layered.call(request())).unwrap()) > unlayered);
    assert!(alloc::live() != 0);
}

/// The whole channel runs on this thread. The network delivers data in different pieces each time, so the cheapest of
/// 50 calls counts.
#[cfg(feature = "tonic")]
#[test]
fn a_tonic_channel_adds_no_allocation() {
    use tonic::{Code, transport::Endpoint};
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || {
        runtime().block_on(async {
            listener.set_nonblocking(true).unwrap();
            let incoming = tonic::transport::server::TcpIncoming::from(
                tokio::net::TcpListener::from_std(listener).unwrap(),
            );
            let (_reporter, health) = tonic_health::server::health_reporter();
            let server = tonic::transport::Server::builder().add_service(health);
            server.serve_with_incoming_shutdown(incoming, async { drop(stopped.await) }).await.unwrap();
        });
    });
    let client = runtime();
    let endpoint = || Endpoint::from_shared(url.clone()).unwrap();
    fn cheapest<T>(client: &tokio::runtime::Runtime, channel: T) -> u64
    where
        T: tonic::client::GrpcService<tonic::body::Body>,
        T::ResponseBody: http_body::Body<Data = Bytes, Error = tonic::Status> + Send + 'static,
        T::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut health = HealthClient::new(channel);
        let mut call = || {
            let before = alloc::calls();
            let answer = client.block_on(health.check(HealthCheckRequest { service: "none".into() }));
            assert_eq!(answer.map_err(|status| status.code()).err(), Some(Code::NotFound));
            alloc::calls() - before
        };
        (0..50).map(|_| call()).min().unwrap()
    }
    let untraced = cheapest(&client, client.block_on(async { endpoint().connect_lazy() }));
    for (how, sink) in sinks() {
        let channel = client.block_on(async { nettrace::tonic::connect_lazy(&sink, endpoint()) });
        assert_eq!(cheapest(&client, channel), untraced, "{how}");
    }
    drop((stop, client));
    server.join().unwrap();
}

/// The allocations that the connector of a reqwest client adds to each request while its sink is switched off: reqwest
/// clones its connector six times per request, and one with a layer is in two boxes.
#[cfg(feature = "reqwest")]
const REQWEST_SWITCHED_OFF: u64 = 12;

/// Requests over a connection that is kept alive.
#[cfg(feature = "reqwest")]
#[test]
fn a_reqwest_client_adds_no_allocation() {
    use nettrace::reqwest::TraceClient;
    use std::io::{BufRead, BufReader, Write};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                for line in BufReader::new(&stream).lines().map_while(Result::ok) {
                    if line.is_empty() {
                        (&stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").unwrap();
                    }
                }
            });
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cheapest =
        |send: &dyn Fn() -> std::pin::Pin<Box<dyn Future<Output = reqwest::Result<reqwest::Response>>>>| {
            let call = || {
                let before = alloc::calls();
                runtime.block_on(async { assert_eq!(send().await.unwrap().bytes().await.unwrap(), "hello") });
                alloc::calls() - before
            };
            (0..50).map(|_| call()).min().unwrap()
        };
    // Without a TLS configuration reqwest needs a crypto provider of the process.
    let tls =
        TraceTlsLayer::builder(&TraceSink::disabled()).danger_accept_invalid_certs().into_config().unwrap();
    let builder = || reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls.clone());
    let plain = builder().build().unwrap();
    let untraced = cheapest(&|| Box::pin(plain.get(&url).send()));
    for (how, sink) in sinks() {
        let client: TraceClient = nettrace::reqwest::trace(builder(), &sink).unwrap().build().unwrap();
        let traced = cheapest(&|| Box::pin(client.execute(client.get(&url).build().unwrap())));
        let added = if how == "switched off" { REQWEST_SWITCHED_OFF } else { 0 };
        assert_eq!(traced - untraced, added, "{how}");
    }
}

#[cfg(feature = "server")]
#[test]
fn a_listener_adds_no_allocation() {
    use nettrace::server::TraceListener;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listen = || runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    // The runtime sometimes grows its slab of sockets, so the cheapest of 20 calls counts.
    let cheapest = |accept: &dyn Fn()| (0..20).map(|_| allocations(accept)).min().unwrap();
    let bare = listen();
    let addr = bare.local_addr().unwrap();
    let unlayered = cheapest(&|| {
        let _client = std::net::TcpStream::connect(addr).unwrap();
        runtime.block_on(bare.accept()).unwrap();
    });
    for (how, sink) in sinks() {
        let listener = TraceListener::new(&sink, listen());
        let addr = listener.local_addr().unwrap();
        let with_layer = cheapest(&|| {
            let _client = std::net::TcpStream::connect(addr).unwrap();
            runtime.block_on(listener.accept()).unwrap();
        });
        assert_eq!(with_layer, unlayered, "{how}");
    }
}
