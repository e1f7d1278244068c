//! Folders that Apache's broker 5.4.0 wrote: every message that it acknowledged is read, from where it said, with queues
//! and index; then the store goes on in the same folder.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rocket_protocol::message::property;
use rocket_protocol::{PhysicalOffset, QueueId, RecordView, UnixMillis};
use rocket_store::{PutStatus, Store};
use serde_json::Value;

use crate::support::{Tell, message, open, read_all, send, small, topic};

fn fixtures() -> &'static Path {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/store"
    ))
}

fn unpack(name: &str) -> (tempfile::TempDir, Value) {
    let dir = tempfile::tempdir().unwrap();
    let archive = fixtures().join(format!("{name}.tar.gz"));
    let status = Command::new("tar")
        .arg("xzf")
        .arg(&archive)
        .arg("-C")
        .arg(dir.path())
        .status()
        .unwrap();
    assert!(status.success(), "tar cannot unpack {}", archive.display());
    let manifest = std::fs::read(fixtures().join(format!("{name}.json"))).unwrap();
    (dir, serde_json::from_slice(&manifest).unwrap())
}

fn number(value: &Value, name: &str) -> i64 {
    value[name].as_i64().unwrap()
}

/// Compares every queue with the manifest. Returns how many messages that were.
fn compare(store: &Store<Tell>, manifest: &Value) -> usize {
    let mut count = 0;
    for queue in manifest["queues"].as_array().unwrap() {
        let name = topic(queue["topic"].as_str().unwrap());
        let id = QueueId(u32::try_from(number(queue, "queue")).unwrap());
        let expected = queue["messages"].as_array().unwrap();
        let Some(range) = store.queue_range(&name, id) else {
            assert!(expected.is_empty(), "{name} {id} is missing");
            continue;
        };
        assert_eq!(
            (range.min.to_wire(), range.max.to_wire()),
            (number(queue, "min"), number(queue, "max")),
            "{name} {id}"
        );
        let records = read_all(store, &name, id);
        assert_eq!(records.len(), expected.len(), "{name} {id}");
        for (record, expected) in records.iter().zip(expected) {
            compare_record(store, record, expected);
        }
        count += records.len();
    }
    count
}

fn compare_record(store: &Store<Tell>, record: &[u8], expected: &Value) {
    let (view, len) = RecordView::parse(record).unwrap();
    assert_eq!(view.queue_offset().to_wire(), number(expected, "offset"));
    assert_eq!(
        view.physical_offset().to_wire(),
        number(expected, "physical")
    );
    assert_eq!(i64::try_from(len).unwrap(), number(expected, "size"));
    assert_eq!(view.store_timestamp().0, number(expected, "store_time"));
    assert_eq!(
        i64::try_from(view.body().len()).unwrap(),
        number(expected, "body_size")
    );
    assert_eq!(
        i64::from(view.body_crc()),
        number(expected, "body_crc") & 0x7fff_ffff
    );
    assert_eq!(
        view.property(property::TAGS).unwrap_or_default(),
        expected["tags"].as_str().unwrap_or_default()
    );
    assert_eq!(
        store.record_at(view.physical_offset()).as_deref(),
        Some(record)
    );
    if let Some(key) = expected["uniq_key"].as_str().filter(|key| !key.is_empty()) {
        let found = store.query(
            &topic(view.topic()),
            key,
            32,
            UnixMillis(0),
            UnixMillis(i64::MAX),
        );
        assert!(
            found.records.iter().any(|found| found == record),
            "{key} is not found"
        );
    }
}

/// Appends one message and finds it where the queue ended.
fn append_one(store: &Store<Tell>) {
    let name = topic("fixture_orders");
    let end = store.queue_range(&name, QueueId(0)).unwrap().max;
    let told = send(
        store,
        &message("fixture_orders", 0, "ours", "KEYS\u{1}mine\u{2}"),
    );
    let outcome = told.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(outcome.status, PutStatus::Ok);
    assert_eq!(outcome.appended.unwrap().queue_offset, end);
}

fn opens_and_goes_on(name: &str) {
    let (dir, manifest) = unpack(name);
    let store = open(small(dir.path()));
    let count = compare(&store, &manifest);
    assert!(count > 600, "{count}");
    append_one(&store);
    store.close().unwrap();
    drop(store);
    assert!(!dir.path().join("abort").exists());

    let store = open(small(dir.path()));
    let name = topic("fixture_orders");
    let records = read_all(&store, &name, QueueId(0));
    let (last, _) = RecordView::parse(records.last().unwrap()).unwrap();
    assert_eq!(last.body(), b"ours");
    assert_eq!(
        store
            .query(&name, "mine", 1, UnixMillis(0), UnixMillis(i64::MAX))
            .records
            .len(),
        1
    );
    assert!(store.positions().appended > PhysicalOffset(0));
}

#[test]
fn a_folder_that_apache_closed_opens() {
    opens_and_goes_on("apache-5.4.0-clean");
}

#[test]
fn a_folder_of_a_killed_apache_opens() {
    opens_and_goes_on("apache-5.4.0-killed");
}

/// Its queues cannot be read then, and are built from the log.
#[test]
fn a_folder_of_a_killed_apache_opens_with_another_size_of_its_queues_files() {
    for bytes in [1000, 4000, 6_000_000] {
        let (dir, manifest) = unpack("apache-5.4.0-killed");
        let mut config = small(dir.path());
        config.consume_queue_file_bytes = bytes;
        let store = open(config);
        assert!(compare(&store, &manifest) > 600);
    }
}
