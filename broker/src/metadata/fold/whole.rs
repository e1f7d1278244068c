//! The whole state: folded anew from the log's last snapshot, recalled from what was kept beside the log, and kept there.

use rocket_protocol::UnixMillis;
use rocket_store::GetStatus;

use super::{Follower, Newer, Replica, in_memory};
use crate::metadata::cache::{Cached, FORM};
use crate::metadata::change::Change;
use crate::metadata::ends::QueueEnds;
use crate::metadata::file::FileError;
use crate::metadata::log::entries;
use crate::metadata::search::{Found, find_snapshot};
use crate::metadata::state::State;
use crate::metadata::{Metadata, groups, topics};

impl Metadata {
    /// Forgets all and folds from the last whole snapshot to the end of what is visible. Without a snapshot what is in memory stays, and nothing is
    /// applied until there is one.
    pub(in crate::metadata) fn refold(
        &self,
        replica: &Replica,
        follower: &mut Follower,
    ) -> Result<(), Newer> {
        let found = find_snapshot(&replica.log, |_| true);
        let Some(Found {
            mut state, base, ..
        }) = found
        else {
            let min = replica.log.range().map_or(0, |range| range.min.to_wire());
            *follower = Follower {
                next: min,
                ..Follower::default()
            };
            replica.note_base(follower);
            return Ok(());
        };
        let mut fresh = Follower {
            next: base.at,
            base: Some(base),
            is_changed: true,
            ..Follower::default()
        };
        if !base.has_ends {
            // An older program took it, and the one before may have been taken by this one.
            let before = find_snapshot(&replica.log, |part| part.queues.is_some());
            fresh.untold = before.map_or(Vec::new(), |before| before.ends);
        }
        while let Some(result) = replica.log.read(fresh.next) {
            let begun = fresh.next;
            for entry in entries(&result) {
                if let Some((physical, record)) = fresh.take(entry)? {
                    if let Change::Part(part) = &record.change {
                        fresh.base = fresh.parts.see(part).or(fresh.base);
                        let ends = part.queues.iter().flat_map(QueueEnds::iter);
                        fresh.untold.extend(ends);
                    }
                    state.apply(&record, physical);
                }
            }
            let is_behind = match result.status {
                GetStatus::Found | GetStatus::NoMatchedMessage | GetStatus::MessageWasRemoving => {
                    result.next_begin
                }
                GetStatus::OffsetTooSmall => result.min,
                _ => break,
            };
            if fresh.next == begun && !fresh.pass(is_behind) {
                break;
            }
        }
        self.install(replica, state);
        *follower = fresh;
        replica.note_base(follower);
        tracing::info!(
            from = base.at,
            to = follower.next,
            topics = self.topics.names().len(),
            "metadata was folded from the log"
        );
        Ok(())
    }

    /// What was kept at the last run, if the log still says so, or all folded anew; then what came since.
    pub(in crate::metadata) fn recall(&self, replica: &Replica) -> Result<(), FileError> {
        let cached = replica.cache.load(&replica.log)?;
        let folded = {
            let mut follower = replica.follower.lock();
            if let Some(cached) = cached {
                let mut state = State::default();
                state.add(cached.content);
                self.install(replica, state);
                *follower = Follower {
                    next: cached.next,
                    last: cached.last,
                    base: Some(cached.base),
                    ..Follower::default()
                };
                replica.note_base(&follower);
                Ok(())
            } else {
                self.refold(replica, &mut follower)
            }
        };
        let mut step = folded.map(|()| true);
        while let Ok(true) = step {
            step = self.step();
        }
        if let Err(error) = step {
            tracing::error!(%error, "metadata is not what the group has; this replica must not lead");
        }
        Ok(())
    }

    /// Puts a state in the place of what is in memory.
    fn install(&self, replica: &Replica, state: State) {
        let (topics_at, groups_at) = (
            state.topics.version.timestamp,
            state.groups.version.timestamp,
        );
        in_memory(self.topics.shared.replace(state.topics));
        in_memory(
            self.topics
                .ensure_system(&replica.config, UnixMillis(topics_at)),
        );
        in_memory(self.groups.shared.replace(state.groups));
        in_memory(self.groups.ensure_system(UnixMillis(groups_at)));
        self.offsets.replace(&state.positions, &state.orders);
        self.delay.replace(state.delay);
        replica.hidden.lock().clear();
        for (topic, offset) in &state.hidden {
            replica.hide(topic, *offset);
        }
    }

    /// All that is in memory. With the follower held it is what all changes before `next` came to, and maybe positions that moved since.
    pub(in crate::metadata) fn capture(&self, replica: &Replica, log_min: u64) -> State {
        let mut hidden = replica.hidden.lock().clone();
        // Nothing of it is left.
        hidden.retain(|_, offset| *offset > log_min);
        State {
            topics: topics::Table::clone(&self.topics.shared.load()),
            groups: groups::Table::clone(&self.groups.shared.load()),
            positions: self.offsets.to_body().offset_table,
            orders: self.offsets.orders(),
            delay: self.delay.positions(),
            hidden,
        }
    }

    /// Writes what was folded beside the log, if it changed, and the files in Apache's forms.
    pub(in crate::metadata) fn save_cache(
        &self,
        replica: &Replica,
        now: UnixMillis,
    ) -> Result<(), FileError> {
        let Some(positions) = replica.log.positions() else {
            return Ok(());
        };
        let cached = {
            let mut follower = replica.follower.lock();
            let is_changed = follower.is_changed || self.offsets.has_changed();
            let is_told = follower.untold.is_empty();
            let Some(base) = follower.base.filter(|_| is_changed && is_told) else {
                return Ok(());
            };
            follower.is_changed = false;
            let state = State {
                // Without what a master has in memory alone: a cut would not take that along, and nobody else has it.
                positions: self.offsets.folded(),
                orders: self.offsets.folded_orders(),
                delay: self.delay.folded(),
                ..self.capture(replica, positions.min.0)
            };
            let mut parts = state.split(usize::MAX);
            Cached {
                v: FORM,
                next: follower.next,
                last: follower.last,
                base,
                content: parts.pop().unwrap_or_default(),
            }
        };
        let saved = replica
            .cache
            .save(&cached)
            .and_then(|()| self.topics.shared.save())
            .and_then(|()| self.groups.shared.save())
            .and_then(|()| self.offsets.flush(now))
            .and_then(|()| self.delay.flush(now));
        if saved.is_err() {
            replica.follower.lock().is_changed = true;
        }
        saved
    }
}
