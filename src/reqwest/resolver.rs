//! An adapter for hyper's resolvers.

use crate::resolve::StubResolver;
use ::reqwest::dns::{Addrs, Name, Resolve, Resolving};
use hyper_util::client::legacy::connect::dns::Name as HyperName;
use std::{error::Error, net::SocketAddr};
use tower::ServiceExt;
use tower_service::Service;

/// A resolver for reqwest around a resolver for hyper.
///
/// With one inside [`TraceResolve`](crate::resolve::TraceResolve), dials show when the lookup began and ended.
/// [`StubResolver`] needs no adapter.
#[derive(Clone, Copy, Debug)]
pub struct Resolver<R>(R);

impl<R> Resolver<R> {
    /// Wraps `inner`, a `Service` from [`HyperName`] to addresses.
    pub const fn new(inner: R) -> Self {
        Resolver(inner)
    }
}

impl<R> Resolve for Resolver<R>
where
    R: Service<HyperName> + Clone + Send + Sync + 'static,
    R::Response: Iterator<Item = SocketAddr> + Send + 'static,
    R::Error: Into<Box<dyn Error + Send + Sync>>,
    R::Future: Send + 'static,
{
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.0.clone();
        Box::pin(async move {
            let name: HyperName = name.as_str().parse()?;
            let addresses = resolver.oneshot(name).await.map_err(Into::into)?;
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

impl Resolve for StubResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Resolver::new(self.clone()).resolve(name)
    }
}
