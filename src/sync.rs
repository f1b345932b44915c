//! Atomics and locks of what is lock-free: the standard library's, or under `cfg(loom)` those of loom, which runs
//! the models in `sink::loom_models` through every order of events that the memory model allows.
//!
//! `Arc` is the standard library's in both: the order that its counts give is its own affair, and loom's lacks
//! much of it.

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
pub(crate) use modelled::OnceLock;

#[cfg(loom)]
mod modelled {
    use super::AtomicU8;
    use std::sync::{
        self,
        atomic::Ordering::{Acquire, Relaxed, Release},
    };

    /// What loom does not have. The value lies in the standard library's; whether it is seen, and what is seen
    /// with it, is decided by an atomic of loom's. Unlike there, who comes second does not wait for the first.
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

        /// Who has it alone has it from an `Arc`, whose order loom does not know: hence another atomic.
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
