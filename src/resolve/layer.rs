use tower_layer::Layer;

use super::TraceResolve;

/// Wraps any resolver so that dials show when resolving began and ended.
///
/// It needs no sink: it writes to that of the dial in whose poll it is called, and does nothing outside any.
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
    /// The layer has no settings.
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
