//! Lists of records with an index by identifier and one by parent.
//!
//! Both indexes are built lazily and dropped when the list changes.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::OnceLock;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::TraceId;
use super::serde_helpers::null_as_default;

/// A record that other records refer to by its identifier.
pub trait Record {
    /// Returns the record's identifier.
    fn trace_id(&self) -> &TraceId;
}

/// A record with a parent: another record that caused or carries it.
pub(crate) trait HasParent {
    /// Returns the identifier of the parent, undefined if there is none: of a dial or a CONNECT the request, of a
    /// connection the dial, of a tunnel the connection.
    fn parent(&self) -> &TraceId;
}

/// A list of records with constant-time lookup by identifier.
///
/// The index behind [`TraceList::get`] is built at the first lookup. In JSON the list is an array; `null` is read as an
/// empty one.
pub struct TraceList<T> {
    items: Vec<T>,
    index: OnceLock<HashMap<TraceId, usize>>,
    by_parent: OnceLock<HashMap<TraceId, Vec<usize>>>,
}

/// Up to this many records, a linear scan is faster than an index.
const MAX_SCANNED_RECORDS: usize = 8;

impl<T> TraceList<T> {
    /// Creates an empty list.
    pub const fn new() -> Self {
        Self { items: Vec::new(), index: OnceLock::new(), by_parent: OnceLock::new() }
    }

    /// Appends a record.
    pub fn push(&mut self, record: T) {
        self.items_mut().push(record);
    }

    /// Returns an iterator that allows modifying each record. The next lookup rebuilds the index.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, T> {
        self.items_mut().iter_mut()
    }

    /// Keeps only the records for which `keep` returns `true`.
    pub fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.items_mut().retain(keep);
    }

    fn items_mut(&mut self) -> &mut Vec<T> {
        self.index.take();
        self.by_parent.take();
        &mut self.items
    }

    /// Converts the list into a vector.
    pub fn into_vec(self) -> Vec<T> {
        self.items
    }
}

impl<T: Record> TraceList<T> {
    /// Returns the record with this identifier, the first if there are several. Returns `None` for the undefined
    /// identifier.
    ///
    /// The first lookup takes time linear in the length of the list, later ones constant time.
    pub fn get(&self, id: impl AsRef<str>) -> Option<&T> {
        self.items.get(self.position(id.as_ref())?)
    }

    /// Returns the index of the record that [`get`](Self::get) returns.
    pub(crate) fn position(&self, id: &str) -> Option<usize> {
        if id.is_empty() {
            return None;
        }
        if self.items.len() <= MAX_SCANNED_RECORDS {
            return self.items.iter().position(|record| record.trace_id() == id);
        }
        self.index.get_or_init(|| self.build_index()).get(id).copied()
    }

    fn build_index(&self) -> HashMap<TraceId, usize> {
        let mut index = HashMap::with_capacity(self.items.len());
        for (at, record) in self.items.iter().enumerate() {
            index.entry(record.trace_id().clone()).or_insert(at);
        }
        index
    }
}

impl<T> TraceList<T> {
    /// Returns the records whose parent has this identifier, in order. Returns none for the undefined identifier.
    ///
    /// The first lookup takes time linear in the length of the list, later ones constant time.
    pub(crate) fn children_of(&self, id: &TraceId) -> impl DoubleEndedIterator<Item = &T>
    where
        T: HasParent,
    {
        let is_short = self.items.len() <= MAX_SCANNED_RECORDS;
        let scanned = if is_short && !id.is_undefined() { &self.items[..] } else { &[] };
        let found = if is_short || id.is_undefined() {
            None
        } else {
            self.by_parent.get_or_init(|| self.build_children()).get(id)
        };
        let found = found.into_iter().flatten().filter_map(|at| self.items.get(*at));
        scanned.iter().filter(move |record| record.parent() == id).chain(found)
    }

    fn build_children(&self) -> HashMap<TraceId, Vec<usize>>
    where
        T: HasParent,
    {
        let mut index: HashMap<TraceId, Vec<usize>> = HashMap::new();
        for (at, record) in
            self.items.iter().enumerate().filter(|(_, record)| !record.parent().is_undefined())
        {
            index.entry(record.parent().clone()).or_default().push(at);
        }
        index
    }
}

impl<T> Deref for TraceList<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<T> Default for TraceList<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone> Clone for TraceList<T> {
    fn clone(&self) -> Self {
        self.items.clone().into()
    }
}

