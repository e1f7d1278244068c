//! Stores that follow one another, with their threads, on a real file system.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rocket_protocol::{PhysicalOffset, QueueId, RecordView};
use rocket_store::{
    Aside, CommitPolicy, CutError, Ends, LocalEnds, NoEvents, PutStatus, RecordsError, Store,
    StoreConfig,
};

use crate::support::{Tell, clock, message, read_all, send, small, topic};

const PATIENCE: Duration = Duration::from_secs(30);
const BODY_BYTES: usize = 30_000;

/// What replication would say.
#[derive(Default)]
struct Replica {
    confirm: AtomicU64,
    leads: AtomicBool,
    durable: Mutex<u64>,
    moved: Condvar,
}

impl CommitPolicy for Replica {
    fn ends(&self, local: LocalEnds) -> Ends {
        *self.durable.lock() = local.durable.0;
        self.moved.notify_all();
        let confirm = PhysicalOffset(self.confirm.load(Ordering::Acquire)).min(local.appended);
        Ends {
            committed: confirm,
            answered: confirm,
            visible: confirm,
        }
    }

    fn may_append(&self) -> Result<(), PutStatus> {
        if self.leads.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err(PutStatus::InSyncReplicasNotEnough)
        }
    }
}

struct Copy {
    replica: Arc<Replica>,
    store: Store<Tell>,
}

impl Copy {
    fn open(config: StoreConfig, confirm: u64) -> Self {
        let replica = Arc::new(Replica::default());
        replica.confirm.store(confirm, Ordering::Release);
        let policy = Arc::clone(&replica) as Arc<dyn CommitPolicy>;
        let opened = Store::open(config, clock(1_800_000_000_000), policy, Arc::new(NoEvents));
        Self {
            replica,
            store: opened.unwrap().0,
        }
    }

    fn end(&self) -> PhysicalOffset {
        self.store.positions().appended
    }

    fn confirm(&self, end: PhysicalOffset) {
        self.replica.confirm.fetch_max(end.0, Ordering::AcqRel);
        self.store.re_evaluate();
    }

    fn follow(&self, master: &Self, to: PhysicalOffset) {
        while self.end() < to {
            let records = master
                .store
                .read_records(self.end(), to, 256 << 10)
                .unwrap();
            let taken = self
                .store
                .append_copied(self.end(), records.file_end, &records.bytes);
            assert_eq!(taken.unwrap(), records.to);
        }
    }

    fn lead(&self) {
        self.confirm(self.end());
        self.store.become_writer().unwrap();
        self.replica.leads.store(true, Ordering::Release);
    }

    /// Messages with bodies of these bytes, one after another.
    fn send(&self, bytes: std::ops::Range<u8>) {
        for byte in bytes {
            let told = send(&self.store, &message("t", 0, vec![byte; BODY_BYTES], ""));
            let written = self.store.quiesce().unwrap();
            self.confirm(written);
            assert_eq!(told.recv_timeout(PATIENCE).unwrap().status, PutStatus::Ok);
        }
    }

    fn flushed(&self) {
        self.store.flush_now();
        let mut durable = self.replica.durable.lock();
        while *durable < self.end().0 {
            let waited = self.replica.moved.wait_for(&mut durable, PATIENCE);
            assert!(!waited.timed_out(), "it is flushed in time");
        }
    }

    fn bodies(&self) -> Vec<u8> {
        let records = read_all(&self.store, &topic("t"), QueueId(0));
        let body = |bytes| {
            let (view, _) = RecordView::parse(bytes).unwrap();
            assert!(view.body().iter().all(|byte| *byte == view.body()[0]));
            view.body()[0]
        };
        records.iter().map(|bytes| body(bytes)).collect()
    }
}

/// Where the records of a log begin, fillers too, and where it ends.
fn boundaries(copy: &Copy) -> Vec<PhysicalOffset> {
    let (mut at, end) = (copy.store.positions().min, copy.end());
    let mut all = vec![at];
    while at < end {
        at = copy.store.read_records(at, end, 1).unwrap().to;
        all.push(at);
    }
    all
}

#[test]
fn a_copy_follows_one_master_and_then_another_while_it_is_read() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let own = |index: usize, segment_bytes| StoreConfig {
        segment_bytes,
        ..small(dirs[index].path())
    };
    let first = Copy::open(own(0, 1 << 20), 0);
    first.lead();
    first.send(0..100);
    let slave = Copy::open(own(1, 3 << 20), 0);
    slave.follow(&first, first.end());
    slave.flushed();
    let all = boundaries(&slave);
    let (seen, common) = (all[30], all[50]);
    slave.confirm(seen);
    let second = Copy::open(own(2, 2 << 20), 0);
    second.follow(&slave, common);
    second.lead();
    second.send(150..250);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Acquire) {
                let bodies = slave.bodies();
                assert!(bodies.len() >= 29, "what was visible stays");
                let end = slave.end();
                match slave.store.read_records(common, end, 1 << 20) {
                    Ok(_) | Err(RecordsError::Nothing) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        slave
            .store
            .cut(common, 2, Aside::Kept { bytes_max: 1 << 20 })
            .unwrap();
        assert_eq!(slave.end(), common);
        slave.follow(&second, second.end());
        slave.flushed();
        slave.confirm(slave.end());
        is_over.store(true, Ordering::Release);
    });
    let expected = second.bodies();
    assert_eq!(slave.bodies(), expected);
    assert!(expected.ends_with(&(150..250).collect::<Vec<u8>>()));
    assert_eq!(boundaries(&slave), boundaries(&second));
    let confirm = slave.end().0;
    slave.store.close().unwrap();
    drop(slave);
    let slave = Copy::open(own(1, 3 << 20), confirm);
    assert_eq!(slave.bodies(), expected);
    // What was visible goes only over a restart.
    let error = slave.store.cut(seen, 3, Aside::Nothing).unwrap_err();
    assert!(matches!(error, CutError::NeedsRestart), "{error}");
    slave.store.close().unwrap();
    drop(slave);
    let slave = Copy::open(own(1, 3 << 20), seen.0);
    assert_eq!(slave.end(), seen);
    assert_eq!(slave.bodies(), expected[..slave.bodies().len()]);
    slave.lead();
    slave.send(7..8);
    assert_eq!(slave.bodies().last(), Some(&7));
    assert!(slave.store.damage().is_empty());
}
