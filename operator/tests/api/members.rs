//! The record of a group and its replicas, on a real API server: one that got lost is made anew, and replicas that were scaled away are
//! forgotten.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use rocket_api::{
    ConditionType, OperationPhase, Reason, RocketBrokerGroup, RocketCluster, RocketOperation,
};
use rocket_replication::ReplicaId;
use rocket_replication::identity::Epoch;
use rocket_replication::messages::RoleName;
use rocket_replication::mutations::Mutations;
use serde_json::json;

use super::elections::until_told;
use super::operations::{ask, end, ended};
use super::replica::{change, open, serving, state, until_epoch, until_master};
use super::{Lab, in_electing_lab, message};

/// The condition Degraded says that the record cannot be used.
async fn until_unusable(lab: &Lab, name: &str) {
    let unusable = |cluster: &RocketCluster| {
        let status = cluster.status.as_ref();
        let found = status.and_then(|status| status.condition(ConditionType::Degraded));
        found.is_some_and(|condition| condition.reason == Reason::RecordUnusable)
    };
    let cluster = lab.until(name, "without a usable record", unusable).await;
    let said = message(&cluster, ConditionType::Degraded);
    assert!(said.contains("type Rebuild"), "{said}");
}

#[test]
fn record_that_was_deleted_is_made_anew_from_what_all_replicas_hold() {
    in_electing_lab(|lab| async move {
        let mut replicas = serving(&lab, "lost").await;
        let wish = json!({"cluster": "lost", "type": "Rebuild", "group": 0, "requestedBy": "ada"});
        ask(&lab, "needless", &wish).await;
        let refused = ended(&lab, "needless").await;
        assert!(refused.message.contains("is usable"), "{refused:?}");

        let former = state(&lab, "lost-0").await;
        lab.api::<RocketBrokerGroup>()
            .delete("lost-0", &DeleteParams::default())
            .await
            .unwrap();
        until_unusable(&lab, "lost").await;
        // Two of them have told, and their volumes and the third one's are there.
        for replica in &replicas[..2] {
            replica.knows(&former);
        }
        let silent = lab.ports.lock().remove("lost-0-2").unwrap();
        ask(&lab, "anew", &wish).await;
        let waits = lab.until("anew", "waiting", |request: &RocketOperation| {
            let status = request.status.as_ref();
            status.is_some_and(|status| status.message.contains("waiting for lost-0-2 to say"))
        });
        assert_eq!(waits.await.status.unwrap().phase, OperationPhase::Pending);
        replicas[2].knows(&former);
        lab.ports.lock().insert("lost-0-2".to_owned(), silent);
        lab.until("lost-0", "made anew", |group: &RocketBrokerGroup| {
            group.status.is_some()
        })
        .await;
        let anew = state(&lab, "lost-0").await;
        assert_ne!(anew.group_uid, former.group_uid);
        assert_eq!(
            (anew.epoch, anew.version),
            (Epoch(2), former.version.next())
        );
        assert_eq!(anew.last_complete.len(), 3);
        // Real replicas adopt it by themselves.
        for replica in &mut replicas {
            replica.adopt(&lab, "lost-0").await;
            replica.is(RoleName::Idle, Epoch(2), false);
        }
        let elected = until_epoch(&lab, "lost-0", 3).await;
        assert_eq!(elected.master, Some(replicas[0].member));
        assert_eq!(elected.unclean.len(), 1, "§8.14 tells for ever");
        replicas[0].is(RoleName::Master, Epoch(3), false);
        until_master(&lab, "lost-0-0").await;
        open(&lab, "lost-0", &[&replicas[1], &replicas[2]]).await;
        let status = ended(&lab, "anew").await;
        assert_eq!(status.phase, OperationPhase::Succeeded, "{status:?}");
        let told = until_told(
            &lab,
            "its record was made anew in epoch 2 from what 3 replicas hold",
        );
        assert!(told.await, "no event tells of it");
        lab.until_ready("lost").await;
        end(&replicas).await;
    });
}

/// The API server lets nobody write an older state over a newer one: whoever restores a status has emptied it before, or made the
/// object again.
#[test]
fn record_that_was_emptied_stays_one_of_a_group_that_elects() {
    in_electing_lab(|lab| async move {
        let replicas = serving(&lab, "empty").await;
        let api = lab.api::<RocketBrokerGroup>();
        let mut old = api.get("empty-0").await.unwrap();
        old.status.as_mut().unwrap().version -= 1;
        old.metadata.managed_fields = None;
        let params = PostParams::default();
        let written = api.replace_status("empty-0", &params, &old);
        let refused = written
            .await
            .expect_err("a version never falls")
            .to_string();
        assert!(refused.contains("version"), "{refused}");
        let emptied = Patch::Merge(json!({"status": null}));
        api.patch_status("empty-0", &PatchParams::default(), &emptied)
            .await
            .unwrap();
        until_unusable(&lab, "empty").await;
        lab.wake("empty").await;
        let now = api.get("empty-0").await.unwrap();
        assert_eq!(now.status, None, "nothing is begun anew, elected or fixed");
        end(&replicas).await;
    });
}

#[test]
fn replica_that_was_scaled_away_is_forgotten() {
    in_electing_lab(|lab| async move {
        let replicas = serving(&lab, "fewer").await;
        lab.edit("fewer", &json!({"groups": {"replicas": 2}})).await;
        let third = replicas[2].member;
        let cordoned = lab.until("fewer-0", "cordoned", |group: &RocketBrokerGroup| {
            let replicas = group.status.as_ref().map(|status| &status.replicas);
            replicas.is_some_and(|replicas| replicas["3"].cordoned && !replicas["2"].cordoned)
        });
        cordoned.await;
        lab.until_gone::<Pod>("fewer-0-2").await;
        lab.wake("fewer").await;
        let kept = state(&lab, "fewer-0").await;
        assert!(kept.replicas.contains_key(&ReplicaId(3)), "it is in S");
        replicas[2].kill().await;
        change(&lab, "fewer-0", |state, proposal| {
            state.shrunk(proposal, third, Mutations::default())
        })
        .await;
        let is_gone = |group: &RocketBrokerGroup| {
            let replicas = group.status.as_ref().map(|status| &status.replicas);
            replicas.is_some_and(|replicas| !replicas.contains_key("3"))
        };
        lab.until("fewer-0", "without the third", is_gone).await;
        let now = state(&lab, "fewer-0").await;
        assert_eq!(now.next_replica_id, ReplicaId(4));
        assert!(until_told(&lab, "fewer-0-2 was scaled away").await);
        lab.until_ready("fewer").await;
        end(&replicas[..2]).await;
    });
}
