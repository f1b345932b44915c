//! kube: its client takes any tower service of HTTP requests.
//!
//! The trace has everything that it has of `nettrace::Client`. A watch is a request that is in progress.

use ::kube::{Client, Config, client::ConfigExt};
use nettrace::{client::ClientBuilder, tls::Roots};
use tower::{BoxError, ServiceBuilder};

/// Returns a client for the cluster of `config`. `builder` decides which sink the requests are recorded into.
///
/// The address, authentication, additional header fields, root certificates and the time limit for connecting are taken
/// from `config`, and whether certificates are checked at all. A client certificate, a proxy and other time limits are
/// not: set them on `builder`. A limit on the whole request would end watches. Nothing is tried again.
///
/// # Errors
///
/// Returns an error if a part of the configuration is unusable, or if the certificate is to have another name than the
/// host (`tls-server-name`).
pub fn client(config: &Config, builder: ClientBuilder) -> Result<Client, BoxError> {
    if let Some(name) = &config.tls_server_name {
        return Err(format!(
            "the server cannot be asked for the certificate of {name}: tls-server-name must not be set"
        )
        .into());
    }
    let mut builder = builder
        .tcp_handshake_timeout(config.connect_timeout)
        .proxy_handshake_timeout(config.connect_timeout)
        .tls_handshake_timeout(config.connect_timeout)
        .danger_accept_invalid_certs(config.accept_invalid_certs)
        .compression(false) // pieces of a watch must not wait for a compressed block
        .max_redirects(0);
    if let Some(certificates) = &config.root_cert {
        builder = builder.roots(Roots::from_der(certificates)?);
    }
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(builder.build()?);
    Ok(Client::new(service, &config.default_namespace))
}
