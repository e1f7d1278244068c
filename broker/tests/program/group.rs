//! A group of three processes on one machine that elect their master themselves: what a producer was told is kept stays, at
//! its offset, whichever process dies or is restarted.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use rocket_coordinator::file::FileCoordinator;
use rocket_coordinator::{Cas, CasAnswer, Coordinator as _, ReadAnswer};
use rocket_protocol::body::RouteData;
use rocket_protocol::header::{
    GetRouteInfoHeader, OffsetResponseHeader, QueryConsumerOffsetHeader, SendMessageResponseHeader,
    UpdateConsumerOffsetHeader,
};
use rocket_protocol::{Command, RecordView, RequestCode, ResponseCode};
use rocket_remoting::{Client, ClientConfig, NoRequests};
use rocket_replication::{GroupUid, Proposal, State};
use rustix::process::Signal;
use tokio::time::{interval, timeout};
use tokio_util::task::TaskTracker;

use crate::messages::{ask, pull, send};
use crate::process::{Running, run};

/// Generous: elections wait for seconds, and a machine under load must not fail a test.
const PATIENCE: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(20);
const ANSWER: Duration = Duration::from_secs(10);
const TOPIC: &str = "T";
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
        Self::started(Rule::Fixed, NO_PROOF)
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

/// Where the route of the topic says that the master is, or that of the topic by which others are made.
async fn routed(name_server: &str) -> Option<String> {
    for topic in [TOPIC, "TBW102"] {
        let wanted = GetRouteInfoHeader {
            topic: topic.into(),
            ..GetRouteInfoHeader::default()
        };
        let answer = ask(
            name_server,
            RequestCode::GET_ROUTEINFO_BY_TOPIC,
            &wanted,
            b"",
        )
        .await;
        if answer.response_code() == ResponseCode::SUCCESS {
            let route = RouteData::parse(&answer.body.contiguous()).unwrap();
            let group = route.broker_datas.first()?;
            assert!(group.broker_addrs.keys().all(|id| *id == 0), "{group:?}");
            return group.broker_addrs.get(&0).cloned();
        }
    }
    None
}

/// A producer that goes where the route says, and notes what it was told.
pub(crate) struct Producer {
    name_server: String,
    client: Option<Client>,
    next: u64,
    /// Offset in queue 0 and number of each message that is kept.
    pub(crate) kept: BTreeMap<i64, u64>,
    /// Sends that were answered with something else than success.
    refused: u64,
}

impl Producer {
    pub(crate) fn new(group: &Group) -> Self {
        Self {
            name_server: group.name_server.address("name server").to_owned(),
            client: None,
            next: 0,
            kept: BTreeMap::new(),
            refused: 0,
        }
    }

    fn is_connected(&self) -> bool {
        self.client.as_ref().is_some_and(Client::is_open)
    }

    /// Sends one message over a connection, which is left when it is of no use any more. Whether it is kept.
    async fn send_to(&mut self, address: &str) -> bool {
        if !self.is_connected() {
            let config = ClientConfig::default();
            self.client = Client::connect(address, config, Arc::new(NoRequests))
                .await
                .ok();
        }
        let Some(client) = &self.client else {
            return false;
        };
        let number = self.next;
        self.next += 1;
        let mut body = number.to_be_bytes().to_vec();
        body.resize(2_000, 7);
        let request = Command::request(RequestCode::SEND_MESSAGE)
            .with_header(&send(TOPIC))
            .with_body(body);
        match client.call(request, ANSWER).await {
            Ok(answer) if answer.response_code() == ResponseCode::SUCCESS => {
                let header: SendMessageResponseHeader = answer.header().unwrap();
                let before = self.kept.insert(header.queue_offset, number);
                assert_eq!(before, None, "two messages have one offset");
                true
            }
            answer => {
                self.refused += u64::from(answer.is_ok());
                self.client = None;
                false
            }
        }
    }

    /// Sends until one message is kept.
    pub(crate) async fn send(&mut self) {
        let sending = async {
            let mut ticks = interval(LOOK);
            loop {
                if let Some(address) = routed(&self.name_server.clone()).await
                    && self.send_to(&address).await
                {
                    return;
                }
                ticks.tick().await;
            }
        };
        timeout(PATIENCE, sending).await.expect("a message is kept");
    }

    /// Sends until `stop` says so.
    pub(crate) async fn run(mut self, stop: Arc<AtomicBool>) -> Self {
        while !stop.load(Ordering::Acquire) {
            self.send().await;
        }
        self
    }
}

