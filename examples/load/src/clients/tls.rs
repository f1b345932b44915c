//! The TLS configuration of the clients, which is the same for all.

use crate::{BoxError, args::Args};
use nettrace::{
    TraceSink,
    tls::{ConfigParts, Roots, TraceTlsLayer, TraceTlsLayerBuilder},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{fs, sync::Arc};

/// Returns the configuration for clients that bring no TLS of their own.
pub fn config(args: &Args) -> Result<ClientConfig, BoxError> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = &args.cacert {
        let pem = fs::read(file)?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate?)?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    // The same as this crate's client offers. hyper-rustls offers nothing if there is only one version.
    config.alpn_protocols = vec![alpn(args).into()];
    Ok(config)
}

/// Returns the builder of this crate's layer.
pub fn layer_builder(args: &Args, sink: &TraceSink) -> Result<TraceTlsLayerBuilder<ConfigParts>, BoxError> {
    let builder = TraceTlsLayer::builder(sink).alpn([alpn(args)]);
    Ok(match &args.cacert {
        Some(file) => builder.roots(Roots::from_pem_file(file)?),
        None => builder,
    })
}

/// Returns the only protocol to offer.
pub fn alpn(args: &Args) -> &'static str {
    if args.http2 { "h2" } else { "http/1.1" }
}
