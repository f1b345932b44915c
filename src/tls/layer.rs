use std::sync::Arc;

#[cfg(feature = "client")]
use rustls::ClientConfig;
use tower_layer::Layer;

#[cfg(feature = "client")]
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
    #[cfg(feature = "client")]
    pub(crate) fn with_alpn(&self, protocols: &[&str]) -> Self {
        let LayerConfig { sink, client, always, handshake_timeout, chains } = &*self.layer;
        let client = match client {
            Ok(ClientSettings { config, server_name }) => {
                let mut config = ClientConfig::clone(config);
                config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
                Ok(ClientSettings { config: Arc::new(config), server_name: server_name.clone() })
            }
            Err(error) => Err(error.duplicate()),
        };
        Self::from_config(LayerConfig {
            sink: sink.clone(),
            client,
            always: *always,
            handshake_timeout: *handshake_timeout,
            chains: chains.clone(),
        })
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
