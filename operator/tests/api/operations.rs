//! Requests on a real API server: replicas are played, the record, the pods and the rights are real.

use std::sync::{Arc, Mutex};

use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use rocket_api::{OperationPhase, OperationStatus, RocketBrokerGroup, RocketOperation};
use rocket_replication::identity::Epoch;
use rocket_replication::messages::RoleName;
use serde_json::{Value, json};

use super::edits::watch_deletions;
use super::elections::until_told;
use super::replica::{
    Replica, change, open, serving, state, until_epoch, until_master, until_recorded,
};
use super::{Lab, from, in_electing_lab, in_lab};

pub(super) async fn ask(lab: &Lab, name: &str, spec: &Value) {
    let request = json!({"metadata": {"name": name}, "spec": spec});
    lab.api::<RocketOperation>()
        .create(&PostParams::default(), &from(with_kind(request)))
        .await
        .unwrap();
}

fn with_kind(mut request: Value) -> Value {
    request["apiVersion"] = json!("rocketcluster.io/v1alpha1");
    request["kind"] = json!("RocketOperation");
    request
}

/// Waits for the end of a request.
pub(super) async fn ended(lab: &Lab, name: &str) -> OperationStatus {
    let ended = lab.until(name, "at its end", RocketOperation::has_ended);
    ended.await.status.unwrap()
}

async fn until_asked_to_hand_over(lab: &Lab, group: &str) -> Option<i64> {
    let is_asked =
        |group: &RocketBrokerGroup| group.status.as_ref().is_some_and(|s| s.handover.is_some());
    let asked = lab.until(group, "asked to hand over", is_asked).await;
    asked.status.unwrap().handover
}

pub(super) async fn end(replicas: &[Replica]) {
    for replica in replicas {
        replica.kill().await;
    }
}

#[test]
fn switchover_moves_the_master_once_and_tells_how_long_writes_paused() {
    in_electing_lab(|lab| async move {
        let replicas = serving(&lab, "sw").await;
        let wish = json!({"cluster": "sw", "type": "Switchover", "group": 0, "to": "sw-0-2"});
        ask(&lab, "move", &wish).await;
        assert_eq!(until_asked_to_hand_over(&lab, "sw-0").await, Some(3));
        // Another one about the same group waits for the first.
        ask(&lab, "too", &wish).await;
        change(&lab, "sw-0", |state, proposal| {
            state.handed_over(proposal, replicas[2].member)
        })
        .await;
        replicas[0].is(RoleName::InSync, Epoch(2), true);
        replicas[1].is(RoleName::InSync, Epoch(2), true);
        replicas[2].is(RoleName::Activating, Epoch(2), false);
        until_master(&lab, "sw-0-2").await;
        open(&lab, "sw-0", &[]).await;
        replicas[2].is(RoleName::Master, Epoch(2), false);

        let status = ended(&lab, "move").await;
        assert_eq!(
            status.phase,
            OperationPhase::Succeeded,
            "{}",
            status.message
        );
        assert_eq!(status.target, "sw-0-0 -> sw-0-2");
        let pause = status.write_pause.unwrap_or_default();
        assert!(pause.ends_with("ms"), "{pause:?}");
        assert_eq!(status.conditions[0].type_, "Complete");
        let second = ended(&lab, "too").await;
        assert!(second.message.contains("nothing was done"), "{second:?}");
        assert_eq!(state(&lab, "sw-0").await.epoch, Epoch(2));
        let told = until_told(
            &lab,
            "sw-0-2 took over in epoch 2 by a planned handover; no sends were taken for",
        );
        assert!(told.await, "no event tells of the handover");
        assert!(until_told(&lab, "sw-0-0 -> sw-0-2: sw-0-2 is master in epoch 2").await);

        // What was asked for, and how it ended, stays as it was.
        let api = lab.api::<RocketOperation>();
        let other = Patch::Merge(json!({"spec": {"to": "sw-0-1"}}));
        let refused = api.patch("move", &PatchParams::default(), &other).await;
        let refused = refused.expect_err("a request is immutable").to_string();
        assert!(refused.contains("cannot be changed after"), "{refused}");
        let other = Patch::Merge(json!({"status": {"phase": "Failed"}}));
        let refused = api
            .patch_status("move", &PatchParams::default(), &other)
            .await;
        let refused = refused.expect_err("its end is immutable").to_string();
        assert!(refused.contains("has ended does not change"), "{refused}");
        end(&replicas).await;
    });
}

