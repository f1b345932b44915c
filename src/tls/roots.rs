//! Trusted root certificates, and the certificate that the client presents of itself.

use std::{error::Error, fmt, path::Path, sync::Arc};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
};

use crate::{
    error::{TlsError, rustls::ReadableError},
    file,
};

/// Larger files are refused. The bundles of operating systems have a few hundred kilobytes.
const MAX_FILE_MIB: u64 = 16;

/// The root certificates that a server's certificate chain must end with.
///
/// ```no_run
/// use nettrace::{TraceSink, tls::{Roots, TraceTlsLayer}};
///
/// # fn main() -> Result<(), nettrace::tls::TlsError> {
/// let sink = TraceSink::new();
/// let layer = TraceTlsLayer::builder(&sink).roots(Roots::from_pem_file("ca.pem")?).build();
/// # Ok(())
/// # }
/// ```
///
/// A server certificate that is itself one of them, byte for byte, is trusted without an issuer, as curl and Go do:
/// that pins a self-signed certificate, such as `openssl req -x509` creates. It must still be valid now, and for the
/// server's name.
#[derive(Clone, Debug)]
pub struct Roots {
    store: Arc<RootCertStore>,
    /// Empty if a store was given, which does not keep whole certificates.
    certificates: Arc<[CertificateDer<'static>]>,
}

impl Roots {
    /// Parses every `CERTIFICATE` section of a PEM text (RFC 7468).
    ///
    /// # Errors
    ///
    /// When the text is not PEM, has no certificate, or has one that cannot be a root.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        Self::collect(CertificateDer::pem_slice_iter(pem.as_ref()), "root certificates from PEM")
    }

    /// Reads every `CERTIFICATE` section of a PEM file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is longer than 16 MiB, and as [`from_pem`](Self::from_pem).
    pub fn from_pem_file(path: impl AsRef<Path>) -> Result<Self, TlsError> {
        let what = format!("root certificates from {}", path.as_ref().display());
        match file::read(path.as_ref(), MAX_FILE_MIB) {
            Ok(pem) => Self::collect(CertificateDer::pem_slice_iter(&pem), &what),
            Err(error) => Err(unreadable(&what, error)),
        }
    }

    /// Parses certificates in DER (RFC 5280 §4.1).
    ///
    /// # Errors
    ///
    /// When there is none, or one that cannot be a root.
    pub fn from_der(certificates: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<Self, TlsError> {
        let certificates =
            certificates.into_iter().map(|der| Ok(CertificateDer::from(der.as_ref()).into_owned()));
        Self::collect(certificates, "root certificates from DER")
    }

    fn collect(
        certificates: impl Iterator<Item = Result<CertificateDer<'static>, pem::Error>>,
        what: &str,
    ) -> Result<Self, TlsError> {
        let (mut store, mut kept) = (RootCertStore::empty(), Vec::new());
        for certificate in certificates {
            let certificate = certificate.map_err(|error| unreadable(what, ReadableError::pem(error)))?;
            store.add(certificate.clone()).map_err(|error| unreadable(what, ReadableError::new(error)))?;
            kept.push(certificate);
        }
        if store.is_empty() {
            return Err(unreadable(what, ReadableError::pem(pem::Error::NoItemsFound)));
        }
        Ok(Roots { store: Arc::new(store), certificates: kept.into() })
    }

    /// Returns the number of certificates.
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// Returns `true` if there are no certificates: no handshake can succeed then.
    pub fn is_empty(&self) -> bool {
        self.store.is_empty()
    }

    pub(super) fn store(&self) -> Arc<RootCertStore> {
        self.store.clone()
    }

    /// Returns the certificates that are trusted as server certificates too.
    pub(super) fn certificates(&self) -> Arc<[CertificateDer<'static>]> {
        self.certificates.clone()
    }
}

/// Trusts what the store trusts. It pins no server certificate, since a store does not keep whole certificates.
impl From<RootCertStore> for Roots {
    fn from(store: RootCertStore) -> Self {
        Roots { store: Arc::new(store), certificates: Arc::new([]) }
    }
}

/// A certificate chain and its private key, for servers that authenticate their clients.
#[derive(Clone)]
pub struct ClientCertificate {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl ClientCertificate {
    /// Parses the chain, own certificate first, and the key from PEM texts, which may be the same one.
    ///
    /// # Errors
    ///
    /// When a text is not PEM, or has no certificate or no private key (PKCS #8, PKCS #1 or SEC 1).
    pub fn from_pem(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_slice_iter(chain.as_ref());
        Self::new(chain, PrivateKeyDer::from_pem_slice(key.as_ref()), "client certificate from PEM")
    }

    /// Reads the chain, own certificate first, and the key from PEM files, which may be the same one.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or is longer than 16 MiB, and as [`from_pem`](Self::from_pem).
    pub fn from_pem_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, TlsError> {
        let (chain, key) = (chain.as_ref(), key.as_ref());
        let what = format!("client certificate from {} and {}", chain.display(), key.display());
        let read = |path| file::read(path, MAX_FILE_MIB).map_err(|error| unreadable(&what, error));
        let (chain, key) = (read(chain)?, read(key)?);
        Self::new(CertificateDer::pem_slice_iter(&chain), PrivateKeyDer::from_pem_slice(&key), &what)
    }

    /// Parses the chain, own certificate first, and the key from DER.
    ///
    /// # Errors
    ///
    /// When the key is not PKCS #8, PKCS #1 or SEC 1, or the chain is empty.
    pub fn from_der(
        chain: impl IntoIterator<Item = impl AsRef<[u8]>>,
        key: impl AsRef<[u8]>,
    ) -> Result<Self, TlsError> {
        let what = "client certificate from DER";
        let chain = chain.into_iter().map(|der| Ok(CertificateDer::from(der.as_ref()).into_owned()));
        let key = PrivateKeyDer::try_from(key.as_ref())
            .map_err(|error| TlsError::config(format!("cannot read {what}: {error}"), None))?;
        Self::new(chain, Ok(key.clone_key()), what)
    }

    fn new(
        chain: impl Iterator<Item = Result<CertificateDer<'static>, pem::Error>>,
        key: Result<PrivateKeyDer<'static>, pem::Error>,
        what: &str,
    ) -> Result<Self, TlsError> {
        let chain = chain
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unreadable(what, ReadableError::pem(error)))?;
        if chain.is_empty() {
            return Err(unreadable(what, ReadableError::pem(pem::Error::NoItemsFound)));
        }
        let key = Arc::new(
            key.map_err(|error| unreadable(&format!("private key of {what}"), ReadableError::pem(error)))?,
        );
        Ok(ClientCertificate { chain, key })
    }

    pub(super) fn parts(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain.clone(), self.key.clone_key())
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").field("chain_len", &self.chain.len()).finish_non_exhaustive()
    }
}

fn unreadable(what: &str, error: impl Error + Send + Sync + 'static) -> TlsError {
    TlsError::config(format!("cannot read {what}"), Some(Arc::new(error)))
}
