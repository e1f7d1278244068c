//! `Restart`, from its making to its end.

use super::*;

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
fn restart_says_for_whom_it_waits_with_a_pod_that_takes_its_volume_with_it() {
    let (mut scene, mut request) = (Scene::new(), request(json!({"type": "Restart"})));
    let since = "2026-01-01T00:00:00Z";
    let claim = json!({"metadata": {"name": "data-orders-0-0", "deletionTimestamp": since}});
    let claim = serde_json::from_value(claim).unwrap();
    scene.observed.claims.push(claim);
    scene.look(&mut request);
    is(&request, OperationPhase::Running, "as soon as all replicas");
    scene.state.in_sync = [member(1)].into();
    scene.look(&mut request);
    is(
        &request,
        OperationPhase::Running,
        "waiting for another replica in sync that runs, since a volume goes with orders-0-0",
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
