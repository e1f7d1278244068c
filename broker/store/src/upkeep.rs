//! The engine's step that secures positions, queues and index.

use std::io;
use std::sync::atomic::Ordering;

use rocket_mapped_file::Segment;

use crate::api::Completion;
use crate::checkpoint::{Bounds, PATH};
use crate::engine::Engine;
use crate::error::is_no_room;
use crate::index::Index;
use crate::queues::TableDue;

impl<C: Completion> Engine<C> {
    /// What writing queues or index said. A full disk, or too many open files, is waited out, since they follow from the
    /// log; all else is final.
    pub(crate) fn derived(&self, result: io::Result<()>) -> bool {
        match result {
            Ok(()) => true,
            Err(error) if is_no_room(&error) => {
                if !self.no_room.swap(true, Ordering::AcqRel) {
                    tracing::warn!(error = %error, "no room for queues or index; messages are refused until there is");
                }
                false
            }
            Err(error) => {
                self.fail("rocket/queues", &error);
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
        self.retire_files();
        let ((position, time), saved, table) = {
            let dispatcher = self.dispatcher.lock();
            let index = || {
                self.index
                    .as_ref()
                    .map_or(Ok(u64::MAX), |index| index.save(dispatcher.position))
            };
            let position = dispatcher.position;
            let saved = self.queues.save(position).and_then(|()| index());
            let table = self.begin_table(position);
            ((position, dispatcher.time), saved, table)
        };
        let mut indexed = 0;
        let saved = saved.map(|secured| indexed = secured);
        if self.has_failed() || !self.derived(saved) {
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
        let dispatched = position.min(durable).min(indexed);
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
            Ok(false) => self.fail(PATH, &io::Error::other("the folder was taken away")),
            Err(error) => self.fail(PATH, &error),
        }
        self.secure_table(table);
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

    fn begin_table(&self, position: u64) -> Option<TableDue> {
        match self.queues.begin_table(position) {
            Ok(table) => table,
            Err(error) => {
                self.derived(Err(error));
                None
            }
        }
    }

    /// Writes the table of the queues that is due, and makes the one count that is written once the log is durable so far.
    fn secure_table(&self, due: Option<TableDue>) {
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
            return;
        }
        match due.map_or(Ok(()), |due| self.queues.write_table(due)) {
            Ok(()) => {}
            Err((_, error)) if is_no_room(&error) => {
                self.derived(Err(error));
            }
            Err((path, error)) => return self.fail(&path, &error),
        }
        let durable = self.positions().durable.0;
        if let Err(error) = self.queues.commit_table(durable) {
            self.fail("rocket/queues", &error);
        }
    }
}

fn flush(segment: &dyn Segment) -> io::Result<()> {
    segment.flush(0)
}
