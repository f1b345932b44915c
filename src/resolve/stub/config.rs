//! The settings of a lookup: resolv.conf(5), overridden by what the program sets.

use std::{
    borrow::Cow,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};

use resolv_conf::ScopedIp;

use crate::nameserver::Nameserver;

const DNS_PORT: u16 = 53;
/// The C library's limits for the file (MAXNS, RES_MAXNDOTS, RES_MAXRETRANS, RES_MAXRETRY).
const LIBC_MAX_NAMESERVERS: usize = 3;
const LIBC_MAX_NDOTS: u32 = 15;
const LIBC_MAX_TIMEOUT_SECS: u32 = 30;
const LIBC_MAX_ATTEMPTS: u32 = 5;
/// The limits for what a program sets: a lookup must end, and its deadline must not overflow.
const MAX_ATTEMPTS: u32 = 100;
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// The settings that apply to a lookup; see resolv.conf(5).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    pub(super) nameservers: Vec<Nameserver>,
    /// Absolute names, each with its final dot.
    pub(super) search: Vec<String>,
    pub(super) ndots: usize,
    pub(super) attempts: u32,
    pub(super) timeout: Duration,
    pub(super) rotate: bool,
    pub(super) use_vc: bool,
    pub(super) single_request: bool,
    pub(super) trust_ad: bool,
    pub(super) no_aaaa: bool,
}

/// The settings of the program. `None` leaves the system's setting.
#[derive(Clone, Debug, Default)]
pub(super) struct Overrides {
    pub(super) nameservers: Option<Vec<Nameserver>>,
    pub(super) search: Option<Vec<String>>,
    pub(super) ndots: Option<usize>,
    pub(super) attempts: Option<u32>,
    pub(super) timeout: Option<Duration>,
    pub(super) rotate: Option<bool>,
    pub(super) use_vc: Option<bool>,
    pub(super) single_request: Option<bool>,
}

impl Config {
    /// Parses the content of a resolv.conf; `None` if there is no such file. Lines that cannot be understood are
    /// skipped, since a resolver that works in part is better than none.
    pub(super) fn parse(content: Option<&[u8]>) -> Self {
        let content = content.map_or(Cow::Borrowed(&b""[..]), with_numeric_scopes);
        let (parsed, errors) = resolv_conf::Config::parse_with_errors(&content);
        for error in errors {
            tracing::debug!(target: "nettrace", %error, "resolv.conf: skipped a line");
        }
        let mut nameservers: Vec<_> =
            parsed.nameservers.iter().take(LIBC_MAX_NAMESERVERS).map(|ip| nameserver(ip).into()).collect();
        if nameservers.is_empty() {
            nameservers.extend([
                Nameserver::from(SocketAddr::from((Ipv4Addr::LOCALHOST, DNS_PORT))),
                Nameserver::from(SocketAddr::from((Ipv6Addr::LOCALHOST, DNS_PORT))),
            ]);
        }
        let mut search: Vec<_> =
            parsed.get_last_search_or_domain().filter_map(|name| absolute(name)).collect();
        if search.is_empty() {
            search.extend(resolv_conf::Config::new().get_system_domain().and_then(|name| absolute(&name)));
        }
        Self {
            nameservers,
            search,
            ndots: parsed.ndots.min(LIBC_MAX_NDOTS) as usize,
            attempts: parsed.attempts.clamp(1, LIBC_MAX_ATTEMPTS),
            timeout: Duration::from_secs(parsed.timeout.clamp(1, LIBC_MAX_TIMEOUT_SECS).into()),
            rotate: parsed.rotate,
            use_vc: parsed.use_vc,
            single_request: parsed.single_request || parsed.single_request_reopen,
            trust_ad: parsed.trust_ad,
            no_aaaa: parsed.no_aaaa,
        }
    }

    /// Replaces settings by those of the program.
    pub(super) fn with_overrides(self, overrides: &Overrides) -> Self {
        let own = overrides.clone();
        Self {
            nameservers: own.nameservers.unwrap_or(self.nameservers),
            search: own.search.unwrap_or(self.search),
            ndots: own.ndots.unwrap_or(self.ndots),
            attempts: own.attempts.unwrap_or(self.attempts).clamp(1, MAX_ATTEMPTS),
            timeout: own.timeout.unwrap_or(self.timeout).min(MAX_TIMEOUT),
            rotate: own.rotate.unwrap_or(self.rotate),
            use_vc: own.use_vc.unwrap_or(self.use_vc),
            single_request: own.single_request.unwrap_or(self.single_request),
            trust_ad: self.trust_ad,
            no_aaaa: self.no_aaaa,
        }
    }
}

/// Returns `name` with its final dot. Returns `None` if it is not a domain name, or the root, which adds nothing.
pub(super) fn absolute(name: &str) -> Option<String> {
    let valid = name != "." && super::host_name::validate(name).is_ok();
    valid.then(|| if name.ends_with('.') { name.to_owned() } else { format!("{name}.") })
}

fn nameserver(address: &ScopedIp) -> SocketAddr {
    match address {
        ScopedIp::V6(address, Some(scope)) => {
            SocketAddrV6::new(*address, DNS_PORT, 0, scope.parse().unwrap_or(0)).into()
        }
        address => SocketAddr::new(IpAddr::from(address), DNS_PORT),
    }
}

