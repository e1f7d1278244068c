//! As a replica sees it, it is the log of the store.

use bytes::Bytes;
use rocket_ha::{AppendError, Chunk, CutError, Ends, Log, Pending, RepairError};
use rocket_replication::repair::{Damage, Span};
use rocket_replication::{Epoch, PhysicalOffset};
use rocket_store::Opening;

use super::EngineLog;

impl Log for EngineLog {
    fn ends(&self) -> Ends {
        self.log.ends()
    }

    fn append_copied(
        &mut self,
        at: PhysicalOffset,
        file_end: PhysicalOffset,
        bytes: &Bytes,
    ) -> Result<(), AppendError> {
        self.log.append_copied(at, file_end, bytes)
    }

    fn read_records(
        &mut self,
        from: PhysicalOffset,
        to: PhysicalOffset,
        bytes_target: u64,
    ) -> std::io::Result<Chunk> {
        self.log.read_records(from, to, bytes_target)
    }

    fn flush_soon(&mut self) {
        self.log.flush_soon();
    }

    fn cut(&mut self, to: PhysicalOffset, epoch: Epoch) -> Result<(), CutError> {
        self.log.cut(to, epoch)
    }

    fn start_anew(&mut self, at: PhysicalOffset, epoch: Epoch) -> Result<(), CutError> {
        self.log.start_anew(at, epoch)
    }

    fn stop_appends(&mut self, pending: Pending) -> std::io::Result<()> {
        self.log.stop_appends(pending)
    }

    fn become_writer(&mut self, epoch: Epoch) -> std::io::Result<Opening> {
        self.log.become_writer(epoch)
    }

    fn damage_changes(&self) -> u64 {
        self.log.damage_changes()
    }

    fn damage(&self) -> Damage {
        self.log.damage()
    }

    fn repair(&mut self, offset: PhysicalOffset, bytes: &Bytes) -> Result<(), RepairError> {
        self.log.repair(offset, bytes)
    }

    fn pass_over(&mut self, given_up: &[Span]) {
        self.log.pass_over(given_up);
    }

    fn re_evaluate(&mut self) {
        self.log.re_evaluate();
    }
}
