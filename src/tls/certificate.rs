//! Certificate chains: from DER to what a trace shows of them.
//!
//! Servers present the same chain again and again, and parsing one takes far longer than comparing its bytes, so
//! descriptions are cached.

use std::{
    collections::VecDeque,
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    sync::{Arc, RwLock},
};

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer, time::ASN1Time};

use super::distinguished_name;
use crate::{
    hex::hex,
    record::{
        BoxedOrEmpty, PeerCert, Timestamp, TruncatedFields,
        limits::{
            self, MAX_CERTIFICATE_SANS, MAX_CERTIFICATES, MAX_CHAIN_SAN_BYTES, MAX_DISTINGUISHED_NAME_BYTES,
            SAN_OVERHEAD_BYTES, TRUNCATION_MARK,
        },
    },
    sink::PeerChain,
    sync::IgnorePoison,
};

/// A cache of described chains.
pub(crate) struct ChainCache(RwLock<VecDeque<(Chain, PeerChain)>>);

type Chain = Box<[Box<[u8]>]>;

impl ChainCache {
    /// A chain takes a few kilobytes, so the cache rarely takes more than a hundred.
    const MAX_CHAINS: usize = 32;
    /// A longer chain is not cached.
    const MAX_CHAIN_BYTES: usize = 16 << 10;

    pub(crate) fn new() -> Self {
        ChainCache(RwLock::default())
    }

    /// Describes a chain, or finds the description of an equal one.
    pub(super) fn describe<'a, 'b: 'a>(
        &self,
        chain: impl IntoIterator<Item = &'a CertificateDer<'b>, IntoIter: Clone>,
    ) -> PeerChain {
        let chain = chain.into_iter().map(|certificate| &**certificate);
        if let Some(known) = self.find(chain.clone()) {
            return known;
        }
        let mut san_bytes_left = MAX_CHAIN_SAN_BYTES;
        let certs: Arc<[PeerCert]> =
            chain.clone().take(MAX_CERTIFICATES).map(|der| describe(der, &mut san_bytes_left)).collect();
        let all = chain.clone().count();
        let original_certs = if certs.len() < all { limits::original_size(all) } else { None };
        let described = PeerChain::new(certs, original_certs);
        if chain.clone().map(<[u8]>::len).sum::<usize>() > Self::MAX_CHAIN_BYTES {
            return described;
        }
        let entry = (chain.map(Box::from).collect(), described.clone());
        let mut chains = self.0.write().ignore_poison();
        if chains.len() >= Self::MAX_CHAINS {
            chains.pop_front();
        }
        chains.push_back(entry);
        described
    }

    fn find<'a>(&self, chain: impl Iterator<Item = &'a [u8]> + Clone) -> Option<PeerChain> {
        let chains = self.0.read().ignore_poison();
        let known = chains.iter().find(|(known, _)| known.iter().map(|der| &**der).eq(chain.clone()));
        known.map(|(_, described)| described.clone())
    }
}

impl fmt::Debug for ChainCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainCache").finish_non_exhaustive()
    }
}

/// Describes a certificate; one that cannot be parsed only by its fingerprint.
///
/// Its alternative names may take `san_bytes_left` bytes, from which what they take is subtracted.
fn describe(der: &[u8], san_bytes_left: &mut usize) -> PeerCert {
    let mut described = PeerCert { sha256: hex(&Sha256::digest(der)), ..PeerCert::default() };
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return described };
    let truncated = &mut described.truncated_fields;
    let name = |truncated: &mut BoxedOrEmpty<TruncatedFields>, field, name| {
        let text = distinguished_name::rfc2253(name);
        let cut = limits::truncate(&text, MAX_DISTINGUISHED_NAME_BYTES);
        truncated.note(field, cut.as_ref().and_then(|_| limits::original_size(text.len())));
        cut.unwrap_or(text)
    };
    described.subject = name(truncated, "subject", certificate.subject());
    described.issuer = name(truncated, "issuer", certificate.issuer());
    described.not_before = timestamp(&certificate.validity().not_before);
    described.not_after = timestamp(&certificate.validity().not_after);
    described.is_ca = certificate.is_ca();
    if let Ok(Some(names)) = certificate.subject_alternative_name() {
        let names = names.value.general_names.iter();
        let all = names.clone().filter(|name| has_text(name)).count();
        described.sans = sans(names.filter_map(general_name), san_bytes_left);
        if described.sans.len() < all
            || described.sans.last().is_some_and(|last| last.ends_with(TRUNCATION_MARK))
        {
            described.truncated_fields.note("sans", limits::original_size(all));
        }
    }
    described
}

/// Returns the first of these names, as many as the limits allow. The last one may be truncated.
fn sans(names: impl Iterator<Item = String>, left: &mut usize) -> Vec<String> {
    let mut kept = Vec::new();
    for name in names.take(MAX_CERTIFICATE_SANS) {
        let Some(room @ 1..) = left.checked_sub(SAN_OVERHEAD_BYTES) else { break };
        *left = room.saturating_sub(name.len());
        let cut = limits::truncate(&name, room);
        let is_cut = cut.is_some();
        kept.push(cut.unwrap_or(name));
        if is_cut {
            break;
        }
    }
    kept
}

