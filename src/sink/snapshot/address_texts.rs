//! [`AddressTexts`]: the addresses of connections as text.

use crate::{
    record::{AddrTuple, Text},
    sink::conn::record::ConnRecord,
};
use std::net::{IpAddr, SocketAddr};

/// Formats addresses, and reuses the last text of each side: neighbouring connections in a trace usually have the same
/// addresses.
#[derive(Debug, Default)]
pub(in crate::sink) struct AddressTexts {
    source: Last,
    destination: Last,
}

/// The last address that was formatted, with its text.
#[derive(Debug, Default)]
struct Last(Option<(IpAddr, Text)>);

impl AddressTexts {
    pub(in crate::sink) fn of(&mut self, record: &ConnRecord) -> AddrTuple {
        let (src_ip, src_port) = self.source.text(record.local.get().copied());
        let (dst_ip, dst_port) = self.destination.text(record.remote);
        AddrTuple { src_ip, src_port, dst_ip, dst_port }
    }
}

impl Last {
    /// Returns the text of the address and its port; both are empty for an address that is not known.
    fn text(&mut self, address: Option<SocketAddr>) -> (Text, u16) {
        let Some(address) = address else { return Default::default() };
        let (ip, port) = (address.ip(), address.port());
        match &self.0 {
            Some((last, text)) if *last == ip => (text.clone(), port),
            _ => {
                let text = Text::from(ip);
                self.0 = Some((ip, text.clone()));
                (text, port)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_text() {
        let mut last = Last::default();
        for address in ["192.0.2.1:1", "192.0.2.1:2", "[::1]:3", "192.0.2.2:4", "192.0.2.1:1"] {
            let address: SocketAddr = address.parse().unwrap();
            let (text, port) = last.text(Some(address));
            assert_eq!((text.as_str(), port), (address.ip().to_string().as_str(), address.port()));
        }
        assert_eq!(last.text(None), (Text::EMPTY, 0));
    }
}
