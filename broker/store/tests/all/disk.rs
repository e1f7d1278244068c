//! The store with its threads on a real file system.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use rocket_protocol::{QueueId, RecordView, UnixMillis};
use rocket_store::{
    Arrival, Flush, FlushFailure, GetStatus, Health, LocalPolicy, NoEvents, OpenError, PutStatus,
    ReadLimits, Removed, Store, StoreEvents,
};

use crate::support::{Tell, clock, message, open, read_all, send, send_batch, small, topic};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn messages_of_many_senders_are_grouped_into_few_flushes_and_survive_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(small(dir.path()));
    let (rounds, at_once) = (20_u32, 64_u32);
    for round in 0..rounds {
        let bodies = (0..at_once).map(|sender| format!("{round}-{sender}"));
        let told: Vec<_> = bodies
            .map(|body| send(&store, &message("t", round % 4, body, "")))
            .collect();
        for told in told {
            assert_eq!(told.recv_timeout(PATIENCE).unwrap().status, PutStatus::Ok);
        }
    }
    let stats = store.stats();
    assert_eq!(stats.messages_appended, u64::from(rounds * at_once));
    assert!(stats.flushes < u64::from(rounds * at_once) / 4, "{stats:?}");
    assert_eq!(stats.pending, 0);
    store.close().unwrap();
    drop(store);
    let policy = Arc::new(LocalPolicy { flush: Flush::Sync });
    let opened = Store::<Tell>::open(small(dir.path()), clock(1), policy, Arc::new(NoEvents));
    let (store, report) = opened.unwrap();
    assert!(report.clean && !report.tail_cut, "{report:?}");
    assert_eq!(
        report.records_scanned, 0,
        "what was secured is not read again"
    );
    let counts: Vec<_> = (0..4)
        .map(|queue| read_all(&store, &topic("t"), QueueId(queue)).len())
        .collect();
    assert_eq!(counts, [320; 4]);
}

#[test]
fn a_store_that_was_dropped_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(small(dir.path()));
    let body = vec![7; 100_000];
    for _ in 0..25 {
        send(&store, &message("t", 0, body.clone(), ""))
            .recv_timeout(PATIENCE)
            .unwrap();
    }
    drop(store);
    assert!(dir.path().join("abort").exists());
    let policy = Arc::new(LocalPolicy { flush: Flush::Sync });
    let opened = Store::<Tell>::open(small(dir.path()), clock(1), policy, Arc::new(NoEvents));
    let (store, report) = opened.unwrap();
    assert!(!report.clean);
    let records = read_all(&store, &topic("t"), QueueId(0));
    assert_eq!(records.len(), 25);
    assert!(
        records
            .iter()
            .all(|record| RecordView::parse(record).unwrap().0.body() == body)
    );
}

#[test]
fn a_second_store_in_the_same_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(small(dir.path()));
    let policy = Arc::new(LocalPolicy { flush: Flush::Sync });
    let second = Store::<Tell>::open(small(dir.path()), clock(1), policy, Arc::new(NoEvents));
    assert!(matches!(second, Err(OpenError::Locked)));
}

#[test]
fn a_batch_has_consecutive_offsets() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(small(dir.path()));
    let batch: Vec<_> = (0..5)
        .map(|n| message("t", 0, format!("{n}"), ""))
        .collect();
    let outcome = send_batch(&store, &batch).recv_timeout(PATIENCE).unwrap();
    let appended = outcome.appended.unwrap();
    assert_eq!(
        (
            appended.queue_offset.0,
            appended.count,
            appended.physical_offsets.len()
        ),
        (0, 5, 5)
    );
    store.close().unwrap();
    assert_eq!(store.health(), Health::Closing);
    let bodies: Vec<_> = read_all(&store, &topic("t"), QueueId(0))
        .iter()
        .map(|record| RecordView::parse(record).unwrap().0.body().to_vec())
        .collect();
    assert_eq!(bodies, [b"0", b"1", b"2", b"3", b"4"]);
}

#[test]
fn a_deleted_topic_begins_anew_and_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(small(dir.path()));
    for _ in 0..3 {
        send(&store, &message("t", 0, "old", ""))
            .recv_timeout(PATIENCE)
            .unwrap();
    }
    store.delete_topic(&topic("t")).unwrap();
    assert_eq!(store.queue_range(&topic("t"), QueueId(0)), None);
    let outcome = send(&store, &message("t", 0, "new", ""))
        .recv_timeout(PATIENCE)
        .unwrap();
    assert_eq!(outcome.appended.unwrap().queue_offset.0, 0);
    drop(store);
    let store = open(small(dir.path()));
    let records = read_all(&store, &topic("t"), QueueId(0));
    assert_eq!(records.len(), 1);
    assert_eq!(RecordView::parse(&records[0]).unwrap().0.body(), b"new");
}

