//! [`PeerChain`]: the certificates that a peer presented, shared by the records that took them from the same cache
//! entry.

use crate::record::PeerCert;
#[cfg(feature = "tls")]
use crate::sink::core::Core;
#[cfg(feature = "tls")]
use std::sync::{OnceLock, Weak};
use std::{num::NonZeroU32, sync::Arc};

/// The first certificates that a peer presented; empty if there are none. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerChain(Option<Arc<Presented>>);

/// The part of a chain that its clones share.
#[derive(Debug)]
struct Presented {
    certs: Arc<[PeerCert]>,
    original_certs: Option<NonZeroU32>,
    #[cfg(feature = "tls")]
    charge: OnceLock<Charge>,
}

/// The bytes that a sink charged for a chain. They are released with the chain.
#[cfg(feature = "tls")]
#[derive(Debug)]
struct Charge {
    core: Weak<Core>,
    bytes: usize,
}

#[cfg(feature = "tls")]
impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            core.budget.release(self.bytes);
        }
    }
}

impl PeerChain {
    /// Creates a chain from the first certificates that the peer presented. `original_certs` is how many it presented,
    /// if some were left out.
    #[cfg(feature = "tls")]
    pub(crate) fn new(certs: Arc<[PeerCert]>, original_certs: Option<NonZeroU32>) -> Self {
        let charge = OnceLock::new();
        PeerChain((!certs.is_empty()).then(|| Arc::new(Presented { certs, original_certs, charge })))
    }

    pub(crate) fn certs(&self) -> Arc<[PeerCert]> {
        self.0.as_ref().map(|chain| chain.certs.clone()).unwrap_or_default()
    }

    /// Returns how many certificates the chain had, if some were left out.
    pub(crate) fn original_certs(&self) -> Option<NonZeroU32> {
        self.0.as_ref()?.original_certs
    }

    /// Charges the memory of the chain to the first sink that asks, once for all records that share it.
    ///
    /// The charge is released when the last of the records is evicted, and `ChainCache` has dropped its copy.
    #[cfg(feature = "tls")]
    pub(super) fn charge(&self, core: &Arc<Core>) {
        let Some(chain) = self.0.as_ref().filter(|_| core.budget.is_limited()) else { return };
        chain.charge.get_or_init(|| {
            let bytes = chain.certs.iter().map(PeerCert::bytes).sum::<usize>() + size_of::<Presented>();
            core.budget.charge(bytes);
            Charge { core: Arc::downgrade(core), bytes }
        });
    }
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use super::*;
    use crate::sink::config::SinkConfig;

    #[test]
    fn a_shared_chain_is_charged_once_until_its_last_clone_is_dropped() {
        let core = Arc::new(Core::new(SinkConfig::default(), vec![], 0));
        let certs: Arc<[PeerCert]> = vec![PeerCert::default(); 3].into();
        let bytes = certs.iter().map(PeerCert::bytes).sum::<usize>();
        let chain = PeerChain::new(certs, None);
        let others: Vec<_> = (0..10).map(|_| chain.clone()).collect();
        others.iter().for_each(|chain| chain.charge(&core));
        let charged = core.budget.charged();
        assert!(charged >= bytes && charged < 2 * bytes, "{charged} bytes are charged for one chain");
        drop(chain);
        for chain in others {
            assert_eq!(core.budget.charged(), charged);
            drop(chain);
        }
        assert_eq!(core.budget.charged(), 0);
    }
}
