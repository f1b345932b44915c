//! A pointer-sized container for values that are usually empty.
//!
//! A record has some ten fields that most requests leave empty. Boxed, they keep a record small: fetching memory is
//! most of the time of a large snapshot.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Text, TraceId};

/// A value that most records leave empty, stored in one pointer and allocated only when it is not empty.
///
/// It dereferences to `T`, which is [empty](Empty) until something is written to it:
///
/// ```
/// use nettrace::record::{Attempt, HttpReqTrace};
///
/// let mut request = HttpReqTrace::default();
/// assert!(request.attempts.is_empty() && request.req_error == "");
/// request.attempts.push(Attempt::default());
/// request.req_error = "connection refused".into();
/// assert_eq!(request.attempts.len(), 1);
/// ```
pub struct BoxedOrEmpty<T>(Option<Box<T>>);

/// A type with an empty value that means "absent".
pub trait Empty: Sized + 'static {
    /// The empty value.
    const EMPTY: &'static Self;

    /// Returns `true` if this is the empty value.
    fn is_empty(&self) -> bool;
}

impl Empty for Text {
    const EMPTY: &'static Self = &Text::EMPTY;

    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

impl Empty for TraceId {
    const EMPTY: &'static Self = &TraceId::UNDEFINED;

    fn is_empty(&self) -> bool {
        self.is_undefined()
    }
}

impl<T: 'static> Empty for Vec<T> {
    const EMPTY: &'static Self = &Vec::new();

    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

impl<K: 'static, V: 'static> Empty for BTreeMap<K, V> {
    const EMPTY: &'static Self = &BTreeMap::new();

    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

impl<T> BoxedOrEmpty<T> {
    /// Creates an empty value. Does not allocate.
    pub const fn new() -> Self {
        BoxedOrEmpty(None)
    }
}

impl<T: Empty> BoxedOrEmpty<T> {
    /// Returns `true` if the value is empty.
    pub fn is_empty(&self) -> bool {
        self.0.as_deref().is_none_or(T::is_empty)
    }
}

impl<T: Empty> Deref for BoxedOrEmpty<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::EMPTY)
    }
}

impl<T: Empty + Default> DerefMut for BoxedOrEmpty<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

impl<T> Default for BoxedOrEmpty<T> {
    fn default() -> Self {
        BoxedOrEmpty(None)
    }
}

impl<T: Clone> Clone for BoxedOrEmpty<T> {
    fn clone(&self) -> Self {
        BoxedOrEmpty(self.0.clone())
    }
}

impl<T: Empty + fmt::Debug> fmt::Debug for BoxedOrEmpty<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Empty + fmt::Display> fmt::Display for BoxedOrEmpty<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Empty + PartialEq> PartialEq for BoxedOrEmpty<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Empty + Eq> Eq for BoxedOrEmpty<T> {}

impl<T: Empty + Hash> Hash for BoxedOrEmpty<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl<T: Empty + PartialEq<str>> PartialEq<str> for BoxedOrEmpty<T> {
    fn eq(&self, other: &str) -> bool {
        **self == *other
    }
}

impl<'a, T: Empty + PartialEq<&'a str>> PartialEq<&'a str> for BoxedOrEmpty<T> {
    fn eq(&self, other: &&'a str) -> bool {
        **self == *other
    }
}

impl PartialEq<String> for BoxedOrEmpty<Text> {
    fn eq(&self, other: &String) -> bool {
        **self == *other
    }
}

impl<T: PartialEq<U> + 'static, U, const N: usize> PartialEq<[U; N]> for BoxedOrEmpty<Vec<T>> {
    fn eq(&self, other: &[U; N]) -> bool {
        **self == *other
    }
}

impl PartialEq<TraceId> for BoxedOrEmpty<TraceId> {
    fn eq(&self, other: &TraceId) -> bool {
        **self == *other
    }
}

impl<T: Empty + AsRef<str>> AsRef<str> for BoxedOrEmpty<T> {
    fn as_ref(&self) -> &str {
        (**self).as_ref()
    }
}

impl<T: Empty> From<T> for BoxedOrEmpty<T> {
    fn from(value: T) -> Self {
        BoxedOrEmpty((!value.is_empty()).then(|| Box::new(value)))
    }
}

impl<T: Empty + for<'a> From<&'a str>> From<&str> for BoxedOrEmpty<T> {
    fn from(text: &str) -> Self {
        T::from(text).into()
    }
}

impl<T: Empty + From<String>> From<String> for BoxedOrEmpty<T> {
    fn from(text: String) -> Self {
        T::from(text).into()
    }
}

impl<T: Empty + From<Box<str>>> From<Box<str>> for BoxedOrEmpty<T> {
    fn from(text: Box<str>) -> Self {
        T::from(text).into()
    }
}

impl<A, T: Empty + FromIterator<A>> FromIterator<A> for BoxedOrEmpty<T> {
    fn from_iter<I: IntoIterator<Item = A>>(items: I) -> Self {
        T::from_iter(items).into()
    }
}

impl<'a, T: 'static> IntoIterator for &'a BoxedOrEmpty<Vec<T>> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Empty + Serialize> Serialize for BoxedOrEmpty<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de, T: Empty + Default + Deserialize<'de>> Deserialize<'de> for BoxedOrEmpty<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_values_take_no_memory() {
        assert_eq!(size_of::<BoxedOrEmpty<Vec<Text>>>(), size_of::<usize>());
        assert!(BoxedOrEmpty::<Text>::from("").0.is_none());
        assert!(BoxedOrEmpty::<Vec<Text>>::from_iter([]).0.is_none());
        assert!(serde_json::from_str::<BoxedOrEmpty<Vec<Text>>>("[]").unwrap().0.is_none());
        assert_eq!(BoxedOrEmpty::<TraceId>::new().as_ref(), "");
    }

    #[test]
    fn an_emptied_value_equals_a_new_one() {
        let mut texts = BoxedOrEmpty::<Vec<Text>>::from_iter(["a".into()]);
        assert_eq!(serde_json::to_string(&texts).unwrap(), r#"["a"]"#);
        assert_ne!(texts, BoxedOrEmpty::new());
        texts.clear();
        assert!(texts.is_empty());
        assert_eq!(texts, BoxedOrEmpty::new());
        texts.push("b".into());
        assert_eq!((&texts).into_iter().count(), 1);
    }
}