#[test]
fn an_exported_folder_opens_with_all_messages() {
    let dir = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("store");
    let store = open(small(dir.path()));
    for n in 0..40 {
        send(&store, &message("t", 0, format!("{n}"), ""))
            .recv_timeout(PATIENCE)
            .unwrap();
    }
    assert!(
        rocket_store::export::to_apache_layout(dir.path(), &target).is_err(),
        "the store is open"
    );
    store.close().unwrap();
    drop(store);
    let report = rocket_store::export::to_apache_layout(dir.path(), &target).unwrap();
    assert!(report.files >= 3, "{report:?}");
    assert!(!target.join("rocket").exists() && !target.join("abort").exists());
    let queue_file = target.join("consumequeue/t/0/00000000000000000000");
    assert_eq!(
        std::fs::metadata(queue_file).unwrap().len(),
        2000,
        "of the size that the store was configured with"
    );
    let exported = open(small(&target));
    assert_eq!(read_all(&exported, &topic("t"), QueueId(0)).len(), 40);
}

#[test]
fn messages_are_found_by_time_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(small(dir.path()));
    for n in 0..3 {
        let properties = format!("KEYS\u{1}a{n} all\u{2}");
        send(&store, &message("t", 0, "b", &properties))
            .recv_timeout(PATIENCE)
            .unwrap();
    }
    store.close().unwrap();
    let found = store.query(&topic("t"), "all", 2, UnixMillis(0), UnixMillis(i64::MAX));
    assert_eq!(found.records.len(), 2);
    assert_eq!(
        store
            .query(&topic("t"), "a1", 9, UnixMillis(0), UnixMillis(i64::MAX))
            .records
            .len(),
        1
    );
    assert_eq!(
        store
            .query(&topic("u"), "a1", 9, UnixMillis(0), UnixMillis(i64::MAX))
            .records
            .len(),
        0
    );
}

/// Nobody waits for arrivals, so that the store dispatches when it likes.
struct NobodyWaits(mpsc::Sender<()>);

impl StoreEvents for NobodyWaits {
    fn arrived(&self, _: &[Arrival]) {
        // The test may have heard enough.
        let _ = self.0.send(());
    }
    fn is_awaited(&self) -> bool {
        false
    }
    fn failed(&self, _: &FlushFailure) {}
    fn removed(&self, _: &Removed) {}
}

#[test]
fn who_saw_a_message_acknowledged_finds_it_at_once_by_every_way_of_asking() {
    let dir = tempfile::tempdir().unwrap();
    let policy = Arc::new(LocalPolicy { flush: Flush::Sync });
    let events = Arc::new(NobodyWaits(mpsc::channel().0));
    let (store, _) = Store::<Tell>::open(small(dir.path()), clock(1), policy, events).unwrap();
    let (topic, queue) = (topic("t"), QueueId(0));
    let limits = ReadLimits {
        messages_max: 32,
        bytes_max: 1 << 20,
    };
    for n in 0..400_i64 {
        let properties = format!("KEYS\u{1}k{n}");
        let told = send(&store, &message("t", 0, "body", &properties));
        assert_eq!(told.recv_timeout(PATIENCE).unwrap().status, PutStatus::Ok);
        match n % 4 {
            0 => {
                let got = store.get(&topic, queue, n, limits, &|_, _| true);
                assert_eq!((got.status, got.messages), (GetStatus::Found, 1));
            }
            1 => {
                let both = (limits, limits);
                let got = store.get_in_memory(&topic, queue, n, both, &|_, _| true);
                assert_eq!(got.unwrap().status, GetStatus::Found);
            }
            2 => {
                let range = store.queue_range(&topic, queue).unwrap();
                assert_eq!(range.max.to_wire(), n + 1);
            }
            _ => {
                let (begin, end) = (UnixMillis(0), UnixMillis(i64::MAX));
                let found = store.query(&topic, &format!("k{n}"), 9, begin, end);
                assert_eq!(found.records.len(), 1);
            }
        }
    }
}

#[test]
fn what_nobody_asks_for_is_dispatched_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let policy = Arc::new(LocalPolicy { flush: Flush::Sync });
    let (dispatched, is_dispatched) = mpsc::channel();
    let events = Arc::new(NobodyWaits(dispatched));
    let (store, _) = Store::<Tell>::open(small(dir.path()), clock(1), policy, events).unwrap();
    let told = send(&store, &message("t", 0, "body", ""));
    told.recv_timeout(PATIENCE).unwrap();
    is_dispatched.recv_timeout(PATIENCE).unwrap();
    assert_eq!(store.positions().dispatched, store.positions().committed);
}
