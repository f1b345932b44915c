//! Traced channels that are not boxed, as they are in other tests: code that compiles with tonic's channel must compile
//! with a traced one, and must have the same outcome.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::join_all;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use nettrace::connect::{TcpConnector, TracedIo};
use nettrace::tonic::{
    BoxChannel, Channel, connect, connect_lazy, connect_with_connector, connect_with_connector_lazy,
};
use nettrace::{ResponseExt as _, TraceSink};
use tokio::net::TcpStream;
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Request, Status};
use tower::load_shed::LoadShed;

use crate::greeter::{GreeterClient, Name};
use crate::servers::{ReservedPort, assert_linked, call, closed, greet};
use test_support::check;
use test_support::web::{ReceivedRequest, Web, reply};

/// Runs the scenario over an untraced channel, over a traced one, and over one with a disabled sink. Asserts that the
/// outcomes are equal, and returns the outcome.
macro_rules! assert_same {
    ($endpoint:expr, |$channel:ident| $scenario:expr) => {{
        let untraced = {
            let $channel = $endpoint.connect_lazy();
            $scenario
        };
        for sink in [TraceSink::new(), TraceSink::disabled()] {
            let traced = {
                let $channel = connect_lazy(&sink, $endpoint);
                $scenario
            };
            assert_eq!(untraced, traced, "{sink:?}");
        }
        untraced
    }};
}

fn permission_denied() -> Web {
    Web::start(async |_| {
        let mut response = reply("");
        response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        response.headers_mut().insert("grpc-status", "7".parse().unwrap());
        response
    })
}

fn last_request(web: &Web) -> ReceivedRequest {
    web.requests().pop().expect("a request")
}

#[tokio::test]
async fn interceptors_have_the_same_effect() {
    let web = permission_denied();
    let endpoint = || Endpoint::from_shared(web.url("")).unwrap();
    let sent = assert_same!(endpoint(), |channel| {
        let adds = |mut request: Request<()>| {
            request.metadata_mut().insert("x-token", "1".parse().unwrap());
            Ok(request)
        };
        let status = GreeterClient::with_interceptor(channel, adds).greet(Name::of("Ada")).await.unwrap_err();
        (status.code(), last_request(&web).header("x-token").to_owned())
    });
    assert_eq!(sent, (Code::PermissionDenied, "1".to_owned()));
    let count = web.requests().len();
    let refused = assert_same!(endpoint(), |channel| {
        let refuses = |_: Request<()>| Err(Status::unauthenticated("no token"));
        let status =
            GreeterClient::with_interceptor(channel, refuses).greet(Name::of("Ada")).await.unwrap_err();
        (status.code(), status.message().to_owned())
    });
    assert_eq!(refused, (Code::Unauthenticated, "no token".to_owned()));
    assert_eq!(web.requests().len(), count, "a rejected call is not sent");
}

#[tokio::test]
async fn the_user_agent_is_the_same() {
    let web = permission_denied();
    for agent in [None, Some("greeter/1")] {
        let endpoint = || {
            let endpoint = Endpoint::from_shared(web.url("")).unwrap();
            agent.into_iter().fold(endpoint, |endpoint, agent| endpoint.user_agent(agent).unwrap())
        };
        let seen = assert_same!(endpoint(), |channel| {
            GreeterClient::new(channel).greet(Name::of("Ada")).await.unwrap_err();
            last_request(&web).header("user-agent").to_owned()
        });
        assert!(seen.starts_with(agent.unwrap_or("tonic/")), "{seen}");
    }
}

/// The record has the URL that the server receives.
#[tokio::test]
async fn the_recorded_url_has_the_origin() {
    let web = permission_denied();
    let plain = || Endpoint::from_shared(web.url("")).unwrap();
    let origin = || plain().origin("https://docs.rs".parse().unwrap());
    for (endpoint, expected) in
        [(&plain as &dyn Fn() -> Endpoint, web.url("")), (&origin, "https://docs.rs".to_owned())]
    {
        let uri = assert_same!(endpoint(), |channel| {
            GreeterClient::new(channel).greet(Name::of("Ada")).await.unwrap_err();
            last_request(&web).uri.to_string()
        });
        assert_eq!(uri, format!("{expected}/greeter.Greeter/Greet"));
        let sink = TraceSink::new();
        for channel in [connect(&sink, endpoint()).await.unwrap(), connect_lazy(&sink, endpoint())] {
            let (handle, outcome) = greet(&GreeterClient::new(channel), "Ada").await;
            outcome.unwrap_err();
            assert_eq!(*handle.trace().http_requests[0].req_url, *uri);
        }
        let with_origin =
            GreeterClient::with_origin(connect_lazy(&sink, endpoint()), "http://other.test".parse().unwrap());
        let (handle, _) = greet(&with_origin, "Ada").await;
        assert_eq!(*handle.trace().http_requests[0].req_url, *"http://other.test/greeter.Greeter/Greet");
    }
}

