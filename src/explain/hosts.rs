//! [`HostIndex`]: what a trace has about each server, beyond the request that is explained.

use crate::{
    graph::TraceGraph,
    record::{Failure, TlsTunnelTrace},
};
use std::{cell::OnceCell, collections::HashMap};

/// An index of tunnels by server. It is built when a rule first asks for it, in time
/// linear in the size of the trace apart from sorting.
pub(super) struct HostIndex<'a> {
    graph: &'a TraceGraph<'a>,
    tls: OnceCell<TlsHosts<'a>>,
}

/// The tunnels to servers.
#[derive(Default)]
pub(super) struct TlsHosts<'a> {
    by_name: HashMap<&'a str, TlsHost<'a>>,
    /// The first tunnel to each server name whose certificate is not yet valid.
    pub(super) not_yet_valid: Vec<&'a TlsTunnelTrace>,
}

/// The tunnels to one server name.
#[derive(Default)]
pub(super) struct TlsHost<'a> {
    /// The first tunnel whose certificate was accepted.
    pub(super) accepted: Option<&'a TlsTunnelTrace>,
    /// The number of handshakes that resumed a session.
    pub(super) resumed: usize,
    /// When the other handshakes ended, in ascending order.
    full: Vec<(i64, &'a TlsTunnelTrace)>,
}

impl<'a> HostIndex<'a> {
    pub(super) fn new(graph: &'a TraceGraph<'a>) -> Self {
        HostIndex { graph, tls: OnceCell::new() }
    }

    /// Returns what is known about all servers with TLS.
    pub(super) fn tls(&self) -> &TlsHosts<'a> {
        self.tls.get_or_init(|| TlsHosts::new(self.graph))
    }
}

impl<'a> TlsHosts<'a> {
    fn new(graph: &TraceGraph<'a>) -> Self {
        let mut hosts = TlsHosts::default();
        for tunnel in graph.trace.tls_tunnels.iter().filter(|tunnel| !tunnel.accepted) {
            let is_first_early = is_not_yet_valid(graph, tunnel)
                && !hosts.not_yet_valid.iter().any(|other| other.server_name == tunnel.server_name);
            if is_first_early && hosts.not_yet_valid.len() < MAX_EARLY {
                hosts.not_yet_valid.push(tunnel);
            }
            if tunnel.server_name.is_empty() || !tunnel.handshake_err.is_empty() || tunnel.cipher_suite == 0 {
                continue;
            }
            let host = hosts.by_name.entry(tunnel.server_name.as_str()).or_default();
            if host.accepted.is_none() && !tunnel.peer_certs.is_empty() {
                host.accepted = Some(tunnel);
            }
            match graph.times.at(tunnel.handshake_end_at) {
                _ if tunnel.did_resume => host.resumed += 1,
                Some(end) => host.full.push((end, tunnel)),
                None => {}
            }
        }
        hosts.by_name.values_mut().for_each(|host| host.full.sort_unstable_by_key(|(end, _)| *end));
        hosts
    }

    pub(super) fn of(&self, server_name: &str) -> Option<&TlsHost<'a>> {
        self.by_name.get(server_name)
    }
}

/// How many servers with certificates that are not yet valid are kept.
const MAX_EARLY: usize = 8;

impl<'a> TlsHost<'a> {
    /// Returns the handshakes without resumption that ended before `at`, in order.
    pub(super) fn full_before(&self, at: i64) -> &[(i64, &'a TlsTunnelTrace)] {
        &self.full[..self.full.partition_point(|(end, _)| *end < at)]
    }
}

/// Returns `true` if the validity of the peer's certificate begins after the handshake.
pub(super) fn is_not_yet_valid(graph: &TraceGraph<'_>, tunnel: &TlsTunnelTrace) -> bool {
    let Some(certificate) = tunnel.peer_certs.first() else { return false };
    let times = graph.times.at(certificate.not_before).zip(graph.times.at(tunnel.handshake_begin_at));
    tunnel.failure == Some(Failure::SslInvalidCertificate) && times.is_some_and(|(begin, seen)| begin > seen)
}
