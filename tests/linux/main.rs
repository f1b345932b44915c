//! The Linux probes compared with conntrack(8) and ss(8), in network namespaces made for each test.
#![cfg(all(target_os = "linux", feature = "client", any(feature = "ring", feature = "aws-lc-rs")))]

#[cfg(feature = "conntrack")]
mod conntrack;
#[cfg(feature = "tcp-info")]
mod icmp;
#[cfg(feature = "tcp-info")]
mod tcp_info;
#[cfg(all(feature = "timestamping", feature = "server"))]
mod timestamping;

/// Returns the waterfall of the trace on one line, with single spaces.
#[cfg(feature = "tcp-info")]
fn drawn(trace: &nettrace::NetTrace) -> String {
    let drawn = nettrace::view::waterfall(trace).to_string();
    drawn.split_whitespace().collect::<Vec<_>>().join(" ")
}
