//! The causes that are looked for: one rule each.
//!
//! A rule is a function that looks at a [`Case`] and returns a finding if its records prove the cause. To add a cause,
//! write the function in the file of its area, and add it to the list here.

mod dns;
mod http;
mod http2;
mod limits;
mod pool;
mod process;
mod proxy;
mod redirects;
mod server_slow;
mod status;
mod tcp;
mod tls;

use super::{case::Case, found::Found};

/// A cause that [`explain`](super::explain) can find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cause {
    /// The code: the area, and what is wrong there.
    pub code: &'static str,
    /// What it means, in a sentence.
    pub meaning: &'static str,
}

/// A cause, and how it is found.
pub(super) struct Rule {
    pub(super) cause: Cause,
    pub(super) check: fn(&Case<'_>) -> Option<Found>,
}

/// Lists the causes with the functions that find them.
macro_rules! rules {
    ($( $check:path: $code:literal, $meaning:literal; )+) => {
        /// The causes that can be found:
        ///
        $(#[doc = concat!("- `", $code, "`: ", $meaning)])+
        pub const CAUSES: &[Cause] = &[$( Cause { code: $code, meaning: $meaning } ),+];

        pub(super) static RULES: &[Rule] =
            &[$( Rule { cause: Cause { code: $code, meaning: $meaning }, check: $check } ),+];
    };
}

rules! {
    process::descriptors_exhausted: "process_descriptors_exhausted",
        "The process or the system has no file descriptor left.";
    process::runtime_blocked: "process_runtime_blocked",
        "The process read nothing for a while, although the kernel had responses on several connections.";
    process::reads_late: "process_reads_late", "The kernel had the response long before the process read it.";
    dns::server_silent: "dns_server_silent", "No nameserver answered a query.";
    dns::port_closed: "dns_port_closed", "A nameserver's host refused the query: no nameserver listens there.";
    dns::server_unreachable: "dns_server_unreachable",
        "A query could not be sent to a nameserver: there is no way to it.";
    dns::first_server_dead: "dns_first_server_dead", "A nameserver did not answer, and a later one did.";
    dns::query_lost: "dns_query_lost", "A query or its reply was lost, while the nameserver answers others.";
    dns::all_skipped: "dns_all_skipped", "The program skips all nameservers.";
    dns::invalid_name: "dns_invalid_name", "The host of the URL is no name that can be looked up.";
    dns::nxdomain: "dns_nxdomain", "The name does not exist.";
    dns::servfail: "dns_servfail", "The nameserver could not find the answer (SERVFAIL).";
    dns::refused: "dns_refused", "The nameserver refuses to answer this client (REFUSED).";
    dns::misbehaving: "dns_server_misbehaving",
        "A nameserver answers with another error, or refers to other nameservers.";
    dns::no_data: "dns_no_data", "The name exists, but has no address.";
    dns::dangling_cname: "dns_dangling_cname", "The name is an alias of a name without address, or of itself.";
    dns::search_detour: "dns_search_detour", "Names with search domains were asked for first, in vain.";
    dns::aaaa_dropped: "dns_aaaa_dropped",
        "The nameserver answers queries for IPv4 addresses, and not those for IPv6 addresses.";
    dns::tcp_blocked: "dns_tcp_blocked", "A reply was too long for UDP, and asking over TCP failed.";
    dns::spoofed: "dns_spoofed", "All replies of a nameserver were ignored, because they answer something else.";
    dns::malformed: "dns_malformed", "The reply of a nameserver cannot be read.";
    dns::bogon: "dns_bogon", "A public name has a null, loopback or private address.";
    dns::slow: "dns_slow", "A nameserver took far longer than usual to answer.";
    dns::hosts_override: "dns_hosts_override", "An address is known without asking, and nameservers say another one.";
    dns::stale_address: "dns_stale_address", "A connection was used whose address the name no longer has.";
    proxy::unreachable: "proxy_unreachable", "No connection to the proxy could be made.";
    proxy::auth_required: "proxy_auth_required", "The proxy wants credentials, or rejects those that it was sent.";
    proxy::refused_connect: "proxy_refused_connect", "The proxy refused to open a tunnel.";
    proxy::socks_error: "proxy_socks_error", "The SOCKS proxy did not connect, or does not speak SOCKS5.";
    proxy::slow_tunnel: "proxy_slow_tunnel", "The proxy was slow to open a tunnel.";
    // Before the causes in TCP: both are also resets, of which more is known.
    http::early_response: "http_early_response", "The server refused the request before it had the whole body.";
    http::stale_keep_alive: "http_stale_keep_alive", "The server closed an idle connection as a request came.";
    tcp::refused: "tcp_refused", "Nothing listens on the port of the peer.";
    tcp::filtered: "tcp_filtered", "Nothing answers the attempt to connect.";
    tcp::forbidden: "tcp_forbidden", "A router, a packet filter or this host forbids the connection.";
    tcp::no_route: "tcp_no_route", "This host has no route to the peer, so that no packet was sent.";
    tcp::host_unreachable: "tcp_host_unreachable", "A router reports that the peer cannot be reached.";
    tcp::ipv6_dead: "tcp_ipv6_dead", "No attempt over IPv6 is answered, and IPv4 works.";
    tcp::syn_lost: "tcp_syn_lost", "The first packet of a connection was lost, and sent again after a second.";
    tcp::far_away: "tcp_far_away", "A time limit is shorter than a few round trips to the peer.";
    tcp::ports_exhausted: "tcp_ports_exhausted", "There is no local port left for another connection.";
    tcp::bad_source: "tcp_bad_source", "The configured source address is not one of this host, or of the wrong family.";
    tcp::reset: "tcp_reset", "The peer, or something on the way, reset the connection.";
    tcp::loss: "tcp_loss", "Segments were lost and had to be sent again.";
    tcp::mtu_black_hole: "tcp_mtu_black_hole", "Large packets are lost on the way, and small ones arrive.";
    tcp::zero_window: "tcp_zero_window", "The peer did not read what was sent.";
    tcp::bufferbloat: "tcp_bufferbloat", "A full queue on the way delays everything during a transfer.";
    tcp::mapping_lost: "nat_mapping_lost", "A NAT or firewall on the way has forgotten an open connection.";
    tcp::untracked: "nat_untracked", "Nothing answers, and connection tracking has no entry: a rule of this host drops the packet.";
    tcp::unexpected: "nat_unexpected", "This host translates the addresses of a connection that failed, unlike others.";
    tcp::asymmetric: "nat_asymmetric", "Replies come in past the connection tracking of this host.";
    tls::not_tls: "tls_not_tls", "The server does not speak TLS.";
    tls::expired: "tls_expired", "The certificate of the server, or of its authority, has expired.";
    tls::not_yet_valid: "tls_not_yet_valid", "The certificate of the server is not yet valid.";
    tls::own_clock_wrong: "tls_own_clock_wrong", "The clock of this host is behind.";
    tls::intercepted: "tls_intercepted", "Something on the way has issued the certificate.";
    tls::missing_intermediate: "tls_missing_intermediate", "The certificate of the issuer is missing.";
    tls::unknown_authority: "tls_unknown_authority", "The certificate of the server leads to no trusted root.";
    tls::wrong_name: "tls_wrong_name", "The certificate of the server is for other names of its domain.";
    tls::default_certificate: "tls_default_certificate", "The server has no certificate for the name.";
    tls::no_common_version_or_suite: "tls_no_common_version_or_suite", "No version or suite in common.";
    tls::no_common_protocol: "tls_no_common_protocol", "No protocol of ALPN in common.";
    tls::ech_or_early_data_rejected: "tls_ech_or_early_data_rejected", "The server rejected the Encrypted ClientHello.";
    tls::alpn_fallback: "tls_alpn_fallback",
        "A connection got no HTTP/2, which the server speaks elsewhere, and others were made in its place.";
    tls::client_certificate: "tls_client_certificate", "The server wants another client certificate.";
    tls::large_hello_dropped: "tls_large_hello_dropped", "A ClientHello that is longer than a segment is lost.";
    tls::hello_retry: "tls_hello_retry", "The server wanted another ClientHello: a round trip more.";
    tls::no_answer: "tls_no_answer", "The server did not answer the ClientHello.";
    tls::truncated: "tls_truncated", "The connection ended without close_notify, and the response may be incomplete.";
    tls::never_resumes: "tls_never_resumes", "No TLS session is resumed.";
    http2::goaway: "http2_goaway", "The server shut the HTTP/2 connection down.";
    http2::stream_reset: "http2_stream_reset", "The server reset the HTTP/2 stream of the request.";
    http2::flow_control: "http2_flow_control", "The body of the request waited for windows of the server.";
    http2::stream_limit: "http2_stream_limit", "All streams that the server allows on the connection were in use.";
    http::closed_without_response: "http_closed_without_response", "The server closed the connection instead.";
    http::truncated: "http_truncated", "The response was cut off within its body.";
    http::decoding_error: "http_decoding_error", "The body is not in the encoding that the response names.";
    http::headers_too_large: "http_headers_too_large", "A head is larger than the other side accepts.";
    http::protocol_error: "http_protocol_error", "The response is not valid HTTP.";
    redirects::redirect_loop: "http_redirect_loop", "Redirects lead in a circle, or there are too many.";
    redirects::invalid_redirect: "http_invalid_redirect", "A redirect leads to a URL that cannot be requested.";
    redirects::redirect_detour: "http_redirect_detour", "Several redirects in a row precede the answer.";
    status::throttled: "http_throttled", "The server gets too many requests, is overloaded or in maintenance.";
    status::gateway_error: "http_gateway_error", "A gateway got no answer from the server behind it.";
    status::grpc_error: "grpc_error", "A gRPC call failed on the server or on the way to it.";
    http::expect_wait: "http_expect_wait", "The client waited in vain for 100 Continue.";
    http::upload_slow: "http_upload_slow", "Time ran out while the body of the request was sent.";
    http::body_stalls: "http_body_stalls", "The server paused within the body of the response.";
    pool::wait: "pool_wait", "All connections to the host were in use.";
    pool::not_reused: "pool_not_reused", "Each connection to an address serves one request.";
    server_slow::server_slow: "http_server_slow", "The server took far longer than usual, or did not answer.";
    limits::timeout_below_normal: "timeout_below_normal", "A time limit is shorter than what the host usually takes.";
    limits::caller_gave_up: "caller_gave_up", "The program, or the client of a served request, gave it up.";
    limits::timed_out: "http_timed_out", "A time limit of the client ran out.";
}
