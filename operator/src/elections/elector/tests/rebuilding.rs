//! A record that is lost: everybody is asked what it holds, and one write makes the record anew, or nothing does.

use rocket_coordinator::kubernetes::{state_of, status_of};

use super::*;
use crate::elections::judge::Round;

fn rebuild(pods: &[&str]) -> Task {
    Task::Rebuild {
        volumes: pods.iter().map(|pod| (*pod).to_owned()).collect(),
        reason: "ada decided so".into(),
    }
}

const ALL: [&str; 3] = ["orders-0-0", "orders-0-1", "orders-0-2"];

impl Stage {
    /// Kubernetes knows a pod of each replica.
    fn have_pods(&self) {
        self.wanted.send_modify(|wanted| {
            wanted.lives = ALL.map(|pod| (pod.to_owned(), Life::Runs)).into();
        });
    }

    fn record(&self) -> rocket_api::RocketBrokerGroup {
        serde_json::from_value(self.object.lock().clone()).unwrap()
    }
}

#[tokio::test]
async fn record_is_made_anew_when_all_with_a_volume_have_told() {
    let mut stage = Stage::new();
    stage.have_pods();
    stage.told[&3].lock().max_epoch = Epoch(6);
    stage.told[&3].lock().version = Version(41);
    let why = stage.ask(rebuild(&ALL)).await.unwrap_err();
    assert!(why.contains("waiting for orders-0-0 to say"), "{why}");
    assert_eq!(stage.record().status, None);
    // The first has no volume any more.
    assert_eq!(stage.ask(rebuild(&ALL[1..])).await, Ok(()));
    let state = state_of(&stage.record()).unwrap();
    assert_eq!(
        (state.epoch, state.version, state.next_replica_id),
        (Epoch(7), Version(42), ReplicaId(4))
    );
    assert_eq!(state.last_complete, [2, 3].map(ReplicaId).into());
    assert_eq!(state.master, None);
    let address = &state.replicas[&ReplicaId(3)].address;
    assert_eq!(
        address,
        "orders-0-2.orders-0-replicas.mq.svc.cluster.local:10912"
    );
    assert_eq!(state.in_force.unwrap().since, Epoch(7));
    let event = stage.events.lock().last().cloned().unwrap();
    assert!(event.starts_with("Warning "), "{event}");
    assert!(
        event.contains("anew in epoch 7 from what 2 replicas hold; ada decided so"),
        "{event}"
    );
    let why = stage.ask(rebuild(&ALL[1..])).await.unwrap_err();
    assert!(why.contains("there is a record by now"), "{why}");
    stage.end().await;
}

/// Brokers that run know the UID: under the same one they would take the next state for one of the former record's.
#[tokio::test]
async fn object_that_was_only_emptied_is_made_again_first() {
    let mut stage = Stage::new();
    stage.have_pods();
    stage.object.lock()["metadata"]["uid"] = json!("00000000-0000-0000-0000-000000000009");
    let why = stage.ask(rebuild(&ALL[1..])).await.unwrap_err();
    assert!(why.contains("under a UID of its own"), "{why}");
    assert_eq!(*stage.object.lock(), Value::Null);
    stage.end().await;
}

#[tokio::test]
async fn what_they_hold_is_asked_while_there_is_no_record() {
    let mut stage = Stage::new();
    stage.have_pods();
    stage.elector.survey().await;
    let seen = stage.elector.post.seen.lock().clone().unwrap();
    let pods: Vec<&String> = seen.survey.keys().collect();
    assert_eq!(pods, ["orders-0-1", "orders-0-2"]);
    stage.end().await;
}

#[tokio::test]
async fn record_is_taken_away_only_when_it_must_not_be_obeyed() {
    let mut stage = Stage::new();
    let mut state = group(3);
    state.group_uid = rocket_replication::GroupUid(10);
    let hold = |stage: &Stage, state: &State| {
        let status = serde_json::to_value(status_of(state).unwrap()).unwrap();
        stage.object.lock()["status"] = status;
    };
    let why = stage.ask(Task::Discard).await.unwrap_err();
    assert!(why.contains("no record of a group that elects"), "{why}");
    hold(&stage, &state);
    let why = stage.ask(Task::Discard).await.unwrap_err();
    assert!(why.contains("usable by now"), "{why}");
    // A replica knows a later one.
    let mut later = *stage.told[&2].lock();
    later.version = state.version.next();
    let round = Round {
        reports: vec![later],
        ..Round::default()
    };
    stage.elector.note(&state, &round).await;
    assert_eq!(stage.ask(Task::Discard).await, Ok(()));
    assert_eq!(*stage.object.lock(), Value::Null);
    stage.end().await;

    // Of another object.
    let mut stage = Stage::new();
    state.group_uid = rocket_replication::GroupUid(77);
    hold(&stage, &state);
    assert_eq!(stage.ask(Task::Discard).await, Ok(()));
    assert_eq!(*stage.object.lock(), Value::Null);
    stage.end().await;
}
