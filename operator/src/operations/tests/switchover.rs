//! `Switchover`, from its making to its end.

use rocket_replication::identity::Proposal;

use super::*;

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
