use tower_layer::Layer;

use super::TraceResolve;

/// A layer around any resolver that records when resolving began and ended.
///
/// It needs no sink: it records into the dial that is being polled when the resolver is called. Outside a dial it does
/// nothing.
///
/// ```
/// use hyper_util::client::legacy::connect::{HttpConnector, dns::GaiResolver};
/// use nettrace::resolve::TraceResolveLayer;
/// use tower::Layer;
///
/// let resolver = TraceResolveLayer::new().layer(GaiResolver::new());
/// let connector = HttpConnector::new_with_resolver(resolver);
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct TraceResolveLayer;

impl TraceResolveLayer {
    /// Creates the layer. It has no settings.
    pub const fn new() -> Self {
        Self
    }
}

impl<R> Layer<R> for TraceResolveLayer {
    type Service = TraceResolve<R>;

    fn layer(&self, inner: R) -> Self::Service {
        TraceResolve::new(inner)
    }
}
