//! Identifiers of records.

use std::borrow::Borrow;
use std::fmt;

use compact_str::CompactString;
use serde::{Deserialize, Deserializer, Serialize};

/// The identifier of a record.
///
/// Records refer to each other by it. It can be any text and is written back as it was read. The empty identifier is
/// undefined: a reference to nothing. Up to 24 bytes are stored inline.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TraceId(CompactString);

impl TraceId {
    /// The undefined identifier, which refers to nothing.
    pub const UNDEFINED: TraceId = TraceId(CompactString::const_new(""));

    /// Creates the identifier from a prefix and a number.
    pub(crate) fn numbered(prefix: &'static str, number: u64) -> Self {
        let mut text = CompactString::const_new(prefix);
        text.push_str(itoa::Buffer::new().format(number));
        TraceId(text)
    }

    /// Returns the identifier as text, empty if it is undefined.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns `true` if the identifier refers to nothing.
    pub fn is_undefined(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for TraceId {
    fn from(text: &str) -> Self {
        TraceId(CompactString::new(text))
    }
}

impl From<String> for TraceId {
    fn from(text: String) -> Self {
        TraceId(CompactString::from_string_buffer(text))
    }
}

impl AsRef<str> for TraceId {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for TraceId {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for TraceId {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for TraceId {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl<'de> Deserialize<'de> for TraceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id = CompactString::deserialize(deserializer)?;
        #[cfg(feature = "_store")]
        let id = super::relocation::identifier(id);
        Ok(TraceId(id))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_kept() {
        for text in ["", "tid-1", "0123456789-0123456789-0123456789-and-more", "žluť \"\\\n"] {
            let id = TraceId::from(text);
            assert_eq!(id, text);
            assert_eq!(id, TraceId::from(text.to_owned()));
            assert_eq!(id.is_undefined(), text.is_empty());
            let json = serde_json::to_string(&id).unwrap();
            assert_eq!(serde_json::from_str::<TraceId>(&json).unwrap(), id);
        }
        assert_eq!(TraceId::default(), TraceId::UNDEFINED);
    }
}
