//! Follows the log: puts visible records into their queues and the index and tells of their arrival. In a steady state it
//! allocates nothing and copies nothing but the units.

use std::io;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;
use rocket_protocol::message::RecordFacts;
use rocket_protocol::message::hash::IndexPrefix;
use rocket_protocol::{RecordError, RecordView};

use crate::api::{Arrival, Completion, Damaged};
use crate::appender::is_queued;
use crate::commit_log::{LogFile, TailRule};
use crate::dispatch::{keys_of, unit_of};
use crate::engine::{Engine, Step};
use crate::index::{Index, Live};
use crate::queues::{Queue, TOGETHER};
use crate::room::Writer;
use crate::sound::Unsound;
use crate::tail;

/// Bytes of records dispatched in one step, unless one record is larger.
const STEP_BYTES: usize = 1 << 20;
/// Records dispatched in one step.
const STEP_RECORDS: usize = 4096;

/// Where the dispatcher is.
pub(crate) struct Dispatcher {
    /// Everything before is in queues and index.
    pub(crate) position: u64,
    /// Store time of the last record before.
    pub(crate) time: i64,
    /// Bytes of the record at `position`, where that is larger than a step looks at.
    need: usize,
    /// Empty between steps.
    arrivals: Vec<Arrival>,
    /// Memory for those of the next steps: while one thread still tells, another one may dispatch.
    spare: Vec<Vec<Arrival>>,
}

impl Dispatcher {
    /// Goes on at `position`.
    pub(crate) fn new(position: u64, time: i64) -> Self {
        Self {
            position,
            time,
            need: 0,
            arrivals: Vec::new(),
            spare: Vec::new(),
        }
    }
}

impl<C: Completion> Engine<C> {
    /// Puts visible records into queues and index and tells of their arrival, all of one step at once.
    pub fn dispatch_step(&self) -> Step {
        let mut dispatcher = self.dispatcher.lock();
        let before = dispatcher.position;
        let visible = self.visible();
        if before >= visible || self.has_failed() {
            return Step::Idle;
        }
        let Some(file) = self.log.file_at(before) else {
            return self.pass_damage(&mut dispatcher, before, visible);
        };
        let mut end = visible.min(file.published_end());
        let mut damaged = self.log.damage().within(before, end);
        let to_damage = |damaged: &Option<Damaged>, end: u64| match damaged {
            Some(damaged) => end.min(damaged.from.0.max(before)),
            None => end,
        };
        end = to_damage(&damaged, end);
        if before < self.log.sound().sealed() {
            // Written by an earlier process, most likely: not to be looked at before it was compared.
            let step = (STEP_BYTES + self.config.record_bytes_max()).max(dispatcher.need);
            end = end.min(before + step as u64);
            let len = usize::try_from(end - before).unwrap_or(usize::MAX);
            match self.log.is_sound(&file, before, len) {
                Ok(()) => {}
                Err(Unsound::Damaged) => {
                    damaged = self.log.damage().within(before, end);
                    end = to_damage(&damaged, end);
                }
                Err(Unsound::Later) => return Step::Idle,
            }
        }
        let len = usize::try_from(end.saturating_sub(before)).unwrap_or(usize::MAX);
        let mut position = before;
        let need = std::mem::take(&mut dispatcher.need);
        let mut dispatch = |bytes: &[u8]| {
            let done = self.dispatch_records(&mut dispatcher, &file, bytes);
            position = done.map_or(file.end(), |done| before + done as u64);
        };
        let shown = file.segment.look(before - file.start, len, &mut dispatch);
        match shown {
            Ok(true) => {}
            // Shown to nobody while damage beside it is repaired.
            Ok(false) => {
                let step = (STEP_BYTES + self.config.record_bytes_max()).max(need);
                let mut bytes = vec![0; len.min(step)];
                if let Err(error) = file.segment.read_at(before - file.start, &mut bytes) {
                    tracing::warn!(file = %file.path(), %error, "the log cannot be read now");
                    return Step::Idle;
                }
                dispatch(&bytes);
            }
            Err(error) => {
                self.fail(&file.path(), &error);
                return Step::Idle;
            }
        }
        // The record that comes next begins in damage or reaches into it.
        let reach = before.saturating_add((dispatcher.need as u64).max(1));
        let is_damaged = damaged.is_some_and(|damaged| damaged.from.0 < reach);
        if position == before && is_damaged {
            return self.pass_damage(&mut dispatcher, before, visible);
        }
        if position == before && dispatcher.need > need.max(len) {
            // From a time when records could be larger: with the next step all of it is looked at.
            return Step::Worked;
        }
        let spare = dispatcher.spare.pop().unwrap_or_default();
        let mut arrivals = std::mem::replace(&mut dispatcher.arrivals, spare);
        if let Some(last) = arrivals.last() {
            dispatcher.time = last.store_timestamp.0;
        }
        dispatcher.position = position;
        if self.carried.is_pending() {
            // Before anybody hears how far the queues go.
            let settled = self.carried.settle(&self.queues, position);
            self.derived(Writer::Queues, settled.map(drop));
        }
        if self.queues.is_save_due() {
            self.derived(Writer::Queues, self.queues.save(position));
        }
        self.dispatched.store(position, Ordering::Release);
        drop(dispatcher);
        self.relieve_index();
        self.counters
            .messages_dispatched
            .fetch_add(arrivals.len() as u64, Ordering::Relaxed);
        if !arrivals.is_empty() {
            self.events.arrived(&arrivals);
            arrivals.clear();
        }
        self.dispatcher.lock().spare.push(arrivals);
        if position > before {
            Step::Worked
        } else {
            Step::Idle
        }
    }

