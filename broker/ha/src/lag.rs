//! How far replicas are behind, for people; nothing is decided by it.
//!
//! A master knows what the others acknowledged. It goes on counting one that was cut off or shrunk out of S, from what that
//! one acknowledged last: a group whose slave is gone must not look like one that has everything twice. It does not count
//! those that stopped in order, nor those that were neither in S nor linked since it became master. Every other replica knows
//! what it heard: when nobody tells it any more what is committed, it is as old as the last time that it had all of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rocket_replication::master::Master;
use rocket_replication::messages::{Message, Reason};
use rocket_replication::replica::{Log, Replica};
use rocket_replication::{Epoch, PhysicalOffset, ReplicaId, State, Version};

use crate::surroundings::Event;

/// Ends of the log are noted no more often.
const MARK_PAUSE_MS: u64 = 200;
/// A master says something on every link several times in this time. One that does not stands still, or cannot be reached.
const HEARD_MS: u64 = 800;
/// So many are kept. A replica that is behind for longer is told with less precision: about one part in a hundred.
const MARKS_MAX: usize = 256;

/// How far a replica is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Behind {
    pub(crate) bytes: u64,
    /// For how long it has lacked something, in milliseconds.
    pub(crate) ms: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Lag {
    leading: Option<Leading>,
    follower: Follower,
}

impl Lag {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            leading: None,
            follower: Follower {
                whole_at_ms: now_ms,
                heard: None,
            },
        }
    }

    /// To be told of every event, before `replica` takes it in.
    pub(crate) fn hears(&mut self, now_ms: u64, event: &Event, replica: &Replica) {
        let Event::Received(link, message) = event else {
            return;
        };
        if let (Some(master), Some(leading)) = (replica.leading(), &mut self.leading) {
            let is_stopping = matches!(message, Message::Refuse(r) if r.reason == Reason::Stopping);
            let mut links = master.commit().links().filter(|_| is_stopping);
            if let Some((_, member, _)) = links.find(|(id, ..)| id == link) {
                leading.stopped.insert(member.replica_id);
            }
        }
        let slave = replica.following();
        if let Some(slave) = slave.filter(|s| s.is_streaming() && s.link() == Some(*link)) {
            let committed = match message {
                Message::Beat(beat) if beat.epoch == slave.epoch => beat.offset,
                Message::Data(data) if data.epoch == slave.epoch => data.confirm,
                _ => return,
            };
            self.follower.heard = Some((now_ms, committed));
        }
    }

    /// Whether the master that this replica streams from has said something of late, or could not have yet. Its link alone says less:
    /// of a machine that is gone it stays open until its silence is noticed there.
    pub(crate) fn hears_master(&self, now_ms: u64) -> bool {
        let heard = self.follower.heard;
        heard.is_none_or(|(at_ms, _)| now_ms.saturating_sub(at_ms) < HEARD_MS)
    }

    /// How far the slowest other replica is behind this master, or this replica behind its own. To be called after each step.
    pub(crate) fn look(&mut self, now_ms: u64, replica: &Replica) -> Behind {
        let (Some(master), Some(state)) = (replica.leading(), replica.tracker().seen()) else {
            self.leading = None;
            return self.follower.look(now_ms, replica.log().end);
        };
        self.follower = Follower {
            whole_at_ms: now_ms,
            heard: None,
        };
        let leading = match &mut self.leading {
            Some(leading) if leading.epoch == master.epoch => leading,
            other => other.insert(Leading::new(master.epoch)),
        };
        leading.look(now_ms, replica.log(), master, state)
    }
}

/// What a replica that does not lead knows of itself.
#[derive(Debug)]
struct Follower {
    /// When it last knew that it lacked nothing.
    whole_at_ms: u64,
    /// When it heard from its master, and what that said to be committed.
    heard: Option<(u64, PhysicalOffset)>,
}

impl Follower {
    fn look(&mut self, now_ms: u64, end: PhysicalOffset) -> Behind {
        let mut bytes = 0;
        if let Some((at_ms, committed)) = self.heard {
            bytes = committed.since(end);
            if bytes == 0 {
                self.whole_at_ms = self.whole_at_ms.max(at_ms);
            }
        }
        Behind {
            bytes,
            ms: now_ms.saturating_sub(self.whole_at_ms),
        }
    }
}

/// What one mastership knows of the others.
#[derive(Debug)]
struct Leading {
    epoch: Epoch,
    /// The state that `others` is of.
    version: Option<Version>,
    others: BTreeSet<ReplicaId>,
    acked: BTreeMap<ReplicaId, PhysicalOffset>,
    /// They said so, and have not come back.
    stopped: BTreeSet<ReplicaId>,
    marks: Marks,
}

impl Leading {
    fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            version: None,
            others: BTreeSet::new(),
            acked: BTreeMap::new(),
            stopped: BTreeSet::new(),
            marks: Marks::default(),
        }
    }

    fn look(&mut self, now_ms: u64, log: &Log, master: &Master, state: &State) -> Behind {
        if self.version != Some(state.version) {
            self.version = Some(state.version);
            self.others = others(state, master.member.replica_id);
        }
        for member in &state.in_sync {
            // Whoever is in S has all that is committed, also before it is heard of.
            self.acked.entry(member.replica_id).or_insert(log.confirm);
        }
        for (_, member, acked) in master.commit().links() {
            if let Some(acked) = acked {
                self.stopped.remove(&member.replica_id);
                self.acked.insert(member.replica_id, acked);
            }
        }
        let counted = self
            .acked
            .iter()
            .filter(|(id, _)| self.others.contains(*id) && !self.stopped.contains(*id));
        let slowest = counted.map(|(_, acked)| *acked).min().unwrap_or(log.end);
        Behind {
            bytes: log.end.since(slowest),
            ms: self.marks.look(now_ms, log.end, slowest),
        }
    }
}

