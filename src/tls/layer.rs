use std::sync::Arc;
#[cfg(feature = "encrypted-dns")]
use std::time::Duration;

use tower_layer::Layer;

#[cfg(feature = "encrypted-dns")]
use super::layer_config::ClientSettings;
use super::{ConfigParts, builder::TraceTlsLayerBuilder, layer_config::LayerConfig, service::TraceTls};
use crate::sink::TraceSink;

/// A layer that adds TLS to a connector and records each handshake; see the [module](super).
#[derive(Clone, Debug)]
pub struct TraceTlsLayer {
    layer: Arc<LayerConfig>,
}

impl TraceTlsLayer {
    /// Creates a layer with the defaults: certificates are verified as the machine is set up, no ALPN, no time limit.
    #[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
    pub fn new(sink: &TraceSink) -> Self {
        Self::builder(sink).build()
    }

    /// Returns a builder that configures the layer.
    pub fn builder(sink: &TraceSink) -> TraceTlsLayerBuilder<ConfigParts> {
        TraceTlsLayerBuilder::new(sink, ConfigParts::default())
    }

    /// Returns the same layer, except that it offers these protocols with ALPN.
    #[cfg(feature = "encrypted-dns")]
    pub(crate) fn with_alpn(&self, protocols: &[&str]) -> Self {
        let mut layer = LayerConfig::clone(&self.layer);
        if let Ok(ClientSettings { config, .. }) = &mut layer.client {
            let names = protocols.iter().map(|name| name.as_bytes().to_vec());
            Arc::make_mut(config).alpn_protocols = names.collect();
        }
        Self::from_config(layer)
    }

    /// Returns the same layer, except for the limit of a handshake.
    #[cfg(feature = "encrypted-dns")]
    pub(crate) fn with_handshake_timeout(&self, limit: Duration) -> Self {
        Self::from_config(LayerConfig { handshake_timeout: Some(limit), ..LayerConfig::clone(&self.layer) })
    }

    pub(super) fn from_config(layer: LayerConfig) -> Self {
        TraceTlsLayer { layer: Arc::new(layer) }
    }
}

impl<C> Layer<C> for TraceTlsLayer {
    type Service = TraceTls<C>;

    fn layer(&self, connector: C) -> TraceTls<C> {
        TraceTls::new(connector, self.layer.clone())
    }
}
