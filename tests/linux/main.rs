//! What the Linux kernel knows beside the program, against what its own tools say.

#![cfg(all(target_os = "linux", feature = "client", feature = "tcp-info"))]

#[path = "../support/mod.rs"]
mod support;

mod icmp;
mod tcp_info;

/// What a person is shown, on one line.
fn drawn(trace: &nettrace::NetTrace) -> String {
    let drawn = nettrace::view::waterfall(trace).to_string();
    drawn.split_whitespace().collect::<Vec<_>>().join(" ")
}
