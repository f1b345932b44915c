use super::{
    TraceRequest,
    mapper::{Boxed, Typed},
};
use crate::sink::TraceSink;
use tower_layer::Layer;

/// Records the requests of any `Service<http::Request<B>>`. See the [module](super).
#[derive(Clone, Debug)]
pub struct TraceRequestLayer<M = Typed> {
    pub(super) options: Options,
    mapper: M,
}

#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) sink: TraceSink,
    pub(super) capture: bool,
    pub(super) informational: bool,
}

impl TraceRequestLayer {
    /// Records into `sink`. The inner service must take [`TraceBody<B>`](super::TraceBody).
    pub fn new(sink: &TraceSink) -> Self {
        let options = Options { sink: sink.clone(), capture: false, informational: false };
        TraceRequestLayer { options, mapper: Typed }
    }
}

impl<M> TraceRequestLayer<M> {
    /// For an inner service that takes a boxed body: `box_body` makes it, such as `|body| BoxBody::new(body)`.
    pub fn boxed<F>(self, box_body: F) -> TraceRequestLayer<Boxed<F>> {
        TraceRequestLayer { options: self.options, mapper: Boxed(box_body) }
    }

    /// Has hyper-util's client report the connection as soon as it has chosen one: a request that is dropped
    /// or times out keeps its link, and the time of the choice and of the first byte are known. It takes the
    /// place of a `capture_connection` that the request carries already, so it is off by default.
    pub fn capture_connection(mut self, on: bool) -> Self {
        self.options.capture = on;
        self
    }

    /// Records interim responses (1xx) over HTTP/1. It takes the place of an `on_informational` callback that
    /// the request carries already, so it is off by default.
    pub fn informational(mut self, on: bool) -> Self {
        self.options.informational = on;
        self
    }
}

impl<S, M: Clone> Layer<S> for TraceRequestLayer<M> {
    type Service = TraceRequest<S, M>;

    fn layer(&self, inner: S) -> TraceRequest<S, M> {
        TraceRequest::new(inner, self.options.clone(), self.mapper.clone())
    }
}
