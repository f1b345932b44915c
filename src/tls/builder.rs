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

/// A builder that configures a [`TraceTlsLayer`].
///
/// The rustls configuration is put together from the parts that are chosen here, or [given](Self::config) as a whole;
/// the latter is the only way if neither of the features `ring` and `aws-lc-rs` is enabled.
///
/// # Examples
///
#[cfg_attr(any(feature = "ring", feature = "aws-lc-rs"), doc = "```no_run")]
#[cfg_attr(not(any(feature = "ring", feature = "aws-lc-rs")), doc = "```ignore")]
/// use nettrace::{TraceSink, tls::{Roots, TraceTlsLayer}};
/// use std::time::Duration;
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let sink = TraceSink::new();
/// let tls = TraceTlsLayer::builder(&sink)
///     .roots(Roots::from_pem_file("authority.pem")?)
///     .alpn(["h2", "http/1.1"])
///     .handshake_timeout(Duration::from_secs(10))
///     .try_build()?; // reports now what `build` would report with every connection
/// # let _ = tls;
/// # Ok(()) }
/// ```
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

    /// Speaks TLS for every URI, whatever its scheme. By default only for `https`.
    pub fn always(mut self) -> Self {
        self.always = true;
        self
    }

    /// Limits how long a handshake may take, from the ClientHello on. Unlimited by default.
    ///
    /// Requires a tokio runtime with its timer enabled.
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.handshake_timeout = Some(limit);
        self
    }

    /// Uses this server name instead of the URI's host: it is sent to the server, and the certificate must be valid for
    /// it.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Logs the TLS secrets of all connections, with which their traffic can be decrypted. By default none are logged.
    ///
    /// The key log of a [given](Self::config) configuration gets them too.
    pub fn key_log(mut self, key_log: &KeyLog) -> Self {
        self.key_log = Some(key_log.clone());
        self
    }

    /// Uses this rustls configuration as it is. The methods for its parts are no longer available.
    ///
    /// The trace shows the certificates of failed handshakes only if the configuration's verifier is a
    /// [`TraceVerifier`](super::TraceVerifier). The configuration also says which protocols ALPN offers: hyper speaks
    /// HTTP/2 if `h2` is negotiated.
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

/// # Parts of the rustls configuration
///
/// Of [`roots`](Self::roots), [`verifier`](Self::verifier) and
/// [`danger_accept_invalid_certs`](Self::danger_accept_invalid_certs) the last call counts. By default the verifier of
/// the operating system decides. On Linux, `SSL_CERT_FILE` and `SSL_CERT_DIR` replace the machine's root certificates,
/// and a server certificate that is itself one of them is trusted too, as curl and Go do.
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
impl TraceTlsLayerBuilder<ConfigParts> {
    /// Trusts these root certificates, and no others.
    ///
    /// A server certificate that is itself one of them is trusted too, self-signed or not: see [`Roots`].
    pub fn roots(mut self, roots: Roots) -> Self {
        self.config.trust = Trust::Roots(roots);
        self
    }

    /// Uses this verifier for server certificates.
    pub fn verifier(mut self, verifier: Arc<dyn ServerCertVerifier>) -> Self {
        self.config.trust = Trust::Verifier(verifier);
        self
    }

    /// Accepts any certificate, for any name. Anyone on the network path can then read and change everything.
    pub fn danger_accept_invalid_certs(mut self) -> Self {
        self.config.trust = Trust::Anything;
        self
    }

    /// Presents this certificate to servers that ask for one.
    pub fn client_certificate(mut self, certificate: ClientCertificate) -> Self {
        self.config.client_certificate = Some(certificate);
        self
    }

    /// Offers these protocols with ALPN (RFC 7301), the preferred one first: `["h2", "http/1.1"]`. By default none.
    pub fn alpn(mut self, protocols: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        self.config.alpn = protocols.into_iter().map(|name| name.as_ref().to_vec()).collect();
        self
    }

    /// Sets the lowest version that is accepted; TLS 1.2 by default.
    pub fn min_version(mut self, version: TlsVersion) -> Self {
        self.config.min_version = version;
        self
    }

    /// Sets the highest version that is offered; TLS 1.3 by default.
    pub fn max_version(mut self, version: TlsVersion) -> Self {
        self.config.max_version = version;
        self
    }
}

#[allow(private_bounds)] // Sealed: the two states of this module are the only ones.
impl<C: ConfigSource> TraceTlsLayerBuilder<C> {
    /// Builds the layer. An invalid configuration is reported by every connection that wants TLS; plain ones work.
    pub fn build(self) -> TraceTlsLayer {
        let settings = self.settings();
        self.into_layer(settings)
    }

    /// Builds the layer, and reports an invalid configuration at once.
    ///
    /// # Errors
    ///
    /// When the machine has no root certificates (`x_no_root_certificates`), the server name is invalid
    /// (`x_invalid_target`), the client certificate does not match its key, or no version is left.
    pub fn try_build(self) -> Result<TraceTlsLayer, TlsError> {
        let settings = self.settings()?;
        Ok(self.into_layer(Ok(settings)))
    }

    /// Returns the rustls configuration that the layer would use, for a client that does TLS itself.
    ///
    /// Its failed handshakes show certificates if a traced connector wraps that client's. The server name and the time
    /// limit are not part of it.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`try_build`](Self::try_build).
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
