use std::{
    error::Error,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Uri, uri::Scheme};
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::connect::Connection;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::{
    future::{PendingHandshake, TraceTlsFuture},
    layer::LayerConfig,
    stream::MaybeTlsStream,
};
use crate::{error::TlsError, record::Failure};

/// A connector that speaks TLS on what the connector within has connected; see the [module](super).
///
/// An error of the connector within goes up as it is. One of TLS is a [`TlsError`].
#[derive(Clone, Debug)]
pub struct TraceTls<C> {
    inner: C,
    layer: Arc<LayerConfig>,
}

impl<C> TraceTls<C> {
    pub(super) fn new(inner: C, layer: Arc<LayerConfig>) -> Self {
        TraceTls { inner, layer }
    }

    /// The connector within.
    pub fn get_ref(&self) -> &C {
        &self.inner
    }

    /// The connector within.
    pub fn get_mut(&mut self) -> &mut C {
        &mut self.inner
    }

    /// The connector within.
    pub fn into_inner(self) -> C {
        self.inner
    }

    /// What to do about TLS once there is a connection; nothing for a URI that does not ask for it.
    fn pending(&self, uri: &Uri) -> Result<Option<PendingHandshake>, TlsError> {
        if !self.layer.always && uri.scheme() != Some(&Scheme::HTTPS) {
            return Ok(None);
        }
        let settings = self.layer.settings.as_ref().map_err(TlsError::duplicate)?;
        let name = match &settings.server_name {
            Some(name) => name.clone(),
            None => server_name(uri.host().unwrap_or_default())?,
        };
        let connector = TlsConnector::from(settings.config.clone());
        Ok(Some(PendingHandshake { name, connector, layer: self.layer.clone() }))
    }
}

impl<C> Service<Uri> for TraceTls<C>
where
    C: Service<Uri>,
    C::Response: Read + Write + Connection + Unpin,
    C::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = MaybeTlsStream<C::Response>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = TraceTlsFuture<C::Future, C::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        match self.pending(&uri) {
            Ok(pending) => TraceTlsFuture::connecting(self.inner.call(uri), pending),
            Err(error) => TraceTlsFuture::failed(error),
        }
    }
}

/// Reads a host as a certificate would have it: an IPv6 address has no brackets there.
pub(super) fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let name = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(name.to_owned()).map_err(|error| {
        TlsError::unusable(
            Failure::InvalidTarget,
            format!("{host:?} is no name of a TLS server"),
            Some(Arc::new(error)),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (host, name) in
            [("web.test", "web.test"), ("127.0.0.1", "127.0.0.1"), ("[::1]", "::1"), ("a_b.", "a_b")]
        {
            assert_eq!(server_name(host).unwrap().to_str(), name);
        }
        for host in ["", "[", "[]", "a b", "-", "..", "[web"] {
            assert_eq!(server_name(host).unwrap_err().failure(), Failure::InvalidTarget, "{host}");
        }
    }
}
