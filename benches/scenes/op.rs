//! One read or write of a stream that is always ready.

use super::{Again, Scene, Work, now};
use http::Uri;
use nettrace::{
    TraceSink,
    connect::{TraceConnectLayer, TracedIo},
};
use std::{
    convert::Infallible,
    future::ready,
    hint::black_box,
    pin::Pin,
    task::{Context, Poll, Waker},
};
use test_support::endless::Endless;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower::{Layer, Service, service_fn};

pub(super) fn scenes() -> Vec<Scene> {
    vec![
        Scene::new("op/read/bare", || read(Endless)).unguarded(),
        Scene::new("op/read/off", || read(traced(&TraceSink::disabled()))),
        Scene::new("op/read", || read(traced(&TraceSink::new()))),
        Scene::new("op/write/bare", || write(Endless)).unguarded(),
        Scene::new("op/write/off", || write(traced(&TraceSink::disabled()))),
        Scene::new("op/write", || write(traced(&TraceSink::new()))),
    ]
}

fn traced(sink: &TraceSink) -> TracedIo<Endless> {
    let connector = service_fn(|_: Uri| ready(Ok::<_, Infallible>(Endless)));
    let dialled = TraceConnectLayer::new(sink).layer(connector).call(Uri::from_static("http://pipe.test"));
    now(dialled).unwrap()
}

fn read(mut io: impl AsyncRead + Unpin) -> impl Work {
    let mut buffer = [0; SIZE];
    let mut cx = Context::from_waker(Waker::noop());
    Again(move || {
        let mut buffer = ReadBuf::new(&mut buffer);
        let result = Pin::new(black_box(&mut io)).poll_read(&mut cx, &mut buffer);
        assert!(matches!(black_box(result), Poll::Ready(Ok(()))));
    })
}

fn write(mut io: impl AsyncWrite + Unpin) -> impl Work {
    let mut cx = Context::from_waker(Waker::noop());
    Again(move || {
        let result = Pin::new(black_box(&mut io)).poll_write(&mut cx, black_box(&[0; SIZE]));
        assert!(matches!(black_box(result), Poll::Ready(Ok(SIZE))));
    })
}

const SIZE: usize = 1024;
