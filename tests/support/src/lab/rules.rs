//! Faults: what a namespace drops, refuses and cannot reach.

use super::Ns;

/// The packets that a rule applies to: those for the host, those that it forwards, those that it sends.
///
/// A rule in `Output` that drops makes UDP's `send` fail with EPERM: to lose packets unseen, use
/// `Input` of the other host or `Forward` of the router.
#[derive(Clone, Copy, Debug)]
pub enum Hook {
    Input,
    Forward,
    Output,
}

impl Ns {
    /// Adds a rule of nft: `ns.nft(Hook::Input, "tcp dport 443 drop")`. Others that help:
    ///
    /// - `tcp dport 80 reject with tcp reset`: refused (ECONNREFUSED)
    /// - `tcp dport 80 reject with icmpx host-unreachable`: EHOSTUNREACH; likewise
    ///   `no-route` (ENETUNREACH), `admin-prohibited` (EHOSTUNREACH), `port-unreachable`
    /// - `udp dport 53 numgen random mod 100 < 30 drop`: 30 % loss
    /// - `tcp dport 80 tcp flags syn / syn,ack drop`: no new connection, the open ones go on
    /// - `ct state established`: as any use of `ct`, this makes the namespace track connections
    ///
    /// ICMP errors want a network with a delay, 1 ms will do: without one they come while `connect`
    /// still holds the socket, and over IPv6 the kernel then heeds only that for the second SYN, a
    /// second later.
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

    /// Takes back all rules of the namespace, address translation too.
    #[track_caller]
    pub fn nft_flush(&self) {
        self.sh("nft flush ruleset");
    }

    /// Gives every packet that leaves through the interface its address (NAT), IPv4 and IPv6.
    #[track_caller]
    pub fn masquerade(&self, interface: &str) {
        self.sh(&format!(
            "nft 'add table inet nat
                  add chain inet nat postrouting {{ type nat hook postrouting priority 100; }}
                  add rule inet nat postrouting oifname {interface} masquerade'"
        ));
    }

    /// Hands what comes for one port of TCP to another.
    #[track_caller]
    pub fn redirect(&self, from: u16, to: u16) {
        self.sh(&format!(
            "nft 'add table inet nat
                  add chain inet nat in {{ type nat hook prerouting priority -100; }}
                  add rule inet nat in tcp dport {from} redirect to :{to}'"
        ));
    }

    /// Packets to there vanish on a router; on the host itself `connect` fails with EINVAL.
    #[track_caller]
    pub fn blackhole(&self, prefix: &str) {
        self.route("blackhole", prefix);
    }

    /// EHOSTUNREACH on the host itself; a router answers with ICMP host unreachable.
    #[track_caller]
    pub fn unreachable(&self, prefix: &str) {
        self.route("unreachable", prefix);
    }

    /// EACCES on the host itself; a router answers with ICMP communication prohibited.
    #[track_caller]
    pub fn prohibit(&self, prefix: &str) {
        self.route("prohibit", prefix);
    }

    fn route(&self, kind: &str, prefix: &str) {
        let family = if prefix.contains(':') { "-6" } else { "-4" };
        self.sh(&format!("ip {family} route replace {kind} {prefix}"));
    }
}
