//! Random walks against a list of what was sent and read: who lost what is named exactly, and nothing goes or stays without need.

use proptest::prelude::*;
use rocket_protocol::{QueueId, QueueOffset};
use rocket_store::{RemovalReason, Removed, Unconsumed};

use super::{EXTRA_HOURS, FILE, HOUR, RESERVED_HOURS, World, group};
use crate::support::topic;

impl World {
    /// When the newest message of the file that ends at `end` was stored, as retention sees it.
    fn newest(&self, end: u64) -> i64 {
        let next = self.sent.iter().find(|(at, ..)| *at >= end);
        next.map_or(i64::MAX, |(.., time)| *time)
    }

    fn is_overdue(&self, end: u64, hours: u64) -> bool {
        self.newest(end)
            .checked_add(i64::try_from(hours).unwrap() * HOUR)
            .is_some_and(|until| self.now() > until)
    }

    /// Groups that had not consumed a message in `from..to`, with what they lost; of live ones, or of all.
    fn readers_of(&self, from: u64, to: u64, live_only: bool) -> Vec<Unconsumed> {
        let groups = self.groups.0.lock().unwrap();
        let mut lost = Vec::new();
        for ((number, queue), (next, is_live)) in &*groups {
            let unread = self.sent.iter().filter(|(at, of, offset, _)| {
                (from..to).contains(at) && of == queue && offset >= next
            });
            let offsets: Vec<u64> = unread.map(|(_, _, offset, _)| *offset).collect();
            if let (Some(first), Some(last)) = (offsets.first(), offsets.last())
                && (*is_live || !live_only)
            {
                lost.push(Unconsumed {
                    group: group(*number),
                    topic: topic("t"),
                    queue_id: QueueId(*queue),
                    from: QueueOffset(*first),
                    to: QueueOffset(last + 1),
                });
            }
        }
        lost
    }

    /// What must hold of one removal.
    pub(super) fn check(&self, removed: &Removed, was_forced: bool) {
        let mut named = removed.unconsumed.clone();
        named.sort_by_key(|lost| {
            let number = lost.group.as_str()[1..].parse::<u32>().unwrap();
            (number, lost.queue_id)
        });
        assert_eq!(
            named,
            self.readers_of(removed.from.0, removed.to.0, false),
            "who lost what is named, exactly"
        );
        let counted: u64 = removed.messages.iter().map(|(_, _, count)| count).sum();
        let gone = self
            .sent
            .iter()
            .filter(|(at, ..)| (removed.from.0..removed.to.0).contains(at));
        assert_eq!(counted, gone.count() as u64);
        if removed.reason == RemovalReason::Forced {
            assert!(was_forced, "below the hard limit nothing is forced");
            return;
        }
        let mut start = removed.from.0;
        while start < removed.to.0 {
            let end = start + FILE;
            let unread = self.readers_of(start, end, true);
            assert!(
                unread.is_empty() || self.is_overdue(end, RESERVED_HOURS + EXTRA_HOURS),
                "past a live group below the hard limit: {unread:?}"
            );
            start = end;
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Send { queue: u32, body: usize },
    Pass { hours: i64 },
    Read { group: u32, queue: u32, share: u64 },
    Go { group: u32 },
    Fill { percent: u64 },
    Free,
    Retain,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..3_u32, 0..3000_usize).prop_map(|(queue, body)| Op::Send { queue, body }),
        2 => (1..60_i64).prop_map(|hours| Op::Pass { hours }),
        4 => (0..4_u32, 0..3_u32, 0..=100_u64)
            .prop_map(|(group, queue, share)| Op::Read { group, queue, share }),
        1 => (0..4_u32).prop_map(|group| Op::Go { group }),
        1 => (50..100_u64).prop_map(|percent| Op::Fill { percent }),
        1 => Just(Op::Free),
        3 => Just(Op::Retain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn below_the_hard_limit_no_file_goes_before_every_live_group_has_consumed_it(
        ops in proptest::collection::vec(op(), 1..120),
        bytes_max in proptest::option::of(FILE * 2..FILE * 8),
    ) {
        let mut world = World::with(|config| {
            config.retention.bytes_max = bytes_max.unwrap_or(u64::MAX);
        });
        for op in ops {
            match op {
                Op::Send { queue, body } => {
                    world.send(queue, body);
                }
                Op::Pass { hours } => world.pass(hours),
                Op::Read { group, queue, share } => {
                    let end = world.sent.iter().filter(|(_, of, ..)| *of == queue).count() as u64;
                    world.groups.set(group, queue, end * share / 100, true);
                }
                Op::Go { group } => {
                    let mut groups = world.groups.0.lock().unwrap();
                    for ((of, _), (_, is_live)) in &mut *groups {
                        *is_live &= *of != group;
                    }
                }
                Op::Fill { percent } => world.fill_disk(percent),
                Op::Free => world.dir.set_capacity(u64::MAX),
                Op::Retain => {
                    // What it writes beforehand takes room too.
                    world.engine.checkpoint_step();
                    world.engine.look_at_disk();
                    // Above the mark, or where the next log file has no room.
                    let disk = world.engine.disk_usage();
                    let was_forced = disk.ratio > 0.85 || disk.capacity - disk.used < FILE + disk.capacity / 10;
                    while let removals = world.retain()
                        && !removals.is_empty()
                    {
                        for removed in &removals {
                            world.check(removed, was_forced);
                        }
                    }
                    // And nothing is kept without need.
                    let start = world.engine.positions().min.0;
                    let is_old = world.is_overdue(start + FILE, RESERVED_HOURS);
                    prop_assert!(!is_old || !world.readers_of(start, start + FILE, true).is_empty());
                }
            }
        }
    }
}
