//! The same world on a disk that also rots: bits flip and files lose their ends while nobody looks.
//!
//! What is checked then: the store opens, or says that the log is damaged where no copy could tell what it was; nothing is
//! ever served that was not sent, at another offset than was said, or twice; a message that was answered and is not served
//! lies in damage that is told; no offset is given twice, unless what had it lies in damage that the queues did not hold yet:
//! nobody knows then that it was given. What rots follows a kill, so that the floor is at the durable end:
//! bytes at or above it are a torn tail and no damage. Blocks that have no checksum yet are left alone: RocketMQ's records
//! have one for their body and none for their head.

use rocket_mapped_file::Directory as _;

use super::search::search_among;
use super::*;
use crate::OpenError;
use crate::checkpoint::Checkpoint;

/// One stroke, by numbers that are taken modulo what there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rot {
    file: u16,
    at: u32,
    /// Everything from `at` on is gone, not only one bit of it another one.
    cuts: bool,
}

/// Everything that [`op`] does, and now and then a stroke.
fn op_or_rot() -> impl Strategy<Value = Op> {
    let rot = (any::<u16>(), any::<u32>(), prop::bool::weighted(0.2));
    prop_oneof![
        40 => op(),
        2 => Just(Op::Seal),
        1 => rot.prop_map(|(file, at, cuts)| Op::Rot(Rot { file, at, cuts })),
    ]
}

/// To where a start will know checksums.
fn sealed(dir: &MemoryDirectory) -> u64 {
    let (_, bounds) = Checkpoint::open(Arc::new(dir.clone())).unwrap();
    bounds.map_or(0, |bounds| bounds.sealed)
}

/// To where a start will know that the queues held the log.
fn held(dir: &MemoryDirectory) -> u64 {
    let (_, bounds) = Checkpoint::open(Arc::new(dir.clone())).unwrap();
    bounds.map_or(0, |bounds| bounds.dispatched)
}

impl World {
    /// Kills the process, lets one file rot, and starts again. One stroke in the life of a store, and none where a flush
    /// failed: a block and its checksum that both rot are believed, and a checksum whose flush failed may be gone.
    pub(super) fn rot(&mut self, rot: Rot) {
        if !self.rotten.is_empty() || self.has_failing_disk {
            return;
        }
        // As the house does ten times a second.
        self.engine().mark_step();
        let next = self.dir.killed();
        let mut paths = Vec::new();
        for folder in ["commitlog", "rocket"] {
            let names = next.list_names(folder);
            paths.extend(names.iter().map(|name| format!("{folder}/{name}")));
        }
        // It has no checksum: a digit of it that becomes another one is believed.
        paths.retain(|path| !path.ends_with("deleted-topics.json"));
        let path = paths.swap_remove(usize::from(rot.file) % paths.len());
        self.held = held(&next);
        let mut len = next.read(&path).unwrap().unwrap().len() as u64;
        if let Some(start) = path.strip_prefix("commitlog/") {
            let start: u64 = start.parse().unwrap();
            len = len.min(sealed(&next).saturating_sub(start));
        }
        if len > 0 {
            let at = usize::try_from(u64::from(rot.at) % len).unwrap();
            if rot.cuts {
                next.truncate(&path, at);
            } else {
                next.flip(&path, at);
            }
            self.take_outcomes();
            self.look();
            self.rotten
                .push(format!("{path} at {at}, cut: {}", rot.cuts));
        }
        self.restart(next);
    }

    /// Whether it may stay closed.
    pub(super) fn opened_rotten(
        &self,
        opened: Result<Engine<Done>, OpenError>,
    ) -> Option<Engine<Done>> {
        match opened {
            Ok(engine) => Some(engine),
            Err(error) => {
                let may_be = |path: &String| path.starts_with("commitlog/");
                assert!(
                    self.rotten.iter().any(may_be),
                    "{error:?} after {:?}",
                    self.rotten
                );
                None
            }
        }
    }

    /// Reads everything that can be read. Queues that cannot be read stop the store, and its next start has mended them.
    pub(super) fn look_at_rotten(&mut self) {
        for _ in 0..3 {
            if self.engine.is_none() || self.reads_all() {
                return;
            }
            let health = self.engine().health();
            assert!(
                matches!(health, Health::ReadOnly { .. }),
                "{health:?}: queues that cannot be read stop the store; {:?}",
                self.rotten
            );
            self.take_outcomes();
            let old = self.engine.take().unwrap();
            old.abandon();
            self.take_unknown();
            drop(old);
            self.jobs.clear();
            self.dir = self.dir.killed();
            self.open();
        }
        panic!("no start mends the queues: {:?}", self.rotten);
    }

