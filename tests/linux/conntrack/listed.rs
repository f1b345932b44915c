//! Runs conntrack(8) and parses its output, with which entries are compared.

use std::collections::HashMap;

use nettrace::record::{AddrTuple, ConntrackEntry, ConntrackStatus};

use test_support::lab::Ns;

/// A line of `conntrack -L`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Listed {
    /// The words without a key, such as `[ASSURED]` and the TCP state.
    words: Vec<String>,
    /// The values of each key. Most keys have one for the original and one for the reply direction.
    values: HashMap<String, Vec<String>>,
}

/// Returns the host's entries that match `filter`, such as `-f ipv6 -p udp`.
#[track_caller]
pub(super) fn list(host: &Ns, filter: &str) -> Vec<Listed> {
    let table = host.sh(&format!("conntrack -L {filter} -o extended,id 2>/dev/null"));
    let line = |line: &str| {
        let mut listed = Listed { words: vec![], values: HashMap::new() };
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some((key, value)) => listed.values.entry(key.into()).or_default().push(value.into()),
                None => listed.words.push(word.into()),
            }
        }
        // Removes what changes with time and what depends on the querying process.
        listed.words.retain(|word| word.parse::<u32>().is_err());
        for key in ["delta-time", "use"] {
            listed.values.remove(key);
        }
        listed
    };
    table.lines().map(line).collect()
}

/// Returns the entry whose original direction has this source port.
#[track_caller]
pub(super) fn from_port(listed: &[Listed], port: u16) -> &Listed {
    let mut found = listed.iter().filter(|listed| listed.value("sport", 0) == port.to_string());
    let entry = found.next().unwrap_or_else(|| panic!("no entry from port {port} in {listed:#?}"));
    assert!(found.next().is_none(), "several entries from port {port} in {listed:#?}");
    entry
}

impl Listed {
    fn value(&self, key: &str, direction: usize) -> &str {
        self.values.get(key).and_then(|values| values.get(direction)).map_or("", String::as_str)
    }

    /// Asserts that `entry`, of a connection that began on this host, has the same content.
    #[track_caller]
    pub(super) fn assert_is(&self, entry: &ConntrackEntry) {
        let tuple = |tuple: &AddrTuple| {
            let AddrTuple { src_ip, src_port, dst_ip, dst_port, .. } = tuple;
            [src_ip.to_string(), src_port.to_string(), dst_ip.to_string(), dst_port.to_string()]
        };
        for (direction, addrs, packets, bytes) in [
            (0, &entry.addr_orig, entry.packets_sent, entry.bytes_sent),
            (1, &entry.addr_reply, entry.packets_recv, entry.bytes_recv),
        ] {
            let listed = ["src", "sport", "dst", "dport"].map(|key| self.value(key, direction).to_owned());
            assert_eq!(tuple(addrs), listed);
            assert_eq!(packets.to_string(), self.value("packets", direction), "packets: {self:#?}");
            assert_eq!(bytes.to_string(), self.value("bytes", direction), "bytes: {self:#?}");
            assert!(packets > 0 || direction == 1);
        }
        assert_eq!(entry.id.expect("an identifier").to_string(), self.value("id", 0));
        assert_eq!(entry.mark.to_string(), self.value("mark", 0));
        assert_eq!(entry.zone.map_or(String::new(), |zone| zone.to_string()), self.value("zone", 0));
        let has = |word: &str| self.words.iter().any(|listed| listed == word);
        assert_eq!(entry.status.contains(ConntrackStatus::ASSURED), has("[ASSURED]"));
        assert_eq!(!entry.status.contains(ConntrackStatus::SEEN_REPLY), has("[UNREPLIED]"));
        let state = match entry.tcp_state.as_str() {
            "fin-wait" | "close-wait" | "last-ack" | "time-wait" | "established" | "close" => {
                entry.tcp_state.as_str().replace('-', "_").to_uppercase()
            }
            "syn-sent" => "SYN_SENT".into(),
            "syn-recv" => "SYN_RECV".into(),
            _ => return,
        };
        assert!(has(&state), "{state}: {self:#?}");
    }
}
