//! Requests from their making to their end, without a cluster: what was seen goes in, a status and an effect come out.

mod force;
mod rebuild;
mod restart;
mod switchover;

use rocket_api::RocketBrokerGroup;
use rocket_coordinator::kubernetes::status_of;
use rocket_replication::memory::{group, member};
use rocket_replication::messages::{Report, RoleName};
use rocket_replication::state::{Activation, State};
use rocket_replication::{Epoch, PhysicalOffset, ReplicaId, Version};
use serde_json::{Value, json};

use super::*;
use crate::elections::Handed;
use crate::elections::handover::Course;

const MADE_S: i64 = 1_800_000_000;

/// A cluster of one group with three replicas, of which the first is master and open and all are in sync.
struct Scene {
    cluster: Option<RocketCluster>,
    state: State,
    observed: Observed,
    standings: BTreeMap<i32, Standing>,
    names: Names,
    ahead: Option<String>,
    /// Seconds since the request was made.
    age_s: i64,
}

fn report(id: u32, role: RoleName, epoch: u64) -> Report {
    Report {
        member: member(id),
        role,
        max_epoch: Epoch(epoch),
        last: None,
        log_end: PhysicalOffset(100),
        durable_end: PhysicalOffset(100),
        confirm: PhysicalOffset(100),
        version: Version(1),
        master_linked: role == RoleName::InSync,
        damaged: false,
    }
}

fn pod(ordinal: i32, uid: &str) -> k8s_openapi::api::core::v1::Pod {
    let pod = json!({
        "metadata": {
            "name": format!("orders-0-{ordinal}"),
            "uid": uid,
            "labels": {"rocketcluster.io/group": "0"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "orders-0", "uid": "set", "controller": true}],
        },
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    });
    serde_json::from_value(pod).unwrap()
}

impl Scene {
    fn new() -> Self {
        let mut state = group(3);
        state.in_sync = [1, 2, 3].map(member).into();
        state.last_complete = [1, 2, 3].map(ReplicaId).into();
        state.min_in_sync = 2;
        let cluster = json!({"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketCluster", "metadata": {"name": "orders", "namespace": "mq", "uid": "u"}, "spec": {"groups": {"replicas": 3}}});
        let mut scene = Self {
            cluster: Some(serde_json::from_value(cluster).unwrap()),
            state,
            observed: Observed::default(),
            standings: BTreeMap::new(),
            names: Names {
                cluster: "orders".into(),
                namespace: "mq".into(),
                domain: "cluster.local".into(),
            },
            ahead: None,
            age_s: 1,
        };
        scene.observed.pods = (0..3)
            .map(|ordinal| pod(ordinal, &format!("pod-{ordinal}")))
            .collect();
        scene.open();
        scene.answers(&[
            report(1, RoleName::Master, 1),
            report(2, RoleName::InSync, 1),
            report(3, RoleName::InSync, 1),
        ]);
        scene
    }

    fn open(&mut self) {
        self.state.activated = Some(Activation {
            epoch: self.state.epoch,
            start_offset: PhysicalOffset(0),
        });
    }

    fn answers(&mut self, reports: &[Report]) {
        let handed = self
            .standings
            .remove(&0)
            .and_then(|standing| standing.handed);
        let standing = Standing {
            reports: reports.to_vec(),
            survey: BTreeMap::new(),
            handed,
        };
        self.standings.insert(0, standing);
    }

    fn handed(&mut self, course: Course) {
        let standing = self.standings.get_mut(&0).unwrap();
        standing.handed = Some(Handed {
            by: Some("r".into()),
            course,
            ended: Timestamp::from_second(MADE_S + self.age_s).unwrap(),
        });
    }

