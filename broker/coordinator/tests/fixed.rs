//! The register of a fixed master as its slaves have it: over real sockets, with connections that break where it hurts.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::BytesMut;
use rocket_coordinator::file::FileCoordinator;
use rocket_coordinator::fixed::{FixedCoordinator, Register};
use rocket_coordinator::memory::MemoryCoordinator;
use rocket_coordinator::{Cas, CasAnswer, Coordinator, ReadAnswer};
use rocket_link::{Links, Secret, Settings, dial_register};
use rocket_replication::identity::{Incarnation, Proposal};
use rocket_replication::register::{Frame, decode, encode};
use rocket_replication::state::State;
use rocket_replication::{DiskId, ReplicaId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::suite;

const SECRET: &[u8] = b"a secret of these tests alone";
const PATIENCE: Duration = Duration::from_secs(20);

/// Somewhere at which a register is served on a port for links.
struct Master {
    address: String,
    stop: CancellationToken,
}

impl Master {
    async fn serving(kept: Arc<dyn Coordinator>) -> Self {
        Self::serving_at("127.0.0.1:0", kept).await
    }

    async fn serving_at(address: &str, kept: Arc<dyn Coordinator>) -> Self {
        let (register, stop) = (Register::new(kept), CancellationToken::new());
        let ends = stop.clone();
        let visitors = move |stream| {
            let register = register.clone();
            let serving = async move { register.serve(stream).await };
            TaskTracker::new().spawn(ends.clone().run_until_cancelled_owned(serving));
        };
        Self::visited(address, stop, visitors).await
    }

    async fn visited(
        address: &str,
        stop: CancellationToken,
        visitors: impl Fn(TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let binding = async {
            loop {
                match TcpListener::bind(address).await {
                    Ok(listener) => break listener,
                    // The one before is about to let it go.
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let bound = tokio::time::timeout(PATIENCE, binding).await;
        let listener = bound.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (secret, tasks) = (Secret::new(SECRET), TaskTracker::new());
        let links = Links::delivering(Settings::default(), secret, tasks, stop.clone(), |_| true);
        links.listen_with_register(listener, visitors);
        Self { address, stop }
    }

    /// The register as the replica with that data directory has it.
    fn seen_by(&self, disk: u128) -> FixedCoordinator {
        let writer = Arc::new(OnceLock::from(DiskId(disk)));
        let secret = Secret::new(SECRET);
        FixedCoordinator::new(self.address.clone(), secret, writer, &TaskTracker::new())
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Two processes that may write all that the suite writes: in its states the replica 1 is master.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn register_of_a_fixed_master_is_a_register() {
    let folder = tempfile::tempdir().unwrap();
    let mut masters = Vec::new();
    let tasks = TaskTracker::new();
    suite::all(async |first| {
        let path = folder.path().join(masters.len().to_string());
        let kept = FileCoordinator::open(&path, first, &tasks).await.unwrap();
        let master = Master::serving(Arc::new(kept)).await;
        let handles = (master.seen_by(1), master.seen_by(1));
        masters.push(master);
        handles
    })
    .await;
}

/// The master's own process has the file, the others what it serves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_and_what_is_served_of_it_are_one_register() {
    let folder = tempfile::tempdir().unwrap();
    let mut masters = Vec::new();
    let tasks = TaskTracker::new();
    suite::all(async |first| {
        let path = folder.path().join(masters.len().to_string());
        let kept = FileCoordinator::open(&path, first, &tasks).await.unwrap();
        let master = Master::serving(Arc::new(kept.clone())).await;
        let handles = (kept, master.seen_by(1));
        masters.push(master);
        handles
    })
    .await;
}

/// What replica 2 writes when it starts again: a later run, no member of S any more.
fn registering(from: &State) -> Cas {
    let mut new = from.following(Proposal(70));
    let replica = new.replicas.get_mut(&ReplicaId(2)).unwrap();
    replica.incarnation = Incarnation(71);
    Cas {
        expected: from.version,
        new: Arc::new(new),
    }
}

#[tokio::test]
async fn slave_writes_what_is_its_own_and_nothing_else() {
    let kept = Arc::new(MemoryCoordinator::new(suite::group()));
    let master = Master::serving(Arc::clone(&kept) as _).await;
    let slave = master.seen_by(2);
    let growing = suite::growing(&suite::group(), 1);
    assert_eq!(slave.cas(growing.clone()).await, CasAnswer::Unsent);
    let before = ReadAnswer::State(Arc::new(suite::group()));
    assert_eq!(kept.read_current().await, before, "never applied");
    let own = registering(&suite::group());
    assert_eq!(master.seen_by(3).cas(own.clone()).await, CasAnswer::Unsent);
    assert_eq!(
        slave.cas(own.clone()).await,
        CasAnswer::Applied(own.new.version)
    );
    assert_eq!(kept.read_current().await, ReadAnswer::State(own.new));
    // Of what is too old nobody has to know whose it is.
    assert_eq!(slave.cas(growing).await, CasAnswer::Conflict);
}

#[tokio::test]
async fn what_did_not_leave_is_unsent_and_what_did_is_unknown_without_an_answer() {
    let cas = registering(&suite::group());
    // Nobody is there. The port is held, so that nobody else is either.
    let held = TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nowhere = Master {
        address: held.local_addr().unwrap().to_string(),
        stop: CancellationToken::new(),
    };
    assert_eq!(nowhere.seen_by(2).cas(cas.clone()).await, CasAnswer::Unsent);
    let unreachable = nowhere.seen_by(2).read_current().await;
    assert_eq!(unreachable, ReadAnswer::Unreachable);
    // Somebody hears it and says nothing.
    let master = Master::visited("127.0.0.1:0", CancellationToken::new(), |mut stream| {
        TaskTracker::new().spawn(async move {
            let mut heard = BytesMut::new();
            while decode(&mut heard).unwrap().is_none()
                && stream.read_buf(&mut heard).await.is_ok_and(|len| len > 0)
            {}
        });
    })
    .await;
    assert_eq!(master.seen_by(2).cas(cas.clone()).await, CasAnswer::Unknown);
    let silent = master.seen_by(2).read_current().await;
    assert_eq!(silent, ReadAnswer::Unreachable);
    // Somebody says what is no answer.
    let master = Master::visited("127.0.0.1:0", CancellationToken::new(), |mut stream| {
        TaskTracker::new().spawn(async move {
            let answer = encode(&Frame::Beat).unwrap();
            stream.write_all(&answer).await.unwrap();
            let mut heard = BytesMut::new();
            while stream.read_buf(&mut heard).await.is_ok_and(|len| len > 0) {}
        });
    })
    .await;
    assert_eq!(master.seen_by(2).cas(cas.clone()).await, CasAnswer::Unknown);
    // It is not known yet who writes.
    let (secret, nobody) = (Secret::new(SECRET), Arc::default());
    let kept = Arc::new(MemoryCoordinator::new(suite::group()));
    let master = Master::serving(kept).await;
    let early = FixedCoordinator::new(master.address.clone(), secret, nobody, &TaskTracker::new());
    assert_eq!(early.cas(cas).await, CasAnswer::Unsent);
}

#[tokio::test]
async fn hints_go_on_when_the_master_comes_back() {
    let kept = Arc::new(MemoryCoordinator::new(suite::group()));
    let master = Master::serving(Arc::clone(&kept) as _).await;
    let slave = master.seen_by(2);
    let mut hints = slave.watch();
    let hinted = |state: &State| Some(Arc::new(state.clone()));
    let first = hinted(&suite::group());
    let waiting = hints.wait_for(|seen| *seen == first);
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap()
        .unwrap();
    // It ends, and another process takes its place.
    let address = master.address.clone();
    drop(master);
    let cas = registering(&suite::group());
    kept.cas(cas.clone()).await;
    let _next = Master::serving_at(&address, kept).await;
    let next = hinted(&cas.new);
    let waiting = hints.wait_for(|seen| *seen == next);
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn stranger_and_bytes_that_are_no_frame_get_no_answer() {
    let kept = Arc::new(MemoryCoordinator::new(suite::group()));
    let master = Master::serving(kept).await;
    let other = Secret::new(b"the secret of another cluster");
    let refused = dial_register(&master.address, &other, PATIENCE).await;
    assert!(refused.is_err());
    let secret = Secret::new(SECRET);
    let mut stream = dial_register(&master.address, &secret, PATIENCE)
        .await
        .unwrap();
    stream.write_all(&[0xff; 64]).await.unwrap();
    let mut heard = Vec::new();
    // Closed, whatever way: nothing came back.
    let _ = stream.read_to_end(&mut heard).await;
    assert!(heard.is_empty());
}
