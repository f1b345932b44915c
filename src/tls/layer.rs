use std::{sync::Arc, time::Duration};

use rustls::ClientConfig;
use tower_layer::Layer;

use super::{ConfigParts, builder::TraceTlsLayerBuilder, certificate::ChainCache, service::TraceTls};
use crate::{error::TlsError, sink::TraceSink};

/// Makes connectors that speak TLS and record it; see the [module](super).
#[derive(Clone, Debug)]
pub struct TraceTlsLayer {
    layer: Arc<LayerConfig>,
}

/// What all connectors of one layer have in common.
#[derive(Debug)]
pub(super) struct LayerConfig {
    pub(super) sink: TraceSink,
    pub(super) settings: Result<ClientSettings, TlsError>,
    pub(super) always: bool,
    pub(super) handshake_timeout: Option<Duration>,
    pub(super) chains: Arc<ChainCache>,
}

#[derive(Debug)]
pub(super) struct ClientSettings {
    pub(super) config: Arc<ClientConfig>,
    /// In place of the URI's host.
    pub(super) server_name: Option<rustls::pki_types::ServerName<'static>>,
}

impl TraceTlsLayer {
    /// With the machine's own verifier, and everything as by default.
    #[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
    pub fn new(sink: &TraceSink) -> Self {
        Self::builder(sink).build()
    }

    /// Choices to be made before.
    pub fn builder(sink: &TraceSink) -> TraceTlsLayerBuilder<ConfigParts> {
        TraceTlsLayerBuilder::new(sink)
    }

    /// The same that offers other protocols.
    #[cfg(feature = "client")]
    pub(crate) fn with_alpn(&self, protocols: &[&str]) -> Self {
        let LayerConfig { sink, settings, always, handshake_timeout, chains } = &*self.layer;
        let settings = match settings {
            Ok(ClientSettings { config, server_name }) => {
                let mut config = ClientConfig::clone(config);
                config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
                Ok(ClientSettings { config: Arc::new(config), server_name: server_name.clone() })
            }
            Err(error) => Err(error.duplicate()),
        };
        Self::from_shared(LayerConfig {
            sink: sink.clone(),
            settings,
            always: *always,
            handshake_timeout: *handshake_timeout,
            chains: chains.clone(),
        })
    }

    pub(super) fn from_shared(layer: LayerConfig) -> Self {
        TraceTlsLayer { layer: Arc::new(layer) }
    }
}

impl<C> Layer<C> for TraceTlsLayer {
    type Service = TraceTls<C>;

    fn layer(&self, connector: C) -> TraceTls<C> {
        TraceTls::new(connector, self.layer.clone())
    }
}
