use std::{sync::Arc, time::Duration};

use rustls::{ClientConfig, pki_types::ServerName};

use super::certificate::ChainCache;
use crate::{error::TlsError, sink::TraceSink};

/// The settings that all connectors of one [`TraceTlsLayer`](super::TraceTlsLayer) share.
#[derive(Debug)]
pub(super) struct LayerConfig {
    pub(super) sink: TraceSink,
    /// An error is reported to every connection that wants TLS; plain ones work.
    pub(super) client: Result<ClientSettings, TlsError>,
    /// Every URI gets TLS, not only `https`.
    pub(super) always: bool,
    pub(super) handshake_timeout: Option<Duration>,
    pub(super) chains: Arc<ChainCache>,
}

#[cfg(feature = "encrypted-dns")]
impl Clone for LayerConfig {
    fn clone(&self) -> Self {
        LayerConfig {
            sink: self.sink.clone(),
            client: self.client.as_ref().map(Clone::clone).map_err(TlsError::duplicate),
            always: self.always,
            handshake_timeout: self.handshake_timeout,
            chains: self.chains.clone(),
        }
    }
}

/// The settings of the layer that a handshake needs.
#[derive(Clone, Debug)]
pub(super) struct ClientSettings {
    pub(super) config: Arc<ClientConfig>,
    /// Asked for in place of the URI's host.
    pub(super) server_name: Option<ServerName<'static>>,
}
