//! Thread-locals that hold a value only while a call runs.
//!
//! A poll can reach code to which nothing can be passed: a resolver inside a foreign connector, a certificate verifier
//! that all handshakes share, `Connection::connected`. What such code needs to know (on whose behalf it runs) is put
//! into a thread-local for the duration of the poll and taken out again afterwards, so that it never leaks into another
//! task that the same thread polls next. Task-locals do not serve: a dial begins on the task of the request that needs
//! it and may be finished by another one.
//!
//! Scopes nest, and a panic inside one restores the outer value too. After the thread-local is destroyed (at the end of
//! its thread) a scope runs its call without a current value.
//!
//! This module imports nothing of the crate, so every room may use it.

use std::{cell::Cell, thread::LocalKey};

/// A thread-local that is `None` outside every scope.
///
/// ```ignore
/// thread_local! {
///     static CURRENT: Cell<Option<RequestRef>> = const { Cell::new(None) };
/// }
/// ```
pub(crate) type ScopedKey<T> = LocalKey<Cell<Option<T>>>;

/// A scope that is entered; its drop leaves it.
#[must_use = "the scope ends with its drop"]
pub(crate) struct ScopeGuard<'a, T: 'static> {
    key: &'static ScopedKey<T>,
    /// Inside the scope the outer value, outside the scope's own.
    place: &'a Cell<Option<T>>,
}

/// Makes the value in `place` the current one until the guard is dropped.
///
/// The two are swapped on entry and swapped back on exit: a reference-counted value is moved, never cloned, and `place`
/// ends up with whatever is current when the scope ends. An empty `place` hides the outer value.
#[inline]
pub(crate) fn enter<'a, T>(key: &'static ScopedKey<T>, place: &'a mut Option<T>) -> ScopeGuard<'a, T> {
    let guard = ScopeGuard { key, place: Cell::from_mut(place) };
    guard.swap();
    guard
}

impl<T> ScopeGuard<'_, T> {
    #[inline]
    fn swap(&self) {
        let _ = self.key.try_with(|current| current.swap(self.place));
    }
}

impl<T> Drop for ScopeGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.swap();
    }
}

/// Runs `f` with `value` as the current one.
#[inline]
pub(crate) fn scope<T, R>(key: &'static ScopedKey<T>, value: T, f: impl FnOnce() -> R) -> R {
    scope_and_take(key, value, f).0
}

/// Runs `f` with `value` as the current one, and also returns what is current when `f` returns: `value`, unless
/// something inside has taken or replaced it.
#[inline]
pub(crate) fn scope_and_take<T, R>(
    key: &'static ScopedKey<T>,
    value: T,
    f: impl FnOnce() -> R,
) -> (R, Option<T>) {
    let mut place = Some(value);
    let guard = enter(key, &mut place);
    let result = f();
    drop(guard);
    (result, place)
}

/// Calls `f` with the current value. Returns `None` without a call if there is none.
///
/// During the call the thread-local is empty: `f` must not look for the current value itself.
#[cfg(any(feature = "_record", feature = "_store"))]
#[inline]
pub(crate) fn with_current<T, R>(key: &'static ScopedKey<T>, f: impl FnOnce(&mut T) -> R) -> Option<R> {
    let with = |current: &Cell<Option<T>>| {
        let mut value = current.take();
        let result = value.as_mut().map(f);
        current.set(value);
        result
    };
    key.try_with(with).ok().flatten()
}

/// Returns a clone of the current value.
#[cfg(feature = "_record_conns")]
#[inline]
pub(crate) fn current<T: Clone>(key: &'static ScopedKey<T>) -> Option<T> {
    with_current(key, |value| value.clone())
}

#[cfg(all(test, feature = "_record_conns"))]
mod tests {
    use super::*;
    use std::panic::catch_unwind;

    thread_local! {
        static NAME: Cell<Option<String>> = const { Cell::new(None) };
    }

    fn name() -> Option<String> {
        current(&NAME)
    }

    fn named(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn scopes_nest() {
        assert_eq!(name(), None);
        scope(&NAME, "outer".to_owned(), || {
            assert_eq!(name(), named("outer"));
            scope(&NAME, "inner".to_owned(), || assert_eq!(name(), named("inner")));
            assert_eq!(name(), named("outer"));
        });
        assert_eq!(name(), None);
    }

    #[test]
    fn an_empty_place_hides_the_outer_value() {
        scope(&NAME, "outer".to_owned(), || {
            let mut place = None;
            let guard = enter(&NAME, &mut place);
            assert_eq!(name(), None);
            drop(guard);
            assert_eq!(name(), named("outer"));
        });
    }

    #[test]
    fn a_panic_restores_the_outer_value() {
        scope(&NAME, "outer".to_owned(), || {
            let panicked = catch_unwind(|| scope(&NAME, "inner".to_owned(), || panic!("on purpose")));
            assert!(panicked.is_err());
            assert_eq!(name(), named("outer"));
        });
        assert_eq!(name(), None);
    }

    #[test]
    fn the_value_left_in_a_scope_is_returned() {
        let (length, left) = scope_and_take(&NAME, "a".to_owned(), || {
            with_current(&NAME, |name| {
                name.push('b');
                name.len()
            })
        });
        assert_eq!((length, left), (Some(2), named("ab")));
        assert_eq!(scope_and_take(&NAME, "a".to_owned(), || NAME.take()), (named("a"), None));
    }
}