/// Replaces the interface names of link-local nameservers (`fe80::1%br-lan`) by interface indices.
///
/// Sockets need the index, and the crate that parses the file refuses some names, such as this one.
fn with_numeric_scopes(content: &[u8]) -> Cow<'_, [u8]> {
    if !content.contains(&b'%') {
        return Cow::Borrowed(content);
    }
    let text = String::from_utf8_lossy(content);
    let lines = text.lines().map(|line| numeric_scope(line).map_or(Cow::Borrowed(line), Cow::Owned));
    Cow::Owned(lines.collect::<Vec<_>>().join("\n").into_bytes())
}

fn numeric_scope(line: &str) -> Option<String> {
    let (address, interface) = line.trim().strip_prefix("nameserver")?.trim().split_once('%')?;
    let interface = interface.split_whitespace().next()?;
    if interface.contains('/') {
        return None;
    }
    let index = match interface.parse::<u32>() {
        Ok(index) => index,
        // Unknown interfaces become 0: the connection to this nameserver then fails, which the trace shows.
        Err(_) => fs::read_to_string(format!("/sys/class/net/{interface}/ifindex"))
            .ok()
            .and_then(|index| index.trim().parse().ok())
            .unwrap_or(0),
    };
    Some(format!("nameserver {address}%{index}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Config {
        Config::parse(Some(text.as_bytes()))
    }

    fn servers(text: &str) -> Vec<String> {
        parse(text).nameservers.iter().map(Nameserver::to_string).collect()
    }

    #[test]
    fn without_a_file_the_defaults_apply() {
        let config = Config::parse(None);
        assert_eq!(config, parse("# nothing\n"));
        assert_eq!(servers("# nothing\n"), ["127.0.0.1:53", "[::1]:53"]);
        assert_eq!((config.ndots, config.attempts, config.timeout), (1, 2, Duration::from_secs(5)));
        assert!(!config.rotate && !config.use_vc && !config.single_request);
    }

    #[test]
    fn options_are_parsed() {
        let config = parse(
            "nameserver 10.0.0.1\nsearch corp.example example.\n\
             options ndots:3 timeout:2 attempts:4 rotate use-vc single-request trust-ad no-aaaa\n",
        );
        assert_eq!(config.search, ["corp.example.", "example."]);
        assert_eq!((config.ndots, config.attempts, config.timeout), (3, 4, Duration::from_secs(2)));
        assert!(config.rotate && config.use_vc && config.single_request && config.trust_ad && config.no_aaaa);
        assert!(parse("options single-request-reopen").single_request);
        assert_eq!(parse("search a.example\ndomain b.example").search, ["b.example."]);
    }

    #[test]
    fn options_out_of_range_are_clamped() {
        let config = parse("options ndots:99 timeout:0 attempts:0");
        assert_eq!((config.ndots, config.attempts, config.timeout), (15, 1, Duration::from_secs(1)));
        let config = parse("options timeout:4000000000 attempts:4000000000");
        assert_eq!((config.attempts, config.timeout), (5, Duration::from_secs(30)));
    }

    #[test]
    fn malformed_lines_are_ignored() {
        let text = "nameserver\nnameserver 300.1.1.1\nnameserver 10.0.0.1 extra\noptions ndots:x bogus\n\
             \u{fffd}\nsearch bad..name ok.example .\nnonsense\nnameserver 10.0.0.2\n";
        assert_eq!(servers(text), ["10.0.0.1:53", "10.0.0.2:53"]);
        assert_eq!(parse(text).search, ["ok.example."]);
        assert_eq!(Config::parse(Some(b"\xff\xfe\nnameserver 10.0.0.1\n")).nameservers.len(), 1);
    }

    #[test]
    fn at_most_three_nameservers_of_the_file_are_used() {
        let text = "nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver ::3\nnameserver 10.0.0.4";
        assert_eq!(servers(text), ["10.0.0.1:53", "10.0.0.2:53", "[::3]:53"]);
    }

    #[test]
    fn link_local_nameservers_keep_their_interface() {
        assert_eq!(servers("nameserver fe80::1%3"), ["[fe80::1%3]:53"]);
        assert_eq!(
            servers("nameserver 10.0.0.1\nnameserver fe80::1%no-such.if # x\nnameserver 10.0.0.2"),
            ["10.0.0.1:53", "[fe80::1]:53", "10.0.0.2:53"]
        );
        #[cfg(target_os = "linux")]
        assert_eq!(servers("nameserver fe80::1%lo"), ["[fe80::1%1]:53"]);
    }

    #[test]
    fn overrides_replace_settings_of_the_file() {
        let own = Overrides {
            nameservers: Some((1..=5).map(|n| SocketAddr::from(([10, 0, 0, n], 5300)).into()).collect()),
            attempts: Some(0),
            ndots: Some(4),
            ..Overrides::default()
        };
        let config = parse("nameserver 10.9.9.9\nsearch example\noptions rotate").with_overrides(&own);
        assert_eq!(config.nameservers.len(), 5);
        assert_eq!((config.attempts, config.ndots), (1, 4));
        assert!(config.rotate);
        assert_eq!(config.search, ["example."]);
    }
}
