//! Asks for gzip and undoes it, when nobody else speaks of encodings (as Go's transport does).

use crate::{
    error::classify,
    sink::{DecodeWatch, RequestHandle},
};
use bytes::{Buf, Bytes};
use http::{HeaderMap, Method, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower_http::decompression::Decompression;
use tower_service::Service;

/// Two views of one service: one that asks for gzip, and one that passes everything through.
#[derive(Clone, Debug)]
pub(super) struct Decompress<S> {
    asking: Decompression<S>,
    plain: Decompression<S>,
    on: bool,
}

impl<S: Clone> Decompress<S> {
    pub(super) fn new(inner: S, on: bool) -> Self {
        Decompress {
            asking: Decompression::new(inner.clone()),
            plain: Decompression::new(inner).no_gzip(),
            on,
        }
    }
}

impl<S, B> Service<Request<B>> for Decompress<S>
where
    Decompression<S>: Service<Request<B>>,
{
    type Response = <Decompression<S> as Service<Request<B>>>::Response;
    type Error = <Decompression<S> as Service<Request<B>>>::Error;
    type Future = <Decompression<S> as Service<Request<B>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.plain.poll_ready(cx))?;
        self.asking.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let headers = request.headers();
        let spoken_for = headers.contains_key(header::ACCEPT_ENCODING) || headers.contains_key(header::RANGE);
        if self.on && !spoken_for && request.method() != Method::HEAD {
            self.asking.call(request)
        } else {
            self.plain.call(request)
        }
    }
}

/// In the extensions of a response that came with an encoding.
#[derive(Clone)]
struct Encoded;

/// To be called with what came, so that [`Decoded`] can tell afterwards whether an encoding was undone.
pub(super) fn remember_encoding<B>(mut response: Response<B>) -> Response<B> {
    if is_encoded(response.headers()) {
        response.extensions_mut().insert(Encoded);
    }
    response
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers.contains_key(header::CONTENT_ENCODING)
}

pin_project! {
    /// Counts what the reader gets, where that is not what came.
    pub(super) struct Decoded<B: Body> {
        #[pin]
        inner: B,
        watch: Option<DecodeWatch>,
    }

    impl<B: Body> PinnedDrop for Decoded<B> {
        // A body that has nothing more may never be polled for its end.
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some(watch) = this.watch
                && this.inner.is_end_stream()
            {
                watch.complete();
            }
        }
    }
}

impl<B: Body> Decoded<B> {
    pub(super) fn of(mut response: Response<B>) -> Response<Self> {
        let was_encoded = response.extensions_mut().remove::<Encoded>().is_some();
        let is_decoded = was_encoded && !is_encoded(response.headers());
        let watch = is_decoded.then(|| DecodeWatch::begin(response.extensions().get::<RequestHandle>()));
        response.map(|inner| Decoded { inner, watch })
    }
}

impl<B> Body for Decoded<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.project();
        let mut inner = this.inner;
        let frame = ready!(inner.as_mut().poll_frame(cx)).map(|frame| frame.map_err(Into::into));
        if let Some(watch) = this.watch {
            match &frame {
                Some(Ok(part)) => {
                    watch.received(part.data_ref().map_or(0, |data| data.remaining() as u64));
                    if inner.is_end_stream() {
                        watch.complete();
                    }
                }
                Some(Err(error)) => watch.failed(classify::failure(&**error), &classify::chain(&**error)),
                None => watch.complete(),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
