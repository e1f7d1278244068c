//! A group of three processes on one machine that elect their master themselves, or whose first one is it always.

mod failover;
mod producer;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use rocket_coordinator::file::FileCoordinator;
use rocket_coordinator::{Cas, CasAnswer, Coordinator as _, ReadAnswer};
use rocket_remoting::{Client, ClientConfig, NoRequests};
use rocket_replication::{GroupUid, Proposal, State};
use rustix::process::Signal;
use tokio::time::{interval, timeout};
use tokio_util::task::TaskTracker;

use crate::process::{Running, run};
pub(crate) use producer::{Producer, check};

/// Generous: elections wait for seconds, and a machine under load must not fail a test.
const PATIENCE: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(20);
/// Nothing is left in the memory of the machine that runs this.
const NO_PROOF: &[&str] = &["residenceProofPath="];

/// Each group of this process has a network of its own, so that all its ports are free.
static GROUPS: AtomicU8 = AtomicU8::new(0);

/// How the replicas of a group come to a master.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// They elect one.
    Elected,
    /// It is the first one, always.
    Fixed,
}

pub(crate) struct Group {
    // Dropped in this order: processes before their folders.
    replicas: Vec<Option<Running>>,
    name_server: Running,
    folder: tempfile::TempDir,
    first_host: u8,
    /// Settings of all, beside those of every group here.
    more: Vec<String>,
    rule: Rule,
}

impl Group {
    pub(crate) fn start() -> Self {
        Self::start_with(NO_PROOF)
    }

    /// With these settings, which count before those of [`Group::start`].
    pub(crate) fn start_with(more: &[&str]) -> Self {
        Self::started(Rule::Elected, more)
    }

    /// The replica 0 is master, and stays it.
    pub(crate) fn with_fixed_master() -> Self {
        Self::with_fixed_master_and(NO_PROOF)
    }

    /// The same, with these settings.
    pub(crate) fn with_fixed_master_and(more: &[&str]) -> Self {
        Self::started(Rule::Fixed, more)
    }

