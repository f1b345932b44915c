//! [`Tags`]: what the user wrote on a request.

use crate::record::{
    Text,
    limits::{self, MAX_TAG_KEY_BYTES, MAX_TAG_VALUE_BYTES, MAX_TAGS},
};
use std::{collections::BTreeMap, num::NonZeroU32};

/// The tags of a request: keys with values, in the order in which they were set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tags {
    list: Vec<Tag>,
    /// How often a tag was set and not kept.
    dropped: usize,
}

#[derive(Clone, Debug)]
struct Tag {
    key: Text,
    value: Text,
}

impl Tags {
    /// Sets the value of a key. A new key is dropped if there are as many as there may be.
    pub(super) fn set(&mut self, key: &str, value: &str) {
        let cut = |text: &str, limit| limits::truncate(text, limit).map_or_else(|| text.into(), Text::from);
        let (key, value) = (cut(key, MAX_TAG_KEY_BYTES), cut(value, MAX_TAG_VALUE_BYTES));
        if let Some(tag) = self.list.iter_mut().find(|tag| tag.key == key) {
            tag.value = value;
        } else if self.list.len() < MAX_TAGS {
            self.list.push(Tag { key, value });
        } else {
            self.dropped += 1;
        }
    }

    #[cfg(feature = "client")]
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(in crate::sink) fn export(&self) -> BTreeMap<Text, Text> {
        self.list.iter().map(|tag| (tag.key.clone(), tag.value.clone())).collect()
    }

    /// Returns the number of tags and how often others were set, if any were not kept.
    pub(in crate::sink) fn original_count(&self) -> Option<NonZeroU32> {
        let count = self.list.len() + self.dropped;
        limits::original_size(count).filter(|_| self.dropped > 0)
    }

    /// Returns the heap memory in use, in bytes.
    pub(in crate::sink) fn heap_bytes(&self) -> usize {
        let texts = self.list.iter().map(|tag| tag.key.heap_bytes() + tag.value.heap_bytes());
        self.list.capacity() * size_of::<Tag>() + texts.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_key_is_kept() {
        let mut tags = Tags::default();
        tags.set("tenant", "a");
        tags.set("zone", "z");
        tags.set("tenant", "b");
        let kept = tags.export();
        assert_eq!(kept.len(), 2);
        assert_eq!(kept["tenant"], *"b");
        assert_eq!(tags.original_count(), None);
    }

    #[test]
    fn number_and_length_are_limited() {
        let mut tags = Tags::default();
        for at in 0..MAX_TAGS + 3 {
            tags.set(&format!("{at}"), "");
        }
        assert_eq!(tags.export().len(), MAX_TAGS);
        assert_eq!(tags.original_count().unwrap().get() as usize, MAX_TAGS + 3);

        let mut tags = Tags::default();
        tags.set(&"k".repeat(1000), &"v".repeat(1000));
        let (key, value) = tags.export().pop_first().unwrap();
        assert_eq!(key, *format!("{}…", "k".repeat(MAX_TAG_KEY_BYTES)));
        assert_eq!(value, *format!("{}…", "v".repeat(MAX_TAG_VALUE_BYTES)));
        let at_most = 4 * (MAX_TAG_KEY_BYTES + MAX_TAG_VALUE_BYTES) + 8 * size_of::<Tag>();
        assert!(tags.heap_bytes() <= at_most, "{}", tags.heap_bytes());
    }
}
