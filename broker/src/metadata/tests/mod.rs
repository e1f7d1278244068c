//! Metadata of a group on real stores: a master and a slave that follow one log, restarts, cuts, retention.
//!
//! A slave here is another folder of files that follows the same log: what replication copies is the log, and it is the same everywhere.

mod keeping;
mod leading;
mod making;
mod reaching;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rocket_protocol::body::{SubscriptionGroupConfig, TopicConfig};
use rocket_protocol::message::record::body_crc;
use rocket_protocol::{
    GroupName, Message, PhysicalOffset, QueueId, SysFlag, TopicName, UnixMillis,
};
use rocket_store::{
    Arrival, Clock, CommitPolicy, Ends, Flush, FlushFailure, LocalEnds, Promise, PutOutcome,
    PutStatus, Removed, Store, StoreConfig, StoreEvents,
};
use tempfile::TempDir;

use super::*;
use crate::crew::Alarm;
use crate::processor::PendingSend;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
/// No test waits this long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);
const Q: QueueId = QueueId(0);

struct Noon;

impl Clock for Noon {
    fn now(&self) -> UnixMillis {
        NOW
    }
}

/// Everything counts as soon as it is appended, and is visible to a limit.
struct Limit(AtomicU64);

impl CommitPolicy for Limit {
    fn ends(&self, local: LocalEnds) -> Ends {
        let limit = PhysicalOffset(self.0.load(Ordering::SeqCst));
        let visible = local.appended.min(limit);
        Ends {
            committed: visible,
            answered: local.appended,
            visible,
        }
    }

    fn may_append(&self) -> Result<(), PutStatus> {
        Ok(())
    }
}

struct Events(Wake);

impl StoreEvents for Events {
    fn arrived(&self, arrivals: &[Arrival]) {
        self.0.arrived(arrivals);
    }
    fn is_awaited(&self) -> bool {
        self.0.is_awaited()
    }
    fn failed(&self, failure: &FlushFailure) {
        panic!("{failure:?}");
    }
    fn removed(&self, _: &Removed) {}
}

/// A log, and whose it is.
struct World {
    dir: TempDir,
    limit: Arc<Limit>,
    wake: Wake,
    store: Arc<BrokerStore>,
}

impl World {
    fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap(), config())
    }

    fn on(dir: TempDir, config: StoreConfig) -> Self {
        let limit = Arc::new(Limit(AtomicU64::new(u64::MAX)));
        let wake = Wake::default();
        let config = StoreConfig {
            dir: dir.path().join("store"),
            ..config
        };
        let opened = Store::open(
            config,
            Arc::new(Noon),
            Arc::clone(&limit) as _,
            Arc::new(Events(wake.clone())),
        );
        let store = Arc::new(opened.unwrap().0);
        assert!(store.catch_up());
        Self {
            dir,
            limit,
            wake,
            store,
        }
    }

    /// What is beside the log under this name.
    fn replica(&self, name: &str) -> Metadata {
        let dir = self.dir.path().join(name);
        let config = BrokerConfig::default();
        Metadata::open_replica(&dir, &config, NOW, &self.store, self.wake.clone()).unwrap()
    }

    fn master(&self) -> Master {
        let metadata = Arc::new(self.replica("master"));
        let following = metadata
            .follow(Alarm::new(|what| panic!("{what}")))
            .unwrap();
        metadata.lead(NOW, PATIENCE).unwrap();
        Master {
            metadata,
            following,
        }
    }

    /// A replica that applied all that is visible.
    fn slave(&self, name: &str) -> Metadata {
        let slave = self.replica(name);
        drain(&slave);
        slave
    }

    /// The store is closed and opened again.
    fn again(self) -> Self {
        self.again_with(config())
    }

    fn again_with(self, config: StoreConfig) -> Self {
        self.store.close().unwrap();
        let dir = self.dir;
        drop(self.store);
        Self::on(dir, config)
    }

    fn show(&self, limit: u64) {
        self.limit.0.store(limit, Ordering::SeqCst);
        self.store.re_evaluate();
    }

    fn end(&self) -> u64 {
        self.store.positions().appended.0
    }

    fn send(&self, topic: &str, body: &[u8]) {
        let message = Message {
            topic: TopicName::parse(topic).unwrap(),
            queue_id: Q,
            flag: 0,
            sys_flag: SysFlag(0),
            born_timestamp: UnixMillis(1),
            born_host: "127.0.0.1:1".parse().unwrap(),
            store_host: "127.0.0.1:2".parse().unwrap(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body_crc: body_crc(body),
            body: body.to_vec().into(),
            properties: "".into(),
        };
        let nobody = PendingSend::Broker(Box::new(|_: PutOutcome| ()));
        let taken = self
            .store
            .append(&[message.as_ref()], Promise::Kept, nobody);
        assert!(taken.is_ok());
        self.store.write_out();
        self.written();
    }

    /// Waits until all that was appended is written: another thread may be at it.
    fn written(&self) {
        until(|| self.store.stats().pending == 0);
    }

    /// What moved is told to the log.
    fn tell(&self, metadata: &Metadata) {
        metadata.flush(NOW).unwrap();
        self.written();
    }

    /// First and last queue offset of a topic that can be seen.
    fn range(&self, topic: &str) -> (u64, u64) {
        let topic = TopicName::parse(topic).unwrap();
        let range = self.store.queue_range(&topic, Q).unwrap();
        (range.min.0, range.max.0)
    }
}

