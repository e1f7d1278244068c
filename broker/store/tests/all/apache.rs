//! Folders that Apache's broker 5.4.0 wrote: every message that it acknowledged is read, from where it said, with queues
//! and index; then the store goes on in the same folder.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rocket_protocol::message::hash::tags_code;
use rocket_protocol::message::property;
use rocket_protocol::{PhysicalOffset, QueueId, RecordView, UnixMillis};
use rocket_store::{PutStatus, Store, Unfinished, unfinished};
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

/// The size of the files of consume queues in the fixtures.
const QUEUE_FILE: u64 = 2_000;

/// Writes the first units of a queue in Apache's form; each with a tag.
fn write_queue(dir: &Path, topic: &str, tags: &[&str]) {
    let folder = dir.join("consumequeue").join(topic).join("0");
    std::fs::create_dir_all(&folder).unwrap();
    let units = tags.iter().flat_map(|tag| {
        let (at, size) = (0_u64.to_be_bytes(), 100_u32.to_be_bytes());
        [&at[..], &size[..], &tags_code(tag).to_be_bytes()[..]].concat()
    });
    let mut file: Vec<u8> = units.collect();
    file.resize(usize::try_from(QUEUE_FILE).unwrap(), 0);
    std::fs::write(folder.join("00000000000000000000"), file).unwrap();
}

/// Three transactions in each: one committed, one rolled back, one of which its producer does not know yet. The broker that was closed has noted
/// the first two, and asked for the third again.
#[test]
fn what_apache_has_not_finished_is_counted() {
    for (name, noted, transactions) in [
        ("apache-5.4.0-clean", Some(3), 1),
        ("apache-5.4.0-killed", None, 3),
    ] {
        let (dir, _) = unpack(name);
        let position = |topic: &str, group: &str, queue: QueueId| {
            let is_theirs = topic == "RMQ_SYS_TRANS_HALF_TOPIC" && group == "CID_RMQ_SYS_TRANS";
            noted.filter(|_| is_theirs && queue == QueueId(0))
        };
        let found = unfinished(dir.path(), QUEUE_FILE, &position).unwrap();
        let expected = Unfinished {
            transactions,
            ..Unfinished::default()
        };
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn timers_and_what_pop_gave_count_until_they_are_done_with() {
    let dir = tempfile::tempdir().unwrap();
    let none = |_: &str, _: &str, _: QueueId| None::<u64>;
    let count = |position: &dyn Fn(&str, &str, QueueId) -> Option<u64>| {
        unfinished(dir.path(), QUEUE_FILE, position).unwrap()
    };
    assert!(count(&none).is_nothing());
    write_queue(dir.path(), "rmq_sys_wheel_timer", &["", "", ""]);
    // What was given, its acknowledgement, and another one of which nothing was heard, but for what the next one has.
    let given = ["ck", "ack", "ck", "ack", "bAck"];
    write_queue(dir.path(), "rmq_sys_REVIVE_LOG_c", &given);
    let found = count(&none);
    assert_eq!((found.timers, found.pops), (3, 2));
    let revived = |at: u64| {
        move |topic: &str, group: &str, _: QueueId| {
            let is_revive = topic.starts_with("rmq_sys_REVIVE") && group.ends_with("REVIVE_GROUP");
            is_revive.then_some(at)
        }
    };
    assert_eq!(count(&revived(0)).pops, 1);
    // Acknowledgements behind the last one that is done with are no work.
    assert_eq!(count(&revived(2)).pops, 0);

    // Two of the three timers are on the wheel; one of these is delivered.
    let config = dir.path().join("config");
    std::fs::create_dir_all(&config).unwrap();
    let check = [5_000_i64, 0, 2, 2].map(i64::to_be_bytes).concat();
    std::fs::write(config.join("timercheck"), check).unwrap();
    let slot = |due_s: i64| [due_s, 0, 0, 1 << 32].map(i64::to_be_bytes).concat();
    std::fs::write(dir.path().join("timerwheel"), [slot(4), slot(6)].concat()).unwrap();
    assert_eq!(count(&none).timers, 2);
    // Nobody can tell what a file of another size holds.
    let other = unfinished(dir.path(), 4_000, &none).unwrap();
    assert_eq!((other.timers, other.pops), (2, 1));
}
