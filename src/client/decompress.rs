//! Requests gzip and decodes it, like Go's transport: only if the caller has not chosen encodings, so that callers who
//! have get the response as it is.
//!
//! tower-http's decoder does the work. Errors of the body below pass through it marked, as they are not those of the
//! decoder.

use crate::{
    error::{BoxError, DecodeError, classify},
    sink::{DecodedBodyRecorder, ResponseExt},
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

const GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// Whether gzip was requested here and not by the caller.
#[derive(Clone, Copy, Debug)]
pub(super) struct GzipRequest(bool);

impl GzipRequest {
    /// Requests gzip, unless the request says something about encodings itself.
    pub(super) fn add<B>(on: bool, request: &mut Request<B>) -> Self {
        let headers = request.headers();
        let is_chosen =
            || headers.contains_key(header::ACCEPT_ENCODING) || headers.contains_key(header::RANGE);
        let asks = on && request.method() != Method::HEAD && !is_chosen();
        if asks {
            request.headers_mut().insert(header::ACCEPT_ENCODING, GZIP);
        }
        GzipRequest(asks)
    }
}

/// Returns the response with its body decoded, if gzip was requested here.
pub(super) fn decoded<R: Body>(response: Response<R>, GzipRequest(asks): GzipRequest) -> Response<Decoded<R>>
where
    R::Error: Into<BoxError>,
{
    if asks && is_encoded(&response) {
        decode(response)
    } else {
        response.map(|inner| Decoded::Identity { inner })
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
    let watch = DecodedBodyRecorder::begin(response.request_handle());
    // tower-http's decoder is available as a service only.
    let mut decoder = Decompression::new(Prepared(Some(response.map(|inner| MarkErrors { inner }))));
    match decoder.call(Request::new(())).now_or_never() {
        Some(Ok(response)) => response.map(|inner| Decoded::Gzip { inner: Box::pin(inner), watch }),
        None | Some(Err(AlreadyTaken)) => {
            unreachable!("the decoder gives back the response that is there, at once")
        }
    }
}

/// A service that returns the response it holds.
struct Prepared<B>(Option<Response<B>>);

#[derive(Debug)]
struct AlreadyTaken;

impl<B> Service<Request<()>> for Prepared<B> {
    type Response = Response<B>;
    type Error = AlreadyTaken;
    type Future = Ready<Result<Response<B>, AlreadyTaken>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), AlreadyTaken>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(self.0.take().ok_or(AlreadyTaken))
    }
}

pin_project! {
    /// A body that marks its errors, to tell them from those of the decoder above.
    pub(super) struct MarkErrors<B> {
        #[pin]
        inner: B,
    }
}

#[derive(Debug)]
pub(super) struct BodyError(BoxError);

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for BodyError {}

impl<B: Body> Body for MarkErrors<B>
where
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BodyError>>> {
        let marked = |error: B::Error| BodyError(error.into());
        self.project().inner.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(marked)))
    }
}

/// Returns the error of the body below as it was, or the error of the decoder.
fn unmark(error: BoxError) -> BoxError {
    match error.downcast::<BodyError>() {
        Ok(below) => below.0,
        Err(own) => DecodeError(own).into(),
    }
}

pin_project! {
    /// A body as its reader gets it, decoded if that was requested here.
    #[project = DecodedProjection]
    pub(super) enum Decoded<B: Body>
    where
        B::Error: Into<BoxError>,
    {
        Identity {
            #[pin]
            inner: B,
        },
        Gzip {
            inner: Pin<Box<DecompressionBody<MarkErrors<B>>>>,
            watch: DecodedBodyRecorder,
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
            DecodedProjection::Identity { inner } => {
                inner.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            DecodedProjection::Gzip { inner, watch } => {
                let frame = ready!(inner.as_mut().poll_frame(cx)).map(|frame| frame.map_err(unmark));
                match &frame {
                    Some(Ok(part)) => watch.received(part.data_ref().map_or(0, Buf::remaining) as u64),
                    Some(Err(error)) => watch.failed(classify::failure_detail(&**error)),
                    None => watch.complete(),
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Decoded::Identity { inner } => inner.is_end_stream(),
            Decoded::Gzip { inner, .. } => inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Decoded::Identity { inner } => inner.size_hint(),
            Decoded::Gzip { inner, .. } => inner.size_hint(),
        }
    }
}
