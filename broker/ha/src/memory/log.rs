//! The log. Its files end at the multiples of one length.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rocket_replication::repair::{Damage, Span};
use rocket_replication::{Epoch, PhysicalOffset};
use rocket_store::{CommitPolicy, LocalEnds, Opening, PutStatus, Terms};

use super::image::{FILLER, Image, RECORD_HEAD_BYTES, push_record, record};
use crate::surroundings::{AppendError, Chunk, CutError, Ends, Log, Pending, RepairError};

/// What a sender was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Its promise is kept.
    Ok,
    /// The outcome is unknown.
    Unknown,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fault or a wish of its own"
)]
struct State {
    image: Image,
    /// From a step down to the next mastership.
    is_stopped: bool,
    committed: u64,
    visible: u64,
    /// What lies before this is in queues, or was passed over.
    dispatched: u64,
    /// Where the message ends, who sent it, and on which terms it was taken.
    waiting: VecDeque<(u64, u64, Terms)>,
    told: Vec<(u64, Told)>,
    is_flush_wanted: bool,
    fails: bool,
    needs_restart: bool,
    lacks_room: bool,
    damage_changes: u64,
    gives_no_ranges: bool,
    is_read_there: bool,
    given_up: Vec<Span>,
}

impl State {
    /// Whether there is room for what a cut takes away.
    fn may_keep_aside(&self) -> Result<(), CutError> {
        if self.lacks_room {
            return Err(CutError::NoRoom("there is no room".to_owned()));
        }
        Ok(())
    }

    /// Where damage begins that is not dispatched and that readers wait for.
    fn held(&self) -> Option<u64> {
        let mut damaged = self.image.damaged.iter();
        let held = damaged.find(|part| part.1 > self.dispatched && !self.is_given_up(part));
        held.map(|(from, _)| *from)
    }

    fn is_given_up(&self, &(from, to): &(u64, u64)) -> bool {
        let mut given_up = self.given_up.iter();
        given_up.any(|span| span.from.0 <= from && to <= span.to.0)
    }

    /// What is visible comes to its queue, up to that.
    fn dispatch(&mut self) {
        let end = self
            .held()
            .map_or(self.visible, |held| self.visible.min(held));
        self.dispatched = self.dispatched.max(end);
    }
}

/// A log in memory. Clones are the same one: senders and tests have theirs beside the actor's.
#[derive(Clone)]
pub struct MemoryLog {
    state: Arc<Mutex<State>>,
    policy: Arc<dyn CommitPolicy>,
    file_bytes: u64,
}

impl MemoryLog {
    /// Opens what `image` left, with files of `file_bytes`. Appends are stopped.
    pub fn open(image: Image, policy: Arc<dyn CommitPolicy>, file_bytes: u64) -> Self {
        let state = State {
            // As far as the checkpoint says.
            dispatched: image.confirm,
            image,
            is_stopped: true,
            committed: 0,
            visible: 0,
            waiting: VecDeque::new(),
            told: Vec::new(),
            is_flush_wanted: false,
            fails: false,
            needs_restart: false,
            lacks_room: false,
            damage_changes: 0,
            gives_no_ranges: false,
            is_read_there: false,
            given_up: Vec::new(),
        };
        let log = Self {
            state: Arc::new(Mutex::new(state)),
            policy,
            file_bytes,
        };
        log.settle(&mut log.state.lock());
        log
    }

    /// Appends a message for the sender `ticket`, who is told later. Returns where it lies.
    ///
    /// # Errors
    /// What the sender is answered; nothing was appended.
    pub fn send(&self, payload: &[u8], ticket: u64) -> Result<PhysicalOffset, PutStatus> {
        let mut state = self.state.lock();
        // Asked under the lock: see the trait.
        self.policy.may_append()?;
        if state.is_stopped || state.fails {
            return Err(PutStatus::ServiceNotAvailable("stopped".into()));
        }
        let len = RECORD_HEAD_BYTES + payload.len() as u64;
        let room = self.file_end(state.image.end()) - state.image.end();
        // A filler needs its head; what would leave less room than that goes to the next file too.
        if room < len || (room > len && room - len < RECORD_HEAD_BYTES) {
            let filler = usize::try_from(room - RECORD_HEAD_BYTES).unwrap_or(0);
            push_record(&mut state.image.bytes, FILLER, &vec![0; filler]);
        }
        let at = PhysicalOffset(state.image.end());
        push_record(&mut state.image.bytes, 0, payload);
        let end = state.image.end();
        state.waiting.push_back((end, ticket, self.policy.terms()));
        state.is_flush_wanted = true;
        self.settle(&mut state);
        Ok(at)
    }

