//! Serves the requests of one connection.

use crate::BoxError;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Either;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::Service;

/// Serves HTTP/1 and HTTP/2, as the client begins.
pub async fn serve<S, H>(stream: S, health: HealthServer<H>) -> Result<(), BoxError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Health,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let health = is_grpc(&request).then(|| health.clone());
        async move {
            match health {
                Some(mut health) => Ok(health.call(request).await?.map(Either::Left)),
                None => answer(&request).map(|response| response.map(Either::Right)),
            }
        }
    });
    auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await
}

/// Returns `true` for calls of the health service.
fn is_grpc(request: &Request<Incoming>) -> bool {
    let path = request.uri().path().strip_prefix('/');
    let service = path.and_then(|path| path.split_once('/'));
    service.is_some_and(|(service, _)| service == tonic_health::pb::health_server::SERVICE_NAME)
}

fn answer(request: &Request<Incoming>) -> Result<Response<Zeros>, Infallible> {
    let length = match request.uri().path() {
        "/1k" => Some(1 << 10),
        "/big" => request.uri().query().and_then(|query| query.strip_prefix("n=")?.parse().ok()),
        _ => None,
    };
    let mut response = Response::new(Zeros(length.unwrap_or(0)));
    if length.is_none() {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    Ok(response)
}

/// A body of zeros, with the number of bytes that are left.
struct Zeros(u64);

impl Body for Zeros {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        const ZEROS: Bytes = Bytes::from_static(&[0; 256 << 10]);
        if self.0 == 0 {
            return Poll::Ready(None);
        }
        let part = self.0.min(ZEROS.len() as u64);
        self.0 -= part;
        Poll::Ready(Some(Ok(Frame::data(ZEROS.slice(..part as usize)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0 == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}
