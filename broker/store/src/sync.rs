//! Locks and atomics of what `tests/loom` searches through all interleavings of, by one name.

#[cfg(not(feature = "loom"))]
pub(crate) use parking_lot::Mutex;
#[cfg(not(feature = "loom"))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[cfg(feature = "loom")]
pub(crate) use self::searched::Mutex;
#[cfg(feature = "loom")]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[cfg(feature = "loom")]
mod searched {
    use loom::sync::MutexGuard;

    /// As `parking_lot`'s, which knows no poison.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        #[cfg_attr(not(test), expect(dead_code, reason = "the tests make theirs so"))]
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            let guard = self.0.lock();
            guard.unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }
}
