//! Requests from their making to their end, without a cluster: what was seen goes in, a status and an effect come out.

mod rebuild;

use rocket_api::RocketBrokerGroup;
use rocket_coordinator::kubernetes::status_of;
use rocket_replication::identity::Proposal;
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
fn switchover_asks_once_and_is_done_when_the_successor_takes_writes() {
    let (mut scene, mut request) = (Scene::new(), switchover());
    let task = Task::HandOver {
        to: ReplicaId(3),
        at: Epoch(1),
        by: Some("r".into()),
    };
    assert_eq!(scene.look(&mut request), Some(Effect { index: 0, task }));
    is(
        &request,
        OperationPhase::Running,
        "asking orders-0-0 to hand over to orders-0-2",
    );
    assert_eq!(
        request.status.as_ref().unwrap().target,
        "orders-0-0 -> orders-0-2"
    );

    // Its deadline does not end what only the master can take back.
    scene.age_s = 100;
    let before = scene.state.clone();
    scene.state = before.handover_asked(Proposal(5), Some(ReplicaId(3)));
    assert_eq!(scene.look(&mut request), None);
    is(
        &request,
        OperationPhase::Running,
        "is asked to hand over to orders-0-2",
    );

    scene.age_s = 2;
    scene.state = scene.state.handed_over(Proposal(6), member(3));
    scene.answers(&[report(3, RoleName::Activating, 2)]);
    assert_eq!(scene.look(&mut request), None);
    is(
        &request,
        OperationPhase::Running,
        "has not opened for writes yet",
    );

    scene.open();
    scene.answers(&[report(3, RoleName::Master, 2)]);
    scene.handed(Course::Opened {
        epoch: Epoch(2),
        pause: Duration::from_millis(43),
    });
    assert_eq!(scene.look(&mut request), None);
    is(
        &request,
        OperationPhase::Succeeded,
        "orders-0-2 is master in epoch 2; no sends were taken for 43 ms at most",
    );
    let status = request.status.unwrap();
    assert_eq!(status.write_pause.as_deref(), Some("43ms"));
    assert_eq!(status.conditions[0].type_, "Complete");
}

#[test]
fn operator_that_began_anew_finds_what_was_asked_and_does_not_invent_a_pause() {
    let (mut scene, mut request) = (Scene::new(), switchover());
    scene.look(&mut request);
    scene.state = scene.state.handed_over(Proposal(6), member(3));
    scene.open();
    scene.standings.clear();
    assert_eq!(scene.look(&mut request), None);
    is(&request, OperationPhase::Running, "were not asked yet");
    scene.answers(&[report(3, RoleName::Master, 2)]);
    scene.look(&mut request);
    is(&request, OperationPhase::Succeeded, "was not measured");
    assert_eq!(request.status.unwrap().write_pause, None);
}

#[test]
fn switchover_that_was_written_down_and_never_asked_is_asked_again() {
    let (mut scene, mut request) = (Scene::new(), switchover());
    let first = scene.look(&mut request);
    assert!(first.is_some());
    assert_eq!(scene.look(&mut request), first);
}

#[test]
fn handover_that_the_master_took_back_is_not_tried_again_and_again() {
    let (mut scene, mut request) = (Scene::new(), switchover());
    scene.look(&mut request);
    scene.handed(Course::TakenBack);
    assert_eq!(scene.look(&mut request), None);
    is(&request, OperationPhase::Failed, "takes sends again");
    // The next request has nothing to do with that.
    let mut other = named(
        "sw-2",
        "s",
        json!({"type": "Switchover", "group": 0, "to": "orders-0-2"}),
    );
    assert!(scene.look(&mut other).is_some());
}

#[test]
fn election_that_came_between_ends_a_switchover() {
    let (mut scene, mut request) = (Scene::new(), switchover());
    scene.look(&mut request);
    scene.state = scene.state.handed_over(Proposal(6), member(2));
    scene.look(&mut request);
    is(
        &request,
        OperationPhase::Failed,
        "orders-0-1 and not orders-0-2 became master",
    );
}

#[test]
fn what_a_switchover_waits_for_is_said_and_in_the_end_given_up() {
    let (mut scene, mut request) = (Scene::new(), switchover());
    scene.state.in_sync.remove(&member(3));
    assert_eq!(scene.look(&mut request), None);
    is(
        &request,
        OperationPhase::Pending,
        "orders-0-2 is not in sync",
    );
    scene.age_s = 60;
    scene.look(&mut request);
    is(
        &request,
        OperationPhase::Failed,
        "orders-0-2 is not in sync: it does not have everything that was acknowledged yet; given up, 60 s after",
    );
    assert_eq!(
        request.status.as_ref().unwrap().conditions[0].reason,
        "DeadlineExceeded"
    );

    let (mut scene, mut request) = (Scene::new(), switchover());
    scene.age_s = 61;
    assert_eq!(
        scene.look(&mut request),
        None,
        "an old wish is not carried out by surprise"
    );
    is(
        &request,
        OperationPhase::Failed,
        "was not begun within 60 s",
    );
}