    /// What begins at `at` lies in damage or reaches into it: goes on at the next record behind.
    fn pass_damage(&self, dispatcher: &mut Dispatcher, at: u64, visible: u64) -> Step {
        let Some(damaged) = self.log.damage().within(at, visible) else {
            return Step::Idle;
        };
        // What is passed over here is in no queue for good, and behind what nobody has may lie what another copy has.
        let is_held = |to| self.log.sound().held(at, to).is_some();
        if is_held(damaged.to.0) {
            return Step::Idle;
        }
        let behind = damaged.to.0.clamp(at + 1, visible);
        match tail::resume(&self.log, behind - 1, visible, TailRule::Ours) {
            Ok(next) if is_held(next) => Step::Idle,
            Ok(next) => {
                dispatcher.position = next;
                self.dispatched.store(next, Ordering::Release);
                Step::Worked
            }
            Err(error) => {
                tracing::warn!(%error, "the log behind damage cannot be read now");
                Step::Idle
            }
        }
    }

    /// Whether something visible is not dispatched yet.
    pub fn is_behind(&self) -> bool {
        self.undispatched() > 0
    }

    /// Bytes that are visible and not dispatched yet.
    pub(crate) fn undispatched(&self) -> u64 {
        let visible = self.visible();
        visible.saturating_sub(self.dispatched())
    }

    /// To where queues and index hold the log.
    pub(crate) fn dispatched(&self) -> u64 {
        self.dispatched.load(Ordering::Acquire)
    }

    /// Dispatches whole records at the start of `bytes`. How many bytes that was; `None` when the file ends there.
    fn dispatch_records(
        &self,
        dispatcher: &mut Dispatcher,
        file: &LogFile,
        bytes: &[u8],
    ) -> Option<usize> {
        let mut index = self.index.as_ref().map(Index::lock);
        let mut views = [None; TOGETHER];
        let mut done = 0;
        while done < STEP_BYTES && dispatcher.arrivals.len() < STEP_RECORDS {
            let read = read_together(bytes.get(done..).unwrap_or_default(), &mut views);
            done += read.bytes;
            let views = views.get(..read.records).unwrap_or(&views);
            self.dispatch_together(&mut dispatcher.arrivals, index.as_mut(), views);
            match read.behind {
                Ok(()) => {}
                Err(RecordError::Blank { .. }) => return None,
                // The visible end lies within a record: the rest comes later.
                Err(RecordError::Torn { need, .. }) => {
                    if done == 0 {
                        dispatcher.need = need;
                    }
                    break;
                }
                Err(error) => {
                    self.fail(
                        &file.path(),
                        &io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
                    );
                    break;
                }
            }
        }
        Some(done)
    }

