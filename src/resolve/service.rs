use std::task::{Context, Poll};

use tower_service::Service;

use super::{TraceResolveFuture, resolve_span::ResolveSpan};
use crate::sink::DialRef;

/// A resolver whose lookups are recorded in the dials that need them; see
/// [`TraceResolveLayer`](super::TraceResolveLayer).
///
/// Names, addresses and errors are passed on unchanged.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceResolve<R> {
    inner: R,
}

impl<R> TraceResolve<R> {
    /// Wraps `inner`, a `Service` from [`Name`](hyper_util::client::legacy::connect::dns::Name) to addresses.
    pub const fn new(inner: R) -> Self {
        Self { inner }
    }

    /// Returns a reference to the inner resolver.
    pub const fn get_ref(&self) -> &R {
        &self.inner
    }

    /// Returns a mutable reference to the inner resolver.
    pub const fn get_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// Returns the inner resolver.
    pub fn into_inner(self) -> R {
        self.inner
    }
}

impl<R, Name> Service<Name> for TraceResolve<R>
where
    R: Service<Name>,
{
    type Response = R::Response;
    type Error = R::Error;
    type Future = TraceResolveFuture<R::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolving = ResolveSpan::begin(DialRef::current());
        TraceResolveFuture::new(self.inner.call(name), resolving)
    }
}
