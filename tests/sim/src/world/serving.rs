//! What a master does before it serves clients, and while it does, as far as the places of messages depend on it (docs/replication.md
//! §10, T2, T4, T8): it applies the snapshots that its log holds, and takes others.

use rocket_replication::Epoch;
use rocket_replication::replica::Replica;

use super::World;
use crate::log::{Followed, GroupLog};

/// One message in so many that would go to the last queue goes there.
const SELDOM: u64 = 8;
/// What [`GroupLog::keep_house`] takes for a checkpoint.
const CHECKPOINT: u64 = 3;

impl<L: GroupLog> World<L> {
    fn epoch_of(&self, n: usize) -> Option<Epoch> {
        let leading = self.replica(n).and_then(Replica::leading);
        leading.map(|master| master.epoch)
    }

    /// Whether `n` serves clients. If it could, it does what is needed for that; a master's log takes messages earlier.
    pub(super) fn serves(&mut self, n: usize) -> bool {
        let Some(epoch) = self.epoch_of(n).filter(|_| self.plan.has_snapshots()) else {
            // Nothing is needed, or who sends is told.
            return true;
        };
        let serves = |world: &Self| world.process(n).and_then(|process| process.serves);
        if serves(self) == Some(epoch) {
            return true;
        }
        self.keep_house(n, 0);
        let Some(process) = self.machines[n].process.as_mut() else {
            return false;
        };
        let ends = process.log.ends();
        if !process.log.takes_sends() || process.log.visible() < ends.appended.0 {
            return false;
        }
        let followed = process.followed;
        match followed {
            Followed::All => process.serves = Some(epoch),
            Followed::None => self.begin_with_nothing(n, ends.min.0),
            Followed::Later => {}
        }
        serves(self) == Some(epoch)
    }

    /// The log of the master `n`, which begins at `min`, holds no snapshot.
    fn begin_with_nothing(&mut self, n: usize, min: u64) {
        if min > 0 && self.state().unclean.is_empty() {
            self.fail(format!(
                "T8: {n} leads by a log that begins at {min} and tells nothing of what was before"
            ));
        }
        if min > 0 && !self.ledger.is_blind {
            self.say(format_args!(
                "  {n} does not know which offsets were given before {min}"
            ));
            self.ledger.is_blind = true;
        }
        self.take_snapshot(n);
    }

    /// As metadata of a master does now and then.
    pub(super) fn take_snapshot_if_due(&mut self, n: usize) {
        let epoch = self.epoch_of(n);
        let is_due = self.process(n).is_some_and(|process| {
            epoch.is_some()
                && process.serves == epoch
                && process.followed != Followed::Later
                && process.log.is_snapshot_due()
        });
        if is_due {
            self.take_snapshot(n);
        }
    }

    fn take_snapshot(&mut self, n: usize) {
        let Some(process) = self.machines[n].process.as_mut() else {
            return;
        };
        if !process.log.takes_sends() {
            return;
        }
        let (from, durable) = (process.mirror.end(), process.mirror.durable);
        process.log.take_snapshot();
        process.log.refresh(&mut process.mirror);
        let end = process.mirror.end();
        let frozen = process.dir.take_frozen();
        let told = process.log.take_told();
        self.ledger.reached.snapshots += 1;
        self.say(format_args!("{n} takes a snapshot, from {from} to {end}"));
        if let Some(frozen) = frozen {
            // What it did after its end nobody has.
            if let Some(process) = self.machines[n].process.as_mut() {
                process.mirror.keep_below(from);
                process.mirror.durable = durable.min(from);
            }
            self.froze(n, frozen);
            return;
        }
        self.hear(n, told);
        self.tell_failure(n);
    }

    /// The group is one that has been there for long: retention has taken the beginnings of its logs, and all that was sent to one
    /// queue.
    pub(super) fn age(&mut self) {
        self.say(format_args!("the group grows old"));
        for number in 0..self.plan.old_messages {
            let Some(master) = self.open_master() else {
                return;
            };
            self.send_to(master, if number < 3 { L::QUEUES - 1 } else { 0 });
            self.calm();
            for n in 0..self.machines.len() {
                self.keep_house(n, 0);
            }
            if self.ledger.broken.is_some() {
                return;
            }
        }
        for n in 0..self.machines.len() {
            self.keep_house(n, CHECKPOINT);
            self.retain(n);
        }
        self.heal();
    }

    /// Which queue a message goes to.
    pub(super) fn queue(&mut self) -> u64 {
        let queue = self.dice.below(L::QUEUES);
        let is_last = queue > 0 && queue + 1 == L::QUEUES;
        if is_last && self.plan.has_snapshots() && !self.dice.once_in(SELDOM) {
            0
        } else {
            queue
        }
    }
}
