//! Functions for serde's field attributes.

use serde::{Deserialize, Deserializer};

/// Returns `true` if a field has its default value and can be left out: for `skip_serializing_if`.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Reads `null` as the default: for `deserialize_with`. The Go package writes `null` for an empty list.
pub(super) fn null_as_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