    /// A flush of everything ends well.
    pub fn flush(&self) {
        let mut state = self.state.lock();
        if !state.fails {
            state.image.durable = state.image.end();
            state.is_flush_wanted = false;
            self.settle(&mut state);
        }
    }

    /// The checkpoint is written.
    pub fn checkpoint(&self) {
        let mut state = self.state.lock();
        state.image.confirm = state.committed;
    }

    /// Retention removes what lies below `min`, which is the end of a record.
    pub fn retain_from(&self, min: u64) {
        let mut state = self.state.lock();
        let gone = usize::try_from(min.saturating_sub(state.image.min)).unwrap_or(0);
        state.image.bytes.drain(..gone);
        state.image.min = min;
        state.image.damaged.retain(|(_, to)| *to > min);
        state.damage_changes += 1;
    }

    /// From now on every write fails.
    pub fn fail(&self) {
        self.state.lock().fails = true;
    }

    /// From now on a cut is left to the next start.
    pub fn demand_restart(&self) {
        self.state.lock().needs_restart = true;
    }

    /// Whether there is no room for what a cut takes away, from here on.
    pub fn lack_room(&self, lacks_room: bool) {
        self.state.lock().lacks_room = lacks_room;
    }

    /// What lies at `from..to`, all in one file, is not what was written any more.
    pub fn rot(&self, from: u64, to: u64) {
        let mut state = self.state.lock();
        state.image.damaged.push((from, to));
        state.image.damaged.sort_unstable();
        state.damage_changes += 1;
    }

    /// Whether other replicas get nothing of what they lack from here on.
    pub fn give_no_ranges(&self, gives_none: bool) {
        self.state.lock().gives_no_ranges = gives_none;
    }

    /// `length` bytes at `offset`, for another replica. Never any that are known to be damaged.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn read_range(&self, offset: PhysicalOffset, length: u32) -> io::Result<Bytes> {
        let state = self.working()?;
        let (from, to) = (offset.0, offset.0 + u64::from(length));
        if state.gives_no_ranges || state.image.is_damaged(from, to) || to > self.file_end(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let bytes = state.image.range(from, to).ok_or(io::ErrorKind::NotFound)?;
        Ok(Bytes::copy_from_slice(bytes))
    }

    /// Whether somebody reads where damage is to be repaired, from here on.
    pub fn read_there(&self, is_read: bool) {
        self.state.lock().is_read_there = is_read;
    }

    /// Whether readers pass over all that is damaged, and there is some.
    pub fn passes_damage(&self) -> bool {
        let state = self.state.lock();
        let mut damaged = state.image.damaged.iter();
        damaged.len() > 0 && damaged.all(|damaged| state.is_given_up(damaged))
    }

    /// What senders were told since the last call.
    pub fn take_told(&self) -> Vec<(u64, Told)> {
        std::mem::take(&mut self.state.lock().told)
    }

    /// What is on the disk or in the page cache now.
    pub fn image(&self) -> Image {
        self.state.lock().image.clone()
    }

    /// Shows what is on the disk or in the page cache now.
    pub fn look<T>(&self, look: impl FnOnce(&Image) -> T) -> T {
        look(&self.state.lock().image)
    }

    /// Whether every write fails.
    pub fn fails(&self) -> bool {
        self.state.lock().fails
    }

    /// End of what consumers may see.
    pub fn visible(&self) -> u64 {
        self.state.lock().visible
    }

    /// Whether the actor asked for a flush that has not ended.
    pub fn is_flush_wanted(&self) -> bool {
        self.state.lock().is_flush_wanted
    }