/// Every message of queue 0, by its offset.
async fn consumed(broker: &str) -> BTreeMap<i64, u64> {
    let mut found = BTreeMap::new();
    let mut next = 0;
    loop {
        let wanted = pull(TOPIC, next, Duration::ZERO);
        let answer = ask(broker, RequestCode::PULL_MESSAGE, &wanted, b"").await;
        if answer.response_code() != ResponseCode::SUCCESS {
            assert_eq!(
                answer.response_code(),
                ResponseCode::PULL_NOT_FOUND,
                "{answer:?}"
            );
            return found;
        }
        let records = answer.body.contiguous();
        let mut rest = &records[..];
        while !rest.is_empty() {
            let (record, len) = RecordView::parse(rest).unwrap();
            let offset = record.queue_offset().to_wire();
            let number = u64::from_be_bytes(record.body()[..8].try_into().unwrap());
            assert_eq!(offset, next, "offsets are dense");
            found.insert(offset, number);
            next = offset + 1;
            rest = &rest[len..];
        }
    }
}

/// A group of consumers has come to `position` in queue 0.
async fn commit(broker: &str, position: i64) {
    let header = UpdateConsumerOffsetHeader {
        consumer_group: "consumers".into(),
        topic: TOPIC.into(),
        queue_id: 0,
        commit_offset: position,
    };
    let answer = ask(broker, RequestCode::UPDATE_CONSUMER_OFFSET, &header, b"").await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS, "{answer:?}");
}

/// Where it has come to.
async fn committed(broker: &str) -> i64 {
    let header = QueryConsumerOffsetHeader {
        consumer_group: "consumers".into(),
        topic: TOPIC.into(),
        ..QueryConsumerOffsetHeader::default()
    };
    let answer = ask(broker, RequestCode::QUERY_CONSUMER_OFFSET, &header, b"").await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS, "{answer:?}");
    answer.header::<OffsetResponseHeader>().unwrap().offset
}