/// Load shedding by the server, and by the client.
#[tokio::test]
async fn load_shedding_has_the_same_outcome() {
    let place = ReservedPort::new();
    let server = place.serve_with(Server::builder().load_shed(true).concurrency_limit_per_connection(0));
    let code = assert_same!(place.endpoint(), |channel| {
        GreeterClient::new(channel).greet(Name::of("Ada")).await.unwrap_err().code()
    });
    assert_eq!(code, Code::ResourceExhausted);
    drop(server);

    // The first call fills the channel's buffer, so the channel is not ready for the others.
    let _server = place.serve();
    let outcomes = assert_same!(place.endpoint().buffer_size(1), |channel| {
        let client = GreeterClient::new(LoadShed::new(channel));
        let calls = (0..4).map(|_| {
            let mut client = client.clone();
            async move {
                let answer = client.greet(Name::of("Ada")).await;
                answer.map(|answer| answer.into_inner().text).map_err(|status| status.message().to_owned())
            }
        });
        join_all(calls).await
    });
    let shed = || Err("Too many active requests for the connection".to_owned());
    assert_eq!(outcomes, [Ok("hello Ada".to_owned()), shed(), shed(), shed()]);
}

/// A boxed channel, for clients that are not generic over their channel, such as etcd's.
#[tokio::test]
async fn a_channel_can_be_boxed() {
    /// The definition of `etcd_client::CustomChannel`.
    type Custom = tower::util::BoxCloneSyncService<
        http::Request<tonic::body::Body>,
        http::Response<tonic::body::Body>,
        tower::BoxError,
    >;
    let place = ReservedPort::new();
    let server = place.serve();
    let sink = TraceSink::new();
    let channel: Channel = connect(&sink, place.endpoint()).await.unwrap();
    let boxed: BoxChannel = channel.boxed();
    let custom: Custom = boxed;
    let (handle, request) = call(Name::of("Ada"));
    let answer = GreeterClient::new(custom).greet(request).await.unwrap();
    assert!(answer.request_handle().is_some());
    assert_linked(&sink.snapshot(""), &handle, answer.into_inner().port as u16);

    drop(server);
    drop(place);
    let refused = test_support::raw::Refused::on("127.0.0.1:0");
    let endpoint = Endpoint::from_shared(format!("http://{}", refused.addr)).unwrap();
    let status =
        GreeterClient::new(connect_lazy(&sink, endpoint).boxed()).greet(Name::of("Ada")).await.unwrap_err();
    let is_transport_error = |error: &(dyn Error + 'static)| error.is::<tonic::transport::Error>();
    assert!(status.source().is_some_and(is_transport_error), "{status:?}");
}

/// A stream without connection metadata.
struct OpaqueStream(TokioIo<TracedIo<TcpStream>>);

impl Read for OpaqueStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for OpaqueStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Streams need not have connection metadata, as with tonic.
#[tokio::test]
async fn every_connector_that_tonic_accepts_is_accepted() {
    let place = ReservedPort::new();
    let _server = place.serve();
    let (sink, addr) = (TraceSink::new(), place.addr());
    let tcp = TcpConnector::new(&sink);
    let opaque = tower::service_fn(move |_: http::Uri| {
        let tcp = tcp.clone();
        async move { tcp.connect(addr).await.map(|io| OpaqueStream(TokioIo::new(io))) }
    });
    for channel in [
        connect_with_connector(&sink, place.endpoint(), opaque.clone()).await.unwrap(),
        connect_with_connector_lazy(&sink, place.endpoint(), opaque),
    ] {
        let client = GreeterClient::new(channel);
        let (handle, port) = greet(&client, "Ada").await;
        assert_linked(&sink.snapshot(""), &handle, port.unwrap());
    }

    // The connection is established before the channel is created.
    let io = TcpConnector::new(&sink).connect(addr).await.unwrap();
    let mut io = Some(TokioIo::new(io));
    let ready = tower::service_fn(move |_: http::Uri| std::future::ready(io.take().ok_or("once")));
    let client = GreeterClient::new(connect_with_connector(&sink, place.endpoint(), ready).await.unwrap());
    let (handle, port) = greet(&client, "Ada").await;
    assert_linked(&sink.snapshot(""), &handle, port.unwrap());
    drop(client);
    check::finished(&closed(&sink).await);
}

/// If the connector keeps both connections open, it is unknown which one it returned. If one is left, the call is
/// linked to it.
#[tokio::test]
async fn a_call_is_linked_only_if_its_connection_is_unambiguous() {
    let place = ReservedPort::new();
    let _server = place.serve();
    let (sink, addr) = (TraceSink::new(), place.addr());
    for keeps_both in [false, true] {
        let tcp = TcpConnector::new(&sink);
        let kept = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let connector = tower::service_fn(move |_: http::Uri| {
            let (tcp, kept) = (tcp.clone(), kept.clone());
            async move {
                let first = tcp.connect(addr).await?;
                if keeps_both {
                    kept.lock().unwrap().push(first);
                } else {
                    drop(first);
                }
                tcp.connect(addr).await.map(|io| OpaqueStream(TokioIo::new(io)))
            }
        });
        let client = GreeterClient::new(connect_with_connector_lazy(&sink, place.endpoint(), connector));
        let (handle, port) = greet(&client, "Ada").await;
        let trace = sink.snapshot("");
        if keeps_both {
            assert!(crate::servers::link(&trace, &handle).1.is_none());
        } else {
            assert_linked(&trace, &handle, port.unwrap());
        }
    }
}
