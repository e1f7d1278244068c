//! One elector, two replicas that answer and a master that does not, and a coordinator behind a bad network.

use std::collections::BTreeMap;

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use prometheus::Registry;
use rocket_api::RocketCluster;
use rocket_coordinator::faulty::Faulty;
use rocket_coordinator::memory::MemoryCoordinator;
use rocket_replication::Version;
use rocket_replication::memory::{Fate, group, member};
use serde_json::json;
use tokio::net::TcpListener;

use super::super::played::{answer, secret};
use super::super::probes::Route;
use super::*;
use crate::metrics::Metrics;
use crate::validate::Settings;

struct Stage {
    memory: Arc<MemoryCoordinator>,
    front: Arc<Faulty<Arc<MemoryCoordinator>>>,
    elector: Elector,
    /// What was written of pods.
    patches: Arc<Mutex<Vec<String>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _wanted: watch::Sender<Wanted>,
}

impl Stage {
    /// All three are in S; the container of the first, the master, has ended.
    async fn new() -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut state = group(3);
        state.version = Version(5);
        state.in_sync = [1, 2, 3].map(member).into();
        state.last_complete = [1, 2, 3].map(ReplicaId).into();
        for (id, replica) in &mut state.replicas {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            replica.address = format!("orders-0-{}.test:{port}", id.0 - 1);
            if id.0 > 1 {
                answer(id.0, listener, &tasks, &stop);
            }
        }
        let patches = Arc::<Mutex<Vec<String>>>::default();
        let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
        let client = kubernetes(Arc::clone(&patches), &tasks, &stop);
        let mut context = Context::new(client, Settings::default(), metrics, None);
        context.route = Route::new(|address| {
            let port = address.rsplit(':').next().unwrap_or_default();
            format!("127.0.0.1:{port}")
        });
        let cluster = json!({"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketCluster", "metadata": {"name": "orders", "namespace": "mq", "uid": "u"}, "spec": {}});
        let cluster: RocketCluster = serde_json::from_value(cluster).unwrap();
        let (wanted, receiver) = watch::channel(Wanted {
            cluster: Arc::new(cluster),
            replicas: 3,
            lives: BTreeMap::from([("orders-0-0".to_owned(), Life::Ended)]),
        });
        let memory = Arc::new(MemoryCoordinator::new(state));
        let front = Arc::new(Faulty::new(Arc::clone(&memory)));
        let context = Arc::new(context);
        let post = Post {
            counted: context.metrics.count_group("mq", "orders", "orders-0"),
            context,
            namespace: "mq".into(),
            group: "orders-0".into(),
            index: 0,
            secret: "orders-replication".into(),
            wanted: receiver,
            finding: Finding::default(),
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        Self {
            elector: Elector::new(post, Arc::clone(&front) as Arc<dyn Coordinator>, secret()),
            memory,
            front,
            patches,
            tasks,
            stop,
            _wanted: wanted,
        }
    }

    async fn state(&self) -> Arc<State> {
        match self.memory.read_current().await {
            ReadAnswer::State(state) => state,
            other => panic!("{other:?}"),
        }
    }

    /// One look at the record as it is.
    async fn look(&mut self) {
        let state = self.state().await;
        self.elector.look(&state).await;
    }

    fn elected(&self) -> u64 {
        let metrics = &self.elector.post.context.metrics;
        metrics.elections(ElectionKind::Clean)
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// An API server that takes everything.
fn kubernetes(
    patches: Arc<Mutex<Vec<String>>>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Client {
    let (service, mut requests) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let answering = async move {
        while let Some((request, respond)) = requests.next_request().await {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            if let Some((_, pod)) = head.uri.path().rsplit_once("/pods/") {
                let role = String::from_utf8_lossy(&body).contains("\"master\"");
                patches.lock().push(format!("{pod} {role}"));
            }
            let answer = json!({"metadata": {"name": "x"}}).to_string();
            let answer = Response::new(Body::from(answer.into_bytes()));
            respond.send_response(answer);
        }
    };
    tasks.spawn(stop.clone().run_until_cancelled_owned(answering));
    Client::new(service, "mq")
}

#[tokio::test]
async fn lost_answer_of_an_election_is_found_and_told_once() {
    let mut stage = Stage::new().await;
    stage.front.script(Fate::AnswerLost);
    stage.look().await;
    let state = stage.state().await;
    assert_eq!(
        (state.epoch, state.master, state.version),
        (Epoch(2), Some(member(2)), Version(6))
    );
    assert_eq!(state.in_sync, [2, 3].map(member).into());
    let mut patches = stage.patches.lock().clone();
    patches.sort();
    assert_eq!(patches, ["orders-0-0 false", "orders-0-1 true"]);
    // The elected one answers: nothing is left to do.
    stage.look().await;
    assert_eq!(stage.state().await, state);
    assert_eq!(stage.elected(), 1);
    stage.end().await;
}

#[tokio::test]
async fn election_that_arrives_late_lands_nowhere_when_another_was_written() {
    let mut stage = Stage::new().await;
    stage.front.script(Fate::Late);
    stage.look().await;
    assert_eq!((stage.state().await.epoch, stage.elected()), (Epoch(1), 0));
    assert!(
        stage.patches.lock().is_empty(),
        "no address moves on a hope"
    );
    stage.look().await;
    let state = stage.state().await;
    assert_eq!((state.epoch, stage.elected()), (Epoch(2), 1));
    stage.front.let_late_writes_arrive().await;
    assert_eq!(stage.state().await, state);
    stage.end().await;
}

#[tokio::test]
async fn nobody_is_elected_without_a_current_read() {
    let mut stage = Stage::new().await;
    stage.front.cut(true);
    stage.look().await;
    assert_eq!(stage.state().await.epoch, Epoch(1));
    stage.front.cut(false);
    stage.look().await;
    assert_eq!(stage.state().await.epoch, Epoch(2));
    stage.end().await;
}

#[tokio::test]
async fn record_that_went_back_is_told_and_left_alone() {
    let mut stage = Stage::new().await;
    let old = stage.state().await;
    stage.look().await;
    stage.memory.replace(Some((*old).clone()));
    stage.look().await;
    assert_eq!(
        stage.state().await,
        old,
        "nobody is elected on an old record"
    );
    let finding = stage.elector.post.finding.lock().clone();
    assert!(finding.is_some_and(|finding| finding.contains("older than it was")));
    assert_eq!(stage.elected(), 1);
    stage.end().await;
}

#[test]
fn among_equals_the_lowest_ordinal_comes_first() {
    let mut state = group(3);
    for (id, replica) in &mut state.replicas {
        replica.address = format!("orders-0-{}.test:1", 11 - id.0);
    }
    assert_eq!(by_ordinal(&state), [3, 2, 1].map(ReplicaId));
}
