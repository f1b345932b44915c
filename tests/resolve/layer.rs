//! `TraceResolveLayer` around a foreign resolver.

use super::*;
use std::{convert::Infallible, io, task::Poll};
use tower::service_fn;

/// Returns a resolver that always returns `result`.
fn resolver_with(
    result: Result<SocketAddr, io::ErrorKind>,
) -> impl Service<Name, Response = std::vec::IntoIter<SocketAddr>, Error = io::Error, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static {
    service_fn(move |_: Name| async move {
        tokio::task::yield_now().await;
        result.map(|address| vec![address].into_iter()).map_err(io::Error::from)
    })
}

#[tokio::test]
async fn a_dial_records_when_its_name_was_resolved() {
    let sink = TraceSink::new();
    let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = target.local_addr().unwrap();
    let resolver = TraceResolveLayer::new().layer(resolver_with(Ok(address)));
    dial(resolver, &sink, address.port()).await.unwrap();
    let trace = sink.snapshot("dial");
    let dial = trace.dials.first().unwrap();
    assert!(dial.resolve_begin_at >= dial.dial_begin_at && dial.resolve_end_at >= dial.resolve_begin_at);
    assert!(dial.resolve_end_at <= dial.dial_end_at);
}

#[tokio::test]
async fn errors_are_passed_on_unchanged() {
    let sink = TraceSink::new();
    let resolver = TraceResolveLayer::new().layer(resolver_with(Err(io::ErrorKind::HostUnreachable)));
    let error = dial(resolver, &sink, 1).await.unwrap_err();
    let cause = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!(cause.kind(), io::ErrorKind::HostUnreachable);
    let trace = sink.snapshot("dial");
    assert!(!trace.dials.first().unwrap().resolve_end_at.is_undefined());
}

#[tokio::test]
async fn a_lookup_outside_a_dial_is_passed_on() {
    let address = SocketAddr::from(([192, 0, 2, 1], 0));
    let resolver = TraceResolveLayer::new().layer(resolver_with(Ok(address)));
    let mut found = resolver.oneshot("web.test".parse::<Name>().unwrap()).await.unwrap();
    assert_eq!(found.next(), Some(address));
}

#[tokio::test]
async fn readiness_is_passed_on() {
    #[derive(Clone)]
    struct NeverReady;
    impl Service<Name> for NeverReady {
        type Response = ();
        type Error = Infallible;
        type Future = std::future::Pending<Result<(), Infallible>>;
        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Pending
        }
        fn call(&mut self, _: Name) -> Self::Future {
            std::future::pending()
        }
    }
    let mut resolver = TraceResolveLayer::new().layer(NeverReady);
    let ready = std::future::poll_fn(|cx| Poll::Ready(resolver.poll_ready(cx).is_ready())).await;
    assert!(!ready);
    assert!(matches!(resolver.into_inner(), NeverReady));
}
