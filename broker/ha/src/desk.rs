//! One request to the coordinator at a time.
//!
//! Were a read out while a write is answered, the read could come back with the object as it was before that write, and look
//! like a coordinator that forgot (§8.16). In a row, every answer is at least as new as everything known when it was asked for.

use std::collections::VecDeque;

use rocket_replication::coordinator::Cas;

use crate::surroundings::Coordinator;

/// See the module.
pub(crate) struct Desk<C> {
    coordinator: C,
    is_out: bool,
    read: bool,
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
}
