//! Replicas that are played: they register, answer questions over real links and write what a master writes, by the same code
//! that brokers run.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Client, ResourceExt};
use parking_lot::Mutex;
use rocket_api::{RocketBrokerGroup, label};
use rocket_coordinator::kubernetes::{KubernetesCoordinator, state_of};
use rocket_coordinator::{Cas, CasAnswer, Coordinator as _, ReadAnswer};
use rocket_link::{Event, Links, Message, Outgoing, Settings};
use rocket_operator::secret;
use rocket_replication::changes::{Registering, Registration};
use rocket_replication::identity::{DiskId, Epoch, Incarnation, Member, Proposal};
use rocket_replication::messages::{Holding, Report, RoleName};
use rocket_replication::mutations::Mutations;
use rocket_replication::recovery::Evidence;
use rocket_replication::state::{Activation, State};
use rocket_replication::{PhysicalOffset, Version};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Lab;

/// A replica that holds nothing and says so.
pub(super) struct Replica {
    pub(super) member: Member,
    who: Registration,
    report: Arc<Mutex<Report>>,
    holding: Arc<Mutex<Holding>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Replica {
    /// Registers as the pod of a group and listens.
    pub(super) async fn start(lab: &Lab, group: &str, ordinal: u32) -> Self {
        let (cluster, _) = group.rsplit_once('-').unwrap();
        let name = format!("{cluster}-replication");
        let made = lab.until(&name, "made", |secret: &Secret| secret.data.is_some());
        let owner = made.await.metadata.owner_references.unwrap().remove(0);
        let read = secret::read(&lab.client, (&lab.namespace, &name), &owner.uid);
        let secret = read.await.unwrap().secret;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let pod = format!("{group}-{ordinal}");
        lab.ports.lock().insert(pod, port);
        let who = Registration {
            group_uid: None,
            disk_id: DiskId(rand::random()),
            incarnation: Incarnation(rand::random()),
            address: format!("{group}-{ordinal}.test:{port}"),
            durable: true,
            evidence: Evidence::default(),
            max_epoch: Epoch(0),
            max_version: Version(0),
        };
        let member = register(lab, group, &who).await;
        let report = Arc::new(Mutex::new(Report {
            member,
            role: RoleName::Idle,
            max_epoch: Epoch(0),
            last: None,
            log_end: PhysicalOffset(0),
            durable_end: PhysicalOffset(0),
            confirm: PhysicalOffset(0),
            version: Version(0),
            master_linked: false,
            damaged: false,
        }));
        let holding = Arc::new(Mutex::new(Holding {
            disk_id: who.disk_id,
            group: None,
            former: None,
            incarnation: who.incarnation,
            role: RoleName::Idle,
            max_epoch: Epoch(0),
            version: Version(0),
            last: None,
            log_end: PhysicalOffset(0),
            damaged: false,
        }));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (links, mut events) =
            Links::new(Settings::default(), secret, tasks.clone(), stop.clone());
        links.listen(listener);
        let (told, held) = (Arc::clone(&report), Arc::clone(&holding));
        let answering = async move {
            while let Some(event) = events.recv().await {
                let Event::Received { link, message, .. } = event else {
                    continue;
                };
                let said = match message {
                    Message::Probe => Message::Report(*told.lock()),
                    Message::Survey => Message::Holding(Box::new(*held.lock())),
                    _ => continue,
                };
                links.send(link, Outgoing::Message(said));
            }
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(answering));
        Self {
            member,
            who,
            report,
            holding,
            stop,
            tasks,
        }
    }

    /// It has durably seen this state of its group.
    pub(super) fn knows(&self, state: &State) {
        let mut holding = self.holding.lock();
        holding.group = Some((state.group_uid, self.member.replica_id));
        (holding.max_epoch, holding.version) = (state.epoch, state.version);
    }

    /// Registers with an object that was made anew, as what it said that it holds.
    pub(super) async fn adopt(&mut self, lab: &Lab, group: &str) {
        let held = *self.holding.lock();
        let who = Registration {
            group_uid: held.group.map(|(uid, _)| uid),
            max_epoch: held.max_epoch,
            max_version: held.version,
            ..self.who.clone()
        };
        assert_eq!(register(lab, group, &who).await, self.member);
    }

    pub(super) fn is(&self, role: RoleName, epoch: Epoch, master_linked: bool) {
        let mut report = self.report.lock();
        (report.role, report.max_epoch, report.master_linked) = (role, epoch, master_linked);
        self.holding.lock().role = role;
    }

    /// Its process is gone: nobody listens any more.
    pub(super) async fn kill(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

pub(super) fn coordinator(
    client: &Client,
    lab: &Lab,
    group: &str,
) -> (KubernetesCoordinator, TaskTracker) {
    let tasks = TaskTracker::new();
    let register = KubernetesCoordinator::new(client.clone(), &lab.namespace, group, &tasks);
    (register, tasks)
}

pub(super) async fn read(register: &KubernetesCoordinator) -> Arc<State> {
    match register.read_current().await {
        ReadAnswer::State(state) => state,
        other => panic!("{other:?}"),
    }
}

async fn register(lab: &Lab, group: &str, who: &Registration) -> Member {
    let (register, _tasks) = coordinator(&lab.client, lab, group);
    loop {
        let state = read(&register).await;
        let proposal = Proposal(rand::random());
        match state.registering(proposal, who, Mutations::default()) {
            Registering::Write(new) => {
                let cas = Cas {
                    expected: state.version,
                    new: Arc::new(*new),
                };
                register.cas(cas).await;
            }
            Registering::Done(replica_id) => {
                return Member {
                    replica_id,
                    incarnation: who.incarnation,
                };
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Writes a change as a broker does: again if somebody was faster.
pub(super) async fn change(lab: &Lab, group: &str, change: impl Fn(&State, Proposal) -> State) {
    let (register, _tasks) = coordinator(&lab.client, lab, group);
    loop {
        let state = read(&register).await;
        let cas = Cas {
            expected: state.version,
            new: Arc::new(change(&state, Proposal(rand::random()))),
        };
        if let CasAnswer::Applied(_) = register.cas(cas).await {
            return;
        }
    }
}

/// What a master does after its election: it opens, and lets the others grow into S as they catch up.
pub(super) async fn open(lab: &Lab, group: &str, others: &[&Replica]) {
    change(lab, group, |state, proposal| {
        let opened = Activation {
            epoch: state.epoch,
            start_offset: PhysicalOffset(0),
        };
        state.opened(proposal, opened)
    })
    .await;
    for replica in others {
        change(lab, group, |state, proposal| {
            state.grown(proposal, replica.member, Mutations::default())
        })
        .await;
    }
}

pub(super) async fn state(lab: &Lab, group: &str) -> State {
    state_of(&lab.api::<RocketBrokerGroup>().get(group).await.unwrap()).unwrap()
}

/// Waits until the operator has begun the record of a group.
pub(super) async fn until_recorded(lab: &Lab, group: &str) -> RocketBrokerGroup {
    let is_recorded = |group: &RocketBrokerGroup| group.status.is_some();
    lab.until(group, "recorded", is_recorded).await
}

pub(super) async fn until_epoch(lab: &Lab, group: &str, epoch: i64) -> State {
    let is_there = |group: &RocketBrokerGroup| {
        let state = group.status.as_ref();
        state.is_some_and(|state| state.epoch >= epoch)
    };
    let what = format!("in epoch {epoch}");
    let group = lab.until(group, &what, is_there).await;
    state_of(&group).unwrap()
}

pub(super) async fn until_master(lab: &Lab, pod: &str) {
    lab.until(pod, "labelled as master", |pod: &Pod| {
        pod.labels().get(label::ROLE).map(String::as_str) == Some(label::ROLE_MASTER)
    })
    .await;
}

/// A group of three under a master that is open, all in sync.
pub(super) async fn serving(lab: &Lab, cluster: &str) -> Vec<Replica> {
    let group = format!("{cluster}-0");
    lab.play_kubelet();
    lab.create(cluster, &json!({"groups": {"replicas": 3}}))
        .await;
    until_recorded(lab, &group).await;
    let mut replicas = Vec::new();
    for ordinal in 0..3 {
        replicas.push(Replica::start(lab, &group, ordinal).await);
    }
    until_epoch(lab, &group, 1).await;
    replicas[0].is(RoleName::Master, Epoch(1), false);
    for slave in &replicas[1..] {
        slave.is(RoleName::InSync, Epoch(1), true);
    }
    open(lab, &group, &[&replicas[1], &replicas[2]]).await;
    lab.until_ready(cluster).await;
    replicas
}
