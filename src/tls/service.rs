use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Uri, uri::Scheme};
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::connect::Connection;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::{
    future::{PendingHandshake, TraceTlsFuture},
    layer_config::LayerConfig,
    server_name,
    stream::MaybeTlsStream,
};
use crate::error::{BoxError, TlsError};

/// A connector that performs a TLS handshake on the connections of an inner connector; see the [module](super).
///
/// Errors of the inner connector are passed on unchanged. A failed handshake is a [`TlsError`].
#[derive(Clone, Debug)]
pub struct TraceTls<C> {
    inner: C,
    layer: Arc<LayerConfig>,
}

impl<C> TraceTls<C> {
    pub(super) fn new(inner: C, layer: Arc<LayerConfig>) -> Self {
        TraceTls { inner, layer }
    }

    /// Returns a reference to the inner connector.
    pub fn get_ref(&self) -> &C {
        &self.inner
    }

    /// Returns a mutable reference to the inner connector.
    pub fn get_mut(&mut self) -> &mut C {
        &mut self.inner
    }

    /// Returns the inner connector.
    pub fn into_inner(self) -> C {
        self.inner
    }

    /// Speaks TLS over the connection that `connect` has the inner connector make.
    pub(crate) fn connect_by<F, IO>(
        &mut self,
        uri: Uri,
        connect: impl FnOnce(&mut C, Uri) -> F,
    ) -> TraceTlsFuture<F, IO> {
        match self.pending(&uri) {
            Ok(pending) => TraceTlsFuture::connecting(connect(&mut self.inner, uri), pending),
            Err(error) => TraceTlsFuture::failed(error),
        }
    }

    /// Prepares the handshake. Returns `None` for a URI that does not ask for TLS.
    fn pending(&self, uri: &Uri) -> Result<Option<PendingHandshake>, TlsError> {
        if !self.layer.always && uri.scheme() != Some(&Scheme::HTTPS) {
            return Ok(None);
        }
        let client = self.layer.client.as_ref().map_err(TlsError::duplicate)?;
        let name = match &client.server_name {
            Some(name) => name.clone(),
            None => server_name::parse(uri.host().unwrap_or_default())?,
        };
        let connector = TlsConnector::from(client.config.clone());
        Ok(Some(PendingHandshake { name, connector, layer: self.layer.clone() }))
    }
}

impl<C> Service<Uri> for TraceTls<C>
where
    C: Service<Uri>,
    C::Response: Read + Write + Connection + Unpin,
    C::Error: Into<BoxError>,
{
    type Response = MaybeTlsStream<C::Response>;
    type Error = BoxError;
    type Future = TraceTlsFuture<C::Future, C::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        self.connect_by(uri, C::call)
    }
}
