//! The store as the log of a replica.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use rocket_replication::repair::{Damage, Span};
use rocket_replication::{Epoch, PhysicalOffset, replica};
use rocket_store::{
    Aside, Completion, CopyError, Engine, Flush, OpenError, Opening, Positions, Records,
    RecordsError, Store,
};

use crate::surroundings::{AppendError, Chunk, CutError, Ends, Log, Pending, RepairError};

/// A store with its threads, or its engine, whose steps somebody else makes. Its policy is a [`crate::GroupPolicy`].
pub trait Stored {
    /// See [`Store::positions`].
    fn positions(&self) -> Positions;
    /// See [`Store::append_copied`].
    fn append_copied(
        &self,
        at: PhysicalOffset,
        file_end: PhysicalOffset,
        bytes: &[u8],
    ) -> Result<PhysicalOffset, CopyError>;
    /// See [`Store::read_records`].
    fn read_records(
        &self,
        from: PhysicalOffset,
        to: PhysicalOffset,
        bytes_target: usize,
    ) -> Result<Records, RecordsError>;
    /// See [`Store::flush_now`]. Of an engine nobody but its driver can demand that.
    fn flush_now(&self) {}
    /// See [`Store::quiesce`].
    fn quiesce(&self) -> Result<PhysicalOffset, Arc<str>>;
    /// See [`Store::step_down`].
    fn step_down(&self) -> Result<PhysicalOffset, Arc<str>>;
    /// See [`Store::become_writer`].
    fn become_writer(&self) -> Result<Opening, OpenError>;
    /// See [`Store::cut`].
    fn cut(
        &self,
        to: PhysicalOffset,
        epoch: u64,
        aside: Aside,
    ) -> Result<(), rocket_store::CutError>;
    /// See [`Store::start_anew`].
    fn start_anew(
        &self,
        at: PhysicalOffset,
        epoch: u64,
        aside: Aside,
    ) -> Result<(), rocket_store::CutError>;
    /// See [`Store::damage_changes`].
    fn damage_changes(&self) -> u64;
    /// See [`Store::damage`].
    fn damage(&self) -> Vec<rocket_store::Damaged>;
    /// See [`Store::damaged_spans`].
    fn damaged_spans(&self) -> Vec<rocket_store::Span>;
    /// See [`Store::missing_spans`].
    fn missing_spans(&self) -> Vec<rocket_store::Span>;
    /// See [`Store::repair`].
    fn repair(&self, at: PhysicalOffset, bytes: &[u8]) -> Result<(), rocket_store::RepairError>;
    /// See [`Store::pass_over`].
    fn pass_over(&self, given_up: &[rocket_store::Span]);
    /// See [`Store::re_evaluate`].
    fn re_evaluate(&self);
    /// See [`Store::set_flush`]. Of an engine its driver decides when it is flushed.
    fn set_flush(&self, _flush: Flush) {}
    /// See [`Store::condemn`].
    fn condemn(&self, reason: &str);
}

macro_rules! stored {
    ($name:ident { $($own:tt)* }) => {
        impl<C: Completion> Stored for $name<C> {
            fn positions(&self) -> Positions {
                $name::positions(self)
            }

            fn append_copied(
                &self,
                at: PhysicalOffset,
                file_end: PhysicalOffset,
                bytes: &[u8],
            ) -> Result<PhysicalOffset, CopyError> {
                $name::append_copied(self, at, file_end, bytes)
            }

            fn read_records(
                &self,
                from: PhysicalOffset,
                to: PhysicalOffset,
                bytes_target: usize,
            ) -> Result<Records, RecordsError> {
                $name::read_records(self, from, to, bytes_target)
            }

            fn quiesce(&self) -> Result<PhysicalOffset, Arc<str>> {
                $name::quiesce(self)
            }

            fn step_down(&self) -> Result<PhysicalOffset, Arc<str>> {
                $name::step_down(self)
            }

            fn become_writer(&self) -> Result<Opening, OpenError> {
                $name::become_writer(self)
            }

            fn condemn(&self, reason: &str) {
                $name::condemn(self, reason);
            }

            fn cut(
                &self,
                to: PhysicalOffset,
                epoch: u64,
                aside: Aside,
            ) -> Result<(), rocket_store::CutError> {
                $name::cut(self, to, epoch, aside)
            }

            fn start_anew(
                &self,
                at: PhysicalOffset,
                epoch: u64,
                aside: Aside,
            ) -> Result<(), rocket_store::CutError> {
                $name::start_anew(self, at, epoch, aside)
            }

            fn damage_changes(&self) -> u64 {
                $name::damage_changes(self)
            }

            fn damage(&self) -> Vec<rocket_store::Damaged> {
                $name::damage(self)
            }

            fn damaged_spans(&self) -> Vec<rocket_store::Span> {
                $name::damaged_spans(self)
            }

            fn missing_spans(&self) -> Vec<rocket_store::Span> {
                $name::missing_spans(self)
            }

            fn repair(
                &self,
                at: PhysicalOffset,
                bytes: &[u8],
            ) -> Result<(), rocket_store::RepairError> {
                $name::repair(self, at, bytes)
            }

            fn pass_over(&self, given_up: &[rocket_store::Span]) {
                $name::pass_over(self, given_up);
            }

            $($own)*
        }
    };
}

stored!(Store {
    fn flush_now(&self) {
        Store::flush_now(self);
    }

    fn re_evaluate(&self) {
        Store::re_evaluate(self);
    }

    fn set_flush(&self, flush: Flush) {
        Store::set_flush(self, flush);
    }
});

