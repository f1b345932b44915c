//! The traced connection that hyper-util's `Connected` describes.

use crate::sink::ConnRef;
use http::Extensions;
use hyper_util::client::legacy::connect::Connected;
use std::cell::Cell;

thread_local! {
    /// An empty map with memory for the extras of a connection, which each request of the thread reads.
    static EXTRAS: Cell<Extensions> = Cell::default();
}

/// Calls `f` with the connection, if it is traced.
pub(super) fn with_conn(connected: &Connected, f: impl FnOnce(&ConnRef)) {
    let mut extras = EXTRAS.try_with(Cell::take).unwrap_or_default();
    connected.get_extras(&mut extras);
    if let Some(conn) = ConnRef::from_extensions(&extras) {
        f(conn);
    }
    extras.clear();
    // Fails at the end of the thread, when the map is not needed any more.
    let _ = EXTRAS.try_with(|kept| kept.set(extras));
}
