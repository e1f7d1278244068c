//! Following the changes: master and slaves alike read them from the queue when they are visible, in order, and apply them to what is in memory.
//!
//! One step at a time, by whoever calls; [`super::follow`] is the thread that does. Before the first whole snapshot nothing is applied: without
//! it nobody knows what the changes change.

mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rocket_protocol::{PhysicalOffset, TopicName};
use rocket_store::{GetStatus, QueueEnd};
use thiserror::Error;

use super::Metadata;
use super::cache::{Base, Cache, Mark};
use super::change::{Change, DecodeError, GroupChange, Moved, Part, Record, TopicChange, VERSION};
use super::ends::QueueEnds;
use super::file::FileError;
use super::lead::Telling;
use super::log::{ChangeLog, Entry, entries};
use super::state::hide;
use crate::config::BrokerConfig;

/// A change that only a newer version of this program can apply. What comes behind it is not applied either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the log holds a change of metadata of version {0}, and this program knows {VERSION}")]
pub struct Newer(pub u32);

/// What a replica of a group has beside what all brokers have.
pub(super) struct Replica {
    pub(super) log: Arc<ChangeLog>,
    pub(super) cache: Cache,
    /// For the topics that it has by itself.
    pub(super) config: BrokerConfig,
    pub(super) follower: Mutex<Follower>,
    /// Before which offset of the log the messages of a topic are hidden.
    hidden: Mutex<BTreeMap<String, u64>>,
    /// Held while something is told to the log, so that what is told later was taken later.
    pub(super) telling: Mutex<Telling>,
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").finish_non_exhaustive()
    }
}

/// How far the changes were followed.
#[derive(Debug, Default)]
pub(super) struct Follower {
    /// The queue offset of the next change.
    pub(super) next: i64,
    pub(super) last: Option<Mark>,
    /// Without one nothing is applied.
    pub(super) base: Option<Base>,
    parts: Parts,
    /// Where queues go on by what was applied, and the store was not told.
    untold: Vec<QueueEnd>,
    /// Since the cache was written.
    pub(super) is_changed: bool,
}

/// Which parts of the newest snapshot were seen.
#[derive(Debug, Default)]
struct Parts {
    id: u64,
    seen: BTreeSet<u32>,
}

impl Parts {
    /// The snapshot, when this is its last part to come.
    fn see(&mut self, part: &Part) -> Option<Base> {
        if self.id != part.id {
            self.id = part.id;
            self.seen.clear();
        }
        self.seen.insert(part.number);
        (self.seen.len() == part.of as usize).then_some(Base {
            at: part.at,
            physical: part.physical,
            has_ends: part.queues.is_some(),
        })
    }
}

/// What is applied in the order of the log, behind tables and hidden messages.
enum Ordered {
    ForgetTopic(String),
    ForgetGroup(String),
    Move(Moved),
    /// What this master told itself, which is older than what it has in memory.
    MoveOwn(Moved),
}

impl Replica {
    pub(super) fn new(log: Arc<ChangeLog>, cache: Cache, config: BrokerConfig) -> Self {
        Self {
            log,
            cache,
            config,
            follower: Mutex::default(),
            hidden: Mutex::default(),
            telling: Mutex::default(),
        }
    }

    /// The last whole snapshot.
    pub(super) fn base(&self) -> Option<Base> {
        self.follower.lock().base
    }

    /// Whether all changes that are visible were applied. A step may find nothing because something cannot be read now.
    pub(super) fn is_at_end(&self) -> bool {
        let next = {
            let follower = self.follower.lock();
            if !follower.untold.is_empty() {
                return false;
            }
            follower.next
        };
        let range = self.log.range();
        range.is_none_or(|range| range.max.to_wire() <= next)
    }

    /// What lies behind the last snapshot, and it, are all that a start needs. While there is none the log is all that tells anything.
    fn note_base(&self, follower: &Follower) {
        let kept = follower.base.map_or(0, |base| base.physical);
        self.log.keep_from(kept);
    }

    /// Tells the store where queues go on, all that was counted there being dispatched. `false`: not now, and nothing more is applied then.
    fn tell_ends(&self, follower: &mut Follower) -> bool {
        if !follower.untold.is_empty() && !self.log.reach(&follower.untold) {
            return false;
        }
        follower.untold = Vec::new();
        true
    }

    fn hide(&self, topic: &str, offset: u64) {
        hide(&mut self.hidden.lock(), topic, offset);
        self.log.hide(topic, offset);
    }
}

impl Metadata {
    /// Before which offset of the log the messages of a topic are hidden, since it was deleted there and its queues went on.
    pub fn hidden_before(&self, topic: &TopicName) -> Option<PhysicalOffset> {
        let hidden = self.replica.as_ref()?.hidden.lock();
        hidden.get(topic.as_str()).copied().map(PhysicalOffset)
    }

