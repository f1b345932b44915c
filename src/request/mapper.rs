//! What becomes of the body of a request on its way to the client.

use super::TraceBody;

/// Gives the traced body of a request the type that the inner service takes.
pub trait MapBody<B> {
    /// What the inner service takes.
    type Body;

    /// Called once for each request.
    fn map(&self, body: TraceBody<B>) -> Self::Body;
}

/// The inner service takes [`TraceBody<B>`]: nothing is allocated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Typed;

impl<B> MapBody<B> for Typed {
    type Body = TraceBody<B>;

    #[inline]
    fn map(&self, body: TraceBody<B>) -> TraceBody<B> {
        body
    }
}

/// The inner service takes a boxed body, made by a function such as `|body| BoxBody::new(body)`.
#[derive(Clone, Copy, Debug)]
pub struct Boxed<F>(pub F);

impl<B, T, F: Fn(TraceBody<B>) -> T> MapBody<B> for Boxed<F> {
    type Body = T;

    #[inline]
    fn map(&self, body: TraceBody<B>) -> T {
        (self.0)(body)
    }
}
