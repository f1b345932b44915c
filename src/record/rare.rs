use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Text, TraceId};

/// A part that most records do not have. It is no larger than a pointer, and takes memory only where it is not
/// empty.
///
/// It can be used as what it holds, which is empty until something is written to it:
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
pub struct Rare<T>(Option<Box<T>>);

/// What can be absent: it is the same as its empty value.
pub trait Absent: Sized + 'static {
    /// The empty value.
    const EMPTY: &'static Self;

    /// Whether this is the empty value.
    fn is_absent(&self) -> bool;
}

impl Absent for Text {
    const EMPTY: &'static Self = &Text::EMPTY;

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl Absent for TraceId {
    const EMPTY: &'static Self = &TraceId::UNDEFINED;

    fn is_absent(&self) -> bool {
        self.is_undefined()
    }
}

impl<T: 'static> Absent for Vec<T> {
    const EMPTY: &'static Self = &Vec::new();

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<T> Rare<T> {
    /// Nothing.
    pub const fn new() -> Self {
        Rare(None)
    }
}

impl<T: Absent> Rare<T> {
    /// Whether it is empty.
    pub fn is_absent(&self) -> bool {
        self.0.as_deref().is_none_or(T::is_absent)
    }
}

impl<T: Absent> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::EMPTY)
    }
}

impl<T: Absent + Default> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Rare(None)
    }
}

impl<T: Clone> Clone for Rare<T> {
    fn clone(&self) -> Self {
        Rare(self.0.clone())
    }
}

impl<T: Absent + fmt::Debug> fmt::Debug for Rare<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Absent + fmt::Display> fmt::Display for Rare<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Absent + PartialEq> PartialEq for Rare<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Absent + Eq> Eq for Rare<T> {}

impl<T: Absent + Hash> Hash for Rare<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl<T: Absent + PartialEq<str>> PartialEq<str> for Rare<T> {
    fn eq(&self, other: &str) -> bool {
        **self == *other
    }
}

impl<'a, T: Absent + PartialEq<&'a str>> PartialEq<&'a str> for Rare<T> {
    fn eq(&self, other: &&'a str) -> bool {
        **self == *other
    }
}

impl PartialEq<String> for Rare<Text> {
    fn eq(&self, other: &String) -> bool {
        **self == *other
    }
}

impl<T: PartialEq<U> + 'static, U, const N: usize> PartialEq<[U; N]> for Rare<Vec<T>> {
    fn eq(&self, other: &[U; N]) -> bool {
        **self == *other
    }
}

impl PartialEq<TraceId> for Rare<TraceId> {
    fn eq(&self, other: &TraceId) -> bool {
        **self == *other
    }
}

impl<T: Absent + AsRef<str>> AsRef<str> for Rare<T> {
    fn as_ref(&self) -> &str {
        (**self).as_ref()
    }
}

impl<T: Absent> From<T> for Rare<T> {
    fn from(value: T) -> Self {
        Rare((!value.is_absent()).then(|| Box::new(value)))
    }
}

impl<T: Absent + for<'a> From<&'a str>> From<&str> for Rare<T> {
    fn from(text: &str) -> Self {
        T::from(text).into()
    }
}

impl<T: Absent + From<String>> From<String> for Rare<T> {
    fn from(text: String) -> Self {
        T::from(text).into()
    }
}

impl<T: Absent + From<Box<str>>> From<Box<str>> for Rare<T> {
    fn from(text: Box<str>) -> Self {
        T::from(text).into()
    }
}

impl<A, T: Absent + FromIterator<A>> FromIterator<A> for Rare<T> {
    fn from_iter<I: IntoIterator<Item = A>>(items: I) -> Self {
        T::from_iter(items).into()
    }
}

impl<'a, T: 'static> IntoIterator for &'a Rare<Vec<T>> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Absent + Serialize> Serialize for Rare<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de, T: Absent + Default + Deserialize<'de>> Deserialize<'de> for Rare<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_takes_no_memory() {
        assert_eq!(size_of::<Rare<Vec<Text>>>(), size_of::<usize>());
        assert!(Rare::<Text>::from("").0.is_none());
        assert!(Rare::<Vec<Text>>::from_iter([]).0.is_none());
        assert!(serde_json::from_str::<Rare<Vec<Text>>>("[]").unwrap().0.is_none());
        assert_eq!(Rare::<TraceId>::new().as_ref(), "");
    }

    #[test]
    fn however_it_became_empty() {
        let mut texts = Rare::<Vec<Text>>::from_iter(["a".into()]);
        assert_eq!(serde_json::to_string(&texts).unwrap(), r#"["a"]"#);
        assert_ne!(texts, Rare::new());
        texts.clear();
        assert!(texts.is_absent());
        assert_eq!(texts, Rare::new());
        texts.push("b".into());
        assert_eq!((&texts).into_iter().count(), 1);
    }
}