#[test]
fn switchover_that_is_deleted_while_it_runs_leaves_the_group_to_its_master() {
    in_electing_lab(|lab| async move {
        let replicas = serving(&lab, "gone").await;
        ask(
            &lab,
            "wish",
            &json!({"cluster": "gone", "type": "Switchover", "group": 0}),
        )
        .await;
        until_asked_to_hand_over(&lab, "gone-0").await;
        lab.api::<RocketOperation>()
            .delete("wish", &DeleteParams::default())
            .await
            .unwrap();
        lab.until_gone::<RocketOperation>("wish").await;
        // The master takes it back, as it does after a while.
        change(&lab, "gone-0", |state, proposal| {
            state.handover_asked(proposal, None)
        })
        .await;
        lab.wake("gone").await;
        let now = state(&lab, "gone-0").await;
        assert_eq!((now.epoch, now.handover), (Epoch(1), None));
        end(&replicas).await;
    });
}

#[test]
fn request_that_cannot_be_done_says_why_and_goes_after_its_time() {
    in_lab(|lab| async move {
        lab.play_kubelet();
        lab.create("fix", &json!({})).await;
        lab.until_ready("fix").await;
        let wish = json!({"cluster": "fix", "type": "Switchover", "group": 0});
        ask(&lab, "never", &wish).await;
        let status = ended(&lab, "never").await;
        assert_eq!(status.phase, OperationPhase::Failed);
        assert!(status.message.contains("is fixed"), "{}", status.message);
        assert_eq!(status.conditions[0].type_, "Failed");
        let mut brief = wish;
        brief["ttlSecondsAfterFinished"] = json!(0);
        ask(&lab, "brief", &brief).await;
        lab.until_gone::<RocketOperation>("brief").await;
        let kept = lab.api::<RocketOperation>().get_opt("never").await.unwrap();
        assert!(kept.is_some());
    });
}

#[test]
fn restart_replaces_every_broker_and_masters_come_last() {
    in_lab(|lab| async move {
        lab.play_kubelet();
        lab.create("re", &json!({"groups": {"replicas": 2, "count": 2}}))
            .await;
        lab.until_ready("re").await;
        let gone = Arc::new(Mutex::new(Vec::new()));
        let watched = watch_deletions(&lab, 4, Arc::clone(&gone)).await;
        ask(
            &lab,
            "one",
            &json!({"cluster": "re", "type": "Restart", "group": 1}),
        )
        .await;
        let status = ended(&lab, "one").await;
        assert_eq!(
            (status.phase, status.progress.as_deref()),
            (OperationPhase::Succeeded, Some("2/2")),
            "{}",
            status.message
        );
        assert_eq!(*gone.lock().unwrap(), ["re-1-1", "re-1-0"]);
        ask(&lab, "all", &json!({"cluster": "re", "type": "Restart"})).await;
        // An operator that begins in the middle of it, beside the first.
        lab.until("all", "begun", |request: &RocketOperation| {
            request
                .status
                .as_ref()
                .is_some_and(|s| s.progress.is_some())
        })
        .await;
        lab.another_operator().await;
        let status = ended(&lab, "all").await;
        assert_eq!(status.progress.as_deref(), Some("4/4"));
        watched.abort();
        let gone = gone.lock().unwrap().split_off(2);
        assert_eq!(gone, ["re-0-1", "re-0-0", "re-1-1", "re-1-0"]);
    });
}

