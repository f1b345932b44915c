//! Networks that many tests use. Their addresses are fixed, because the namespaces of other tests are separate.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Delay, Ns, Wire};

impl Ns {
    /// Links this namespace with another one by a veth pair: interface `name` here, `peer_name` there, both up.
    #[track_caller]
    pub fn veth(&self, name: &str, peer: &Self, peer_name: &str) {
        let path = peer.path();
        self.sh(&format!(
            "ip link add {name} type veth peer name {peer_name} netns {path} && ip link set {name} up"
        ));
        peer.sh(&format!("ip link set {peer_name} up"));
    }

    /// Gives the interface an address with its prefix length: `ns.address("eth0", "10.9.1.2/24")`.
    #[track_caller]
    pub fn address(&self, interface: &str, address: &str) {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        self.sh(&format!("ip address add {address} dev {interface} {nodad}"));
    }
}

/// The addresses of a host in a [`Pair`] or a [`Routed`] network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

impl Site {
    pub fn ips(self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

/// Two hosts on one link: `client` with the interface `c0`, `server` with `s0`.
pub struct Pair {
    pub client: Ns,
    pub server: Ns,
}

impl Pair {
    pub const CLIENT: Site = site(0, 1);
    pub const SERVER: Site = site(0, 2);

    #[expect(clippy::new_without_default, reason = "makes a network, which is no default value")]
    #[track_caller]
    pub fn new() -> Self {
        let (client, server) = (Ns::new(), Ns::new());
        client.veth("c0", &server, "s0");
        for (ns, interface, site) in [(&client, "c0", Self::CLIENT), (&server, "s0", Self::SERVER)] {
            assign(ns, interface, site);
        }
        Self { client, server }
    }
}

/// Two networks with a router between them: `client` (`c0`) – `router` (`r0`, `r1`) – `server` (`s0`).
///
/// There are no firewall rules. The router has no other routes, and answers packets to other destinations with ICMP
/// network unreachable.
pub struct Routed {
    pub client: Ns,
    pub router: Ns,
    pub server: Ns,
    _wire: Option<Wire>,
}

impl Routed {
    pub const CLIENT: Site = site(1, 2);
    pub const ROUTER_TO_CLIENT: Site = site(1, 1);
    pub const ROUTER_TO_SERVER: Site = site(2, 1);
    pub const SERVER: Site = site(2, 2);

    #[expect(clippy::new_without_default, reason = "makes a network, which is no default value")]
    #[track_caller]
    pub fn new() -> Self {
        let (client, router) = (Ns::new(), Ns::new());
        client.veth("c0", &router, "r0");
        Self::between(client, router, None)
    }

    /// Variant of [`new`](Self::new) with a delay between the client and the router.
    #[track_caller]
    pub fn with_delay(delay: Delay) -> Self {
        let (client, cable, router) = (Ns::new(), Ns::new(), Ns::new());
        client.veth("c0", &cable, "w0");
        cable.veth("w1", &router, "r0");
        let wire = Wire::start(&cable, "w0", "w1", delay);
        Self::between(client, router, Some(wire))
    }

    fn between(client: Ns, router: Ns, wire: Option<Wire>) -> Self {
        let server = Ns::new();
        router.veth("r1", &server, "s0");
        assign(&client, "c0", Self::CLIENT);
        assign(&router, "r0", Self::ROUTER_TO_CLIENT);
        assign(&router, "r1", Self::ROUTER_TO_SERVER);
        assign(&server, "s0", Self::SERVER);
        router.sysctl("net/ipv4/ip_forward", "1");
        router.sysctl("net/ipv6/conf/all/forwarding", "1");
        for (ns, gateway) in [(&client, Self::ROUTER_TO_CLIENT), (&server, Self::ROUTER_TO_SERVER)] {
            ns.sh(&format!(
                "ip route add default via {}; ip -6 route add default via {}",
                gateway.v4, gateway.v6
            ));
        }
        Self { client, router, server, _wire: wire }
    }
}

const fn site(network: u8, host: u8) -> Site {
    Site {
        v4: Ipv4Addr::new(10, 9, network, host),
        v6: Ipv6Addr::new(0xfd09, network as u16, 0, 0, 0, 0, 0, host as u16),
    }
}

fn assign(ns: &Ns, interface: &str, site: Site) {
    ns.address(interface, &format!("{}/24", site.v4));
    ns.address(interface, &format!("{}/64", site.v6));
}
