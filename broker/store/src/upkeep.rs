//! The engine's step that secures positions, queues and index.

use std::io;

use rocket_mapped_file::Segment;

use crate::api::Completion;
use crate::appender::Role;
use crate::checkpoint::{Bounds, PATH};
use crate::engine::Engine;
use crate::error::is_no_room;
use crate::failure::FailureKind;
use crate::index::Index;
use crate::queues::TableDue;
use crate::room::Writer;

impl<C: Completion> Engine<C> {
    /// What writing queues or index said. A full disk, or too many open files, is waited out, since they follow from the
    /// log; all else is final.
    pub(crate) fn derived(&self, writer: Writer, result: io::Result<()>) -> bool {
        match result {
            Ok(()) => true,
            Err(error) if is_no_room(&error) => {
                if self.no_room.set(writer) {
                    tracing::warn!(folder = writer.folder(), error = %error, "no room for queues or index; messages are refused until there is");
                }
                false
            }
            Err(error) => {
                self.fail(writer.folder(), &error);
                false
            }
        }
    }

    /// Secures queues and index up to the dispatched position and notes it. Nothing is noted that a flush has not covered.
    pub fn checkpoint_step(&self) {
        self.secure_step(false);
    }

    /// As [`Engine::checkpoint_step`]; `at_last` tells Apache's file too.
    pub(crate) fn secure_step(&self, at_last: bool) {
        let _alone = self.alone.read_recursive();
        self.retire_files();
        let may_settle = self.may_settle();
        let (position, time, settled, saved, indexed, table) = {
            let dispatcher = self.dispatcher.lock();
            let position = dispatcher.position;
            let settled = may_settle.then(|| self.settle_carried(position));
            let settled = settled.unwrap_or(Ok(None));
            let saved = self.queues.save(position);
            let indexed = self
                .index
                .as_ref()
                .map_or(Ok(u64::MAX), |index| index.save(position));
            let is_settled = matches!(settled, Ok(Some(_)));
            let table = self.begin_table(position, is_settled);
            (position, dispatcher.time, settled, saved, indexed, table)
        };
        let settled = match settled {
            Ok(settled) => settled,
            Err(error) => {
                self.derived(Writer::Queues, Err(error));
                self.secure_floor();
                return;
            }
        };
        let mut secured = 0;
        let indexed = indexed.map(|position| secured = position);
        if self.has_failed()
            || !self.derived(Writer::Queues, saved)
            || !self.derived(Writer::Index, indexed)
        {
            self.secure_floor();
            return;
        }
        let mut files = self.queues.take_unflushed();
        files.extend(
            self.index
                .as_ref()
                .map(Index::take_unflushed)
                .unwrap_or_default(),
        );
        for (path, segment) in files {
            if let Err(error) = flush(&*segment) {
                self.fail(&path, &error);
                return;
            }
        }
        self.mark();
        let durable = self.positions().durable.0;
        let dispatched = position.min(durable).min(secured);
        self.note(|bounds| Bounds {
            dispatched: dispatched.max(bounds.dispatched),
            dispatched_time: time,
            ..bounds
        });
        let secured = {
            let mut checkpoint = self.checkpoint.lock();
            let secured = checkpoint.secure(time, at_last);
            secured.and_then(|()| checkpoint.is_named())
        };
        match secured {
            Ok(true) => {}
            // Everything written and flushed since goes to a file that will be gone with this process.
            Ok(false) => {
                let error = io::Error::other("the folder was taken away");
                self.fail_as(FailureKind::Store, PATH, &error);
            }
            Err(error) => self.fail(PATH, &error),
        }
        let counts = self.secure_table(table);
        if let Some(settled) = settled.filter(|_| counts) {
            self.derived(Writer::Queues, self.carried.end(settled));
        }
    }

    /// What of the log is flushed must be known also while queues and index have no room: damage that lies behind the floor
    /// would be taken for a torn tail, and cut with all that follows it.
    fn secure_floor(&self) {
        if self.has_failed() {
            return;
        }
        self.mark();
        let flushed = self.checkpoint.lock().flush();
        self.derived(Writer::Queues, flushed);
    }

    /// Whether tables may hold what is carried. Not where a cut waits for the next start: these queues have what it takes away,
    /// and those that it makes in their place go by the note.
    fn may_settle(&self) -> bool {
        self.carried.is_pending() && self.appender.lock().role() != Role::Waits
    }

    /// What of that which was carried over to the queues they have now: a table of them is to be written for it.
    fn settle_carried(&self, position: u64) -> io::Result<Option<u64>> {
        if self.queues.is_table_waiting() {
            return Ok(None);
        }
        self.carried.settle(&self.queues, position)
    }

    /// Closes what was open for writing of files that are full and flushed.
    fn retire_files(&self) {
        let durable = self.positions().durable.0;
        for file in self.log.files().iter().rev() {
            if file.end() <= durable && file.retire() {
                break;
            }
        }
    }

    fn begin_table(&self, position: u64, at_once: bool) -> Option<TableDue> {
        let table = if at_once {
            self.queues.begin_table_now(position).map(Some)
        } else {
            self.queues.begin_table(position)
        };
        match table {
            Ok(table) => table,
            Err(error) => {
                self.derived(Writer::Queues, Err(error));
                None
            }
        }
    }

    /// Writes the table of the queues that is due, and makes the one count that is written once the log is durable so far.
    /// Whether the one that was due counts.
    fn secure_table(&self, due: Option<TableDue>) -> bool {
        if self.queues.is_damaged() {
            self.fail(
                "rocket/queues",
                &io::Error::new(
                    io::ErrorKind::InvalidData,
                    "damaged; the next start builds it again from the log",
                ),
            );
        }
        if self.has_failed() {
            return false;
        }
        let mut is_written = due.is_some();
        match due.map_or(Ok(()), |due| self.queues.write_table(due)) {
            Ok(()) => self.no_room.clear(Writer::Queues),
            Err((_, error)) if is_no_room(&error) => {
                is_written = false;
                self.derived(Writer::Queues, Err(error));
            }
            Err((path, error)) => {
                self.fail(&path, &error);
                return false;
            }
        }
        let durable = self.positions().durable.0;
        if let Err(error) = self.queues.commit_table(durable) {
            self.fail("rocket/queues", &error);
            return false;
        }
        is_written && !self.queues.is_table_waiting()
    }
}

fn flush(segment: &dyn Segment) -> io::Result<()> {
    segment.flush(0)
}
