//! The next offsets of queues over a time when the queues are built again, or that another copy of the log has told
//! ([`crate::Engine::reach`]). The log tells of messages that are still in it and can be read; which offsets were given to
//! those that expired, or lie in damage at the end of a queue, only the queues knew. An offset that is given a second time is
//! a message that a group which committed beyond it never gets.
//!
//! ```text
//! rocket/queue-offsets.json    [[topic, queueId, next offset], …]
//! ```
//!
//! The note is there before the first file of the old queues goes, or before anybody goes by what was told; and it goes when
//! a table holds what it says.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rocket_mapped_file::Directory;
use rocket_protocol::{QueueId, TopicName};

use crate::checkpoint::FOLDER;
use crate::queues::Queues;

const PATH: &str = "rocket/queue-offsets.json";

type Note = Vec<(String, u32, u64)>;

/// See the module.
pub(crate) struct Carried {
    dir: Arc<dyn Directory>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: BTreeMap<(TopicName, QueueId), u64>,
    /// All messages that the log held at the start lie before.
    until: u64,
    /// The queues have it, in memory.
    is_settled: bool,
    /// Counts the changes of it: a table that was begun before one does not hold that.
    changes: u64,
}

impl Carried {
    /// Reads what a start that did not come to its end left. A note that cannot be understood is none.
    pub(crate) fn open(dir: Arc<dyn Directory>) -> io::Result<Self> {
        let note: Note = match dir.read(PATH)? {
            Some(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::error!(file = PATH, %error, "the note of next queue offsets cannot be read");
                Note::new()
            }),
            None => Note::new(),
        };
        let of_topic = |(topic, queue_id, next): (String, u32, u64)| {
            let topic = TopicName::parse(&topic).ok()?;
            Some(((topic, QueueId(queue_id)), next))
        };
        let state = State {
            next: note.into_iter().filter_map(of_topic).collect(),
            ..State::default()
        };
        Ok(Self {
            dir,
            state: Mutex::new(state),
        })
    }

    /// Notes durably what is known of queues that are about to be removed.
    pub(crate) fn keep(
        &self,
        known: impl IntoIterator<Item = (TopicName, QueueId, u64)>,
    ) -> io::Result<()> {
        self.add(known, 0)
    }

    /// Notes durably what was told of queues whose messages before `until` are all put. Nothing has changed where that fails.
    pub(crate) fn add(
        &self,
        told: impl IntoIterator<Item = (TopicName, QueueId, u64)>,
        until: u64,
    ) -> io::Result<()> {
        let mut state = self.state.lock();
        let mut all = state.next.clone();
        for (topic, queue_id, next) in told {
            let kept = all.entry((topic, queue_id)).or_default();
            *kept = next.max(*kept);
        }
        if all == state.next {
            return Ok(());
        }
        self.write(&all)?;
        state.next = all;
        state.until = until.max(state.until);
        state.is_settled = false;
        state.changes += 1;
        Ok(())
    }

    /// The log is about to lose its end: notes durably what is known of the queues beside what was carried, without what
    /// was given to messages that go. `cut` tells the first of those offsets of each queue.
    pub(crate) fn lower(
        &self,
        known: impl IntoIterator<Item = (TopicName, QueueId, u64)>,
        cut: &BTreeMap<(TopicName, QueueId), u64>,
    ) -> io::Result<()> {
        let mut state = self.state.lock();
        let before = state.next.clone();
        for (topic, queue_id, next) in known {
            let kept = state.next.entry((topic, queue_id)).or_default();
            *kept = next.max(*kept);
        }
        for (queue, next) in &mut state.next {
            *next = cut.get(queue).map_or(*next, |first| (*first).min(*next));
        }
        if state.next == before {
            return Ok(());
        }
        state.changes += 1;
        self.write(&state.next)
    }

    /// There is no message any more, and no queue.
    pub(crate) fn clear(&self) -> io::Result<()> {
        self.remove(&mut self.state.lock())
    }

    fn remove(&self, state: &mut State) -> io::Result<()> {
        self.dir.remove(PATH)?;
        self.dir.sync(FOLDER)?;
        *state = State {
            changes: state.changes + 1,
            ..State::default()
        };
        Ok(())
    }

    fn write(&self, next: &BTreeMap<(TopicName, QueueId), u64>) -> io::Result<()> {
        let note: Note = next
            .iter()
            .map(|((topic, queue_id), next)| (topic.as_str().to_owned(), queue_id.0, *next))
            .collect();
        self.dir.replace(PATH, &serde_json::to_vec(&note)?)
    }

    /// Gives the queues their next offsets; to be called when all of the log up to `end` was looked at, and before anything
    /// is appended.
    pub(crate) fn raise(&self, queues: &Queues, end: u64) {
        let mut state = self.state.lock();
        state.until = end;
        for ((topic, queue_id), next) in &state.next {
            queues.get_or_make(topic, *queue_id).raise_next(*next);
        }
    }

    /// Whether there is something that no table holds.
    pub(crate) fn is_pending(&self) -> bool {
        !self.state.lock().next.is_empty()
    }

    /// Lets the queues reach their next offsets, once everything before `position` was put and that is all that the log held
    /// at the start. Once they have, that costs nothing. What the table that must follow holds then, for [`Carried::end`]; `None` where none must.
    pub(crate) fn settle(&self, queues: &Queues, position: u64) -> io::Result<Option<u64>> {
        let mut state = self.state.lock();
        if state.next.is_empty() || position < state.until {
            return Ok(None);
        }
        if !state.is_settled {
            for ((topic, queue_id), next) in &state.next {
                queues.get_or_make(topic, *queue_id).reach(*next)?;
            }
            state.is_settled = true;
        }
        Ok(Some(state.changes))
    }

    /// A topic was deleted: its offsets begin anew.
    pub(crate) fn forget(&self, topic: &TopicName) -> io::Result<()> {
        let mut state = self.state.lock();
        let before = state.next.len();
        state.next.retain(|(of, _), _| of != topic);
        if state.next.len() == before {
            return Ok(());
        }
        state.changes += 1;
        self.write(&state.next)
    }

    /// A table holds what was `settled`. What came since stays for the next one.
    pub(crate) fn end(&self, settled: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.changes != settled {
            return Ok(());
        }
        self.remove(&mut state)
    }
}
