//! One request to the coordinator at a time.
//!
//! Were a read out while a write is answered, the read could come back with the object as it was before that write, and look
//! like a coordinator that forgot (§8.16). In a row, every answer is at least as new as everything known when it was asked for.
//!
//! A read that got no answer is owed: what made somebody want it, a hint most of all, may not come again (C4).

use std::collections::VecDeque;

use rocket_replication::coordinator::{Cas, ReadAnswer};

use crate::surroundings::Coordinator;

/// See the module.
pub(crate) struct Desk<C> {
    coordinator: C,
    is_out: bool,
    read: bool,
    /// The last read got no answer.
    is_owed: bool,
    /// At most one of the replica and one of the elector: each waits for its answer before it asks again.
    cas: VecDeque<Cas>,
    asked: u64,
}

impl<C: Coordinator> Desk<C> {
    pub(crate) fn new(coordinator: C) -> Self {
        Self {
            coordinator,
            is_out: false,
            read: false,
            is_owed: false,
            cas: VecDeque::new(),
            asked: 0,
        }
    }

    /// Wants a read that begins from now on.
    pub(crate) fn read(&mut self) {
        self.read = true;
        self.next();
    }

    /// Wants a write.
    pub(crate) fn cas(&mut self, cas: Cas) {
        self.cas.push_back(cas);
        self.next();
    }

    /// The request that was out is answered.
    pub(crate) fn answered(&mut self) {
        self.is_out = false;
    }

    /// The read that was out has its answer, or is known to get none.
    pub(crate) fn read_answered(&mut self, answer: &ReadAnswer) {
        self.is_owed = matches!(answer, ReadAnswer::Unreachable);
        self.answered();
    }

    /// Time for another try of a read that got no answer.
    pub(crate) fn retry(&mut self) {
        if self.is_owed {
            self.read();
        }
    }

    /// Sends the next request, if none is out. To be called when the answer was taken in.
    pub(crate) fn next(&mut self) {
        if self.is_out {
            return;
        }
        if let Some(cas) = self.cas.pop_front() {
            self.coordinator.cas(cas);
        } else if std::mem::take(&mut self.read) {
            self.coordinator.read();
        } else {
            return;
        }
        self.is_out = true;
        self.asked += 1;
    }

    /// Whether writes wait for their turn.
    pub(crate) fn has_writes(&self) -> bool {
        !self.cas.is_empty()
    }

    /// How many requests were sent so far.
    pub(crate) fn asked(&self) -> u64 {
        self.asked
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rocket_replication::Version;
    use rocket_replication::memory::group;

    use super::*;

    #[derive(Default)]
    struct Log(Vec<&'static str>);

    impl Coordinator for &mut Log {
        fn read(&mut self) {
            self.0.push("read");
        }

        fn cas(&mut self, _: Cas) {
            self.0.push("cas");
        }
    }

    #[test]
    fn no_read_is_out_beside_a_write_and_wishes_are_joined() {
        let mut log = Log::default();
        let mut desk = Desk::new(&mut log);
        let cas = Cas {
            expected: Version(1),
            new: Arc::new(group(1)),
        };
        desk.read();
        desk.read();
        desk.cas(cas);
        desk.read();
        assert_eq!(desk.coordinator.0, ["read"]);
        desk.answered();
        desk.next();
        assert_eq!(desk.coordinator.0, ["read", "cas"]);
        desk.next();
        desk.answered();
        desk.next();
        desk.answered();
        desk.next();
        assert_eq!(desk.coordinator.0, ["read", "cas", "read"]);
        assert_eq!(desk.asked(), 3);
    }

    #[test]
    fn a_read_without_an_answer_is_owed_until_one_is_answered() {
        let mut log = Log::default();
        let mut desk = Desk::new(&mut log);
        desk.retry();
        assert!(desk.coordinator.0.is_empty());
        desk.read();
        for _ in 0..2 {
            desk.read_answered(&ReadAnswer::Unreachable);
            desk.next();
            desk.retry();
        }
        assert_eq!(desk.coordinator.0, ["read"; 3]);
        desk.read_answered(&ReadAnswer::State(Arc::new(group(1))));
        desk.retry();
        assert_eq!(desk.asked(), 3);
    }
}