    /// Applies what comes next of the changes that are visible. `true`: there may be more. Without a group there are none.
    ///
    /// # Errors
    /// See [`Newer`].
    pub fn step(&self) -> Result<bool, Newer> {
        let Some(replica) = &self.replica else {
            return Ok(false);
        };
        let mut follower = replica.follower.lock();
        if !replica.tell_ends(&mut follower) {
            return Ok(false);
        }
        let Some(result) = replica.log.read(follower.next) else {
            return Ok(false);
        };
        match result.status {
            GetStatus::Found => {}
            GetStatus::OffsetOverflowOne => return Ok(false),
            GetStatus::NoMatchedLogicQueue | GetStatus::NoMessageInQueue if follower.next == 0 => {
                return Ok(false);
            }
            GetStatus::NoMatchedMessage
            | GetStatus::MessageWasRemoving
            | GetStatus::OffsetFoundNull => {
                return Ok(follower.pass(result.next_begin));
            }
            // The log was begun anew, or retention passed where this replica is.
            GetStatus::NoMatchedLogicQueue
            | GetStatus::NoMessageInQueue
            | GetStatus::OffsetOverflowBadly
            | GetStatus::OffsetTooSmall => {
                let (next, min, max) = (follower.next, result.min, result.max);
                tracing::warn!(
                    next,
                    min,
                    max,
                    "metadata is folded anew: its next change is not in the log"
                );
                self.refold(replica, &mut follower)?;
                return Ok(true);
            }
        }
        let mut batch = Vec::new();
        let mut newer = None;
        let begun = follower.next;
        for entry in entries(&result) {
            match follower.take(entry) {
                Ok(change) => batch.extend(change),
                Err(error) => {
                    newer = Some(error);
                    break;
                }
            }
        }
        if follower.next == begun {
            let passes = |()| follower.pass(result.next_begin);
            return newer.map_or(Ok(()), Err).map(passes);
        }
        let has_begun = self.apply(replica, &mut follower, batch);
        if has_begun {
            self.refold(replica, &mut follower)?;
        }
        Ok(true)
    }

    /// Applies changes. `true`: with them the first whole snapshot came.
    fn apply(&self, replica: &Replica, follower: &mut Follower, batch: Vec<(u64, Record)>) -> bool {
        let own = replica.log.writer();
        let (mut topics, mut groups) = (Vec::new(), Vec::new());
        let (mut ordered, mut parts, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
        let is_applied = follower.base.is_some();
        for (physical, record) in batch {
            let is_own = own != 0 && record.writer == own;
            if is_own {
                numbers.push(record.number);
            }
            match record.change {
                Change::Part(part) => parts.push(part),
                _ if !is_applied => {}
                Change::Topics(change) => {
                    if let TopicChange::Delete(topic) = &change {
                        // Before the topic can be there again.
                        replica.hide(topic, physical);
                        ordered.push(Ordered::ForgetTopic(topic.clone()));
                    }
                    topics.push((record.stamp, change));
                }
                Change::Groups(change) => {
                    if let GroupChange::Delete {
                        group,
                        forgets_positions: true,
                    } = &change
                    {
                        ordered.push(Ordered::ForgetGroup(group.clone()));
                    }
                    groups.push((record.stamp, change));
                }
                Change::Positions(moved) if is_own => ordered.push(Ordered::MoveOwn(moved)),
                Change::Positions(moved) => ordered.push(Ordered::Move(moved)),
            }
        }
        if !topics.is_empty() {
            in_memory(self.topics.shared.follow(topics));
        }
        if !groups.is_empty() {
            in_memory(self.groups.shared.follow(groups));
        }
        for change in ordered {
            match change {
                Ordered::ForgetTopic(topic) => self.offsets.forget_topic(&topic),
                Ordered::ForgetGroup(group) => self.offsets.forget_group(&group),
                Ordered::Move(moved) => {
                    self.offsets.follow(&moved.rows, &moved.orders);
                    self.delay.follow(&moved.delay);
                }
                Ordered::MoveOwn(moved) => {
                    self.offsets.follow_own(&moved.rows);
                    self.delay.follow_own(&moved.delay);
                }
            }
        }
        let ends = parts.iter().filter_map(|part| part.queues.as_ref());
        follower.untold.extend(ends.flat_map(QueueEnds::iter));
        let whole = parts
            .iter()
            .fold(None, |whole, part| follower.parts.see(part).or(whole));
        if is_applied && whole.is_some() {
            follower.base = whole;
            replica.note_base(follower);
        }
        follower.is_changed = true;
        replica.log.applied(&numbers);
        whole.is_some() && !is_applied
    }
}

impl Follower {
    /// Goes past a message. Gives its change, if it is one that can be applied.
    fn take(&mut self, entry: Entry) -> Result<Option<(u64, Record)>, Newer> {
        let Entry { mark, record } = entry;
        let record = match record {
            Err(DecodeError::Newer(version)) => return Err(Newer(version)),
            Ok(record) => Some((mark.physical, record)),
            Err(error) => {
                tracing::error!(offset = mark.offset, physical = mark.physical, %error, "a change of metadata cannot be read and is passed over");
                None
            }
        };
        self.next = mark.offset + 1;
        self.last = Some(mark);
        Ok(record)
    }

    /// Goes to `next` without what lies before. `false`: this is no way on.
    fn pass(&mut self, next: i64) -> bool {
        if next <= self.next {
            return false;
        }
        tracing::error!(
            from = self.next,
            to = next,
            "changes of metadata cannot be read any more and are passed over"
        );
        self.next = next;
        self.is_changed = true;
        true
    }
}

/// What was done in memory alone.
fn in_memory(done: Result<(), FileError>) {
    if let Err(error) = done {
        tracing::error!(%error, "metadata in memory was not changed");
    }
}
