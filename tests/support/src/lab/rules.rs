//! Firewall rules and routes, with which a namespace drops, refuses or translates packets.

use super::Ns;

/// The packets that a rule applies to: those that the host receives, forwards or sends.
///
/// With a `drop` in `Output`, `send` on a UDP socket fails with EPERM. To lose packets silently, use `Input` of the
/// other host or `Forward` of the router.
#[derive(Clone, Copy, Debug)]
pub enum Hook {
    Input,
    Forward,
    Output,
}

impl Ns {
    /// Adds an nftables rule: `ns.nft(Hook::Input, "tcp dport 443 drop")`. Other useful rules:
    ///
    /// - `tcp dport 80 reject with tcp reset`: refused (ECONNREFUSED)
    /// - `tcp dport 80 reject with icmpx host-unreachable`: EHOSTUNREACH; likewise
    ///   `no-route` (ENETUNREACH), `admin-prohibited` (EHOSTUNREACH), `port-unreachable`
    /// - `udp dport 53 numgen random mod 100 < 30 drop`: 30 % loss
    /// - `tcp dport 80 tcp flags syn / syn,ack drop`: no new connections, but open ones continue
    /// - `ct state established`: like any use of `ct`, makes the namespace track connections
    ///
    /// ICMP errors need a network with a delay; 1 ms is enough. Without it they arrive while `connect` still holds the
    /// lock of the socket. Over IPv6 the kernel then ignores the first error, and `connect` only fails with the error
    /// for the second SYN, one second later.
    #[track_caller]
    pub fn nft(&self, hook: Hook, rule: &str) {
        let chain = match hook {
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
        };
        self.sh(&format!(
            "nft 'add table inet lab
                  add chain inet lab {chain} {{ type filter hook {chain} priority 0; }}
                  add rule inet lab {chain} {rule}'"
        ));
    }

    /// Removes all rules of the namespace, including NAT.
    #[track_caller]
    pub fn nft_flush(&self) {
        self.sh("nft flush ruleset");
    }

    /// Replaces the source address of packets that leave through the interface by the address of the interface (NAT),
    /// for IPv4 and IPv6.
    #[track_caller]
    pub fn masquerade(&self, interface: &str) {
        self.sh(&format!(
            "nft 'add table inet nat
                  add chain inet nat postrouting {{ type nat hook postrouting priority 100; }}
                  add rule inet nat postrouting oifname {interface} masquerade'"
        ));
    }

    /// Redirects TCP connections to the port `from` to the port `to`.
    #[track_caller]
    pub fn redirect(&self, from: u16, to: u16) {
        self.sh(&format!(
            "nft 'add table inet nat
                  add chain inet nat in {{ type nat hook prerouting priority -100; }}
                  add rule inet nat in tcp dport {from} redirect to :{to}'"
        ));
    }

    /// Adds a blackhole route: a router drops packets silently, and on the host itself `connect` fails with EINVAL.
    #[track_caller]
    pub fn blackhole(&self, prefix: &str) {
        self.route("blackhole", prefix);
    }

    /// Adds an unreachable route: a router answers with ICMP host unreachable, and on the host itself `connect` fails
    /// with EHOSTUNREACH.
    #[track_caller]
    pub fn unreachable(&self, prefix: &str) {
        self.route("unreachable", prefix);
    }

    /// Adds a prohibit route: a router answers with ICMP communication prohibited, and on the host itself `connect`
    /// fails with EACCES.
    #[track_caller]
    pub fn prohibit(&self, prefix: &str) {
        self.route("prohibit", prefix);
    }

    fn route(&self, kind: &str, prefix: &str) {
        let family = if prefix.contains(':') { "-6" } else { "-4" };
        self.sh(&format!("ip {family} route replace {kind} {prefix}"));
    }
}
