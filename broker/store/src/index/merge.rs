//! Many runs become one, a slice at a time, so that neither the disk nor the thread is held for long. Neighbours of one
//! level are merged when there are enough of them: each key is written once per level, and there are few levels.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;

use rocket_mapped_file::Directory;

use super::block::BLOCK;
use super::fields::width_of;
use super::run::{FENCE, Head, Run, RunWriter, SECTIONS_MAX};
use super::spans::Spans;

/// The first `fan_in` neighbours of one level, lower levels first, that leave no part of the log out between them.
pub(crate) fn choose(runs: &[Arc<Run>], fan_in: usize) -> Option<&[Arc<Run>]> {
    let levels = runs.iter().map(|run| run.head.level).max()?;
    (0..=levels).find_map(|level| {
        runs.windows(fan_in).find(|window| {
            let alike = window.iter().all(|run| run.head.level == level);
            let pairs = window.iter().zip(window.iter().skip(1));
            alike
                && pairs
                    .into_iter()
                    .all(|(run, next)| run.head.to == next.head.from)
        })
    })
}

/// Why a merge ended.
pub(crate) struct Failed {
    /// The input that cannot be read, if that is why.
    pub(crate) input: Option<Arc<Run>>,
    pub(crate) error: io::Error,
}

/// The next key of an input; the smallest hash comes first, of one hash the newest.
type Next = Reverse<(u32, Reverse<u64>, usize)>;

/// See the module.
pub(crate) struct Merge {
    pub(crate) inputs: Vec<Arc<Run>>,
    cursors: Vec<Cursor>,
    heap: BinaryHeap<Next>,
    writer: RunWriter,
    /// Messages before are gone.
    min: u64,
    is_begun: bool,
}

impl Merge {
    /// Makes the file of the new run. Keys of messages before `min` are left out.
    pub(crate) fn begin(dir: &dyn Directory, inputs: Vec<Arc<Run>>, min: u64) -> io::Result<Self> {
        let heads = || inputs.iter().map(|run| &run.head);
        let from = heads().map(|head| head.from).min().unwrap_or(0);
        let to = heads().map(|head| head.to).max().unwrap_or(from);
        let base = heads().map(|head| head.base).min().unwrap_or(from);
        let width = width_of(to.saturating_sub(base));
        // A key's distance to the one before is never larger than in its own run; only where a block began it is new.
        let payload = heads()
            .map(|head| {
                let wider = width.saturating_sub(head.width) as u64;
                head.payload + head.keys * wider + head.blocks * 5
            })
            .sum();
        let mut spans = Spans::default();
        heads().for_each(|head| spans.append(&head.spans));
        let head = Head {
            level: heads().map(|head| head.level + 1).max().unwrap_or(0),
            width,
            from,
            to,
            base,
            keys: 0,
            blocks: 0,
            payload: 0,
            newest: heads()
                .map(|head| head.newest)
                .max_by_key(|newest| newest.1)
                .unwrap_or((i64::MIN, 0)),
            fence: vec![0; FENCE],
            spans: spans.thinned(SECTIONS_MAX),
        };
        let writer = RunWriter::create(dir, head, payload)?;
        let cursors = inputs
            .iter()
            .map(|run| Cursor {
                run: Arc::clone(run),
                number: 0,
                keys: Vec::new(),
            })
            .collect();
        Ok(Self {
            heap: BinaryHeap::with_capacity(inputs.len()),
            inputs,
            cursors,
            writer,
            min,
            is_begun: false,
        })
    }

    /// The file that is being written.
    pub(crate) fn path(&self) -> &str {
        self.writer.path()
    }

    /// Takes over up to `limit` keys and flushes them. Whether all are.
    pub(crate) fn step(&mut self, limit: usize) -> Result<bool, Failed> {
        if !self.is_begun {
            self.is_begun = true;
            for source in 0..self.cursors.len() {
                let next = self.next_of(source)?;
                self.heap.extend(next);
            }
        }
        for _ in 0..limit {
            let Some(Reverse((hash, Reverse(offset), source))) = self.heap.peek().copied() else {
                return Ok(true);
            };
            if offset >= self.min {
                self.writer.push(hash, offset).map_err(of_output)?;
            }
            let next = self.next_of(source)?;
            if let Some(mut top) = self.heap.peek_mut() {
                match next {
                    Some(next) => *top = next,
                    None => drop(std::collections::binary_heap::PeekMut::pop(top)),
                }
            }
        }
        self.writer.flush().map_err(of_output)?;
        Ok(false)
    }

    /// Ends the new run; it is durable on return.
    pub(crate) fn finish(self) -> Result<(Run, Vec<Arc<Run>>), Failed> {
        Ok((self.writer.finish().map_err(of_output)?, self.inputs))
    }

    fn next_of(&mut self, source: usize) -> Result<Option<Next>, Failed> {
        let Some(cursor) = self.cursors.get_mut(source) else {
            return Ok(None);
        };
        let next = cursor.next().map_err(|error| Failed {
            input: Some(Arc::clone(&cursor.run)),
            error,
        })?;
        Ok(next.map(|(hash, offset)| Reverse((hash, Reverse(offset), source))))
    }
}

fn of_output(error: io::Error) -> Failed {
    Failed { input: None, error }
}

/// A place in an input.
struct Cursor {
    run: Arc<Run>,
    /// Of the next block.
    number: u64,
    /// Keys of the block before that are still to come, the next one last.
    keys: Vec<(u32, u64)>,
}

impl Cursor {
    fn next(&mut self) -> io::Result<Option<(u32, u64)>> {
        while self.keys.is_empty() && self.number < self.run.head.blocks {
            let mut page = [0; BLOCK];
            let base = self.run.head.base;
            let keys = self.run.read(self.number, &mut page)?;
            self.keys
                .extend(keys.map(|(hash, offset)| (hash, base + offset)));
            self.keys.reverse();
            self.number += 1;
        }
        Ok(self.keys.pop())
    }
}