/// Returns `true` if [`general_name`] returns a text.
fn has_text(name: &GeneralName<'_>) -> bool {
    match name {
        GeneralName::DNSName(_) | GeneralName::URI(_) | GeneralName::RFC822Name(_) => true,
        GeneralName::IPAddress(octets) => matches!(octets.len(), 4 | 16),
        _ => false,
    }
}

fn timestamp(time: &ASN1Time) -> Timestamp {
    Timestamp::from_unix_nanos(time.to_datetime().unix_timestamp_nanos())
}

/// Returns a name as text. Only names of hosts, services and persons have a text form.
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

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, num::NonZeroU32};

    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    #[test]
    fn an_unreadable_certificate_has_its_fingerprint() {
        let described = describe_alone(b"abc");
        // FIPS 180-4, the first example.
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(described, PeerCert { sha256: sha256.into(), ..PeerCert::default() });
    }

    #[test]
    fn names_and_validity_are_described() {
        let mut params = CertificateParams::new(["web.test".into(), "*.web.test".into()]).unwrap();
        params.subject_alt_names.extend([
            SanType::IpAddress(IpAddr::from([192, 0, 2, 1])),
            SanType::IpAddress("2001:db8::1".parse().unwrap()),
            SanType::URI("spiffe://web.test/a".try_into().unwrap()),
            SanType::Rfc822Name("admin@web.test".try_into().unwrap()),
        ]);
        params.not_before = rcgen::date_time_ymd(2025, 1, 2);
        params.not_after = rcgen::date_time_ymd(2051, 3, 4);
        let described = describe_alone(&self_signed(params));
        let sans =
            ["web.test", "*.web.test", "192.0.2.1", "2001:db8::1", "spiffe://web.test/a", "admin@web.test"];
        assert_eq!(described.sans, sans);
        assert_eq!(described.not_before.to_string(), "2025-01-02T00:00:00Z");
        assert_eq!(described.not_after.to_string(), "2051-03-04T00:00:00Z");
        assert!(!described.is_ca);
    }

    #[test]
    fn equal_chains_are_described_once_and_old_ones_are_evicted() {
        let cache = ChainCache::new();
        let chain = |number: usize| [CertificateDer::from(vec![number as u8; 10])];
        let first = cache.describe(&chain(0));
        assert!(Arc::ptr_eq(&first.certs(), &cache.describe(&chain(0)).certs()));
        let longer = [chain(0), chain(1)].concat();
        assert_eq!(
            cache.describe(&longer).certs().len(),
            2,
            "a longer chain with the same beginning differs"
        );
        for number in 1..=ChainCache::MAX_CHAINS {
            cache.describe(&chain(number));
        }
        assert_eq!(cache.0.read().unwrap().len(), ChainCache::MAX_CHAINS);
        assert!(!Arc::ptr_eq(&first.certs(), &cache.describe(&chain(0)).certs()));
    }

    #[test]
    fn long_chains_are_truncated_and_not_cached() {
        let cache = ChainCache::new();
        let chain = vec![CertificateDer::from(vec![1; 3_000]); MAX_CERTIFICATES + 1];
        let described = cache.describe(&chain);
        assert_eq!(described.certs().len(), MAX_CERTIFICATES);
        assert_eq!(described.original_certs(), NonZeroU32::new(MAX_CERTIFICATES as u32 + 1));
        assert!(cache.0.read().unwrap().is_empty());
    }

    #[test]
    fn names_are_limited_in_number_and_length() {
        let text = |length: usize| "a".repeat(length);
        let limited = |names: &[String], left: usize| sans(names.iter().cloned(), &mut { left });
        assert_eq!(limited(&[text(1), text(2)], MAX_CHAIN_SAN_BYTES), [text(1), text(2)]);
        assert_eq!(limited(&vec![text(1); 200], MAX_CHAIN_SAN_BYTES).len(), MAX_CERTIFICATE_SANS);
        assert_eq!(limited(&[text(60), text(60), text(1)], 150), [text(60), text(42) + "…"]);
        assert_eq!(limited(&[text(60_000)], 124), [text(100) + "…"]);
        assert_eq!(limited(&[text(1)], SAN_OVERHEAD_BYTES), [""; 0]);

        let mut params = CertificateParams::new(vec!["a.test".to_owned(); 101]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, text(2_000));
        let described = describe_alone(&self_signed(params));
        assert_eq!(described.sans.len(), MAX_CERTIFICATE_SANS);
        let cut = described.truncated_fields;
        assert_eq!(
            (cut.get("sans"), cut.get("subject"), cut.get("issuer")),
            (Some(101), Some(2_003), Some(2_003))
        );
    }

    #[test]
    fn authorities_are_recognised() {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        assert!(describe_alone(&self_signed(params)).is_ca);
    }

    fn describe_alone(der: &[u8]) -> PeerCert {
        describe(der, &mut { MAX_CHAIN_SAN_BYTES })
    }

    fn self_signed(params: CertificateParams) -> Vec<u8> {
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }
}
