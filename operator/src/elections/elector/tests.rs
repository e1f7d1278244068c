//! One elector, two replicas that answer and a master that does not, and a coordinator behind a bad network.

mod elections;
mod handovers;
mod proving;
mod rebuilding;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use prometheus::Registry;
use rocket_api::RocketCluster;
use rocket_coordinator::faulty::Faulty;
use rocket_coordinator::memory::MemoryCoordinator;
use rocket_replication::memory::{group, member};
use rocket_replication::messages::{Report, RoleName};
use rocket_replication::state::Activation;
use rocket_replication::{PhysicalOffset, Version};
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::sync::oneshot;

use super::super::handover::Course;
use super::super::played::{answer, secret};
use super::super::probes::Route;
use super::super::{Answer, Task};
use super::*;
use crate::address::Home;
use crate::metrics::Metrics;
use crate::validate::Settings;

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
    /// Whether the API server takes what it is asked and answers nothing.
    is_mute: Arc<AtomicBool>,
    /// The Secret of the cluster as Kubernetes has it; null where there is none.
    held: Arc<Mutex<Value>>,
    /// What each replica says that answers.
    told: BTreeMap<u32, Arc<Mutex<Report>>>,
    /// The port of one that does not answer: nobody else is to have it.
    _silent: Option<TcpSocket>,
    tasks: TaskTracker,
    stop: CancellationToken,
    wanted: watch::Sender<Wanted>,
}

impl Stage {
    /// All three are in S; the container of the first, the master, has ended.
    fn new() -> Self {
        Self::with(Life::Ended)
    }

    /// All three are in S, and the first is a master that answers and takes sends.
    async fn serving() -> Self {
        let stage = Self::with(Life::Runs);
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

    fn with(life: Life) -> Self {
        let mut told = BTreeMap::new();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut state = group(3);
        state.version = Version(5);
        state.in_sync = [1, 2, 3].map(member).into();
        state.last_complete = [1, 2, 3].map(ReplicaId).into();
        let mut ports = BTreeMap::new();
        let mut silent = None;
        for (id, replica) in &mut state.replicas {
            let socket = TcpSocket::new_v4().unwrap();
            socket
                .bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
                .unwrap();
            let port = socket.local_addr().unwrap().port();
            ports.insert(format!("orders-0-{}", id.0 - 1), port);
            replica.address = format!("orders-0-{}.test:{port}", id.0 - 1);
            if id.0 > 1 || life == Life::Runs {
                let listener = socket.listen(64).unwrap();
                told.insert(id.0, answer(id.0, listener, &tasks, &stop));
            } else {
                silent = Some(socket);
            }
        }
        let patches = Arc::<Mutex<Vec<String>>>::default();
        let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
        let events = Lines::default();
        let written = (Arc::clone(&patches), Arc::clone(&events));
        let object = json!({"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketBrokerGroup", "metadata": {"name": "orders-0", "namespace": "mq", "uid": UID, "resourceVersion": "7"}, "spec": {"cluster": "orders", "index": 0}});
        let object = Arc::new(Mutex::new(object));
        let is_mute = Arc::<AtomicBool>::default();
        let held = Arc::<Mutex<Value>>::default();
        let server = (Arc::clone(&object), Arc::clone(&held), Arc::clone(&is_mute));
        let client = kubernetes(written, server, &tasks, &stop);
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
        let secret = Found {
            secret: secret(),
            version: String::new(),
        };
        Self {
            elector: Elector::new(post, Arc::clone(&front) as Arc<dyn Coordinator>, secret),
            memory,
            front,
            patches,
            events,
            object,
            is_mute,
            held,
            told,
            _silent: silent,
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
    (object, held, is_mute): (Arc<Mutex<Value>>, Arc<Mutex<Value>>, Arc<AtomicBool>),
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Client {
    let (service, mut requests) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let answering = async move {
        let mut open = Vec::new();
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
            if is_mute.load(Ordering::Relaxed) {
                open.push(respond);
                continue;
            }
            let is_record = head.uri.path().contains("/rocketbrokergroups/");
            let is_secret = head.uri.path().contains("/secrets/");
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
                _ if is_secret => held.lock().clone(),
                _ => json!({"metadata": {"name": "x"}}),
            };
            let missing = json!({"kind": "Status", "status": "Failure", "message": "not found", "reason": "NotFound", "code": 404});
            let (code, answer) = match answer {
                Value::Null if is_secret => (http::StatusCode::NOT_FOUND, missing),
                answer => (http::StatusCode::OK, answer),
            };
            let mut answer = Response::new(Body::from(answer.to_string().into_bytes()));
            *answer.status_mut() = code;
            respond.send_response(answer);
        }
    };
    tasks.spawn(stop.clone().run_until_cancelled_owned(answering));
    Client::new(service, "mq")
}
