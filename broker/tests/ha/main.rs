//! A group of three replicas in one process: true stores in folders, true links over loopback, a coordinator in a folder,
//! elections among themselves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on ends by panicking"
)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rocket_broker::ha::{Group, Setup, inbox};
use rocket_coordinator::file::FileCoordinator;
use rocket_ha::{Answers, Board, Found, GroupPolicy, Held, Options, SelfElection, Timing};
use rocket_link::Secret;
use rocket_mapped_file::disk::DiskDirectory;
use rocket_protocol::message::record::body_crc;
use rocket_protocol::{Message, QueueId, RecordView, SysFlag, TopicName, UnixMillis};
use rocket_replication::messages::RoleName;
use rocket_replication::mutations::Mutations;
use rocket_replication::replica::{Settings, Writes};
use rocket_replication::{GroupUid, PhysicalOffset, Proposal, State};
use rocket_store::{
    Clock, Flush, NoEvents, Promise, PutOutcome, PutStatus, QueueLogConfig, ReadLimits, Store,
    StoreConfig,
};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

const PATIENCE: Duration = Duration::from_mins(1);

type Done = Box<dyn FnOnce(PutOutcome) + Send>;

struct Clocks(Instant);

impl Clock for Clocks {
    fn now(&self) -> UnixMillis {
        rocket_broker::clock::now()
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

struct Replica {
    folder: PathBuf,
    group: Group,
    store: Arc<Store<Done>>,
}

impl Replica {
    async fn start(folder: &Path, common: &Path) -> Self {
        let board = Arc::new(Board::default());
        let policy = GroupPolicy::new(Arc::clone(&board), Flush::Sync, Answers::Committed);
        let config = StoreConfig {
            dir: folder.to_owned(),
            segment_bytes: 16 << 10,
            queue_log: QueueLogConfig {
                file_bytes: 20_000,
                journal_bytes: 10_000,
                extent_units: 4,
                table_units: 30,
            },
            index_slots: 16,
            index_entries: 64,
            ..StoreConfig::default()
        };
        let dir = Arc::new(DiskDirectory::open(folder).unwrap());
        let clocks = Arc::new(Clocks(Instant::now()));
        let (store, report) = Store::open_in(
            Arc::clone(&dir) as _,
            config,
            clocks,
            Arc::new(policy),
            Arc::new(NoEvents),
        )
        .unwrap();
        let store = Arc::new(store);
        let first = State::new(GroupUid(rand::random()), 2, Proposal(rand::random()));
        let coordinator = FileCoordinator::open(common, first, &TaskTracker::new())
            .await
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = Settings {
            flush: rocket_replication::replica::Flush::Sync,
            address: listener.local_addr().unwrap().to_string(),
            window_bytes_max: 64 << 10,
        };
        let setup = Setup {
            options: Options {
                settings,
                timing: Timing::default(),
                answers: Answers::Committed,
                self_election: Some(SelfElection {
                    patience_ms: 300,
                    expected_replicas: 3,
                    ..SelfElection::default()
                }),
                data_bytes_target: 8 << 10,
                mutations: Mutations::default(),
            },
            held: Held::Refuse,
            found: Found {
                damaged: report.damaged_ranges > 0,
                confirm: report.confirm.max(store.positions().dispatched),
            },
            disk_fail_window: Duration::ZERO,
            residence: Arc::default(),
            dir: dir as _,
            store: Arc::clone(&store),
            board,
            quarantine_bytes_max: 1 << 20,
            coordinator: Arc::new(coordinator),
            register: None,
            writer: Arc::default(),
            listener,
            secret: Secret::new(b"a secret of this test alone"),
        };
        let group = Group::start(setup, inbox()).unwrap();
        Self {
            folder: folder.to_owned(),
            group,
            store,
        }
    }

    async fn becomes(&self, wanted: impl Fn(RoleName) -> bool) {
        let mut standing = self.group.standing();
        let became = standing.wait_for(|standing| wanted(standing.role));
        tokio::time::timeout(PATIENCE, became)
            .await
            .unwrap()
            .unwrap();
    }

    /// Sends message `number`; whoever waits is told its outcome.
    fn send(&self, number: u64) -> oneshot::Receiver<PutOutcome> {
        let (tell, told) = oneshot::channel();
        let done: Done = Box::new(move |outcome| drop(tell.send(outcome)));
        let mut body = number.to_be_bytes().to_vec();
        body.resize(700, 7);
        let here = SocketAddr::from(([127, 0, 0, 1], 10_911));
        let message = Message {
            topic: topic(),
            queue_id: QueueId(0),
            flag: 0,
            sys_flag: SysFlag(0),
            born_timestamp: UnixMillis(1),
            born_host: here,
            store_host: here,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body_crc: body_crc(&body),
            body: body.into(),
            properties: Bytes::new(),
        };
        let refused = self.store.append(&[message.as_ref()], Promise::Kept, done);
        if let Err(refused) = refused {
            let (done, status) = refused.into_parts();
            done(PutOutcome {
                status,
                appended: None,
            });
        }
        self.store.write_out();
        told
    }

    /// The numbers of all messages that a consumer gets, in order.
    fn consumed(&self) -> Vec<u64> {
        let limits = ReadLimits {
            messages_max: 32,
            bytes_max: 1 << 20,
        };
        let mut numbers = Vec::new();
        loop {
            let from = i64::try_from(numbers.len()).unwrap();
            let got = self
                .store
                .get(&topic(), QueueId(0), from, limits, &|_, _| true);
            if got.messages == 0 {
                return numbers;
            }
            for chunk in got.chunks {
                let mut rest = &chunk[..];
                while !rest.is_empty() {
                    let (view, len) = RecordView::parse(rest).unwrap();
                    numbers.push(u64::from_be_bytes(view.body()[..8].try_into().unwrap()));
                    rest = &rest[len..];
                }
            }
        }
    }

    /// As a killed process leaves it.
    async fn killed(self) -> PathBuf {
        self.group.abandon().await;
        self.folder
    }

    async fn stopped(self) -> PathBuf {
        let mark = self.group.stop().await;
        self.store.close().unwrap();
        self.group.vouch(&mark.unwrap()).unwrap();
        self.folder
    }
}

fn topic() -> TopicName {
    TopicName::parse("orders").unwrap()
}

/// The one that takes sends, as soon as one does.
async fn master(replicas: &[Replica]) -> usize {
    let mut waiting = JoinSet::new();
    for (n, replica) in replicas.iter().enumerate() {
        let mut standing = replica.group.standing();
        waiting.spawn(async move {
            let open = standing.wait_for(|standing| standing.writes == Writes::Open);
            open.await.map(|_| n)
        });
    }
    let first = tokio::time::timeout(PATIENCE, waiting.join_next()).await;
    first.unwrap().unwrap().unwrap().unwrap()
}

async fn outcome(told: oneshot::Receiver<PutOutcome>) -> PutStatus {
    let outcome = tokio::time::timeout(PATIENCE, told).await.unwrap();
    outcome.unwrap().status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn group_survives_its_master_and_takes_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = |n: u32| folder.path().join(n.to_string());
    let common = folder.path().join("coordinator");
    let mut replicas = Vec::new();
    for n in 0..3 {
        replicas.push(Replica::start(&path(n), &common).await);
    }
    let first = master(&replicas).await;
    for replica in &replicas {
        replica
            .becomes(|role| matches!(role, RoleName::Master | RoleName::InSync))
            .await;
    }
    let told: Vec<_> = (0..100).map(|n| replicas[first].send(n)).collect();
    for told in told {
        assert_eq!(outcome(told).await, PutStatus::Ok);
    }
    assert_eq!(replicas[first].consumed(), (0..100).collect::<Vec<_>>());
    let slave = (first + 1) % 3;
    assert!(matches!(
        outcome(replicas[slave].send(0)).await,
        PutStatus::ServiceNotAvailable(_)
    ));

    let gone = replicas.remove(first).killed().await;
    let second = master(&replicas).await;
    for n in 100..150 {
        assert_eq!(outcome(replicas[second].send(n)).await, PutStatus::Ok);
    }
    assert_eq!(replicas[second].consumed(), (0..150).collect::<Vec<_>>());

    let back = Replica::start(&gone, &common).await;
    back.becomes(|role| role == RoleName::InSync).await;
    replicas.push(back);
    assert_eq!(outcome(replicas[second].send(150)).await, PutStatus::Ok);
    // All acknowledged before the answer, so all logs are the same.
    let end = replicas[second].store.positions().appended;
    for replica in &replicas {
        assert_eq!(replica.store.positions().appended, end);
        assert!(replica.store.positions().durable >= PhysicalOffset(end.0));
    }
    for replica in replicas {
        replica.stopped().await;
    }
}
