//! The program on a real file system of 256 MiB that fills up, in a mount namespace of the test's own.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::Duration;

use rocket_protocol::body::TopicConfig;
use rocket_protocol::header::{
    CreateTopicHeader, GetMaxOffsetHeader, OffsetResponseHeader, UpdateConsumerOffsetHeader,
};
use rocket_protocol::{Command, HeaderFields, RequestCode, ResponseCode};
use rustix::process::Signal;

use crate::messages::{ask, pull, send};
use crate::process::Running;

const PATIENCE: Duration = Duration::from_mins(1);
/// Where the small file system is, for the test when it runs inside of the namespace.
const PLACE: &str = "ROCKET_SMALL_DISK";
const NAME: &str = "full_disk::a_full_disk_refuses_messages_keeps_metadata_and_recovers_by_itself";
const MIB: u64 = 1 << 20;
static BODY: [u8; 1 << 20] = [b'x'; 1 << 20];

#[test]
fn a_full_disk_refuses_messages_keeps_metadata_and_recovers_by_itself() {
    if let Some(place) = std::env::var_os(PLACE) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(fill(&PathBuf::from(place)));
    }
    let place = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=256m none \"$1\" || exit 77; exec \"$2\" --exact \"$3\" --nocapture";
    let program = std::env::current_exe().unwrap();
    let inside = Process::new("unshare")
        .args(["--mount", "sh", "-c", mount, "sh"])
        .arg(place.path())
        .arg(program)
        .arg(NAME)
        .env(PLACE, place.path())
        .output();
    let output = match inside {
        Ok(output) => output,
        Err(error) => return skip(&error.to_string()),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) || said.starts_with("unshare:") {
        return skip(&said);
    }
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}\n{said}");
    assert!(shown.contains("1 passed"), "it did not run: {shown}");
}

#[expect(clippy::print_stderr, reason = "a test that shows nothing must say so")]
fn skip(why: &str) {
    eprintln!("SKIPPED, so a full disk was not shown: no file system can be mounted here: {why}");
}

fn start(place: &Path) -> Running {
    let settings = [
        "mappedFileSizeCommitLog=16777216",
        "metadataReserveBytes=33554432",
        "cleanFileForciblyEnable=false",
        "cleanResourceInterval=100",
        "flushConsumerOffsetInterval=100",
        "flushDiskType=SYNC_FLUSH",
    ];
    let sets: Vec<&str> = settings.iter().flat_map(|key| ["--set", key]).collect();
    Running::standalone(&place.join("data"), &sets)
}

async fn code(broker: &str, code: RequestCode, header: &impl HeaderFields) -> ResponseCode {
    ask(broker, code, header, b"").await.response_code()
}

async fn send_one(broker: &str) -> Command {
    ask(broker, RequestCode::SEND_MESSAGE, &send("T"), &BODY).await
}

fn topic(name: &'static str) -> CreateTopicHeader {
    let defaults = TopicConfig::default();
    CreateTopicHeader {
        topic: name.into(),
        default_topic: "TBW102".into(),
        read_queue_nums: 1,
        write_queue_nums: 1,
        perm: defaults.perm,
        topic_filter_type: "SINGLE_TAG".into(),
        ..CreateTopicHeader::default()
    }
}

async fn make_topic(broker: &str, name: &'static str) -> ResponseCode {
    code(broker, RequestCode::UPDATE_AND_CREATE_TOPIC, &topic(name)).await
}

/// Sends until a message is refused; how many were taken.
async fn send_until_refused(broker: &str) -> i64 {
    let mut taken = 0;
    loop {
        let answer = send_one(broker).await;
        match answer.response_code() {
            ResponseCode::SUCCESS => taken += 1,
            ResponseCode::SERVICE_NOT_AVAILABLE => return taken,
            other => panic!("{other}: {:?}", answer.remark),
        }
        assert!(taken < 300, "the disk is never full");
    }
}

