//! A `tracing` subscriber that collects the events of nettrace.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// A collected event.
#[derive(Clone, Debug)]
pub struct Told {
    pub target: String,
    pub level: Level,
    pub fields: BTreeMap<String, String>,
}

impl Told {
    /// Empty where there is no such field.
    pub fn get(&self, field: &str) -> &str {
        self.fields.get(field).map_or("", String::as_str)
    }
}

/// Collects the events of the crate.
#[derive(Clone, Default)]
pub struct Collector(Arc<Mutex<Vec<Told>>>);

impl Collector {
    pub fn told(&self, target: &str) -> Vec<Told> {
        self.0.lock().unwrap().iter().filter(|told| told.target == target).cloned().collect()
    }

    pub fn all(&self) -> Vec<Told> {
        self.0.lock().unwrap().clone()
    }
}

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("nettrace::") && metadata.is_event()
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Fields(BTreeMap<String, String>);
        impl Visit for Fields {
            fn record_str(&mut self, field: &Field, value: &str) {
                self.0.insert(field.name().into(), value.into());
            }

            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                self.0.insert(field.name().into(), format!("{value:?}"));
            }
        }
        let mut fields = Fields(BTreeMap::new());
        event.record(&mut fields);
        let metadata = event.metadata();
        let told = Told { target: metadata.target().into(), level: *metadata.level(), fields: fields.0 };
        self.0.lock().unwrap().push(told);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