    /// `false` when a queue cannot be read.
    fn reads_all(&mut self) -> bool {
        let topic = TopicName::parse(TOPIC).unwrap();
        let mut everywhere = HashSet::new();
        for queue in 0..QUEUES {
            let Some(found) = self.read_queue(&topic, queue) else {
                return false;
            };
            for (&offset, number) in &found {
                assert!(
                    everywhere.insert(*number),
                    "message {number} is there twice"
                );
                assert!(!self.refused.contains(number), "{number} was refused");
                assert!(*number >= self.deleted, "{number} was deleted");
                let known = self.promised.get(&(queue, offset));
                let known = known.or_else(|| self.seen.get(&(queue, offset)));
                assert!(
                    known.is_none_or(|known| known == number || self.may_be_given_again(*known)),
                    "{number} at {offset} of queue {queue}, where {known:?} was; {:?}",
                    self.rotten
                );
            }
            if self.jobs_done() {
                for ((_, offset), number) in self.promised.range((queue, 0)..(queue + 1, 0)) {
                    assert!(
                        found.contains_key(offset) || self.is_excused(*number),
                        "message {number} at {offset} of queue {queue} is gone, and nobody says why; {:?}",
                        self.rotten
                    );
                }
            }
            self.seen.extend(
                found
                    .iter()
                    .map(|(offset, number)| ((queue, *offset), *number)),
            );
        }
        true
    }

    /// By offset. `None` when the queue cannot be read.
    fn read_queue(&self, topic: &TopicName, queue: u32) -> Option<BTreeMap<u64, u64>> {
        let mut found = BTreeMap::new();
        let Some(range) = self.engine().queue_range(topic, QueueId(queue)) else {
            return Some(found);
        };
        let mut next = range.min.to_wire();
        while next < range.max.to_wire() {
            let limits = ReadLimits {
                messages_max: 3,
                bytes_max: 4000,
            };
            let result = self
                .engine()
                .get(topic, QueueId(queue), next, limits, &|_, _| true);
            match result.status {
                GetStatus::OffsetFoundNull => return None,
                GetStatus::Found | GetStatus::MessageWasRemoving | GetStatus::NoMatchedMessage => {}
                other => panic!("{other:?} at {next} of queue {queue}; {:?}", self.rotten),
            }
            assert!(result.next_begin > next, "a consumer gets on: {result:?}");
            for chunk in &result.chunks {
                let mut rest = &chunk[..];
                while !rest.is_empty() {
                    let (view, len) = RecordView::parse(rest).expect("what is served is whole");
                    let offset = view.queue_offset();
                    assert!(
                        (next..result.next_begin).contains(&offset.to_wire()),
                        "{offset} is not from {next} to {}",
                        result.next_begin
                    );
                    assert_eq!((view.topic(), view.queue_id().0), (TOPIC, queue));
                    let number = std::str::from_utf8(&view.body()[..8]).unwrap();
                    let number = number.parse().unwrap();
                    assert!(view.body()[8..].iter().all(|&byte| byte == b'.'));
                    self.note_place(number, &view, len);
                    let before = found.insert(offset.0, number);
                    assert_eq!(before, None, "an offset is served once");
                    rest = &rest[len..];
                }
            }
            next = result.next_begin;
        }
        Some(found)
    }

    /// Whether the offset of a message that was answered may be given to another one: nobody knew of it any more.
    pub(super) fn may_be_given_again(&self, number: u64) -> bool {
        let Some(&(from, to)) = self.places.lock().get(&number) else {
            return false;
        };
        let rotted = |what: &str| self.rotten.iter().any(|path| path.starts_with(what));
        // It rotted before the queues held it, or retention took it and what held it since has rotted.
        self.is_excused(number) && to > self.held && rotted("commitlog/")
            || from < self.engine().positions().min.0 && rotted("rocket/")
    }

    /// Whether a message that was answered may be missing: retention took it, or it lies in damage that is told.
    pub(super) fn is_excused(&self, number: u64) -> bool {
        let Some(&(from, to)) = self.places.lock().get(&number) else {
            return false;
        };
        let damage = self.engine().damage();
        from < self.engine().positions().min.0
            || damage
                .iter()
                .any(|damaged| damaged.from.0 < to && from < damaged.to.0)
    }
}

#[test]
fn a_disk_that_rots_costs_what_is_told_and_nothing_else() {
    let policy: Arc<dyn CommitPolicy> = Arc::new(LocalPolicy { flush: Flush::Sync });
    if let Err(error) = search_among(op_or_rot(), Flush::Sync, &policy, cases()) {
        panic!("{error}");
    }
}

/// Found by the search: a bit of a record's topic flipped, which no checksum of a record covers. A start that had to read it
/// again took it for a message of another topic, and condemned the next one in its stead.
#[test]
fn a_flipped_topic_is_damage_itself_and_condemns_nothing_else() {
    let policy: Arc<dyn CommitPolicy> = Arc::new(LocalPolicy { flush: Flush::Sync });
    let send = |size, count, promise| Op::Send {
        queue: 0,
        size,
        count,
        promise,
        prepared: false,
    };
    let ops = [
        send(511, 3, true),
        send(1075, 1, false),
        Op::Write,
        send(861, 3, false),
        Op::Flush,
        send(1239, 3, false),
        Op::Seal,
        Op::Rot(Rot {
            file: 6611,
            at: 481_749_211,
            cuts: false,
        }),
    ];
    let mut world = World::new(Flush::Sync, policy);
    for op in ops {
        world.run(op);
    }
    assert_eq!(
        world.rotten,
        ["commitlog/00000000000000000000 at 1243, cut: false"]
    );
    let damage = world.engine().damage();
    let blocks: Vec<_> = damage.iter().map(|it| (it.from.0, it.to.0)).collect();
    assert!(blocks.contains(&(1024, 1536)), "{damage:?}");
    assert_eq!(world.engine().queues().len(), 1, "no queue is made up");
}
