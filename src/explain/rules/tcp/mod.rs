//! Causes in connections and on the path.

mod dial;
mod nat;
mod path;

pub(super) use self::{
    dial::{
        bad_source, filtered, forbidden, host_unreachable, ipv6_dead, no_route, ports_exhausted, refused,
        syn_lost, untracked,
    },
    nat::{asymmetric, mapping_lost, unexpected},
    path::{bufferbloat, far_away, loss, mtu_black_hole, reset, zero_window},
};
