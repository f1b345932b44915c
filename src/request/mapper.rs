//! The type of body that the inner service is given.
//!
//! A traced body is another type than the body itself. A service that takes one fixed type of body, such as a boxed
//! one, has the traced body converted.

use super::TraceBody;

/// A conversion of traced request bodies to the type that the inner service takes.
pub trait MapBody<B> {
    /// The type that the inner service takes.
    type Body;

    /// Converts the body of one request.
    fn map(&self, body: TraceBody<B>) -> Self::Body;
}

/// The inner service takes [`TraceBody<B>`], so nothing is converted or allocated.
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
