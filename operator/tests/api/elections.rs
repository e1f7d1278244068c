//! Groups that elect: a real operator and record, and replicas that are played: they register, answer questions over real
//! links and write what a master writes, by the same code that brokers run.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::api::events::v1::Event as KubeEvent;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Config, ResourceExt};
use parking_lot::Mutex;
use rocket_api::{
    ConditionType, GroupRule, Reason, RocketBrokerGroup, RocketCluster, Truth, label,
};
use rocket_coordinator::kubernetes::{KubernetesCoordinator, state_of};
use rocket_coordinator::{Cas, CasAnswer, Coordinator as _, ReadAnswer};
use rocket_link::{Event, Links, Message, Outgoing, Settings};
use rocket_operator::metrics::ElectionKind;
use rocket_operator::secret;
use rocket_replication::changes::{Registering, Registration};
use rocket_replication::identity::{DiskId, Epoch, Incarnation, Member, Proposal};
use rocket_replication::messages::{Holding, Report, RoleName};
use rocket_replication::mutations::Mutations;
use rocket_replication::recovery::Evidence;
use rocket_replication::replica::Flush;
use rocket_replication::state::{Activation, State};
use rocket_replication::{InForce, PhysicalOffset, Policy, Replication, Version};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::edits::watch_deletions;
use super::{Lab, PATIENCE, in_electing_lab, is};

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
        lab.until(&name, "made", |secret: &Secret| secret.data.is_some())
            .await;
        let secret = secret::read(&lab.client, &lab.namespace, &name)
            .await
            .unwrap()
            .unwrap();
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
                    Message::Survey => Message::Holding(*held.lock()),
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

fn coordinator(client: &Client, lab: &Lab, group: &str) -> (KubernetesCoordinator, TaskTracker) {
    let tasks = TaskTracker::new();
    let register = KubernetesCoordinator::new(client.clone(), &lab.namespace, group, &tasks);
    (register, tasks)
}

async fn read(register: &KubernetesCoordinator) -> Arc<State> {
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

#[test]
fn first_record_is_nobodys_until_brokers_register_and_a_dead_master_is_replaced() {
    in_electing_lab(|lab| async move {
        lab.play_kubelet();
        // Two operators, neither of which knows of the other.
        lab.another_operator().await;
        lab.create("el", &json!({"groups": {"replicas": 3}})).await;
        let group: RocketBrokerGroup = lab
            .until("el-0", "recorded", |group: &RocketBrokerGroup| {
                group.status.is_some()
            })
            .await;
        let status = group.status.as_ref().unwrap();
        assert_eq!(
            (
                status.rule,
                status.version,
                status.epoch,
                status.min_in_sync
            ),
            (GroupRule::Elected, 1, 0, 2)
        );
        assert!(status.master.is_none() && status.replicas.is_empty());

        let mut replicas = Vec::new();
        for ordinal in 0..3 {
            replicas.push(Replica::start(&lab, "el-0", ordinal).await);
        }
        let [one, two, three] = &replicas[..] else {
            unreachable!()
        };
        let first = until_epoch(&lab, "el-0", 1).await;
        assert_eq!(first.master, Some(one.member), "equals: the lowest number");
        assert!(first.unclean.is_empty());
        one.is(RoleName::Master, Epoch(1), false);
        two.is(RoleName::InSync, Epoch(1), true);
        three.is(RoleName::InSync, Epoch(1), true);
        until_master(&lab, "el-0-0").await;
        open(&lab, "el-0", &[two, three]).await;
        lab.until_ready("el").await;
        let cluster = lab
            .until("el", "whole", |cluster: &RocketCluster| {
                is(cluster, ConditionType::ReplicationHealthy, Truth::True)
                    && is(cluster, ConditionType::FailoverReady, Truth::True)
            })
            .await;
        assert_eq!(cluster.status.unwrap().groups[0].in_sync.len(), 3);
        lab.until(
            "el-0",
            "open to evictions",
            |budget: &PodDisruptionBudget| {
                let text = serde_json::to_value(&budget.spec).unwrap();
                text["maxUnavailable"] == 1
            },
        )
        .await;
        lab.wake("el").await;
        let (before, version) = (lab.writes(), state(&lab, "el-0").await.version);
        for _ in 0..3 {
            lab.wake("el").await;
        }
        assert_eq!(lab.writes() - before, 0, "writes in a steady state");
        assert_eq!(state(&lab, "el-0").await.version, version);

        // The container ends. Kubernetes goes on calling the pod ready for a while.
        one.kill().await;
        two.is(RoleName::InSync, Epoch(1), false);
        three.is(RoleName::InSync, Epoch(1), false);
        let ended = json!({"status": {"containerStatuses": [{"name": "broker", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 137}}}]}});
        lab.api::<Pod>()
            .patch_status("el-0-0", &PatchParams::default(), &Patch::Merge(ended))
            .await
            .unwrap();
        let second = until_epoch(&lab, "el-0", 2).await;
        assert_eq!(second.master, Some(two.member));
        assert!(!second.in_sync.contains(&one.member), "it did not report");
        two.is(RoleName::Master, Epoch(2), false);
        three.is(RoleName::InSync, Epoch(2), true);
        until_master(&lab, "el-0-1").await;
        let former = lab.api::<Pod>().get("el-0-0").await.unwrap();
        assert_eq!(former.labels()[label::ROLE], label::ROLE_STANDBY);
        open(&lab, "el-0", &[]).await;
        lab.until("el", "serving", |cluster: &RocketCluster| {
            is(cluster, ConditionType::Available, Truth::True)
                && is(cluster, ConditionType::ReplicationHealthy, Truth::False)
        })
        .await;
        let settled = state(&lab, "el-0").await;
        assert_eq!(settled.epoch, Epoch(2), "two electors, one election");
        assert!(settled.unclean.is_empty());

        let elected = |kind| {
            let operators = lab.operators();
            let counts = operators.iter().map(|metrics| metrics.elections(kind));
            counts.sum::<u64>()
        };
        let kinds = [
            ElectionKind::First,
            ElectionKind::Clean,
            ElectionKind::Unclean,
        ];
        assert_eq!(kinds.map(elected), [1, 1, 0]);
        let told = until_told(&lab, "elected el-0-1 in epoch 2; el-0-0 did not answer").await;
        assert!(told, "no event tells of the election");
        for replica in &replicas {
            replica.kill().await;
        }
    });
}