stored!(Engine {
    fn re_evaluate(&self) {
        self.settle();
    }
});

/// See the module.
pub struct StoreLog<S> {
    store: Arc<S>,
    quarantine_bytes_max: u64,
}

impl<S> Clone for StoreLog<S> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            ..*self
        }
    }
}

impl<S: Stored> StoreLog<S> {
    /// The log of `store`. What cuts take away is kept aside up to `quarantine_bytes_max` bytes in all (`quarantine_limit`).
    pub fn new(store: Arc<S>, quarantine_bytes_max: u64) -> Self {
        Self {
            store,
            quarantine_bytes_max,
        }
    }

    fn aside(&self) -> Aside {
        Aside::Kept {
            bytes_max: self.quarantine_bytes_max,
        }
    }
}

fn failed(reason: &impl ToString) -> io::Error {
    io::Error::other(reason.to_string())
}

fn not_cut(error: rocket_store::CutError) -> CutError {
    use rocket_store::CutError as Why;
    match error {
        Why::NeedsRestart => CutError::NeedsRestart,
        Why::NoRoom { .. } => CutError::NoRoom(error.to_string()),
        Why::Aside(error) => CutError::Io(error),
        Why::NotThere { .. } | Why::Failed(_) => CutError::Io(failed(&error)),
    }
}

impl<S: Stored> Log for StoreLog<S> {
    fn ends(&self) -> Ends {
        let positions = self.store.positions();
        Ends {
            min: positions.min,
            appended: positions.appended,
            durable: positions.durable,
        }
    }

    fn append_copied(
        &mut self,
        at: PhysicalOffset,
        file_end: PhysicalOffset,
        bytes: &Bytes,
    ) -> Result<(), AppendError> {
        match self.store.append_copied(at, file_end, bytes) {
            Ok(_) => Ok(()),
            Err(error @ (CopyError::Failed(_) | CopyError::NeedsRestart)) => {
                Err(AppendError::Io(failed(&error)))
            }
            Err(CopyError::OtherFile { end }) => Err(AppendError::OtherFile { ours: end }),
            Err(
                error @ (CopyError::Elsewhere { .. }
                | CopyError::NotRecords { .. }
                | CopyError::NoRoom(_)),
            ) => Err(AppendError::Refused(error.to_string())),
        }
    }

    fn read_records(
        &mut self,
        from: PhysicalOffset,
        to: PhysicalOffset,
        bytes_target: u64,
    ) -> io::Result<Chunk> {
        let target = usize::try_from(bytes_target).unwrap_or(usize::MAX);
        let read = self.store.read_records(from, to, target);
        let records = read.map_err(|error| failed(&error))?;
        Ok(Chunk {
            pieces: vec![records.bytes],
            to: records.to,
            file_end: records.file_end,
        })
    }

    fn flush_soon(&mut self) {
        self.store.flush_now();
    }

    fn cut(&mut self, to: PhysicalOffset, epoch: Epoch) -> Result<(), CutError> {
        if to >= self.ends().appended {
            return Ok(());
        }
        self.store.cut(to, epoch.0, self.aside()).map_err(not_cut)
    }

    fn start_anew(&mut self, at: PhysicalOffset, epoch: Epoch) -> Result<(), CutError> {
        let anew = self.store.start_anew(at, epoch.0, self.aside());
        anew.map_err(not_cut)
    }

    fn stop_appends(&mut self, pending: Pending) -> io::Result<()> {
        let stopped = match pending {
            Pending::GoOn => self.store.quiesce(),
            Pending::Unknown => self.store.step_down(),
        };
        stopped.map(drop).map_err(|reason| failed(&reason))
    }

    fn become_writer(&mut self, _epoch: Epoch) -> io::Result<Opening> {
        let ready = self.store.become_writer();
        ready.map_err(|error| failed(&error))
    }

    fn damage_changes(&self) -> u64 {
        self.store.damage_changes()
    }

    fn damage(&self) -> Damage {
        let bytes = self.store.damage().into_iter();
        let span = |from, to| Span { from, to };
        let spans = |parts: Vec<rocket_store::Span>| {
            let parts = parts.into_iter();
            parts.map(|part| span(part.from, part.to)).collect()
        };
        Damage {
            bytes: bytes.map(|part| span(part.from, part.to)).collect(),
            blocks: spans(self.store.damaged_spans()),
            missing: spans(self.store.missing_spans()),
        }
    }

    fn repair(&mut self, offset: PhysicalOffset, bytes: &Bytes) -> Result<(), RepairError> {
        use rocket_store::RepairError as Why;
        self.store
            .repair(offset, bytes)
            .map_err(|error| match error {
                Why::NotThere { .. } | Why::Otherwise { .. } => {
                    RepairError::Refused(error.to_string())
                }
                Why::Later { .. } => RepairError::Later(error.to_string()),
                Why::Failed(_) => RepairError::Io(failed(&error)),
            })
    }

    fn pass_over(&mut self, given_up: &[Span]) {
        let span = |&Span { from, to }: &Span| rocket_store::Span { from, to };
        let given_up: Vec<_> = given_up.iter().map(span).collect();
        self.store.pass_over(&given_up);
    }

    fn re_evaluate(&mut self) {
        self.store.re_evaluate();
    }

    fn condemn(&mut self, reason: &str) {
        self.store.condemn(reason);
    }

    fn set_flush(&mut self, flush: replica::Flush) {
        self.store.set_flush(match flush {
            replica::Flush::Sync => Flush::Sync,
            replica::Flush::Async => Flush::Async,
        });
    }
}
