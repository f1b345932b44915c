//! Strings of records.
//!
//! Most are short, such as methods, addresses and host names, and are stored inline. A snapshot copies several for each
//! record.

use std::borrow::Borrow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Deref;

use compact_str::{CompactString, ToCompactString};
use serde::{Deserialize, Serialize};

/// A string of a record. Dereferences to `str`; up to 24 bytes are stored inline.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text(CompactString);

impl Text {
    /// The empty text.
    pub const EMPTY: Text = Text(CompactString::const_new(""));

    /// Creates a text from a static string without copying it.
    pub const fn from_static(text: &'static str) -> Self {
        Text(CompactString::const_new(text))
    }

    /// Returns `true` if the text is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the text as `&str`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the heap memory in use, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        if self.0.is_heap_allocated() { self.0.capacity() } else { 0 }
    }

    /// Concatenates the parts.
    pub(crate) fn concat<const N: usize>(parts: [&str; N]) -> Self {
        const INLINE_BYTES: usize = size_of::<CompactString>();
        let bytes = parts.iter().map(|part| part.len()).sum();
        if bytes <= INLINE_BYTES {
            let mut text = CompactString::const_new("");
            parts.iter().for_each(|part| text.push_str(part));
            return Text(text);
        }
        // A `String` is quicker to append to.
        let mut text = String::with_capacity(bytes);
        parts.iter().for_each(|part| text.push_str(part));
        Text(CompactString::from(text))
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Text(CompactString::new(text))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Text(CompactString::from_string_buffer(text))
    }
}

impl From<Box<str>> for Text {
    fn from(text: Box<str>) -> Self {
        Text::from(String::from(text))
    }
}

impl From<IpAddr> for Text {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => {
                let mut text = AsciiText::default();
                text.push_ipv4(ip);
                text.as_str().into()
            }
            IpAddr::V6(ip) => Text(ip.to_compact_string()),
        }
    }
}

impl From<SocketAddr> for Text {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => {
                let mut text = AsciiText::default();
                text.push_ipv4(*address.ip());
                text.push(b":");
                text.push(itoa::Buffer::new().format(address.port()).as_bytes());
                text.as_str().into()
            }
            SocketAddr::V6(address) => Text(address.to_compact_string()),
        }
    }
}

/// A buffer for a short ASCII text: an identifier, an IPv4 address or a time. A trace has several for each record.
///
/// The whole buffer is checked to be UTF-8, used or not: it is checked in blocks of 16 bytes, so that 9 bytes take 20
/// instructions instead of 70.
#[derive(Default)]
#[repr(align(16))]
pub(crate) struct AsciiText {
    bytes: [u8; ASCII_BYTES],
    len: usize,
}

const ASCII_BYTES: usize = 32;

impl AsciiText {
    /// Appends the bytes, or nothing if they do not fit.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if let Some(to) = self.bytes.get_mut(self.len..end) {
            to.copy_from_slice(bytes);
            self.len = end;
        }
    }

    fn push_ipv4(&mut self, ip: Ipv4Addr) {
        for (index, octet) in ip.octets().into_iter().enumerate() {
            if index > 0 {
                self.push(b".");
            }
            let [hundreds, tens, ones] = [octet / 100, octet / 10 % 10, octet % 10].map(|digit| b'0' + digit);
            match octet {
                100.. => self.push(&[hundreds, tens, ones]),
                10.. => self.push(&[tens, ones]),
                _ => self.push(&[ones]),
            }
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        let all = std::str::from_utf8(&self.bytes).unwrap_or_default();
        all.get(..self.len).unwrap_or_default()
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0.into_string()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialEq<String> for Text {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_their_usual_text() {
        let octets = [0, 1, 9, 10, 99, 100, 109, 110, 255];
        for (at, octet) in octets.iter().enumerate() {
            let ip = IpAddr::from([*octet, octets[8 - at], octets[(at + 3) % 9], 1]);
            assert_eq!(Text::from(ip), ip.to_string());
        }
        for address in ["192.0.2.1:53", "255.255.255.255:65535", "[::1]:0", "[fe80::1%3]:53"] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(Text::from(address), address.to_string());
        }
        for ip in ["::1", "2001:db8::1", "::ffff:192.0.2.1", "2001:db8:1111:2222:3333:4444:5555:6666"] {
            assert_eq!(Text::from(ip.parse::<IpAddr>().unwrap()), ip);
        }
    }

    #[test]
    fn any_text_is_kept() {
        for text in ["", "GET", "0123456789-0123456789-0123456789-and-more", "žluť \"\\\n"] {
            let made = [
                Text::from(text),
                Text::from(text.to_owned()),
                Text::from(Box::<str>::from(text)),
                Text::from_static(text),
                Text::concat(["", text, ""]),
            ];
            for made in made {
                assert_eq!(made, text);
                assert_eq!(made, text.to_owned());
                assert_eq!(format!("{made}{made:?}"), format!("{text}{text:?}"));
                let json = serde_json::to_string(&made).unwrap();
                assert_eq!(serde_json::from_str::<Text>(&json).unwrap(), made);
                assert_eq!(String::from(made), text);
            }
        }
        assert_eq!(Text::concat(["http", "://", "a.test", "/"]), "http://a.test/");
    }
}
