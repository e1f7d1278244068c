//! The invariants that hold between steps (§12).

use rocket_replication::master::Phase;
use rocket_replication::replica::Replica;

use super::World;

impl World {
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