/// A group of three under a master that is open, all in sync.
pub(super) async fn serving(lab: &Lab, cluster: &str) -> Vec<Replica> {
    let group = format!("{cluster}-0");
    lab.play_kubelet();
    lab.create(cluster, &json!({"groups": {"replicas": 3}}))
        .await;
    lab.until(&group, "recorded", |group: &RocketBrokerGroup| {
        group.status.is_some()
    })
    .await;
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

#[test]
fn slaves_are_replaced_first_and_the_master_hands_over_before_its_turn() {
    in_electing_lab(|lab| async move {
        let replicas = serving(&lab, "roll").await;
        let gone = Arc::new(std::sync::Mutex::new(Vec::new()));
        let watched = watch_deletions(&lab, 3, Arc::clone(&gone)).await;
        lab.edit("roll", &json!({"retention": {"hours": 7}})).await;
        let asked = lab
            .until(
                "roll-0",
                "asked to hand over",
                |group: &RocketBrokerGroup| group.status.as_ref().unwrap().handover.is_some(),
            )
            .await;
        assert_eq!(*gone.lock().unwrap(), ["roll-0-1", "roll-0-2"]);
        assert_eq!(asked.status.unwrap().handover, Some(2));
        change(&lab, "roll-0", |state, proposal| {
            state.handed_over(proposal, replicas[1].member)
        })
        .await;
        until_master(&lab, "roll-0-1").await;
        open(&lab, "roll-0", &[]).await;
        lab.until_ready("roll").await;
        watched.abort();
        assert_eq!(*gone.lock().unwrap(), ["roll-0-1", "roll-0-2", "roll-0-0"]);
        assert_eq!(
            state(&lab, "roll-0").await.epoch,
            Epoch(2),
            "nobody was elected"
        );
        for replica in &replicas {
            replica.kill().await;
        }
    });
}

pub(super) async fn until_told(lab: &Lab, wanted: &str) -> bool {
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let wait = async {
        loop {
            ticks.tick().await;
            let api = lab.api::<KubeEvent>();
            let events = api.list(&ListParams::default()).await.unwrap().items;
            let mut notes = events.iter().filter_map(|event| event.note.as_deref());
            if notes.any(|note| note.contains(wanted)) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.is_ok()
}

#[test]
fn another_number_of_copies_is_the_next_version_and_restarts_nobody() {
    in_electing_lab(|lab| async move {
        lab.play_kubelet();
        lab.create("copies", &json!({"groups": {"replicas": 3}}))
            .await;
        lab.until("copies-0", "recorded", |group: &RocketBrokerGroup| {
            group.status.is_some()
        })
        .await;
        let replica = Replica::start(&lab, "copies-0", 0).await;
        lab.until("copies-0-0", "there", |_: &Pod| true).await;
        let pod = lab.api::<Pod>().get("copies-0-0").await.unwrap().uid();
        lab.edit("copies", &json!({"replication": {"minInSync": 3}}))
            .await;
        lab.until("copies-0", "of three", |group: &RocketBrokerGroup| {
            group.status.as_ref().unwrap().min_in_sync == 3
        })
        .await;
        let state = state(&lab, "copies-0").await;
        assert_eq!(state.replicas.len(), 1, "what brokers wrote is still there");
        assert_eq!(lab.api::<Pod>().get("copies-0-0").await.unwrap().uid(), pod);
        replica.kill().await;
    });
}

/// The brokers are played, so nothing shows here that they keep the modes; that is shown with real ones elsewhere.
#[test]
fn other_modes_are_asked_for_in_the_record_and_no_pod_template_changes() {
    in_electing_lab(|lab| async move {
        let replicas = serving(&lab, "modes").await;
        let made = |set: StatefulSet| (set.metadata.generation, set.spec.map(|s| s.template));
        let template = made(lab.api::<StatefulSet>().get("modes-0").await.unwrap());
        let applied = |truth, reason| {
            move |cluster: &RocketCluster| {
                let status = cluster.status.as_ref();
                let found = status.and_then(|s| s.condition(ConditionType::ConfigApplied));
                found.is_some_and(|c| (c.status, c.reason) == (truth, reason))
            }
        };
        lab.until("modes", "applied", applied(Truth::True, Reason::UpToDate))
            .await;
        let wanted = json!({"flush": "Async", "replication": {"mode": "Async"}});
        lab.edit("modes", &wanted).await;
        let awaited = applied(Truth::False, Reason::ModesChanging);
        lab.until("modes", "awaiting its modes", awaited).await;
        let asked = Policy {
            flush: Flush::Async,
            replication: Replication::Async,
        };
        let record = state(&lab, "modes-0").await;
        let before = record.in_force.expect("it was begun with modes");
        assert_eq!(record.policy, Some(asked));
        assert_eq!(
            (before.flush, before.replication),
            (Flush::Sync, Replication::Sync)
        );

        // What a master writes when it keeps them.
        let (flush, replication) = (asked.flush, asked.replication);
        let said = InForce {
            flush,
            replication,
            ..before
        };
        change(&lab, "modes-0", |state, proposal| {
            state.with_in_force(proposal, said)
        })
        .await;
        lab.until(
            "modes",
            "applied again",
            applied(Truth::True, Reason::UpToDate),
        )
        .await;
        lab.until(
            "modes",
            "no heir to all answers",
            |cluster: &RocketCluster| is(cluster, ConditionType::FailoverReady, Truth::False),
        )
        .await;
        let after = made(lab.api::<StatefulSet>().get("modes-0").await.unwrap());
        assert_eq!(after, template);

        // The API server knows the rules too.
        change(&lab, "modes-0", |state, proposal| {
            let all = state.replicas.keys().copied().collect();
            state.with_durable(proposal, &all, false)
        })
        .await;
        let (register, _tasks) = coordinator(&lab.client, &lab, "modes-0");
        let now = read(&register).await;
        let untrue = now.with_in_force(Proposal(7), before);
        let mut vanished = now.following(Proposal(8));
        vanished.policy = None;
        for new in [untrue, vanished] {
            let cas = Cas {
                expected: now.version,
                new: Arc::new(new),
            };
            assert_eq!(register.cas(cas).await, CasAnswer::Unsent);
        }
        for replica in &replicas {
            replica.kill().await;
        }
    });
}

#[test]
fn account_of_a_broker_reaches_its_own_record_and_nothing_else() {
    in_electing_lab(|lab| async move {
        lab.create("mine", &json!({"groups": {"replicas": 2, "count": 2}}))
            .await;
        for group in ["mine-0", "mine-1"] {
            lab.until(group, "recorded", |group: &RocketBrokerGroup| {
                group.status.is_some()
            })
            .await;
        }
        lab.until("mine-0", "bound", |_: &RoleBinding| true).await;
        let mut config = Config::infer().await.unwrap();
        let account = format!("system:serviceaccount:{}:mine-0", lab.namespace);
        config.auth_info.impersonate = Some(account);
        let broker = Client::try_from(config).unwrap();

        let (own, _tasks) = coordinator(&broker, &lab, "mine-0");
        let mut hints = own.watch();
        let state = read(&own).await;
        let hinted = hints.wait_for(|seen| seen.as_ref().is_some_and(|s| **s == *state));
        tokio::time::timeout(PATIENCE, hinted)
            .await
            .expect("the watch shows the own record")
            .unwrap();
        let next = state.with_min_in_sync(Proposal(7), 1, Mutations::default());
        let cas = Cas {
            expected: state.version,
            new: Arc::new(next.following(Proposal(8))),
        };
        // Two steps at once break a rule of the record; one does not.
        assert_eq!(own.cas(cas).await, CasAnswer::Unsent);
        let cas = Cas {
            expected: state.version,
            new: Arc::new(next),
        };
        assert!(matches!(own.cas(cas).await, CasAnswer::Applied(_)));

        let (other, _tasks) = coordinator(&broker, &lab, "mine-1");
        assert_eq!(other.read_current().await, ReadAnswer::Unreachable);
        let groups: Api<RocketBrokerGroup> = Api::namespaced(broker.clone(), &lab.namespace);
        let mut theirs = lab.api::<RocketBrokerGroup>().get("mine-1").await.unwrap();
        theirs.metadata.managed_fields = None;
        let written = groups
            .replace_status("mine-1", &PostParams::default(), &theirs)
            .await;
        let patch = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
        let patched = groups
            .patch("mine-0", &PatchParams::default(), &patch)
            .await;
        let deleted = groups.delete("mine-0", &DeleteParams::default()).await;
        let secrets: Api<Secret> = Api::namespaced(broker.clone(), &lab.namespace);
        let pods: Api<Pod> = Api::namespaced(broker.clone(), &lab.namespace);
        for (what, answer) in [
            ("replace the status of another group", written.map(drop)),
            (
                "list all groups",
                groups.list(&ListParams::default()).await.map(drop),
            ),
            ("edit its own record", patched.map(drop)),
            ("delete its own record", deleted.map(drop)),
            (
                "read the secret",
                secrets.get("mine-replication").await.map(drop),
            ),
            (
                "list pods",
                pods.list(&ListParams::default()).await.map(drop),
            ),
        ] {
            match answer {
                Err(kube::Error::Api(status)) => assert_eq!(status.code, 403, "{what}"),
                other => panic!("{what}: {other:?}"),
            }
        }
    });
}

#[test]
fn record_outlives_its_cluster_with_the_volumes_and_serves_the_next_of_the_name() {
    in_electing_lab(|lab| async move {
        lab.play_kubelet();
        lab.create("again", &json!({"groups": {"replicas": 2}}))
            .await;
        let owners =
            |count: usize| move |group: &RocketBrokerGroup| group.owner_references().len() == count;
        let group: RocketBrokerGroup = lab.until("again-0", "owned by volumes", owners(3)).await;
        let replica = Replica::start(&lab, "again-0", 0).await;
        let uid = group.uid();
        lab.api::<RocketCluster>()
            .delete("again", &DeleteParams::background())
            .await
            .unwrap();
        lab.until("again-0", "left", owners(2)).await;
        replica.kill().await;
        lab.until_gone::<Pod>("again-0-0").await;
        lab.create("again", &json!({"groups": {"replicas": 2}}))
            .await;
        let taken = lab.until("again-0", "taken", owners(3)).await;
        assert_eq!(taken.uid(), uid);
        assert_eq!(state(&lab, "again-0").await.replicas.len(), 1);
        let claims = lab.api::<PersistentVolumeClaim>();
        assert!(claims.get_opt("data-again-0-0").await.unwrap().is_some());
    });
}
