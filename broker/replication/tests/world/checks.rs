//! The invariants that hold between steps (§12).

use rocket_replication::coordinator::Cas;
use rocket_replication::master::Phase;
use rocket_replication::replica::Replica;
use rocket_replication::{DiskId, Member};

use super::World;

impl World {
    /// §8.2.7: registering takes nobody out of S ∪ E whose disk has all that its recorded run flushed.
    pub(super) fn judge_registering(&mut self, n: usize, cas: &Cas) {
        let (state, disk) = (self.state(), DiskId(n as u128 + 1));
        let (Some((replica_id, recorded)), Some((_, heir))) =
            (state.replica_of(disk), cas.new.replica_of(disk))
        else {
            return;
        };
        let former = Member {
            replica_id,
            incarnation: recorded.incarnation,
        };
        let registers = state.version == cas.expected && heir.incarnation != former.incarnation;
        let touched_by = &self.nodes[n].disk.touched_by;
        let has_all = recorded.durable && touched_by.contains(&former.incarnation);
        let stays = cas.new.complete().any(|m| m.replica_id == replica_id);
        if registers && has_all && state.is_complete(former) && !stays {
            self.fail("§8.2.7: a disk that lost nothing is not taken for complete");
        }
    }

    /// I2, I3, I5, W1–W7. The others are judged where they happen, in `perform`.
    pub(crate) fn check(&mut self) {
        let state = self.state();
        if state.check().is_err() {
            self.fail("W3-W6: the object is not well-formed");
        }
        let committed = &self.ghost.committed;
        let mut broken = None;
        for member in state.complete() {
            if let Some(n) = self.alive(*member)
                && !self.nodes[n].disk.log.starts_with(committed)
            {
                broken = Some("I2: an electable member lacks committed bytes");
            }
        }
        for node in &self.nodes {
            let Some(master) = node.replica.as_ref().and_then(Replica::leading) else {
                continue;
            };
            if master.epoch != state.epoch || master.phase() == Phase::Opening {
                continue;
            }
            if !node.disk.log.starts_with(committed)
                || node.disk.epochs.last_epoch() != master.epoch
            {
                broken = Some("I3: an activated master lacks committed bytes or its own epoch");
            }
        }
        for (i, a) in self.nodes.iter().enumerate() {
            for b in &self.nodes[i + 1..] {
                if !logs_match(&a.disk, &b.disk) {
                    broken = Some("I5: two logs share an epoch and differ below its end");
                }
            }
        }
        if let Some(what) = broken {
            self.fail(what);
        }
    }
}

fn logs_match(a: &super::Disk, b: &super::Disk) -> bool {
    let end = |disk: &super::Disk, i: usize| {
        disk.epochs
            .entries()
            .get(i + 1)
            .map_or(disk.log.len(), |e| disk.log.len().min(e.start.0 as usize))
    };
    a.epochs.entries().iter().enumerate().all(|(i, entry)| {
        let Some(j) = b.epochs.entries().iter().position(|e| e == entry) else {
            return true;
        };
        let end = end(a, i).min(end(b, j));
        a.log.get(..end) == b.log.get(..end)
    })
}