/// All that `producer` was told is kept is there, at its offset.
pub(crate) async fn check(group: &Group, producer: &Producer) {
    let master = group.master().await;
    let found = consumed(group.replica(master).address("broker")).await;
    for (offset, number) in &producer.kept {
        assert_eq!(found.get(offset), Some(number), "at offset {offset}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_survives_a_killed_master_which_comes_back_as_a_slave() {
    let mut group = Group::start();
    let mut producer = Producer::new(&group);
    let first = group.settled().await;
    for _ in 0..200 {
        producer.send().await;
    }
    let epoch = group.gauge(first, "rocket_epoch");
    assert_eq!(group.gauge(first, "rocket_role"), 1);
    assert_eq!(group.gauge(first, "rocket_in_sync_replicas"), 3);
    assert_eq!(group.gauge(first, "rocket_min_in_sync_replicas"), 2);
    let slave = (first + 1) % 3;
    let refused = ask(
        group.replica(slave).address("broker"),
        RequestCode::SEND_MESSAGE,
        &send(TOPIC),
        b"x",
    )
    .await;
    assert_eq!(refused.response_code(), ResponseCode::SERVICE_NOT_AVAILABLE);

    group.kill(first);
    let second = group.master().await;
    assert!(group.gauge(second, "rocket_epoch") > epoch);
    check(&group, &producer).await;
    for _ in 0..200 {
        producer.send().await;
    }

    group.run(first);
    group.slave(first).await;
    assert!(group.is_master(second), "nobody is replaced for a slave");
    for _ in 0..50 {
        producer.send().await;
    }
    group.same_everywhere().await;
    check(&group, &producer).await;
    // What one that is gone lacks is told, also when it is not waited for any more.
    group.kill(first);
    until("it is out of the in-sync set", || {
        (group.gauge(second, "rocket_in_sync_replicas") == 2).then_some(())
    })
    .await;
    for _ in 0..20 {
        producer.send().await;
    }
    let lag = group.gauge(second, "rocket_replication_lag_bytes");
    assert!(lag > 20 * 2_000, "{lag}");
    // With two of three gone, nothing is promised any more.
    group.kill(3 - first - second);
    let address = group.replica(second).address("broker").to_owned();
    until_refused(&mut producer, &address).await;
}

/// Sends until the group says that too few are in sync.
async fn until_refused(producer: &mut Producer, address: &str) {
    let refusing = async {
        loop {
            let kept = producer.kept.len();
            producer.send_to(address).await;
            assert_eq!(producer.kept.len(), kept, "one copy is not two");
            let answer = ask(address, RequestCode::SEND_MESSAGE, &send(TOPIC), b"x").await;
            if answer.response_code() == ResponseCode::SYSTEM_ERROR {
                return answer;
            }
        }
    };
    let answer = timeout(PATIENCE, refusing).await.expect("it is refused");
    let remark = answer.remark.unwrap_or_default();
    assert!(remark.contains("in-sync replicas not enough"), "{remark}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restart_of_all_three_loses_nothing_and_hands_the_mastership_over() {
    let mut group = Group::start();
    group.master().await;
    let mut producer = Producer::new(&group);
    for _ in 0..5 {
        producer.send().await;
    }
    // Makes the group of consumers known.
    let master = group.master().await;
    consumed(group.replica(master).address("broker")).await;
    let stop = Arc::new(AtomicBool::new(false));
    let tasks = TaskTracker::new();
    let sending = tasks.spawn(producer.run(Arc::clone(&stop)));
    for n in 0..3 {
        let master = group.master().await;
        let epoch = group.gauge(master, "rocket_epoch");
        let position = i64::try_from(n).unwrap() + 1;
        commit(group.replica(master).address("broker"), position).await;
        group.stop(n);
        let now = group.master().await;
        let handed_over = u64::from(n == master);
        assert_eq!(group.gauge(now, "rocket_epoch"), epoch + handed_over);
        let committed = committed(group.replica(now).address("broker")).await;
        assert_eq!(committed, position, "told to the group before the handover");
        group.run(n);
        group.slave(n).await;
    }
    stop.store(true, Ordering::Release);
    let producer = sending.await.unwrap();
    assert!(producer.kept.len() > 10, "{}", producer.kept.len());
    group.same_everywhere().await;
    check(&group, &producer).await;
    group.stop(0);
    let (status, reason) = group.alone(0);
    assert_eq!(status, Some(2), "{reason}");
    assert!(reason.contains("name its coordinator"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn master_that_is_replaced_answers_the_pulls_that_wait_and_closes_its_connections() {
    let group = Group::start();
    let mut producer = Producer::new(&group);
    let old = group.settled().await;
    for _ in 0..10 {
        producer.send().await;
    }
    let client = group.client(old).await;
    let hold = Duration::from_mins(1);
    let end = producer.kept.keys().last().unwrap() + 1;
    let waiting = Command::request(RequestCode::PULL_MESSAGE).with_header(&pull(TOPIC, end, hold));
    let handing_over = async {
        until("the pull waits", || {
            let metrics = group.replica(old).http("/metrics").1;
            let waits = metrics.lines().any(|line| {
                line.starts_with("rocketmq_processor_watermark{")
                    && line.contains("\"pull\"")
                    && line.ends_with("} 1")
            });
            waits.then_some(())
        })
        .await;
        group.ask_handover().await;
    };
    let (answer, ()) = tokio::join!(client.call(waiting, hold), handing_over);
    assert_eq!(
        answer.unwrap().response_code(),
        ResponseCode::PULL_NOT_FOUND
    );
    until("its connections are closed", || {
        (!client.is_open()).then_some(())
    })
    .await;
    let new = group.master().await;
    assert_ne!(new, old);
    group.slave(old).await;
    producer.send().await;
    assert_eq!(group.gauge(old, "rocket_role"), 0);
    check(&group, &producer).await;
}

/// One that does not learn of the next master, as the address that it knows follows the mastership a moment late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producer_that_stays_connected_is_refused_nothing_while_the_master_hands_over() {
    let mut group = Group::start();
    for is_stopped in [false, true] {
        let old = group.settled().await;
        let address = group.replica(old).address("broker").to_owned();
        let epoch = group.gauge(old, "rocket_epoch");
        let mut producer = Producer::new(&group);
        assert!(producer.send_to(&address).await);
        let mut stopped = None;
        if is_stopped {
            stopped = group.replicas[old].take();
            stopped.as_ref().unwrap().signal(Signal::TERM);
        } else {
            group.ask_handover().await;
        }
        // While it moves, and then to the master that is none any more, until that closes the connection.
        while producer.is_connected() {
            producer.send_to(&address).await;
        }
        assert_eq!(producer.refused, 0);
        let new = group.master().await;
        assert_eq!(group.gauge(new, "rocket_epoch"), epoch + 1);
        let found = consumed(group.replica(new).address("broker")).await;
        for (offset, number) in &producer.kept {
            assert_eq!(found.get(offset), Some(number), "offset {offset}");
        }
        if let Some(mut stopped) = stopped {
            assert_eq!(stopped.exit_status(), Some(0));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn master_that_stood_still_and_was_replaced_acknowledges_nothing_and_follows() {
    let group = Group::start();
    let mut producer = Producer::new(&group);
    let old = group.settled().await;
    for _ in 0..20 {
        producer.send().await;
    }
    let client = group.client(old).await;
    group.replica(old).signal(Signal::STOP);
    // Waits in its socket until it goes on.
    let request = Command::request(RequestCode::SEND_MESSAGE)
        .with_header(&send(TOPIC))
        .with_body(b"not there".to_vec());
    let tasks = TaskTracker::new();
    let late = tasks.spawn(async move { client.call(request, PATIENCE).await });
    let others: Vec<usize> = (0..3).filter(|n| *n != old).collect();
    let new = until("another one is elected", || {
        others.iter().copied().find(|n| group.is_master(*n))
    })
    .await;
    producer.client = None;
    for _ in 0..20 {
        producer.send().await;
    }
    group.replica(old).signal(Signal::CONT);
    if let Ok(answer) = late.await.unwrap() {
        assert_ne!(answer.response_code(), ResponseCode::SUCCESS);
    }
    group.slave(old).await;
    for _ in 0..20 {
        producer.send().await;
    }
    group.same_everywhere().await;
    assert!(group.is_master(new));
    check(&group, &producer).await;
}