async fn end_of_queue(broker: &str) -> i64 {
    let header = GetMaxOffsetHeader {
        topic: "T".into(),
        queue_id: 0,
        ..GetMaxOffsetHeader::default()
    };
    let answer = ask(broker, RequestCode::GET_MAX_OFFSET, &header, b"").await;
    answer.header::<OffsetResponseHeader>().unwrap().offset
}

/// Waits until `is_so` of what is asked again and again.
async fn until<F: Future<Output = bool>>(is_so: impl Fn() -> F) {
    let asked = async { while !is_so().await {} };
    tokio::time::timeout(PATIENCE, asked).await.unwrap();
}

fn available(place: &Path) -> u64 {
    let stat = rustix::fs::statvfs(place).unwrap();
    stat.f_bavail * stat.f_frsize
}

/// Takes room away as somebody else would.
fn ballast(place: &Path, name: &str, bytes: u64) -> PathBuf {
    let path = place.join(name);
    fs::write(&path, vec![1; usize::try_from(bytes).unwrap()]).unwrap();
    path
}

/// Takes all the room that there is, while the broker takes some of it, too.
fn fill_up(place: &Path, name: &str) -> PathBuf {
    let path = place.join(name);
    let mut file = fs::File::create(&path).unwrap();
    loop {
        match file.write(&[1; 4096]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return path,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn fill(place: &Path) {
    let held = ballast(place, "held", 48 * MIB);
    let process = start(place);
    let broker = process.address("broker").to_owned();
    let mut taken = send_until_refused(&broker).await;
    assert!(taken > 50, "{taken}");
    let left = available(place);
    assert!(left >= 16 * MIB, "{left} bytes are left for metadata");

    // Topics, groups and positions are written as ever.
    assert_eq!(make_topic(&broker, "made").await, ResponseCode::SUCCESS);
    let pulled = code(
        &broker,
        RequestCode::PULL_MESSAGE,
        &pull("T", 0, Duration::ZERO),
    )
    .await;
    assert_eq!(pulled, ResponseCode::SUCCESS);
    let commit = UpdateConsumerOffsetHeader {
        consumer_group: "consumers".into(),
        topic: "T".into(),
        queue_id: 0,
        commit_offset: 7,
    };
    let committed = code(&broker, RequestCode::UPDATE_CONSUMER_OFFSET, &commit).await;
    assert_eq!(committed, ResponseCode::SUCCESS);
    let positions = place.join("data/config/consumerOffset.json");
    until(|| async {
        // Asked between the looks, so that each of them is a round trip apart.
        end_of_queue(&broker).await;
        fs::read_to_string(&positions).is_ok_and(|text| text.replace('"', "").contains("0:7"))
    })
    .await;

    // Somebody takes the rest: a topic cannot be made and is not there, and then it can.
    let rest = fill_up(place, "rest");
    let refused = make_topic(&broker, "unlucky").await;
    assert_eq!(refused, ResponseCode::SYSTEM_ERROR);
    fs::remove_file(rest).unwrap();
    assert_eq!(make_topic(&broker, "unlucky").await, ResponseCode::SUCCESS);

    // A process that is killed then comes back with everything.
    process.signal(Signal::KILL);
    drop(process);
    let mut process = start(place);
    let broker = process.address("broker").to_owned();
    assert_eq!(end_of_queue(&broker).await, taken);
    let topics = fs::read_to_string(place.join("data/config/topics.json")).unwrap();
    assert!(topics.contains("made") && topics.contains("unlucky"));

    // Room comes back, and messages are taken again by themselves.
    fs::remove_file(held).unwrap();
    until(|| async { send_one(&broker).await.response_code() == ResponseCode::SUCCESS }).await;
    taken += 1;
    // An answer may come a little before the message is in its queue.
    until(|| async { end_of_queue(&broker).await >= taken }).await;
    assert_eq!(end_of_queue(&broker).await, taken);
    process.signal(Signal::TERM);
    assert_eq!(process.exit_status(), Some(0));
}
