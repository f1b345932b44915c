//! Where a layer's rustls configuration comes from: the two states of
//! [`TraceTlsLayerBuilder`](super::TraceTlsLayerBuilder).

use std::sync::Arc;

use rustls::ClientConfig;

use crate::error::TlsError;

/// A state of the builder that a rustls configuration can be made from.
pub(super) trait ConfigSource {
    fn client_config(&self) -> Result<Arc<ClientConfig>, TlsError>;
}

/// The state in which a whole configuration was given.
#[derive(Clone, Debug)]
pub struct Prebuilt(pub(super) Arc<ClientConfig>);

impl ConfigSource for Prebuilt {
    fn client_config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        Ok(self.0.clone())
    }
}

/// The state in which the configuration is put together from parts, in a build without cryptography.
///
/// There are no parts to choose: with neither of the features `ring` and `aws-lc-rs` a configuration must be
/// [given](super::TraceTlsLayerBuilder::config). A layer that is built without one refuses to speak TLS. The type has
/// the name that it has with those features, so that enabling one changes no signature.
#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
#[derive(Clone, Debug, Default)]
pub struct ConfigParts(());

#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
impl ConfigSource for ConfigParts {
    fn client_config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        Err(TlsError::config("no cryptography: neither of the features ring and aws-lc-rs is enabled", None))
    }
}
