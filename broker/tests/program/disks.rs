//! Disks that fail under the whole program, by the means of the system itself; the store's own tests do the same on the disk
//! in memory (the table is in `docs/storage.md`).

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rocket_protocol::header::{SendMessageHeader, SendMessageResponseHeader};
use rocket_protocol::{Command, HeaderFields as _, RequestCode, ResponseCode};
use rocket_remoting::{Client, ClientConfig, NoRequests};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::messages::pulled_body;
use crate::process::Running;

const PATIENCE: Duration = Duration::from_secs(20);
const BODY_BYTES: usize = 100_000;
/// The smallest log file and what fits it.
const SMALL: [&str; 4] = [
    "--set",
    "mappedFileSizeCommitLog=1048576",
    "--set",
    "maxMessageSize=200000",
];
/// What the process leaves with when its store has failed.
pub(crate) const STORE_FAILED: Option<i32> = Some(3);

/// One connection for many sends.
struct Producer(Client);

impl Producer {
    async fn to(broker: &Running) -> Self {
        let address = broker.address("broker");
        let connected = Client::connect(address, ClientConfig::default(), Arc::new(NoRequests));
        Self(connected.await.unwrap())
    }

    /// `None` when the connection ends before an answer comes.
    async fn send(&self, number: u64) -> Option<Command> {
        let header = SendMessageHeader {
            producer_group: "producers".into(),
            topic: "T".into(),
            default_topic: "TBW102".into(),
            default_topic_queue_nums: 1,
            born_timestamp: 1,
            ..SendMessageHeader::default()
        };
        let mut body = number.to_be_bytes().to_vec();
        body.resize(BODY_BYTES, b'.');
        let request = Command::request(RequestCode::SEND_MESSAGE)
            .with_header(&header)
            .with_body(body);
        self.0.call(request, PATIENCE).await.ok()
    }
}

/// Sets the soft limit; the hard one stays as the process has inherited it.
pub(crate) fn limit(broker: &Running, resource: Resource, current: Option<u64>) {
    let pid = Pid::from_raw(i32::try_from(broker.id()).unwrap());
    let maximum = getrlimit(resource).maximum;
    prlimit(pid, resource, Rlimit { current, maximum }).unwrap();
}

/// All that was acknowledged is there after a start: `expected` messages in one queue, in order.
async fn all_are_there(data: &Path, expected: u64) -> Running {
    let broker = Running::standalone(data, &SMALL);
    for number in 0..expected {
        let body = pulled_body(broker.address("broker"), i64::try_from(number).unwrap()).await;
        assert_eq!(body[..8], number.to_be_bytes());
    }
    broker
}

#[tokio::test]
async fn a_write_beyond_the_largest_file_is_final_and_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Running::standalone(
        folder.path(),
        &[&SMALL[..], &["--set", "flushDiskType=SYNC_FLUSH"]].concat(),
    );
    let producer = Producer::to(&broker).await;
    assert!(producer.send(0).await.is_some());
    limit(&broker, Resource::Fsize, Some(250_000));
    let mut acknowledged = 1;
    while let Some(answer) = producer.send(acknowledged).await
        && answer.response_code() == ResponseCode::SUCCESS
    {
        acknowledged += 1;
        assert!(acknowledged < 9, "the limit has no effect");
    }
    assert_eq!(broker.exit_status(), STORE_FAILED);
    let next = all_are_there(folder.path(), acknowledged).await;
    let metrics = next.http("/metrics").1;
    let told = |line: &str| {
        line.starts_with("rocket_store_recovered_from_failure{") && line.ends_with("} 1")
    };
    assert!(metrics.lines().any(told), "{metrics}");
}

#[tokio::test]
async fn a_folder_that_is_taken_away_is_final() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut broker = Running::standalone(&data, &SMALL);
    let producer = Producer::to(&broker).await;
    assert!(producer.send(0).await.is_some());
    std::fs::remove_dir_all(&data).unwrap();
    assert_eq!(broker.exit_status(), STORE_FAILED);
}

#[tokio::test]
async fn without_descriptors_for_another_file_sends_are_refused_and_taken_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Running::standalone(folder.path(), &SMALL);
    let producer = Producer::to(&broker).await;
    assert!(producer.send(0).await.is_some());
    let open = std::fs::read_dir(format!("/proc/{}/fd", broker.id()))
        .unwrap()
        .count();
    limit(
        &broker,
        Resource::Nofile,
        Some(u64::try_from(open).unwrap()),
    );
    let mut acknowledged = 1;
    let refused = loop {
        let answer = producer.send(acknowledged).await.unwrap();
        if answer.response_code() != ResponseCode::SUCCESS {
            break answer;
        }
        SendMessageResponseHeader::read(&answer.ext).unwrap();
        acknowledged += 1;
        assert!(acknowledged < 40, "the limit has no effect");
    };
    assert_eq!(
        refused.response_code(),
        ResponseCode::SERVICE_NOT_AVAILABLE,
        "{refused:?}"
    );
    limit(&broker, Resource::Nofile, Some(1024));
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = producer.send(acknowledged).await.unwrap();
        if answer.response_code() == ResponseCode::SUCCESS {
            break;
        }
        assert!(Instant::now() < end, "not taken up again: {answer:?}");
    }
    drop(broker);
    all_are_there(folder.path(), acknowledged + 1).await;
}