#[test]
fn without_a_name_the_fittest_takes_over() {
    let mut scene = Scene::new();
    let any = || request(json!({"type": "Switchover", "group": 0}));
    let chosen = |effect: Option<Effect>| match effect {
        Some(Effect {
            task: Task::HandOver { to, .. },
            ..
        }) => Some(to),
        _ => None,
    };
    assert_eq!(chosen(scene.look(&mut any())), Some(ReplicaId(2)));
    scene.observed.pods[1].status = None;
    assert_eq!(chosen(scene.look(&mut any())), Some(ReplicaId(3)));
    scene.observed.pods[2].metadata.deletion_timestamp = Some(
        k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH),
    );
    let mut request = any();
    assert_eq!(scene.look(&mut request), None);
    is(
        &request,
        OperationPhase::Pending,
        "pod orders-0-1 is not ready; pod orders-0-2 is being deleted",
    );
}

#[test]
fn what_cannot_be_done_ends_at_once_with_what_to_do() {
    let mut already = request(json!({"type": "Switchover", "group": 0, "to": "orders-0-0"}));
    Scene::new().look(&mut already);
    is(&already, OperationPhase::Succeeded, "nothing was done");

    let mut beyond = request(json!({"type": "Switchover", "group": 4}));
    Scene::new().look(&mut beyond);
    is(&beyond, OperationPhase::Failed, "its groups are 0 to 0");

    let mut other = request(json!({"type": "Switchover", "group": 0, "to": "orders-1-2"}));
    Scene::new().look(&mut other);
    is(
        &other,
        OperationPhase::Failed,
        "orders-1-2 is no broker of the group: its pods are orders-0-0, orders-0-1",
    );

    let (mut scene, mut fixed) = (Scene::new(), switchover());
    let record = json!({"metadata": {"name": "orders-0"}, "spec": {"cluster": "orders", "index": 0}, "status": {"format": 1, "groupUid": "u", "version": 1, "epoch": 1, "minInSync": 1, "nextReplicaId": 2, "rule": "Static"}});
    scene
        .observed
        .groups
        .insert("orders-0".into(), serde_json::from_value(record).unwrap());
    scene.look(&mut fixed);
    is(
        &fixed,
        OperationPhase::Failed,
        "the master of group 0 is fixed",
    );

    let (mut scene, mut nowhere) = (Scene::new(), switchover());
    let cluster = scene.cluster.take();
    scene.look(&mut nowhere);
    is(
        &nowhere,
        OperationPhase::Pending,
        "there is no RocketCluster orders",
    );
    scene.age_s = 30;
    scene.look(&mut nowhere);
    is(&nowhere, OperationPhase::Failed, "with its right name");

    let (mut scene, mut late) = (Scene::new(), switchover());
    scene.cluster = cluster;
    scene.ahead = Some("restart-1".into());
    assert_eq!(scene.look(&mut late), None);
    is(
        &late,
        OperationPhase::Pending,
        "restart-1 was asked for earlier",
    );
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
fn restart_counts_pods_by_uid_until_all_are_other_ones_and_in_sync() {
    let (mut scene, mut request) = (Scene::new(), request(json!({"type": "Restart"})));
    assert_eq!(scene.look(&mut request), None);
    is(&request, OperationPhase::Running, "0 of 3 restarted");
    let status = request.status.as_ref().unwrap();
    assert_eq!(status.progress.as_deref(), Some("0/3"));
    assert_eq!(status.restarting["orders-0-1"], "pod-1");
    let begun = status.clone();

    scene.observed.pods[1] = pod(1, "another");
    scene.state.in_sync.remove(&member(2));
    scene.look(&mut request);
    is(&request, OperationPhase::Running, "0 of 3");
    scene.state.in_sync.insert(member(2));
    scene.look(&mut request);
    is(&request, OperationPhase::Running, "1 of 3");
    scene.observed.pods[2] = pod(2, "another");
    scene.observed.pods[2].status = None;
    scene.look(&mut request);
    is(&request, OperationPhase::Running, "1 of 3");

    scene.observed.pods[2] = pod(2, "another");
    scene.handed(Course::Opened {
        epoch: Epoch(2),
        pause: Duration::from_millis(50),
    });
    scene.cluster.as_mut().unwrap().spec.paused = true;
    scene.look(&mut request);
    is(
        &request,
        OperationPhase::Running,
        "2 of 3 restarted; waiting: spec.paused",
    );
    let pause = request.status.as_ref().unwrap().write_pause.clone();
    assert_eq!(pause.as_deref(), Some("50ms"));
    // Another operator knows nothing of it, and the status still does.
    scene.standings.clear();
    scene.observed.pods[0] = pod(0, "another");
    scene.look(&mut request);
    is(
        &request,
        OperationPhase::Succeeded,
        "3 of 3 brokers were restarted",
    );
    let status = request.status.unwrap();
    assert_eq!(status.write_pause, pause);
    assert_eq!(
        (status.restarting, status.started_at),
        (begun.restarting, begun.started_at)
    );
}

#[test]
fn pods_that_the_cluster_shall_not_have_any_more_are_not_waited_for() {
    let (mut scene, mut request) = (
        Scene::new(),
        request(json!({"type": "Restart", "group": 0})),
    );
    scene.look(&mut request);
    scene.cluster.as_mut().unwrap().spec.groups.replicas = 2;
    scene.observed.pods = vec![pod(0, "another"), pod(1, "another")];
    scene.look(&mut request);
    is(&request, OperationPhase::Succeeded, "3 of 3");
}

#[test]
fn restart_that_would_stop_writes_is_refused_and_a_late_one_leaves_the_rest() {
    let (mut scene, mut short) = (Scene::new(), request(json!({"type": "Restart"})));
    scene.state.min_in_sync = 3;
    scene.look(&mut short);
    is(
        &short,
        OperationPhase::Failed,
        "lower replication.minInSync to 2 first",
    );

    let spec = json!({"type": "Restart", "deadlineSeconds": 600});
    let (mut scene, mut late) = (Scene::new(), request(spec));
    scene.look(&mut late);
    scene.observed.pods[1] = pod(1, "another");
    scene.age_s = 600;
    scene.look(&mut late);
    is(&late, OperationPhase::Failed, "1 of 3 restarted");

    let (mut scene, mut paused) = (Scene::new(), request(json!({"type": "Restart"})));
    scene.cluster.as_mut().unwrap().spec.paused = true;
    scene.age_s = 100_000;
    scene.look(&mut paused);
    is(&paused, OperationPhase::Pending, "spec.paused");
    assert!(paused.status.unwrap().restarting.is_empty());
}

fn force() -> RocketOperation {
    request(
        json!({"type": "ForceElect", "group": 0, "to": "orders-0-2", "epoch": 1, "requestedBy": "ada"}),
    )
}

#[test]
fn choice_of_a_person_says_who_and_what_is_given_up() {
    let (mut scene, mut request) = (Scene::new(), force());
    scene.look(&mut request);
    is(
        &request,
        OperationPhase::Failed,
        "a Switchover loses nothing",
    );

    let mut request = force();
    scene.state.in_sync = [1].map(member).into();
    scene.state.last_complete = [1].map(ReplicaId).into();
    scene.answers(&[report(2, RoleName::Idle, 1), report(3, RoleName::Idle, 1)]);
    let effect = scene.look(&mut request);
    is(
        &request,
        OperationPhase::Running,
        "electing orders-0-2 by the decision of ada; given up: orders-0-0",
    );
    let Some(Effect {
        task: Task::Force { to, at, reason },
        ..
    }) = effect
    else {
        panic!("{effect:?}");
    };
    assert_eq!((to, at), (ReplicaId(3), Epoch(1)));
    assert!(
        reason.starts_with("ada chose orders-0-2 by RocketOperation sw of 2027-"),
        "{reason}"
    );

    let lost = [ReplicaId(1)].into();
    scene.state =
        scene
            .state
            .elected_by_choice(Proposal(5), member(3), PhysicalOffset(77), &lost, &reason);
    scene.answers(&[report(3, RoleName::Activating, 2)]);
    scene.look(&mut request);
    is(&request, OperationPhase::Running, "has not opened");
    scene.answers(&[report(3, RoleName::Master, 2)]);
    scene.look(&mut request);
    is(
        &request,
        OperationPhase::Succeeded,
        "beyond physical offset 77 is lost",
    );
}

#[test]
fn choice_made_for_another_epoch_is_not_carried_out() {
    let (mut scene, mut request) = (Scene::new(), force());
    scene.state.epoch = Epoch(4);
    scene.answers(&[report(3, RoleName::Idle, 1)]);
    assert_eq!(scene.look(&mut request), None);
    is(
        &request,
        OperationPhase::Failed,
        "in epoch 4 and the request was made for epoch 1",
    );
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
