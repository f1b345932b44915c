//! Which certificate authorities are trusted, and what this side shows of itself.

use std::{fmt, path::Path, sync::Arc};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
};

use crate::error::TlsError;

/// The certificates of the authorities that servers' certificates must go back to.
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
#[derive(Clone, Debug)]
pub struct Roots(Arc<RootCertStore>);

impl Roots {
    /// Reads every `CERTIFICATE` section of a PEM text (RFC 7468).
    ///
    /// # Errors
    ///
    /// When the text is not PEM, holds no certificate, or one that cannot be a root.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        Self::collect(CertificateDer::pem_slice_iter(pem.as_ref()), "root certificates from PEM")
    }

    /// Reads every `CERTIFICATE` section of a PEM file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, and as [`from_pem`](Self::from_pem).
    pub fn from_pem_file(path: impl AsRef<Path>) -> Result<Self, TlsError> {
        let what = format!("root certificates from {}", path.as_ref().display());
        match CertificateDer::pem_file_iter(path) {
            Ok(certificates) => Self::collect(certificates, &what),
            Err(error) => Err(unreadable(&what, error)),
        }
    }

    /// Takes certificates in DER (RFC 5280 §4.1).
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
        let mut store = RootCertStore::empty();
        for certificate in certificates {
            let certificate = certificate.map_err(|error| unreadable(what, error))?;
            store.add(certificate).map_err(|error| unreadable(what, error))?;
        }
        if store.is_empty() {
            return Err(unreadable(what, pem::Error::NoItemsFound));
        }
        Ok(Roots(Arc::new(store)))
    }

    /// The number of certificates.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is trusted; no handshake can succeed then.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn store(&self) -> Arc<RootCertStore> {
        self.0.clone()
    }
}

impl From<RootCertStore> for Roots {
    fn from(store: RootCertStore) -> Self {
        Roots(Arc::new(store))
    }
}

/// A certificate chain and its private key, for servers that ask who the client is.
#[derive(Clone)]
pub struct ClientCertificate {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl ClientCertificate {
    /// Reads the chain, own certificate first, and the key from PEM texts, which may be one and the same.
    ///
    /// # Errors
    ///
    /// When a text is not PEM, or holds no certificate or no private key (PKCS #8, PKCS #1 or SEC 1).
    pub fn from_pem(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_slice_iter(chain.as_ref());
        Self::new(chain, PrivateKeyDer::from_pem_slice(key.as_ref()), "client certificate from PEM")
    }

    /// Reads the chain, own certificate first, and the key from PEM files, which may be one and the same.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, and as [`from_pem`](Self::from_pem).
    pub fn from_pem_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, TlsError> {
        let (chain, key) = (chain.as_ref(), key.as_ref());
        let what = format!("client certificate from {} and {}", chain.display(), key.display());
        match CertificateDer::pem_file_iter(chain) {
            Ok(chain) => Self::new(chain, PrivateKeyDer::from_pem_file(key), &what),
            Err(error) => Err(unreadable(&what, error)),
        }
    }

    /// Takes the chain, own certificate first, and the key in DER.
    ///
    /// # Errors
    ///
    /// When the key is none of PKCS #8, PKCS #1 and SEC 1, or the chain is empty.
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
        let chain = chain.collect::<Result<Vec<_>, _>>().map_err(|error| unreadable(what, error))?;
        if chain.is_empty() {
            return Err(unreadable(what, pem::Error::NoItemsFound));
        }
        let key = Arc::new(key.map_err(|error| unreadable(&format!("private key of {what}"), error))?);
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

fn unreadable(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> TlsError {
    TlsError::config(format!("cannot read {what}"), Some(Arc::new(error)))
}
