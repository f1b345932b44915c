//! A `tracing` subscriber that collects the events of nettrace.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};
use tracing_subscriber::{Layer, layer};

/// A collected event.
#[derive(Clone, Debug)]
pub struct CollectedEvent {
    pub target: String,
    pub level: Level,
    pub fields: BTreeMap<String, String>,
}

impl CollectedEvent {
    /// Returns the value of a field, or an empty string if the event does not have it.
    pub fn get(&self, field: &str) -> &str {
        self.fields.get(field).map_or("", String::as_str)
    }
}

/// Collects the events of nettrace, as a subscriber or as a layer of one.
#[derive(Clone, Default)]
pub struct Collector(Arc<Mutex<Vec<CollectedEvent>>>);

impl Collector {
    /// Returns the events with this target.
    pub fn events(&self, target: &str) -> Vec<CollectedEvent> {
        self.0.lock().unwrap().iter().filter(|event| event.target == target).cloned().collect()
    }

    /// Returns all events.
    pub fn all(&self) -> Vec<CollectedEvent> {
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
        self.collect(event);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

impl<S: Subscriber> Layer<S> for Collector {
    fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
        if event.metadata().target().starts_with("nettrace::") {
            self.collect(event);
        }
    }
}

impl Collector {
    fn collect(&self, event: &Event<'_>) {
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
        let event =
            CollectedEvent { target: metadata.target().into(), level: *metadata.level(), fields: fields.0 };
        self.0.lock().unwrap().push(event);
    }
}