    /// Dispatches records whose queues are looked for at once.
    fn dispatch_together(
        &self,
        arrivals: &mut Vec<Arrival>,
        mut index: Option<&mut MutexGuard<'_, Live>>,
        views: &[Option<RecordView<'_>>],
    ) {
        let (mut wanted, mut is_deleted) = ([None; TOGETHER], [false; TOGETHER]);
        for ((view, wanted), is_deleted) in
            views.iter().flatten().zip(&mut wanted).zip(&mut is_deleted)
        {
            // Of an earlier life of its topic.
            *is_deleted = self.deleted.covers(view.topic(), view.physical_offset().0);
            if is_queued(view.sys_flag()) && !*is_deleted {
                *wanted = Some((view.topic(), view.queue_id()));
            }
        }
        let wanted = wanted.get(..views.len()).unwrap_or(&wanted);
        let failed = self.queues.with_all(wanted, |queues| {
            let mut failed = Vec::new();
            for ((view, queue), is_deleted) in views.iter().flatten().zip(queues).zip(is_deleted) {
                if is_deleted {
                    continue;
                }
                let index = index.as_deref_mut();
                if let Err(error) = self.dispatch_record(arrivals, index, view, *queue) {
                    failed.push(error);
                }
            }
            failed
        });
        for error in failed {
            self.derived(Writer::Queues, Err(error));
        }
    }

    fn dispatch_record(
        &self,
        arrivals: &mut Vec<Arrival>,
        index: Option<&mut MutexGuard<'_, Live>>,
        view: &RecordView<'_>,
        queue: Option<&Queue>,
    ) -> io::Result<()> {
        let offset = view.physical_offset().0;
        let facts = RecordFacts::read(view.properties());
        let unit = unit_of(view, &facts, &self.config.delay_levels_ms);
        let (prefix, result) = match (unit, queue) {
            (Some(unit), Some(queue)) => {
                arrivals.push(Arrival {
                    topic: queue.topic().clone(),
                    queue_id: view.queue_id(),
                    queue_offset: view.queue_offset(),
                    tags_code: unit.tags_code,
                    store_timestamp: view.store_timestamp(),
                });
                (queue.prefix(), queue.put(view.queue_offset().0, unit))
            }
            (Some(_), None) => {
                tracing::warn!(
                    topic = view.topic(),
                    offset,
                    "a record's topic is none; it gets no queue"
                );
                return Ok(());
            }
            (None, _) => (IndexPrefix::new(view.topic()), Ok(())),
        };
        if let Some(index) = index {
            keys_of(view, &facts, prefix, |hash| {
                index.add(hash, offset, view.store_timestamp());
            });
        }
        result
    }
}

/// What [`read_together`] did.
struct Read {
    /// How many records it read.
    records: usize,
    /// Their bytes.
    bytes: usize,
    /// What comes behind them is none; nothing was looked at when there were enough of them.
    behind: Result<(), RecordError>,
}

/// Reads records at the start of `bytes` into the first of `views`.
fn read_together<'a>(bytes: &'a [u8], views: &mut [Option<RecordView<'a>>; TOGETHER]) -> Read {
    let mut read = Read {
        records: 0,
        bytes: 0,
        behind: Ok(()),
    };
    for view in views {
        if read.bytes >= STEP_BYTES {
            break;
        }
        match RecordView::parse_trusting(bytes.get(read.bytes..).unwrap_or_default()) {
            Ok((found, len)) => {
                *view = Some(found);
                read.records += 1;
                read.bytes += len;
            }
            Err(error) => {
                read.behind = Err(error);
                break;
            }
        }
    }
    read
}
