//! Methods for reqwest's request builder.

use super::{
    adapter::{ClientAdapter, ClientAdapterFuture},
    client::TraceClient,
    future::TraceClientFuture,
};
use crate::{client::Client, sink::RequestHandle};
use ::reqwest::{Error, RequestBuilder, Response};
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

/// Extends reqwest's request builder with alternatives to [`send`](RequestBuilder::send).
pub trait RequestBuilderExt: sealed::Sealed {
    /// Sends the request with `client` and records it.
    fn send_traced(self, client: &TraceClient) -> SendTraced;

    /// Sends the request with this crate's `client` instead of reqwest's. See [`ClientAdapter`].
    fn send_through(self, client: &Client) -> ClientAdapterFuture;
}

impl RequestBuilderExt for RequestBuilder {
    fn send_traced(self, client: &TraceClient) -> SendTraced {
        SendTraced(match self.build() {
            Ok(request) => Sending::Made(client.execute(request)),
            Err(error) => Sending::Failed(Some(error), RequestHandle::unbound()),
        })
    }

    fn send_through(self, client: &Client) -> ClientAdapterFuture {
        match self.build() {
            Ok(request) => ClientAdapter::new(client).execute(request),
            Err(error) => ClientAdapterFuture::failed(error),
        }
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for ::reqwest::RequestBuilder {}
}

/// The response future of [`RequestBuilderExt::send_traced`].
#[must_use = "a request is not made until its future is polled"]
pub struct SendTraced(Sending);

enum Sending {
    Made(TraceClientFuture),
    /// The request could not be built.
    Failed(Option<Error>, RequestHandle),
}

impl SendTraced {
    /// Returns the handle of the request, which works at any time, even if the request fails or is dropped.
    pub fn request_handle(&self) -> &RequestHandle {
        match &self.0 {
            Sending::Made(sent) => sent.request_handle(),
            Sending::Failed(_, handle) => handle,
        }
    }
}

impl Future for SendTraced {
    type Output = Result<Response, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Sending::Made(sent) => Pin::new(sent).poll(cx),
            Sending::Failed(error, _) => match error.take() {
                Some(error) => Poll::Ready(Err(error)),
                None => panic!("polled after it had resolved"),
            },
        }
    }
}

impl fmt::Debug for SendTraced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SendTraced").field(self.request_handle()).finish()
    }
}
