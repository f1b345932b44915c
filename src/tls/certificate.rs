//! From certificates in DER to what a trace shows of them.

use std::{
    collections::VecDeque,
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer, time::ASN1Time};

use super::distinguished_name;
use crate::record::{PeerCert, Timestamp};

/// Chains that were described before: the same servers present the same chains again and again.
pub(crate) struct ChainCache(RwLock<VecDeque<(Chain, Arc<[PeerCert]>)>>);

type Chain = Box<[Box<[u8]>]>;

impl ChainCache {
    /// A chain takes some kilobytes, so all of them rarely more than some hundred.
    const LIMIT: usize = 32;

    pub(crate) fn new() -> Self {
        ChainCache(RwLock::default())
    }

    /// Describes a chain, or finds the description of an equal one.
    pub(super) fn describe<'a, 'b: 'a>(
        &self,
        chain: impl IntoIterator<Item = &'a CertificateDer<'b>, IntoIter: Clone>,
    ) -> Arc<[PeerCert]> {
        let chain = chain.into_iter().map(|certificate| &**certificate);
        if let Some(known) = self.find(chain.clone()) {
            return known;
        }
        let described: Arc<[PeerCert]> = chain.clone().map(describe).collect();
        let entry = (chain.map(Box::from).collect(), described.clone());
        let mut chains = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if chains.len() >= Self::LIMIT {
            chains.pop_front();
        }
        chains.push_back(entry);
        described
    }

    fn find<'a>(&self, chain: impl Iterator<Item = &'a [u8]> + Clone) -> Option<Arc<[PeerCert]>> {
        let chains = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let known = chains.iter().find(|(known, _)| known.iter().map(|der| &**der).eq(chain.clone()));
        known.map(|(_, described)| described.clone())
    }
}

impl fmt::Debug for ChainCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainCache").finish_non_exhaustive()
    }
}

/// What is known of a certificate; of one that cannot be read, its fingerprint alone.
fn describe(der: &[u8]) -> PeerCert {
    let mut described = PeerCert { sha256: base16(&Sha256::digest(der)), ..PeerCert::default() };
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return described };
    described.subject = distinguished_name::rfc2253(certificate.subject());
    described.issuer = distinguished_name::rfc2253(certificate.issuer());
    described.not_before = timestamp(&certificate.validity().not_before);
    described.not_after = timestamp(&certificate.validity().not_after);
    described.is_ca = certificate.is_ca();
    if let Ok(Some(names)) = certificate.subject_alternative_name() {
        described.sans = names.value.general_names.iter().filter_map(general_name).collect();
    }
    described
}

fn timestamp(time: &ASN1Time) -> Timestamp {
    Timestamp::from_unix_nanos(time.to_datetime().unix_timestamp_nanos())
}

/// The kinds that name a server or a person, as plain text; others have no text form.
fn general_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) | GeneralName::URI(text) | GeneralName::RFC822Name(text) => {
            Some((*text).to_owned())
        }
        GeneralName::IPAddress(octets) => match octets.len() {
            4 => <[u8; 4]>::try_from(*octets).ok().map(|octets| Ipv4Addr::from(octets).to_string()),
            _ => <[u8; 16]>::try_from(*octets).ok().map(|octets| Ipv6Addr::from(octets).to_string()),
        },
        _ => None,
    }
}

pub(super) fn base16(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string never fails.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    #[test]
    fn the_unreadable_has_its_fingerprint() {
        let described = describe(b"abc");
        // FIPS 180-4, the first example.
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(described, PeerCert { sha256: sha256.into(), ..PeerCert::default() });
    }

    #[test]
    fn names_and_validity() {
        let mut params = CertificateParams::new(["web.test".into(), "*.web.test".into()]).unwrap();
        params.subject_alt_names.extend([
            SanType::IpAddress(IpAddr::from([192, 0, 2, 1])),
            SanType::IpAddress("2001:db8::1".parse().unwrap()),
            SanType::URI("spiffe://web.test/a".try_into().unwrap()),
            SanType::Rfc822Name("admin@web.test".try_into().unwrap()),
        ]);
        params.not_before = rcgen::date_time_ymd(2025, 1, 2);
        params.not_after = rcgen::date_time_ymd(2051, 3, 4);
        let described = describe(&self_signed(params));
        let sans =
            ["web.test", "*.web.test", "192.0.2.1", "2001:db8::1", "spiffe://web.test/a", "admin@web.test"];
        assert_eq!(described.sans, sans);
        assert_eq!(described.not_before.to_string(), "2025-01-02T00:00:00Z");
        assert_eq!(described.not_after.to_string(), "2051-03-04T00:00:00Z");
        assert!(!described.is_ca);
    }

    #[test]
    fn equal_chains_are_described_once_and_old_ones_are_forgotten() {
        let cache = ChainCache::new();
        let chain = |number: usize| [CertificateDer::from(vec![number as u8; 10])];
        let first = cache.describe(&chain(0));
        assert!(Arc::ptr_eq(&first, &cache.describe(&chain(0))));
        let longer = [chain(0), chain(1)].concat();
        assert_eq!(cache.describe(&longer).len(), 2, "a longer chain with the same beginning is another");
        for number in 1..=ChainCache::LIMIT {
            cache.describe(&chain(number));
        }
        assert_eq!(cache.0.read().unwrap().len(), ChainCache::LIMIT);
        assert!(!Arc::ptr_eq(&first, &cache.describe(&chain(0))));
    }

    #[test]
    fn authorities_are_told_apart() {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        assert!(describe(&self_signed(params)).is_ca);
    }

    fn self_signed(params: CertificateParams) -> Vec<u8> {
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }
}
