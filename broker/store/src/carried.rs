//! The next offsets of queues over a time when the queues are built again. The log tells of messages that are still in it
//! and can be read; which offsets were given to those that expired, or lie in damage at the end of a queue, only the queues
//! knew. An offset that is given a second time is a message that a group which committed beyond it never gets.
//!
//! ```text
//! rocket/queue-offsets.json    [[topic, queueId, next offset], …]
//! ```
//!
//! The note is there before the first file of the old queues goes, and goes when a table holds what it says.

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
        let mut state = self.state.lock();
        let before = state.next.clone();
        for (topic, queue_id, next) in known {
            let kept = state.next.entry((topic, queue_id)).or_default();
            *kept = next.max(*kept);
        }
        if state.next == before {
            return Ok(());
        }
        self.write(&state.next)
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
        self.write(&state.next)
    }

    /// There is no message any more, and no queue.
    pub(crate) fn clear(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        self.dir.remove(PATH)?;
        self.dir.sync(FOLDER)?;
        *state = State::default();
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
    /// at the start. Whether a table must follow.
    pub(crate) fn settle(&self, queues: &Queues, position: u64) -> io::Result<bool> {
        let mut state = self.state.lock();
        if state.next.is_empty() || position < state.until {
            return Ok(false);
        }
        if !state.is_settled {
            for ((topic, queue_id), next) in &state.next {
                queues.get_or_make(topic, *queue_id).reach(*next)?;
            }
            state.is_settled = true;
        }
        Ok(true)
    }

    /// A topic was deleted: its offsets begin anew.
    pub(crate) fn forget(&self, topic: &TopicName) -> io::Result<()> {
        let mut state = self.state.lock();
        let before = state.next.len();
        state.next.retain(|(of, _), _| of != topic);
        if state.next.len() == before {
            return Ok(());
        }
        self.write(&state.next)
    }

    /// A table holds what was settled.
    pub(crate) fn end(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        if !state.is_settled {
            return Ok(());
        }
        self.dir.remove(PATH)?;
        self.dir.sync(FOLDER)?;
        *state = State::default();
        Ok(())
    }
}