impl<T: fmt::Debug> fmt::Debug for TraceList<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.items.fmt(f)
    }
}

impl<T: PartialEq> PartialEq for TraceList<T> {
    fn eq(&self, other: &Self) -> bool {
        self.items == other.items
    }
}

impl<T> From<Vec<T>> for TraceList<T> {
    fn from(items: Vec<T>) -> Self {
        Self { items, ..Self::new() }
    }
}

impl<T> FromIterator<T> for TraceList<T> {
    fn from_iter<I: IntoIterator<Item = T>>(records: I) -> Self {
        Vec::from_iter(records).into()
    }
}

impl<T> Extend<T> for TraceList<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, records: I) {
        self.items_mut().extend(records);
    }
}

impl<T> IntoIterator for TraceList<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a TraceList<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}

impl<'a, T> IntoIterator for &'a mut TraceList<T> {
    type Item = &'a mut T;
    type IntoIter = std::slice::IterMut<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl<T: Serialize> Serialize for TraceList<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.items.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for TraceList<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        null_as_default::<Vec<T>, D>(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::DialTrace;

    fn dial(id: &str) -> DialTrace {
        DialTrace { trace_id: id.into(), ..DialTrace::default() }
    }

    #[test]
    fn records_are_found_by_id_in_lists_of_any_length() {
        for n in [0, 1, MAX_SCANNED_RECORDS, MAX_SCANNED_RECORDS + 1, 5000] {
            let list: TraceList<_> = (0..n).map(|i| dial(&format!("tid-{i}"))).collect();
            for i in [0, n / 2, n.saturating_sub(1)] {
                let found = list.get(format!("tid-{i}")).map(|d| d.trace_id.as_str().to_owned());
                assert_eq!(found, (i < n).then(|| format!("tid-{i}")));
            }
            assert!(list.get(format!("tid-{n}")).is_none());
            assert!(list.get("").is_none());
            assert!(list.get(&TraceId::UNDEFINED).is_none());
        }
    }

    #[test]
    fn the_first_of_equal_ids_wins() {
        for n in [2, 100] {
            let mut list: TraceList<_> = (0..n).map(|_| dial("same")).collect();
            list.iter_mut().next().unwrap().dst_address = "first".into();
            assert_eq!(list.get("same").unwrap().dst_address, "first");
        }
    }

    #[test]
    fn records_are_found_by_origin_in_lists_of_any_length() {
        for n in [0, 1, MAX_SCANNED_RECORDS, MAX_SCANNED_RECORDS + 1, 5000] {
            let dial =
                |i: usize| DialTrace { triggered_by: format!("r{}", i % 3).into(), ..dial(&format!("{i}")) };
            let mut list: TraceList<_> = (0..n).map(dial).collect();
            list.push(DialTrace::default());
            let of = |list: &TraceList<DialTrace>, id: &str| {
                list.children_of(&id.into()).map(|dial| dial.trace_id.to_string()).collect::<Vec<_>>()
            };
            let expected: Vec<_> = (0..n).filter(|i| i % 3 == 1).map(|i| i.to_string()).collect();
            assert_eq!(of(&list, "r1"), expected);
            assert_eq!((of(&list, "r3").len(), of(&list, "").len()), (0, 0));
            list.push(DialTrace { triggered_by: "r3".into(), ..DialTrace::default() });
            assert_eq!(of(&list, "r3").len(), 1);
        }
    }

    #[test]
    fn lookups_see_changes() {
        let mut list: TraceList<_> = (0..20).map(|i| dial(&format!("{i}"))).collect();
        assert!(list.get("new").is_none());
        list.push(dial("new"));
        assert!(list.get("new").is_some());
        for record in &mut list {
            record.trace_id = format!("x{}", record.trace_id).into();
        }
        assert!(list.get("new").is_none());
        assert!(list.get("xnew").is_some());
        list.retain(|record| record.trace_id != "xnew");
        assert!(list.get("xnew").is_none());
        list.extend([dial("last")]);
        assert!(list.get("last").is_some());
        assert_eq!(list.clone(), list);
        assert!(list.clone().get("last").is_some());
    }

    #[test]
    fn null_is_an_empty_list() {
        assert!(serde_json::from_str::<TraceList<DialTrace>>("null").unwrap().is_empty());
        assert_eq!(serde_json::to_string(&TraceList::<DialTrace>::new()).unwrap(), "[]");
    }
}
