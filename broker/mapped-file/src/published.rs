//! How far a segment may be read: one position that only rises.
//!
//! The rule that makes the outside of this crate safe: who publishes `end` wrote everything below it before; who reads
//! looks at the position first, and nothing below it is ever written again. The pair of orderings here is what carries
//! the bytes from the writer to the reader, so this file is all that a search through interleavings has to look at:
//! the atomics come from [`crate::sync`] and can be exchanged there.

use crate::sync::{AtomicU64, Ordering};

/// See the module.
#[derive(Debug)]
pub(crate) struct Published {
    end: AtomicU64,
    len: u64,
}

impl Published {
    /// Nothing is published of a segment of `len` bytes.
    pub(crate) fn new(len: u64) -> Self {
        Self {
            end: AtomicU64::new(0),
            len,
        }
    }

    /// The position.
    pub(crate) fn get(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Raises the position to `end`; never lowers it. Everything below was written before.
    ///
    /// # Panics
    /// When `end` is beyond the segment.
    pub(crate) fn raise(&self, end: u64) {
        assert!(end <= self.len, "published beyond the end of a segment");
        self.end.fetch_max(end, Ordering::AcqRel);
    }

    /// Whether all of `offset..offset + len` may be read.
    pub(crate) fn covers(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.get())
    }

    /// Whether `from..to` may be written: nothing of it is published, and it lies within the segment.
    pub(crate) fn admits(&self, from: u64, to: u64) -> bool {
        from >= self.get() && from <= to && to <= self.len
    }
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_may_be_read_and_not_written() {
        let published = Published::new(100);
        published.raise(40);
        published.raise(10);
        assert_eq!(published.get(), 40, "the position never falls");
        assert!(published.covers(0, 40) && published.covers(40, 0) && !published.covers(39, 2));
        assert!(!published.covers(u64::MAX, 2), "no sum overflows");
        assert!(published.admits(40, 100) && !published.admits(39, 50));
        assert!(!published.admits(40, 101) && !published.admits(60, 50));
    }

    #[test]
    #[should_panic(expected = "beyond the end")]
    fn nothing_beyond_the_end_is_published() {
        Published::new(100).raise(101);
    }
}

#[cfg(test)]
#[cfg(feature = "loom")]
#[allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends by panicking"
)]
mod interleavings {
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU8;
    use loom::thread;

    use super::*;

    #[test]
    fn who_sees_the_position_sees_the_bytes_below_it_and_it_never_falls() {
        loom::model(|| {
            let published = Arc::new(Published::new(2));
            let bytes = Arc::new([AtomicU8::new(0), AtomicU8::new(0)]);
            let (to, from) = (Arc::clone(&published), Arc::clone(&bytes));
            let writer = thread::spawn(move || {
                for (end, byte) in (1..).zip(from.iter()) {
                    byte.store(7, Ordering::Relaxed);
                    to.raise(end);
                }
            });
            // Somebody who published less comes late.
            let late = Arc::clone(&published);
            let late = thread::spawn(move || late.raise(late.get().min(1)));
            let mut before = 0;
            for _ in 0..2 {
                let end = published.get();
                assert!(end >= before, "the position fell");
                before = end;
                for byte in bytes.iter().take(usize::try_from(end).unwrap()) {
                    assert_eq!(byte.load(Ordering::Relaxed), 7, "published before written");
                }
            }
            writer.join().unwrap();
            late.join().unwrap();
            assert_eq!(published.get(), 2);
        });
    }
}