/// A replica that leads, with its thread.
struct Master {
    metadata: Arc<Metadata>,
    following: Following,
}

impl Master {
    fn put(&self, topic: &str) -> Result<(), FileError> {
        let config = TopicConfig::default();
        self.metadata
            .topics
            .update([(TopicName::parse(topic).unwrap(), config)], NOW)
    }

    fn put_group(&self, group: &str) {
        let config = SubscriptionGroupConfig::default();
        let name = GroupName::parse(group).unwrap();
        self.metadata.groups.update([(name, config)], NOW).unwrap();
    }

    /// Waits until it has applied all that is in the log.
    fn applied(&self) {
        let replica = self.metadata.replica.as_ref().unwrap();
        until(|| replica.is_at_end());
    }

    /// Writes what it has beside the log, as it does now and then.
    fn keep(&self) {
        let replica = self.metadata.replica.as_ref().unwrap();
        self.metadata.save_cache(replica, NOW).unwrap();
    }

    /// All ends as at an orderly stop.
    fn stop(self) {
        drop(self.following);
        self.metadata.close(NOW).unwrap();
    }
}

/// Small files, and a retention that the tests ask for by their size.
fn config() -> StoreConfig {
    StoreConfig {
        segment_bytes: 64 << 10,
        index_slots: 100,
        index_entries: 400,
        flush: Flush::Async,
        flush_interval: Duration::from_millis(10),
        ..StoreConfig::default()
    }
}

fn drain(metadata: &Metadata) {
    while metadata.step().unwrap() {}
}

fn commit(metadata: &Metadata, topic: &str, group: &str, offset: i64) {
    let (topic, group) = (
        TopicName::parse(topic).unwrap(),
        GroupName::parse(group).unwrap(),
    );
    assert!(metadata.offsets.commit(&topic, &group, Q, offset));
}

fn until(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "in vain");
        std::thread::yield_now();
    }
}

/// All of a replica's state.
fn state(metadata: &Metadata) -> super::state::State {
    let replica = metadata.replica.as_ref().unwrap();
    let _follower = replica.follower.lock();
    metadata.capture(replica, 0)
}

#[test]
fn positions_of_delay_levels_are_written_when_those_of_groups_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let config = BrokerConfig::default();
    let metadata = Metadata::open(dir.path(), &config, UnixMillis(0)).unwrap();
    commit(&metadata, "t", "g", 1);
    metadata.delay.set(2, 7);
    // A folder where the file is made.
    std::fs::create_dir(dir.path().join("config/consumerOffset.json.tmp")).unwrap();
    assert!(metadata.flush(UnixMillis(1)).is_err());
    let config = dir.path().join("config");
    assert_eq!(DelayOffsets::open(&config).unwrap().get(2), 7);
}