    /// Whether a send could be appended.
    pub fn takes_sends(&self) -> bool {
        self.policy.may_append().is_ok() && !self.state.lock().is_stopped
    }

    fn file_end(&self, at: u64) -> u64 {
        (at / self.file_bytes + 1) * self.file_bytes
    }

    fn settle(&self, state: &mut State) {
        let local = LocalEnds {
            appended: PhysicalOffset(state.image.end()),
            durable: PhysicalOffset(state.image.durable),
        };
        let ends = self.policy.ends(local);
        if state.fails {
            return;
        }
        assert!(
            ends.committed.0 >= state.committed,
            "the committed end fell from {} to {}",
            state.committed,
            ends.committed
        );
        assert!(
            ends.committed.0.max(ends.answered.0).max(ends.visible.0) <= local.appended.0,
            "ends beyond the log"
        );
        state.committed = ends.committed.0;
        state.visible = state.visible.max(ends.visible.0);
        state.dispatch();
        for (end, ticket, terms) in std::mem::take(&mut state.waiting) {
            let theirs = self.policy.answered_on(terms, local, ends);
            if end <= theirs.min(ends.answered).0 {
                state.told.push((ticket, Told::Ok));
            } else {
                state.waiting.push_back((end, ticket, terms));
            }
        }
    }

    fn working(&self) -> io::Result<parking_lot::MutexGuard<'_, State>> {
        let state = self.state.lock();
        if state.fails {
            return Err(io::Error::other("EIO"));
        }
        Ok(state)
    }
}

impl Log for MemoryLog {
    fn ends(&self) -> Ends {
        let state = self.state.lock();
        Ends {
            min: PhysicalOffset(state.image.min),
            appended: PhysicalOffset(state.image.end()),
            durable: PhysicalOffset(state.image.durable),
        }
    }

    fn append_copied(
        &mut self,
        at: PhysicalOffset,
        file_end: PhysicalOffset,
        bytes: &Bytes,
    ) -> Result<(), AppendError> {
        let mut state = self.working()?;
        let refused = |why: &str| Err(AppendError::Refused(why.to_owned()));
        assert!(
            self.policy.may_append().is_err(),
            "copied into a log that takes sends"
        );
        if at.0 != state.image.end() {
            return refused("not at the end of the log");
        }
        let ours = PhysicalOffset(self.file_end(at.0));
        if file_end != ours {
            return Err(AppendError::OtherFile { ours });
        }
        if at.0 + bytes.len() as u64 > file_end.0 {
            return refused("not in one file");
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let Some((len, _)) = record(rest) else {
                return refused("no whole record");
            };
            rest = rest.get(len..).unwrap_or_default();
        }
        state.image.bytes.extend_from_slice(bytes);
        self.settle(&mut state);
        Ok(())
    }

    fn read_records(
        &mut self,
        from: PhysicalOffset,
        to: PhysicalOffset,
        bytes_target: u64,
    ) -> io::Result<Chunk> {
        let state = self.working()?;
        let limit = to.0.min(self.file_end(from.0));
        let mut end = from.0;
        while let Some((next, _)) = state.image.record_at(end)
            && next <= limit
            && !state.image.is_damaged(end, next)
            && (end == from.0 || next - from.0 <= bytes_target)
        {
            end = next;
        }
        let at = |offset: u64| usize::try_from(offset.saturating_sub(state.image.min)).unwrap_or(0);
        let bytes = state.image.bytes.get(at(from.0)..at(end));
        let bytes = bytes.filter(|bytes| !bytes.is_empty());
        let bytes = bytes.ok_or(io::ErrorKind::NotFound)?;
        Ok(Chunk {
            pieces: vec![Bytes::copy_from_slice(bytes)],
            to: PhysicalOffset(end),
            file_end: PhysicalOffset(self.file_end(from.0)),
        })
    }

    fn flush_soon(&mut self) {
        self.state.lock().is_flush_wanted = true;
    }