#[test]
fn restart_of_a_group_that_elects_moves_its_master_before_its_turn() {
    in_electing_lab(|lab| async move {
        let replicas = serving(&lab, "again").await;
        let gone = Arc::new(Mutex::new(Vec::new()));
        let watched = watch_deletions(&lab, 3, Arc::clone(&gone)).await;
        ask(
            &lab,
            "all",
            &json!({"cluster": "again", "type": "Restart", "requestedBy": "night shift"}),
        )
        .await;
        until_asked_to_hand_over(&lab, "again-0").await;
        assert_eq!(*gone.lock().unwrap(), ["again-0-1", "again-0-2"]);
        change(&lab, "again-0", |state, proposal| {
            state.handed_over(proposal, replicas[1].member)
        })
        .await;
        replicas[0].is(RoleName::InSync, Epoch(2), true);
        open(&lab, "again-0", &[]).await;
        replicas[1].is(RoleName::Master, Epoch(2), false);
        let status = ended(&lab, "all").await;
        watched.abort();
        assert_eq!(
            (status.phase, status.progress.as_deref()),
            (OperationPhase::Succeeded, Some("3/3")),
            "{}",
            status.message
        );
        assert!(status.write_pause.is_some(), "{}", status.message);
        assert_eq!(
            *gone.lock().unwrap(),
            ["again-0-1", "again-0-2", "again-0-0"]
        );
        assert_eq!(state(&lab, "again-0").await.epoch, Epoch(2));
        end(&replicas).await;
    });
}

#[test]
fn choice_of_a_person_is_loud_and_stays_in_the_record() {
    in_electing_lab(|lab| async move {
        lab.play_kubelet();
        lab.create("force", &json!({"groups": {"replicas": 3}}))
            .await;
        until_recorded(&lab, "force-0").await;
        let mut replicas = Vec::new();
        for ordinal in 0..3 {
            replicas.push(Replica::start(&lab, "force-0", ordinal).await);
        }
        until_epoch(&lab, "force-0", 1).await;
        // The first alone has everything, and is gone for good.
        open(&lab, "force-0", &[]).await;
        replicas[0].kill().await;
        let wish = |name: &'static str, epoch: i64| json!({"cluster": "force", "type": "ForceElect", "group": 0, "to": name, "epoch": epoch, "requestedBy": "ada"});
        ask(&lab, "late", &wish("force-0-2", 9)).await;
        let status = ended(&lab, "late").await;
        assert!(status.message.contains("look again"), "{}", status.message);
        // Refused for as long as the operator takes the master for alive.
        let mut name = "choice".to_owned();
        loop {
            ask(&lab, &name, &wish("force-0-2", 1)).await;
            let begun = lab.until(&name, "begun or refused", |request: &RocketOperation| {
                let status = request.status.as_ref();
                status.is_some_and(|status| status.phase != OperationPhase::Pending)
            });
            let status = begun.await.status.unwrap();
            if !status.message.contains("a Switchover loses nothing") {
                break;
            }
            name.push('s');
        }
        let chosen = until_epoch(&lab, "force-0", 2).await;
        assert_eq!(chosen.master, Some(replicas[2].member));
        let [unclean] = &chosen.unclean[..] else {
            panic!("{:?}", chosen.unclean);
        };
        assert!(
            unclean.reason.starts_with(&format!(
                "ada chose force-0-2 by RocketOperation {name} of "
            )),
            "{}",
            unclean.reason
        );
        assert!(chosen.replicas[&replicas[0].member.replica_id].lost);
        open(&lab, "force-0", &[]).await;
        replicas[2].is(RoleName::Master, Epoch(2), false);
        let status = ended(&lab, &name).await;
        assert_eq!(
            status.phase,
            OperationPhase::Succeeded,
            "{}",
            status.message
        );
        assert!(
            until_told(
                &lab,
                "acknowledged messages beyond physical offset 0 may be lost"
            )
            .await
        );
        until_master(&lab, "force-0-2").await;
        end(&replicas[1..]).await;
    });
}
