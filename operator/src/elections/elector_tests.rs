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
use rocket_replication::identity::Proposal;
use rocket_replication::memory::{Fate, group, member};
use rocket_replication::messages::{Report, RoleName};
use rocket_replication::replica::Flush;
use rocket_replication::state::Activation;
use rocket_replication::{InForce, PhysicalOffset, Replication, Version};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::super::handover::Course;
use super::super::judge::Round;
use super::super::played::{answer, secret};
use super::super::probes::Route;
use super::super::{Answer, Task};
use super::*;
use crate::address::Home;
use crate::metrics::Metrics;
use crate::validate::Settings;

#[path = "rebuilding_tests.rs"]
mod rebuilding;

/// UID of the object that the coordinator's state is of.
const UID: &str = "00000000-0000-0000-0000-00000000000a";

/// What was written, a line each.
type Lines = Arc<Mutex<Vec<String>>>;

struct Stage {
    memory: Arc<MemoryCoordinator>,
    front: Arc<Faulty<Arc<MemoryCoordinator>>>,
    elector: Elector,
    /// What was written of pods.
    patches: Lines,
    /// Events: type and note.
    events: Lines,
    /// The object of the group as Kubernetes has it; nothing after its deletion.
    object: Arc<Mutex<Value>>,
    /// What each replica says that answers.
    told: BTreeMap<u32, Arc<Mutex<Report>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    wanted: watch::Sender<Wanted>,
}

impl Stage {
    /// All three are in S; the container of the first, the master, has ended.
    async fn new() -> Self {
        Self::with(Life::Ended).await
    }

    /// All three are in S, and the first is a master that answers and takes sends.
    async fn serving() -> Self {
        let stage = Self::with(Life::Runs).await;
        stage.is(1, RoleName::Master, Epoch(1));
        stage.is(2, RoleName::InSync, Epoch(1));
        stage.is(3, RoleName::InSync, Epoch(1));
        let state = stage.state().await;
        stage.memory.replace(Some(State {
            activated: Some(Activation {
                epoch: state.epoch,
                start_offset: PhysicalOffset(0),
            }),
            ..(*state).clone()
        }));
        stage
    }

    async fn with(life: Life) -> Self {
        let mut told = BTreeMap::new();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut state = group(3);
        state.version = Version(5);
        state.in_sync = [1, 2, 3].map(member).into();
        state.last_complete = [1, 2, 3].map(ReplicaId).into();
        let mut ports = BTreeMap::new();
        for (id, replica) in &mut state.replicas {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            ports.insert(format!("orders-0-{}", id.0 - 1), port);
            replica.address = format!("orders-0-{}.test:{port}", id.0 - 1);
            if id.0 > 1 || life == Life::Runs {
                told.insert(id.0, answer(id.0, listener, &tasks, &stop));
            }
        }
        let patches = Arc::<Mutex<Vec<String>>>::default();
        let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
        let events = Lines::default();
        let written = (Arc::clone(&patches), Arc::clone(&events));
        let object = json!({"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketBrokerGroup", "metadata": {"name": "orders-0", "namespace": "mq", "uid": UID, "resourceVersion": "7"}, "spec": {"cluster": "orders", "index": 0}});
        let object = Arc::new(Mutex::new(object));
        let client = kubernetes(written, Arc::clone(&object), &tasks, &stop);
        let mut context = Context::new(client, Settings::default(), metrics, None);
        context.route = Route::new(move |address| {
            let port = ports[pod_of_address(address)];
            format!("127.0.0.1:{port}")
        });
        let cluster = json!({"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketCluster", "metadata": {"name": "orders", "namespace": "mq", "uid": "u"}, "spec": {}});
        let cluster: RocketCluster = serde_json::from_value(cluster).unwrap();
        let home = Home {
            pod: "orders-0-1".into(),
            uid: "p".into(),
            ip: "10.0.0.2".into(),
            node: None,
        };
        let (wanted, receiver) = watch::channel(Wanted {
            cluster: Arc::new(cluster),
            replicas: 3,
            is_lost: false,
            lives: BTreeMap::from([("orders-0-0".to_owned(), life)]),
            homes: BTreeMap::from([("orders-0-1".to_owned(), home)]),
        });
        let (_asking, orders) = mpsc::channel(1);
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
            orders,
            finding: Finding::default(),
            seen: Seen::default(),
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        Self {
            elector: Elector::new(post, Arc::clone(&front) as Arc<dyn Coordinator>, secret()),
            memory,
            front,
            patches,
            events,
            object,
            told,
            tasks,
            stop,
            wanted,
        }
    }

    fn is(&self, id: u32, role: RoleName, epoch: Epoch) {
        let mut told = self.told[&id].lock();
        (told.role, told.max_epoch) = (role, epoch);
        told.master_linked = role == RoleName::InSync;
    }

    async fn ask(&mut self, task: Task) -> Answer {
        let (done, answer) = oneshot::channel();
        self.elector.obey(Order { task, done }).await;
        answer.await.unwrap()
    }

