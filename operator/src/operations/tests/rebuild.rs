//! `Rebuild`, from its making to its end.

use rocket_replication::identity::Proposal;
use rocket_replication::messages::Holding;
use rocket_replication::{DiskId, GroupUid, Incarnation};

use super::*;

/// What the pod of an ordinal holds.
fn holding(ordinal: u32, role: RoleName) -> (String, Holding) {
    let id = ordinal + 1;
    let holding = Holding {
        disk_id: DiskId(u128::from(id)),
        group: Some((GroupUid(9), ReplicaId(id))),
        former: None,
        incarnation: Incarnation(u128::from(id)),
        role,
        max_epoch: Epoch(4),
        version: Version(30),
        last: None,
        log_end: PhysicalOffset(100),
        damaged: false,
    };
    (format!("orders-0-{ordinal}"), holding)
}

/// Three replicas with volumes, and a record without a state.
fn lost() -> Scene {
    let mut scene = Scene::new();
    for ordinal in 0..3 {
        let claim = json!({"metadata": {"name": format!("data-orders-0-{ordinal}")}});
        let claim = serde_json::from_value(claim).unwrap();
        scene.observed.claims.push(claim);
    }
    scene.told(&[]);
    scene
}

impl Scene {
    fn told(&mut self, roles: &[RoleName]) {
        let survey = (0..)
            .zip(roles)
            .map(|(ordinal, role)| holding(ordinal, *role));
        let standing = Standing {
            reports: Vec::new(),
            survey: survey.collect(),
            handed: None,
        };
        self.standings.insert(0, standing);
    }

    /// One look while the record is as `status` says.
    fn look_at(&mut self, request: &mut RocketOperation, status: &Value) -> Option<Effect> {
        let record = json!({"metadata": {"name": "orders-0", "uid": "00000000-0000-0000-0000-00000000000a"}, "spec": {"cluster": "orders", "index": 0}, "status": status});
        let record = serde_json::from_value(record).unwrap();
        self.observed.groups.insert("orders-0".into(), record);
        self.look(request)
    }
}

fn rebuild() -> RocketOperation {
    request(json!({"type": "Rebuild", "group": 0, "requestedBy": "ada"}))
}

#[test]
fn rebuild_waits_for_everybody_and_is_done_when_a_master_takes_writes() {
    let (mut scene, mut request) = (lost(), rebuild());
    assert_eq!(scene.look_at(&mut request, &Value::Null), None);
    let all = "waiting for orders-0-0, orders-0-1, orders-0-2 to say what it holds";
    is(&request, OperationPhase::Pending, all);
    scene.told(&[RoleName::Master, RoleName::InSync]);
    assert_eq!(scene.look_at(&mut request, &Value::Null), None);
    let one = "waiting for orders-0-2 to say what it holds";
    is(&request, OperationPhase::Pending, one);
    // It may take a night.
    scene.age_s = 30_000;
    scene.told(&[RoleName::Master, RoleName::InSync, RoleName::Booting]);
    let effect = scene.look_at(&mut request, &Value::Null).unwrap();
    let Task::Rebuild { volumes, reason } = effect.task else {
        panic!("{effect:?}");
    };
    assert_eq!(volumes.len(), 3);
    assert!(
        reason.starts_with("ada decided so by RocketOperation sw of "),
        "{reason}"
    );
    is(&request, OperationPhase::Running, "anew in epoch 5");
    // It is written, and nobody is elected yet.
    scene.state.master = None;
    scene.state.in_sync.clear();
    scene.state.activated = None;
    scene.state.epoch = Epoch(5);
    assert_eq!(scene.look(&mut request), None);
    is(
        &request,
        OperationPhase::Running,
        "was made anew in epoch 5",
    );
    scene.state = scene.state.elected_first(Proposal(9), member(2));
    scene.open();
    assert_eq!(scene.look(&mut request), None);
    is(
        &request,
        OperationPhase::Succeeded,
        "orders-0-1 is master in epoch 6 of 3 replicas",
    );
}

#[test]
fn record_that_is_usable_is_not_made_anew() {
    let (mut scene, mut request) = (Scene::new(), rebuild());
    assert_eq!(scene.look(&mut request), None);
    is(&request, OperationPhase::Failed, "is usable, in epoch 1");
}

#[test]
fn record_that_must_not_be_obeyed_is_taken_away_first() {
    let discard = Some(Effect {
        index: 0,
        task: Task::Discard,
    });
    // Of another object: restored from a backup.
    let (mut scene, mut request) = (lost(), rebuild());
    let status = serde_json::to_value(status_of(&scene.state).unwrap()).unwrap();
    assert_eq!(scene.look_at(&mut request, &status), discard);
    is(&request, OperationPhase::Running, "cannot be obeyed");
    // Older than what a replica has seen.
    let (mut scene, mut request) = (Scene::new(), rebuild());
    let mut later = report(2, RoleName::InSync, 1);
    later.version = Version(scene.state.version.0 + 1);
    scene.answers(&[later]);
    assert_eq!(scene.look(&mut request), discard);
    is(&request, OperationPhase::Running, "a replica has seen 2");
}

#[test]
fn fixed_master_has_no_record_that_could_be_lost() {
    let (mut scene, mut request) = (lost(), rebuild());
    let fixed = json!({"format": 1, "groupUid": "u", "version": 1, "epoch": 1, "minInSync": 1, "nextReplicaId": 2, "rule": "Static"});
    assert_eq!(scene.look_at(&mut request, &fixed), None);
    is(&request, OperationPhase::Failed, "is for groups that elect");
}

/// Its volume claim may be there, without the labels by which claims are found.
#[test]
fn pod_that_is_to_run_is_waited_for_although_its_volume_is_not_seen() {
    let (mut scene, mut request) = (lost(), rebuild());
    scene.observed.claims.truncate(2);
    scene.observed.pods.truncate(2);
    let set = json!({"metadata": {"name": "orders-0"}, "spec": {"replicas": 3, "selector": {}, "serviceName": "", "template": {}}});
    let set = serde_json::from_value(set).unwrap();
    scene.observed.stateful_sets.insert("orders-0".into(), set);
    scene.told(&[RoleName::Master, RoleName::InSync]);
    assert_eq!(scene.look_at(&mut request, &Value::Null), None);
    is(&request, OperationPhase::Pending, "orders-0-2 has a volume");
}
