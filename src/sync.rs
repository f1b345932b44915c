//! Synchronization primitives: locks that ignore poisoning, and types that can be checked with loom.
//!
//! Lock-free code imports its atomics and locks from here. They are the standard library's, or loom's under
//! `cfg(loom)`, where the models run that code through every order of events that the memory model allows.
//!
//! `Arc` is always the standard library's: loom's lacks much of its interface, and the ordering of the reference count
//! is not what the models check.

use std::sync::{LockResult, PoisonError};

#[cfg(loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU8, AtomicU64, AtomicUsize},
};
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard, OnceLock,
    atomic::{AtomicU8, AtomicU64, AtomicUsize},
};

#[cfg(loom)]
pub(crate) use once_lock::OnceLock;

/// Takes a lock even if another thread panicked while it held the lock.
///
/// Poisoning protects invariants that a panic may have left broken. Data behind the locks of this crate is valid after
/// every statement, and a panic in one request must not break the others.
pub(crate) trait IgnorePoison {
    /// The guard of the lock.
    type Guard;

    /// Returns the guard, poisoned or not.
    fn ignore_poison(self) -> Self::Guard;
}

impl<G> IgnorePoison for LockResult<G> {
    type Guard = G;

    #[inline]
    fn ignore_poison(self) -> G {
        self.unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(loom)]
mod once_lock {
    use super::AtomicU8;
    use std::sync::{
        self,
        atomic::Ordering::{Acquire, Relaxed, Release},
    };

    /// The standard library's `OnceLock` for loom, which has none of its own.
    ///
    /// The value is stored in the standard library's type. An atomic of loom's decides whether a reader sees it, and
    /// what it sees with it. Unlike the original, a second writer does not wait for the first.
    #[derive(Debug)]
    pub(crate) struct OnceLock<T> {
        state: AtomicU8,
        value: sync::OnceLock<T>,
    }

    const EMPTY: u8 = 0;
    const WRITING: u8 = 1;
    const SET: u8 = 2;

    impl<T> OnceLock<T> {
        pub(crate) fn new() -> Self {
            OnceLock { state: AtomicU8::new(EMPTY), value: sync::OnceLock::new() }
        }

        pub(crate) fn get(&self) -> Option<&T> {
            if self.state.load(Acquire) == SET { self.value.get() } else { None }
        }

        pub(crate) fn set(&self, value: T) -> Result<(), T> {
            if self.state.compare_exchange(EMPTY, WRITING, Acquire, Relaxed).is_err() {
                return Err(value);
            }
            self.value.set(value)?;
            self.state.store(SET, Release);
            Ok(())
        }

        pub(crate) fn get_or_init(&self, value: impl FnOnce() -> T) -> &T {
            if self.get().is_none() {
                let _ = self.set(value());
            }
            self.get().expect("models ask for no value that another thread is about to write")
        }

        /// Takes the value and leaves a new, empty lock with an atomic of its own: the caller got exclusive access from
        /// an `Arc`, an ordering that loom does not know of.
        pub(crate) fn take(&mut self) -> Option<T> {
            std::mem::take(self).value.into_inner()
        }
    }

    impl<T> Default for OnceLock<T> {
        fn default() -> Self {
            OnceLock::new()
        }
    }
}
