use std::{sync::Arc, time::Duration};

use rustls::ClientConfig;

#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
use rustls::client::danger::ServerCertVerifier;

use super::{
    certificate::ChainCache,
    config_source::{ConfigSource, Prebuilt},
    key_log::{KeyLog, TeeKeyLog},
    layer::TraceTlsLayer,
    layer_config::{ClientSettings, LayerConfig},
    server_name,
};
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
use super::{
    config_parts::{ConfigParts, TlsVersion, Trust},
    roots::{ClientCertificate, Roots},
};
use crate::{error::TlsError, sink::TraceSink};

/// Choices for a [`TraceTlsLayer`].
///
/// The TLS configuration is put together from the parts that are chosen here, or given
/// [whole](Self::config); the latter is the only way when neither of the features `ring` and `aws-lc-rs` is
/// enabled.
#[derive(Clone, Debug)]
#[must_use]
pub struct TraceTlsLayerBuilder<C> {
    sink: TraceSink,
    always: bool,
    handshake_timeout: Option<Duration>,
    server_name: Option<String>,
    key_log: Option<KeyLog>,
    config: C,
}

impl<C> TraceTlsLayerBuilder<C> {
    pub(super) fn new(sink: &TraceSink, config: C) -> Self {
        TraceTlsLayerBuilder {
            sink: sink.clone(),
            always: false,
            handshake_timeout: None,
            server_name: None,
            key_log: None,
            config,
        }
    }

    /// TLS for every URI, whatever its scheme, and not for `https` alone.
    pub fn always(mut self) -> Self {
        self.always = true;
        self
    }

    /// How long a handshake may take, from the ClientHello on. Unlimited by default.
    ///
    /// It needs the timer of a tokio runtime.
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.handshake_timeout = Some(limit);
        self
    }

    /// Asks for this name, and checks the certificate against it, in place of the URI's host.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Keeps the secrets of all connections, with which what they carry can be decrypted. None are kept by default.
    ///
    /// A key log of a [given](Self::config) configuration gets them, too.
    pub fn key_log(mut self, key_log: &KeyLog) -> Self {
        self.key_log = Some(key_log.clone());
        self
    }

    /// Uses a configuration as it is; the choices about its parts are no longer there.
    ///
    /// For the certificates of failed handshakes to show in the trace, its verifier must be a
    /// [`TraceVerifier`](super::TraceVerifier). ALPN is part of it: hyper speaks HTTP/2 when `h2` is agreed on.
    pub fn config(self, config: Arc<ClientConfig>) -> TraceTlsLayerBuilder<Prebuilt> {
        let TraceTlsLayerBuilder { sink, always, handshake_timeout, server_name, key_log, config: _ } = self;
        TraceTlsLayerBuilder {
            sink,
            always,
            handshake_timeout,
            server_name,
            key_log,
            config: Prebuilt(config),
        }
    }
}

/// Of [`roots`](Self::roots), [`verifier`](Self::verifier) and
/// [`danger_accept_invalid_certs`](Self::danger_accept_invalid_certs) the last call counts; without any
/// of them the machine's own verifier decides. On Linux a server's own certificate that is one of the machine's root
/// certificates is trusted, too, as curl and Go do; `SSL_CERT_FILE` and `SSL_CERT_DIR` name other ones.
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
impl TraceTlsLayerBuilder<ConfigParts> {
    /// Trusts these authorities, and no others.
    ///
    /// A server's own certificate that is one of them is trusted, too, self-signed or not: see [`Roots`].
    pub fn roots(mut self, roots: Roots) -> Self {
        self.config.trust = Trust::Roots(roots);
        self
    }

    /// Leaves it to this verifier whom to trust.
    pub fn verifier(mut self, verifier: Arc<dyn ServerCertVerifier>) -> Self {
        self.config.trust = Trust::Verifier(verifier);
        self
    }

    /// Accepts any certificate, for any name. Whoever sits in between can read and change everything.
    pub fn danger_accept_invalid_certs(mut self) -> Self {
        self.config.trust = Trust::Anything;
        self
    }

    /// Shows this certificate to a server that asks for one.
    pub fn client_certificate(mut self, certificate: ClientCertificate) -> Self {
        self.config.client_certificate = Some(certificate);
        self
    }

    /// Offers these protocols with ALPN (RFC 7301), the preferred one first: `["h2", "http/1.1"]`. By
    /// default none.
    pub fn alpn(mut self, protocols: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        self.config.alpn = protocols.into_iter().map(|name| name.as_ref().to_vec()).collect();
        self
    }

    /// The lowest version that is acceptable; TLS 1.2 by default.
    pub fn min_version(mut self, version: TlsVersion) -> Self {
        self.config.min_version = version;
        self
    }

    /// The highest version that is offered; TLS 1.3 by default.
    pub fn max_version(mut self, version: TlsVersion) -> Self {
        self.config.max_version = version;
        self
    }
}

#[allow(private_bounds)] // Sealed: there are just the two ways of this module to a configuration.
impl<C: ConfigSource> TraceTlsLayerBuilder<C> {
    /// Makes the layer. What is wrong with the choices, or missing on this machine, is an error of every
    /// connection that wants TLS: plain ones may go on.
    pub fn build(self) -> TraceTlsLayer {
        let settings = self.settings();
        self.into_layer(settings)
    }

    /// As [`build`](Self::build), but finds out now.
    ///
    /// # Errors
    ///
    /// When the machine has no root certificates (`x_no_root_certificates`), the server name is none
    /// (`x_invalid_target`), the client certificate does not fit its key, or no version is left.
    pub fn try_build(self) -> Result<TraceTlsLayer, TlsError> {
        let settings = self.settings()?;
        Ok(self.into_layer(Ok(settings)))
    }

    /// The configuration that the layer would use, for somebody else to speak TLS with: its failed handshakes show
    /// certificates where a traced connector is around it. The server's name and the time limit are no part of it.
    ///
    /// # Errors
    ///
    /// As [`try_build`](Self::try_build).
    pub fn into_config(self) -> Result<ClientConfig, TlsError> {
        Ok(Arc::unwrap_or_clone(self.settings()?.config))
    }

    fn settings(&self) -> Result<ClientSettings, TlsError> {
        let server_name = self.server_name.as_deref().map(server_name::parse).transpose()?;
        let mut config = self.config.client_config()?;
        if let Some(key_log) = self.key_log.clone() {
            let config = Arc::make_mut(&mut config);
            let before = config.key_log.clone();
            config.key_log = Arc::new(TeeKeyLog(key_log, before));
        }
        Ok(ClientSettings { config, server_name })
    }

    fn into_layer(self, settings: Result<ClientSettings, TlsError>) -> TraceTlsLayer {
        TraceTlsLayer::from_config(LayerConfig {
            sink: self.sink,
            client: settings,
            always: self.always,
            handshake_timeout: self.handshake_timeout,
            chains: Arc::new(ChainCache::new()),
        })
    }
}