    /// One look; the status that it gives is the request's from then on.
    fn look(&mut self, request: &mut RocketOperation) -> Option<Effect> {
        let uid = format!("{:032x}", self.state.group_uid.0);
        let uid = [0..8, 8..12, 12..16, 16..20, 20..32]
            .map(|range| uid[range].to_owned())
            .join("-");
        let record = json!({"metadata": {"name": "orders-0", "uid": uid}, "spec": {"cluster": "orders", "index": 0}, "status": status_of(&self.state).unwrap()});
        let record: RocketBrokerGroup = serde_json::from_value(record).unwrap();
        self.observed
            .groups
            .entry("orders-0".into())
            .or_insert(record);
        let seen = Seen {
            now: Timestamp::from_second(MADE_S + self.age_s).unwrap(),
            cluster: self.cluster.as_ref(),
            names: &self.names,
            observed: &self.observed,
            standings: &self.standings,
            ahead: self.ahead.clone(),
        };
        let verdict = decide(request, &seen);
        self.observed.groups.clear();
        request.status = Some(verdict.status);
        verdict.effect
    }
}

fn request(spec: Value) -> RocketOperation {
    named("sw", "r", spec)
}

fn named(name: &str, uid: &str, spec: Value) -> RocketOperation {
    let mut whole = json!({"cluster": "orders"});
    let Value::Object(spec) = spec else {
        panic!("{spec} is no specification");
    };
    whole.as_object_mut().unwrap().extend(spec);
    let made = Timestamp::from_second(MADE_S).unwrap().to_string();
    serde_json::from_value(json!({"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketOperation", "metadata": {"name": name, "namespace": "mq", "uid": uid, "creationTimestamp": made}, "spec": whole})).unwrap()
}

fn switchover() -> RocketOperation {
    request(json!({"type": "Switchover", "group": 0, "to": "orders-0-2"}))
}

fn force() -> RocketOperation {
    request(
        json!({"type": "ForceElect", "group": 0, "to": "orders-0-2", "epoch": 1, "requestedBy": "ada"}),
    )
}

/// Phase and message.
#[track_caller]
fn is(request: &RocketOperation, phase: OperationPhase, sentence: &str) {
    let status = request.status.as_ref().unwrap();
    assert_eq!(status.phase, phase, "{}", status.message);
    assert!(
        status.message.contains(sentence),
        "{:?} is not {sentence:?}",
        status.message
    );
    let has_ended = matches!(phase, OperationPhase::Succeeded | OperationPhase::Failed);
    assert_eq!(request.has_ended(), has_ended);
    assert_eq!(status.conditions.len(), usize::from(has_ended));
}

#[test]
fn earlier_request_about_the_same_group_comes_first() {
    let first = named("a", "1", json!({"type": "Restart"}));
    let second = named("b", "2", json!({"type": "Switchover", "group": 0}));
    let third = named("c", "3", json!({"type": "Switchover", "group": 1}));
    let force = json!({"type": "ForceElect", "group": 0, "to": "orders-0-1", "epoch": 1, "requestedBy": "ada"});
    let force = named("d", "4", force);
    let mut all = vec![force.clone(), third.clone(), second.clone(), first.clone()];
    assert_eq!(ahead(&first, &all), None);
    assert_eq!(ahead(&second, &all).as_deref(), Some("a"));
    assert_eq!(ahead(&third, &all).as_deref(), Some("a"));
    assert_eq!(ahead(&force, &all), None, "it waits for nobody");
    all[3].status = Some(OperationStatus {
        finished_at: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            Timestamp::UNIX_EPOCH,
        )),
        ..OperationStatus::default()
    });
    assert_eq!(ahead(&second, &all), None);
    assert_eq!(ahead(&third, &all), None, "another group is another matter");
}

#[test]
fn what_may_have_lost_messages_is_kept_unless_its_maker_says_otherwise() {
    let week = Some(7 * 24 * 3600);
    assert_eq!((ttl_s(&switchover()), ttl_s(&force())), (week, None));
    let soon = request(json!({"type": "Restart", "ttlSecondsAfterFinished": 0}));
    assert_eq!(ttl_s(&soon), Some(0));
}

/// Else an answer that stays the same, as a refusal, is asked for ten times a second for ever.
#[test]
fn what_was_not_done_is_tried_again_after_the_ordinary_pause() {
    for (phase, ordinary) in [
        (OperationPhase::Pending, PENDING),
        (OperationPhase::Running, RUNNING),
    ] {
        assert_eq!(pause(phase, Performed::Nothing), ordinary);
        assert_eq!(pause(phase, Performed::Done), SOON);
    }
}