    fn cut(&mut self, to: PhysicalOffset, _epoch: Epoch) -> Result<(), CutError> {
        let mut state = self.working()?;
        if state.needs_restart {
            return Err(CutError::NeedsRestart);
        }
        if to.0 >= state.image.end() {
            return Ok(());
        }
        state.may_keep_aside()?;
        assert!(state.waiting.is_empty(), "cut with sends not answered");
        let at = usize::try_from(to.0.saturating_sub(state.image.min)).unwrap_or(0);
        let gone = state.image.bytes.get(at..).unwrap_or_default().to_vec();
        state.image.quarantine.push((to.0, gone));
        state.image.keep_below(to.0);
        state.damage_changes += 1;
        // All of it is flushed on return.
        state.image.durable = state.image.end();
        state.committed = state.committed.min(to.0);
        state.visible = state.visible.min(to.0);
        state.dispatched = state.dispatched.min(to.0);
        self.settle(&mut state);
        Ok(())
    }

    fn start_anew(&mut self, at: PhysicalOffset, _epoch: Epoch) -> Result<(), CutError> {
        let mut state = self.working()?;
        state.may_keep_aside()?;
        let from = state.committed.max(state.image.min);
        let kept = usize::try_from(from - state.image.min).unwrap_or(usize::MAX);
        let gone = state.image.bytes.get(kept..).unwrap_or_default().to_vec();
        let mut quarantine = std::mem::take(&mut state.image.quarantine);
        if !gone.is_empty() {
            quarantine.push((from, gone));
        }
        state.image = Image {
            min: at.0,
            durable: at.0,
            quarantine,
            ..Image::default()
        };
        (state.committed, state.visible, state.dispatched) = (0, 0, 0);
        state.damage_changes += 1;
        self.settle(&mut state);
        Ok(())
    }

    fn stop_appends(&mut self, pending: Pending) -> io::Result<()> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        assert!(
            self.policy.may_append().is_err(),
            "stopped, and the policy takes sends"
        );
        if pending == Pending::Unknown {
            state.is_stopped = true;
            let unknown = state.waiting.drain(..).map(|(_, t, _)| (t, Told::Unknown));
            state.told.extend(unknown);
        }
        if state.fails {
            return Err(io::Error::other("EIO"));
        }
        Ok(())
    }

    fn become_writer(&mut self, _epoch: Epoch) -> io::Result<Opening> {
        let mut state = self.working()?;
        if let Some(held) = state.held() {
            return Ok(Opening::Later(format!("damage at {held}")));
        }
        state.is_stopped = false;
        Ok(Opening::Open)
    }

    fn damage_changes(&self) -> u64 {
        self.state.lock().damage_changes
    }

    fn damage(&self) -> Damage {
        let state = self.state.lock();
        let span = |(from, to): &(u64, u64)| Span {
            from: PhysicalOffset(*from),
            to: PhysicalOffset(*to),
        };
        let bytes: Vec<Span> = state.image.damaged.iter().map(span).collect();
        Damage {
            blocks: bytes.clone(),
            bytes,
            missing: Vec::new(),
        }
    }

    fn repair(&mut self, offset: PhysicalOffset, bytes: &Bytes) -> Result<(), RepairError> {
        let mut state = self.working()?;
        if state.is_read_there {
            return Err(RepairError::Later("somebody reads there".to_owned()));
        }
        let (from, to) = (offset.0, offset.0 + bytes.len() as u64);
        if state.image.range(from, to) != Some(&bytes[..]) {
            return Err(RepairError::Refused("not what was written".to_owned()));
        }
        let damaged = std::mem::take(&mut state.image.damaged);
        let rest = damaged.into_iter().flat_map(|(begin, end)| {
            let parts = [(begin, end.min(from)), (begin.max(to), end)];
            parts.into_iter().filter(|(from, to)| from < to)
        });
        state.image.damaged = rest.collect();
        state.damage_changes += 1;
        state.dispatch();
        Ok(())
    }

    fn pass_over(&mut self, given_up: &[Span]) {
        let mut state = self.state.lock();
        state.given_up = given_up.to_vec();
        state.dispatch();
    }

    fn re_evaluate(&mut self) {
        self.settle(&mut self.state.lock());
    }
}