    fn handed(&self) -> Option<Course> {
        let seen = self.elector.post.seen.lock();
        Some(seen.as_ref()?.handed.as_ref()?.course)
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
    (patches, events): (Lines, Lines),
    object: Arc<Mutex<Value>>,
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
            if let Some((_, slice)) = head.uri.path().rsplit_once("/endpointslices/") {
                let slice_body: Value = serde_json::from_slice(&body).unwrap();
                let ip = &slice_body["endpoints"][0]["addresses"][0];
                let epoch = &slice_body["metadata"]["annotations"]["rocketcluster.io/epoch"];
                patches.lock().push(format!("{slice} {ip} {epoch}"));
            }
            if head.method == http::Method::POST && head.uri.path().ends_with("/events") {
                let event: Value = serde_json::from_slice(&body).unwrap();
                let text = |field: &str| event[field].as_str().unwrap_or_default();
                events
                    .lock()
                    .push(format!("{} {}", text("type"), text("note")));
            }
            let is_record = head.uri.path().contains("/rocketbrokergroups/");
            let answer = match head.method {
                http::Method::PUT if is_record => {
                    *object.lock() = serde_json::from_slice(&body).unwrap();
                    object.lock().clone()
                }
                http::Method::DELETE if is_record => {
                    let asked: Value = serde_json::from_slice(&body).unwrap();
                    let present = object.lock()["metadata"]["resourceVersion"].clone();
                    assert_eq!(asked["preconditions"]["resourceVersion"], present);
                    std::mem::take(&mut *object.lock())
                }
                _ if is_record => object.lock().clone(),
                _ => json!({"metadata": {"name": "x"}}),
            };
            let answer = Response::new(Body::from(answer.to_string().into_bytes()));
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
    let expected = [
        "orders-0-0 false",
        "orders-0-1 true",
        "orders-0-master \"10.0.0.2\" \"2\"",
    ];
    assert_eq!(patches, expected);
    // The elected one answers: nothing is left to do.
    stage.look().await;
    assert_eq!(stage.state().await, state);
    assert_eq!(stage.elected(), 1);
    stage.end().await;
}

/// A master that answered by itself may have taken messages with it, and only an event can say so: one for each election.
#[tokio::test]
async fn every_election_where_masters_answer_alone_is_a_warning_of_its_own() {
    let mut stage = Stage::new().await;
    let mut state = (*stage.state().await).clone();
    state.in_force = Some(InForce {
        flush: Flush::Async,
        replication: Replication::Async,
        since: Epoch(1),
        min_in_sync: 1,
    });
    stage.memory.replace(Some(state.clone()));
    stage.told[&2].lock().log_end = PhysicalOffset(700);
    stage.look().await;
    let elected = stage.state().await;
    assert_eq!(elected.master, Some(member(2)));
    let next = State {
        epoch: Epoch(3),
        ..(*elected).clone()
    };
    stage.elector.tell(&elected, &next).await;
    let events = stage.events.lock().clone();
    assert_eq!(events.len(), 2, "{events:?}");
    for (event, epoch) in events.iter().zip([2, 3]) {
        assert!(event.starts_with("Warning "), "{event}");
        assert!(event.contains(&format!("in epoch {epoch};")), "{event}");
        assert!(
            event.contains("beyond physical offset 700 may be lost"),
            "{event}"
        );
    }
    // Where answers wait nothing can be lost.
    state.in_force = state.in_force.map(|said| InForce {
        replication: Replication::Sync,
        ..said
    });
    stage.elector.tell(&state, &elected).await;
    let event = stage.events.lock().last().cloned().unwrap();
    assert!(event.starts_with("Normal "), "{event}");
    assert!(!event.contains("lost"), "{event}");
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
    assert!(finding.is_some_and(|finding| finding.contains("older than what was seen of it")));
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

fn hand_over(to: u32) -> Task {
    Task::HandOver {
        to: ReplicaId(to),
        at: Epoch(1),
        by: Some("r".into()),
    }
}

#[tokio::test]
async fn handover_is_asked_by_the_record_and_seen_through_to_the_opening() {
    let mut stage = Stage::serving().await;
    stage.look().await;
    assert_eq!(stage.ask(hand_over(3)).await, Ok(()));
    let asked = stage.state().await;
    assert_eq!(asked.handover, Some(ReplicaId(3)));
    stage.look().await;
    assert_eq!(stage.handed(), None);
    let handed = asked.handed_over(Proposal(77), member(3));
    stage.memory.replace(Some(handed));
    stage.is(1, RoleName::InSync, Epoch(2));
    stage.is(3, RoleName::Activating, Epoch(2));
    stage.look().await;
    assert_eq!(stage.handed(), None, "it has not opened");
    stage.is(3, RoleName::Master, Epoch(2));
    stage.look().await;
    let opened = stage.handed();
    assert!(
        matches!(
            opened,
            Some(Course::Opened {
                epoch: Epoch(2),
                ..
            })
        ),
        "{opened:?}"
    );
    let metrics = Arc::clone(&stage.elector.post.context.metrics);
    assert_eq!(metrics.write_pause_seconds.get_sample_count(), 1);
    stage.look().await;
    assert_eq!(metrics.write_pause_seconds.get_sample_count(), 1);
    assert_eq!(stage.elected(), 0, "nobody was elected");
    stage.end().await;
}

#[tokio::test]
async fn handover_that_cannot_come_about_is_not_asked() {
    let mut stage = Stage::serving().await;
    let before = stage.state().await;
    stage.is(3, RoleName::Halted, Epoch(1));
    let said = stage.ask(hand_over(3)).await.unwrap_err();
    assert!(said.contains("orders-0-2 has halted"), "{said}");
    let late = Task::HandOver {
        to: ReplicaId(2),
        at: Epoch(7),
        by: None,
    };
    let said = stage.ask(late).await.unwrap_err();
    assert!(said.contains("in epoch 1 by now"), "{said}");
    assert_eq!(stage.state().await, before);
    stage.end().await;
}

/// A rolling update asks again soon when nothing came of its asking, and not while the master may be at it.
#[tokio::test]
async fn rolling_update_may_ask_again_unless_the_master_was_asked() {
    let mut stage = Stage::serving().await;
    let context = Arc::clone(&stage.elector.post.context);
    let (namespace, group) = {
        let post = &stage.elector.post;
        (post.namespace.clone(), post.group.clone())
    };
    let may = || context.elections.may_hand_over(&namespace, &group);
    let to = |to| Task::HandOver {
        to: ReplicaId(to),
        at: Epoch(1),
        by: None,
    };
    stage.is(3, RoleName::Halted, Epoch(1));
    assert!(stage.ask(to(3)).await.is_err());
    assert!(may());
    assert!(stage.events.lock().is_empty(), "it was not asked");
    assert_eq!(stage.ask(to(2)).await, Ok(()));
    assert!(!may());
    let told = stage.events.lock().clone();
    assert!(
        matches!(&told[..], [one] if one.contains("so that its pod can be replaced")),
        "{told:?}"
    );
    stage.end().await;
}

/// A later one to the same pod has another epoch and another pause.
#[tokio::test]
async fn every_handover_is_an_event_of_its_own() {
    let mut stage = Stage::serving().await;
    let state = stage.state().await;
    for epoch in [2, 3] {
        stage.elector.handing = Some(Handing {
            by: None,
            to: ReplicaId(3),
            at: Epoch(epoch - 1),
            version: state.version,
            asked_ms: 0,
        });
        stage.is(3, RoleName::Master, Epoch(epoch));
        let round = Round {
            reports: vec![*stage.told[&3].lock()],
            ..Round::default()
        };
        stage.elector.note(&state, &round).await;
    }
    let events = stage.events.lock().clone();
    assert_eq!(events.len(), 2, "{events:?}");
    for (event, epoch) in events.iter().zip([2, 3]) {
        let told = format!("orders-0-2 took over in epoch {epoch} by a planned handover");
        assert!(event.contains(&told), "{event}");
    }
    stage.end().await;
}

#[tokio::test]
async fn handover_that_the_master_took_back_is_noted() {
    let mut stage = Stage::serving().await;
    assert_eq!(stage.ask(hand_over(2)).await, Ok(()));
    let asked = stage.state().await;
    let back = asked.handover_asked(Proposal(77), None);
    stage.memory.replace(Some(back));
    stage.look().await;
    assert_eq!(stage.handed(), Some(Course::TakenBack));
    let metrics = Arc::clone(&stage.elector.post.context.metrics);
    assert_eq!(metrics.write_pause_seconds.get_sample_count(), 0);
    stage.end().await;
}

#[tokio::test]
async fn choice_of_a_person_is_carried_out_once_and_kept_in_the_record() {
    let mut stage = Stage::new().await;
    let force = || Task::Force {
        to: ReplicaId(3),
        at: Epoch(1),
        reason: "ada chose it".into(),
    };
    let said = stage.ask(force()).await.unwrap_err();
    assert!(said.contains("elected by itself"), "{said}");
    // The dead master alone had everything.
    let mut alone = stage.state().await.following(Proposal(77));
    alone.in_sync = [member(1)].into();
    alone.last_complete = [ReplicaId(1)].into();
    stage.memory.replace(Some(alone));
    stage.look().await;
    let state = stage.state().await;
    assert_eq!(state.epoch, Epoch(1), "nobody is elected by itself");
    assert_eq!(stage.ask(force()).await, Ok(()));
    let state = stage.state().await;
    assert_eq!((state.epoch, state.master), (Epoch(2), Some(member(3))));
    assert_eq!(state.unclean[0].reason, "ada chose it");
    assert!(state.replicas[&ReplicaId(1)].lost && !state.replicas[&ReplicaId(2)].lost);
    let metrics = Arc::clone(&stage.elector.post.context.metrics);
    assert_eq!(metrics.elections(ElectionKind::Unclean), 1);
    let said = stage.ask(force()).await.unwrap_err();
    assert!(said.contains("was made for epoch 1"), "{said}");
    stage.end().await;
}
