//! Offsets, queue numbers and times as types of their own, so that a position in the commit log cannot be handed to code
//! that expects an index in a consume queue.
//!
//! The wire carries them as signed integers; `from_wire` refuses the negative ones and `to_wire` saturates.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! unsigned_id {
    ($(#[$doc:meta])* $name:ident($inner:ty) wire $wire:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The smallest value.
            pub const ZERO: Self = Self(0);

            /// This value plus `by`; stays at the largest value rather than wrapping.
            #[must_use]
            pub const fn plus(self, by: $inner) -> Self {
                Self(self.0.saturating_add(by))
            }

            /// This value minus `by`; stays at zero rather than wrapping.
            #[must_use]
            pub const fn minus(self, by: $inner) -> Self {
                Self(self.0.saturating_sub(by))
            }

            /// How far this value lies beyond `earlier`; zero when it does not.
            pub const fn since(self, earlier: Self) -> $inner {
                self.0.saturating_sub(earlier.0)
            }

            /// The wire's signed number, or `None` when it is negative.
            pub fn from_wire(value: $wire) -> Option<Self> {
                <$inner>::try_from(value).ok().map(Self)
            }

            /// The signed number for the wire; values beyond its range become its largest.
            pub fn to_wire(self) -> $wire {
                <$wire>::try_from(self.0).unwrap_or(<$wire>::MAX)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

unsigned_id!(
    /// A byte position in the commit log.
    PhysicalOffset(u64) wire i64
);
unsigned_id!(
    /// An index in a consume queue: the n-th message of one queue of one topic.
    QueueOffset(u64) wire i64
);
unsigned_id!(
    /// The number of a queue within its topic on one broker.
    QueueId(u32) wire i32
);

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// This time plus `ms` milliseconds, saturating.
    #[must_use]
    pub const fn plus_millis(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// This time minus `ms` milliseconds, saturating.
    #[must_use]
    pub const fn minus_millis(self, ms: i64) -> Self {
        Self(self.0.saturating_sub(ms))
    }

    /// Milliseconds from `earlier` to this time; negative when the order is the other way round.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnixMillis({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_wire_numbers_are_not_offsets() {
        assert_eq!(PhysicalOffset::from_wire(-1), None);
        assert_eq!(QueueId::from_wire(i32::MIN), None);
        assert_eq!(QueueOffset::from_wire(7), Some(QueueOffset(7)));
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(QueueOffset(3).minus(5), QueueOffset(0));
        assert_eq!(PhysicalOffset(u64::MAX).plus(1), PhysicalOffset(u64::MAX));
        assert_eq!(PhysicalOffset(u64::MAX).to_wire(), i64::MAX);
        assert_eq!(PhysicalOffset(9).since(PhysicalOffset(4)), 5);
        assert_eq!(UnixMillis(5).since(UnixMillis(8)), -3);
    }
}
