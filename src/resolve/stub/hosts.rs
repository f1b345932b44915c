//! The hosts file (hosts(5)).

use std::{collections::HashMap, net::IpAddr};

/// The addresses of each name in a hosts file, in the file's order.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    /// Keys in lower case and without a final dot.
    by_name: HashMap<String, Vec<IpAddr>>,
}

impl Hosts {
    /// Parses the content of a hosts file; `None` if there is no such file. Lines that do not begin with an address are
    /// skipped, as everywhere.
    pub(super) fn parse(content: Option<&[u8]>) -> Self {
        let mut by_name: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for line in content.unwrap_or_default().split(|&c| c == b'\n') {
            let line = String::from_utf8_lossy(line);
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let Some(address) = words.next().and_then(address) else { continue };
            for name in words {
                let addresses = by_name.entry(key(name)).or_default();
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        Self { by_name }
    }

    /// Returns the addresses of `name`, which may end with a dot. Case is ignored.
    pub(super) fn addresses(&self, name: &str) -> &[IpAddr] {
        if self.by_name.is_empty() {
            return &[];
        }
        self.by_name.get(&key(name)).map_or(&[], Vec::as_slice)
    }
}

fn key(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Parses an address. A zone (`fe80::1%lo0`) is dropped, since an `IpAddr` cannot hold one.
fn address(word: &str) -> Option<IpAddr> {
    word.split('%').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = b"# a comment\n127.0.0.1\tlocalhost   localhost.localdomain # trailing\r\n\
        ::1 localhost ip6-localhost\n10.0.0.7 Web.Example.\nnot-an-address web.example\n\n10.0.0.8 web.example\n\
        10.0.0.7 web.example\nfe80::1%lo0 router\n10.0.0.9\n10.0.0.10 \xff\xfe";

    #[test]
    fn names_have_their_addresses() {
        let hosts = Hosts::parse(Some(FILE));
        let addresses = |name: &str| hosts.addresses(name).iter().map(IpAddr::to_string).collect::<Vec<_>>();
        assert_eq!(addresses("localhost"), ["127.0.0.1", "::1"]);
        assert_eq!(addresses("LocalHost."), ["127.0.0.1", "::1"]);
        assert_eq!(addresses("localhost.localdomain"), ["127.0.0.1"]);
        assert_eq!(addresses("web.example"), ["10.0.0.7", "10.0.0.8"]);
        assert_eq!(addresses("router"), ["fe80::1"]);
        assert!(addresses("trailing").is_empty() && addresses("").is_empty());
    }

    #[test]
    fn without_a_file_there_are_no_names() {
        assert!(Hosts::parse(None).addresses("localhost").is_empty());
    }
}
