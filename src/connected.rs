//! Reads the extras of hyper-util's `Connected`.
//!
//! `Connected` gives them only by cloning them into a map. Each thread keeps one, which saves an allocation for each
//! connection and each request. This module imports nothing of the crate, so every room may use it.

use http::Extensions;
use hyper_util::client::legacy::connect::Connected;
use std::cell::Cell;

thread_local! {
    /// An empty map that has memory for the extras of a connection.
    static EXTRAS: Cell<Extensions> = Cell::default();
}

/// Passes the extras of a connection to `f`.
pub(crate) fn with_extras<R>(connected: &Connected, f: impl FnOnce(&Extensions) -> R) -> R {
    let mut extras = EXTRAS.try_with(Cell::take).unwrap_or_default();
    connected.get_extras(&mut extras);
    let result = f(&extras);
    extras.clear();
    // Fails at the end of the thread, when the map is not needed any more.
    let _ = EXTRAS.try_with(|kept| kept.set(extras));
    result
}