/// The replicas whose copies the group counts on, without `me`: not those that were given up or are to go, and of several
/// at one address, which had another disk each, the newest.
fn others(state: &State, me: ReplicaId) -> BTreeSet<ReplicaId> {
    let all = || state.replicas.iter();
    let is_replaced =
        |id, address: &str| all().any(|(other, r)| *other > id && r.address == address);
    let counted = all().filter(|(id, replica)| {
        **id != me && !replica.lost && !replica.cordoned && !is_replaced(**id, &replica.address)
    });
    counted.map(|(id, _)| *id).collect()
}

/// Ends of the log that the slowest replica has not reached, with the time at which each was seen first; oldest first. The
/// more there are, the longer is the pause between them.
#[derive(Debug)]
struct Marks {
    ends: VecDeque<(u64, PhysicalOffset)>,
    pause_ms: u64,
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            ends: VecDeque::new(),
            pause_ms: MARK_PAUSE_MS,
        }
    }
}

impl Marks {
    /// For how long whoever has everything below `slowest` has lacked something of a log that ends at `end`.
    fn look(&mut self, now_ms: u64, end: PhysicalOffset, slowest: PhysicalOffset) -> u64 {
        while self.ends.front().is_some_and(|(_, mark)| *mark <= slowest) {
            self.ends.pop_front();
        }
        if self.ends.len() < MARKS_MAX / 4 {
            self.pause_ms = (self.pause_ms / 2).max(MARK_PAUSE_MS);
        }
        let is_news = self.ends.back().is_none_or(|(at_ms, mark)| {
            *mark < end && now_ms.saturating_sub(*at_ms) >= self.pause_ms
        });
        if is_news && slowest < end {
            self.ends.push_back((now_ms, end));
        }
        if self.ends.len() > MARKS_MAX {
            let mut is_kept = false;
            self.ends.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
            self.pause_ms = self.pause_ms.saturating_mul(2);
        }
        let first = self.ends.front();
        first.map_or(0, |(at_ms, _)| now_ms.saturating_sub(*at_ms))
    }
}

#[cfg(test)]
mod tests {
    use rocket_replication::memory;

    use super::*;

    #[test]
    fn follower_is_as_old_as_the_last_time_that_it_had_all_that_is_committed() {
        let mut follower = Follower {
            whole_at_ms: 1_000,
            heard: None,
        };
        let mut look = |now_ms, heard, end| {
            follower.heard = heard;
            let behind = follower.look(now_ms, PhysicalOffset(end));
            (behind.bytes, behind.ms)
        };
        assert_eq!(look(1_500, None, 0), (0, 500), "it heard of nobody");
        let heard = Some((1_600, PhysicalOffset(80)));
        assert_eq!(look(1_700, heard, 50), (30, 700), "it copies what it lacks");
        assert_eq!(look(1_800, heard, 80), (0, 200));
        assert_eq!(look(9_600, heard, 80), (0, 8_000), "it is cut off");
    }

    #[test]
    fn master_is_heard_until_it_was_silent_for_four_beats() {
        let mut lag = Lag::new(0);
        assert!(lag.hears_master(9_000), "it could not have said anything");
        lag.follower.heard = Some((1_000, PhysicalOffset(0)));
        assert!(lag.hears_master(1_799));
        assert!(!lag.hears_master(1_800));
    }

    #[test]
    fn time_behind_counts_from_the_first_byte_that_is_lacked() {
        let mut marks = Marks::default();
        let mut look =
            |now_ms, end, slowest| marks.look(now_ms, PhysicalOffset(end), PhysicalOffset(slowest));
        assert_eq!(look(0, 100, 100), 0);
        assert_eq!(look(1_000, 200, 100), 0);
        assert_eq!(look(3_000, 300, 100), 2_000);
        assert_eq!(look(4_000, 300, 250), 1_000, "it came nearer");
        assert_eq!(look(5_000, 300, 300), 0);
        assert_eq!(look(90_000, 300, 300), 0, "nothing is lacked in silence");
        assert_eq!(look(91_000, 310, 300), 0);
    }

    #[test]
    fn marks_are_bounded_and_the_oldest_stays() {
        let mut marks = Marks::default();
        for step in 0..10_000 {
            let now_ms = step * MARK_PAUSE_MS;
            let behind = marks.look(now_ms, PhysicalOffset(step + 1), PhysicalOffset(0));
            assert_eq!(behind, now_ms);
            assert!(marks.ends.len() <= MARKS_MAX);
        }
        // Half of it is there now: what it lacks is half as old, within the distance of two marks.
        let now_ms = 10_000 * MARK_PAUSE_MS;
        let behind = marks.look(now_ms, PhysicalOffset(10_000), PhysicalOffset(5_000));
        assert!(behind.abs_diff(now_ms / 2) < now_ms / 50, "{behind}");
    }

    #[test]
    fn replicas_that_the_group_gave_up_or_replaced_are_not_waited_for() {
        let mut state = memory::group(5);
        let id = ReplicaId;
        assert_eq!(others(&state, id(1)), [2, 3, 4, 5].map(id).into());
        let address = state.replicas[&id(2)].address.clone();
        for (n, replica) in &mut state.replicas {
            match n.0 {
                3 => replica.lost = true,
                4 => replica.cordoned = true,
                // The disk of the second was replaced.
                5 => replica.address.clone_from(&address),
                _ => {}
            }
        }
        assert_eq!(others(&state, id(1)), [5].map(id).into());
    }
}
