//! Asks for gzip and undoes it, when nobody else speaks of encodings (as Go's transport does).

use crate::{
    error::{DecodeError, classify},
    sink::{DecodeWatch, RequestHandle},
};
use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use http::{HeaderValue, Method, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    error::Error,
    fmt,
    future::{Ready, ready},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower_http::decompression::{Decompression, DecompressionBody};
use tower_service::Service;

type BoxError = Box<dyn Error + Send + Sync>;

#[derive(Clone, Debug)]
pub(super) struct Decompress<S> {
    inner: S,
    on: bool,
}

impl<S> Decompress<S> {
    pub(super) fn new(inner: S, on: bool) -> Self {
        Decompress { inner, on }
    }
}

impl<S, B, R> Service<Request<B>> for Decompress<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body,
    R::Error: Into<BoxError>,
{
    type Response = Response<Decoded<R>>;
    type Error = S::Error;
    type Future = DecompressFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let headers = request.headers();
        let spoken_for = headers.contains_key(header::ACCEPT_ENCODING) || headers.contains_key(header::RANGE);
        let asks = self.on && !spoken_for && request.method() != Method::HEAD;
        if asks {
            request.headers_mut().insert(header::ACCEPT_ENCODING, GZIP);
        }
        DecompressFuture { inner: self.inner.call(request), asks }
    }
}

const GZIP: HeaderValue = HeaderValue::from_static("gzip");

pin_project! {
    pub(super) struct DecompressFuture<F> {
        #[pin]
        inner: F,
        asks: bool,
    }
}

impl<F, R, E> Future for DecompressFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
    R::Error: Into<BoxError>,
{
    type Output = Result<Response<Decoded<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        Poll::Ready(Ok(if *this.asks && is_encoded(&response) {
            decode(response)
        } else {
            response.map(|inner| Decoded::AsItCame { inner })
        }))
    }
}

fn is_encoded<B: Body>(response: &Response<B>) -> bool {
    let encoding = response.headers().get(header::CONTENT_ENCODING);
    encoding.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"gzip"))
        && !response.body().is_end_stream()
}

fn decode<B: Body>(mut response: Response<B>) -> Response<Decoded<B>>
where
    B::Error: Into<BoxError>,
{
    response.headers_mut().insert(header::CONTENT_ENCODING, GZIP);
    let watch = DecodeWatch::begin(response.extensions().get::<RequestHandle>());
    // The decoder is to be had as a service only.
    let mut decoder = Decompression::new(There(Some(response.map(|inner| Below { inner }))));
    match decoder.call(Request::new(())).now_or_never() {
        Some(Ok(response)) => response.map(|inner| Decoded::Gzip { inner, watch }),
        None | Some(Err(Gone)) => unreachable!("the decoder gives back the response that is there, at once"),
    }
}

/// Answers with what it has.
struct There<B>(Option<Response<B>>);

#[derive(Debug)]
struct Gone;

impl<B> Service<Request<()>> for There<B> {
    type Response = Response<B>;
    type Error = Gone;
    type Future = Ready<Result<Response<B>, Gone>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(self.0.take().ok_or(Gone))
    }
}

pin_project! {
    /// Marks the errors of a body, so that they can be told from those of its decoder.
    pub(super) struct Below<B> {
        #[pin]
        inner: B,
    }
}

#[derive(Debug)]
pub(super) struct FromBelow(BoxError);

impl fmt::Display for FromBelow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for FromBelow {}

impl<B: Body> Body for Below<B>
where
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = FromBelow;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, FromBelow>>> {
        let marked = |error: B::Error| FromBelow(error.into());
        self.project().inner.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(marked)))
    }
}

/// The body's error as it was, or the decoder's own.
fn whose(error: BoxError) -> BoxError {
    match error.downcast::<FromBelow>() {
        Ok(below) => below.0,
        Err(own) => DecodeError(own).into(),
    }
}

pin_project! {
    /// A body as its reader gets it.
    #[project = DecodedProjection]
    pub(super) enum Decoded<B: Body>
    where
        B::Error: Into<BoxError>,
    {
        AsItCame {
            #[pin]
            inner: B,
        },
        Gzip {
            #[pin]
            inner: DecompressionBody<Below<B>>,
            watch: DecodeWatch,
        },
    }
}

impl<B> Body for Decoded<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project() {
            DecodedProjection::AsItCame { inner } => {
                inner.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            DecodedProjection::Gzip { inner, watch } => {
                let frame = ready!(inner.poll_frame(cx)).map(|frame| frame.map_err(whose));
                match &frame {
                    Some(Ok(part)) => watch.received(part.data_ref().map_or(0, Buf::remaining) as u64),
                    Some(Err(error)) => watch.failed(classify::failure(&**error), &classify::chain(&**error)),
                    None => watch.complete(),
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Decoded::AsItCame { inner } => inner.is_end_stream(),
            Decoded::Gzip { inner, .. } => inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Decoded::AsItCame { inner } => inner.size_hint(),
            Decoded::Gzip { inner, .. } => inner.size_hint(),
        }
    }
}