    fn started(rule: Rule, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), [b'x'; 48]).unwrap();
        let first_host = GROUPS.fetch_add(1, Ordering::Relaxed) * 8 + 1;
        let kv = format!("kvConfigPath={}", folder.path().join("kv.json").display());
        let name_server = Running::start(&[
            "namesrv",
            "--bind",
            "127.0.0.1",
            "--set",
            "listenPort=0",
            "--set",
            "metricsPort=0",
            "--set",
            &kv,
        ]);
        let mut group = Self {
            folder,
            name_server,
            first_host,
            more: more.iter().map(|setting| (*setting).to_owned()).collect(),
            rule,
            replicas: vec![None, None, None],
        };
        for n in 0..3 {
            group.run(n);
        }
        group
    }

    pub(crate) fn host(&self, n: usize) -> Ipv4Addr {
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let host = self.first_host + u8::try_from(n).unwrap();
        Ipv4Addr::new(127, 64 | (high & 63), low, host)
    }

    pub(crate) fn data(&self, n: usize) -> PathBuf {
        self.folder.path().join(n.to_string())
    }

    pub(crate) fn run(&mut self, n: usize) {
        self.run_with(n, &[]);
    }

    /// Starts a process with more settings.
    pub(crate) fn run_with(&mut self, n: usize, more: &[&str]) {
        let args = self.args(n, more);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.replicas[n] = Some(Running::start(&args));
    }

    /// The status with which a process ends that is started, and what it says.
    pub(crate) fn ended(&self, n: usize) -> (Option<i32>, String) {
        self.ended_with(n, &[])
    }

    /// The same, with more settings.
    pub(crate) fn ended_with(&self, n: usize, more: &[&str]) -> (Option<i32>, String) {
        let args = self.args(n, more);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        run(&args)
    }

    fn args(&self, n: usize, more: &[&str]) -> Vec<String> {
        let folder = self.folder.path().display();
        let rule = match self.rule {
            Rule::Elected => vec![format!("coordinator=file:{folder}/coordinator/state.json")],
            Rule::Fixed => vec![
                format!("coordinator=static:{}:10912", self.host(0)),
                "fixedMaster=replica-0".to_owned(),
            ],
        };
        let settings = [
            format!("replicationSecretFile={folder}/secret"),
            format!("namesrvAddr={}", self.name_server.address("name server")),
            "brokerName=group".to_owned(),
            "totalReplicas=3".to_owned(),
            "brokerRole=SYNC_MASTER".to_owned(),
            "minInSyncReplicas=2".to_owned(),
            "flushDiskType=SYNC_FLUSH".to_owned(),
            "metricsPort=0".to_owned(),
            "maxMessageSize=65536".to_owned(),
            "mappedFileSizeCommitLog=1048576".to_owned(),
            "maxHashSlotNum=1000".to_owned(),
            "maxIndexNum=4000".to_owned(),
        ];
        let (name, host) = (format!("replica-{n}"), self.host(n).to_string());
        let data = self.data(n).display().to_string();
        let mut args = vec!["broker".to_owned()];
        for (flag, value) in [("--data", data), ("--bind", host), ("--replica", name)] {
            args.extend([flag.to_owned(), value]);
        }
        let more = more.iter().map(|setting| (*setting).to_owned());
        let settings = rule.into_iter().chain(settings);
        for setting in settings.chain(self.more.clone()).chain(more) {
            args.extend(["--set".to_owned(), setting]);
        }
        args
    }

    pub(crate) fn replica(&self, n: usize) -> &Running {
        self.replicas[n].as_ref().unwrap()
    }

    /// Waits until a process ends by itself, and says with which status.
    pub(crate) fn status(&mut self, n: usize) -> Option<i32> {
        self.replicas[n].take().unwrap().exit_status()
    }

    /// Ends a process at once, as nothing that it could prepare for.
    pub(crate) fn kill(&mut self, n: usize) {
        drop(self.replicas[n].take().unwrap());
    }

    /// What `rocket-broker broker` says and ends with when it is started on the data of `n` without its coordinator.
    fn alone(&self, n: usize) -> (Option<i32>, String) {
        let data = self.data(n).display().to_string();
        run(&[
            "broker",
            "--data",
            &data,
            "--bind",
            &self.host(n).to_string(),
            "--set",
            "metricsPort=0",
        ])
    }

    /// Ends a process in order.
    pub(crate) fn stop(&mut self, n: usize) {
        let mut replica = self.replicas[n].take().unwrap();
        replica.signal(Signal::TERM);
        assert_eq!(replica.exit_status(), Some(0));
    }

    /// What `/readyz` of a replica says.
    pub(crate) fn ready(&self, n: usize) -> String {
        self.replica(n).http("/readyz").1
    }

    pub(crate) fn is_master(&self, n: usize) -> bool {
        self.replicas[n].is_some()
            && self
                .ready(n)
                .starts_with(r#"{"ready":true,"role":"master","#)
    }

    fn is_slave(&self, n: usize) -> bool {
        self.ready(n)
            .starts_with(r#"{"ready":true,"role":"slave","#)
    }

    pub(crate) async fn master(&self) -> usize {
        until("a master serves", || (0..3).find(|n| self.is_master(*n))).await
    }

    pub(crate) async fn slave(&self, n: usize) {
        until("it follows", || self.is_slave(n).then_some(())).await;
    }

    /// Waits until the others follow the master, and says who that is.
    pub(crate) async fn settled(&self) -> usize {
        let master = self.master().await;
        for n in (0..3).filter(|n| *n != master) {
            self.slave(n).await;
        }
        master
    }

    async fn client(&self, n: usize) -> Client {
        let address = self.replica(n).address("broker").to_owned();
        Client::connect(&address, ClientConfig::default(), Arc::new(NoRequests))
            .await
            .unwrap()
    }

    pub(crate) fn gauge(&self, n: usize, name: &str) -> u64 {
        self.metric(n, name).parse().unwrap()
    }

    /// A metric of a replica as it is written.
    pub(crate) fn metric(&self, n: usize, name: &str) -> String {
        let text = self.replica(n).http("/metrics").1;
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name}{{")));
        let value = line.and_then(|line| line.rsplit(' ').next());
        value.unwrap().to_owned()
    }

    /// Where the group agrees.
    pub(crate) async fn coordinator(&self) -> FileCoordinator {
        let folder = match self.rule {
            Rule::Elected => self.folder.path().join("coordinator"),
            Rule::Fixed => self.data(0).join("rocket/coordinator"),
        };
        let unused = State::new(GroupUid(1), 2, Proposal(1));
        FileCoordinator::open(&folder, unused, &TaskTracker::new())
            .await
            .unwrap()
    }

    /// Somebody changes what the group agrees about.
    pub(crate) async fn change(&self, change: impl Fn(&State, Proposal) -> State) {
        let coordinator = self.coordinator().await;
        loop {
            let state = state(&coordinator).await;
            let cas = Cas {
                expected: state.version,
                new: Arc::new(change(&state, Proposal(rand::random()))),
            };
            if let CasAnswer::Applied(_) = coordinator.cas(cas).await {
                return;
            }
        }
    }

    /// Somebody asks the master to hand over to another replica.
    async fn ask_handover(&self) {
        self.change(|state, proposal| {
            let others = state.in_sync.iter().filter(|m| Some(**m) != state.master);
            let successor = others.map(|m| m.replica_id).min();
            state.handover_asked(proposal, successor)
        })
        .await;
    }

    /// Every replica holds the same log.
    pub(crate) async fn same_everywhere(&self) {
        let end = |n| self.gauge(n, "rocket_log_committed_bytes");
        until("all replicas have all", || {
            (end(0) == end(1) && end(1) == end(2) && end(0) > 0).then_some(())
        })
        .await;
    }
}

/// What the group agrees about now.
pub(crate) async fn state(coordinator: &FileCoordinator) -> Arc<State> {
    match coordinator.read_current().await {
        ReadAnswer::State(state) => state,
        other => panic!("the state can be read: {other:?}"),
    }
}

pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let looking = async {
        let mut ticks = interval(LOOK);
        loop {
            ticks.tick().await;
            if let Some(found) = look() {
                return found;
            }
        }
    };
    timeout(PATIENCE, looking)
        .await
        .unwrap_or_else(|_| panic!("in vain: {what}"))
}
