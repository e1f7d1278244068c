//! `ForceElect`, from its making to its end.

use rocket_replication::identity::Proposal;

use super::*;

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
